//! Channels within one process: what each call promises. tests/channels.rs does it between processes, and kills them.
#![allow(missing_docs)]

mod common;
#[path = "channel/marked.rs"]
mod marked;

use common::Dir;
use memlane::{
    ChannelOptions, Dtype, Error, Image, Loan, Mutex, Outcome, PixelFormat, Policy, Receiver, RecvError, Segment,
    SendError, Sender, Shareable, SharedMemory, Tensor, TicketError,
};
use std::sync::mpsc;
use std::time::Duration;

const NOW: Option<Duration> = Some(Duration::ZERO);
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough that a wait has certainly begun to sleep; nothing depends on how long it is.
const MOMENT: Duration = Duration::from_millis(30);

fn options() -> ChannelOptions {
    ChannelOptions::new().max_message(1000)
}

/// A channel and its first receiver.
fn pair(dir: &Dir, options: &ChannelOptions) -> (Sender, Receiver) {
    let sender = Sender::create(dir.name("cam"), options).expect("a fresh channel");
    let receiver = Receiver::open(dir.name("cam")).expect("it is there");
    (sender, receiver)
}

/// Bytes that follow from a number, small or large.
fn bytes(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|index| (number.wrapping_mul(31) + index) as u8).collect()
}

fn numbers(receiver: &mut Receiver) -> Vec<u64> {
    std::iter::from_fn(|| receiver.try_recv().expect("nothing is wrong").map(|message| message.sequence())).collect()
}

#[test]
fn messages_of_every_length_arrive_as_they_were_sent() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options());
    for (number, len) in [0, 1, 7, 8, 87, 88, 89, 96, 128, 999, 1000].into_iter().enumerate() {
        let sent = bytes(number as u64, len);
        let mut loan = sender.loan(len).expect("a buffer");
        loan.copy_from_slice(&sent);
        let ticket = loan.send().expect("there is room");
        let message = receiver.recv().expect("a message");
        assert_eq!((&message[..], message.size()), (&sent[..], len));
        assert_eq!((message.sequence(), ticket.sequence()), (number as u64 + 1, number as u64 + 1));
        assert_eq!((message.lane(), message.missed(), message.deliveries()), (0, 0, 1));
        assert!(message.age().is_some_and(|age| age < PATIENCE));
        assert!(message.metadata().is_empty() && message.schema_id() == 0);
    }
    let error = sender.loan(1001).expect_err("too long");
    assert!(matches!(error, SendError::TooLarge { max: 1000, .. }), "{error}");
}

#[test]
fn what_is_borrowed_can_be_cut_labelled_and_dropped() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options());
    drop(sender.loan(500).expect("a buffer"));
    for len in [4, 500] {
        let mut loan = sender.loan_zeroed(len).expect("a buffer");
        assert!(loan.iter().all(|byte| *byte == 0));
        loan[0] = 9;
        loan.set_metadata(b"left").expect("room for it");
        loan.set_schema_id(77).expect("room for it");
        loan.shrink(3).expect("it is shorter");
        assert!(matches!(loan.shrink(4), Err(SendError::TooLarge { max: 3, .. })));
        assert!(matches!(loan.set_metadata(&[0; 65]), Err(SendError::TooLarge { max: 64, .. })));
        loan.send().expect("there is room");
        let message = receiver.recv().expect("a message");
        assert_eq!((&message[..], message.metadata(), message.schema_id()), (&[9, 0, 0][..], &b"left"[..], 77));
    }
    sender.send_copy(&[1; 500]).expect("there is room");
    let message = receiver.recv().expect("a message");
    assert!(message.metadata().is_empty() && message.schema_id() == 0, "a label does not stay with its buffer");
    assert_eq!(message.sequence(), 3, "what was dropped was never there");
}

#[test]
fn loans_are_counted_and_never_wait_for_receivers() {
    let dir = Dir::new();
    let options = options().slots(2).receivers(1).claims(1).loans(2).policy(Policy::Newest);
    let (sender, mut receiver) = pair(&dir, &options);
    let held: Vec<_> = (0..2)
        .map(|_| {
            sender.send_copy(&[1; 500]).expect("never waits");
            receiver.latest().expect("nothing is wrong").expect("a message")
        })
        .collect();
    for _ in 0..20 {
        sender.send_copy(&[2; 500]).expect("never waits");
    }
    let loans = sender.loan_many(9, 500).expect("some");
    assert_eq!(loans.len(), 2, "the window and the claims have the others");
    let error = sender.loan(500).expect_err("one too many");
    assert!(matches!(error, SendError::LoansInUse { limit: 2, .. }), "{error}");
    assert_eq!(sender.loan_many(5, 50).expect("small ones take no buffer").len(), 5);
    assert!(held.iter().all(|message| message[..] == [1; 500]), "what is held stays as it is");
    drop(held);
    assert_eq!(sender.loan_many(9, 500).expect("some").len(), 2, "what was let go can be used");
    drop(loans);
    assert_eq!(sender.loan_many(9, 500).expect("some").len(), 4);
}

