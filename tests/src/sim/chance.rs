//! Chance from a seed: the same seed gives the same world, in every version.

/// The finalizer of splitmix64 over a counter.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance that follows from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.any() % (high - low + 1)
    }

    /// An index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.between(0, len as u64 - 1)).expect("an index is below a length")
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.any().is_multiple_of(n)
    }
}
