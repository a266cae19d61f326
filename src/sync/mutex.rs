//! A mutex in one 64-bit word that names its holder, see `word.rs`.
//!
//! Word: generation (32 bits) | `WAITERS` | `DIRTY` | 14 unused bits | slot + 1 (16 bits).

use super::guard::{Data, Locked, MutexGuard};
use super::look::Looked;
use super::word::{Claim, DIRTY, Waiter, change, hold, let_go};
use crate::error::LockError;
use crate::owner::OwnerId;
use crate::prim::{AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::fmt;
use std::time::Duration;

type Taken<'a, T> = Locked<MutexGuard<'a, T>>;

/// A mutual exclusion lock between processes, and the data it guards. Its zeroed bytes are an unlocked mutex.
///
/// No death of a holder blocks it: whoever waits sees the death within 50 ms (plus the time the system takes to tear
/// a large process down, about 0.3 s per GiB) and gets the lock with [`Locked::OwnerDied`].
///
/// To lock takes the segment or region that the mutex lies in: that is what says who holds it. 8 bytes and the data;
/// uncontended, locking and unlocking are one compare-and-swap each.
///
/// ```
/// use memlane::{Mutex, Options, Segment, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Account {
///     balance: Mutex<i64>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let account = Segment::<Account>::create(&name, (), &Options::new(), |_| ())?;
/// *account.balance.lock(&account)?.or_repair(|_| ()) += 10;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Mutex<T: ?Sized> {
    word: AtomicU64,
    data: Data<T>,
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting until its holder gives it back or dies.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyLocked`] if this thread holds it, [`LockError::Retired`] if the object was removed by
    /// force, also while waiting, [`LockError::Forked`], [`LockError::NotInSegment`].
    #[inline]
    pub fn lock<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Taken<'a, T>, LockError> {
        self.acquire(by.region().attachment(), None)
    }

    /// Takes the lock if no living process holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with the holder, if one does, and those of [`lock`](Self::lock).
    #[inline]
    pub fn try_lock<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Taken<'a, T>, LockError> {
        self.acquire(by.region().attachment(), Some(Duration::ZERO))
    }

    /// Takes the lock, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with the holder and any deadlock that can be seen, and those of [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Duration,
    ) -> Result<Taken<'a, T>, LockError> {
        self.acquire(by.region().attachment(), Some(timeout))
    }

    /// What it guards, without locking: `&mut self` says that nobody else can see it yet.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Always inlined: left to the compiler, two locks held at a time take twice as long (benches/lock.rs).
    #[inline(always)]
    pub(super) fn acquire<'a>(
        &'a self,
        attachment: &'a Attachment,
        timeout: Option<Duration>,
    ) -> Result<Taken<'a, T>, LockError> {
        let me = attachment.me().word();
        // ORDERING: as where a word is taken in `word.rs`.
        let free = || self.word.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if attachment.may_lock(&self.word) && free() {
            hold(attachment.place_of(&self.word));
            return Ok(Locked::Clean(MutexGuard::new(self, attachment, true)));
        }
        self.acquire_held(attachment, timeout)
    }

    /// Takes the lock where more is to be done than that.
    #[cold]
    fn acquire_held<'a>(
        &'a self,
        attachment: &'a Attachment,
        timeout: Option<Duration>,
    ) -> Result<Taken<'a, T>, LockError> {
        let offset = attachment.offset_of(&self.word)?;
        attachment.check()?;
        let clean = Waiter::new(attachment, offset, timeout).take(&self.word, Claim::HOLDING)?;
        hold(attachment.place_of(&self.word));
        Ok(Locked::new(MutexGuard::new(self, attachment, clean), clean))
    }

    /// Gives the lock back; only a guard calls this, once.
    #[inline]
    pub(super) fn unlock(&self, attachment: &Attachment, complete: bool) {
        let_go(attachment.place_of(&self.word));
        let me = attachment.me().word();
        // ORDERING: Release pairs with the Acquire of whoever takes the lock next.
        let free = || self.word.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed).is_ok();
        if !complete || attachment.is_forked() || !free() {
            self.leave(attachment, complete);
        }
    }

    /// Gives the lock back where more is to be done than that.
    #[cold]
    fn leave(&self, attachment: &Attachment, complete: bool) {
        // The child of a fork holds nothing: the lock is its parent's.
        if !attachment.is_forked() {
            let left = if complete { 0 } else { DIRTY };
            // ORDERING: Release pairs with the Acquire of whoever takes the lock next.
            change(&self.word, attachment.me(), Ordering::Release, 1, |_| Some(left));
        }
    }

    #[inline]
    pub(super) fn data(&self) -> &Data<T> {
        &self.data
    }
}

/// Takes two locks of one object in the order of their offsets, whichever comes first, waiting at most for `timeout`
/// for each (for ever if `None`): whoever takes several locks only like this cannot be in a deadlock over them.
///
/// # Errors
///
/// As [`Mutex::lock_timeout`]; [`LockError::AlreadyLocked`] also if they are the same. Neither is held then.
pub fn lock_both<'a, A: ?Sized, B: ?Sized>(
    a: &'a Mutex<A>,
    b: &'a Mutex<B>,
    by: &'a (impl Attached + ?Sized),
    timeout: Option<Duration>,
) -> Result<(Taken<'a, A>, Taken<'a, B>), LockError> {
    let attachment = by.region().attachment();
    if attachment.offset_of(&a.word)? <= attachment.offset_of(&b.word)? {
        let a = a.acquire(attachment, timeout)?;
        Ok((a, b.acquire(attachment, timeout)?))
    } else {
        let b = b.acquire(attachment, timeout)?;
        Ok((a.acquire(attachment, timeout)?, b))
    }
}

/// What the word says.
pub(super) fn look(word: u64) -> Looked {
    let owner = OwnerId::in_word(word);
    let holders = if owner.is_nobody() { Vec::new() } else { vec![(owner, "holds it")] };
    let state = if holders.is_empty() { "free" } else { "held" };
    Looked { holders, needs_repair: word & DIRTY != 0, ..Looked::new(state) }
}

impl<T> Mutex<T> {
    /// An unlocked mutex that guards `data`.
    pub const fn new(data: T) -> Self {
        Self { word: AtomicU64::new(0), data: Data::new(data) }
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        let locked = !OwnerId::in_word(word).is_nobody();
        f.debug_struct("Mutex").field("locked", &locked).field("dirty", &(word & DIRTY != 0)).finish_non_exhaustive()
    }
}
