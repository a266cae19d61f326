//! Garbage in every part of channels that several processes use at the same time, through everything in the safe API of
//! senders and receivers: a value or an error every time, no signal, no panic, no hang.
#![allow(missing_docs)]

#[path = "common/channel.rs"]
mod channel;
mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/watch.rs"]
mod watch;

use channel::{Raw, Shape};
use common::{Child, Dir, role, say, spawn, times};
use memlane::{
    Error, Image, Loan, LockError, Message, Name, Persistence, Policy, Receiver, RecvError, SendError, Sender, Ticket,
    TicketError,
};
use random::Random;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use watch::{Tally, Watch};

const WORKERS: u64 = 3;
const MOMENT: Duration = Duration::from_micros(100);
const CHANNELS: [(&str, Policy); 3] =
    [("lossless", Policy::Lossless), ("newest", Policy::Newest), ("queue", Policy::Queue)];
/// Where the participant table of an object lies, and its schema; and how much of each is hit.
const TABLE: u64 = 256;
const SCHEMA: u64 = 8448;

fn shape(policy: Policy) -> Shape {
    Shape { policy, slots: 3, senders: 6, receivers: 8, claims: 2, loans: 2, max: 300 }
}

fn path(text: &str) -> PathBuf {
    let name = Name::new(text).expect("a name");
    name.directory().expect("it has one").join(text)
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "work" => work(arguments[0].parse().expect("a seed"), arguments[1].parse().expect("a count")),
        "use" => use_them(),
        other => panic!("no role {other}"),
    }
}

