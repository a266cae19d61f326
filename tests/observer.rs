//! Watching without taking part: channels, and the locks of typed objects.
#![allow(missing_docs)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{
    ChannelOptions, Error, Locked, Mutex, Observer, Options, Policy, Receiver, Segment, Sender, Shareable, held_locks,
    list,
};

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    first: Mutex<u64>,
    second: Mutex<u64>,
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "hold" => {
            let shared = Segment::<Shared>::open("locks").expect("it is there");
            let _held = shared.second.lock(&shared).expect("the lock");
            say("held");
            hear();
        }
        "receive" => {
            let mut receiver = Receiver::<[u8]>::open("cam").expect("it is there");
            say("here");
            while hear().is_some() {
                let held = receiver.recv().expect("a message");
                say("holds");
                hear();
                drop(held);
                say("let go");
            }
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn an_observer_sees_who_takes_part_and_how_far_they_are() {
    let dir = Dir::new();
    let sender =
        Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new().slots(3).max_message(500)).expect("new");
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    let info = observer.look().expect("it can be read");
    assert_eq!(
        (info.policy, info.message_type.as_str(), info.max_message, info.slots),
        (Policy::Lossless, "bytes", 500, 3)
    );
    assert_eq!((info.max_senders, info.max_receivers, info.sent, info.used), (1, 4, vec![0], vec![0]));
    let who = info.senders[0].who.clone().expect("this process");
    assert_eq!((who.pid, info.receivers.len()), (std::process::id(), 0));

    let mut child = spawn(dir.path(), "receive", &[]);
    child.expect("here");
    for number in 1..=3 {
        sender.send_copy(&[number; 200]).expect("there is room");
    }
    let look = || {
        let info = observer.look().expect("it can be read");
        let receiver = info.receivers.first().map(|it| (it.who.as_ref().map(|who| who.pid), it.lag, it.claims));
        (info.sent[0], info.used[0], receiver)
    };
    let pid = Some(child.pid());
    assert_eq!(look(), (3, 3, Some((pid, 3, 0))));
    child.say("receive");
    child.expect("holds");
    assert_eq!(look(), (3, 3, Some((pid, 2, 1))));
    child.say("let go");
    child.expect("let go");
    assert_eq!(look(), (3, 2, Some((pid, 2, 0))));
    assert!(observer.look().expect("it can be read").receivers[0].latency.is_some());
    child.say("receive");
    child.expect("holds");
    child.kill();
    assert_eq!(look(), (3, 2, None), "the dead receive nothing, and what nobody processed is kept");
    assert!(sender.receivers().is_empty(), "an observer is no receiver");
}

#[test]
fn an_observer_copies_what_is_kept_and_nothing_else() {
    let dir = Dir::new();
    let options = ChannelOptions::new().slots(2).max_message(500).policy(Policy::Newest);
    let sender = Sender::<[u8]>::create(dir.name("cam"), &options).expect("new");
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    let copy = |sequence, most| observer.copy(0, sequence, most).expect("it can be read");
    assert_eq!((copy(0, 9), copy(1, 9)), (None, None));
    sender.send_copy(&[1; 200]).expect("never waits");
    let mut small = sender.loan(3).expect("small");
    small.copy_from_slice(&[7, 8, 9]);
    small.send().expect("never waits");
    let large = copy(1, usize::MAX).expect("it is kept");
    assert_eq!((large.size, large.bytes, large.metadata, large.schema_id), (200, vec![1; 200], vec![], 0));
    assert!(large.age.is_some());
    assert_eq!(copy(1, 5).expect("it is kept").bytes, [1; 5]);
    assert_eq!(copy(2, usize::MAX).expect("it is kept").bytes, [7, 8, 9]);
    let mut labelled = sender.loan(3).expect("small");
    labelled.fill(4);
    labelled.set_metadata(b"left").expect("it fits");
    labelled.set_schema_id(5).expect("it fits");
    labelled.send().expect("never waits");
    let labelled = copy(3, usize::MAX).expect("it is kept");
    assert_eq!((labelled.bytes, labelled.metadata, labelled.schema_id), (vec![4; 3], b"left".to_vec(), 5));
    assert_eq!((copy(1, 9), copy(4, 9), observer.copy(1, 1, 9).expect("no such lane")), (None, None, None));
}

#[test]
fn an_observer_keeps_nothing_alive() {
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new()).expect("new");
    sender.send_copy(b"last").expect("there is room");
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    let id = observer.id();
    drop(sender);
    assert!(list(Some(dir.path())).expect("the directory").is_empty());
    assert_eq!(observer.copy(0, 1, 9).expect("it can be read").expect("it is kept").bytes, b"last");
    assert!(matches!(Observer::open(dir.name("cam")), Err(Error::NotFound { .. })));
    let _again = Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new()).expect("new");
    assert_ne!(Observer::open(dir.name("cam")).expect("it is there").id(), id);
    let _segment = Segment::<Shared>::create(dir.name("locks"), (), &Options::new(), |_| ()).expect("new");
    assert!(matches!(Observer::open(dir.name("locks")), Err(Error::TypeMismatch { .. })));
}

#[test]
fn held_locks_are_named_with_their_holders() {
    let dir = Dir::new();
    let shared = Segment::<Shared>::create(dir.name("locks"), (), &Options::new(), |_| ()).expect("new");
    let held = || held_locks(dir.name("locks")).expect("it can be read");
    assert!(held().is_empty());
    let mut child = spawn(dir.path(), "hold", &[]);
    child.expect("held");
    let first = shared.first.lock(&shared).expect("the lock");
    let names = |held: &[memlane::HeldLock]| {
        held.iter().map(|it| (it.lock.clone(), it.holder.as_ref().map(|who| who.pid), it.alive)).collect::<Vec<_>>()
    };
    let (own, other) = (Some(std::process::id()), Some(child.pid()));
    assert_eq!(names(&held()), [("first".into(), own, true), ("second".into(), other, true)]);
    drop(first);
    child.kill();
    assert_eq!(names(&held()), [("second".into(), other, false)]);
    assert!(matches!(shared.second.lock(&shared), Ok(Locked::OwnerDied(_))));
    assert!(matches!(held_locks(dir.name("none")), Err(Error::NotFound { .. })));
}
