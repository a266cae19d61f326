//! An object to damage, and where things lie in its file, as docs/DESIGN.md draws it.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each file uses its part")]

use memlane::{Condvar, Error, Event, Mutex, Name, Options, OwnerId, ReentrantMutex, RwLock, Segment, Shareable};
use std::fs::{File, OpenOptions};
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub const STATE: u64 = 128;
pub const CREATOR: u64 = 136;
pub const TABLE: u64 = 256;
pub const SLOTS: usize = 128;
pub const SCHEMA: u64 = TABLE + 64 * SLOTS as u64;
/// Where the user's bytes of an object start, if its schema is as short as that of a [`Victim`].
pub const DATA: u64 = 12_288;
/// The locks, the condition and the event of a [`Victim`].
pub const WORD: u64 = DATA + offset_of!(Victim, state) as u64;
pub const OTHER: u64 = DATA + offset_of!(Victim, other) as u64;
pub const RW: u64 = DATA + offset_of!(Victim, rw) as u64;
pub const CONDITION: u64 = DATA + offset_of!(Victim, changed) as u64;
pub const EVENT: u64 = DATA + offset_of!(Victim, event) as u64;
/// The bits of a lock's word.
pub const DIRTY: u64 = 1 << 30;
pub const WAITERS: u64 = 1 << 31;
pub const OWNER: u64 = 0xffff_ffff_0000_ffff;

#[derive(Debug, Shareable)]
#[repr(C)]
pub struct Victim {
    pub changed: Condvar,
    pub event: Event,
    pub state: Mutex<State>,
    pub other: Mutex<u64>,
    pub rw: RwLock<u64, 2>,
    pub again: ReentrantMutex<u64>,
}

#[derive(Debug, Shareable)]
#[repr(C)]
pub struct State {
    pub value: u64,
    pub peer: OwnerId,
}

pub fn create(name: &Name) -> Result<Segment<Victim>, Error> {
    Segment::create(name, (), &Options::new(), |_| ())
}

pub fn open_file(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("the object's file")
}

pub fn u64_at(file: &File, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset).expect("inside the file");
    u64::from_ne_bytes(bytes)
}

pub fn put(file: &File, offset: u64, bytes: &[u8]) {
    file.write_all_at(bytes, offset).expect("inside the file");
}

/// The word that `segment` leaves in its locks.
pub fn word_of(segment: &Segment<Victim>, file: &File) -> u64 {
    let _held = segment.state.try_lock(segment).expect("free").or_repair(|_| ());
    u64_at(file, WORD)
}