#[test]
fn as_many_messages_are_held_as_there_are_claims() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().claims(2).slots(8));
    for number in 0..4 {
        sender.send_copy(&bytes(number, 500)).expect("there is room");
    }
    sender.send_copy(&bytes(4, 5)).expect("there is room");
    let held: Vec<_> = (0..2).map(|_| receiver.recv().expect("a message")).collect();
    for _ in 0..2 {
        let error = receiver.recv().expect_err("no claim is left");
        assert!(matches!(error, RecvError::ClaimsInUse { limit: 2, .. }), "{error}");
    }
    assert!(matches!(receiver.iter().next(), Some(Err(RecvError::ClaimsInUse { .. }))));
    let info = sender.receivers().pop().expect("one receives");
    assert_eq!((info.claims, info.lag, info.missed), (2, 3, 0));
    drop(held);
    assert_eq!(numbers(&mut receiver), [3, 4, 5], "nothing was consumed");
}

#[test]
fn the_latest_passes_over_the_others_and_has_a_claim_of_its_own() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().claims(1).slots(8));
    assert!(receiver.latest().expect("nothing is wrong").is_none());
    sender.send_copy(&[1; 500]).expect("there is room");
    let held = receiver.recv().expect("a message");
    let tickets: Vec<_> = (2..5).map(|number| sender.send_copy(&[number; 500]).expect("there is room")).collect();
    let latest = receiver.latest().expect("nothing is wrong").expect("a message");
    assert_eq!((held[0], latest[0], latest.sequence(), latest.missed()), (1, 4, 4, 0));
    assert!(receiver.latest().expect("nothing is wrong").is_none(), "nothing newer");
    drop(latest);
    let outcomes = tickets.iter().map(|ticket| ticket.wait(NOW).expect("it was let go")[0].outcome);
    assert_eq!(outcomes.collect::<Vec<_>>(), [Outcome::Skipped, Outcome::Skipped, Outcome::Processed]);
}

#[test]
fn a_full_window_waits_for_the_slowest() {
    let dir = Dir::new();
    let (sender, mut fast) = pair(&dir, &options().slots(2));
    let mut slow = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    for number in 1..3 {
        sender.send_copy(&[number]).expect("there is room");
        drop(fast.recv().expect("a message"));
    }
    let unsent = sender.loan(1).expect("small").send_timeout(MOMENT).expect_err("one has received nothing");
    let SendError::Full { sequence: 1, slowest: Some(who), lag: 2, .. } = unsent.error() else {
        panic!("{unsent}");
    };
    assert!(who.pid > 0 && unsent.to_string().contains(&who.to_string()), "{unsent}");
    let held = slow.recv().expect("a message");
    let unsent = unsent.into_loan().try_send().expect_err("it is held");
    drop(held);
    assert_eq!(unsent.into_loan().send().expect("there is room").sequence(), 3);
    assert_eq!((numbers(&mut fast), numbers(&mut slow)), (vec![3], vec![2, 3]));
}

#[test]
fn a_blocked_sender_goes_on_when_a_message_is_let_go() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(1));
    sender.send_copy(&[1]).expect("there is room");
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send_copy(&[2]).map(|ticket| ticket.sequence()));
        drop(receiver.recv().expect("a message"));
        assert_eq!(blocked.join().expect("no panic").expect("there is room by then"), 2);
    });
    assert_eq!(numbers(&mut receiver), [2]);
}

