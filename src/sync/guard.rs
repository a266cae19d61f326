//! What a lock guards, and the guards that give it out: the only unsafe code in `sync`.
#![allow(unsafe_code)]

use super::barrier::Barrier;
use super::condvar::Condvar;
use super::event::Event;
use super::mutex::Mutex;
use super::once::Once;
use super::reentrant::{ReentrantMutex, ReentrantMutexGuard};
use super::rwlock::{RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};
use super::semaphore::Semaphore;
use crate::prim::AtomicU64;
use crate::region::Attachment;
use crate::segment::{Layout, Schema, Shareable, field_path};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// What a lock guards: reached through a guard only.
#[repr(transparent)]
pub(super) struct Data<T: ?Sized>(UnsafeCell<T>);

// SAFETY: the value is reached only through a guard, or through `&mut`. The guards of a lock that give `&mut T` are alone;
// of a lock whose guards give `&T` to several threads `T` is `Sync` (`RwLock`), or it is one thread that has them; what is
// given out for good (`Once`) is `Sync`, and given out by nobody else.
unsafe impl<T: ?Sized + Send> Sync for Data<T> {}

impl<T: ?Sized> Data<T> {
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T> Data<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
}

const WORD: Layout = Layout::of::<AtomicU64>();

/// Makes locks, which are a word, one for each reader, and then the data, [`Shareable`].
macro_rules! shareable_locks {
    ($($kind:literal: [$($generics:tt)*] $lock:ty, $readers:tt;)*) => {$(
        // SAFETY: `repr(C)` of atomic words and a `Shareable` value, which changes only under the lock, and that works
        // between processes; every byte pattern is a value. The tail of `T` is the tail of the lock, so the cast keeps
        // address and metadata.
        unsafe impl<T: Shareable + ?Sized, $($generics)*> Shareable for $lock {
            type Tail = T::Tail;
            const LAYOUT: Layout =
                Layout::EMPTY.with(WORD).with(Layout::of::<[AtomicU64; $readers]>()).with(T::LAYOUT);
            const PLAIN: bool = false;

            fn describe(schema: &mut Schema, path: &str, offset: usize) {
                let words = Layout::EMPTY.with(WORD).with(Layout::of::<[AtomicU64; $readers]>());
                schema.line(path, $kind, offset, size_of::<u64>() * (1 + $readers));
                let data = words.next_offset(T::LAYOUT);
                T::describe(schema, &field_path(path, "data"), offset + data);
            }

            fn from_base(base: *mut u8, tail: T::Tail) -> *mut Self {
                T::from_base(base, tail) as *mut Self
            }
        }
    )*};
}

shareable_locks! {
    "mutex": [] Mutex<T>, 0;
    "reentrant mutex": [] ReentrantMutex<T>, 0;
    "rwlock": [const READERS: usize] RwLock<T, READERS>, READERS;
}

// SAFETY: as for `Mutex`, which it holds behind an atomic word.
unsafe impl<T: Shareable + ?Sized> Shareable for Once<T> {
    type Tail = T::Tail;
    const LAYOUT: Layout = Layout::EMPTY.with(WORD).with(Mutex::<T>::LAYOUT);
    const PLAIN: bool = false;

    fn describe(schema: &mut Schema, path: &str, offset: usize) {
        schema.line(path, "once", offset, size_of::<u64>());
        let value = Layout::EMPTY.with(WORD).next_offset(Mutex::<T>::LAYOUT);
        Mutex::<T>::describe(schema, &field_path(path, "value"), offset + value);
    }

    fn from_base(base: *mut u8, tail: T::Tail) -> *mut Self {
        T::from_base(base, tail) as *mut Self
    }
}

