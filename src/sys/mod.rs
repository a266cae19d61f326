//! The only code that names an operating system.
//!
//! Everything above stands on the items below. A port writes one file with the same items; `unsupported.rs` has
//! them all and fails each, and `./check` compiles it, so the contract cannot drift. `heap.rs` is all of it within one
//! process, for Miri and ThreadSanitizer.
//!
//! **Objects.** An [`Fd`] is an open file, directory or object. `open_directory`, `make_directory`, `open_at`,
//! `open_or_make`, `create_unnamed`, `publish`, `unlink`, `names`, `meta`, `meta_at`, `meta_of`, `file_system`, `reserve`, `set_len`,
//! `read_at` and `write_at` do what they say, never follow a link in the last component, and never hand a descriptor to a
//! program that is executed. `default_directory` is the user's own, `limits` is what this process may use.
//! `create_unnamed` makes an object nobody else can see and that vanishes with its creator; `publish` gives it a name in one step and fails with `AlreadyExists` if the name is taken.
//! `reserve` pays for every byte or fails with `StorageFull` and leaves nothing behind. `reserve_range` does so for some, and
//! changes no size, if the file system knows how to; `extend` makes a file as long as that, and never shorter.
//! `free_memory` is what the machine has left.
//!
//! **Handing over.** `create_anonymous` makes an object that no directory has; `seal` fixes its length for good, and `is_sealed`
//! says whether that was done, or fails for all that is no regular file in memory, without asking whoever serves it. `reopen` opens what a
//! descriptor leads to once more, independent of it. `send` and `receive` carry bytes and descriptors over a [`Socket`] and
//! never wait; `wait_for` sleeps until they can go on, at most for `limit`, and `patience` is what the socket was told; `peer` is
//! who made its other end. `opened_for` says what a descriptor from elsewhere was opened for. Where objects are not descriptors (Windows), a handle that was duplicated for the peer is sent.
//!
//! **Liveness.** A [`LockFd`] is a second, independent opening of an object that is never mapped. `try_lock`,
//! `unlock` and `is_locked` work on single bytes far beyond the object's end. The operating system frees all of
//! them when the process dies, however it dies, and not before; that is the only proof of death memlane accepts.
//! A child made by `fork` holds none of them, and `forks` tells it apart from its parent. `try_lock_whole` and
//! `unlock_whole` are the same for a directory, or a file that is there to be locked; `whole_lock_holder` names a holder
//! where the system can.
//!
//! **Memory.** A [`Map`] is a range of bytes, at any offset of a file, shared with whoever else maps them, or a copy of which
//! nobody sees the changes; unmapped when dropped. Pages are its own affair: what it does to a range it does to the pages that
//! hold it. What was mapped for reading can be made writable piece by piece with `allow_write`. `populate` enters pages into the page
//! table, so that no first touch faults later, and fails with `StorageFull` if a touch would be a SIGBUS; otherwise it is best
//! effort, as `advise` and `request_huge_pages` are, which says how many bytes lie in huge pages then. `lock` keeps pages in memory,
//! as much as `lock_limit` allows. `flush` writes to a disk. `release` gives the whole pages of a range back, and keeps their addresses.
//!
//! **Waiting.** `wait` sleeps at most `limit` while a 32-bit word still holds `expected`, which `holds` says too, for
//! systems that do not look themselves; it may return early for any reason. `wake` wakes up to `count` sleepers, in any
//! process, that wait on the same word of the same object, and returns how many; `wait_any` is `wait` for up to
//! `WAIT_MOST` words. Where a system has no such call that crosses processes (Windows), the word's object id and
//! offset name an event, and the same two functions wait for and set it; death is then seen by waiting on the
//! owner's process handle too. Nothing above relies on a wake-up being delivered.
//!
//! **Time.** `stamp` is the time in ticks of a clock that all processes of the machine read alike; `age` is how long ago a
//! stamp was taken, for who knows a [`Moment`] that lies before it. `clock_id` tells apart who cannot compare moments.
//!
//! **Identity.** `process` says who this process is, `is_stopped` whether one is stopped (for people, as proof of
//! nothing), `user` which user it acts for, `random` gives 128 bits that nobody can predict.

#[cfg(any(miri, memlane_heap))]
#[path = "heap.rs"]
mod os;
#[cfg(all(target_os = "linux", not(any(memlane_unsupported, miri, memlane_heap))))]
#[path = "linux.rs"]
mod os;
#[cfg(all(any(not(target_os = "linux"), memlane_unsupported), not(any(miri, memlane_heap))))]
#[path = "unsupported.rs"]
mod os;

pub(crate) use os::*;
#[cfg(any(miri, memlane_heap))]
pub use os::{kill_self, peek, poke, start_process};

/// Whether something is opened or mapped for reading only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    /// Opened for reading only, and mapped for both: nobody else sees what is written.
    Copy,
}

/// How a program will use mapped bytes: for the system to know, which may act on it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// In no particular way.
    Normal,
    /// From the beginning to the end: read ahead.
    Sequential,
    /// Here and there: do not read ahead.
    Random,
    /// Soon: read it.
    WillNeed,
    /// Not soon: this process lets go of its pages, which stay as they are where they come from.
    DontNeed,
}

/// How a byte is locked: by any number of openings, or by one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Exclusive,
}

/// What kind of thing a name leads to.
#[cfg_attr(any(memlane_unsupported, memlane_heap, miri), expect(dead_code, reason = "not all of it is found there"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What is known of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) kind: Kind,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The permission bits, with set-group-id and sticky.
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) len: u64,
    /// The bytes that it takes, of memory or a disk: fewer than its length, if it has holes.
    pub(crate) taken: u64,
    /// Device and inode: equal for two openings of the same object.
    pub(crate) identity: (u64, u64),
}

/// What is known of the file system that holds a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileSystem {
    pub(crate) free: u64,
    pub(crate) total: u64,
    pub(crate) in_memory: bool,
    /// Whether not one more file can be made, however much memory is free.
    pub(crate) out_of_files: bool,
}

/// A look at the clock of the stamps and at one in nanoseconds. With 0 ticks, stamps are nanoseconds themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) ticks: u64,
    pub(crate) nanos: u64,
}

/// Who a process is: for people, never as proof of life.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it started, in the system's own units: tells two processes of the same pid apart.
    pub(crate) started: u64,
    /// The first 16 bytes of the program's name, zero-padded.
    pub(crate) name: [u8; 16],
}