#[test]
fn what_nobody_processed_is_kept_for_the_next_to_come() {
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("cam"), &options().slots(3)).expect("a fresh channel");
    let tickets: Vec<_> = (1..4).map(|number| sender.send_copy(&[number]).expect("there is room")).collect();
    assert!(tickets[0].wait(NOW).expect("there was nobody").is_empty());
    let unsent = sender.loan(1).expect("small").try_send().expect_err("nobody has come");
    assert!(matches!(unsent.error(), SendError::Full { slowest: None, sequence: 1, .. }), "{unsent}");

    let mut first = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    drop(first.recv_timeout(PATIENCE).expect("a message"));
    first.recv_timeout(PATIENCE).expect("a message").give_back();
    drop(first);
    assert!(tickets[0].is_processed() && !tickets[1].is_processed());
    let mut second = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    assert_eq!(numbers(&mut second), [2, 3]);
    assert!(tickets[2].is_processed());
    let mut third = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    assert_eq!(numbers(&mut third), [], "all was processed");
    third.rewind();
    assert_eq!(numbers(&mut third), [1, 2, 3], "but is still there");
}

#[test]
fn who_goes_back_loses_nothing_that_comes_after() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(4));
    for number in 1..5 {
        sender.send_copy(&[number]).expect("there is room");
        drop(receiver.recv().expect("a message"));
    }
    receiver.rewind();
    for number in 5..9 {
        sender.send_copy(&[number]).expect("all before was let go");
    }
    assert_eq!(numbers(&mut receiver), [5, 6, 7, 8], "only what it had had already is overwritten");
    assert_eq!(receiver.receivers()[0].missed, 0);
}

#[test]
fn the_newest_overwrite_the_oldest_and_who_was_slow_learns_how_many() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(4).policy(Policy::Newest));
    for number in 1..=3 {
        sender.send_copy(&[number]).expect("never waits");
    }
    assert_eq!(receiver.recv().expect("a message")[..], [1]);
    for number in 4..=20 {
        sender.send_copy(&[number]).expect("never waits");
    }
    let message = receiver.recv().expect("a message");
    assert_eq!((message[0], message.sequence(), message.missed()), (18, 18, 16), "from the middle of what is kept");
    drop(message);
    assert_eq!(numbers(&mut receiver), [19, 20]);
    assert_eq!(receiver.receivers()[0].missed, 16);
    let mut late = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    assert_eq!(numbers(&mut late), []);
    late.rewind();
    assert_eq!(numbers(&mut late), [17, 18, 19, 20]);
}

#[test]
fn a_ticket_says_what_each_receiver_did() {
    let dir = Dir::new();
    let (sender, mut a) = pair(&dir, &options().slots(8));
    let mut others: Vec<_> = (0..3).map(|_| Receiver::<[u8]>::open(dir.name("cam")).expect("it is there")).collect();
    let ticket = sender.send_copy(&[1; 200]).expect("there is room");
    let error = ticket.wait(Some(MOMENT)).expect_err("nobody has answered");
    let TicketError::TimedOut { who, sequence: 1, .. } = &error else { panic!("{error}") };
    assert_eq!(who.len(), 4, "{error}");

    drop(a.recv().expect("a message"));
    others[0].recv().expect("a message").give_back();
    let message = others[1].recv().expect("a message");
    let panicked = std::thread::spawn(move || {
        let _message = message;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.join().is_err());
    drop(others.pop()); // has closed without having received
    let outcomes: Vec<Outcome> = ticket.wait(NOW).expect("all have answered").iter().map(|it| it.outcome).collect();
    let mut sorted = [0; 3];
    for outcome in outcomes {
        sorted[match outcome {
            Outcome::Processed => 0,
            Outcome::GaveBack => 1,
            Outcome::Skipped => 2,
            other => panic!("{other:?}"),
        }] += 1;
    }
    assert_eq!(sorted, [1, 2, 1]);
    assert!(ticket.is_processed());

    let late = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let unknown = |handled: &[memlane::Handled]| handled.iter().filter(|it| it.outcome == Outcome::Unknown).count();
    let handled = ticket.wait(NOW).expect("all have answered");
    assert_eq!((handled.len(), unknown(&handled)), (4, 1), "another one has the place of the one that has closed");
    drop(late);
    for number in 2..=9 {
        sender.send_copy(&[number]).expect("there is room");
        drop((a.recv(), others[0].recv(), others[1].recv()));
    }
    assert_eq!(unknown(&ticket.wait(NOW).expect("it is long ago")), 4);
}

#[test]
fn a_renewed_ticket_waits_for_those_who_came_later() {
    let dir = Dir::new();
    let (sender, mut first) = pair(&dir, &options());
    let ticket = sender.send_copy(&[1; 200]).expect("there is room");
    first.recv().expect("a message").give_back();
    drop(first);
    let handled = ticket.wait(NOW).expect("it has left");
    assert_eq!((handled[0].outcome, handled.len()), (Outcome::GaveBack, 1));
    assert!(ticket.renewed().wait(NOW).expect("nobody receives").is_empty());

    let mut second = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let again = ticket.renewed();
    assert!(matches!(again.wait(NOW), Err(TicketError::TimedOut { who, .. }) if who.len() == 1));
    drop(second.recv().expect("the message nobody processed"));
    assert_eq!(again.wait(NOW).expect("it was processed")[0].outcome, Outcome::Processed);
    let handled = ticket.wait(NOW).expect("it has left");
    assert_eq!((handled[0].outcome, handled.len()), (Outcome::Unknown, 1), "another one has its place");
    let _third = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    assert_eq!(ticket.renewed().wait(NOW).expect("it was not for the third").len(), 1);
}

#[test]
fn a_channel_without_its_name_goes_on() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options());
    assert_eq!(sender.id(), receiver.id());
    sender.send_copy(&[1]).expect("there is room");
    sender.remove_name().expect("it has it");
    assert!(dir.files().is_empty());
    let other = Sender::<[u8]>::create(dir.name("cam"), &options()).expect("the name is free");
    assert_ne!(sender.id(), other.id());
    sender.remove_name().expect("it is another's");
    assert_eq!(dir.files(), ["cam"]);
    drop(sender);
    assert_eq!(numbers_until_the_end(&mut receiver), [1]);
}

