//! Random damage to an object's file.
#![allow(unreachable_pub, reason = "each file uses its part")]

use super::object::{CONDITION, DATA, EVENT, OTHER, RW, SCHEMA, STATE, TABLE, Victim, WORD, put};
use super::random::Random;
use std::fs::File;

const AFTER_RW: u64 = RW + 24;
/// What it may have hit.
pub const LOCK_WORDS: &str = "words of a lock for readers and writers";

/// Overwrites something with something: mostly what the library reads, mostly with what could be meant (`words`, and
/// what is near them). Says what it hit.
pub fn garble(random: &mut Random, file: &File, words: &[u64], state_too: bool) -> &'static str {
    let offset = match random.below(8) {
        0 => random.below(STATE),
        1 if state_too => STATE + random.below(16),
        2 | 3 => TABLE + 64 * random.below(3) + random.below(64),
        4 => SCHEMA + random.below(200),
        5 if random.below(2) == 0 => RW + random.below(3) * 8,
        5 => WORD,
        _ => DATA + random.below(size_of::<Victim>() as u64 / 4) * 4,
    };
    let value = match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => random.below(300),
        4..7 => words[random.below(words.len() as u64) as usize] ^ ((random.below(4) / 3) << (16 * random.below(4))),
        _ => random.next(),
    };
    let size = [1, 4, 8, 8][random.below(4) as usize].min((DATA + size_of::<Victim>() as u64 - offset) as usize);
    put(file, offset, &value.to_ne_bytes()[..size]);
    match offset {
        ..STATE => "header",
        STATE..TABLE => "state",
        TABLE..SCHEMA => "table",
        SCHEMA..DATA => "schema",
        CONDITION => "condition",
        EVENT => "event",
        WORD | OTHER => "lock",
        RW..AFTER_RW => LOCK_WORDS,
        _ => "data",
    }
}
