//! What has become of a message, in one word beside its entry.
//!
//! In a queue it says who has the message: state (2 bits), count of deliveries (14 bits), and in the other 48 bits the
//! message's number, or who took it. A message that its taker gave back, or that its taker's death left, is available
//! again. In other channels the outcomes of the receivers say that, and the word only what an outcome no longer says: it is
//! the number of the last message at that place that somebody had processed whose place has been used again.

use crate::owner::OwnerId;
use crate::prim::{AtomicU64, Ordering};

/// What the word of a message in a queue says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Message `number` (its lowest 48 bits) can be taken.
    Available { number: u64, deliveries: u64 },
    /// Somebody has the message of this place.
    Taken { by: OwnerId, deliveries: u64 },
    /// Message `number` was processed, or there was none yet.
    Done { number: u64 },
}

/// The most deliveries that are counted.
const DELIVERIES: u64 = (1 << 14) - 1;

/// As much of a message's number as fits into a word.
pub(super) fn number(sequence: u64) -> u64 {
    sequence & ((1 << 48) - 1)
}

impl Task {
    const AVAILABLE: u64 = 1;
    const TAKEN: u64 = 2;

    pub(super) fn from_word(word: u64) -> Self {
        let number = word >> 32 << 16 | word & 0xffff;
        let deliveries = word >> 16 & DELIVERIES;
        match word >> 30 & 3 {
            Self::AVAILABLE => Self::Available { number, deliveries },
            Self::TAKEN => Self::Taken { by: OwnerId::in_word(word), deliveries },
            _ => Self::Done { number },
        }
    }

    pub(super) fn to_word(self) -> u64 {
        let name = |number: u64| number >> 16 << 32 | number & 0xffff;
        match self {
            Self::Available { number, deliveries } => name(number) | Self::AVAILABLE << 30 | deliveries << 16,
            Self::Taken { by, deliveries } => by.word() | Self::TAKEN << 30 | deliveries << 16,
            Self::Done { number } => name(number),
        }
    }

    /// The count of deliveries so far, if message `sequence` can be taken: it is available, or who took it is dead.
    pub(super) fn to_take(self, sequence: u64, is_dead: impl Fn(OwnerId) -> bool) -> Option<u64> {
        match self {
            Self::Available { number: other, deliveries } if other == number(sequence) => Some(deliveries),
            Self::Taken { by, deliveries } if is_dead(by) => Some(deliveries),
            _ => None,
        }
    }

    /// Whether nobody has message `sequence` or is to get it any more. A later one that is available here was never sent:
    /// its sender died before it had put it into the entry.
    pub(super) fn is_over(self, sequence: u64) -> bool {
        match self {
            Self::Available { number: other, .. } => other != number(sequence),
            Self::Taken { .. } => false,
            Self::Done { .. } => true,
        }
    }
}

/// Takes message `sequence`, which is in its entry, for `me`, if it can be taken. Returns the count of deliveries with
/// this one.
pub(super) fn take(word: &AtomicU64, sequence: u64, me: OwnerId, is_dead: impl Fn(OwnerId) -> bool) -> Option<u64> {
    // ORDERING: Acquire pairs with the Release by which somebody gave it back.
    let seen = word.load(Ordering::Acquire);
    let deliveries = (Task::from_word(seen).to_take(sequence, is_dead)? + 1).min(DELIVERIES);
    let taken = Task::Taken { by: me, deliveries }.to_word();
    // ORDERING: as for the load; Release, so that whoever finds this owner finds it in the participant table too.
    word.compare_exchange(seen, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok().then_some(deliveries)
}

/// Lets go of a message that `me` has taken; does nothing if the word says that somebody else has it.
pub(super) fn let_go(word: &AtomicU64, sequence: u64, me: OwnerId, processed: bool) {
    let seen = word.load(Ordering::Relaxed);
    if let Task::Taken { by, deliveries } = Task::from_word(seen)
        && by == me
    {
        let number = number(sequence);
        let next = if processed { Task::Done { number } } else { Task::Available { number, deliveries } };
        // ORDERING: Release pairs with the Acquire in `take` and `is_done`: what was done with it is done. Nobody
        // takes a message from a living process, so this fails only over garbage.
        let _ = word.compare_exchange(seen, next.to_word(), Ordering::Release, Ordering::Relaxed);
    }
}

/// Whether message `sequence`, which a sender would overwrite, has been processed.
pub(super) fn is_done(word: &AtomicU64, sequence: u64) -> bool {
    // ORDERING: Acquire pairs with the Release in `let_go`.
    Task::from_word(word.load(Ordering::Acquire)).is_over(sequence)
}

/// Makes a message available that is about to be sent.
pub(super) fn offer(word: &AtomicU64, sequence: u64) {
    let available = Task::Available { number: number(sequence), deliveries: 0 };
    // Nobody takes it before it is in its entry: that store releases this one too.
    word.store(available.to_word(), Ordering::Relaxed);
}

/// Makes the word at least `value`.
#[inline]
pub(super) fn raise(word: &AtomicU64, value: u64) {
    let mut seen = word.load(Ordering::Relaxed);
    while seen < value {
        // ORDERING: Release pairs with the Acquire of who looks whether the message was let go.
        match word.compare_exchange(seen, value, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        let (number, deliveries, by) = (number(0xffff_1234_5678_9abc), DELIVERIES, OwnerId::in_word(7 << 32 | 9));
        for task in [Task::Available { number, deliveries }, Task::Taken { by, deliveries }, Task::Done { number }] {
            assert_eq!(Task::from_word(task.to_word()), task);
        }
        assert_eq!(Task::from_word(0), Task::Done { number: 0 });
    }
}
