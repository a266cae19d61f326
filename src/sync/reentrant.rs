//! A mutex that the thread which holds it may lock again. Its word is that of [`Mutex`](super::Mutex); how often it is
//! locked is said by that thread's list of the locks it holds.

use super::guard::{Data, Guard, Locked};
use super::word::{Claim, DIRTY, Waiter, change, hold, is_held, let_go};
use crate::error::LockError;
use crate::owner::OwnerId;
use crate::prim::{AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A [`Mutex`](crate::Mutex) that the thread which holds it may lock again, as functions do that call each other. Its
/// zeroed bytes are an unlocked one; 8 bytes and the data.
///
/// Its guards give `&T`, because a thread may have several: what is to change in it is atomic, or in locks of its own.
/// The last one to be dropped unlocks. What is said there of deaths holds here; dropped while a panic unwinds, also an
/// inner guard leaves the mark.
///
/// ```
/// use memlane::ReentrantMutex;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let count = ReentrantMutex::<AtomicU64>::named(&name)?;
/// let outer = count.lock(&count)?.or_repair(|_| ());
/// let inner = count.lock(&count)?.or_repair(|_| ());
/// inner.store(outer.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct ReentrantMutex<T: ?Sized> {
    word: AtomicU64,
    data: Data<T>,
}

impl<T> ReentrantMutex<T> {
    /// An unlocked one that guards `data`.
    pub const fn new(data: T) -> Self {
        Self { word: AtomicU64::new(0), data: Data::new(data) }
    }
}

impl<T: ?Sized> ReentrantMutex<T> {
    /// Takes the lock, once more if this thread holds it already; else it waits until its holder gives it back or dies.
    /// `by` is the segment or region that it lies in.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyLocked`] if this thread holds it by another attachment to the object, [`LockError::Retired`]
    /// if the object was removed by force, also while waiting, [`LockError::Forked`], [`LockError::NotInSegment`],
    /// [`LockError::Interrupted`].
    pub fn lock<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
    ) -> Result<Locked<ReentrantMutexGuard<'a, T>>, LockError> {
        self.acquire(by.region().attachment(), None)
    }

    /// Takes the lock if this thread or no living process holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with the holder, if another one does, and those of [`lock`](Self::lock).
    pub fn try_lock<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
    ) -> Result<Locked<ReentrantMutexGuard<'a, T>>, LockError> {
        self.acquire(by.region().attachment(), Some(Duration::ZERO))
    }

    /// Takes the lock, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with the holder and any deadlock that can be seen, and those of [`lock`](Self::lock).
    pub fn lock_timeout<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Duration,
    ) -> Result<Locked<ReentrantMutexGuard<'a, T>>, LockError> {
        self.acquire(by.region().attachment(), Some(timeout))
    }

    /// What it guards, without locking: `&mut self` says that nobody else can see it yet.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    fn acquire<'a>(
        &'a self,
        attachment: &'a Attachment,
        timeout: Option<Duration>,
    ) -> Result<Locked<ReentrantMutexGuard<'a, T>>, LockError> {
        let offset = attachment.offset_of(&self.word)?;
        attachment.check()?;
        let place = attachment.place_of(&self.word);
        // This thread's own word, or its mark, is changed by nobody else.
        let seen = self.word.load(Ordering::Relaxed);
        let clean = if OwnerId::in_word(seen) == attachment.me() && is_held(place) {
            seen & DIRTY == 0
        } else {
            Waiter::new(attachment, offset, timeout).take(&self.word, Claim::HOLDING)?
        };
        hold(place);
        let guard =
            ReentrantMutexGuard { mutex: self, attachment, panicking: std::thread::panicking(), thread: PhantomData };
        Ok(Locked::new(guard, clean))
    }
}

impl<T: ?Sized> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        let locked = !OwnerId::in_word(word).is_nobody();
        let mut shown = f.debug_struct("ReentrantMutex");
        shown.field("locked", &locked).field("dirty", &(word & DIRTY != 0)).finish_non_exhaustive()
    }
}

/// A [`ReentrantMutex`] that is held, perhaps not by this guard alone: the last one to be dropped unlocks.
///
/// Dropped while a panic unwinds, it leaves the lock marked as if its holder had died. It stays with the thread that
/// locked.
#[must_use = "the lock is given back as soon as the last guard is dropped"]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    mutex: &'a ReentrantMutex<T>,
    attachment: &'a Attachment,
    /// Whether a panic was unwinding already when the lock was taken: then it says nothing about the data.
    panicking: bool,
    /// Not `Send`: a thread knows which locks it holds.
    thread: PhantomData<*const ()>,
}

impl<T: ?Sized> ReentrantMutexGuard<'_, T> {
    #[inline]
    pub(super) fn data(&self) -> &Data<T> {
        &self.mutex.data
    }
}

impl<T: ?Sized> Guard for ReentrantMutexGuard<'_, T> {
    fn declare_consistent(&mut self) {
        // The child of a fork holds nothing: the lock is its parent's.
        if !self.attachment.is_forked() {
            change(&self.mutex.word, self.attachment.me(), Ordering::Relaxed, 0, |seen| Some(seen & !DIRTY));
        }
    }
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        let place = self.attachment.place_of(&self.mutex.word);
        let_go(place);
        // The child of a fork holds nothing: the lock is its parent's.
        if self.attachment.is_forked() {
            return;
        }
        let incomplete = !self.panicking && std::thread::panicking();
        let dirty = if incomplete { DIRTY } else { 0 };
        let kept = if is_held(place) { u64::MAX } else { DIRTY };
        // ORDERING: Release pairs with the Acquire of whoever takes the lock next.
        change(&self.mutex.word, self.attachment.me(), Ordering::Release, 1, |seen| Some(seen & kept | dirty));
    }
}
