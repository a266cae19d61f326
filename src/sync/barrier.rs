//! A barrier whose parties are words that name them: whether all have arrived follows from the seats alone.
//!
//! State: broken (1 bit) | how often it was reset (15 bits) | the seat that broke it (8 bits) | phases passed (40
//! bits). A seat has arrived in state s if its arrival is the next state, s + 1, which is what the state becomes when
//! all have. So an arrival outlives whoever made it, and whoever looks can complete the phase.

use super::LONGEST_SLICE;
use super::condvar::{Sleeper, Until, Woken};
use super::eventcount::EventCount;
use super::look::Looked;
use super::mutex::Mutex;
use super::sleep::{Look, holders};
use crate::error::{LockError, WaitError, Who};
use crate::owner::OwnerId;
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::fmt;
use std::time::Duration;

/// Nobody passes until it is reset.
const BROKEN: u64 = 1 << 63;
/// One time that it was reset.
const RESET: u64 = 1 << 48;
const RESETS: u64 = BROKEN - RESET;
/// The seat that broke it.
const SEAT: u32 = 40;
const SEATS: u64 = RESET - (1 << SEAT);
const PHASES: u64 = (1 << SEAT) - 1;

/// In the word of a seat: its party has left, and the seat stays its own until the barrier is reset.
const LEFT: u64 = 1 << 16;

/// The state after `state` when all have arrived.
fn next(state: u64) -> u64 {
    state & !PHASES | state.wrapping_add(1) & PHASES
}

