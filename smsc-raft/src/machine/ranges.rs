//! A set of numbers that mostly follow on each other.

use std::collections::BTreeMap;

/// A set of numbers, kept as ranges that do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// The last number of each by its first.
    by_start: BTreeMap<u64, u64>,
}

impl Ranges {
    /// The end of the range that holds `number`, itself included; `None` if it is not in the set.
    pub fn end_of(&self, number: u64) -> Option<u64> {
        self.range_of(number).map(|(_, end)| end)
    }

    pub fn insert(&mut self, number: u64) {
        if self.range_of(number).is_some() {
            return;
        }
        let end = match number.checked_add(1).and_then(|next| self.by_start.remove(&next)) {
            Some(end) => end,
            None => number,
        };
        let before = number.checked_sub(1).and_then(|last| self.range_of(last));
        self.by_start.insert(before.map_or(number, |(start, _)| start), end);
    }

    pub fn remove(&mut self, number: u64) {
        let Some((start, end)) = self.range_of(number) else { return };
        self.by_start.remove(&start);
        if start < number {
            self.by_start.insert(start, number - 1);
        }
        if number < end {
            self.by_start.insert(number + 1, end);
        }
    }

    fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        let (start, end) = self.by_start.range(..=number).next_back()?;
        (number <= *end).then_some((*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_does(steps in proptest::collection::vec((any::<bool>(), 0..24u64), 0..200)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (insert, number) in steps {
                if insert {
                    ranges.insert(number);
                    set.insert(number);
                } else {
                    ranges.remove(number);
                    set.remove(&number);
                }
                for number in 0..26 {
                    let end = set.contains(&number).then(|| (number..).find(|at| !set.contains(&(at + 1))).unwrap());
                    prop_assert_eq!(ranges.end_of(number), end);
                }
            }
        }
    }

    #[test]
    fn the_largest_number_has_no_next() {
        let mut ranges = Ranges::default();
        ranges.insert(u64::MAX);
        ranges.insert(u64::MAX - 1);
        assert_eq!(ranges.end_of(u64::MAX - 1), Some(u64::MAX));
        ranges.remove(u64::MAX);
        assert_eq!(ranges.end_of(u64::MAX), None);
    }
}