fn numbers_until_the_end(receiver: &mut Receiver) -> Vec<u64> {
    receiver.iter().map(|message| message.expect("nothing is wrong").sequence()).collect()
}

#[test]
fn a_channel_ends_when_its_senders_have_closed_it() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().senders(2));
    let other = Sender::<[u8]>::open(dir.name("cam")).expect("there is a lane");
    let error = Sender::<[u8]>::open(dir.name("cam")).expect_err("there is none");
    assert!(matches!(&error, Error::NoRoom { of: "senders", limit: 2, who, .. } if who.len() == 2), "{error}");
    let late = other.loan(3).expect("small");
    other.send_copy(&[2]).expect("there is room");
    drop(other);
    assert_eq!(receiver.recv().expect("a message")[..], [2]);
    assert!(
        receiver
            .recv_timeout(MOMENT)
            .is_err_and(|error| matches!(error, RecvError::TimedOut { ref senders, .. } if senders.len() == 1))
    );
    drop(sender);
    assert!(matches!(receiver.try_recv(), Err(RecvError::Closed { .. })));
    late.send().expect("it was begun before");
    assert_eq!(receiver.recv().expect("a message").sequence(), 2);
    assert!(receiver.iter().next().is_none());
    let error = receiver.wait_for_sender(Some(MOMENT)).expect_err("nobody has come");
    assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
    let again = Sender::<[u8]>::open(dir.name("cam")).expect("there is a lane");
    receiver.wait_for_sender(NOW).expect("somebody has come");
    assert_eq!(again.senders()[0].lane, 0, "it has the first lane that is free");
    drop((again, receiver.try_recv()));
}

#[test]
fn a_sleeping_receiver_is_woken_by_a_message_and_by_the_end() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options());
    let (says, hears) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for message in &mut receiver {
                says.send(message.expect("nothing is wrong")[0]).expect("somebody listens");
            }
        });
        for number in 0..5 {
            sender.send_copy(&[number]).expect("there is room");
            assert_eq!(hears.recv_timeout(PATIENCE), Ok(number));
        }
        drop(sender);
        assert_eq!(hears.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    });
}

#[test]
fn senders_take_turns_and_each_keeps_its_order() {
    let dir = Dir::new();
    let (a, mut receiver) = pair(&dir, &options().senders(2).slots(8));
    let b = Sender::<[u8]>::open(dir.name("cam")).expect("there is a lane");
    for number in 0..4 {
        a.send_copy(&[number]).expect("there is room");
    }
    for number in 10..14 {
        b.send_copy(&[number]).expect("there is room");
    }
    let got: Vec<u8> = receiver.recv_many(20).expect("messages").iter().map(|message| message[0]).collect();
    assert_eq!(got, [0, 10, 1, 11, 2, 12, 3, 13]);
    assert_eq!(a.senders().iter().map(|info| (info.lane, info.sent)).collect::<Vec<_>>(), [(0, 4), (1, 4)]);
    b.send_copy(&[1]).expect("there is room");
    a.send_copy(&[2]).expect("there is room");
    assert_eq!(receiver.latest().expect("nothing is wrong").expect("a message")[..], [2], "of all lanes");
    assert!(receiver.try_recv().expect("nothing is wrong").is_none());
}

