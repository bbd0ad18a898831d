//! Messages of several segments: how many a text takes, cutting it up, and putting it together again.
//!
//! A short message carries 140 octets of user data: 160 septets, 140 octets or 70 UCS-2 units. A concatenation header
//! takes 6 of them (7 with a 16-bit reference), which leaves 153, 134 or 67 (152, 133 or 66) for the text.

use std::ops::Range;

use super::alphabet::{Alphabet, TextError};
use super::gsm7;
use super::udh::{Concatenation, Element, UdhError, UserDataHeader};

/// Segments that a message may have: their number travels in one octet.
pub const SEGMENTS_MAX: usize = 255;

/// Octets of user data that a short message carries (3GPP TS 23.040 section 9.2.3.24).
const USER_DATA_OCTETS: usize = 140;

/// What the segments of one message have in common, and the size of the field that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// 8 bits: a header of 6 octets, understood by every handset.
    Eight(u8),
    /// 16 bits: a header of 7 octets; fewer messages between the same numbers can be mixed up.
    Sixteen(u16),
}

impl Reference {
    /// Octets of the header, its length octet included.
    #[must_use]
    pub const fn header_octets(self) -> usize {
        match self {
            Reference::Eight(_) => 6,
            Reference::Sixteen(_) => 7,
        }
    }

    /// The reference itself.
    pub(super) const fn number(self) -> u16 {
        match self {
            Reference::Eight(reference) => reference as u16,
            Reference::Sixteen(reference) => reference,
        }
    }

    /// The element of segment `sequence` of `total`.
    pub(super) const fn element(self, total: u8, sequence: u8) -> Element {
        match self {
            Reference::Eight(reference) => Element::Concatenation8 { reference, total, sequence },
            Reference::Sixteen(reference) => Element::Concatenation16 { reference, total, sequence },
        }
    }

    /// The header of segment `sequence` of `total`: its length octet and the one element.
    fn header(self, total: u8, sequence: u8) -> Vec<u8> {
        let header = UserDataHeader { elements: vec![self.element(total, sequence)] };
        header.to_bytes().expect("one element of at most 6 octets fits a header")
    }
}

/// One segment of a message, ready for a `short_message` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Segment {
    /// Whether there is a header, which `esm_class` must announce (SMPP v3.4 section 5.2.12, bit 6).
    #[must_use]
    pub fn has_header(&self) -> bool {
        !self.header.is_empty()
    }

    /// The concatenation header, its length octet included; empty for a message of one segment.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The encoded text of this segment.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Header and text together: the octets of `short_message`.
    #[must_use]
    pub fn to_user_data(&self) -> Vec<u8> {
        [self.header.as_slice(), self.body.as_slice()].concat()
    }
}

/// How many segments `text` takes, with concatenation references of 8 bits. An empty text takes one.
///
/// # Errors
/// [`SplitError::Text`] if the alphabet cannot write the text, [`SplitError::TooManySegments`] past 255.
pub fn segment_count(text: &str, alphabet: Alphabet) -> Result<usize, SplitError> {
    let octets = alphabet.encode(text)?;
    Ok(cut(&octets, alphabet, Reference::Eight(0).header_octets())?.len())
}

/// Writes `text` in an alphabet and cuts it into as few segments as possible.
///
/// # Errors
/// [`SplitError::Text`] if the alphabet cannot write the text, [`SplitError::TooManySegments`] past 255.
pub fn split(text: &str, alphabet: Alphabet, reference: Reference) -> Result<Vec<Segment>, SplitError> {
    split_encoded(&alphabet.encode(text)?, alphabet, reference)
}

/// Cuts a text that is already encoded (unpacked, for the GSM alphabet) into as few segments as possible.
///
/// An escape stays with the septet after it, and a surrogate pair stays whole. What fits one segment gets no header.
/// ASCII and Latin-1 count as 8-bit data.
///
/// # Errors
/// [`SplitError::TooManySegments`] if more than 255 would be needed; send the text as `message_payload` or as several
/// messages.
pub fn split_encoded(octets: &[u8], alphabet: Alphabet, reference: Reference) -> Result<Vec<Segment>, SplitError> {
    let cuts = cut(octets, alphabet, reference.header_octets())?;
    // At most SEGMENTS_MAX, as `cut` has seen to.
    let total = cuts.len() as u8;
    Ok((1..=total)
        .zip(cuts)
        .map(|(sequence, range)| Segment {
            header: if total == 1 { Vec::new() } else { reference.header(total, sequence) },
            body: octets[range].to_vec(),
        })
        .collect())
}

