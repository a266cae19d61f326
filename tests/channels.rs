//! Channels between real processes: every message as it was sent, in order and once; deaths are seen and named; and who
//! misbehaves harms nobody else.
#![allow(missing_docs)]

#[path = "common/channel.rs"]
mod channel;
mod common;
#[path = "common/random.rs"]
mod random;

use channel::{Raw, Shape, check, fill, lane_of, length};
use common::{Child, Dir, HANG, hear, role, say, spawn, times};
use memlane::{Message, Policy, Receiver, RecvError, Region, SendError, Sender};
use random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SHAPE: Shape =
    Shape { policy: Policy::Lossless, slots: 4, senders: 1, receivers: 1, claims: 2, loans: 2, max: 1 << 18 };

/// The user's byte on which receivers sleep, and the one on which senders do.
const MESSAGES: u64 = 0;
const RELEASED: u64 = 64;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let shape = Shape::from_text(&arguments[0]);
    let number = |index: usize| arguments[index].parse::<u64>().expect("a number");
    match role.as_str() {
        "send" => send(&shape, number(1), number(2)),
        "receive" => receive(&shape, number(1)),
        "receive all" => receive_all(&shape),
        "share" => share(&shape, number(1)),
        "wait for a message" => wait_for_a_message(),
        "wait for room" => wait_for_room(),
        "misbehave" => misbehave(&shape, &arguments[1], number(2)),
        "go on sending" => go_on_sending(&shape, number(1)),
        other => panic!("no role {other}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// What arrives

/// Sends so many messages, when all are there.
fn send(shape: &Shape, seed: u64, count: u64) {
    let mut random = Random::from_seed(seed);
    let sender = Sender::<[u8]>::open_or_create("cam", &shape.options()).expect("a lane");
    let lane = lane_of(&sender);
    say("here");
    hear();
    for sequence in 1..=count {
        // The longest comes for sure.
        let len = if sequence == 2 { shape.max as usize } else { length(&mut random, shape.max) };
        let mut loan = sender.loan(len).expect("a buffer");
        fill(&mut loan, lane, sequence);
        assert_eq!(loan.send_timeout(HANG).expect("there is room in the end").sequence(), sequence);
    }
    say("sent");
}

/// What a receiver has got of each lane.
struct Got {
    newest: bool,
    last: Vec<u64>,
    missed: u64,
}

impl Got {
    fn new(shape: &Shape) -> Self {
        Self { newest: shape.policy == Policy::Newest, last: vec![0; shape.senders as usize], missed: 0 }
    }

    fn take(&mut self, message: &Message) {
        check(message);
        let last = &mut self.last[message.lane()];
        assert!(self.newest || message.missed() == 0, "{message:?} after {last}: lost {}", message.missed());
        assert_eq!(message.sequence(), *last + 1 + message.missed(), "out of order, or missed without a word");
        *last = message.sequence();
        self.missed += message.missed();
    }
}

/// Receives until the end, holding now one message and now several.
fn receive(shape: &Shape, seed: u64) {
    let mut random = Random::from_seed(seed);
    let mut receiver = Receiver::<[u8]>::wait_for("cam", Some(HANG)).expect("the sender's channel");
    say("here");
    hear();
    let (mut got, mut held) = (Got::new(shape), VecDeque::new());
    for message in &mut receiver {
        let message = message.expect("nothing is wrong");
        got.take(&message);
        held.push_back(message);
        while held.len() as u64 > random.below(shape.claims) {
            let message = held.pop_front().expect("one is held");
            if random.below(4) == 0 {
                check(&message); // it stays as it is
            }
        }
    }
    say(&format!("{:?}, {} missed", got.last, got.missed));
}

/// Takes messages of a queue until the end, and says which.
fn share(shape: &Shape, seed: u64) {
    let mut random = Random::from_seed(seed);
    let mut receiver = Receiver::<[u8]>::wait_for("cam", Some(HANG)).expect("the sender's channel");
    say("here");
    hear();
    let mut got = Vec::new();
    for message in &mut receiver {
        let message = message.expect("nothing is wrong");
        check(&message);
        let (lane, sequence) = (message.lane(), message.sequence());
        if random.below(20) == 0 {
            message.give_back();
        } else {
            got.push(format!("{lane}:{sequence}"));
        }
    }
    assert_eq!(shape.policy, Policy::Queue);
    say(&got.join(" "));
}

/// Runs so many senders and receivers, who begin when all are there; what each receiver says in the end.
fn run(dir: &Dir, shape: &Shape, role: &str, count: u64) -> Vec<String> {
    let (mut random, start) = (Random::new(), Instant::now());
    let mut children: Vec<Child> = Vec::new();
    for (role, how_many) in [("send", shape.senders), (role, shape.receivers)] {
        for _ in 0..how_many {
            let seed = (random.next() >> 1).to_string();
            children.push(spawn(dir.path(), role, &[&shape.to_text(), &seed, &count.to_string()]));
        }
    }
    children.iter_mut().for_each(|child| assert_eq!(child.hear_or_kill().as_deref(), Some("here")));
    children.iter_mut().rev().for_each(|child| child.say("go"));
    let receivers = children.split_off(shape.senders as usize);
    children.iter_mut().for_each(|child| assert_eq!(child.hear_or_kill().as_deref(), Some("sent")));
    assert!(children.into_iter().all(|child| child.finish().success()));
    let said = receivers.into_iter().map(|mut child| {
        let said = child.hear_or_kill().expect("a receiver found something wrong");
        assert!(child.finish().success());
        said
    });
    let said = said.collect();
    let Shape { policy, senders, receivers, max, .. } = shape;
    println!(
        "{policy:?}: {senders} x {count} messages of up to {max} bytes to {receivers} receivers in {:.1?}",
        start.elapsed()
    );
    assert!(dir.files().is_empty(), "something is left");
    said
}

#[test]
fn every_receiver_gets_every_message_in_order_and_as_it_was_sent() {
    let dir = Dir::new();
    let long = |short, long| times(short, long);
    for (receivers, slots, max, count) in [
        (1, 2, 64 << 20, long(100, 2_000)),
        (1, 1, 4 << 10, long(20_000, 1_000_000)),
        (2, 2, long(4 << 20, 64 << 20), long(500, 2_000)),
        (8, 4, 1 << 20, long(2_000, 100_000)),
        (32, 4, 1 << 18, long(500, 20_000)),
    ] {
        let shape = Shape { receivers, slots, max, claims: 1, loans: 1, ..SHAPE };
        let said = run(&dir, &shape, "receive", count);
        assert_eq!(said, vec![format!("[{count}], 0 missed"); receivers as usize]);
    }
}

#[test]
fn four_senders_reach_four_receivers() {
    let dir = Dir::new();
    let count = times(1_000, 100_000);
    let shape = Shape { senders: 4, receivers: 4, max: 1 << 18, ..SHAPE };
    let said = run(&dir, &shape, "receive", count);
    assert_eq!(said, vec![format!("[{count}, {count}, {count}, {count}], 0 missed"); 4]);
}

#[test]
fn the_newest_come_in_order_and_what_was_missed_is_counted() {
    let dir = Dir::new();
    for (receivers, slots, max, count) in [
        (8, 1, 104, times(300_000, 30_000_000)),
        (1, 1, 1 << 14, times(50_000, 5_000_000)),
        (8, 4, 1 << 14, times(50_000, 5_000_000)),
    ] {
        let shape = Shape { policy: Policy::Newest, receivers, slots, max, claims: 1, loans: 1, ..SHAPE };
        let said = run(&dir, &shape, "receive", count);
        assert!(said.iter().all(|said| said.starts_with(&format!("[{count}], "))), "the last ones stay: {said:?}");
    }
}

#[test]
fn a_queue_gives_each_message_to_one() {
    let dir = Dir::new();
    let count = times(2_000, 100_000);
    let shape = Shape { policy: Policy::Queue, senders: 2, receivers: 8, slots: 8, ..SHAPE };
    let mut takers = BTreeMap::new();
    for said in run(&dir, &shape, "share", count) {
        for message in said.split_whitespace() {
            *takers.entry(message.to_owned()).or_insert(0) += 1;
        }
    }
    let sent = (0..2).flat_map(|lane| (1..=count).map(move |sequence| format!("{lane}:{sequence}")));
    assert_eq!(takers, sent.map(|message| (message, 1)).collect());
}

/// Receives until it is killed.
fn receive_all(shape: &Shape) {
    let mut receiver = Receiver::<[u8]>::open("cam").expect("the parent's channel");
    let mut got = Got::new(shape);
    say("here");
    receiver.wait_for_sender(Some(HANG)).expect("it comes");
    loop {
        got.take(&receiver.recv_timeout(HANG).expect("a message"));
    }
}

#[test]
fn who_joins_loses_nothing_that_is_sent_from_then_on() {
    let dir = Dir::new();
    // To join takes long, with so many lanes.
    let shape = Shape { senders: 100, receivers: 2, slots: 3, max: 8, ..SHAPE };
    let keep = shape.options().persistence(memlane::Persistence::Keep);
    drop(Sender::<[u8]>::create(dir.name("cam"), &keep).expect("a fresh channel"));
    let mut other = spawn(dir.path(), "receive all", &[&shape.to_text()]);
    other.expect("here");
    let mut sender = spawn(dir.path(), "go on sending", &[&shape.to_text(), "1"]);
    sender.expect("here");
    let region = Region::open(dir.name("cam")).expect("it is there");
    for _ in 0..times(1_000, 30_000) {
        let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("there is a place");
        let joined = shape.last(&region, 0);
        // Mostly until the sender waits for this receiver.
        let start = Instant::now();
        while shape.last(&region, 0) < joined + shape.slots && start.elapsed() < Duration::from_millis(1) {
            std::thread::yield_now();
        }
        let first = receiver.recv_timeout(HANG).expect("a message").sequence();
        assert!(first <= joined + 1, "{first} is the first after {joined}");
        for next in first + 1..first + 10 {
            let message = receiver.recv_timeout(HANG).expect("a message");
            check(&message);
            assert_eq!((message.sequence(), message.missed()), (next, 0));
        }
    }
    assert!(sender.kill_if_alive() && other.kill_if_alive(), "somebody found something wrong");
}

#[test]
fn who_goes_back_loses_nothing_that_is_sent_from_then_on() {
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("cam"), &SHAPE.options()).expect("a fresh channel");
    let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    for _ in 1..=4 {
        sender.send_copy(&[]).expect("there is room");
        receiver.recv().expect("a message");
    }
    receiver.rewind();
    for _ in 5..=8 {
        sender.send_copy(&[]).expect("the first four were let go");
    }
    let next = || receiver.try_recv().expect("nothing is wrong").map(|message| (message.sequence(), message.missed()));
    let got: Vec<_> = std::iter::from_fn(next).collect();
    assert_eq!(got, [(5, 0), (6, 0), (7, 0), (8, 0)]);
}

// ---------------------------------------------------------------------------------------------------------------
// Deaths

/// Sleeps until a message comes or its sender has died, and says so.
fn wait_for_a_message() {
    let mut receiver = Receiver::<[u8]>::open("cam").expect("the parent's channel");
    receiver.wait_for_sender(Some(HANG)).expect("it has come");
    say("here");
    match receiver.recv_timeout(HANG) {
        Err(RecvError::SenderDied { sender: Some(who), .. }) => say(&format!("{} died", who.pid)),
        other => say(&format!("{other:?}")),
    }
}

/// Fills the window and sleeps until there is room or nobody receives any more, and says so. The message is not lost.
fn wait_for_room() {
    let sender = Sender::<[u8]>::open("cam").expect("the parent's channel");
    sender.wait_for_receivers(1, Some(HANG)).expect("it has come");
    say("here");
    let unsent = loop {
        let mut loan = sender.loan(1000).expect("a buffer");
        loan.fill(7);
        if let Err(unsent) = loan.send_timeout(HANG) {
            break unsent;
        }
    };
    match unsent.error() {
        SendError::NoReceiver { last: Some(who), .. } => say(&format!("{} died", who.pid)),
        other => say(&format!("{other:?}")),
    }
    assert!(unsent.into_loan().iter().all(|byte| *byte == 7), "it comes back as it was");
}

/// Waits until somebody sleeps on this word: it says so in its slot of the participant table.
fn wait_until_asleep(dir: &Dir, word: u64) {
    let table = || std::fs::read(dir.path().join("cam")).expect("the channel")[256..256 + 64 * 128].to_vec();
    while !table().chunks(64).any(|slot| slot[32..40] == (word | 2).to_ne_bytes()) {
        std::thread::yield_now();
    }
}

/// How long a process that sleeps takes to say that the one it waits for was killed.
fn time_to_be_told(policy: Policy, kills_sender: bool, random: &mut Random) -> Duration {
    let dir = Dir::new();
    let shape = Shape { policy, max: 4096, ..SHAPE };
    // Who creates a channel sends; it is kept for those who come.
    let keep = shape.options().persistence(memlane::Persistence::Keep);
    drop(Sender::<[u8]>::create(dir.name("cam"), &keep).expect("a fresh channel"));
    let (sleeper, word) = if kills_sender { ("wait for a message", MESSAGES) } else { ("wait for room", RELEASED) };
    let victim = if kills_sender { "send" } else { "receive" };
    let mut victim = spawn(dir.path(), victim, &[&shape.to_text(), "1", "0"]);
    victim.expect("here");
    let mut sleeper = spawn(dir.path(), sleeper, &[&shape.to_text()]);
    sleeper.expect("here");
    wait_until_asleep(&dir, word);
    // The longer it has slept, the longer its sleeps are.
    std::thread::sleep(Duration::from_millis(random.below(200)));
    let pid = victim.pid();
    let start = Instant::now();
    victim.kill();
    let told = sleeper.hear_or_kill();
    let time = start.elapsed();
    assert_eq!(told, Some(format!("{pid} died")));
    assert!(sleeper.finish().success());
    time
}

#[test]
fn who_sleeps_is_told_who_died() {
    let mut random = Random::new();
    for (what, policy, kills_sender) in [
        ("a receiver of its sender's death", Policy::Lossless, true),
        ("a receiver of a queue of its sender's death", Policy::Queue, true),
        ("a blocked sender of its receiver's death", Policy::Lossless, false),
        ("a blocked sender of a queue of its receiver's death", Policy::Queue, false),
    ] {
        let mut took: Vec<Duration> =
            (0..times(5, 100)).map(|_| time_to_be_told(policy, kills_sender, &mut random)).collect();
        took.sort();
        println!(
            "{what}: told {:.1?} after the kill (median), {:.1?} at most",
            took[took.len() / 2],
            took[took.len() - 1]
        );
    }
}

#[test]
fn who_only_polls_is_told_who_died() {
    let dir = Dir::new();
    for policy in [Policy::Lossless, Policy::Newest, Policy::Queue] {
        let shape = Shape { policy, max: 4096, ..SHAPE };
        let mut victim = spawn(dir.path(), "go on sending", &[&shape.to_text(), "1"]);
        let mut receiver = Receiver::<[u8]>::wait_for(dir.name("cam"), Some(HANG)).expect("its channel");
        victim.expect("here");
        let pid = victim.pid();
        drop(receiver.recv_timeout(HANG).expect("it sends"));
        victim.kill();
        let start = Instant::now();
        let end = loop {
            match receiver.try_recv() {
                Ok(_) => assert!(start.elapsed() < HANG, "it is not told"),
                Err(end) => break end,
            }
        };
        let RecvError::SenderDied { sender: Some(who), .. } = &end else { panic!("{end}") };
        assert_eq!(who.pid, pid);
    }
}

/// Sends without end, and goes on with the numbers where the dead one ended.
fn go_on_sending(shape: &Shape, seed: u64) {
    let mut random = Random::from_seed(seed);
    let sender = Sender::<[u8]>::open_or_create("cam", &shape.options()).expect("a lane, or the dead one's");
    let lane = lane_of(&sender);
    let region = Region::open("cam").expect("it is there");
    let mut sequence = shape.last(&region, lane) + 1;
    say("here");
    loop {
        let mut loan = sender.loan(length(&mut random, shape.max)).expect("a buffer");
        fill(&mut loan, lane, sequence);
        let ticket = loan.send_timeout(HANG).expect("there is room in the end");
        assert_eq!(ticket.sequence(), sequence);
        sequence += 1;
    }
}

#[test]
fn successors_of_killed_senders_go_on_without_a_gap() {
    let dir = Dir::new();
    let kills = times(100, 2_000);
    for policy in [Policy::Lossless, Policy::Queue] {
        let shape = Shape { policy, max: 1 << 14, ..SHAPE };
        let mut random = Random::new();
        let keep = shape.options().persistence(memlane::Persistence::Keep);
        drop(Sender::<[u8]>::create(dir.name("cam"), &keep).expect("a fresh channel"));
        let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
        let mut got = Got::new(&shape);
        for _ in 0..kills {
            let mut sender = spawn(dir.path(), "go on sending", &[&shape.to_text(), &(random.next() >> 1).to_string()]);
            assert_eq!(sender.hear_or_kill().as_deref(), Some("here"));
            for _ in 0..random.below(50) {
                got.take(&receiver.recv_timeout(HANG).expect("a message"));
            }
            let pid = sender.pid();
            assert!(sender.kill_if_alive(), "the sender found something wrong");
            let end = loop {
                match receiver.recv_timeout(HANG) {
                    Ok(message) => got.take(&message),
                    Err(end) => break end,
                }
            };
            let RecvError::SenderDied { sender: Some(who), .. } = &end else { panic!("{end}") };
            assert_eq!(who.pid, pid);
        }
        println!("{policy:?}: {} messages of {kills} senders, each killed, without a gap", got.last[0]);
        drop(receiver);
        memlane::remove(dir.name("cam")).expect("it is there");
    }
}

#[test]
fn what_a_sender_offered_when_it_died_holds_nobody_up() {
    let dir = Dir::new();
    let shape = Shape { policy: Policy::Queue, ..SHAPE };
    let sender = Sender::<[u8]>::create(dir.name("cam"), &shape.options()).expect("a fresh channel");
    let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    for number in 1..=4 {
        sender.send_copy(&[number]).expect("there is room");
        assert_eq!(receiver.recv().expect("a message")[..], [number]);
    }
    drop(sender);
    // As if it had gone after the first store of its next message.
    Raw::open(&dir.path().join("cam")).put(shape.task(0, 5), 1 << 30 | 5);
    assert!(matches!(receiver.recv_timeout(HANG), Err(RecvError::Closed { .. })));
    let successor = Sender::<[u8]>::open(dir.name("cam")).expect("there is a lane");
    successor.loan(1).expect("small").send_timeout(HANG).expect("there is room");
    assert_eq!(receiver.recv_timeout(HANG).expect("a message").sequence(), 5);
}

// ---------------------------------------------------------------------------------------------------------------
// Who misbehaves

/// The first receiver of a channel; what it does to its words, or does not do.
fn misbehave(shape: &Shape, how: &str, seed: u64) {
    let mut receiver = Receiver::<[u8]>::open("cam").expect("the parent's channel");
    say("here");
    hear();
    if how == "holds all it can" {
        let mut held: Vec<Message> = (0..shape.claims).map(|_| receiver.recv().expect("a message")).collect();
        held.extend(receiver.latest().expect("nothing is wrong"));
        assert_eq!(held.len() as u64, shape.claims + 1);
        say("done");
        hear();
        held.iter().for_each(check); // they stay as they are
        say("whole");
    } else if how != "is stopped" {
        let raw = Raw::open(&Path::new(&std::env::var_os("MEMLANE_DIR").expect("a directory")).join("cam"));
        let mut random = Random::from_seed(seed);
        let words = written_by(shape, how == "writes garbage everywhere");
        for round in 0.. {
            let at = words[random.below(words.len() as u64) as usize];
            raw.put(at, garbage(&mut random, shape));
            if round == 1_000 {
                say("done");
            }
        }
    }
    hear();
}

/// The words that the first receiver may write, with or without its name.
fn written_by(shape: &Shape, name_too: bool) -> Vec<u64> {
    let mut words: Vec<u64> = (0..=shape.claims).map(|claim| shape.claim(0, claim)).collect();
    words.extend([shape.missed(0), shape.latency(0), shape.cursor(0, 0)]);
    words.extend((0..shape.slots).flat_map(|sequence| [shape.outcome(0, 0, sequence), shape.task(0, sequence)]));
    words.extend([MESSAGES, RELEASED]);
    words.extend(name_too.then_some(shape.receiver(0)));
    words
}

/// Mostly what could be meant: a buffer that is claimed, a message, a participant.
fn garbage(random: &mut Random, shape: &Shape) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 | 4 => 1 << 32 | random.below(2 * shape.buffers()),
        5 => random.below(10_000) << 2 | random.below(4),
        6 => random.below(3) << 32 | random.below(2) << 31 | random.below(5),
        _ => random.next(),
    }
}