#[test]
fn in_a_queue_each_message_goes_to_one() {
    let dir = Dir::new();
    let (sender, mut a) = pair(&dir, &options().slots(4).policy(Policy::Queue));
    let mut b = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let tickets: Vec<_> = (1..=4).map(|number| sender.send_copy(&[number; 100]).expect("there is room")).collect();
    let unsent = sender.loan(1).expect("small").try_send().expect_err("nothing was processed");
    assert!(matches!(unsent.error(), SendError::Full { .. }), "{unsent}");
    let (first, second) = (a.recv().expect("a message"), b.recv().expect("a message"));
    assert_eq!((first.sequence(), second.sequence()), (1, 2));
    second.give_back();
    let again = a.recv().expect("a message");
    assert_eq!((again.sequence(), again.deliveries()), (2, 2));
    assert!(matches!(a.recv(), Err(RecvError::ClaimsInUse { limit: 2, .. })));
    assert!(!tickets[0].is_processed());
    assert!(matches!(tickets[0].wait(NOW), Err(TicketError::TimedOut { .. })));
    drop(first);
    assert_eq!(tickets[0].wait(NOW).expect("it was processed")[0].outcome, Outcome::Processed);
    assert_eq!(unsent.into_loan().send().expect("there is room").sequence(), 5);
    assert!(tickets[0].is_processed(), "whatever is at its place by now");
    drop(sender);
    assert_eq!(numbers(&mut b), [3, 4, 5]);
    assert!(matches!(b.try_recv(), Ok(None)), "somebody may still die over message 2");
    drop(again);
    assert!(matches!(b.try_recv(), Err(RecvError::Closed { .. })));
}

#[test]
fn who_gave_a_message_of_a_queue_back_and_took_it_again_has_processed_it() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().policy(Policy::Queue));
    let ticket = sender.send_copy(&[1]).expect("there is room");
    receiver.recv().expect("a message").give_back();
    drop(receiver.recv().expect("the same again"));
    let handled = ticket.wait(NOW).expect("it was processed");
    assert_eq!(handled.iter().map(|it| it.outcome).collect::<Vec<_>>(), [Outcome::Processed]);
}

#[test]
fn batches_go_in_order_and_come_back_if_there_is_no_room() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(4).loans(6));
    let mut loans = sender.loan_many(6, 500).expect("buffers");
    assert_eq!(loans.len(), 6);
    for (number, loan) in loans.iter_mut().enumerate() {
        loan[0] = number as u8;
    }
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || Loan::send_many(&mut loans).map(|ticket| ticket.map(|it| it.sequence())));
        for number in 0..6 {
            assert_eq!(receiver.recv().expect("a message")[0], number);
        }
        assert_eq!(sent.join().expect("no panic").expect("there was room in the end"), Some(6));
    });
    assert!(Loan::send_many(&mut Vec::<Loan>::new()).expect("nothing to do").is_none());
}

#[derive(Debug, Clone, Copy, PartialEq, Shareable)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
    id: u32,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Cloud {
    frame: u64,
    points: [Point],
}

#[test]
fn messages_have_a_type() {
    let dir = Dir::new();
    let sender = Sender::<Point>::create(dir.name("point"), &ChannelOptions::new()).expect("a fresh channel");
    assert_eq!(sender.max_message(), 24);
    let mut receiver = Receiver::<Point>::open(dir.name("point")).expect("it is there");
    let point = Point { x: 1.0, y: 2.0, id: 3 };
    sender.send_copy(&point).expect("there is room");
    assert_eq!(*receiver.recv().expect("a message"), point);

    let sender = Sender::<Cloud>::create(dir.name("cloud"), &options()).expect("a fresh channel");
    let mut receiver = Receiver::<Cloud>::open(dir.name("cloud")).expect("it is there");
    let mut cloud = sender.loan(3).expect("a buffer");
    cloud.frame = 7;
    cloud.points.fill(point);
    cloud.shrink(2).expect("it is shorter");
    cloud.send().expect("there is room");
    let cloud = receiver.recv().expect("a message");
    assert_eq!((cloud.frame, &cloud.points), (7, &[point; 2][..]));

    let error = Receiver::<[u8]>::open(dir.name("cloud")).expect_err("another type");
    let Error::TypeMismatch { difference, .. } = &error else { panic!("{error}") };
    assert!(difference.contains("message.points") && difference.contains("Cloud"), "{error}");
    let bad = ChannelOptions::new().max_message(4);
    assert!(matches!(Sender::<Point>::create(dir.name("bad"), &bad), Err(Error::BadOptions { .. })));
}

