//! Waiting for any of several receivers and events.
#![allow(missing_docs)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{
    ChannelOptions, Event, Key, Options, Policy, Receiver, RecvError, Region, Segment, Sender, Shareable, WaitSet,
    retire,
};
use std::mem::offset_of;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const NOW: Option<Duration> = Some(Duration::ZERO);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    if role == "set" {
        let alarms = Segment::<Alarms>::open(arguments[0].as_str()).expect("it is there");
        say("here");
        while let Some(number) = hear() {
            alarms.list[number.parse::<usize>().expect("a number")].set();
        }
        return;
    }
    let sender = Sender::<[u8]>::open(arguments[0].as_str()).expect("there is a lane");
    say("here");
    while let Some(word) = hear() {
        sender.send_copy(word.as_bytes()).expect("there is room");
    }
}

#[derive(Shareable)]
#[repr(C)]
struct Alarms {
    list: [Event; 150],
}

fn alarms(dir: &Dir) -> Arc<Segment<Alarms>> {
    Arc::new(Segment::create(dir.name("alarms"), (), &Options::new(), |_| ()).expect("new"))
}

/// Returns when somebody sleeps, or is about to, until an event is set.
fn wait_for_a_waiter(dir: &Dir, event: usize) {
    let bytes = Region::open(dir.name("alarms")).expect("it is there");
    let (start, mut word) = (Instant::now(), [0; 4]);
    while u32::from_ne_bytes(word) & 1 == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "nobody waits");
        std::thread::yield_now();
        bytes.read_at(offset_of!(Alarms, list) + event * size_of::<Event>(), &mut word).expect("inside");
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

#[test]
fn events_are_named_beside_receivers_and_stay_set() {
    let dir = Dir::new();
    let (senders, receivers) = channels(&dir, 1);
    let alarms = alarms(&dir);
    let set = WaitSet::new();
    let fire = set.add_event(&alarms, |alarms| &alarms.list[7]);
    let message = set.add(&receivers[0]);
    let flood = set.add_event(&alarms, |alarms| &alarms.list[8]);
    assert_eq!((set.len(), set.wait(NOW)), (3, vec![]));
    assert_eq!(format!("{set:?}").matches("text: \"alarms\"").count(), 2);
    alarms.list[8].set();
    assert_eq!(set.wait(PATIENCE), [flood]);
    senders[0].send_copy(b"x").expect("there is room");
    alarms.list[7].set();
    assert_eq!(set.wait(PATIENCE), [fire, message, flood]);
    assert!(alarms.list[8].reset(), "the set leaves it set");
    assert_eq!(set.wait(PATIENCE), [fire, message]);
    assert!(set.remove(fire) && !set.remove(fire));
    assert_eq!(set.wait(PATIENCE), [message]);
    retire(dir.name("alarms")).expect("it is there");
    let mut ready = set.wait(PATIENCE);
    ready.sort();
    assert_eq!(ready, [message, flood], "its next call fails");
}

#[test]
fn an_event_stays_open_until_it_is_removed() {
    let dir = Dir::new();
    let alarms = alarms(&dir);
    let again = Segment::<Alarms>::open(dir.name("alarms")).expect("it is there");
    let owner = alarms.region().owner();
    let set = WaitSet::new();
    let key = set.add_event(&alarms, |alarms| &alarms.list[0]);
    drop(alarms);
    again.list[0].set();
    assert_eq!(set.wait(PATIENCE), [key]);
    assert!(again.region().is_alive(owner));
    assert!(set.remove(key));
    assert!(!again.region().is_alive(owner));
}

#[test]
fn an_event_of_another_segment_is_named_at_once() {
    let dir = Dir::new();
    let alarms = alarms(&dir);
    let other = Segment::<Alarms>::create(dir.name("other"), (), &Options::new(), |_| ()).expect("new");
    let other: &'static Segment<Alarms> = Box::leak(Box::new(other));
    let set = WaitSet::new();
    let wrong = set.add_event(&alarms, |_| &other.list[0]);
    assert_eq!(set.wait(PATIENCE), [wrong], "its next call fails");
}

