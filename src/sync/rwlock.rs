//! A lock for many readers or one writer, all named by words, so that the dead are in nobody's way.
//!
//! Writer's word: that of `word.rs`, with `WRITING` or `DRAINING`, or neither: upgradable, which lets readers in. A
//! reader's word, of `READERS`: generation (32 bits) | `WAITERS` | 1 unused bit | holds (14 bits) | slot + 1 (16 bits).
//! Method: readers announce themselves and look for a writer, a writer announces itself and looks for readers, with a
//! sequentially consistent fence between (Dekker); as in the "big reader" locks of Linux each reader has a word of its
//! own, so that one that died can be told from those that live.

use super::guard::{Data, Guard, Locked};
use super::look::Looked;
use super::word::{Claim, DIRTY, WAITERS, Waiter, change, hold, is_held, let_go};
use crate::error::LockError;
use crate::owner::{OwnerId, PARTICIPANTS};
use crate::prim::{self, AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// The writer is alone with the data.
const WRITING: u64 = 1 << 29;
/// The writer waits for the readers that are inside, and no others come in.
const DRAINING: u64 = 1 << 28;

/// One hold of a reader's word.
const HOLD: u64 = 1 << 16;
/// All the holds that it can count.
const HOLDS: u64 = 0x3fff << 16;

const UPGRADABLE: Claim = Claim { mode: 0, changing: WRITING };
const WRITER: Claim = Claim { mode: DRAINING, changing: WRITING };

/// Everybody.
const ALL: u32 = u32::MAX;

/// A lock between processes that many may hold to read at the same time, or one to write, and the data it guards. Its
/// zeroed bytes are an unlocked one.
///
/// No death of a holder blocks it. A reader that dies leaves nothing; of a writer that dies while it may have been
/// changing the data, the next writer is told with [`Locked::OwnerDied`] and repairs, and readers get
/// [`LockError::NeedsRepair`] until then: what is half-changed is never read by mistake. All is seen within 50 ms, as
/// for [`Mutex`](crate::Mutex).
///
/// Who waits to write goes before readers that come later; but a thread that reads already may read once more by the
/// same segment. As many processes (attachments) as there are `READERS`, 1 to 128, can read at a time, with any number
/// of threads; others wait. 8 bytes, 8 for each of `READERS`, and the data.
///
/// ```
/// use memlane::{Options, RwLock, Segment, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Pose {
///     position: RwLock<[f64; 3]>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let pose = Segment::<Pose>::create(&name, (), &Options::new(), |_| ())?;
/// pose.position.write(&pose)?.or_repair(|_| ())[2] = 1.5;
///
/// // in another process
/// let viewer = Segment::<Pose>::open(&name)?;
/// assert_eq!(*viewer.position.read(&viewer)?, [0.0, 0.0, 1.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct RwLock<T: ?Sized, const READERS: usize = 16> {
    writer: AtomicU64,
    readers: [AtomicU64; READERS],
    /// Several threads read it at the same time: it is `Sync` only if `T` is.
    shared: PhantomData<T>,
    data: Data<T>,
}

/// The words of a lock, as a participant sees them: all that the algorithm knows of it.
#[derive(Clone, Copy)]
struct Words<'a> {
    writer: &'a AtomicU64,
    readers: &'a [AtomicU64],
    attachment: &'a Attachment,
}

/// Leaves the writer's word as it was found, but for who is in it: when a wait ends in an error, or in a panic of what
/// [`interrupt_waits`](crate::interrupt_waits) was given.
struct GivesUp<'a>(Words<'a>);

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        self.0.unlock(|seen| seen & DIRTY);
    }
}

/// What the writer's word says to a reader.
enum Look {
    Open,
    /// A living writer has it, or is to have it: the word.
    Shut(u64),
    HalfChanged,
}