/// A segment as it came in, to be joined with the others of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which part of which message.
    pub concatenation: Concatenation,
    /// Its encoded text.
    pub body: Vec<u8>,
}

impl Part {
    /// Takes a `short_message` that starts with a user data header apart.
    ///
    /// # Errors
    /// [`JoinError::Header`] if the header cannot be read, [`JoinError::NotAPart`] if it numbers no part.
    pub fn from_user_data(user_data: &[u8]) -> Result<Self, JoinError> {
        let (header, body) = UserDataHeader::parse(user_data)?;
        Ok(Part { concatenation: header.concatenation().ok_or(JoinError::NotAPart)?, body: body.to_vec() })
    }
}

/// Puts the encoded text of a message together from its parts, in any order; a part that came twice counts once.
///
/// The result is octets, because a sender may have cut a character in two: decode it afterwards.
///
/// # Errors
/// [`JoinError`] says which part is missing or does not belong.
pub fn join(parts: &[Part]) -> Result<Vec<u8>, JoinError> {
    let Some(first) = parts.first().map(|part| part.concatenation) else {
        return Err(JoinError::NoParts);
    };
    let mut bodies: Vec<Option<&[u8]>> = vec![None; usize::from(first.total)];
    for part in parts {
        let found = part.concatenation;
        if (found.reference, found.total) != (first.reference, first.total) {
            return Err(JoinError::Foreign { first, found });
        }
        let slot = usize::from(found.sequence)
            .checked_sub(1)
            .and_then(|index| bodies.get_mut(index))
            .ok_or(JoinError::NotAPart)?;
        if slot.is_some_and(|body| body != part.body) {
            return Err(JoinError::Conflict { part: found });
        }
        *slot = Some(&part.body);
    }
    let mut octets = Vec::new();
    for (sequence, body) in (1..=first.total).zip(bodies) {
        octets.extend(body.ok_or(JoinError::Missing { sequence, total: first.total })?);
    }
    Ok(octets)
}

/// Why a text could not be cut into segments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The alphabet cannot write the text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The text is too long for one message.
    #[error("the text takes more than 255 segments; send it as several messages")]
    TooManySegments,
}

/// Why parts could not be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The header of a part cannot be read.
    #[error(transparent)]
    Header(#[from] UdhError),
    /// A message does not say which part it is, or numbers itself outside of its total.
    #[error("the message carries no valid concatenation element, it is not a part of a longer one")]
    NotAPart,
    /// Together they are longer than a message may be.
    #[error("the parts together are longer than a message may be")]
    TooLong,
    /// There is nothing to join.
    #[error("no parts were given")]
    NoParts,
    /// A part belongs to another message than the first one given.
    #[error("{found} does not belong to the message of {first}")]
    Foreign {
        /// The first part given.
        first: Concatenation,
        /// The part that does not match it.
        found: Concatenation,
    },
    /// The same part came twice with different text.
    #[error("{part} came twice with different text")]
    Conflict {
        /// The part.
        part: Concatenation,
    },
    /// A part has not come.
    #[error("part {sequence} of {total} is missing")]
    Missing {
        /// The first part missing.
        sequence: u8,
        /// Parts of the message.
        total: u8,
    },
}

/// Where to cut: ranges that cover `octets` in order, none of them ending within a character.
pub(super) fn cut(octets: &[u8], alphabet: Alphabet, header_octets: usize) -> Result<Vec<Range<usize>>, SplitError> {
    if octets.len() <= capacity(alphabet, 0) {
        return Ok(std::iter::once(0..octets.len()).collect());
    }
    let capacity = capacity(alphabet, header_octets);
    let mut cuts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < octets.len() {
        let next = at + character_octets(&octets[at..], alphabet);
        if next - start > capacity {
            if cuts.len() == SEGMENTS_MAX - 1 {
                return Err(SplitError::TooManySegments);
            }
            cuts.push(start..at);
            start = at;
        }
        at = next;
    }
    cuts.push(start..octets.len());
    Ok(cuts)
}

