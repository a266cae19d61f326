//! Watching without taking part: channels, and the locks of typed objects.
#![allow(missing_docs)]

#[path = "common/by_hand.rs"]
mod by_hand;
mod common;

use by_hand::by_hand;
use common::{Dir, hear, role, say, spawn};
use memlane::{
    ChannelOptions, Dtype, Error, FieldValue, Image, Locked, Mutex, Observer, Options, PixelFormat, Policy, Receiver,
    Segment, Sender, Shareable, Tensor, held_locks, inspect, list,
};
use std::sync::atomic::{AtomicBool, Ordering};

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
        "send" => {
            let sender = Sender::<[u8]>::open("cam").expect("a lane is free");
            say("sends");
            hear();
            drop(sender);
            say("has ended");
            hear();
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
fn what_is_overwritten_while_it_is_copied_is_not_copied() {
    const LEN: usize = 1 << 20;
    let dir = Dir::new();
    let options = ChannelOptions::new().slots(1).receivers(1).claims(1).loans(1).max_message(LEN as u64);
    let sender = Sender::<[u8]>::create(dir.name("cam"), &options.policy(Policy::Newest)).expect("new");
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each message has its number at both ends: much faster to write than to copy.
        scope.spawn(|| {
            for number in 1_u64.. {
                let mut loan = sender.loan(LEN).expect("a buffer");
                loan[..8].copy_from_slice(&number.to_ne_bytes());
                loan[LEN - 8..].copy_from_slice(&number.to_ne_bytes());
                loan.send().expect("never waits");
                if ended.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let (mut gone, mut torn) = (0, false);
        while gone < 20 && !torn {
            let sequence = observer.sent().expect("it can be read")[0];
            match observer.copy(0, sequence, usize::MAX).expect("it can be read").filter(|_| sequence > 0) {
                Some(copied) => {
                    let number = sequence.to_ne_bytes();
                    torn = copied.bytes[..8] != number || copied.bytes[LEN - 8..] != number;
                }
                None => gone += u32::from(sequence > 0),
            }
        }
        ended.store(true, Ordering::Relaxed);
        assert!(!torn, "what was copied is of two messages");
    });
}

#[test]
fn a_message_is_used_while_anybody_waits_for_it() {
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new()).expect("new");
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    let used = || observer.look().expect("it can be read").used;
    let mut receivers: Vec<_> = (0..2).map(|_| Receiver::<[u8]>::open(dir.name("cam")).expect("it is there")).collect();
    sender.send_copy(&[1]).expect("there is room");
    for receiver in &mut receivers {
        assert_eq!(used(), [1]);
        drop(receiver.recv().expect("a message"));
    }
    assert_eq!(used(), [0]);
}

#[test]
fn an_observer_tells_senders_that_died_from_those_that_ended() {
    let dir = Dir::new();
    let _own = Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new().senders(2)).expect("new");
    let observer = Observer::open(dir.name("cam")).expect("it is there");
    let look = || {
        let info = observer.look().expect("it can be read");
        let pids = |senders: &[memlane::SenderInfo]| {
            senders.iter().map(|it| (it.lane, it.who.as_ref().map(|who| who.pid))).collect::<Vec<_>>()
        };
        (pids(&info.senders), pids(&info.dead_senders))
    };
    let own = (0, Some(std::process::id()));
    for ends in [true, false] {
        let mut child = spawn(dir.path(), "send", &[]);
        child.expect("sends");
        let other = (1, Some(child.pid()));
        assert_eq!(look(), (vec![own, other], vec![]));
        if ends {
            child.say("end");
            child.expect("has ended");
            assert_eq!(look(), (vec![own], vec![]));
        }
        child.kill();
        assert_eq!(look(), (vec![own], if ends { vec![] } else { vec![other] }));
    }
}