impl<'a> Words<'a> {
    /// Looks whether the lock can be used; names it in what can go wrong.
    fn begin(self, timeout: Option<Duration>) -> Result<Waiter<'a>, LockError> {
        let offset = self.attachment.offset_of(self.writer)?;
        self.attachment.check()?;
        Ok(Waiter::new(self.attachment, offset, timeout))
    }

    fn look(self) -> Look {
        loop {
            // ORDERING: Acquire pairs with the Release by which the last writer left: what it wrote is seen; and with
            // that by which a writer came into the word: it is in the table too.
            let seen = self.writer.load(Ordering::Acquire);
            let owner = OwnerId::in_word(seen);
            let is_shut = !owner.is_nobody() && seen & (WRITING | DRAINING) != 0;
            if is_shut && !self.attachment.is_dead(owner) {
                return Look::Shut(seen);
            }
            // What is found dead may have gone on from draining to writing since the word was read.
            if is_shut && self.writer.load(Ordering::Relaxed) != seen {
                continue;
            }
            let half_changed = seen & DIRTY != 0 || is_shut && seen & WRITING != 0;
            return if half_changed { Look::HalfChanged } else { Look::Open };
        }
    }

    /// Comes in to read; says by which reader's word.
    fn read(self, timeout: Option<Duration>) -> Result<usize, LockError> {
        let mut waiter = self.begin(timeout)?;
        loop {
            waiter.spin(self.writer, |word| OwnerId::in_word(word).is_nobody() || word & (WRITING | DRAINING) == 0);
            match self.look() {
                Look::Open => {}
                Look::HalfChanged => return Err(waiter.needs_repair()),
                Look::Shut(seen) => match self.join_again() {
                    Some(index) => return Ok(index),
                    None if self.reads() => return Err(waiter.already_locked()),
                    None => {
                        waiter.sleep(self.writer, seen)?;
                        continue;
                    }
                },
            }
            let Some(index) = self.join() else {
                let word = &self.readers[self.first()];
                // ORDERING: Acquire, as in `drain`.
                let seen = word.load(Ordering::Acquire);
                if !self.is_free(seen) {
                    waiter.sleep(word, seen)?;
                }
                continue;
            };
            // The fence pairs with the one in `drain`: a writer that is not seen here sees this reader.
            prim::fence_after_exchange();
            if let Look::Open = self.look() {
                hold(self.attachment.place_of(&self.readers[index]));
                return Ok(index);
            }
            self.leave(index);
        }
    }

    /// Where this participant begins to look for a word.
    fn first(self) -> usize {
        self.attachment.me().slot().unwrap_or(0) % self.readers.len()
    }

    /// Whether a reader's word names nobody who lives.
    fn is_free(self, word: u64) -> bool {
        let owner = OwnerId::in_word(word);
        owner.is_nobody() || self.attachment.is_dead(owner)
    }

    /// Counts one more reader in a word; says in which one, if there is one.
    fn join(self) -> Option<usize> {
        let (first, count, me) = (self.first(), self.readers.len(), self.attachment.me());
        let mut near = (first..count).chain(0..first);
        let mut far = near.clone();
        near.find(|index| self.join_in(*index, |owner| owner == me || owner.is_nobody()))
            .or_else(|| far.find(|index| self.join_in(*index, |owner| self.attachment.is_dead(owner))))
    }

    /// Counts one more reader in the word at `index`, if that is free for this participant, as `is_free` says of its
    /// owner.
    fn join_in(self, index: usize, is_free: impl Fn(OwnerId) -> bool) -> bool {
        let (word, me) = (&self.readers[index], self.attachment.me());
        loop {
            // ORDERING: Acquire, as in `drain`.
            let seen = word.load(Ordering::Acquire);
            let owner = OwnerId::in_word(seen);
            if !is_free(owner) {
                return false;
            }
            let Some(new) = (if owner == me { one_more(seen) } else { Some(me.word() | seen & WAITERS | HOLD) }) else {
                return false;
            };
            // ORDERING: Release: whoever finds this owner in the word finds its slot in the table taken.
            if word.compare_exchange(seen, new, Ordering::Release, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Counts one more guard of this thread, if it reads already, in the word by which it does: a writer waits for that
    /// one.
    fn join_again(self) -> Option<usize> {
        let index = self.readers.iter().position(|word| {
            let place = self.attachment.place_of(word);
            is_held(place) && change(word, self.attachment.me(), Ordering::Relaxed, 0, one_more)
        })?;
        hold(self.attachment.place_of(&self.readers[index]));
        Some(index)
    }

    /// Counts one reader less in the word at `index`.
    fn leave(self, index: usize) {
        let less = |seen| Some(if seen & HOLDS > HOLD { seen - HOLD } else { 0 });
        // ORDERING: Release pairs with the Acquire of the writer that waits for it.
        change(&self.readers[index], self.attachment.me(), Ordering::Release, ALL, less);
    }

    /// Whether this thread reads, by any attachment: then no writer can come in before it has left.
    fn reads(self) -> bool {
        self.readers.iter().any(|word| {
            let owner = OwnerId::in_word(word.load(Ordering::Relaxed));
            let may_read = !owner.is_nobody() && is_held(self.attachment.place_of_held(word, owner));
            // Whoever forgets a guard holds the lock until its attachment closes.
            may_read && !self.attachment.is_dead(owner)
        })
    }

    /// Comes into the writer's word, and says whether the data is complete.
    fn claim(self, waiter: &mut Waiter<'_>, claim: Claim) -> Result<bool, LockError> {
        if self.reads() {
            return Err(waiter.already_locked());
        }
        let clean = waiter.take(self.writer, claim)?;
        hold(self.attachment.place_of(self.writer));
        Ok(clean)
    }

    /// Comes in to write; says whether the data is complete.
    fn write(self, timeout: Option<Duration>) -> Result<bool, LockError> {
        let mut waiter = self.begin(timeout)?;
        let clean = self.claim(&mut waiter, WRITER)?;
        let gives_up = GivesUp(self);
        self.drain(&mut waiter)?;
        std::mem::forget(gives_up);
        Ok(clean)
    }

    /// Comes in to read, as the one who may come to write.
    fn read_upgradable(self, timeout: Option<Duration>) -> Result<(), LockError> {
        let mut waiter = self.begin(timeout)?;
        if self.claim(&mut waiter, UPGRADABLE)? {
            return Ok(());
        }
        self.unlock(|seen| seen & DIRTY);
        Err(waiter.needs_repair())
    }

    /// From reading, as the one who may, to writing; it goes on reading if that cannot be.
    fn upgrade(self, timeout: Option<Duration>) -> Result<(), LockError> {
        let mut waiter = self.begin(timeout)?;
        self.change_mode(|seen| seen | DRAINING);
        self.drain(&mut waiter).inspect_err(|_| self.change_mode(|seen| seen & !(DRAINING | WAITERS)))
    }

    /// Waits until those have left who read when it came into the writer's word.
    fn drain(self, waiter: &mut Waiter<'_>) -> Result<(), LockError> {
        // The fence pairs with the one in `read`: a reader that does not see this writer is seen here.
        prim::fence_after_exchange();
        for word in self.readers {
            waiter.spin(word, |word| OwnerId::in_word(word).is_nobody());
            loop {
                // ORDERING: Acquire pairs with the Release by which the last reader left, so that what it has read it
                // has read before; and with that by which a reader came into the word: it is in the table too.
                let seen = word.load(Ordering::Acquire);
                if self.is_free(seen) {
                    break;
                }
                waiter.sleep(word, seen)?;
            }
        }
        self.change_mode(|seen| seen & !DRAINING | WRITING);
        Ok(())
    }

    /// Changes what this participant, who is in the writer's word, does there.
    fn change_mode(self, new: impl Fn(u64) -> u64) {
        // Relaxed: what is to be ordered is by the fences, or was when it came into the word.
        change(self.writer, self.attachment.me(), Ordering::Relaxed, ALL, |seen| Some(new(seen)));
    }

    /// Leaves the writer's word as `left` says.
    fn unlock(self, left: impl Fn(u64) -> u64) {
        let_go(self.attachment.place_of(self.writer));
        // The child of a fork holds nothing: the lock is its parent's.
        if !self.attachment.is_forked() {
            // ORDERING: Release pairs with the Acquire of whoever comes next.
            change(self.writer, self.attachment.me(), Ordering::Release, ALL, |seen| Some(left(seen)));
        }
    }

    /// From the writer's word to a reader's; says to which. If none is free it stays, and lets readers in.
    fn downgrade(self) -> Option<usize> {
        // The child of a fork holds nothing, and changes nothing.
        let index = if self.attachment.is_forked() { return None } else { self.join() };
        match index {
            Some(index) => {
                hold(self.attachment.place_of(&self.readers[index]));
                self.unlock(|_| 0);
            }
            None => {
                let reads = |seen| Some(seen & !(DRAINING | WRITING | DIRTY | WAITERS));
                // ORDERING: Release pairs with the Acquire of readers, which see what was written.
                change(self.writer, self.attachment.me(), Ordering::Release, ALL, reads);
            }
        }
        index
    }
}

/// A reader's word with one hold more, if it can count that.
fn one_more(word: u64) -> Option<u64> {
    (word & HOLDS != HOLDS).then(|| word + HOLD)
}

impl<T: ?Sized, const READERS: usize> RwLock<T, READERS> {
    /// Takes the lock to read, waiting until a writer that has it or waits for it gives it back or dies, or, if all
    /// `READERS` words are taken by other processes, until a reader does. `by` is the segment or region that it lies
    /// in.
    ///
    /// # Errors
    ///
    /// [`LockError::NeedsRepair`] if a writer died while it changed the data, or gave it back half-changed, and nobody
    /// has repaired it since; [`LockError::AlreadyLocked`] if this thread writes, or would wait for a writer that waits
    /// for it, which it reads for by another attachment; [`LockError::Retired`] if the object was removed by force,
    /// also while waiting, [`LockError::Forked`], [`LockError::NotInSegment`], [`LockError::Interrupted`].
    pub fn read<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<RwLockReadGuard<'a, T>, LockError> {
        self.read_within(by, None)
    }

    /// Takes the lock to read if nothing is to be waited for.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with who is in the way, and those of [`read`](Self::read).
    pub fn try_read<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<RwLockReadGuard<'a, T>, LockError> {
        self.read_within(by, Some(Duration::ZERO))
    }

    /// Takes the lock to read, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with who is in the way and any deadlock that can be seen, and those of
    /// [`read`](Self::read).
    pub fn read_timeout<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'a, T>, LockError> {
        self.read_within(by, Some(timeout))
    }

    /// Takes the lock to write, waiting until those who have it give it back or die.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyLocked`] if this thread writes or reads, [`LockError::Retired`] if the object was removed by
    /// force, also while waiting, [`LockError::Forked`], [`LockError::NotInSegment`], [`LockError::Interrupted`].
    pub fn write<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Locked<RwLockWriteGuard<'a, T>>, LockError> {
        self.write_within(by, None)
    }

    /// Takes the lock to write if nobody who lives has it.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with who is in the way, reader or writer, and those of [`write`](Self::write).
    pub fn try_write<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
    ) -> Result<Locked<RwLockWriteGuard<'a, T>>, LockError> {
        self.write_within(by, Some(Duration::ZERO))
    }

    /// Takes the lock to write, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with who is in the way, reader or writer, and any deadlock that can be seen, and those
    /// of [`write`](Self::write).
    pub fn write_timeout<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Duration,
    ) -> Result<Locked<RwLockWriteGuard<'a, T>>, LockError> {
        self.write_within(by, Some(timeout))
    }

    /// Takes the lock to read, and perhaps to write later: one at a time can, and no writer comes between. Other
    /// readers come and go.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), and [`LockError::NeedsRepair`] as of [`read`](Self::read).
    pub fn read_upgradable<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
    ) -> Result<RwLockUpgradableGuard<'a, T>, LockError> {
        self.read_upgradable_within(by, None)
    }

    /// The same, waiting at most for `timeout`; not at all if that is zero.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with who is in the way, and those of [`read_upgradable`](Self::read_upgradable).
    pub fn read_upgradable_timeout<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Duration,
    ) -> Result<RwLockUpgradableGuard<'a, T>, LockError> {
        self.read_upgradable_within(by, Some(timeout))
    }

    /// What it guards, without locking: `&mut self` says that nobody else can see it yet.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    fn words<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Words<'a> {
        const { assert!(READERS > 0 && READERS <= PARTICIPANTS, "a RwLock has words for 1 to 128 readers") };
        Words { writer: &self.writer, readers: &self.readers, attachment: by.region().attachment() }
    }

    #[inline]
    fn read_within<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<RwLockReadGuard<'a, T>, LockError> {
        let words = self.words(by);
        let index = Some(words.read(timeout)?);
        Ok(RwLockReadGuard { words, index, data: &self.data, thread: PhantomData })
    }

    fn write_within<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<Locked<RwLockWriteGuard<'a, T>>, LockError> {
        let words = self.words(by);
        let clean = words.write(timeout)?;
        Ok(Locked::new(RwLockWriteGuard::new(words, &self.data, clean), clean))
    }

    fn read_upgradable_within<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<RwLockUpgradableGuard<'a, T>, LockError> {
        let words = self.words(by);
        words.read_upgradable(timeout)?;
        Ok(RwLockUpgradableGuard { words, data: &self.data, thread: PhantomData })
    }
}