/// Sends and receives as one should, until it is killed.
fn use_them() {
    say("here");
    loop {
        for (name, _) in CHANNELS {
            let (Ok(sender), Ok(mut receiver)) = (Sender::<[u8]>::open(name), Receiver::<[u8]>::open(name)) else {
                continue;
            };
            for number in 0..100 {
                let _full = sender.loan(number * 3).map(|loan| loan.send_timeout(MOMENT).map(drop));
                let _none = receiver.recv_timeout(MOMENT).map(drop);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// A worker

/// One end of each kind in a channel, and what came of them.
struct Ends {
    name: &'static str,
    shape: Shape,
    raw: Raw,
    /// A whole header with table and schema.
    whole: Vec<u8>,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    loans: Vec<Loan>,
    messages: Vec<Message>,
    ticket: Option<Ticket>,
}

impl Ends {
    fn new((name, policy): (&'static str, Policy)) -> Self {
        let raw = Raw::open(&path(name));
        let whole = raw.header();
        let (loans, messages) = (Vec::new(), Vec::new());
        Self { name, shape: shape(policy), raw, whole, sender: None, receiver: None, loans, messages, ticket: None }
    }

    fn let_go(&mut self) {
        self.loans.clear();
        self.messages.clear();
        self.ticket = None;
    }

    /// Opens what is not open, if that is possible.
    fn open(&mut self) {
        self.sender = self.sender.take().or_else(|| Sender::open(self.name).ok());
        self.receiver = self.receiver.take().or_else(|| Receiver::open(self.name).ok());
    }

    /// Gives the object back what was written before it had a name.
    fn mend(&self) {
        self.raw.put_header(0, &self.whole[..TABLE as usize]);
        self.raw.put_header(SCHEMA, &self.whole[SCHEMA as usize..]);
    }

    /// Overwrites a word with something, mostly with what could be meant. Says what it hit.
    fn garble(&self, random: &mut Random) -> &'static str {
        let (shape, lane) = (&self.shape, random.below(self.shape.senders));
        let (index, sequence) = (random.below(shape.receivers), random.below(shape.slots));
        let (what, offset) = match random.below(16) {
            0 => ("event", random.below(2) * 64),
            1 => ("sender", shape.sender(lane)),
            2 => ("receiver", shape.receiver(index)),
            3 | 4 => ("task", shape.task(lane, sequence)),
            5 => ("claim", shape.claim(index, random.below(shape.claims + 1))),
            6 => ("cursor", shape.cursor(index, lane)),
            7 => ("missed", [shape.missed(index), shape.latency(index)][random.below(2) as usize]),
            8 => ("outcome", shape.outcome(index, lane, sequence)),
            9 => ("head", shape.lane(lane) + random.below(2) * 8),
            10..13 => ("entry", shape.entry(lane, sequence) + random.below(5) * 8),
            13 => ("label", shape.label(lane, random.below(shape.buffers())) + random.below(3) * 8),
            14 => ("anything", random.below(shape.lane(shape.senders) / 8) * 8),
            _ => return self.garble_header(random),
        };
        self.raw.put(offset, self.value(random, lane));
        what
    }

    fn garble_header(&self, random: &mut Random) -> &'static str {
        let (what, offset) = match random.below(4) {
            0 => ("header", random.below(128)),
            1 | 2 => ("table", TABLE + 64 * random.below(24) + random.below(64)),
            _ => ("description", SCHEMA + random.below(200)),
        };
        let value = [0, 0xff, b'0' + random.below(10) as u8, random.next() as u8][random.below(4) as usize];
        self.raw.put_header(offset, &[value]);
        what
    }

    /// A number of a message, a place of one, a claim, a participant, or anything.
    fn value(&self, random: &mut Random, lane: u64) -> u64 {
        let near = self.raw.get(self.shape.lane(lane)).wrapping_add(random.below(8)).wrapping_sub(4);
        match random.below(16) {
            0 => 0,
            1 => u64::MAX - random.below(4),
            2 => 1 << random.below(64),
            3..6 => near,
            6 => near << 2 | random.below(4),
            7 => random.below(2) << 61 | random.below(4) << 16 | random.below(400) << 24 | random.below(40),
            8 => (lane + 1) << 32 | random.below(40),
            9..12 => random.below(40) << 32 | random.below(4) << 30 | random.below(24),
            12 => near >> 16 << 32 | near & 0xffff | random.below(4) << 30,
            13 => self.raw.get(random.below(self.shape.control_len() / 8) * 8),
            _ => random.next(),
        }
    }
}

type Operation = (&'static str, u64, fn(&mut Ends, &mut Random) -> &'static str, &'static [&'static str]);

/// What a worker does after a mutation, how often (out of the sum), and what that must come to at least once.
const OPERATIONS: [Operation; 20] = [
    ("loan", 10, lend, &["lent", "loans in use", "too large"]),
    ("loan_many", 3, lend_many, &["lent", "loans in use"]),
    ("fill", 3, fill, &["done"]),
    ("send", 20, send, &["sent", "full", "no receiver"]),
    ("send_many", 3, send_many, &["sent"]),
    ("try_recv", 20, |ends, _| received(ends, Receiver::try_recv), RECEIVED),
    (
        "recv_timeout",
        20,
        |ends, _| received(ends, |receiver| receiver.recv_timeout(MOMENT).map(Some)),
        &["received", "timed out", "claims in use", "damaged", "closed", "sender died"],
    ),
    ("latest", 10, |ends, _| received(ends, Receiver::latest), RECEIVED),
    ("wait", 5, wait, &["ready", "timed out"]),
    ("rewind", 3, rewind, &["done"]),
    ("read", 10, read, &["done"]),
    ("let go", 10, let_go, &["done"]),
    ("ticket", 10, ask, &["answered", "timed out"]),
    ("list", 6, list, &["known"]),
    ("wait for ends", 3, wait_for_ends, &["somebody", "nobody"]),
    ("close sender", 3, close_sender, &["done"]),
    ("close receiver", 3, close_receiver, &["done"]),
    ("open sender", 3, |ends, _| opened(Sender::<[u8]>::open(ends.name)), &["opened", "damaged"]),
    ("open receiver", 3, |ends, _| opened(Receiver::<[u8]>::open(ends.name)), &["opened", "damaged"]),
    ("open another type", 2, |ends, _| opened(Receiver::<Image>::open(ends.name)), &["another type"]),
];

const RECEIVED: &[&str] = &["received", "nothing", "claims in use", "damaged", "closed", "sender died"];

/// Mutates `count` times, and makes a call after each.
fn work(seed: u64, count: u64) {
    let mut random = Random::from_seed(seed);
    let mut channels = CHANNELS.map(Ends::new);
    let mut tally = Tally::new();
    let mut add = |what: &str, came: &str| *tally.entry((what.into(), came.into())).or_default() += 1;
    let sum: u64 = OPERATIONS.iter().map(|(_, often, ..)| often).sum();
    for number in 0..count {
        let ends = &mut channels[random.below(3) as usize];
        if number % 4 == 0 {
            ends.mend();
        }
        if random.below(300) == 0 {
            say("clear");
            ends.raw.clear(ends.shape.lane(ends.shape.senders));
        }
        say("open");
        ends.open();
        add("mutated", ends.garble(&mut random));
        let mut at = random.below(sum);
        let chosen = OPERATIONS.iter().find(|(_, often, ..)| {
            let here = at < *often;
            at = at.wrapping_sub(*often);
            here
        });
        let (what, _, call, _) = chosen.expect("less than the sum");
        say(what);
        add(what, call(ends, &mut random));
    }
    for ((what, came), count) in tally {
        say(&format!("{what}={came}={count}"));
    }
}

fn unusable(error: &LockError) -> &'static str {
    match error {
        LockError::Retired { .. } => "retired",
        other => panic!("{other:?}"),
    }
}

fn unsent(error: &SendError) -> &'static str {
    assert!(!error.to_string().is_empty());
    match error {
        SendError::TooLarge { .. } => "too large",
        SendError::LoansInUse { .. } => "loans in use",
        SendError::Full { .. } => "full",
        SendError::NoReceiver { .. } => "no receiver",
        SendError::TooFew { .. } => "nobody",
        SendError::Unusable(error) => unusable(error),
        other => panic!("{other:?}"),
    }
}

