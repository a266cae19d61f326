//! Random choices that can be made again: `MEMLANE_SEED` repeats a run.
#![allow(dead_code, unreachable_pub, missing_debug_implementations, reason = "each file uses its part")]

use std::hash::{BuildHasher, RandomState};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// From `MEMLANE_SEED`, or a new seed, which is printed.
    pub fn new() -> Self {
        let given = std::env::var("MEMLANE_SEED").ok().map(|seed| seed.parse().expect("MEMLANE_SEED is a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(()));
        // On stderr, or a child's parent would not show it.
        eprintln!("MEMLANE_SEED={seed}");
        Self(seed)
    }

    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