#[test]
fn a_channel_is_no_segment_and_a_segment_no_channel() {
    let dir = Dir::new();
    let _sender = Sender::<[u8]>::create(dir.name("cam"), &options()).expect("a fresh channel");
    let error = Segment::<Mutex<u64>>::open(dir.name("cam")).map(drop).expect_err("a channel");
    assert!(matches!(error, Error::TypeMismatch { .. }), "{error}");
    assert!(SharedMemory::open(dir.name("cam")).expect("an object").map_mut().is_err(), "nobody scribbles");
    let _raw = SharedMemory::create(dir.name("raw"), 4096, &memlane::Options::new()).expect("a fresh object");
    let error = Receiver::<[u8]>::open(dir.name("raw")).expect_err("raw bytes");
    assert!(error.to_string().contains("raw bytes"), "{error}");
}

#[test]
fn impossible_options_are_refused_with_what_would_fit() {
    let dir = Dir::new();
    let bad = [
        options().slots(0),
        options().senders(0),
        options().receivers(128),
        options().claims(63),
        options().claims(0),
        options().loans(0),
        options().max_message(u64::MAX),
    ];
    for options in bad {
        let error = Sender::<[u8]>::create(dir.name("cam"), &options).expect_err("it cannot be");
        assert!(matches!(error, Error::BadOptions { .. }), "{error}");
    }
    let huge = options().max_message(1 << 40);
    let error = Sender::<[u8]>::create(dir.name("cam"), &huge).expect_err("more than there is");
    assert!(error.to_string().contains("1 x 18 buffers"), "{error}");
    assert!(dir.files().is_empty());
}

#[test]
fn images_and_tensors_say_what_they_are() {
    let dir = Dir::new();
    assert_eq!(Image::size(u32::MAX, u32::MAX, PixelFormat::Rgba16), u64::MAX, "more than can be counted");
    let max = Image::size(5, 4, PixelFormat::Rgb8);
    let sender = Sender::<Image>::create(dir.name("image"), &ChannelOptions::new().max_message(max)).expect("fresh");
    let mut receiver = Receiver::<Image>::open(dir.name("image")).expect("it is there");
    let mut image = sender.loan_image(5, 4, PixelFormat::Rgb8).expect("a buffer");
    image.pixels.fill(9);
    image.send().expect("there is room");
    let image = receiver.recv().expect("a message");
    let (format, rows) = image.rows().expect("it fits together");
    assert_eq!((format, rows.len(), image.width), (PixelFormat::Rgb8, 4, 5));
    assert!(image.rows().expect("it fits").1.all(|row| row == [9; 15]));
    assert!(
        sender.loan_image(5, 5, PixelFormat::Rgb8).is_err()
            && sender.loan_image(u32::MAX, u32::MAX, PixelFormat::Rgba16).is_err()
    );
    let mut wrong = sender.loan_image(5, 4, PixelFormat::Rgb8).expect("a buffer");
    wrong.height = 5;
    assert!(wrong.rows().is_none());

    let max = Tensor::size(&[2, 3], Dtype::F32).expect("it can be counted");
    let sender = Sender::<Tensor>::create(dir.name("tensor"), &ChannelOptions::new().max_message(max)).expect("fresh");
    let mut receiver = Receiver::<Tensor>::open(dir.name("tensor")).expect("it is there");
    let mut tensor = sender.loan_tensor(&[2, 3], Dtype::F32).expect("a buffer");
    tensor.data.fill(1);
    tensor.send().expect("there is room");
    let tensor = receiver.recv().expect("a message");
    let view = tensor.view().expect("it fits together");
    assert_eq!(
        (view.dtype, view.shape, view.strides, view.data),
        (Dtype::F32, &[2, 3][..], &[12, 4][..], &[1; 24][..])
    );
    assert!(sender.loan_tensor(&[1; 9], Dtype::U8).is_err() && sender.loan_tensor(&[u64::MAX, 2], Dtype::U8).is_err());
    let mut wrong = sender.loan_tensor(&[2, 3], Dtype::F32).expect("a buffer");
    wrong.strides[0] = 16;
    assert!(wrong.view().is_none(), "its last element would lie behind its data");
}