fn unreceived(error: &RecvError) -> &'static str {
    assert!(!error.to_string().is_empty());
    match error {
        RecvError::TimedOut { .. } => "timed out",
        RecvError::Closed { .. } => "closed",
        RecvError::SenderDied { .. } => "sender died",
        RecvError::ClaimsInUse { .. } => "claims in use",
        RecvError::Corrupt { .. } => "damaged",
        RecvError::Unusable(error) => unusable(error),
        other => panic!("{other:?}"),
    }
}

fn opened<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "opened",
        Err(error) => {
            assert!(!error.to_string().is_empty());
            match error {
                Error::TypeMismatch { .. } => "another type",
                Error::NoRoom { .. } => "no room",
                Error::Foreign { .. } | Error::Corrupt { .. } | Error::Incompatible { .. } => "damaged",
                // Two processes that join or leave in the same moment, or a directory that is held.
                Error::Os { .. } | Error::Busy { .. } => "refused by the system",
                other => panic!("{other:?}"),
            }
        }
    }
}

fn lend(ends: &mut Ends, random: &mut Random) -> &'static str {
    let Some(sender) = &ends.sender else { return "closed" };
    let len = random.below(330) as usize;
    let lent = if random.below(2) == 0 { sender.loan(len) } else { sender.loan_zeroed(len) };
    match lent {
        Ok(loan) => {
            ends.loans.push(loan);
            ends.loans.truncate(40);
            "lent"
        }
        Err(error) => unsent(&error),
    }
}

/// All that there are, and now and then keeps them.
fn lend_many(ends: &mut Ends, random: &mut Random) -> &'static str {
    let Some(sender) = &ends.sender else { return "closed" };
    match sender.loan_many(100, 300) {
        Ok(loans) if random.below(4) == 0 => ends.loans.extend(loans),
        Ok(_) => {}
        Err(error) => return unsent(&error),
    }
    "lent"
}

fn fill(ends: &mut Ends, random: &mut Random) -> &'static str {
    let Some(loan) = ends.loans.last_mut() else { return "no loan" };
    loan.fill(random.next() as u8);
    let shorter = random.below(loan.len() as u64 + 1) as usize;
    loan.shrink(shorter).expect("it is shorter");
    let labelled = loan.set_metadata(&[1; 64][..random.below(65) as usize]);
    labelled.and_then(|()| loan.set_schema_id(5)).map_or_else(|error| unsent(&error), |()| "done")
}

fn send(ends: &mut Ends, random: &mut Random) -> &'static str {
    let Some(loan) = ends.loans.pop() else { return lend(ends, random) };
    let newest = ends.shape.policy == Policy::Newest;
    let sent = match random.below(3) {
        0 => loan.try_send(),
        1 if newest => loan.send(),
        _ => loan.send_timeout(MOMENT),
    };
    match sent {
        Ok(ticket) => {
            ends.ticket = Some(ticket);
            "sent"
        }
        Err(error) => {
            let came = unsent(error.error());
            assert!(!newest || came == "retired", "{error}: the sender is never blocked");
            ends.loans.push(error.into_loan());
            came
        }
    }
}

/// Where it does not wait.
fn send_many(ends: &mut Ends, _: &mut Random) -> &'static str {
    if ends.shape.policy != Policy::Newest || ends.loans.is_empty() {
        return "none";
    }
    Loan::send_many(&mut ends.loans).map_or_else(|error| unsent(&error), |_| "sent")
}

fn received(
    ends: &mut Ends,
    receive: impl FnOnce(&mut Receiver) -> Result<Option<Message>, RecvError>,
) -> &'static str {
    let Some(receiver) = &mut ends.receiver else { return "not open" };
    match receive(receiver) {
        Ok(Some(message)) => {
            ends.messages.push(message);
            // Small ones are not counted.
            ends.messages.truncate(4);
            "received"
        }
        Ok(None) => "nothing",
        Err(error) => unreceived(&error),
    }
}

fn wait(ends: &mut Ends, _: &mut Random) -> &'static str {
    let Some(receiver) = &mut ends.receiver else { return "not open" };
    receiver.wait(Some(MOMENT)).map_or_else(|error| unreceived(&error), |()| "ready")
}

fn rewind(ends: &mut Ends, _: &mut Random) -> &'static str {
    ends.receiver.as_mut().map_or("not open", |receiver| {
        receiver.rewind();
        "done"
    })
}

