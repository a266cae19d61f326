//! Messages of which it was said what became of them before they are dropped.

use super::{NOW, options, pair};
use crate::common::Dir;
use memlane::{Outcome, Policy};

#[test]
fn what_was_marked_as_processed_keeps_nobody_waiting_and_stays_as_it_is() {
    for policy in [Policy::Lossless, Policy::Newest, Policy::Queue] {
        let dir = Dir::new();
        let options = options().slots(1).claims(2).policy(policy);
        let (sender, mut receiver) = pair(&dir, &options);
        let ticket = sender.send_copy(&[1; 500]).expect("there is room");
        let mut first = receiver.recv().expect("a message");
        assert!(!ticket.is_processed());
        first.mark_processed();
        first.mark_processed();
        assert_eq!(ticket.wait(NOW).expect("it is known")[0].outcome, Outcome::Processed);
        // The next ones use its place in the window, and not its buffer.
        let mut last = None;
        for number in 2..6 {
            let ticket = sender.send_copy(&[number; 500]).expect("there is room");
            let message = receiver.recv().expect("a message");
            assert_eq!((&first[..], &message[..]), (&[1; 500][..], &[number; 500][..]));
            message.give_back();
            let Policy::Queue = policy else {
                assert_eq!(last.insert(ticket).wait(NOW).expect("it is known")[0].outcome, Outcome::GaveBack);
                let Policy::Lossless = policy else { continue };
                break; // it is kept for the next receiver
            };
            let again = receiver.recv().expect("it came back");
            assert_eq!(again.deliveries(), 2);
        }
        assert_eq!(receiver.receivers()[0].claims, 1);
        first.give_back();
        assert_eq!(receiver.receivers()[0].claims, 0);
        // What it says is not said of a later message in its place.
        assert!(last.is_none_or(|last| last.wait(NOW).expect("it is known")[0].outcome == Outcome::GaveBack));
    }
}

#[test]
fn what_was_marked_as_processed_cannot_be_given_back() {
    for policy in [Policy::Lossless, Policy::Newest, Policy::Queue] {
        let dir = Dir::new();
        let (sender, mut receiver) = pair(&dir, &options().policy(policy));
        let ticket = sender.send_copy(&[1; 500]).expect("there is room");
        let mut message = receiver.recv().expect("a message");
        message.mark_processed();
        message.give_back();
        assert_eq!(ticket.wait(NOW).expect("it is known")[0].outcome, Outcome::Processed);
    }
}

#[test]
fn what_was_marked_as_given_back_goes_to_somebody_else_and_stays_as_it_is() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().policy(Policy::Queue));
    let ticket = sender.send_copy(&[1; 500]).expect("there is room");
    let mut first = receiver.recv().expect("a message");
    first.mark_given_back();
    first.mark_processed();
    assert!(!ticket.is_processed(), "what was said first counts");
    let again = receiver.recv().expect("it came back");
    assert_eq!((again.deliveries(), &again[..], &first[..]), (2, &[1; 500][..], &[1; 500][..]));
    first.give_back();
    assert!(receiver.try_recv().expect("nothing is wrong").is_none(), "it is in somebody's hands");
    drop(again);
    assert!(ticket.is_processed());
}