impl<T, const READERS: usize> RwLock<T, READERS> {
    /// An unlocked lock that guards `data`.
    pub const fn new(data: T) -> Self {
        let readers = [const { AtomicU64::new(0) }; READERS];
        Self { writer: AtomicU64::new(0), readers, shared: PhantomData, data: Data::new(data) }
    }
}

impl<T: ?Sized, const READERS: usize> fmt::Debug for RwLock<T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.writer.load(Ordering::Relaxed);
        let writer = !OwnerId::in_word(word).is_nobody();
        let is_taken = |word: &&AtomicU64| !OwnerId::in_word(word.load(Ordering::Relaxed)).is_nobody();
        let readers = self.readers.iter().filter(is_taken).count();
        let mut shown = f.debug_struct("RwLock");
        shown.field("writer", &writer).field("readers", &readers).field("dirty", &(word & DIRTY != 0));
        shown.finish_non_exhaustive()
    }
}

/// A [`RwLock`] that is held to read. Dropping it gives it back. It stays with the thread that locked.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    words: Words<'a>,
    /// The reader's word that counts it; `None`: it is in the writer's word.
    index: Option<usize>,
    pub(super) data: &'a Data<T>,
    /// Not `Send`: a thread knows which locks it holds.
    thread: PhantomData<*const ()>,
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(index) = self.index else { return self.words.unlock(|seen| seen & DIRTY) };
        let_go(self.words.attachment.place_of(&self.words.readers[index]));
        if !self.words.attachment.is_forked() {
            self.words.leave(index);
        }
    }
}