/// A channel with a receiver that misbehaves in this way, and one that does not.
struct Misbehaved {
    dir: Dir,
    shape: Shape,
    sender: Sender,
    bad: Child,
    good: Receiver,
    got: Got,
    next: u64,
}

impl Misbehaved {
    fn new(policy: Policy, how: &str) -> Self {
        let dir = Dir::new();
        let shape = Shape { policy, receivers: 2, max: 8192, ..SHAPE };
        let sender = Sender::create(dir.name("cam"), &shape.options()).expect("a fresh channel");
        let mut bad =
            spawn(dir.path(), "misbehave", &[&shape.to_text(), how, &Random::new().below(1 << 32).to_string()]);
        bad.expect("here");
        let good = Receiver::open(dir.name("cam")).expect("it is there");
        let mut this = Self { dir, shape, sender, bad, good, got: Got::new(&shape), next: 1 };
        if how == "is stopped" {
            this.bad.signal("STOP");
            while !this.sender.receivers().iter().any(|info| info.who.as_ref().is_some_and(|who| who.stopped)) {}
            return this;
        }
        for _ in 0..=shape.claims {
            this.send(Duration::ZERO).expect("the window is empty");
        }
        this.bad.say("go");
        assert_eq!(this.bad.hear_or_kill().as_deref(), Some("done"));
        this
    }