impl<T: ?Sized + Sync> Once<T> {
    /// The value, if it is complete.
    pub(super) fn initialised(&self) -> Option<&T> {
        // SAFETY: when it is complete, nobody who keeps to the protocol gets it exclusively any more, as who has the lock looks
        // first. A peer that takes that back is outside this tier (docs/DESIGN.md, "Trust"), as one that writes without
        // locking is; every byte pattern it could leave is a value of `T`.
        self.is_complete().then(|| unsafe { &*self.value.data().0.get() })
    }

    /// Declares complete what the holder of the lock has initialised, or has found complete.
    pub(super) fn publish(&self, value: MutexGuard<'_, T>) -> &T {
        self.set_complete();
        drop(value);
        // SAFETY: as in `initialised`, from `set_complete` on; the guard, which is gone, was the last exclusive access.
        unsafe { &*self.value.data().0.get() }
    }
}

macro_rules! words {
    ($([$($generic:tt)*] $type:ty: $kind:literal $(with $lock:ident)?),* $(,)?) => {$(
        // SAFETY: `repr(transparent)` or `repr(C)` of atomic words: every byte pattern is a value, and it works between
        // processes.
        unsafe impl<$($generic)*> Shareable for $type {
            type Tail = ();
            const LAYOUT: Layout = Layout::of::<Self>();
            const PLAIN: bool = false;

            fn describe(schema: &mut Schema, path: &str, offset: usize) {
                schema.line(path, $kind, offset, size_of::<Self>());
                $(
                    let lock = offset + std::mem::offset_of!(Self, $lock);
                    schema.line(&field_path(path, stringify!($lock)), "mutex", lock, size_of::<u64>());
                )?
            }

            fn from_base(base: *mut u8, (): ()) -> *mut Self {
                base.cast()
            }
        }
    )*};
}

words! {
    [] Condvar: "condvar",
    [] Event: "event",
    [const PERMITS: usize] Semaphore<PERMITS>: "semaphore",
    [const PARTIES: usize] Barrier<PARTIES>: "barrier" with resetting,
}

/// A lock that is held. What it guards is as its last holder left it, complete.
///
/// Dropping it unlocks. Dropped while a panic unwinds, it leaves the lock marked as if its holder had died, and the
/// next one to lock gets [`Locked::OwnerDied`]. It stays with the thread that locked.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    pub(super) mutex: &'a Mutex<T>,
    pub(super) attachment: &'a Attachment,
    /// Whether a panic was unwinding already when the lock was taken: then it says nothing about the data.
    panicking: bool,
    /// Whether the data is known to be complete.
    consistent: bool,
    /// Not `Send`: a thread knows which locks it holds.
    thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The caller has just taken the lock for `attachment`.
    #[inline]
    pub(super) fn new(mutex: &'a Mutex<T>, attachment: &'a Attachment, consistent: bool) -> Self {
        Self { mutex, attachment, panicking: std::thread::panicking(), consistent, thread: PhantomData }
    }

    /// Gives the lock back now.
    pub fn unlock(self) {}

    /// Gives the lock back as if its holder had died, or panicked: the next one to lock gets [`Locked::OwnerDied`]. For
    /// who has begun to change the data and cannot complete that.
    pub fn abandon(mut self) {
        self.consistent = false;
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard's participant is in the lock word, so nobody who keeps to the protocol has another
        // reference to the value. A peer that writes without locking is outside this tier (docs/DESIGN.md, "Trust");
        // every byte pattern it could leave is a value of `T`.
        unsafe { &*self.mutex.data().0.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` makes it the only reference through this guard.
        unsafe { &mut *self.mutex.data().0.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let complete = self.consistent && (self.panicking || !std::thread::panicking());
        self.mutex.unlock(self.attachment, complete);
    }
}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: as for `MutexGuard`, but that this thread may have other guards, of which each gives out `&T` only.
        unsafe { &*self.data().0.get() }
    }
}

// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is counted in a reader's word, or its participant is in the writer's word: no writer that
        // keeps to the protocol has a reference meanwhile. Whatever a peer leaves is a value of `T`, as for
        // `MutexGuard`.
        unsafe { &*self.data.0.get() }
    }
}

impl<T: ?Sized> Deref for RwLockUpgradableGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard's participant is in the writer's word, so there is no writer; as for `RwLockReadGuard`.
        unsafe { &*self.data.0.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard's participant is in the writer's word, writing, and no reader's word names anybody who is
        // alive and inside: nobody who keeps to the protocol has another reference. As for `MutexGuard`.
        unsafe { &*self.data.0.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` makes it the only reference through this guard.
        unsafe { &mut *self.data.0.get() }
    }
}

// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

// SAFETY: as for `RwLockReadGuard`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockUpgradableGuard<'_, T> {}

// SAFETY: as for `RwLockReadGuard`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

/// Shows what a guard gives.
macro_rules! shown_as_data {
    ($($guard:ident),*) => {$(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

shown_as_data!(MutexGuard, ReentrantMutexGuard, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard);

/// A guard of a lock that marks what it guards as half-changed. Only memlane's guards are that.
pub trait Guard: Deref {
    /// Declares the data complete.
    #[doc(hidden)]
    fn declare_consistent(&mut self);
}

impl<T: ?Sized> Guard for MutexGuard<'_, T> {
    fn declare_consistent(&mut self) {
        self.consistent = true;
    }
}

/// A lock whose last holder died, or panicked, while it held it: what it guards may be half-changed.
///
/// Look at the data, repair it, and say so with [`OwnerDied::mark_consistent`]. Dropped without that, the lock goes
/// back still marked, and the next one to lock gets the same chance; there is no dead end.
#[must_use = "repair the data and call mark_consistent"]
pub struct OwnerDied<G>(G);

impl<G: Guard> OwnerDied<G> {
    /// Declares the data complete.
    pub fn mark_consistent(self) -> G {
        let mut guard = self.0;
        guard.declare_consistent();
        guard
    }
}

impl<G: Guard> Deref for OwnerDied<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.0
    }
}

impl<G: Guard + DerefMut> DerefMut for OwnerDied<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.0
    }
}

impl<G: Guard<Target: fmt::Debug>> fmt::Debug for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnerDied").field(&&**self).finish()
    }
}

/// A lock that was taken, with its guard: in good order, or from a holder that died.
#[must_use = "the lock is given back as soon as this is dropped"]
pub enum Locked<G> {
    /// The data is complete.
    Clean(G),
    /// The last holder died while it held the lock.
    OwnerDied(OwnerDied<G>),
}

impl<G> fmt::Debug for Locked<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Clean(_)) { "Clean" } else { "OwnerDied" })
    }
}

impl<G: Guard> Locked<G> {
    pub(super) fn new(guard: G, clean: bool) -> Self {
        if clean { Self::Clean(guard) } else { Self::OwnerDied(OwnerDied(guard)) }
    }

    #[inline]
    fn repaired(self, repair: impl FnOnce(&mut OwnerDied<G>)) -> G {
        match self {
            Self::Clean(guard) => guard,
            Self::OwnerDied(mut died) => {
                repair(&mut died);
                died.mark_consistent()
            }
        }
    }
}

impl<G: Guard + DerefMut> Locked<G> {
    /// The guard; if the last holder died, after `repair` has made the data complete.
    ///
    /// If this process dies in `repair`, the next one to lock is asked to repair again, so it must not matter how
    /// often it is begun.
    #[inline]
    pub fn or_repair(self, repair: impl FnOnce(&mut G::Target)) -> G {
        self.repaired(|died| repair(died))
    }
}

impl<'a, T: ?Sized> Locked<ReentrantMutexGuard<'a, T>> {
    /// As that of other locks. As this thread may have other guards, `repair` has the data shared with them.
    #[inline]
    pub fn or_repair(self, repair: impl FnOnce(&T)) -> ReentrantMutexGuard<'a, T> {
        self.repaired(|died| repair(died))
    }
}
