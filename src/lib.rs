//! Shared memory between processes that no crash can hang, corrupt or leak.
//!
//! Start with [`Sender`] and [`Receiver`]: messages of any size, filled and read in place, from one or several
//! processes to any number of others; with [`Server`] and [`Client`], requests and answers. For state that several
//! processes change there is [`Segment`]: a value of your own type, built in shared memory by one process and used in
//! place by others, with a [`Mutex`], [`RwLock`], [`Condvar`], [`Event`], [`Semaphore`], [`Barrier`], [`Once`],
//! [`Versioned`] or [`SeqCell`] inside that survive `kill -9`. [`SharedMemory`], [`Region`] and [`RegionMut`] are the
//! same without a type, [`Memory`] without a header too. Names are taken away with [`remove()`], [`retire`] and [`gc`];
//! [`list`], [`inspect()`] and [`Observer`] show what there is and who uses it.
//!
//! ```
//! use memlane::{Mutex, Options, Segment, Shareable};
//!
//! #[derive(Shareable)]
//! #[repr(C)]
//! struct Counter {
//!     value: Mutex<u64>,
//! }
//!
//! # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
//! let counter = Segment::<Counter>::open_or_create(&name, (), &Options::new(), |_| ())?;
//! let mut value = counter.value.lock(&counter)?.or_repair(|_| ());
//! *value += 1;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is promised, drawn and limited is in `docs/DESIGN.md`.

extern crate self as memlane;

mod channel;
mod error;
mod inspect;
mod object;
mod owner;
mod prim;
mod region;
mod segment;
mod sync;
mod sys;

pub use channel::{
    Call, ChannelInfo, ChannelOptions, Client, Copied, Dtype, Handled, Image, Key, Loan, Message, Messages, Observer,
    Outcome, PixelFormat, Policy, Receiver, ReceiverInfo, Request, Sender, SenderInfo, Server, ServiceOptions, Tensor,
    TensorView, Ticket, Unsent, Untyped, UntypedTail, Value, WaitSet,
};
pub use error::{Error, LockError, RecvError, SendError, TicketError, WaitError, Who};
pub use inspect::{
    FieldValue, HeldLock, Holder, Inspected, Inspection, Listed, LockState, Participant, Space, held_locks, inspect,
    list, space,
};
pub use memlane_derive::Shareable;
pub use object::{Name, Options, Origin, Persistence, Reclaimed, ToName, gc, remove, retire};
pub use owner::OwnerId;
pub use prim::interrupt_waits;
pub use region::{Attached, Mapping, Memory, MemoryMut, Region, RegionCopy, RegionMut, SharedMemory};
pub use segment::{Bool, Field, Layout, Placed, Schema, Segment, Shareable, Tail, field_path};
#[doc(hidden)]
pub use segment::{PickTail, TailIf};
pub use sync::{
    Barrier, Condvar, Event, FileGuard, FileLock, Locked, Mutex, MutexGuard, NotUpgraded, Once, OwnerDied, Party,
    Passed, Permit, ReentrantMutex, ReentrantMutexGuard, RwLock, RwLockReadGuard, RwLockUpgradableGuard,
    RwLockWriteGuard, Semaphore, SeqCell, Until, Versioned, lock_both,
};
pub use sys::Advice;

/// For tests of memlane itself: what other processes, and their deaths, would do to an object.
#[doc(hidden)]
#[cfg(any(miri, memlane_heap))]
pub mod heap {
    pub use crate::prim::die_at;
    pub use crate::sys::{kill_self, peek, poke, start_process};
}

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs what docs/BOOST.md shows.
#[cfg(doctest)]
#[doc = include_str!("../docs/BOOST.md")]
struct Boost;