    /// Sends a message, for which there is always a buffer, however many are lent.
    fn send(&mut self, timeout: Duration) -> Result<(), SendError> {
        let mut loans = self.sender.loan_many(self.shape.loans as usize, 8192).expect("a loan never waits");
        assert_eq!(loans.len() as u64, self.shape.loans, "a loan never waits");
        let mut loan = loans.remove(0);
        fill(&mut loan, 0, self.next);
        let ticket = loan.send_timeout(timeout)?;
        assert_eq!(ticket.sequence(), self.next);
        self.next += 1;
        Ok(())
    }

    fn receive(&mut self) {
        while let Some(message) = self.good.try_recv().expect("nothing is wrong") {
            self.got.take(&message);
        }
    }
}

/// Sends a signal to several processes at once.
fn signal(children: &[Child], signal: &str) {
    let pids = children.iter().map(|child| child.pid().to_string());
    let sent = Command::new("kill").arg(format!("-{signal}")).args(pids).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal}");
}

#[test]
fn who_is_stopped_anywhere_reads_nothing_that_was_overwritten_meanwhile() {
    let dir = Dir::new();
    // So few buffers that each is used again and again while a receiver is stopped.
    let shape = Shape { policy: Policy::Newest, slots: 1, receivers: 4, claims: 1, loans: 1, max: 104, ..SHAPE };
    let keep = shape.options().persistence(memlane::Persistence::Keep);
    drop(Sender::<[u8]>::create(dir.name("cam"), &keep).expect("a fresh channel"));
    let start = |role| {
        let mut child = spawn(dir.path(), role, &[&shape.to_text(), "1"]);
        child.expect("here");
        child
    };
    let mut receivers: Vec<Child> = (0..shape.receivers).map(|_| start("receive all")).collect();
    let mut sender = start("go on sending");
    let (region, raw) = (Region::open(dir.name("cam")).expect("it is there"), Raw::open(&dir.path().join("cam")));
    for _ in 0..times(200, 10_000) {
        signal(&receivers, "STOP");
        let before = shape.last(&region, 0);
        while shape.last(&region, 0) < before + 1_000 {
            assert!(!sender.has_ended(), "the sender found something wrong");
            std::thread::yield_now();
        }
        signal(&receivers, "CONT");
        for (index, receiver) in receivers.iter_mut().enumerate() {
            while raw.get(shape.cursor(index as u64, 0)) < before + 1_000 {
                assert!(!receiver.has_ended(), "a receiver found something wrong");
                std::thread::yield_now();
            }
        }
    }
    assert!(sender.kill_if_alive() && receivers.iter_mut().all(Child::kill_if_alive), "somebody found something wrong");
}

