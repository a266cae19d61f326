//! Waiting for any of several receivers.
#![allow(missing_docs)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{ChannelOptions, Key, Policy, Receiver, RecvError, Sender, WaitSet, retire};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const NOW: Option<Duration> = Some(Duration::ZERO);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((_, arguments)) = role() else { return };
    let sender = Sender::<[u8]>::open(arguments[0].as_str()).expect("there is a lane");
    say("here");
    while let Some(word) = hear() {
        sender.send_copy(word.as_bytes()).expect("there is room");
    }
}

fn options() -> ChannelOptions {
    ChannelOptions::new().senders(2).max_message(16).slots(2)
}

fn channels(dir: &Dir, count: usize) -> (Vec<Sender>, Vec<Receiver>) {
    let name = |number| dir.name(&format!("cam{number}"));
    let senders: Vec<_> = (0..count).map(|it| Sender::create(name(it), &options()).expect("new")).collect();
    let receivers = (0..count).map(|it| Receiver::open(name(it)).expect("it is there")).collect();
    (senders, receivers)
}

#[test]
fn those_that_have_something_are_named_until_it_is_received() {
    let dir = Dir::new();
    let (senders, mut receivers) = channels(&dir, 3);
    let set = WaitSet::new();
    let keys: Vec<Key> = receivers.iter().map(|receiver| set.add(receiver)).collect();
    assert_eq!((set.len(), set.wait(NOW)), (3, vec![]));
    senders[2].send_copy(b"c").expect("there is room");
    senders[0].send_copy(b"a").expect("there is room");
    assert_eq!(set.wait(PATIENCE), [keys[0], keys[2]]);
    drop(receivers[0].recv().expect("a message"));
    assert_eq!(set.wait(PATIENCE), [keys[2]]);
    assert!(set.remove(keys[2]) && !set.remove(keys[2]));
    assert_eq!(set.wait(NOW), []);
    retire(dir.name("cam1")).expect("it is there");
    assert_eq!(set.wait(PATIENCE), [keys[1]], "its next call fails");
    assert!(matches!(receivers[1].recv(), Err(RecvError::Unusable(_))));
}

#[test]
fn it_can_be_changed_and_woken_while_one_waits() {
    let dir = Dir::new();
    let (senders, receivers) = channels(&dir, 2);
    let set = WaitSet::new();
    let first = set.add(&receivers[0]);
    let (says, hears) = mpsc::channel();
    std::thread::scope(|scope| {
        let set = &set;
        scope.spawn(move || {
            while says.send(set.wait(PATIENCE)).is_ok() {
                // The other thread has seen it, and has done the next thing or will.
            }
        });
        set.wake();
        assert_eq!(hears.recv(), Ok(vec![]));
        senders[1].send_copy(b"x").expect("there is room");
        let second = set.add(&receivers[1]);
        assert_eq!(hears.recv(), Ok(vec![second]));
        assert!(set.remove(second) && set.remove(first));
        drop(hears);
        set.wake();
    });
    assert!(set.is_empty());
}

#[test]
fn a_wake_ends_the_next_wait_without_limit() {
    let dir = Dir::new();
    let (_senders, receivers) = channels(&dir, 1);
    let (says, hears) = mpsc::channel();
    let set = WaitSet::new();
    set.add(&receivers[0]);
    set.wake();
    std::thread::spawn(move || {
        let woken = set.wait(None);
        let (start, moment) = (Instant::now(), Duration::from_millis(30));
        says.send((woken, set.wait(Some(moment)), start.elapsed() >= moment))
    });
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)), Ok((vec![], vec![], true)), "one wait, and not the next");
}

#[test]
fn more_members_than_the_system_waits_for_at_once() {
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("wide"), &ChannelOptions::new().receivers(100)).expect("new");
    let (senders, mut receivers) = channels(&dir, 210);
    let wide: Vec<_> = (0..90).map(|_| Receiver::<[u8]>::open(dir.name("wide")).expect("it is there")).collect();
    let set = WaitSet::new();
    let keys: Vec<Key> = receivers.iter().chain(&wide).map(|receiver| set.add(receiver)).collect();
    let (says, hears) = mpsc::channel();
    let (asks, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let set = &set;
        scope.spawn(move || {
            while asked.recv().is_ok() {
                says.send(set.wait(PATIENCE)).expect("somebody listens");
            }
        });
        for index in [0, 127, 209] {
            asks.send(()).expect("somebody listens");
            senders[index].send_copy(b"x").expect("there is room");
            assert_eq!(hears.recv(), Ok(vec![keys[index]]));
            drop(receivers[index].recv().expect("a message"));
        }
        asks.send(()).expect("somebody listens");
        sender.send_copy(b"x").expect("there is room");
        assert_eq!(hears.recv().map(|ready| ready.len()), Ok(90));
        drop(asks);
    });
}

#[test]
fn a_death_makes_a_receiver_ready() {
    let dir = Dir::new();
    let (mut senders, mut receivers) = channels(&dir, 2);
    let set = WaitSet::new();
    let keys: Vec<Key> = receivers.iter().map(|receiver| set.add(receiver)).collect();
    let mut child = spawn(dir.path(), "send", &["cam1"]);
    child.expect("here");
    drop(senders.pop());
    assert_eq!(set.wait(NOW), [], "the other one lives");
    child.say("hello");
    assert_eq!(set.wait(PATIENCE), [keys[1]]);
    drop(receivers[1].recv().expect("a message"));
    child.kill();
    assert_eq!(set.wait(PATIENCE), [keys[1]]);
    assert!(
        matches!(receivers[1].recv(), Err(RecvError::SenderDied { sender: Some(who), .. }) if who.pid == child.pid())
    );
}

#[test]
fn a_message_of_a_queue_is_for_whoever_comes_first() {
    let dir = Dir::new();
    let options = options().policy(Policy::Queue);
    let sender = Sender::<[u8]>::create(dir.name("jobs"), &options).expect("new");
    let mut workers: Vec<_> = (0..2).map(|_| Receiver::<[u8]>::open(dir.name("jobs")).expect("it is there")).collect();
    let set = WaitSet::new();
    let keys: Vec<Key> = workers.iter().map(|worker| set.add(worker)).collect();
    sender.send_copy(b"job").expect("there is room");
    assert_eq!(set.wait(PATIENCE), keys);
    let job = workers[0].recv().expect("a message");
    assert_eq!(set.wait(NOW), [], "somebody has it");
    job.give_back();
    assert_eq!(set.wait(PATIENCE), keys);
}