/// A [`RwLock`] that is held to read, by the one who may come to write. Dropping it gives it back. It stays with the
/// thread that locked.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockUpgradableGuard<'a, T: ?Sized> {
    words: Words<'a>,
    pub(super) data: &'a Data<T>,
    /// Not `Send`: a thread knows which locks it holds.
    thread: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> RwLockUpgradableGuard<'a, T> {
    /// Waits until the other readers have given the lock back, or died, and may write from then on. No writer has come
    /// between: what was read is so still.
    ///
    /// # Errors
    ///
    /// What [`RwLock::write`] says, [`LockError::AlreadyLocked`] also if this thread has another guard to read; with
    /// this guard, which reads on.
    pub fn upgrade(self) -> Result<RwLockWriteGuard<'a, T>, NotUpgraded<'a, T>> {
        self.upgrade_within(None)
    }

    /// The same, waiting at most for `timeout`; not at all if that is zero.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with the reader that is in the way, and those of [`upgrade`](Self::upgrade).
    pub fn upgrade_timeout(self, timeout: Duration) -> Result<RwLockWriteGuard<'a, T>, NotUpgraded<'a, T>> {
        self.upgrade_within(Some(timeout))
    }

    /// Goes on as one reader of many, and lets another one be that which may come to write.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let (words, data) = self.into_parts();
        RwLockReadGuard { words, index: words.downgrade(), data, thread: PhantomData }
    }

    fn upgrade_within(self, timeout: Option<Duration>) -> Result<RwLockWriteGuard<'a, T>, NotUpgraded<'a, T>> {
        match self.words.upgrade(timeout) {
            Ok(()) => {
                let (words, data) = self.into_parts();
                Ok(RwLockWriteGuard::new(words, data, true))
            }
            Err(error) => Err(NotUpgraded(Box::new((error, self)))),
        }
    }

    /// What it is made of, without giving the lock back.
    fn into_parts(self) -> (Words<'a>, &'a Data<T>) {
        let guard = std::mem::ManuallyDrop::new(self);
        (guard.words, guard.data)
    }
}