#[test]
fn what_a_dead_receiver_held_can_be_used_when_its_place_is_taken() {
    let mut channel = Misbehaved::new(Policy::Newest, "holds all it can");
    for _ in 0..2 * channel.shape.slots {
        channel.sender.send_copy(&[]).expect("the sender is never blocked");
    }
    let (all, held) = (channel.shape.buffers() as usize, channel.shape.claims as usize + 1);
    let lent = |channel: &Misbehaved| channel.sender.loan_many(all + 1, 8192).expect("buffers").len();
    assert_eq!(lent(&channel), all - held, "it holds what it may");
    channel.bad.kill();
    let newcomer = Receiver::<[u8]>::open(channel.dir.name("cam")).expect("the dead one's place");
    assert_eq!(lent(&channel), all);
    drop(newcomer);
}

const WAYS: [&str; 4] = ["is stopped", "holds all it can", "writes garbage", "writes garbage everywhere"];

#[test]
fn the_newest_are_sent_whatever_a_receiver_does() {
    let mut random = Random::new();
    for how in WAYS {
        let mut channel = Misbehaved::new(Policy::Newest, how);
        let size = |channel: &Misbehaved| std::fs::metadata(channel.dir.path().join("cam")).expect("the channel").len();
        let before = size(&channel);
        for _ in 0..times(5_000, 500_000) {
            channel.send(Duration::ZERO).expect("the sender is never blocked");
            if random.below(5) == 0 {
                channel.receive();
            }
        }
        channel.receive();
        assert_eq!(channel.got.last[0], channel.next - 1);
        assert_eq!(size(&channel), before);
        if how == "holds all it can" {
            channel.bad.say("go");
            assert_eq!(channel.bad.hear_or_kill().as_deref(), Some("whole"));
        }
        assert!(how == "holds all it can" || channel.bad.kill_if_alive(), "it ended by itself");
    }
}

