//! Prefixes and what they lead to.

use foldhash::HashMap;

/// Prefixes and what they lead to; finds those that begin a number, the longest first.
#[derive(Debug)]
pub(super) struct PrefixMap<T> {
    by_prefix: HashMap<String, T>,
    /// The lengths that occur, the longest first.
    lengths: Vec<usize>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self { by_prefix: HashMap::default(), lengths: Vec::new() }
    }
}

impl<T> PrefixMap<T> {
    pub fn insert(&mut self, prefix: &str, value: T) {
        self.note_length(prefix.len());
        self.by_prefix.insert(prefix.to_owned(), value);
    }

    pub fn entry(&mut self, prefix: &str) -> &mut T
    where
        T: Default,
    {
        self.note_length(prefix.len());
        self.by_prefix.entry(prefix.to_owned()).or_default()
    }

    fn note_length(&mut self, len: usize) {
        if let Err(at) = self.lengths.binary_search_by(|length| len.cmp(length)) {
            self.lengths.insert(at, len);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_prefix.values_mut()
    }

    /// All that begin `number`, the longest first.
    pub fn matches<'a, 'n>(&'a self, number: &'n str) -> impl Iterator<Item = (&'n str, &'a T)> + use<'a, 'n, T> {
        self.lengths.iter().filter_map(move |length| {
            let prefix = number.get(..*length)?;
            self.by_prefix.get(prefix).map(|value| (prefix, value))
        })
    }

    pub fn longest(&self, number: &str) -> Option<&T> {
        self.lengths.iter().find_map(|length| self.by_prefix.get(number.get(..*length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The lookup by length finds what a walk over all prefixes finds.
        #[test]
        fn the_longest_prefix_wins(prefixes in prop::collection::hash_set("[0-2]{0,4}", 0..20), number in "[0-2]{1,6}") {
            let mut map = PrefixMap::default();
            for prefix in &prefixes {
                map.insert(prefix, prefix.clone());
            }
            let mut walked: Vec<_> = prefixes.iter().filter(|prefix| number.starts_with(*prefix)).collect();
            walked.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
            prop_assert_eq!(map.longest(&number), walked.first().copied());
            prop_assert_eq!(map.matches(&number).map(|row| row.1).collect::<Vec<_>>(), walked);
        }
    }
}