#[test]
fn what_was_received_outlives_the_receiver_and_goes_to_other_threads() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(2).policy(Policy::Newest));
    sender.send_copy(&[5; 500]).expect("never waits");
    let message = receiver.recv().expect("a message");
    drop(receiver);
    for _ in 0..20 {
        sender.send_copy(&[6; 500]).expect("never waits");
    }
    let checked = std::thread::spawn(move || message[..] == [5; 500]);
    assert!(checked.join().expect("no panic"));
    assert!(sender.receivers().is_empty());
}

#[test]
fn going_back_loses_nothing_that_comes_meanwhile() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(4));
    let tickets: Vec<_> = (1..=4).map(|number| sender.send_copy(&[number]).expect("there is room")).collect();
    assert_eq!(numbers(&mut receiver), [1, 2, 3, 4]);
    receiver.rewind();
    for number in 5..=8 {
        sender.send_copy(&[number]).expect("all was let go");
    }
    assert_eq!(numbers(&mut receiver), [5, 6, 7, 8]);
    receiver.rewind();
    sender.send_copy(&[9]).expect("all was let go");
    assert_eq!(numbers(&mut receiver), [6, 7, 8, 9], "all that is kept");
    assert_eq!(receiver.receivers()[0].missed, 0, "it had seen what was overwritten");
    drop(tickets);
}

#[test]
fn what_was_processed_stays_so_when_it_is_passed_over_later() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(4));
    let tickets: Vec<_> = (1..=3).map(|number| sender.send_copy(&[number]).expect("there is room")).collect();
    assert_eq!(numbers(&mut receiver), [1, 2, 3]);
    receiver.rewind();
    drop(receiver.latest().expect("nothing is wrong").expect("the last one again"));
    receiver.rewind();
    drop(receiver);
    for ticket in tickets {
        assert_eq!(ticket.wait(NOW).expect("it was let go")[0].outcome, Outcome::Processed);
    }
}

#[test]
fn who_takes_only_the_latest_holds_nobody_up() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(2));
    for round in 0..4 {
        for _ in 0..2 {
            sender.loan(1).expect("small").try_send().expect("what was passed over was let go");
        }
        let latest = receiver.latest().expect("nothing is wrong").expect("a message");
        assert_eq!(latest.sequence(), 2 * round + 2);
    }
}

#[test]
fn the_latest_consumes_nothing_if_it_cannot_be_held() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(8).claims(1).senders(2));
    let other = Sender::<[u8]>::open(dir.name("cam")).expect("there is a lane");
    let send = |sender: &Sender, number| drop(sender.send_copy(&bytes(number, 500)).expect("there is room"));
    send(&sender, 1);
    let held = receiver.recv().expect("a message");
    send(&sender, 2);
    let latest = receiver.latest().expect("nothing is wrong").expect("a message");
    send(&other, 1);
    send(&sender, 3);
    send(&sender, 4);
    assert!(matches!(receiver.latest(), Err(RecvError::ClaimsInUse { .. })));
    drop((held, latest));
    let mut got: Vec<_> = std::iter::from_fn(|| receiver.try_recv().expect("nothing is wrong"))
        .map(|message| (message.lane(), message.sequence()))
        .collect();
    got.sort_unstable();
    assert_eq!(got, [(0, 3), (0, 4), (1, 1)]);
}

#[test]
fn who_processed_a_message_of_a_queue_is_named_although_it_has_closed() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(4).policy(Policy::Queue));
    let ticket = sender.send_copy(&[1]).expect("there is room");
    drop(receiver.recv().expect("a message"));
    drop(receiver);
    let _other = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let handled = ticket.wait(NOW).expect("it was processed");
    assert_eq!(handled.len(), 1);
    assert_eq!((&handled[0].who, handled[0].outcome), (&None, Outcome::Processed));
}

#[test]
fn what_was_overwritten_unseen_does_not_count_as_processed() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(1).policy(Policy::Newest));
    let first = sender.send_copy(&[1]).expect("never waits");
    let second = sender.send_copy(&[2]).expect("never waits");
    assert_eq!(numbers(&mut receiver), [2]);
    assert!(second.is_processed() && !first.is_processed());
    let told = first.wait_processed(Some(PATIENCE));
    assert!(matches!(told, Err(TicketError::TimedOut { waited, .. }) if waited < PATIENCE), "nobody will ever know");
}