/// Everything that a message says.
fn read(ends: &mut Ends, _: &mut Random) -> &'static str {
    let Some(message) = ends.messages.last() else { return "no message" };
    let sum: u64 = message.iter().chain(message.metadata()).map(|byte| u64::from(*byte)).sum();
    assert_eq!(message.len(), message.size());
    assert!(message.size() <= 300 && message.lane() < 6 && message.metadata().len() <= 64);
    let more = (message.age(), message.schema_id(), message.sequence(), message.missed(), message.deliveries());
    assert!(!format!("{message:?} {sum} {more:?}").is_empty());
    "done"
}

fn let_go(ends: &mut Ends, random: &mut Random) -> &'static str {
    match (ends.messages.pop(), random.below(4)) {
        (None, _) => return "no message",
        (Some(message), 0) => message.give_back(),
        (Some(message), _) => drop(message),
    }
    "done"
}

fn ask(ends: &mut Ends, random: &mut Random) -> &'static str {
    let Some(ticket) = &ends.ticket else { return "no ticket" };
    let answer = match random.below(3) {
        0 => ticket.wait(Some(MOMENT)).map(|handled| assert!(handled.len() <= 8)),
        1 => ticket.wait_processed(Some(MOMENT)),
        _ => return if ticket.is_processed() { "answered" } else { "unprocessed" },
    };
    match answer {
        Ok(()) => "answered",
        Err(error @ TicketError::TimedOut { .. }) => {
            assert!(!error.to_string().is_empty());
            "timed out"
        }
        Err(TicketError::Unusable(error)) => unusable(&error),
        Err(other) => panic!("{other:?}"),
    }
}

fn list(ends: &mut Ends, _: &mut Random) -> &'static str {
    let (Some(sender), Some(receiver)) = (&ends.sender, &ends.receiver) else { return "not open" };
    let text = format!("{sender:?} {receiver:?} {:?} {:?}", sender.senders(), receiver.receivers());
    assert!(sender.receivers().len() <= 8 && receiver.senders().len() <= 6 && !text.is_empty());
    "known"
}

fn wait_for_ends(ends: &mut Ends, random: &mut Random) -> &'static str {
    let (Some(sender), Some(receiver)) = (&ends.sender, &ends.receiver) else { return "not open" };
    if random.below(2) == 0 {
        let count = random.below(9) as usize;
        sender.wait_for_receivers(count, Some(MOMENT)).map_or_else(|error| unsent(&error), |()| "somebody")
    } else {
        receiver.wait_for_sender(Some(MOMENT)).map_or_else(|error| unreceived(&error), |()| "somebody")
    }
}

fn close_sender(ends: &mut Ends, random: &mut Random) -> &'static str {
    ends.sender = None;
    if random.below(2) == 0 {
        ends.let_go();
    }
    "done"
}

fn close_receiver(ends: &mut Ends, random: &mut Random) -> &'static str {
    ends.receiver = None;
    if random.below(2) == 0 {
        ends.let_go();
    }
    "done"
}

#[test]
fn garbage_in_channels_gives_a_value_or_an_error() {
    let count = times(20_000, 1_000_000);
    let dir = Dir::new();
    let mut random = Random::new();
    let start = Instant::now();
    for (name, policy) in CHANNELS {
        let options = shape(policy).options().persistence(Persistence::Keep);
        drop(Sender::<[u8]>::create(dir.name(name), &options).expect("a fresh channel"));
    }
    let user = || {
        let mut user = spawn(dir.path(), "use", &[]);
        user.expect("here");
        user
    };
    let mut users = [user(), user()];
    let workers = (0..WORKERS).map(|number| {
        let share = count / WORKERS + u64::from(number < count % WORKERS);
        spawn(dir.path(), "work", &[&random.next().to_string(), &share.to_string()])
    });
    let watch = Watch::over(workers.collect(), || {
        users.rotate_left(1);
        users[0].kill();
        users[0] = user();
    });

    let mutations: u64 = watch.tally.iter().filter(|((what, _), _)| what == "mutated").map(|(_, count)| count).sum();
    println!(
        "{mutations} mutations by {WORKERS} processes in {:.0?}; {} users killed; {} signals, {} panics, {} hangs",
        start.elapsed(),
        watch.kills,
        watch.signals,
        watch.panics,
        watch.hangs
    );
    watch.print();
    assert!(users.iter_mut().all(Child::kill_if_alive), "a user ended by itself");
    assert_eq!((watch.signals, watch.panics, watch.hangs), (0, 0, 0));
    assert_eq!(mutations, count);
    for (what, came) in OPERATIONS.iter().flat_map(|(what, _, _, all)| all.iter().map(move |came| (*what, *came))) {
        assert!(watch.tally.contains_key(&(what.into(), came.into())), "{what} never came to: {came}");
    }
}