/// Octets of encoded, unpacked text that fit a segment behind a header.
pub(super) fn capacity(alphabet: Alphabet, header_octets: usize) -> usize {
    let room = USER_DATA_OCTETS.saturating_sub(header_octets);
    match alphabet {
        Alphabet::Gsm7 if room == 0 => 0,
        // Packed on its way, hence more septets than octets.
        Alphabet::Gsm7 => gsm7::septet_capacity(room, gsm7::FillBits::after_header(header_octets)),
        Alphabet::Ascii | Alphabet::Latin1 => room,
        Alphabet::Ucs2 => room - room % 2,
    }
}

/// Octets of the character at the start of `octets`, at most all that is there.
fn character_octets(octets: &[u8], alphabet: Alphabet) -> usize {
    let octets_of_character = match (alphabet, octets) {
        (Alphabet::Gsm7, [gsm7::ESCAPE, ..]) => 2,
        (Alphabet::Ucs2, [0xd8..=0xdb, _, 0xdc..=0xdf, _, ..]) => 4,
        (Alphabet::Ucs2, _) => 2,
        _ => 1,
    };
    octets_of_character.min(octets.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFERENCE: Reference = Reference::Eight(0x2a);

    fn lengths(text: &str, alphabet: Alphabet, reference: Reference) -> Vec<usize> {
        let segments = split(text, alphabet, reference).unwrap();
        segments.iter().map(|s| s.body().len()).collect()
    }

    #[test]
    fn the_known_limits_hold() {
        let count = |text: String, alphabet| segment_count(&text, alphabet).unwrap();
        assert_eq!(count(String::new(), Alphabet::Gsm7), 1);
        for (alphabet, single, each) in [
            (Alphabet::Gsm7, 160, 153),
            (Alphabet::Ascii, 140, 134),
            (Alphabet::Latin1, 140, 134),
            (Alphabet::Ucs2, 70, 67),
        ] {
            assert_eq!(count("a".repeat(single), alphabet), 1);
            assert_eq!(count("a".repeat(single + 1), alphabet), 2);
            assert_eq!(count("a".repeat(2 * each), alphabet), 2);
            assert_eq!(count("a".repeat(2 * each + 1), alphabet), 3);
            assert_eq!(count("a".repeat(255 * each), alphabet), 255);
            assert_eq!(segment_count(&"a".repeat(255 * each + 1), alphabet), Err(SplitError::TooManySegments));
        }
        let sixteen = Reference::Sixteen(1);
        assert_eq!(lengths(&"a".repeat(161), Alphabet::Gsm7, sixteen), [152, 9]);
        assert_eq!(lengths(&"a".repeat(141), Alphabet::Latin1, sixteen), [133, 8]);
        assert_eq!(lengths(&"a".repeat(71), Alphabet::Ucs2, sixteen), [132, 10]);
    }

    #[test]
    fn characters_of_two_units_are_not_cut() {
        let euro_at_the_cut = format!("{}€{}", "a".repeat(152), "b".repeat(20));
        assert_eq!(lengths(&euro_at_the_cut, Alphabet::Gsm7, REFERENCE), [152, 22]);
        let smile_at_the_cut = format!("{}😀{}", "a".repeat(66), "b".repeat(20));
        assert_eq!(lengths(&smile_at_the_cut, Alphabet::Ucs2, REFERENCE), [132, 44]);
        // 80 characters of two septets fit one segment exactly.
        assert_eq!(segment_count(&"€".repeat(80), Alphabet::Gsm7), Ok(1));
        assert_eq!(segment_count(&"€".repeat(81), Alphabet::Gsm7), Ok(2));
        // An escape without a successor is cut off whole as well.
        let lone = split_encoded(&[[b'a'; 160].as_slice(), &[gsm7::ESCAPE]].concat(), Alphabet::Gsm7, REFERENCE);
        assert_eq!(lone.unwrap()[1].body().len(), 8);
    }

    #[test]
    fn segments_carry_their_number() {
        let single = split("hello", Alphabet::Gsm7, REFERENCE).unwrap();
        assert_eq!(single.len(), 1);
        assert!(!single[0].has_header());
        assert_eq!(single[0].to_user_data(), b"hello");

        let segments = split(&"x".repeat(200), Alphabet::Gsm7, REFERENCE).unwrap();
        assert_eq!(segments[0].header(), [5, 0, 3, 0x2a, 2, 1]);
        assert_eq!(segments[1].header(), [5, 0, 3, 0x2a, 2, 2]);
        let wide = split(&"x".repeat(200), Alphabet::Gsm7, Reference::Sixteen(0x1234)).unwrap();
        assert_eq!(wide[1].header(), [6, 8, 4, 0x12, 0x34, 2, 2]);
        assert!(wide[1].has_header());
        assert!(split("日本", Alphabet::Latin1, REFERENCE).unwrap_err().to_string().contains('日'));
    }

    fn part(reference: u16, total: u8, sequence: u8, body: &str) -> Part {
        Part { concatenation: Concatenation { reference, total, sequence }, body: body.into() }
    }

    #[test]
    fn joining_refuses_what_does_not_belong() {
        let (one, two) = (part(1, 2, 1, "he"), part(1, 2, 2, "llo"));
        let joined = |parts: &[&Part]| {
            let parts: Vec<Part> = parts.iter().map(|&p| p.clone()).collect();
            join(&parts).map_err(|e| e.to_string())
        };
        assert_eq!(joined(&[&two, &one, &two]), Ok(b"hello".to_vec()));
        assert_eq!(joined(&[]), Err("no parts were given".into()));
        assert_eq!(joined(&[&two]), Err("part 1 of 2 is missing".into()));
        assert_eq!(
            joined(&[&one, &part(2, 2, 2, "x")]),
            Err("part 2 of 2, reference 2 does not belong to the message of part 1 of 2, reference 1".into())
        );
        assert_eq!(
            joined(&[&one, &part(1, 2, 1, "x")]),
            Err("part 1 of 2, reference 1 came twice with different text".into())
        );
        assert_eq!(join(&[part(1, 2, 3, "")]), Err(JoinError::NotAPart));
        assert_eq!(join(&[part(1, 2, 0, "")]), Err(JoinError::NotAPart));
        assert_eq!(Part::from_user_data(&[0]), Err(JoinError::NotAPart));
        assert_eq!(Part::from_user_data(&[]), Err(JoinError::Header(UdhError::Empty)));
    }

    proptest! {
        #[test]
        fn split_texts_join_again(
            text in prop_oneof!["[a-z€\\[é]{0,600}", "[a-zç]{0,600}", "[a-z😀я]{0,600}"], wide in any::<bool>(), rotate in any::<usize>(),
        ) {
            let reference = if wide { Reference::Sixteen(999) } else { REFERENCE };
            for alphabet in [Alphabet::Gsm7, Alphabet::Latin1, Alphabet::Ucs2] {
                let Ok(encoded) = alphabet.encode(&text) else { continue };
                let segments = split(&text, alphabet, reference).unwrap();
                // Each can be read by itself, so no character was cut, and fits what a network carries.
                let mut read = String::new();
                for segment in &segments {
                    read += &alphabet.decode(segment.body()).unwrap();
                    let octets = match alphabet {
                        Alphabet::Gsm7 => gsm7::pack_user_data(segment.header(), segment.body()).unwrap().1,
                        _ => segment.to_user_data(),
                    };
                    prop_assert!(octets.len() <= USER_DATA_OCTETS);
                }
                prop_assert_eq!(&read, &text);
                if segments.len() == 1 {
                    prop_assert_eq!(segments[0].body(), encoded);
                    continue;
                }
                let mut parts: Vec<Part> = segments
                    .iter()
                    .map(|s| Part::from_user_data(&s.to_user_data()).unwrap())
                    .collect();
                let rotate = rotate % parts.len();
                parts.rotate_left(rotate);
                prop_assert_eq!(join(&parts), Ok(encoded));
            }
        }
    }
}
