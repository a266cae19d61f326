//! The model's operating system: lock bytes that a death frees, and who a process is.

use crate::prim::{self, Ordering};
use std::cell::RefCell;
use std::io;

/// Holds lock bytes, as an opening of the object's file does; free again when its process [dies](LockFd::die).
#[derive(Debug, Default)]
pub(crate) struct LockFd {
    held: RefCell<Vec<u64>>,
}

pub(crate) enum Sharing {
    Exclusive,
}

pub(crate) enum Access {
    ReadWrite,
}

impl LockFd {
    pub(crate) fn try_lock(&self, byte: u64, _: Sharing) -> io::Result<bool> {
        let taken = prim::lock_byte(byte).compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if taken {
            self.held.borrow_mut().push(byte);
        }
        Ok(taken)
    }

    /// Need not see what somebody does at the same time: only what happened before.
    pub(crate) fn is_locked(&self, byte: u64) -> io::Result<bool> {
        Ok(prim::lock_byte(byte).load(Ordering::Acquire) != 0)
    }

    /// Its process is dead: the kernel frees what it held, and sooner or later everybody has had time to see it.
    pub(crate) fn die(&self) {
        for byte in self.held.take() {
            prim::lock_byte(byte).store(0, Ordering::Release);
        }
        prim::end_slices();
    }
}

impl Drop for LockFd {
    /// Whoever unwinds has died. All threads of the model are one of the machine's, on which nobody else may run before it
    /// has unwound: so its bytes are freed when it is [buried](bury).
    fn drop(&mut self) {
        if std::thread::panicking() {
            LEFT.with(|left| left.borrow_mut().append(&mut self.held.borrow_mut()));
        }
    }
}

loom::thread_local! {
    static LEFT: RefCell<Vec<u64>> = RefCell::default();
}

/// Lives `life` as [`prim::mortal`] does; if it dies, the kernel frees what it held.
pub(crate) fn mortal<T>(steps: u64, life: impl FnOnce() -> T) -> Option<T> {
    let result = prim::mortal(steps, life);
    if result.is_none() {
        LockFd { held: RefCell::new(LEFT.with(RefCell::take)) }.die();
    }
    result
}

/// No time passes.
pub(crate) fn stamp() -> u64 {
    0
}

pub(crate) fn moment() -> Moment {
    Moment { ticks: 0, nanos: 0 }
}

pub(crate) fn age(_: u64, _: Moment) -> Option<std::time::Duration> {
    None
}

pub(crate) struct Moment {
    pub(crate) ticks: u64,
    pub(crate) nanos: u64,
}

pub(crate) fn clock_id() -> u64 {
    1
}

pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) started: u64,
    pub(crate) name: [u8; 16],
}

loom::thread_local! {
    static PID: RefCell<u32> = RefCell::new(1);
}

/// Who this thread of the model is, from now on.
pub(crate) fn be(pid: u32) {
    PID.with(|own| own.replace(pid));
}

/// All of it follows from the pid, so that a mixture of two is seen.
pub(crate) fn process() -> Process {
    let pid = PID.with(|own| *own.borrow());
    Process { pid, started: u64::from(pid) * 1000, name: [b'a' + pid as u8; 16] }
}

/// Here it says that the two are not of the same process.
pub(crate) fn is_stopped(pid: u32, started: u64) -> bool {
    started != u64::from(pid) * 1000
}
