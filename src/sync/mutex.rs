//! A mutex in one 64-bit word that names its holder, so that whoever waits can see whether that one lives.
//!
//! Word: generation (32 bits) | `WAITERS` | `DIRTY` | 14 unused bits | slot + 1 (16 bits). 0 in the lowest 16 bits
//! means unlocked. A dead holder's word is taken over by exchanging exactly what it left. Method: the robust futexes
//! of Linux, with the kernel's list of held locks replaced by a lock byte per participant.

use super::guard::{Data, Locked, MutexGuard, OwnerDied};
use super::look::Looked;
use super::{Slices, spin};
use crate::error::{LockError, Who};
use crate::owner::{OwnerId, PARTICIPANTS, Sleep};
use crate::prim::{self, AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// Somebody sleeps on the word, or did: whoever unlocks wakes one.
const WAITERS: u64 = 1 << 31;
/// A holder died or panicked, and nobody has declared the data complete since.
const DIRTY: u64 = 1 << 30;

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

thread_local! {
    /// The locks this thread holds, by [`Attachment::place_of`]; 0 where there is none. Mostly they are few.
    static HELD: [Cell<u64>; 4] = const { [const { Cell::new(0) }; 4] };
    /// Those for which there was no room. Never destroyed, as other destructors of an ending thread may still lock;
    /// whoever gives the last one back frees it.
    static MORE: RefCell<ManuallyDrop<Vec<u64>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

/// Puts `new` where `old` is among those few; false if it is not.
#[inline]
fn exchange(old: u64, new: u64) -> bool {
    HELD.with(|held| held.iter().find(|slot| slot.get() == old).inspect(|slot| slot.set(new)).is_some())
}

#[inline]
fn hold(place: u64) {
    if !exchange(0, place) {
        hold_more(place);
    }
}

#[cold]
fn hold_more(place: u64) {
    MORE.with_borrow_mut(|held| held.push(place));
}

fn is_held(place: u64) -> bool {
    HELD.with(|held| held.iter().any(|slot| slot.get() == place)) || MORE.with_borrow(|held| held.contains(&place))
}

#[inline]
fn let_go(place: u64) {
    if !exchange(place, 0) {
        let_go_of_more(place);
    }
}

#[cold]
fn let_go_of_more(place: u64) {
    MORE.with_borrow_mut(|held| {
        held.retain(|other| *other != place);
        if held.is_empty() {
            **held = Vec::new();
        }
    });
}

/// What one attempt to take the lock came to.
enum Attempt {
    Taken { clean: bool },
    Held { word: u64 },
}

/// Takes `word` if it is free or its holder is dead; never sleeps.
fn attempt(word: &AtomicU64, me: OwnerId, waiters: u64, is_dead: impl Fn(OwnerId) -> bool) -> Attempt {
    loop {
        // ORDERING: Acquire pairs with the Release by which that owner came into the word: it is in the table too.
        let seen = word.load(Ordering::Acquire);
        let owner = OwnerId::in_word(seen);
        let (new, clean) = if owner.is_nobody() {
            (me.word() | (seen & (WAITERS | DIRTY)) | waiters, seen & DIRTY == 0)
        } else if is_dead(owner) {
            (me.word() | DIRTY | WAITERS, false)
        } else {
            return Attempt::Held { word: seen };
        };
        // ORDERING: Acquire pairs with the Release of `release`, by which the last holder left. A holder that died
        // released nothing, but the system that reported its death orders all it did before. Release: whoever finds this
        // owner in the word finds its slot in the table taken, and does not think it dead.
        if word.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Attempt::Taken { clean };
        }
    }
}

/// Leaves `word`, if it is still `me` who holds it; says whether somebody is to be woken.
fn release(word: &AtomicU64, me: OwnerId, complete: bool) -> bool {
    let left = if complete { 0 } else { DIRTY };
    loop {
        let seen = word.load(Ordering::Relaxed);
        if OwnerId::in_word(seen) != me {
            return false;
        }
        // ORDERING: Release pairs with the Acquire of whoever takes the lock next.
        if word.compare_exchange(seen, left, Ordering::Release, Ordering::Relaxed).is_ok() {
            return seen & WAITERS != 0;
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting until its holder gives it back or dies.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyLocked`] if this thread holds it, [`LockError::Retired`] if the object was removed by
    /// force, also while waiting, [`LockError::Forked`], [`LockError::NotInSegment`].
    #[inline]
    pub fn lock<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Locked<'a, T>, LockError> {
        self.acquire(by.region().attachment(), None)
    }

    /// Takes the lock if no living process holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with the holder, if one does, and those of [`lock`](Self::lock).
    #[inline]
    pub fn try_lock<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Locked<'a, T>, LockError> {
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
    ) -> Result<Locked<'a, T>, LockError> {
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
    ) -> Result<Locked<'a, T>, LockError> {
        let me = attachment.me().word();
        // ORDERING: as in `attempt`.
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
    ) -> Result<Locked<'a, T>, LockError> {
        let offset = attachment.offset_of(&self.word)?;
        attachment.check()?;
        let clean = self.contend(attachment, offset, timeout)?;
        hold(attachment.place_of(&self.word));
        let guard = MutexGuard::new(self, attachment, clean);
        Ok(if clean { Locked::Clean(guard) } else { Locked::OwnerDied(OwnerDied::new(guard)) })
    }

    /// Waits for the lock; says whether its data is complete.
    fn contend(&self, attachment: &Attachment, offset: usize, timeout: Option<Duration>) -> Result<bool, LockError> {
        let word = &self.word;
        let me = attachment.me();
        if timeout != Some(Duration::ZERO) {
            spin(|| OwnerId::in_word(word.load(Ordering::Relaxed)).is_nobody().then_some(()));
        }
        let mut slices = Slices::new(timeout);
        let mut holder = (OwnerId::NOBODY, Instant::now());
        let mut waiters = 0;
        loop {
            let seen = match attempt(word, me, waiters, |owner| attachment.is_dead(owner)) {
                Attempt::Taken { clean } => return Ok(clean),
                Attempt::Held { word } => word,
            };
            let owner = OwnerId::in_word(seen);
            if is_held(attachment.place_of_held(word, owner)) {
                return Err(LockError::AlreadyLocked { object: attachment.name(), lock: attachment.lock_at(offset) });
            }
            if owner != holder.0 {
                holder = (owner, Instant::now());
            }
            let Some(slice) = slices.next() else {
                return Err(LockError::TimedOut {
                    object: attachment.name(),
                    lock: attachment.lock_at(offset),
                    waited: slices.waited(),
                    held_for: holder.1.elapsed(),
                    holder: attachment.table().who(owner),
                    cycle: cycle(attachment, owner),
                });
            };
            let awaited = seen | WAITERS;
            if seen != awaited && word.compare_exchange(seen, awaited, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                continue;
            }
            attachment.set_sleep(Some(Sleep::Lock(offset as u64)));
            prim::wait_low(word, awaited as u32, slice);
            attachment.set_sleep(None);
            slices.grow();
            waiters = WAITERS;
            attachment.check_awake()?;
        }
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
        if !attachment.is_forked() && release(&self.word, attachment.me(), complete) {
            prim::wake_low(&self.word, 1);
        }
    }

    #[inline]
    pub(super) fn data(&self) -> &Data<T> {
        &self.data
    }
}

/// If `owner` waits for a lock whose holder waits for a lock ... that we hold: who they are, from `owner` on.
fn cycle(attachment: &Attachment, mut owner: OwnerId) -> Vec<Who> {
    let mut names = Vec::new();
    // More of them than there are participants: they wait for each other, or a peer goes on rewriting what it says.
    for _ in 0..PARTICIPANTS {
        if owner == attachment.me() {
            return names;
        }
        let Some(Sleep::Lock(offset)) = attachment.table().sleep(owner) else { break };
        let Some(word) = attachment.word_at(offset) else { break };
        names.extend(attachment.table().who(owner));
        owner = OwnerId::in_word(word);
    }
    Vec::new()
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
) -> Result<(Locked<'a, A>, Locked<'a, B>), LockError> {
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