/// A place where `PARTIES` parties (1 to 255), of as many processes as there are, wait for each other: nobody goes on
/// before all have arrived. 24 bytes and 16 for each party; zeroed, all seats are free.
///
/// Each [joins](Self::join) and gets a [`Party`], to wait with. A death breaks it: of a party that has not arrived, all
/// who wait and all who come later are told who it was ([`WaitError::Broken`]), within 50 ms, until somebody
/// [resets](Self::reset) it. A phase at which the dead one has arrived is still passed by all. What a party has written
/// before it arrives is seen by all who pass.
///
/// ```
/// use memlane::{Barrier, Options, Segment, Shareable, Until};
/// use std::time::Duration;
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Solver {
///     step: Barrier<2>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let solver = Segment::<Solver>::create(&name, (), &Options::new(), |_| ())?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///             let mut party = solver.step.join(&solver)?;
///             let passed = party.wait(Until::timeout(Duration::from_secs(5)))?;
///             assert_eq!(passed.phase, 1);
///             Ok(())
///         });
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Barrier<const PARTIES: usize> {
    /// Notified when a phase is passed, or it is broken, or reset.
    changed: EventCount,
    _reserved: AtomicU32,
    state: AtomicU64,
    pub(super) resetting: Mutex<()>,
    seats: [Seat; PARTIES],
}

#[derive(Debug)]
#[repr(C)]
struct Seat {
    /// Whose it is, and whether that one has [`LEFT`].
    owner: AtomicU64,
    /// The state that its party has asked for last.
    arrival: AtomicU64,
}

impl Seat {
    /// Whose it is. To judge and to exchange it takes one look: in the next moment it may be another's.
    fn word(&self) -> u64 {
        // ORDERING: Acquire pairs with the exchange in `Barrier::join`: who is found here is found in the table too.
        self.owner.load(Ordering::Acquire)
    }

    fn owner(&self) -> OwnerId {
        OwnerId::in_word(self.word())
    }

    fn has_arrived(&self, state: u64) -> bool {
        // ORDERING: Acquire pairs with the Release in `Party::wait`: what was written before the arrival is seen.
        self.arrival.load(Ordering::Acquire) == next(state)
    }

    fn exchange(&self, old: u64, new: u64) -> bool {
        // ORDERING: Release pairs with the Acquire in `owner`; Acquire as the one who has it now goes on from what the
        // last one did.
        self.owner.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A phase that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// Its number, from 1, modulo 2^40: all who pass it together get the same.
    pub phase: u64,
    /// Whether this party has completed it, being the last to arrive: one is told so, or none, if that one has died.
    pub last: bool,
}

/// A seat at a barrier; dropping it leaves the barrier. One thread at a time waits with it.
///
/// Who leaves when nobody has arrived at the next phase leaves a free seat, for which the others wait until somebody
/// joins; who leaves in the middle of a phase breaks the barrier, as a death does.
pub struct Party<'a, const PARTIES: usize> {
    barrier: &'a Barrier<PARTIES>,
    attachment: &'a Attachment,
    seat: usize,
    /// The state in which it has arrived, if it does not know yet what came of that.
    arrived: Option<u64>,
}

impl<const PARTIES: usize> Barrier<PARTIES> {
    /// Takes a seat. Does not wait.
    ///
    /// # Errors
    ///
    /// [`LockError::NoneFree`], with those who have them, if all are taken: also by the dead, until somebody
    /// [resets](Self::reset) it; [`LockError::Retired`], [`LockError::Forked`], [`LockError::NotInSegment`].
    pub fn join<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Party<'a, PARTIES>, LockError> {
        let attachment = by.region().attachment();
        let offset = attachment.offset_of(&self.changed)?;
        attachment.check()?;
        const { assert!(PARTIES > 0 && PARTIES < 256, "a barrier has 1 to 255 parties") };
        let me = attachment.me().word();
        let take = |seat: &Seat| {
            let word = seat.owner.load(Ordering::Relaxed);
            OwnerId::in_word(word).is_nobody() && seat.exchange(word, me)
        };
        match self.seats.iter().position(take) {
            Some(seat) => Ok(Party { barrier: self, attachment, seat, arrived: None }),
            None => Err(LockError::NoneFree {
                object: attachment.name(),
                lock: attachment.lock_at(offset),
                of: "seat",
                waited: Duration::ZERO,
                holders: holders(attachment, self.seats.iter().map(Seat::owner)),
            }),
        }
    }

    /// Whether it is broken: nobody passes until it is reset.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state.load(Ordering::Relaxed) & BROKEN != 0
    }

    /// Mends a barrier that is broken, or whose seats the dead have: gives these seats back, and those of parties that
    /// left it broken, and forgets who has arrived. Parties that live keep their seats; those that still wait are told
    /// that it was broken. Says whether there was anything to mend; of several who do this, one is told so.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] if somebody else has been at it for 50 ms;
    /// [`LockError::Retired`], [`LockError::Forked`], [`LockError::NotInSegment`].
    pub fn reset(&self, by: &(impl Attached + ?Sized)) -> Result<bool, LockError> {
        let attachment = by.region().attachment();
        let is_dead = |word: u64| {
            let owner = OwnerId::in_word(word);
            !owner.is_nobody() && attachment.is_dead(owner)
        };
        // One at a time: a second one, late, would take the seats of those who died since for seats that are to be
        // mended.
        let _resetting = self.resetting.acquire(attachment, Some(LONGEST_SLICE))?.or_repair(|()| ());
        let state = loop {
            // ORDERING: Acquire pairs with the Release in `advance`: what had come of the phase is seen.
            let state = self.state.load(Ordering::Acquire);
            if state & BROKEN != 0 {
                break state;
            }
            let Some(dead) = self.seats.iter().position(|seat| is_dead(seat.word())) else { return Ok(false) };
            self.break_at(state, dead);
        };
        // Free before anybody waits again; until then it is broken, whoever dies here.
        for seat in &self.seats {
            let word = seat.word();
            if is_dead(word) || word & LEFT != 0 {
                seat.exchange(word, 0);
            }
        }
        let mended = state & PHASES | state.wrapping_add(RESET) & RESETS;
        Ok(self.advance(state, mended))
    }

    /// Exchanges the state, and tells all who wait; false if it was another by now.
    fn advance(&self, state: u64, new: u64) -> bool {
        // ORDERING: Release pairs with the Acquire in `Party::look`: who passes sees what was written before each
        // arrival, which the Acquire in `has_arrived` has brought here.
        let exchanged = self.state.compare_exchange(state, new, Ordering::Release, Ordering::Relaxed).is_ok();
        if exchanged {
            self.changed.notify_after_exchange();
        }
        exchanged
    }

    fn break_at(&self, state: u64, seat: usize) -> bool {
        self.advance(state, state & !SEATS | BROKEN | (seat as u64) << SEAT)
    }
}

