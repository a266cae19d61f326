//! One lane: a window of messages that one sender writes and everybody reads, and the buffers they lie in.
//!
//! The sender takes an entry back, fills it, and names the message in it: that one store commits. A reader of a buffer
//! first says so in a claim and then looks whether the message is still in its entry; the sender uses a buffer again only
//! if its message has left the window and, looked at after that, no claim names it. So either the sender sees the claim,
//! or the reader sees that it is too late. Free buffers are never written down anywhere: they are what is left.
//! Method: hazard pointers (Michael, 2004), and sequence locks for what is copied out.

use super::memory::{Entry, SMALL};
use crate::prim::{self, AtomicU64, Ordering};
use std::hint;

/// Where a message lies, in one word: length (40 bits), flags (8 bits), buffer (16 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) len: u64,
    /// The message lies in its entry, not in a buffer.
    pub(super) small: bool,
    /// There is something beside the buffer.
    pub(super) labelled: bool,
    pub(super) buffer: u16,
}

impl Place {
    const IS_SMALL: u64 = 1 << 16;
    const IS_LABELLED: u64 = 1 << 17;

    #[inline]
    fn to_word(self) -> u64 {
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        self.len << 24
            | flag(self.labelled, Self::IS_LABELLED)
            | flag(self.small, Self::IS_SMALL)
            | u64::from(self.buffer)
    }

    #[inline]
    pub(super) fn from_word(word: u64) -> Self {
        Self {
            len: word >> 24,
            small: word & Self::IS_SMALL != 0,
            labelled: word & Self::IS_LABELLED != 0,
            buffer: word as u16,
        }
    }
}

/// What an entry says of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) place: Place,
    pub(super) tail: u64,
    pub(super) stamp: u64,
    pub(super) about: u64,
}

/// What is in an entry, for somebody who looks for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The message.
    There,
    /// An earlier one, or none: it has not been sent yet, or is being overwritten.
    NotThere,
    /// A later one: it was overwritten.
    Later,
}

impl Entry {
    #[inline]
    pub(super) fn look(&self, sequence: u64) -> Seen {
        // ORDERING: Acquire pairs with the Release in `publish`: the message is there as it was sent.
        match self.word.load(Ordering::Acquire) {
            word if word == sequence => Seen::There,
            word if word > sequence => Seen::Later,
            _ => Seen::NotThere,
        }
    }

    /// The message that is in it, if one is: else 0.
    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        // ORDERING: as in `look`.
        self.word.load(Ordering::Acquire)
    }

    /// The same, for who looks again and again: its end is read with its start, so that both their cache lines are on their
    /// way at once when a message has come, and not one after the other.
    #[inline]
    pub(super) fn glance(&self) -> u64 {
        hint::black_box(self.small[SMALL / 8 - 1].load(Ordering::Relaxed));
        self.sequence()
    }

    /// Whether the message that was looked at is in the entry still, so that what was read is of it.
    #[inline]
    fn is_still(&self, sequence: u64) -> bool {
        // ORDERING: pairs with the Release fence in `publish`: if anything that was read is of a later message, the word
        // is seen changed.
        prim::fence(Ordering::Acquire);
        self.word.load(Ordering::Relaxed) == sequence
    }

    /// What it says of the message, if that is in it all the while.
    #[inline]
    pub(super) fn content(&self, sequence: u64) -> Option<Content> {
        let content = Content {
            place: Place::from_word(self.place.load(Ordering::Relaxed)),
            tail: self.tail.load(Ordering::Relaxed),
            stamp: self.stamp.load(Ordering::Relaxed),
            about: self.about.load(Ordering::Relaxed),
        };
        self.is_still(sequence).then_some(content)
    }

    /// What it says of the message, if that is in it.
    #[inline]
    pub(super) fn find(&self, sequence: u64) -> Option<Content> {
        (self.look(sequence) == Seen::There).then(|| self.content(sequence)).flatten()
    }

    /// Copies the first `len` bytes of a small message; false if it was overwritten meanwhile.
    #[inline]
    pub(super) fn copy_small(&self, sequence: u64, len: usize, to: &mut [u64; SMALL / 8]) -> bool {
        for (word, to) in self.small.iter().zip(to).take(len.div_ceil(8)) {
            *to = word.load(Ordering::Relaxed);
        }
        self.is_still(sequence)
    }

    /// Puts a message in. Only the lane's sender does that; a death in here leaves the entry empty or the message sent.
    #[inline]
    pub(super) fn publish(&self, sequence: u64, content: Content, small: &[u64]) {
        self.word.store(0, Ordering::Relaxed);
        // ORDERING: pairs with the fence in `is_still`.
        prim::fence(Ordering::Release);
        self.place.store(content.place.to_word(), Ordering::Relaxed);
        self.tail.store(content.tail, Ordering::Relaxed);
        self.stamp.store(content.stamp, Ordering::Relaxed);
        self.about.store(content.about, Ordering::Relaxed);
        for (word, from) in self.small.iter().zip(small) {
            word.store(*from, Ordering::Relaxed);
        }
        // ORDERING: Release pairs with the Acquire in `look`. This store commits.
        self.word.store(sequence, Ordering::Release);
    }
}

