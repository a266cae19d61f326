//! One call after the other of what several processes do at the same time; the models try all schedules of it.

use super::lane::{self, Content, Place, Seen};
use super::memory::{Entry, LaneHeader, SMALL};
use super::queue::{Task, is_done, let_go, offer, take};
use crate::owner::OwnerId;
use crate::prim::{AtomicU64, Ordering};
use crate::sys::Moment;

/// The most deliveries that are counted.
const MOST: u64 = (1 << 14) - 1;

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
    word.store(Task::Taken { by: a, deliveries: MOST }.to_word(), Ordering::Relaxed);
    assert_eq!(take(&word, 9, b, |owner| owner == a), Some(MOST), "no more can be counted");
    assert_eq!(Task::from_word(word.load(Ordering::Relaxed)), Task::Taken { by: b, deliveries: MOST });
}

fn entry() -> Entry {
    let word = || AtomicU64::new(0);
    Entry {
        word: word(),
        place: word(),
        tail: word(),
        stamp: word(),
        about: word(),
        small: [const { AtomicU64::new(0) }; SMALL / 8],
    }
}

fn content(number: u64) -> Content {
    let place = Place { len: 16, small: true, labelled: number.is_multiple_of(2), buffer: number as u16 };
    Content { place, tail: number, stamp: number, about: number }
}

#[test]
fn what_is_read_after_it_was_overwritten_does_not_count() {
    let (entry, mut copy) = (entry(), [0; SMALL / 8]);
    assert_eq!(entry.look(1), Seen::NotThere);
    entry.publish(1, content(1), &[1, 1]);
    assert_eq!((entry.look(1), entry.content(1)), (Seen::There, Some(content(1))));
    assert!(entry.copy_small(1, 16, &mut copy) && copy[..3] == [1, 1, 0]);
    // Between the look and what follows.
    entry.publish(2, content(2), &[2, 2]);
    assert_eq!((entry.look(1), entry.content(1)), (Seen::Later, None));
    assert!(!entry.copy_small(1, 16, &mut copy));
}

#[test]
fn who_claims_a_buffer_too_late_has_no_claim() {
    let (entry, claim) = (entry(), AtomicU64::new(0));
    entry.publish(1, content(1), &[]);
    assert!(lane::claim(&claim, &entry, 1, 2, 7));
    assert_eq!(claim.load(Ordering::Relaxed), 3 << 32 | 7);
    lane::give_back(&claim);
    assert_eq!(claim.load(Ordering::Relaxed), 0);
    entry.publish(2, content(2), &[]);
    assert!(!lane::claim(&claim, &entry, 1, 2, 7));
    assert_eq!(claim.load(Ordering::Relaxed), 0, "its buffer is free");
}

#[test]
fn a_lane_keeps_the_moment_before_its_oldest_stamp() {
    let word = || AtomicU64::new(0);
    let header = LaneHeader {
        head: word(),
        clock: word(),
        ticks: word(),
        nanos: word(),
        reserved: std::array::from_fn(|_| word()),
    };
    let moment = |ticks, nanos| Moment { ticks, nanos };
    let (first, counted) = (u64::MAX, u64::MAX - 1);
    assert_eq!(header.since(first), None, "nobody has come whose clock has that number");
    header.keep_time(first, moment(10, 1));
    header.keep_time(first, moment(20, 2));
    assert_eq!(header.since(first), Some(moment(10, 1)), "a successor keeps it");
    assert_eq!(header.since(counted), None, "who reads another clock cannot compare it");
    header.keep_time(first, moment(5, 3));
    assert_eq!(header.since(first), Some(moment(5, 3)), "the counter has begun anew");
    header.keep_time(first, moment(0, 4));
    assert_eq!(header.since(first), Some(moment(0, 4)), "stamps are nanoseconds now");
    header.keep_time(counted, moment(30, 5));
    assert_eq!((header.since(first), header.since(counted)), (None, Some(moment(30, 5))));
}
