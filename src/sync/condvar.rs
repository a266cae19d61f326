//! A condition in one 32-bit word: an eventcount, with no count of waiters that a death could falsify.
//!
//! Word: sequence number << 1 | "somebody sleeps". Waiting is: read the sequence under the mutex, unlock, sleep while
//! it stays the same, lock. Notifying is: next sequence, wake.

use super::guard::{Locked, MutexGuard};
use super::{Slices, spin};
use crate::error::{LockError, WaitError, Who};
use crate::owner::{OwnerId, Sleep};
use crate::prim::{self, AtomicU32, Ordering};
use crate::region::Attachment;
use std::time::Duration;

/// Somebody sleeps on the word, or did.
const SLEEPERS: u32 = 1;

/// When a wait is to end even if nothing was notified.
///
/// ```
/// use memlane::{OwnerId, Until};
/// use std::time::Duration;
///
/// let whoever = OwnerId::NOBODY;
/// let until = Until::timeout(Duration::from_secs(5)).or_peer_lost(whoever);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    timeout: Option<Duration>,
    peer: Option<OwnerId>,
}

impl Until {
    /// Never, unless more is said: only for conditions that somebody is sure to notify.
    #[must_use]
    pub fn forever() -> Self {
        Self { timeout: None, peer: None }
    }

    /// When this much time has passed on the monotonic clock.
    #[must_use]
    pub fn timeout(timeout: Duration) -> Self {
        Self { timeout: Some(timeout), peer: None }
    }

    /// Also when `peer`, who was to make the condition true, is dead or has closed the object.
    /// [`OwnerId::NOBODY`] stands for no peer.
    #[must_use]
    pub fn or_peer_lost(mut self, peer: OwnerId) -> Self {
        self.peer = (!peer.is_nobody()).then_some(peer);
        self
    }
}

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    Notified,
    TimedOut,
    PeerLost,
}

/// A condition that processes wait for and notify, beside a [`Mutex`](crate::Mutex). 4 bytes; zeroed, it is ready.
///
/// A waiter or a notifier that is killed leaves nothing behind. A condition has no owner whose death could be seen:
/// when one process alone can make it true, name it with [`Until::or_peer_lost`]. And when it depends on who is there,
/// whoever comes notifies: also for what a predecessor that died had made true and not told.
#[derive(Debug)]
#[repr(transparent)]
pub struct Condvar {
    word: AtomicU32,
}

