//! A 64-bit word that names its holder, so that whoever waits can see whether that one lives: what the locks are made
//! of.
//!
//! Word: generation (32 bits) | `WAITERS` | 15 bits of the lock's own | slot + 1 (16 bits). 0 in the lowest 16 bits
//! means that nobody holds it. A dead holder's word is taken over by exchanging exactly what it left. Method: the
//! robust futexes of Linux, with the kernel's list of held locks replaced by a lock byte per participant.

use super::{Slices, spin};
use crate::error::{LockError, Who};
use crate::owner::{OwnerId, PARTICIPANTS, Sleep};
use crate::prim::{self, AtomicU64, Ordering};
use crate::region::Attachment;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// Somebody sleeps on the word, or did: whoever takes the mark away wakes.
pub(super) const WAITERS: u64 = 1 << 31;
/// A holder died or panicked, and nobody has declared the data complete since.
pub(super) const DIRTY: u64 = 1 << 30;

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

/// This thread holds the lock at `place`, once more if it did already.
#[inline]
pub(super) fn hold(place: u64) {
    if !exchange(0, place) {
        hold_more(place);
    }
}

#[cold]
fn hold_more(place: u64) {
    MORE.with_borrow_mut(|held| held.push(place));
}

pub(super) fn is_held(place: u64) -> bool {
    HELD.with(|held| held.iter().any(|slot| slot.get() == place)) || MORE.with_borrow(|held| held.contains(&place))
}

/// This thread holds the lock at `place` once less.
#[inline]
pub(super) fn let_go(place: u64) {
    if !exchange(place, 0) {
        let_go_of_more(place);
    }
}

#[cold]
fn let_go_of_more(place: u64) {
    MORE.with_borrow_mut(|held| {
        if let Some(index) = held.iter().position(|other| *other == place) {
            held.swap_remove(index);
        }
        if held.is_empty() {
            **held = Vec::new();
        }
    });
}

/// How a word is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// What it says beside the owner.
    pub(super) mode: u64,
    /// What it says, all of it, while its holder may be changing the data: dying then leaves [`DIRTY`].
    pub(super) changing: u64,
}

impl Claim {
    /// Of a lock whose holder may change the data all the time.
    pub(super) const HOLDING: Self = Self { mode: 0, changing: 0 };
}

/// What one attempt to take a word came to.
enum Attempt {
    Taken { clean: bool },
    Held { word: u64 },
}

/// Takes `word` if it is free or its holder is dead; never sleeps.
fn attempt(word: &AtomicU64, me: OwnerId, claim: Claim, waiters: u64, is_dead: impl Fn(OwnerId) -> bool) -> Attempt {
    loop {
        // ORDERING: Acquire pairs with the Release by which that owner came into the word: it is in the table too.
        let seen = word.load(Ordering::Acquire);
        let owner = OwnerId::in_word(seen);
        let kept = if owner.is_nobody() {
            (seen & (WAITERS | DIRTY)) | waiters
        } else if is_dead(owner) {
            let died_changing = seen & claim.changing == claim.changing;
            WAITERS | if died_changing { DIRTY } else { seen & DIRTY }
        } else {
            return Attempt::Held { word: seen };
        };
        let new = me.word() | claim.mode | kept;
        // ORDERING: Acquire pairs with the Release of `change`, by which the last holder left. A holder that died
        // released nothing, but the system that reported its death orders all it did before. Release: whoever finds
        // this owner in the word finds its slot in the table taken, and does not think it dead.
        if word.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Attempt::Taken { clean: kept & DIRTY == 0 };
        }
    }
}

/// Makes `new` of `word`, if it is still `me` who holds it and there is a new one; says whether. If that takes
/// [`WAITERS`] away, it wakes up to `count` of those who sleep.
pub(super) fn change(
    word: &AtomicU64,
    me: OwnerId,
    order: Ordering,
    count: u32,
    new: impl Fn(u64) -> Option<u64>,
) -> bool {
    loop {
        let seen = word.load(Ordering::Relaxed);
        let Some(new) = new(seen).filter(|_| OwnerId::in_word(seen) == me) else { return false };
        if word.compare_exchange(seen, new, order, Ordering::Relaxed).is_ok() {
            if seen & !new & WAITERS != 0 {
                prim::wake_low(word, count);
            }
            return true;
        }
    }
}

