//! What is in the object, read from outside: without taking part in it.

use crate::common::Dir;
use crate::victim::{OBJECT, Shared, State};
use memlane::Mutex;
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;

/// Where what the lock guards begins.
const GUARDED: usize = offset_of!(Shared, state) + size_of::<Mutex<()>>();

/// Under an owner's bits a lock's word is 0.
const OWNER: u32 = 0xffff;

/// The 32 bits at `offset` of the shared value.
fn peek(dir: &Dir, offset: usize) -> u32 {
    let file = File::open(dir.path().join(OBJECT)).expect("the object");
    let read = |offset: u64| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, offset).expect("bytes of the object");
        u32::from_ne_bytes(word)
    };
    const DATA_OFFSET: u64 = 40;
    read(u64::from(read(DATA_OFFSET)) + offset as u64)
}

/// Whether somebody holds the directory's lock.
pub fn directory_is_locked(dir: &Dir) -> bool {
    File::open(dir.path()).expect("the directory").try_lock().is_err()
}

/// Whether somebody holds the lock.
pub fn lock_is_held(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, state)) & OWNER != 0
}

/// Whether somebody holds the second lock.
pub fn second_is_held(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, second)) & OWNER != 0
}

/// How much there is to take.
pub fn turn(dir: &Dir) -> u32 {
    peek(dir, GUARDED + offset_of!(State, turn))
}

/// How often somebody has begun to wait for something to take.
pub fn waiting(dir: &Dir) -> u32 {
    peek(dir, GUARDED + offset_of!(State, waiting))
}

/// Whether somebody sleeps, or is about to, for the lock.
pub fn lock_is_awaited(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, state)) & 1 << 31 != 0
}

/// Whether somebody sleeps, or is about to, for the condition.
pub fn condition_is_awaited(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, changed)) & 1 != 0
}
