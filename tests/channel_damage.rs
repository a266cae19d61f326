//! Channels that were damaged in one word, or whose peers died: what each check of theirs is for, one at a time.
//! tests/channel_garbage.rs hits all of them at random.
#![cfg(not(any(miri, memlane_heap)))]
#![allow(missing_docs)]

#[path = "common/channel.rs"]
mod channel;
mod common;
#[path = "common/random.rs"]
mod random;

use channel::{Raw, Shape};
use common::{Dir, hear, role, say, spawn};
use memlane::{Error, Observer, Outcome, Policy, Receiver, RecvError, SendError, Sender};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SHAPE: Shape =
    Shape { policy: Policy::Lossless, slots: 4, senders: 1, receivers: 2, claims: 2, loans: 2, max: 1000 };
/// Of the word that says where a message lies.
const SMALL: u64 = 1 << 16;
const LABELLED: u64 = 1 << 17;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "hold" => {
            let mut receiver = Receiver::<[u8]>::open("cam").expect("it is there");
            say("here");
            hear();
            let _held = receiver.recv().expect("a message");
            say("holds");
            hear();
        }
        "send" => {
            let _sender = Sender::<[u8]>::open("cam").expect("its lane");
            say("here");
            hear();
        }
        other => panic!("no role {other}"),
    }
}

/// A channel, its words, and its receiver.
fn damaged(dir: &Dir, shape: &Shape) -> (Sender, Receiver, Raw) {
    let sender = Sender::create(dir.name("cam"), &shape.options()).expect("a fresh channel");
    let receiver = Receiver::open(dir.name("cam")).expect("it is there");
    (sender, receiver, Raw::open(&dir.path().join("cam")))
}

#[test]
fn a_message_whose_description_makes_no_sense_is_an_error_and_the_next_one_is_received() {
    let (buffer, place) = (SHAPE.buffers(), |len: u64, rest: u64| len << 24 | rest);
    for (what, len, word, tail) in [
        ("another length than its tail says", 500, place(499, 0), 500),
        ("another length than its tail says, small", 8, place(7, SMALL), 8),
        ("no buffer", 500, place(500, buffer), 500),
        ("no buffer by far", 500, place(500, 0xffff), 500),
        ("longer than the longest", 500, place(1001, 0), 1001),
        ("longer than all memory", 500, place((1 << 40) - 1, 0), (1 << 40) - 1),
        ("longer than an entry, and in it", 500, place(500, SMALL), 500),
        ("more than can be counted", 500, place(500, 0), u64::MAX),
    ] {
        let dir = Dir::new();
        let (sender, mut receiver, raw) = damaged(&dir, &SHAPE);
        sender.send_copy(&vec![1; len]).expect("there is room");
        sender.send_copy(&[2; 300]).expect("there is room");
        raw.put(SHAPE.entry(0, 1) + 8, word);
        raw.put(SHAPE.entry(0, 1) + 16, tail);
        let error = receiver.recv_timeout(PATIENCE).expect_err(what);
        assert!(matches!(error, RecvError::Corrupt { lane: 0, sequence: 1, .. }), "{what}: {error}");
        assert_eq!(receiver.recv_timeout(PATIENCE).expect("the next one")[..], [2; 300], "{what}");
        // Who takes the lane over finds it, too.
        drop(sender);
        let successor = Sender::<[u8]>::open(dir.name("cam")).expect("its lane");
        successor.send_copy(&[3; 300]).expect("there is room");
        assert_eq!(receiver.recv_timeout(PATIENCE).expect("the next one")[..], [3; 300], "{what}");
    }
}

#[test]
fn a_message_of_fixed_size_has_no_tail() {
    let dir = Dir::new();
    let shape = Shape { max: 8, ..SHAPE };
    let sender = Sender::<u64>::create(dir.name("cam"), &shape.options()).expect("a fresh channel");
    let mut receiver = Receiver::<u64>::open(dir.name("cam")).expect("it is there");
    sender.send_copy(&7).expect("there is room");
    Raw::open(&dir.path().join("cam")).put(shape.entry(0, 1) + 16, 1);
    assert!(matches!(receiver.recv_timeout(PATIENCE), Err(RecvError::Corrupt { .. })));
}

