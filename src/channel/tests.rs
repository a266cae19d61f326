//! Tests of files that the models include as well, where words are not what they are here.

use super::queue::{Task, is_done, let_go, offer, take};
use crate::owner::OwnerId;
use crate::prim::{AtomicU64, Ordering};

/// The most deliveries that are counted.
const DELIVERIES: u64 = (1 << 14) - 1;

#[test]
fn a_message_is_taken_once_and_again_after_its_taker_died_or_gave_it_back() {
    let word = AtomicU64::new(0);
    let [a, b] = [1, 2].map(|slot| OwnerId::in_word(1 << 32 | slot));
    let alive = |_| false;
    assert_eq!(take(&word, 5, a, alive), None, "it was not sent yet");
    offer(&word, 5);
    assert_eq!(take(&word, 6, a, alive), None, "another message");
    assert_eq!(take(&word, 5, a, alive), Some(1));
    assert_eq!(take(&word, 5, b, alive), None, "somebody has it");
    assert_eq!(take(&word, 5, b, |owner| owner == a), Some(2), "who had it is dead");
    let_go(&word, 5, a, true);
    assert!(!is_done(&word, 5), "it is not his");
    let_go(&word, 5, b, false);
    assert_eq!(take(&word, 5, a, alive), Some(3));
    let_go(&word, 5, a, true);
    assert!(is_done(&word, 5));
    assert_eq!(take(&word, 5, b, alive), None, "it was processed");
    offer(&word, 9);
    assert!(is_done(&word, 5), "who offered 9 may have died before it sent it");
    word.store(Task::Taken { by: a, deliveries: DELIVERIES }.to_word(), Ordering::Relaxed);
    assert_eq!(take(&word, 9, b, |owner| owner == a), Some(DELIVERIES), "no more can be counted");
    assert_eq!(Task::from_word(word.load(Ordering::Relaxed)), Task::Taken { by: b, deliveries: DELIVERIES });
}