/// One wait for a lock, over all its sleeps, on whichever of its words.
pub(super) struct Waiter<'a> {
    attachment: &'a Attachment,
    /// Where the lock lies, by which it is named.
    offset: usize,
    timeout: Option<Duration>,
    /// Since the first sleep was to begin: the times left, who was in the way then or since, and from when on.
    begun: Option<(Slices, OwnerId, Instant)>,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(attachment: &'a Attachment, offset: usize, timeout: Option<Duration>) -> Self {
        Self { attachment, offset, timeout, begun: None }
    }

    /// Spins, unless nothing is to be waited for, until `word` is as `is_free` says; for a short time.
    pub(super) fn spin(&self, word: &AtomicU64, is_free: fn(u64) -> bool) {
        let is_free = || is_free(word.load(Ordering::Relaxed)).then_some(());
        if self.timeout != Some(Duration::ZERO) && is_free().is_none() {
            spin(is_free);
        }
    }

    /// Takes `word`; says whether the data is complete.
    pub(super) fn take(&mut self, word: &AtomicU64, claim: Claim) -> Result<bool, LockError> {
        let attachment = self.attachment;
        self.spin(word, |word| OwnerId::in_word(word).is_nobody());
        let mut waiters = 0;
        loop {
            match attempt(word, attachment.me(), claim, waiters, |owner| attachment.is_dead(owner)) {
                Attempt::Taken { clean } => return Ok(clean),
                Attempt::Held { word: seen } if self.sleep(word, seen)? => waiters = WAITERS,
                Attempt::Held { .. } => {}
            }
        }
    }

    /// Sleeps for a slice while `word` is what was `seen` in it, which names somebody who lives; says whether it slept,
    /// or the word had changed.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyLocked`] if this thread is in the way itself, [`LockError::TimedOut`], with the one who is,
    /// [`LockError::Retired`], [`LockError::Interrupted`].
    pub(super) fn sleep(&mut self, word: &AtomicU64, seen: u64) -> Result<bool, LockError> {
        let attachment = self.attachment;
        let owner = OwnerId::in_word(seen);
        if is_held(attachment.place_of_held(word, owner)) {
            return Err(self.already_locked());
        }
        let timeout = self.timeout;
        let (slices, holder, since) =
            self.begun.get_or_insert_with(|| (Slices::new(timeout), OwnerId::NOBODY, Instant::now()));
        if owner != *holder {
            (*holder, *since) = (owner, Instant::now());
        }
        let Some(slice) = slices.next() else {
            return Err(LockError::TimedOut {
                object: attachment.name(),
                lock: attachment.lock_at(self.offset),
                waited: slices.waited(),
                held_for: since.elapsed(),
                holder: attachment.table().who(owner),
                cycle: cycle(attachment, owner),
            });
        };
        let awaited = seen | WAITERS;
        if seen != awaited && word.compare_exchange(seen, awaited, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Ok(false);
        }
        attachment.set_sleep(Some(Sleep::Lock(attachment.offset_of(word)? as u64)));
        prim::wait_low(word, awaited as u32, slice);
        attachment.set_sleep(None);
        slices.grow();
        attachment.check_awake()?;
        Ok(true)
    }

    /// This thread is in its own way.
    pub(super) fn already_locked(&self) -> LockError {
        LockError::AlreadyLocked { object: self.attachment.name(), lock: self.attachment.lock_at(self.offset) }
    }

    /// The data is half-changed, and this was not to write.
    pub(super) fn needs_repair(&self) -> LockError {
        LockError::NeedsRepair { object: self.attachment.name(), lock: self.attachment.lock_at(self.offset) }
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
