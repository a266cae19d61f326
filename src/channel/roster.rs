//! Who sends and who receives: words that name participants, so that a death is seen and its place used again.
//!
//! Whoever finds a word that names nobody, or somebody dead, may put itself in, by exchanging exactly what it found; what
//! the predecessor left is put in order before the place counts. A death meanwhile leaves a dead name again.

use super::Policy;
use super::lane::Seen;
use super::memory::Memory;
use super::queue::raise;
use super::wait::Event;
use crate::error::{Error, Who};
use crate::owner::OwnerId;
use crate::prim::{self, AtomicU64, Ordering};
use smallvec::SmallVec;
use std::ops::Range;
use std::time::Duration;

/// In a receiver's word: it receives, so senders wait for it. Without it, it is about to come, or has closed and still
/// holds messages.
pub(super) const RECEIVES: u64 = 1 << 31;
/// How long a free place is looked for: somebody dead seems to live while a newcomer takes its slot of the table.
const LOOK: Duration = Duration::from_millis(50);
/// In a sender's word: it has closed; messages it had begun may still come.
pub(super) const CLOSED: u64 = 1 << 31;

/// What a receiver did with a message: the lowest two bits of an outcome, the rest is the message's number. If it has had
/// the message several times (see `rewind`), the most that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It was not there yet when the message was sent.
    Absent = 0,
    Skipped = 1,
    GaveBack = 2,
    Processed = 3,
}

/// A sender of a channel, as [`Sender::senders`](crate::Sender::senders) lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderInfo {
    /// Who it is.
    pub who: Option<Who>,
    /// Its lane.
    pub lane: usize,
    /// The messages that were ever sent in its lane, by predecessors too.
    pub sent: u64,
}

/// A receiver of a channel, as [`Sender::receivers`](crate::Sender::receivers) lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverInfo {
    /// Who it is.
    pub who: Option<Who>,
    /// The messages that were sent and that it has not received yet; in a queue 0, as they are not its own.
    pub lag: u64,
    /// The messages it has missed since it came.
    pub missed: u64,
    /// The buffers it holds.
    pub claims: usize,
    /// How long one of the last 16 messages took from being sent to being received, if it has received any.
    pub latency: Option<Duration>,
}

/// What the word for the latency says.
pub(super) fn latency_of(word: u64) -> Option<Duration> {
    (word != 0).then(|| Duration::from_nanos(word))
}

/// Where a receiver starts in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) lane: usize,
    /// The first message it is to receive.
    pub(super) cursor: u64,
    /// The last message that was sent before it came: what it does not see up to here, it has not missed.
    pub(super) joined: u64,
}

/// Who receives, each with its place.
pub(super) type Receivers = SmallVec<[(usize, OwnerId); 4]>;

/// How a channel has come to have no sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Closed,
    Died(Option<Who>),
}

/// What a sender finds out about receivers while it waits for them.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) living: usize,
    /// Who was found dead, and taken out.
    pub(super) died: Option<Who>,
}