impl<T: ?Sized> Drop for RwLockUpgradableGuard<'_, T> {
    fn drop(&mut self) {
        self.words.unlock(|seen| seen & DIRTY);
    }
}

/// A lock that could not be upgraded, and why. It is held to read as before.
pub struct NotUpgraded<'a, T: ?Sized>(Box<(LockError, RwLockUpgradableGuard<'a, T>)>);

impl<'a, T: ?Sized> NotUpgraded<'a, T> {
    /// Why not.
    #[must_use]
    pub fn error(&self) -> &LockError {
        &self.0.0
    }

    /// The guard, as it was.
    pub fn into_guard(self) -> RwLockUpgradableGuard<'a, T> {
        self.0.1
    }
}

impl<'a, T: ?Sized> From<NotUpgraded<'a, T>> for LockError {
    /// Gives the lock back.
    fn from(not: NotUpgraded<'a, T>) -> Self {
        not.0.0
    }
}

impl<T: ?Sized> fmt::Debug for NotUpgraded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotUpgraded").field(self.error()).finish()
    }
}

impl<T: ?Sized> fmt::Display for NotUpgraded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl<T: ?Sized> std::error::Error for NotUpgraded<'_, T> {}

/// A [`RwLock`] that is held to write: nobody else has it.
///
/// Dropping it unlocks. Dropped while a panic unwinds, it leaves the lock marked as if its holder had died. It stays
/// with the thread that locked.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    words: Words<'a>,
    pub(super) data: &'a Data<T>,
    /// Whether a panic was unwinding already when the lock was taken: then it says nothing about the data.
    panicking: bool,
    /// Whether the data is known to be complete.
    consistent: bool,
    /// Not `Send`: a thread knows which locks it holds.
    thread: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    fn new(words: Words<'a>, data: &'a Data<T>, consistent: bool) -> Self {
        Self { words, data, panicking: std::thread::panicking(), consistent, thread: PhantomData }
    }

    /// Goes on reading, and lets other readers in; no writer comes between. It says that the data is complete.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let guard = std::mem::ManuallyDrop::new(self);
        RwLockReadGuard { words: guard.words, index: guard.words.downgrade(), data: guard.data, thread: PhantomData }
    }

    /// Gives the lock back as if its holder had died: the next one to write repairs. For who has begun to change the
    /// data and cannot complete that.
    pub fn abandon(mut self) {
        self.consistent = false;
    }
}

impl<T: ?Sized> Guard for RwLockWriteGuard<'_, T> {
    fn declare_consistent(&mut self) {
        self.consistent = true;
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let complete = self.consistent && (self.panicking || !std::thread::panicking());
        self.words.unlock(|_| if complete { 0 } else { DIRTY });
    }
}

/// What the writer's word and the readers' words say.
pub(super) fn look(writer: u64, readers: impl Iterator<Item = u64>) -> Looked {
    let owner = OwnerId::in_word(writer);
    let (state, role) = match (writer & WRITING != 0, writer & DRAINING != 0) {
        _ if owner.is_nobody() => ("free", ""),
        (true, _) => ("being written", "writes"),
        (false, true) => ("about to be written", "waits for readers"),
        (false, false) => ("being read", "reads, and may write next"),
    };
    let readers: Vec<_> =
        readers.map(OwnerId::in_word).filter(|owner| !owner.is_nobody()).map(|owner| (owner, "reads")).collect();
    let state = if state == "free" && !readers.is_empty() { "being read" } else { state };
    let holders = (!owner.is_nobody()).then_some((owner, role)).into_iter().chain(readers).collect();
    Looked { holders, needs_repair: writer & DIRTY != 0, ..Looked::new(state) }
}