#[test]
fn metadata_is_not_longer_than_it_can_be() {
    let dir = Dir::new();
    let (sender, mut receiver, raw) = damaged(&dir, &SHAPE);
    let mut loan = sender.loan(500).expect("a buffer");
    loan.set_metadata(b"left").expect("room for it");
    loan.send().expect("there is room");
    let word = raw.get(SHAPE.entry(0, 1) + 8);
    assert_eq!(word & (SMALL | LABELLED), LABELLED);
    raw.put(SHAPE.label(0, word & 0xffff) + 8, 65);
    let copied = Observer::open(dir.name("cam")).expect("it is there").copy(0, 1, 9).expect("it can be read");
    assert!(copied.expect("it is kept").metadata.is_empty());
    assert!(receiver.recv_timeout(PATIENCE).expect("a message").metadata().is_empty());
}

#[test]
fn an_observer_believes_nothing() {
    let dir = Dir::new();
    let (sender, _receiver, raw) = damaged(&dir, &SHAPE);
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    for (len, rest) in [(1001, 0), (1 << 39, 0), (89, SMALL), (500, 0xffff)] {
        let sequence = sender.send_copy(&[1; 500]).expect("there is room").sequence();
        raw.put(SHAPE.entry(0, sequence) + 8, len << 24 | rest);
        let error = observer.copy(0, sequence, 99).expect_err("it makes no sense");
        assert!(matches!(error, Error::Corrupt { field: "message", .. }), "{error}");
    }
    for head in [u64::MAX, 1 << 63] {
        raw.put(SHAPE.lane(0), head);
        assert_eq!(observer.sent().expect("it can be read"), [1 << 61]);
        observer.look().expect("it can be read");
    }
}

#[test]
fn a_head_that_no_sender_wrote_stops_nobody() {
    for head in [u64::MAX, u64::MAX - 1, 1 << 62] {
        let dir = Dir::new();
        let (sender, mut receiver, raw) = damaged(&dir, &SHAPE);
        sender.send_copy(&[1]).expect("there is room");
        raw.put(SHAPE.lane(0), head);
        let _any = (receiver.try_recv().map(drop), receiver.latest().map(drop));
        receiver.rewind();
        let _lists = (receiver.receivers(), sender.senders(), receiver.wait(Some(Duration::ZERO)));
        Receiver::<[u8]>::open(dir.name("cam")).expect("there is a place");
        drop(sender);
        Sender::<[u8]>::open(dir.name("cam")).expect("its lane");
    }
}

#[test]
fn who_polls_beside_a_message_that_is_being_overwritten_gets_the_next_one() {
    let dir = Dir::new();
    let (sender, mut receiver, raw) = damaged(&dir, &Shape { policy: Policy::Newest, ..SHAPE });
    for number in 1..=4 {
        sender.send_copy(&[number]).expect("it overwrites");
    }
    // As if the sender were stopped while it puts the fifth where the first one was.
    raw.put(SHAPE.entry(0, 1), 0);
    let message = receiver.try_recv().expect("nothing is wrong").expect("there are three");
    assert_eq!((message[0], message.sequence()), (message.sequence() as u8, 1 + message.missed()));
}

#[test]
fn a_message_is_sent_before_its_sender_says_so() {
    let dir = Dir::new();
    let (sender, mut receiver, raw) = damaged(&dir, &SHAPE);
    sender.send_copy(&[1]).expect("there is room");
    sender.send_copy(&[2]).expect("there is room");
    // As if it had gone between the second message and its head.
    raw.put(SHAPE.lane(0), 1);
    drop(sender);
    let successor = Sender::<[u8]>::open(dir.name("cam")).expect("its lane");
    assert_eq!(successor.send_copy(&[3]).expect("there is room").sequence(), 3);
    for number in 1..4 {
        assert_eq!(receiver.recv_timeout(PATIENCE).expect("a message")[..], [number]);
    }
}

#[test]
fn a_claim_of_what_is_no_buffer_is_nothing() {
    let dir = Dir::new();
    let (sender, mut receiver, raw) = damaged(&dir, &SHAPE);
    for buffer in [SHAPE.buffers(), 0xffff, 0xffff_ffff] {
        raw.put(SHAPE.claim(1, 0), 1 << 32 | buffer);
        for number in 0..30 {
            sender.send_copy(&[number; 500]).expect("a loan never waits");
            assert_eq!(receiver.recv_timeout(PATIENCE).expect("a message")[..], [number; 500]);
        }
    }
}

