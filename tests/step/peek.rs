//! What is in the object, read from outside: without taking part in it.

use crate::channel_peers::SLOTS;
use crate::common::Dir;
use crate::victim::{OBJECT, Shared, State};
use memlane::{Mutex, Policy};
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;

/// Where what the lock guards begins.
const GUARDED: usize = offset_of!(Shared, state) + size_of::<Mutex<()>>();

/// Under an owner's bits a lock's word is 0.
const OWNER: u32 = 0xffff;

/// Where the header says where the shared value begins.
const DATA_OFFSET: u64 = 40;

/// The 32 bits at `offset` of the shared value.
pub fn peek(dir: &Dir, offset: usize) -> u32 {
    let file = File::open(dir.path().join(OBJECT)).expect("the object");
    let read = |offset: u64| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, offset).expect("bytes of the object");
        u32::from_ne_bytes(word)
    };
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

/// Whether somebody has the writer's word.
pub fn writer_is_there(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, rw)) & OWNER != 0
}

/// Whether the writer lets readers in.
pub fn writer_lets_in(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, rw)) & (1 << 28 | 1 << 29) == 0
}

/// Whether somebody sleeps, or is about to, on the writer's word.
pub fn writer_is_awaited(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, rw)) & 1 << 31 != 0
}

/// What the readers' words say.
fn readers(dir: &Dir) -> [u32; 4] {
    std::array::from_fn(|index| peek(dir, offset_of!(Shared, rw) + 8 * (1 + index)))
}

/// Whether somebody reads, or is about to.
pub fn reader_is_there(dir: &Dir) -> bool {
    readers(dir).iter().any(|word| word & OWNER != 0)
}

/// Whether somebody sleeps, or is about to, on a reader's word.
pub fn reader_is_awaited(dir: &Dir) -> bool {
    readers(dir).iter().any(|word| word & 1 << 31 != 0)
}

/// Whether somebody sleeps, or is about to, for the condition.
pub fn condition_is_awaited(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, changed)) & 1 != 0
}

/// Whether somebody sleeps, or is about to, until the event is set.
pub fn event_is_awaited(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, event)) & 1 != 0
}

/// Whether the event is set.
pub fn event_is_set(dir: &Dir) -> bool {
    peek(dir, offset_of!(Shared, event)) & 2 != 0
}

/// Whether somebody sleeps, or is about to, until a message is sent.
pub fn messages_are_awaited(dir: &Dir) -> bool {
    peek(dir, 0) & 1 != 0
}

/// Whether somebody sleeps, or is about to, until a message is let go.
pub fn release_is_awaited(dir: &Dir) -> bool {
    peek(dir, 64) & 1 != 0
}

/// Leaves the value whose bytes begin at `offset` as a writer does that dies while it writes it.
pub fn begin_write(dir: &Dir, offset: usize) {
    const SEQUENCE: u64 = 8;
    let file = File::options().read(true).write(true).open(dir.path().join(OBJECT)).expect("the object");
    let mut word = [0; 8];
    file.read_exact_at(&mut word, DATA_OFFSET).expect("its header");
    let at = u64::from_ne_bytes(word) + offset as u64 + SEQUENCE;
    file.read_exact_at(&mut word, at).expect("the sequence");
    file.write_all_at(&(u64::from_ne_bytes(word) | 1).to_ne_bytes(), at).expect("the sequence");
}

/// Leaves the first lane as its sender does that dies while it sends message `sequence`: see docs/DESIGN.md, "Channels".
pub fn begin_message(dir: &Dir, sequence: u64, policy: Policy) {
    const TASKS: u64 = 256;
    const FIRST_ENTRY: u64 = 4096 + 128;
    const AVAILABLE: u64 = 1 << 30;
    let file = File::options().read(true).write(true).open(dir.path().join(OBJECT)).expect("the channel");
    let mut data = [0; 8];
    file.read_exact_at(&mut data, DATA_OFFSET).expect("its header");
    let write = |offset: u64, word: u64| {
        file.write_all_at(&word.to_ne_bytes(), u64::from_ne_bytes(data) + offset).expect("a word of it");
    };
    let position = sequence % SLOTS;
    if policy == Policy::Queue {
        write(TASKS + position * 8, sequence | AVAILABLE);
    }
    write(FIRST_ENTRY + position * 128, 0);
}