impl Condvar {
    /// Gives the lock back, sleeps until somebody notifies, and takes the lock again. May also return for no reason.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] or [`WaitError::PeerLost`] as `until` says, [`WaitError::Lock`] if the object was
    /// retired, this process is a fork, or the condition does not lie in the object. The lock is not held then.
    pub fn wait<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Until,
    ) -> Result<Locked<MutexGuard<'a, T>>, WaitError> {
        let mut sleeper = Sleeper::new(guard.attachment, until);
        match self.sleep(guard, &mut sleeper)? {
            (locked, Woken::Notified) => Ok(locked),
            (_, woken) => Err(sleeper.error(woken)),
        }
    }

    /// Waits as long as `condition` holds of what the lock guards. It is looked at only under the lock, and once more
    /// before giving up, unless somebody else holds the lock when the time is over.
    ///
    /// If the lock's holder dies meanwhile, [`Locked::OwnerDied`] is returned without looking at the condition:
    /// repair, and look yourself.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        until: Until,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<Locked<MutexGuard<'a, T>>, WaitError> {
        let mut sleeper = Sleeper::new(guard.attachment, until);
        while condition(&mut guard) {
            let (locked, woken) = self.sleep(guard, &mut sleeper)?;
            guard = match locked {
                Locked::Clean(guard) => guard,
                died => return Ok(died),
            };
            if woken != Woken::Notified && condition(&mut guard) {
                return Err(sleeper.error(woken));
            }
        }
        Ok(Locked::Clean(guard))
    }

    /// Wakes one of those who wait, if there are any. Unlock first: whoever is woken takes the lock, and would have to
    /// wait for that as well.
    pub fn notify_one(&self) {
        // The mark stays: others may sleep on.
        let before = self.advance(SLEEPERS);
        if before & SLEEPERS != 0 && prim::wake(&self.word, 1) == 0 {
            // Nobody slept: the next notifier need not try. Somebody who has found the mark since and gone to sleep
            // on it is woken to set it again.
            let now = (before | SLEEPERS).wrapping_add(2);
            if self.word.compare_exchange(now, now & !SLEEPERS, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                prim::wake(&self.word, u32::MAX);
            }
        }
    }

    /// Wakes all who wait. Unlock first, as for [`notify_one`](Self::notify_one).
    pub fn notify_all(&self) {
        if self.advance(0) & SLEEPERS != 0 {
            prim::wake(&self.word, u32::MAX);
        }
    }

    /// Goes on to the next sequence number and keeps `mark` of the mark; returns the word before.
    fn advance(&self, mark: u32) -> u32 {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let next = (seen & !SLEEPERS).wrapping_add(2) | (seen & mark);
            // ORDERING: Release pairs with the Acquire load in `sleep`: what was written before the notification is
            // seen by those it wakes, also without the mutex.
            match self.word.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return seen,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives the lock back, sleeps until the sequence number changes, the time is over or the peer is gone, and takes
    /// the lock again.
    fn sleep<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        sleeper: &mut Sleeper<'a>,
    ) -> Result<(Locked<MutexGuard<'a, T>>, Woken), WaitError> {
        let (mutex, attachment) = (guard.mutex, guard.attachment);
        let offset = attachment.offset_of(&self.word)? as u64;
        // Nothing is read because of this number; the mutex orders it after every notification the caller knows of.
        let sequence = self.word.load(Ordering::Relaxed) & !SLEEPERS;
        // ORDERING: Acquire pairs with the Release in `advance`.
        let notified = || (self.word.load(Ordering::Acquire) & !SLEEPERS != sequence).then_some(Woken::Notified);
        guard.unlock();
        let mut woken = spin(notified);
        while woken.is_none() {
            let Some(slice) = sleeper.slices.next() else {
                woken = Some(if sleeper.is_peer_lost() { Woken::PeerLost } else { Woken::TimedOut });
                break;
            };
            let marked = sequence | SLEEPERS;
            let mark = self.word.compare_exchange(sequence, marked, Ordering::Relaxed, Ordering::Relaxed);
            if mark.is_ok() || mark == Err(marked) {
                attachment.set_sleep(Some(Sleep::Condition(offset)));
                prim::wait(&self.word, marked, slice);
                attachment.set_sleep(None);
                sleeper.slices.grow();
            }
            woken = notified();
            if woken.is_none() {
                attachment.check_awake()?;
                woken = sleeper.is_peer_lost().then_some(Woken::PeerLost);
            }
        }
        let woken = woken.unwrap_or(Woken::Notified);
        match mutex.acquire(attachment, sleeper.slices.left()) {
            Ok(locked) => Ok((locked, woken)),
            Err(LockError::TimedOut { holder, .. }) => {
                sleeper.holder = holder;
                Err(sleeper.error(if woken == Woken::PeerLost { woken } else { Woken::TimedOut }))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// One wait, over all its sleeps.
pub(super) struct Sleeper<'a> {
    pub(super) attachment: &'a Attachment,
    until: Until,
    pub(super) slices: Slices,
    /// Who held the lock, or has not arrived, when the time was over.
    pub(super) holder: Option<Who>,
}

impl<'a> Sleeper<'a> {
    pub(super) fn new(attachment: &'a Attachment, until: Until) -> Self {
        Self { attachment, until, slices: Slices::new(until.timeout), holder: None }
    }

    pub(super) fn is_peer_lost(&self) -> bool {
        self.until.peer.is_some_and(|peer| self.attachment.is_dead(peer))
    }

    #[cold]
    pub(super) fn error(&mut self, woken: Woken) -> WaitError {
        let object = self.attachment.name();
        let peer = self.until.peer.and_then(|peer| self.attachment.table().who(peer));
        match woken {
            Woken::PeerLost => WaitError::PeerLost { object, peer },
            _ => WaitError::TimedOut { object, waited: self.slices.waited(), peer: self.holder.take().or(peer) },
        }
    }
}