/// What a party has waited for.
enum Ended {
    Passed { last: bool },
    Broken { seat: Option<usize> },
}

impl<const PARTIES: usize> Party<'_, PARTIES> {
    /// Arrives, and waits until all have. Who is woken late finds it so at the latest after 50 ms.
    ///
    /// When the time is over the arrival stays: the next call goes on with this phase, which the others may have
    /// passed.
    ///
    /// # Errors
    ///
    /// [`WaitError::Broken`] if a party has died or left, until it is reset; [`WaitError::TimedOut`], with the first
    /// party that has not arrived, or [`WaitError::PeerLost`], as `until` says; [`WaitError::Lock`] if the object was
    /// retired, or this process is a fork.
    pub fn wait(&mut self, until: Until) -> Result<Passed, WaitError> {
        let (barrier, attachment) = (self.barrier, self.attachment);
        attachment.check()?;
        let state = self.arrived.unwrap_or_else(|| barrier.state.load(Ordering::Relaxed));
        if self.arrived.is_none() && state & BROKEN == 0 {
            // ORDERING: Release pairs with the Acquire in `has_arrived`. Between this and the look before a sleep lies
            // the fence of the eventcount: of two who arrive last, one sees the other, and wakes it.
            barrier.seats[self.seat].arrival.store(next(state), Ordering::Release);
            self.arrived = Some(state);
        }
        let mut sleeper = Sleeper::new(attachment, until);
        let changed = &barrier.changed;
        match sleeper.sleep_until(changed.word(), || changed.prepare(), |look| self.look(state, look))? {
            Ok(Ended::Passed { last }) => {
                self.arrived = None;
                Ok(Passed { phase: next(state) & PHASES, last })
            }
            Ok(Ended::Broken { seat }) => {
                self.arrived = None;
                Err(self.broken(seat))
            }
            Err(woken) => {
                if woken == Woken::TimedOut {
                    sleeper.holder = self.missing(state);
                }
                Err(sleeper.error(woken))
            }
        }
    }

    /// What has become of the phase that it has arrived at in `state`.
    fn look(&self, state: u64, look: Look) -> Option<Ended> {
        let barrier = self.barrier;
        loop {
            // ORDERING: Acquire pairs with the Release in `advance`.
            let now = barrier.state.load(Ordering::Acquire);
            // Nobody passes the phase after that without this party.
            if now & PHASES == next(state) & PHASES {
                return Some(Ended::Passed { last: false });
            }
            if now != state || state & BROKEN != 0 {
                let seat = (now & BROKEN != 0).then_some(((now & SEATS) >> SEAT) as usize);
                return Some(Ended::Broken { seat });
            }
            if barrier.seats.iter().all(|seat| seat.has_arrived(state)) {
                if barrier.advance(state, next(state)) {
                    return Some(Ended::Passed { last: true });
                }
                continue;
            }
            let is_lost = |seat: &Seat| {
                let owner = seat.owner();
                // Once more: what is seen of a dead one after its death is the last.
                !seat.has_arrived(state)
                    && !owner.is_nobody()
                    && self.attachment.is_dead(owner)
                    && !seat.has_arrived(state)
            };
            let lost = if look == Look::Close { barrier.seats.iter().position(is_lost) } else { None };
            barrier.break_at(state, lost?);
        }
    }

    #[cold]
    fn broken(&self, seat: Option<usize>) -> WaitError {
        let seat = seat.and_then(|seat| self.barrier.seats.get(seat));
        // Whoever is there and has not left came after it was given back: to be mended, but by one who died over that.
        let is_gone = |word| word & LEFT != 0 || self.attachment.is_dead(OwnerId::in_word(word));
        let word = seat.map(Seat::word).filter(|word| is_gone(*word));
        let who = word.and_then(|word| self.attachment.table().who(OwnerId::in_word(word)));
        match self.attachment.offset_of(&self.barrier.changed) {
            Ok(offset) => {
                let barrier = self.attachment.lock_at(offset);
                WaitError::Broken { object: self.attachment.name(), barrier, who }
            }
            Err(elsewhere) => elsewhere.into(),
        }
    }

    /// The first who has not arrived.
    #[cold]
    fn missing(&self, state: u64) -> Option<Who> {
        let mut absent = self.barrier.seats.iter().filter(|seat| !seat.has_arrived(state) && !seat.owner().is_nobody());
        absent.find_map(|seat| self.attachment.table().who(seat.owner()))
    }

    /// Gives the seat back; or, in the middle of a phase, keeps it and breaks the barrier.
    fn leave(&self) {
        let (barrier, seat) = (self.barrier, &self.barrier.seats[self.seat]);
        let me = self.attachment.me().word();
        // From here on whoever resets it gives the seat back; until then it names who has left.
        if !seat.exchange(me, me | LEFT) {
            return;
        }
        loop {
            // ORDERING: as in `Barrier::reset`.
            let state = barrier.state.load(Ordering::Acquire);
            let is_mine = seat.owner.load(Ordering::Relaxed) == me | LEFT;
            let is_amid = state & BROKEN == 0 && barrier.seats.iter().any(|seat| seat.has_arrived(state));
            if !is_mine || !is_amid {
                seat.exchange(me | LEFT, 0);
                return;
            }
            if barrier.break_at(state, self.seat) {
                return;
            }
        }
    }
}