#[test]
fn who_sleeps_says_so_in_the_event_and_can_be_given_others() {
    let dir = Dir::new();
    let (_senders, receivers) = channels(&dir, 1);
    let alarms = alarms(&dir);
    let set = WaitSet::new();
    set.add(&receivers[0]);
    let first = set.add_event(&alarms, |alarms| &alarms.list[0]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| set.wait(PATIENCE));
        wait_for_a_waiter(&dir, 0);
        let second = set.add_event(&alarms, |alarms| &alarms.list[1]);
        wait_for_a_waiter(&dir, 1);
        assert!(set.remove(first));
        alarms.list[1].set();
        assert_eq!(waiter.join().expect("no panic"), [second]);
        alarms.list[0].set();
        assert_eq!(set.wait(PATIENCE), [second], "it stays set, and the other one is no member");
        assert!(alarms.list[1].reset());
        let waiter = scope.spawn(|| set.wait(PATIENCE));
        wait_for_a_waiter(&dir, 1);
        set.wake();
        assert_eq!(waiter.join().expect("no panic"), []);
    });
}

#[test]
fn more_members_of_both_kinds_than_the_system_waits_for_at_once() {
    let dir = Dir::new();
    let (senders, mut receivers) = channels(&dir, 120);
    let alarms = alarms(&dir);
    let set = WaitSet::new();
    let mut keys = Vec::new();
    for (number, receiver) in receivers.iter().enumerate() {
        keys.push(set.add_event(&alarms, move |alarms| &alarms.list[number]));
        keys.push(set.add(receiver));
    }
    for number in receivers.len()..alarms.list.len() {
        keys.push(set.add_event(&alarms, move |alarms| &alarms.list[number]));
    }
    assert!(keys.len() > 2 * 127);
    let (says, hears) = mpsc::channel();
    let (asks, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let set = &set;
        scope.spawn(move || {
            while asked.recv().is_ok() {
                says.send(set.wait(PATIENCE)).expect("somebody listens");
            }
        });
        for number in [0, 64, 119, 149] {
            asks.send(()).expect("somebody listens");
            wait_for_a_waiter(&dir, number);
            alarms.list[number].set();
            let key = keys[if number < receivers.len() { 2 * number } else { number + receivers.len() }];
            assert_eq!(hears.recv(), Ok(vec![key]));
            assert!(alarms.list[number].reset());
            let Some(receiver) = receivers.get_mut(number) else { continue };
            asks.send(()).expect("somebody listens");
            senders[number].send_copy(b"x").expect("there is room");
            assert_eq!(hears.recv(), Ok(vec![keys[2 * number + 1]]));
            drop(receiver.recv().expect("a message"));
        }
        drop(asks);
    });
}

#[test]
fn another_process_sets_an_event_and_dies() {
    let dir = Dir::new();
    let (_senders, receivers) = channels(&dir, 1);
    let alarms = alarms(&dir);
    let set = WaitSet::new();
    set.add(&receivers[0]);
    let key = set.add_event(&alarms, |alarms| &alarms.list[3]);
    let mut child = spawn(dir.path(), "set", &["alarms"]);
    child.expect("here");
    for _ in 0..50 {
        assert_eq!(set.wait(NOW), []);
        child.say("3");
        assert_eq!(set.wait(PATIENCE), [key]);
        assert!(alarms.list[3].reset());
    }
    let moment = Duration::from_millis(100);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| set.wait(Some(moment)));
        child.kill();
        assert_eq!(waiter.join().expect("no panic"), [], "a death is no event");
    });
    child = spawn(dir.path(), "set", &["alarms"]);
    child.expect("here");
    child.say("3");
    assert_eq!(set.wait(PATIENCE), [key]);
}

#[test]
fn what_is_in_others_hands_when_nobody_sends_any_more_is_waited_for() {
    let dir = Dir::new();
    let options = options().policy(Policy::Queue);
    let sender = Sender::<[u8]>::create(dir.name("jobs"), &options).expect("a channel");
    let open = || Receiver::<[u8]>::open(dir.name("jobs")).expect("it is there");
    let (mut worker, mut other) = (open(), open());
    sender.send_copy(b"job").expect("there is room");
    let job = worker.recv().expect("a message");
    drop(sender);
    let set = WaitSet::new();
    let key = set.add(&other);
    assert_eq!(set.wait(NOW), [], "its worker may still give it back, or die");
    job.give_back();
    assert_eq!(set.wait(PATIENCE), [key]);
    drop(other.recv().expect("it came back"));
    assert_eq!(set.wait(PATIENCE), [key], "nothing can come any more");
}