#[test]
fn where_nothing_may_be_lost_the_timeout_names_who_is_in_the_way() {
    for how in ["is stopped", "holds all it can"] {
        let mut channel = Misbehaved::new(Policy::Lossless, how);
        let error = loop {
            channel.receive();
            if let Err(error) = channel.send(Duration::from_millis(20)) {
                break error;
            }
        };
        let SendError::Full { slowest: Some(who), .. } = &error else { panic!("{error}") };
        assert_eq!((who.pid, who.stopped), (channel.bad.pid(), how == "is stopped"), "{error}");
        channel.bad.kill();
        for _ in 0..100 {
            channel.send(HANG).expect("the dead hold nobody up");
            channel.receive();
        }
    }
}

#[test]
fn where_nothing_may_be_lost_garbage_costs_a_wait_and_nothing_else() {
    for how in &WAYS[2..] {
        let mut channel = Misbehaved::new(Policy::Lossless, how);
        let (mut full, count) = (0, times(2_000, 100_000));
        while channel.next <= count || full == 0 {
            channel.receive();
            match channel.send(Duration::from_micros(100)) {
                Ok(()) => {}
                Err(SendError::Full { slowest, .. }) => {
                    full += 1;
                    let named = slowest.is_none_or(|who| who.pid == channel.bad.pid());
                    assert!(named || how.ends_with("everywhere"), "the other one has let go of all");
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(channel.bad.kill_if_alive(), "it ended by itself");
        println!("{how}: {} messages, {full} timeouts", channel.next - 1);
    }
}