impl<const PARTIES: usize> Drop for Party<'_, PARTIES> {
    fn drop(&mut self) {
        // The child of a fork has no seat: it is its parent's.
        if !self.attachment.is_forked() {
            self.leave();
        }
    }
}

impl<const PARTIES: usize> fmt::Debug for Party<'_, PARTIES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party")
            .field("seat", &self.seat)
            .field("arrived", &self.arrived.is_some())
            .finish_non_exhaustive()
    }
}

impl<const PARTIES: usize> fmt::Debug for Barrier<PARTIES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.state.load(Ordering::Relaxed) & PHASES;
        f.debug_struct("Barrier").field("phase", &phase).field("broken", &self.is_broken()).finish_non_exhaustive()
    }
}

/// What the state and the seats, which follow it, say.
pub(super) fn look(mut words: impl Iterator<Item = u64>) -> Option<Looked> {
    let state = words.next()?;
    let (mut holders, mut seats, mut arrived) = (Vec::new(), 0, 0);
    while let (Some(word), Some(arrival)) = (words.next(), words.next()) {
        let owner = OwnerId::in_word(word);
        let (is_there, has_arrived) = (!owner.is_nobody(), arrival == next(state));
        let role = match (word & LEFT != 0, has_arrived) {
            (true, _) => "has left",
            (false, true) => "has arrived",
            (false, false) => "takes part",
        };
        holders.extend(is_there.then_some((owner, role)));
        seats += 1;
        arrived += u32::from(is_there && has_arrived);
    }
    let broken = if state & BROKEN != 0 { ", broken: to be reset" } else { "" };
    let said = format!("{} phases passed, {arrived} of {seats} have arrived{broken}", state & PHASES);
    Some(Looked { holders, ..Looked::new(said) })
}