/// Names a buffer of a lane in a claim; 0 names none.
#[inline]
fn claim_of(lane: usize, buffer: u16) -> u64 {
    (lane as u64 + 1) << 32 | u64::from(buffer)
}

/// Claims the buffer of a message that was found in `entry`; false, and nothing claimed, if it has left it meanwhile.
#[inline]
pub(super) fn claim(word: &AtomicU64, entry: &Entry, sequence: u64, lane: usize, buffer: u16) -> bool {
    // ORDERING: Release pairs with the Acquire in `Pool::refill`: who sees this claim, and not the one that was given back
    // before it, is to know that its buffer is no longer read.
    word.swap(claim_of(lane, buffer), Ordering::Release);
    // ORDERING: pairs with the fence in `Pool::refill`: either the sender sees this claim, or this sees that the entry
    // was changed.
    prim::fence_after_exchange();
    let claimed = entry.word.load(Ordering::Relaxed) == sequence;
    if !claimed {
        word.store(0, Ordering::Release);
    }
    claimed
}

/// Gives a claim back.
#[inline]
pub(super) fn give_back(word: &AtomicU64) {
    // ORDERING: Release pairs with the Acquire in `Pool::refill`: what was read is read before it is overwritten.
    word.store(0, Ordering::Release);
}

/// Which buffers of a lane are free, in its sender's private memory.
#[derive(Debug)]
pub(super) struct Pool {
    lane: usize,
    /// The buffer of the message at each place of the window.
    window: Vec<Option<u16>>,
    /// How often each buffer is in the window, once if its entries are sound, or out with the user.
    uses: Vec<u16>,
    /// Known to be free: out of the window, and unclaimed after that.
    free: Vec<u16>,
    /// How many are looked for at a time.
    most: usize,
    /// For `refill`: the uses, and who is claimed.
    used: Vec<u16>,
}

/// The bytes of the buffers that are looked for at a time, if one has not more: they are to stay in a cache.
const CACHED: u64 = 1 << 18;

impl Pool {
    /// A pool of so many buffers of `stride` bytes.
    pub(super) fn new(lane: usize, window: Vec<Option<u16>>, buffers: usize, stride: u64) -> Self {
        let mut uses = vec![0; buffers];
        for buffer in window.iter().flatten() {
            uses[usize::from(*buffer)] += 1;
        }
        let most = (CACHED / stride).max(1) as usize;
        Self { lane, window, uses, free: Vec::new(), most, used: Vec::new() }
    }

    /// Takes a free buffer, of `claims` those that receivers hold; `None` if there are as many loans as there can be.
    pub(super) fn take<'a>(&mut self, claims: impl Iterator<Item = &'a AtomicU64>) -> Option<u16> {
        if self.free.is_empty() {
            self.refill(claims);
        }
        let buffer = self.free.pop()?;
        self.uses[usize::from(buffer)] += 1;
        Some(buffer)
    }

    fn refill<'a>(&mut self, claims: impl Iterator<Item = &'a AtomicU64>) {
        let used = &mut self.used;
        used.clone_from(&self.uses);
        // ORDERING: pairs with the fence in `claim`: the entries of all that is not in the window were changed before.
        prim::fence(Ordering::SeqCst);
        for claim in claims {
            // ORDERING: Acquire pairs with the Release in `give_back` and in `claim`.
            let word = claim.load(Ordering::Acquire);
            let claimed = (word >> 32 == self.lane as u64 + 1).then_some(word as u32 as usize);
            if let Some(used) = claimed.and_then(|buffer| used.get_mut(buffer)) {
                *used = 1;
            }
        }
        // The first ones, of which the very first is taken first: so few are used, and stay in the caches.
        let free = used.iter().enumerate().filter(|(_, used)| **used == 0).take(self.most);
        self.free.extend(free.map(|(buffer, _)| buffer as u16));
        self.free.reverse();
    }

    /// The user has given a loan back.
    pub(super) fn put_back(&mut self, buffer: u16) {
        self.uses[usize::from(buffer)] -= 1;
        self.free.push(buffer);
    }

    /// The message that was sent last is at that place of the window, in that buffer if it needs one.
    pub(super) fn sent(&mut self, position: usize, buffer: Option<u16>) {
        if let Some(left) = std::mem::replace(&mut self.window[position], buffer) {
            self.uses[usize::from(left)] -= 1;
        }
    }
}