#[test]
fn who_has_the_place_of_a_dead_receiver_begins_anew() {
    let dir = Dir::new();
    let shape = Shape { policy: Policy::Newest, receivers: 1, ..SHAPE };
    let sender = Sender::<[u8]>::create(dir.name("cam"), &shape.options()).expect("a fresh channel");
    let mut child = spawn(dir.path(), "hold", &[]);
    child.expect("here");
    let tickets: Vec<_> = (0..10).map(|_| sender.send_copy(&[1; 500]).expect("never waits")).collect();
    child.say("receive");
    child.expect("holds");
    let of = |sender: &Sender| sender.receivers().first().map(|info| (info.claims, info.missed > 0));
    assert_eq!(of(&sender), Some((1, true)));
    child.kill();
    let outcomes = |timeout| tickets[9].wait(timeout).map(|all| all.iter().map(|it| it.outcome).collect::<Vec<_>>());
    assert_eq!(outcomes(Some(PATIENCE)).expect("it has died"), [Outcome::Died]);
    let _receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("its place");
    assert_eq!(of(&sender), Some((0, false)));
    assert!(sender.receivers()[0].latency.is_none());
}

/// What is said without a limit of time, if it is said at all.
#[test]
fn what_a_dead_receiver_says_is_believed_as_far_as_messages_were_sent() {
    let dir = Dir::new();
    let shape = Shape { receivers: 1, ..SHAPE };
    let (sender, receiver, raw) = damaged(&dir, &shape);
    drop(receiver);
    for sequence in 0..shape.slots {
        raw.put(shape.outcome(0, 0, sequence), (sequence + 1000 * shape.slots) << 2 | 3);
    }
    drop(Receiver::<[u8]>::open(dir.name("cam")).expect("its place"));
    sender.send_copy(&[1; 500]).expect("there is room");
    let mut next = Receiver::<[u8]>::open(dir.name("cam")).expect("its place");
    assert_eq!(next.try_recv().expect("nothing is wrong").expect("nobody has processed it").sequence(), 1);
}

fn told<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (says, hears) = mpsc::channel();
    std::thread::spawn(move || says.send(call()));
    hears.recv_timeout(PATIENCE).expect("it is told")
}

#[test]
fn who_waits_without_limit_is_told_of_a_death() {
    let dir = Dir::new();
    let keep = SHAPE.options().persistence(memlane::Persistence::Keep);
    drop(Sender::<[u8]>::create(dir.name("cam"), &keep).expect("a fresh channel"));
    let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let mut child = spawn(dir.path(), "send", &[]);
    child.expect("here");
    child.kill();
    let error = told(move || receiver.recv().map(drop)).expect_err("it has died");
    assert!(matches!(error, RecvError::SenderDied { .. }), "{error}");

    let mut child = spawn(dir.path(), "hold", &[]);
    child.expect("here");
    let sender = Sender::<[u8]>::open(dir.name("cam")).expect("its lane");
    let mut tickets: Vec<_> = (0..SHAPE.slots).map(|_| sender.send_copy(&[1; 500]).expect("there is room")).collect();
    let ticket = tickets.pop().expect("one");
    child.kill();
    let error = told(move || sender.send_copy(&[2; 500]).map(drop)).expect_err("it has died");
    assert!(matches!(error, SendError::NoReceiver { .. }), "{error}");
    let handled = told(move || ticket.wait(None)).expect("it has died");
    assert!(handled.iter().all(|it| it.outcome == Outcome::Died || it.outcome == Outcome::Skipped), "{handled:?}");
}

#[test]
fn however_short_a_wait_is_it_is_told_of_a_death() {
    let dir = Dir::new();
    let keep = SHAPE.options().persistence(memlane::Persistence::Keep);
    drop(Sender::<[u8]>::create(dir.name("cam"), &keep).expect("a fresh channel"));
    let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let mut child = spawn(dir.path(), "send", &[]);
    child.expect("here");
    child.kill();
    let error = receiver.recv_timeout(Duration::from_nanos(1)).expect_err("it has died");
    assert!(matches!(error, RecvError::SenderDied { .. }), "{error}");
}

/// The rights of the mapping in which an address lies.
fn rights(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("what is mapped");
    let of = |line: &str| {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        range.contains(&address).then(|| words.next().map(str::to_owned))?
    };
    maps.lines().find_map(of).expect("it is mapped")
}

#[test]
fn a_receiver_cannot_write_what_it_receives_and_a_sender_only_in_its_own_lane() {
    let dir = Dir::new();
    let shape = Shape { senders: 2, ..SHAPE };
    let (first, mut receiver, _) = damaged(&dir, &shape);
    let second = Sender::<[u8]>::open(dir.name("cam")).expect("there is a lane");
    for sender in [&first, &second] {
        let loan = sender.loan(500).expect("a buffer");
        assert_eq!(rights(loan.as_ptr().addr()), "rw-s");
        loan.send().expect("there is room");
        let message = receiver.recv_timeout(PATIENCE).expect("a message");
        assert_eq!(rights(message.as_ptr().addr()), "r--s");
    }
}