#[test]
fn sizes_that_cannot_be_counted_are_too_large() {
    let dir = Dir::new();
    assert_eq!(Image::size(u32::MAX, u32::MAX, PixelFormat::Rgba16), u64::MAX);
    let sender = Sender::<Tensor>::create(dir.name("tensor"), &options()).expect("fresh");
    for shape in [[0, u64::MAX, 2], [u64::MAX, 2, 0]] {
        assert!(matches!(sender.loan_tensor(&shape, Dtype::U8), Err(SendError::TooLarge { .. })), "{shape:?}");
    }
    let empty = sender.loan_tensor(&[3, 0, 2], Dtype::F32).expect("nothing has room");
    assert!(empty.view().is_some_and(|view| view.data.is_empty()));
}

#[test]
fn a_label_says_nothing_of_an_earlier_message() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(1).receivers(1).claims(1).loans(1));
    for round in 0..20 {
        let mut loan = sender.loan(500).expect("a buffer");
        let whole = round % 2 == 0;
        if whole { loan.set_metadata(b"left") } else { loan.set_schema_id(7) }.expect("room for it");
        loan.send().expect("there is room");
        let message = receiver.recv().expect("a message");
        let expected = if whole { (&b"left"[..], 0) } else { (&b""[..], 7) };
        assert_eq!((message.metadata(), message.schema_id()), expected);
    }
}

#[test]
fn what_is_held_of_any_lane_stays_as_it_is() {
    let dir = Dir::new();
    let options = options().senders(2).slots(2).claims(4).policy(Policy::Newest);
    let (first, mut receiver) = pair(&dir, &options);
    let senders = [first, Sender::open(dir.name("cam")).expect("there is a lane")];
    let mut held = Vec::new();
    for number in 0..40 {
        for (lane, sender) in senders.iter().enumerate() {
            let mut loan = sender.loan(500).expect("a buffer");
            loan.fill(number * 2 + lane as u8);
            loan.try_send().expect("never waits");
            if number < 2 {
                held.push(receiver.recv().expect("a message"));
            }
        }
    }
    for message in &held {
        let byte = (message.sequence() as u8 - 1) * 2 + message.lane() as u8;
        assert!(message.iter().all(|it| *it == byte));
    }
}

#[test]
fn buffers_that_were_lent_and_given_back_are_lent_again() {
    let dir = Dir::new();
    let (sender, mut receiver) = pair(&dir, &options().slots(1).receivers(1).claims(1).loans(2));
    for number in 0..30 {
        // One is in the window at most, and none is held.
        assert!(sender.loan_many(9, 500).expect("some").len() >= 4, "after {number}");
        sender.send_copy(&[number; 500]).expect("there is room");
        drop(receiver.recv().expect("a message"));
    }
}

#[test]
fn a_successor_keeps_what_its_predecessor_sent() {
    let dir = Dir::new();
    let (first, mut receiver) = pair(&dir, &options().slots(3));
    for number in 1..4 {
        first.send_copy(&[number; 500]).expect("there is room");
    }
    drop(first);
    let second = Sender::<[u8]>::open(dir.name("cam")).expect("its lane");
    let mut loans = second.loan_many(2, 500).expect("some");
    loans.iter_mut().for_each(|loan| loan.fill(99));
    let loan = loans.pop().expect("one");
    let unsent = loan.try_send().expect_err("nothing was let go");
    assert!(matches!(unsent.error(), SendError::Full { sequence: 1, .. }), "{unsent}");
    for number in 1..4 {
        assert_eq!(receiver.recv_timeout(PATIENCE).expect("a message")[..], [number; 500]);
    }
    assert_eq!(unsent.into_loan().try_send().expect("there is room now").sequence(), 4);
}

#[test]
fn a_newcomer_holds_nobody_up_over_what_came_before_it() {
    let dir = Dir::new();
    let (sender, mut first) = pair(&dir, &options().slots(4));
    for number in 1..4 {
        sender.send_copy(&[number]).expect("there is room");
        drop(first.recv().expect("a message"));
    }
    let mut second = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    for number in 4..12 {
        sender.loan(1).expect("small").try_send().expect("all before was let go");
        assert_eq!((numbers(&mut first), numbers(&mut second)), (vec![number], vec![number]));
    }
}

#[test]
fn what_is_given_back_is_for_those_too_who_had_later_ones() {
    let dir = Dir::new();
    let (sender, mut a) = pair(&dir, &options().policy(Policy::Queue));
    let mut b = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    for number in 1..4 {
        sender.send_copy(&[number]).expect("there is room");
    }
    let held = a.recv().expect("a message");
    assert_eq!(numbers(&mut b), [2, 3]);
    assert_eq!(numbers(&mut b), []);
    held.give_back();
    assert_eq!(numbers(&mut b), [1]);
}