impl Memory {
    /// Puts this process into a word that names nobody, or somebody dead.
    fn occupy(&self, word: &AtomicU64) -> bool {
        // ORDERING: Acquire pairs with the Release by which that one came into the word: it is in the table too.
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let owner = OwnerId::in_word(seen);
            if !owner.is_nobody() && !self.attachment().is_dead(owner) {
                return false;
            }
            // ORDERING: Acquire pairs with the Release by which the predecessor left; Release as for the load.
            match word.compare_exchange(seen, self.me().word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                // Somebody came, or a dead one was taken out: the place may still be free.
                Err(now) => seen = now,
            }
        }
    }

    /// Takes this process out of a word, if it is in it.
    fn leave(&self, word: &AtomicU64) {
        let seen = word.load(Ordering::Relaxed);
        if OwnerId::in_word(seen) == self.me() {
            // ORDERING: Release pairs with the Acquire in `occupy`. It fails only over garbage.
            let _ = word.compare_exchange(seen, 0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Who is in a word, if that one lives.
    fn living(&self, word: &AtomicU64) -> Option<OwnerId> {
        // ORDERING: as in `occupy`.
        let owner = OwnerId::in_word(word.load(Ordering::Acquire));
        (!owner.is_nobody() && !self.attachment().is_dead(owner)).then_some(owner)
    }

    pub(super) fn who(&self, owner: OwnerId) -> Option<Who> {
        self.attachment().table().who(owner)
    }

    /// Becomes the sender of a lane that has none.
    pub(super) fn take_lane(&self) -> Result<usize, Error> {
        let free = || self.lanes().find(|lane| self.occupy(self.sender(*lane)));
        self.find(Event::Messages, free).ok_or_else(|| self.no_lane("senders", self.lanes()))
    }

    /// Becomes a client of a service: takes its lane for requests and its place for answers.
    pub(super) fn take_client(&self) -> Result<usize, Error> {
        let lanes = self.geometry().request_lanes();
        let take = |client: &usize| {
            if !self.occupy(self.sender(*client)) {
                return false;
            }
            let taken = self.occupy(self.receiver(*client + 1));
            if !taken {
                // Whoever had the lane still holds answers.
                self.leave(self.sender(*client));
            }
            taken
        };
        self.find(Event::Released, || lanes.clone().find(take)).ok_or_else(|| self.no_lane("clients", lanes))
    }

    /// Becomes the sender of a lane for answers; whoever had it goes or is dead.
    pub(super) fn take_answer_lane(&self, lane: usize) -> Result<usize, Error> {
        let free = || self.occupy(self.sender(lane)).then_some(lane);
        self.find(Event::Messages, free).ok_or_else(|| self.no_lane("servers", lane..lane + 1))
    }

    /// Looks for something free for a moment.
    fn find<R>(&self, on: Event, look: impl Fn() -> Option<R>) -> Option<R> {
        self.wait(on, Some(LOOK), |_| look()).ok().flatten()
    }

    /// The error for lanes that all have a sender.
    fn no_lane(&self, of: &'static str, lanes: Range<usize>) -> Error {
        self.no_room(of, lanes.map(|lane| self.sender(lane)))
    }

    fn no_room<'a>(&self, of: &'static str, words: impl ExactSizeIterator<Item = &'a AtomicU64>) -> Error {
        let limit = words.len();
        let who = words.filter_map(|word| self.who(self.living(word)?)).collect();
        Error::NoRoom { name: self.attachment().name().into(), of, limit, who }
    }

    /// Says that the sender of a lane has closed.
    pub(super) fn close_lane(&self, lane: usize) {
        let me = self.me().word();
        // ORDERING: Release: who sees it closed sees its messages. It fails only over garbage.
        let _ = self.sender(lane).compare_exchange(me, me | CLOSED, Ordering::Release, Ordering::Relaxed);
        self.messages().notify();
    }

    /// Gives a lane back.
    pub(super) fn leave_lane(&self, lane: usize) {
        self.leave(self.sender(lane));
        self.messages().notify();
    }

    /// How it ended, if nobody sends in these lanes any more. Whoever has not closed counts as alive unless that is to be
    /// `proved`.
    pub(super) fn ending(&self, lanes: Range<usize>, proved: bool) -> Option<Ending> {
        let mut ending = Ending::Closed;
        for lane in lanes {
            // ORDERING: Acquire pairs with the Release of `close_lane` and `leave_lane`: the last messages are seen.
            let word = self.sender(lane).load(Ordering::Acquire);
            let owner = OwnerId::in_word(word);
            if owner.is_nobody() || word & CLOSED != 0 {
                continue;
            }
            if !proved || !self.attachment().is_dead(owner) {
                return None;
            }
            ending = Ending::Died(self.who(owner));
        }
        Some(ending)
    }

    /// The last message that is to be seen in a lane.
    #[inline]
    pub(super) fn last(&self, lane: usize) -> u64 {
        let head = self.head(lane);
        // Its sender may have died between the message and `head`.
        if self.entry(lane, head + 1).look(head + 1) == Seen::There { head + 1 } else { head }
    }

    /// The first message that a window can still hold.
    #[inline]
    pub(super) fn oldest(&self, last: u64) -> u64 {
        self.geometry().oldest(last)
    }

    /// The first message of a lane that nobody has processed.
    fn first_unprocessed(&self, lane: usize) -> u64 {
        let last = self.last(lane);
        let unprocessed = |sequence: &u64| self.last_processed(lane, *sequence) < *sequence;
        (self.oldest(last)..=last).find(unprocessed).unwrap_or(last + 1)
    }

    /// The last message at a place of a window that is known to have been processed by anybody.
    pub(super) fn last_processed(&self, lane: usize, sequence: u64) -> u64 {
        let outcomes = self.geometry().readers(lane).map(|index| self.outcome_of(index, lane, sequence));
        let processed = outcomes.filter(|(_, done)| *done == Done::Processed).map(|(last, _)| last).max();
        // ORDERING: Acquire pairs with the Release in `raise`. Looked at last: what is not in an outcome any more has come
        // to be here before that.
        processed.unwrap_or(0).max(self.task(lane, sequence).load(Ordering::Acquire))
    }

    /// Takes the place of a receiver, of these.
    pub(super) fn take_place(&self, of: &'static str, places: Range<usize>) -> Result<usize, Error> {
        let free = || places.clone().find(|index| self.occupy(self.receiver(*index)));
        self.find(Event::Released, free).ok_or_else(|| self.no_room(of, places.map(|index| self.receiver(index))))
    }

    /// Begins to receive, in a place that was taken. In every lane of its own it is to see all that nobody has processed
    /// yet, if nothing may be lost, and else what comes from now on.
    pub(super) fn attach_receiver(&self, index: usize) -> Vec<Start> {
        self.clear_claims(index);
        self.missed(index).store(0, Ordering::Relaxed);
        self.latency(index).store(0, Ordering::Relaxed);
        let lanes = self.geometry().lanes_of(index);
        let cursors: Vec<u64> = lanes.clone().map(|lane| self.set_start(index, lane)).collect();
        // ORDERING: Release pairs with the Acquire in `receives`: who waits for this receiver sees where it starts.
        self.receiver(index).store(self.me().word() | RECEIVES, Ordering::Release);
        // ORDERING: pairs with the fence in `has_room`: a message that is not seen below was sent by somebody who sees this
        // receiver before it overwrites that message.
        prim::fence(Ordering::SeqCst);
        self.released().notify();
        let starts = cursors.into_iter().zip(lanes);
        starts.map(|(cursor, lane)| Start { lane, cursor, joined: self.last(lane) }).collect()
    }

    fn set_start(&self, index: usize, lane: usize) -> u64 {
        self.keep_processed(index, lane);
        let cursor = match self.geometry().policy {
            Policy::Newest => self.last(lane) + 1,
            Policy::Lossless => self.first_unprocessed(lane),
            Policy::Queue => self.oldest(self.last(lane)),
            Policy::Service if index == 0 => self.first_unprocessed(lane),
            Policy::Service => self.forget_answers(lane),
        };
        self.cursor(index, lane).store(cursor, Ordering::Relaxed);
        let slots = self.geometry().slots;
        for next in cursor..cursor + slots {
            let before = next.saturating_sub(slots);
            // ORDERING: Release pairs with the Acquire in `outcome_of`: see `last_processed`.
            self.outcome(index, lane, next).store(outcome_of(before, Done::Absent), Ordering::Release);
        }
        cursor
    }

    /// Puts what a predecessor has processed where it stays when the place is used again.
    fn keep_processed(&self, index: usize, lane: usize) {
        if self.geometry().policy == Policy::Queue {
            return;
        }
        let sent = self.last(lane);
        for position in 0..self.geometry().slots {
            match self.outcome_of(index, lane, position) {
                (last, Done::Processed) if last <= sent => raise(self.task(lane, position), last),
                _ => {}
            }
        }
    }

    /// Lets go of the answers to a client that is gone, for the next one to get its own.
    fn forget_answers(&self, lane: usize) -> u64 {
        let last = self.last(lane);
        (self.oldest(last)..=last).for_each(|sequence| raise(self.task(lane, sequence), sequence));
        last + 1
    }

    /// What a dead server has answered it has dealt with, as far as its answers to this client are to be seen still: else
    /// each successor that dies in turn would fill the lane with further answers, for which nobody waits.
    pub(super) fn settle_answered(&self, client: usize) {
        let lane = self.geometry().answer_lanes().start + client;
        let (asked, last) = (self.last(client), self.last(lane));
        for sequence in self.oldest(last)..=last {
            let about = self.entry(lane, sequence).find(sequence).map_or(0, |content| content.about);
            if (self.oldest(asked)..=asked).contains(&about) {
                raise(self.task(client, about), about);
            }
        }
    }

    fn clear_claims(&self, index: usize) {
        for claim in 0..self.geometry().claims {
            self.claim(index, claim).store(0, Ordering::Release);
        }
    }

    /// No message waits for this receiver any more; it may still hold some, and is to say that it passes over the others.
    pub(super) fn close_receiver(&self, index: usize) {
        let me = self.me().word();
        // ORDERING: Release: who sees it closed sees what it did with its messages. It fails only over garbage.
        let _ = self.receiver(index).compare_exchange(me | RECEIVES, me, Ordering::Release, Ordering::Relaxed);
        // ORDERING: pairs with the fence in `notify`, which follows every message: whoever still counted on this receiver
        // for a message has sent it before what follows is looked at.
        prim::fence(Ordering::SeqCst);
    }

    /// Gives the place of a receiver back.
    pub(super) fn leave_receiver(&self, index: usize) {
        self.leave(self.receiver(index));
        self.released().notify();
    }

    /// Says of those in these places who receive and are dead that they do not any more, and counts the others. What they
    /// claimed stays claimed until somebody else has the place: there are buffers enough, and so the place itself is never
    /// occupied here.
    pub(super) fn sweep(&self, places: Range<usize>) -> Present {
        let mut present = Present { living: 0, died: None };
        for index in places {
            let owner = self.receives(index);
            if owner.is_nobody() {
                continue;
            }
            if !self.attachment().is_dead(owner) {
                present.living += 1;
                continue;
            }
            present.died = self.who(owner).or(present.died);
            let (receives, dead) = (owner.word() | RECEIVES, owner.word());
            // It fails if somebody else has done it, or has the place by now. Nothing is published by it.
            let _ = self.receiver(index).compare_exchange(receives, dead, Ordering::Relaxed, Ordering::Relaxed);
        }
        present
    }

    /// How many receive in these places, dead or alive.
    pub(super) fn count_receivers(&self, places: Range<usize>) -> usize {
        places.filter(|index| !self.receives(*index).is_nobody()).count()
    }

    /// Who receives from a lane, dead or alive, and in which place.
    pub(super) fn who_receives(&self, lane: usize) -> Receivers {
        let places = self.geometry().readers(lane);
        let words = self.receivers_in(places.clone());
        let mut found = Receivers::new();
        for (index, word) in places.zip(words) {
            let owner = receives(word);
            if !owner.is_nobody() {
                if found.len() == found.inline_size() {
                    found.reserve(words.len());
                }
                found.push((index, owner));
            }
        }
        found
    }

    #[inline]
    fn receives(&self, index: usize) -> OwnerId {
        receives(self.receiver(index))
    }

    /// Who is in place `index`.
    #[inline]
    pub(super) fn owner_of(&self, index: usize) -> OwnerId {
        // ORDERING: Acquire pairs with the Release in `leave`.
        OwnerId::in_word(self.receiver(index).load(Ordering::Acquire))
    }

    /// The last message, of those from `first` on and before `end`, up to which nobody waits for any, and each was processed by
    /// somebody, or is not wanted by somebody who still receives.
    pub(super) fn last_let_go(&self, lane: usize, first: u64, mut end: u64) -> u64 {
        let waiting = self.who_receives(lane);
        // Receiver by receiver: what one has said of several messages lies together.
        for (index, _) in &waiting {
            let waits = |sequence: &u64| self.outcome_of(*index, lane, *sequence).0 < *sequence;
            end = (first..end).find(waits).unwrap_or(end);
        }
        let is_kept = |sequence: &u64| {
            let released = |(index, owner): &(usize, OwnerId)| match self.outcome_of(*index, lane, *sequence) {
                (last, Done::Processed) => last == *sequence,
                // Whoever closes passes over what it leaves, after it has said that it receives no more.
                (last, Done::Skipped) => last == *sequence && self.receives(*index) == *owner,
                _ => false,
            };
            !waiting.iter().any(released) && self.last_processed(lane, *sequence) < *sequence
        };
        (first..end).find(is_kept).unwrap_or(end) - 1
    }

    /// Whether the next message may overwrite this one, as far as receivers go.
    pub(super) fn is_let_go(&self, lane: usize, sequence: u64) -> bool {
        self.last_let_go(lane, sequence, sequence + 1) == sequence
    }

    /// The last message at a place of a window that a receiver has let go of, and what it did with it.
    #[inline]
    pub(super) fn outcome_of(&self, index: usize, lane: usize, sequence: u64) -> (u64, Done) {
        // ORDERING: Acquire pairs with the Release in `raise`, and with that of `attach_receiver`.
        let word = self.outcome(index, lane, sequence).load(Ordering::Acquire);
        let done = [Done::Absent, Done::Skipped, Done::GaveBack, Done::Processed][(word & 3) as usize];
        (word >> 2, done)
    }

    /// Says what receiver `index` did with a message.
    #[inline]
    pub(super) fn set_outcome(&self, index: usize, lane: usize, sequence: u64, done: Done) {
        raise(self.outcome(index, lane, sequence), outcome_of(sequence, done));
    }

    /// Of the receivers that wait for a message, who is the furthest behind.
    pub(super) fn slowest(&self, lane: usize, sequence: u64) -> Option<ReceiverInfo> {
        let waits = |index: &usize| self.outcome_of(*index, lane, sequence).0 < sequence;
        let receives = |index: &usize| self.receiver(*index).load(Ordering::Relaxed) & RECEIVES != 0;
        let waiting = self.geometry().readers(lane).filter(|index| receives(index) && waits(index));
        waiting.filter_map(|index| self.receiver_info(index)).max_by_key(|info| info.lag)
    }

    fn receiver_info(&self, index: usize) -> Option<ReceiverInfo> {
        let owner = self.living(self.receiver(index))?;
        let lag = |lane: usize| (self.last(lane) + 1).saturating_sub(self.cursor(index, lane).load(Ordering::Relaxed));
        let queue = self.geometry().policy == Policy::Queue;
        let claims = 0..self.geometry().claims;
        Some(ReceiverInfo {
            who: self.who(owner),
            lag: if queue { 0 } else { self.geometry().lanes_of(index).map(lag).fold(0, u64::saturating_add) },
            missed: self.missed(index).load(Ordering::Relaxed),
            latency: latency_of(self.latency(index).load(Ordering::Relaxed)),
            claims: claims.filter(|claim| self.claim(index, *claim).load(Ordering::Relaxed) != 0).count(),
        })
    }

    pub(super) fn receiver_infos(&self) -> Vec<ReceiverInfo> {
        self.receivers().filter_map(|index| self.receiver_info(index)).collect()
    }

    pub(super) fn sender_infos(&self, lanes: Range<usize>) -> Vec<SenderInfo> {
        let info = |lane| {
            let word = self.sender(lane);
            let owner = self.living(word).filter(|_| word.load(Ordering::Relaxed) & CLOSED == 0)?;
            let who = self.who(owner);
            Some(SenderInfo { who, lane, sent: self.last(lane) })
        };
        lanes.filter_map(info).collect()
    }
}

/// Who receives in the place of this word.
#[inline]
fn receives(word: &AtomicU64) -> OwnerId {
    // ORDERING: Acquire pairs with the Release in `attach_receiver`.
    let word = word.load(Ordering::Acquire);
    if word & RECEIVES != 0 { OwnerId::in_word(word) } else { OwnerId::NOBODY }
}

pub(super) fn outcome_of(sequence: u64, done: Done) -> u64 {
    sequence << 2 | done as u64
}
