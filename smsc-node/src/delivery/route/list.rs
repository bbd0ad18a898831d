//! Number lists: ported numbers, black and white lists. A million numbers take 8 MB, and a lookup 20 steps.

use smsc_raft::model::NumberChunk;

/// Numbers in one chunk of an import; a chunk is one command of the log.
pub const CHUNK_NUMBERS: usize = 20_000;
/// The longest number that a list takes. Digits.
pub const DIGITS_MAX: usize = 18;

/// The numbers of a list, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NumberSet {
    packed: Vec<u64>,
}

/// A chunk whose numbers cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunk {index} of number list {list:?} cannot be read: import the list again")]
pub struct BadChunk {
    list: String,
    index: u32,
}

impl NumberSet {
    /// The set of these numbers, in whatever order.
    ///
    /// # Errors
    /// The first one that is not 1 to [`DIGITS_MAX`] digits.
    pub fn of<'a>(numbers: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let packed = numbers.into_iter().map(|number| pack(number).ok_or_else(|| number.to_owned()));
        let mut packed = packed.collect::<Result<Vec<_>, _>>()?;
        packed.sort_unstable();
        packed.dedup();
        Ok(Self { packed })
    }

    /// The set that an import replicated.
    ///
    /// # Errors
    /// [`BadChunk`].
    pub fn of_chunks<'a>(chunks: impl IntoIterator<Item = &'a NumberChunk>) -> Result<Self, BadChunk> {
        let mut packed = Vec::new();
        for chunk in chunks {
            let before = packed.len();
            let read = read_chunk(&chunk.numbers, &mut packed);
            if read.is_none() || packed.len() - before != chunk.count as usize {
                return Err(BadChunk { list: chunk.list.clone(), index: chunk.index });
            }
        }
        Ok(Self { packed })
    }

    /// The chunks that replicate the set; at least one, so that an empty list takes effect too.
    pub fn chunks(&self, list: &str, generation: u64) -> Vec<NumberChunk> {
        let mut parts: Vec<&[u64]> = self.packed.chunks(CHUNK_NUMBERS).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        let chunk = |(index, numbers): (usize, &&[u64])| NumberChunk {
            list: list.to_owned(),
            generation,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            numbers: write_chunk(numbers).into(),
            count: u32::try_from(numbers.len()).unwrap_or(u32::MAX),
            last: index == last,
            total: if index == last { self.packed.len() as u64 } else { 0 },
        };
        parts.iter().enumerate().map(chunk).collect()
    }

    /// Whether a number is on the list.
    pub fn contains(&self, number: &str) -> bool {
        pack(number).is_some_and(|packed| self.packed.binary_search(&packed).is_ok())
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }
}

/// The digits behind a leading 1, so that leading zeros count.
fn pack(number: &str) -> Option<u64> {
    if number.is_empty() || number.len() > DIGITS_MAX {
        return None;
    }
    number.bytes().try_fold(1u64, |packed, digit| digit.is_ascii_digit().then(|| packed * 10 + u64::from(digit - b'0')))
}

fn write_chunk(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(numbers.len() * 3);
    let mut before = 0;
    for number in numbers {
        let mut rest = number - before;
        before = *number;
        while rest >= 0x80 {
            out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out
}

fn read_chunk(bytes: &[u8], packed: &mut Vec<u64>) -> Option<()> {
    let (mut before, mut value, mut shift) = (0u64, 0u64, 0u32);
    for byte in bytes {
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            before = before.checked_add(value)?;
            packed.push(before);
            (value, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_survives_its_way_through_the_log(numbers in prop::collection::hash_set("[0-9]{1,18}", 0..100)) {
            let set = NumberSet::of(numbers.iter().map(String::as_str)).unwrap();
            prop_assert_eq!(&NumberSet::of_chunks(&set.chunks("x", 1)).unwrap(), &set);
            prop_assert!(numbers.iter().all(|number| set.contains(number)));
            prop_assert_eq!(set.len(), numbers.len());
        }

        #[test]
        fn no_chunk_panics(numbers in prop::collection::vec(any::<u8>(), 0..60), count: u32) {
            let _ = NumberSet::of_chunks(&[NumberChunk { numbers: numbers.into(), count, ..Default::default() }]);
        }
    }

    #[test]
    fn zeros_in_front_count_and_other_texts_are_refused() {
        let set = NumberSet::of(["0049", "49"]).unwrap();
        assert!(set.contains("49") && set.contains("0049") && !set.contains("049") && !set.contains("4 9"));
        assert_eq!(NumberSet::of(["49", "4a"]), Err("4a".to_owned()));
        assert!(NumberSet::of(["1234567890123456789"]).is_err());
    }

    #[test]
    fn a_large_list_comes_in_chunks_and_an_empty_one_in_one() {
        let numbers: Vec<String> = (0..45_000).map(|number| format!("49{number}")).collect();
        let chunks = NumberSet::of(numbers.iter().map(String::as_str)).unwrap().chunks("x", 7);
        let shape: Vec<_> = chunks.iter().map(|chunk| (chunk.index, chunk.count, chunk.last, chunk.total)).collect();
        assert_eq!(shape, [(0, 20_000, false, 0), (1, 20_000, false, 0), (2, 5_000, true, 45_000)]);
        assert_eq!(NumberSet::default().chunks("x", 1).len(), 1);
    }
}