#[test]
fn what_an_observer_copied_can_be_read_as_what_it_is() {
    let dir = Dir::new();
    let options = ChannelOptions::new().max_message(500);
    let sender = Sender::<Image>::create(dir.name("images"), &options).expect("new");
    let observer = Observer::open(dir.name("images")).expect("it is there");
    assert!(observer.holds::<Image>() && !observer.holds::<[u8]>() && !observer.holds::<Tensor>());
    let mut image = sender.loan_image(3, 1, PixelFormat::Rgb8).expect("it fits");
    image.pixels.copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    image.send().expect("there is room");
    assert_eq!(observer.sent().expect("it can be read"), [1]);
    let copy = |most| observer.copy(0, 1, most).expect("it can be read").expect("it is kept");
    let whole = copy(usize::MAX).value::<Image>().expect("all of it");
    assert_eq!((whole.width, whole.height, whole.pixels.len()), (3, 1, 9), "without the padding behind it");
    let (format, rows) = whole.rows().expect("it fits together");
    assert_eq!((format, rows.collect::<Vec<_>>()), (PixelFormat::Rgb8, vec![&[1, 2, 3, 4, 5, 6, 7, 8, 9][..]]));
    let start = copy(66).value::<Image>().expect("its fields and two bytes");
    assert_eq!((start.width, &start.pixels[..], start.rows().is_none()), (3, &[1, 2][..], true));
    assert!(copy(63).value::<Image>().is_none(), "too little");
    assert_eq!(copy(8).value::<[u32; 2]>().expect("two numbers")[..], [3, 1]);

    let sender = Sender::<Tensor>::create(dir.name("tensors"), &options).expect("new");
    let mut tensor = sender.loan_tensor(&[2, 3], Dtype::U8).expect("it fits");
    tensor.data.copy_from_slice(&[1, 2, 3, 4, 5, 6]);
    tensor.send().expect("there is room");
    let observer = Observer::open(dir.name("tensors")).expect("it is there");
    let copied = observer.copy(0, 1, usize::MAX).expect("it can be read").expect("it is kept");
    let tensor = copied.value::<Tensor>().expect("all of it");
    let view = tensor.view().expect("it fits together");
    assert_eq!((view.dtype, view.shape, view.data), (Dtype::U8, &[2, 3][..], &[1, 2, 3, 4, 5, 6][..]));
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

#[test]
fn an_object_is_looked_into_and_nothing_is_changed() {
    let dir = Dir::new();
    let shared = Segment::<Shared>::create(dir.name("locks"), (), &Options::new(), |_| ()).expect("new");
    let look = || inspect(dir.name("locks"), 4).expect("it can be read");
    let state = |path: &str| {
        let field = look().fields.into_iter().find(|field| field.path == path).expect("a part of it");
        let FieldValue::Lock(state) = field.value else { panic!("{path} is a lock") };
        state
    };
    let bytes = || std::fs::read(dir.path().join("locks")).expect("its file");
    let before = bytes();
    assert_eq!((look().object.name.as_str(), look().id, look().data_size), ("locks", shared.region().id(), 32));
    assert_eq!((state("first").state.as_str(), state("first").holders), ("free", Vec::new()));
    assert_eq!(bytes(), before);
    let mut child = spawn(dir.path(), "hold", &[]);
    child.expect("held");
    let second = state("second");
    let holder = &second.holders[0];
    assert_eq!((holder.who.as_ref().map(|who| who.pid), holder.alive), (Some(child.pid()), true));
    assert!(second.waiters.is_empty() && look().participants.len() == 2);
    std::thread::scope(|scope| {
        let other = Segment::<Shared>::open(dir.name("locks")).expect("it is there");
        let _first = shared.first.lock(&shared).expect("the lock");
        scope.spawn(move || drop(other.first.lock(&other).expect("the lock, in the end")));
        let pids = |who: Vec<memlane::Who>| who.into_iter().map(|who| who.pid).collect::<Vec<_>>();
        while pids(state("first").waiters) != [std::process::id()] {
            std::thread::yield_now();
        }
        assert!(look().participants.iter().any(|participant| participant.sleeps_on.as_deref() == Some("first")));
        assert!(state("second").waiters.is_empty());
    });
    child.kill();
    let second = state("second");
    assert_eq!((second.holders[0].alive, second.needs_repair), (false, false));
    drop(shared.second.lock(&shared).expect("the lock"));
    assert!(state("second").needs_repair && state("second").holders.is_empty());
    assert!(matches!(inspect(dir.name("none"), 4), Err(Error::NotFound { .. })));
    let _channel = Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new()).expect("new");
    assert_eq!(inspect(dir.name("cam"), 4).expect("it can be read").fields, []);
}

#[test]
fn a_description_with_long_names_takes_little_memory() {
    let dir = Dir::new();
    let long = "x".repeat(160_000);
    let lines: String = (0..5).map(|depth| format!("{long}{}\tarray of 9\t0\t8\n", ".[]".repeat(depth))).collect();
    by_hand(&dir.path().join("cam"), &format!("\tS\t0\t8\n{lines}"));
    let fields = inspect(dir.name("cam"), 9).expect("it can be read").fields;
    let text: usize = fields.iter().map(|field| field.path.len() + field.kind.len()).sum();
    assert!(text < 16 << 20, "{} parts, {text} bytes of text", fields.len());
}
