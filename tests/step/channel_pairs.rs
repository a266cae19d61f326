//! Two operations on one channel, the first stopped at each of its points while the second runs.

use crate::MORE;
use crate::channel_after::{Expected, settle};
use crate::channel_peers::{LABELLED, LARGE, Ours, SMALL, Sink, assert_whole};
use crate::channel_victim::{sink, source};
use crate::common::{Dir, times};
use crate::meet::{Meeting, meet_at};
use crate::peek::{directory_is_locked, messages_are_awaited, release_is_awaited};
use crate::scenarios::{Run, in_time, wait_until};
use crate::victim::{OBJECT, PATIENCE};
use memlane::{Error, Message, Policy, Receiver, RecvError, SendError, Sender, Ticket, TicketError};
use memlane_crash::operate;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What came of an operation, as an exit code: the number of a message, or one of these.
type Came = i32;
/// There was nothing to receive.
const NOTHING: Came = 60;
const DONE: Came = 61;
const FULL: Came = 62;
const NO_ROOM: Came = 63;
const CLOSED: Came = 64;
const NO_RECEIVER: Came = 65;

/// What is there before: a sender and a receiver of ours, and messages of these lengths, which nobody has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// None.
    Fresh,
    /// None, until the victim receives too: then one, which ours has processed.
    Later,
    One,
    Two,
    SmallFirst,
    LabelledFirst,
    /// Two, and none of ours receives.
    Alone,
    /// One, which we have taken.
    Taken,
    /// Two, which we have processed; one place is that of a dead receiver.
    Dead,
    /// Two of dead senders, in whose lanes nobody sends; the dead receivers hold them.
    AllDead,
}
use World::{AllDead, Alone, Dead, Fresh, LabelledFirst, Later, One, SmallFirst, Taken, Two};

struct Pair {
    policy: Policy,
    world: World,
    a: &'static str,
    b: &'static str,
    allowed: &'static [(Came, Came)],
    /// Of the first lane.
    sent: RangeInclusive<u64>,
    processed: RangeInclusive<u64>,
}

const fn pair(
    (policy, world): (Policy, World),
    (a, b): (&'static str, &'static str),
    allowed: &'static [(Came, Came)],
    (sent, processed): (RangeInclusive<u64>, RangeInclusive<u64>),
) -> Pair {
    Pair { policy, world, a, b, allowed, sent, processed }
}

fn pairs() -> Vec<Pair> {
    use Policy::{Lossless, Newest, Queue};
    // Enough that every buffer is used again. It gets the first message, or the first of what is kept in the end.
    const OVERWRITTEN: &[(Came, Came)] = &[(1, 18), (17, 18)];
    vec![
        pair((Newest, Two), ("receive", "send sixteen"), OVERWRITTEN, (18..=18, 0..=18)),
        pair((Newest, SmallFirst), ("receive", "send sixteen"), OVERWRITTEN, (18..=18, 0..=18)),
        pair((Newest, LabelledFirst), ("receive", "send sixteen"), OVERWRITTEN, (18..=18, 0..=18)),
        pair((Newest, Two), ("receive the latest", "send sixteen"), &[(2, 18), (17, 18), (18, 18)], (18..=18, 0..=18)),
        pair((Newest, Two), ("open a receiver", "send"), &[(NOTHING, 3), (3, 3)], (3..=3, 0..=3)),
        pair((Lossless, One), ("receive", "send"), &[(1, 2)], (2..=2, 0..=2)),
        pair((Lossless, Fresh), ("receive", "send"), &[(1, 1)], (1..=1, 0..=1)),
        pair((Lossless, Fresh), ("receive", "close the sender"), &[(CLOSED, DONE)], (0..=0, 0..=0)),
        pair((Lossless, Two), ("receive", "try to send"), &[(1, FULL)], (2..=2, 0..=2)),
        pair((Lossless, Alone), ("process", "try to send"), &[(DONE, FULL), (DONE, 3)], (2..=3, 1..=1)),
        pair((Lossless, Alone), ("process", "send"), &[(DONE, 3)], (3..=3, 1..=1)),
        pair((Lossless, Alone), ("give back", "try to send"), &[(DONE, FULL)], (2..=2, 0..=0)),
        pair((Lossless, Alone), ("close", "try to send"), &[(DONE, FULL), (DONE, 3)], (2..=3, 1..=1)),
        pair((Lossless, Alone), ("close", "send"), &[(DONE, 3), (DONE, NO_RECEIVER)], (2..=3, 1..=1)),
        pair((Lossless, Later), ("process", "wait for an answer"), &[(DONE, 2)], (1..=1, 0..=1)),
        pair((Lossless, Alone), ("go back", "send what can be"), &[(4, 4)], (4..=4, 2..=4)),
        pair((Lossless, Two), ("open a receiver", "process, send"), &[(1, FULL), (3, 4)], (2..=4, 0..=4)),
        pair((Lossless, Dead), ("open a receiver", "send"), &[(NOTHING, 3), (3, 3)], (3..=3, 2..=3)),
        pair((Lossless, Dead), ("send in the first lane", "open a receiver"), &[(3, DONE)], (3..=3, 2..=3)),
        pair(
            (Lossless, Fresh),
            ("open a receiver", "open a receiver"),
            &[(NOTHING, NO_ROOM), (NO_ROOM, DONE)],
            (0..=0, 0..=0),
        ),
        pair((Lossless, Dead), ("open a sender", "open a sender"), &[(DONE, NO_ROOM), (NO_ROOM, DONE)], (2..=2, 2..=2)),
        pair((Lossless, Fresh), ("close a sender", "open a sender"), &[(DONE, NO_ROOM), (DONE, DONE)], (0..=0, 0..=0)),
        pair((Lossless, Fresh), ("send", "try to receive"), &[(1, 1), (1, NOTHING)], (0..=0, 0..=0)),
        pair((Lossless, Fresh), ("send", "receive"), &[(1, 1)], (0..=0, 0..=0)),
        pair((Lossless, Fresh), ("wait for an answer", "receive"), &[(1, 1)], (0..=0, 0..=0)),
        pair((Queue, One), ("try to receive", "try to receive"), &[(1, NOTHING), (NOTHING, 1)], (1..=1, 0..=1)),
        pair((Queue, Two), ("try to receive", "try to receive"), &[(1, 2), (2, 1)], (2..=2, 0..=2)),
        pair((Queue, AllDead), ("receive", "receive"), &[(1, 2), (2, 1)], (2..=2, 0..=2)),
        pair((Queue, One), ("try to receive", "take, give back"), &[(1, NOTHING), (1, 1)], (1..=1, 0..=1)),
        pair((Queue, Taken), ("try to receive", "give back"), &[(1, DONE), (NOTHING, DONE)], (1..=1, 0..=1)),
        pair((Queue, Taken), ("try to receive", "process"), &[(NOTHING, DONE)], (1..=1, 1..=1)),
        pair((Queue, One), ("give back", "try to receive"), &[(DONE, 1), (DONE, NOTHING)], (1..=1, 0..=1)),
        pair((Queue, One), ("give back", "receive"), &[(DONE, 1)], (1..=1, 0..=1)),
        pair((Queue, One), ("process", "try to receive"), &[(DONE, NOTHING)], (1..=1, 1..=1)),
        pair((Queue, One), ("process", "wait for an answer"), &[(DONE, 1)], (1..=1, 1..=1)),
        pair((Queue, Two), ("process", "try to send"), &[(DONE, FULL), (DONE, 3)], (2..=3, 0..=3)),
        pair((Queue, Two), ("process", "send"), &[(DONE, 3)], (3..=3, 0..=3)),
        pair((Queue, Fresh), ("receive", "send"), &[(1, 1)], (1..=1, 0..=1)),
        pair((Queue, Fresh), ("send", "receive"), &[(1, 1)], (0..=0, 0..=0)),
    ]
}

pub fn meetings() -> impl Iterator<Item = Meeting> {
    pairs().into_iter().map(|pair| {
        let Pair { policy, world, a, b, .. } = pair;
        Meeting {
            first: format!("{a}, {policy:?}, {world:?}").to_lowercase(),
            title: format!("channel: {a} | {b} ({policy:?}, {world:?})").to_lowercase(),
            // What takes long to come to is stopped at fewer points.
            before: times(if a.starts_with("open") || world == Dead { 1 } else { 6 }, 16),
            // Copying a small message changes nothing that others see.
            further: times(if b == "send sixteen" { MORE } else { 0 }, MORE),
            run: Box::new(move |dir, run| run_pair(&pair, dir, run)),
        }
    })
}

fn run_pair(pair: &Pair, dir: &Dir, run: &mut Run) {
    let Pair { world, a, b, .. } = *pair;
    let (ours, ticket) = prepare(dir, pair);
    let needed = || match a {
        "receive" => messages_are_awaited(dir),
        "wait for an answer" => release_is_awaited(dir),
        _ => false,
    };
    let waits = || match b {
        "send" | "receive" | "wait for an answer" => true,
        "open a sender" | "open a receiver" => directory_is_locked(dir),
        _ => false,
    };
    let ready = move || if world == Later { send_to_two(ours) } else { (ours, ticket) };
    let (first, (second, ours)) = std::thread::scope(|scope| {
        let ready = scope.spawn(ready);
        let other = || {
            let (mut ours, ticket) = ready.join().expect("it was sent");
            (act(&mut ours, ticket, dir, b), ours)
        };
        meet_at(dir, run, &format!("channel attempt {a}"), &needed, &waits, other, &mut || ())
    });
    let came = (first, second);
    assert!(pair.allowed.contains(&came), "it came to {came:?}, which is none of {:?}", pair.allowed);
    // What the victim sent, it sent in a lane of its own.
    let lane = usize::from(matches!(a, "send" | "wait for an answer"));
    let (sent, processed) = if lane == 0 { (pair.sent.clone(), pair.processed.clone()) } else { (1..=1, 0..=1) };
    settle(ours, dir, &Expected { lane, sent, processed, nothing: false });
}

/// Sends a message when the victim receives too, so that its answer is waited for.
fn send_to_two(mut ours: Ours) -> (Ours, Option<Ticket>) {
    wait_until(|| ours.sources[0].sender.receivers().len() == 2);
    let ticket = ours.sources[0].send(LARGE);
    ours.sinks[0].drain();
    (ours, Some(ticket))
}

fn prepare(dir: &Dir, pair: &Pair) -> (Ours, Option<Ticket>) {
    let Pair { policy, world, b, .. } = *pair;
    let mut ours = match world {
        Dead | AllDead => Ours::all_dead(dir, policy),
        _ => Ours::new(dir, policy),
    };
    let lens: &[usize] = match world {
        Fresh | Later | Dead | AllDead => &[],
        One | Taken => &[LARGE],
        Two | Alone => &[LARGE, SMALL],
        SmallFirst => &[SMALL, LARGE],
        LabelledFirst => &[LABELLED, LARGE],
    };
    let mut first = None;
    for len in lens {
        let ticket = ours.sources[0].send(*len);
        first.get_or_insert(ticket);
    }
    match world {
        Alone => ours.sinks.clear(),
        Taken => {
            let message = ours.sinks[0].receiver.recv().expect("a message");
            ours.held.push(message);
        }
        Dead | AllDead => {
            ours.open_sink(dir);
            if world == Dead {
                ours.sinks[0].drain();
            }
            if matches!(b, "send" | "open a sender") {
                ours.open_source(dir);
            }
        }
        _ => {}
    }
    (ours, first)
}

/// The second operation.
fn act(ours: &mut Ours, ticket: Option<Ticket>, dir: &Dir, act: &str) -> Came {
    match act {
        "send" => send(ours, PATIENCE * 2),
        "try to send" => send(ours, Duration::ZERO),
        "send what can be" => (0..2).map(|_| send(ours, Duration::ZERO)).max().unwrap_or(FULL),
        "send sixteen" => {
            let lens = [LARGE, LABELLED, SMALL].into_iter().cycle().take(16);
            lens.map(|len| ours.sources[0].send(len).sequence() as Came).max().unwrap_or(FULL)
        }
        "process, send" => {
            ours.sinks[0].drain();
            (0..2).map(|_| send(ours, Duration::ZERO)).max().unwrap_or(FULL)
        }
        "receive" => received(in_time(|limit| ours.sinks[0].process(limit))),
        "try to receive" => received(ours.sinks[0].process(Duration::ZERO)),
        "take, give back" => match ours.sinks[0].receiver.recv_timeout(Duration::ZERO) {
            Ok(message) => {
                let sequence = message.sequence();
                message.give_back();
                sequence as Came
            }
            Err(error) => failed(&error),
        },
        "give back" => {
            ours.held.pop().expect("it is held").give_back();
            DONE
        }
        "process" => {
            drop(ours.held.pop().expect("it is held"));
            DONE
        }
        "wait for an answer" => answers(&ticket.expect("it was sent")),
        "open a sender" => {
            let taken: Vec<usize> = ours.sinks[0].receiver.senders().iter().map(|info| info.lane).collect();
            came(Sender::open(dir.name(OBJECT)).map(|sender| {
                ours.sources.push(crate::channel_peers::Source::of(sender, &taken));
            }))
        }
        "open a receiver" => came(Receiver::open(dir.name(OBJECT)).map(|receiver| {
            ours.sinks.push(Sink::of(receiver, ours.policy));
        })),
        "close the sender" => {
            ours.sources.clear();
            DONE
        }
        other => panic!("no operation {other}"),
    }
}

fn send(ours: &mut Ours, timeout: Duration) -> Came {
    let source = &mut ours.sources[0];
    match source.fill(LARGE).send_timeout(timeout) {
        Ok(ticket) => {
            source.sent += 1;
            assert_eq!(ticket.sequence(), source.sent);
            ticket.sequence() as Came
        }
        Err(unsent) => match unsent.error() {
            SendError::Full { waited, .. } if *waited < PATIENCE => FULL,
            SendError::NoReceiver { .. } => NO_RECEIVER,
            error => panic!("{error}"),
        },
    }
}

fn received(result: Result<(usize, u64, u64), RecvError>) -> Came {
    result.map_or_else(|error| failed(&error), |(_, sequence, _)| sequence as Came)
}

fn failed(error: &RecvError) -> Came {
    match error {
        RecvError::TimedOut { .. } => NOTHING,
        RecvError::Closed { .. } => CLOSED,
        error => panic!("{error}"),
    }
}

fn came(result: Result<(), Error>) -> Came {
    match result {
        Ok(()) => DONE,
        Err(Error::NoRoom { .. }) => NO_ROOM,
        Err(error) => panic!("{error}"),
    }
}

/// How many have answered for the first message.
fn answers(ticket: &Ticket) -> Came {
    let handled = in_time(|limit| ticket.wait(Some(limit))).unwrap_or_else(|error: TicketError| panic!("{error}"));
    assert!(handled.iter().all(|handled| handled.outcome == memlane::Outcome::Processed), "{handled:?}");
    assert!(handled.iter().all(|handled| handled.who.is_some()), "{handled:?}");
    handled.len() as Came
}

/// The first operation, as the victim does it.
pub fn attempt(act: &str) -> u8 {
    let came = match act {
        "send" | "send in the first lane" => attempt_to_send(),
        "wait for an answer" => {
            let ticket = source().send(LARGE);
            operate(|| ticket.wait(Some(PATIENCE))).expect("an answer").len() as Came
        }
        "open a sender" => {
            let opened = operate(|| Sender::<[u8]>::open(OBJECT));
            came(opened.map(drop))
        }
        "close a sender" => {
            let source = source();
            operate(|| drop(source));
            DONE
        }
        "open a receiver" => match operate(|| Receiver::open(OBJECT)) {
            Ok(receiver) => all_that_comes(receiver),
            Err(error) => came(Err(error)),
        },
        _ => attempt_to_receive(act),
    };
    u8::try_from(came).expect("a small number")
}

fn attempt_to_send() -> Came {
    let source = source();
    let loan = source.fill(LARGE);
    let ticket = operate(|| loan.send_timeout(PATIENCE)).expect("there is room, in the end");
    ticket.sequence() as Came
}

/// The first of all messages that are there; none is missing from then on.
fn all_that_comes(receiver: Receiver) -> Came {
    let mut sink = Sink::of(receiver, Policy::Lossless);
    sink.drain();
    let sent = sink.receiver.senders().iter().find(|info| info.lane == 0).map_or(0, |info| info.sent);
    assert!(sink.got.is_empty() || sink.next[0] == Some(sent + 1), "of {sent} it got {:?}", sink.got);
    sink.got.first().map_or(NOTHING, |got| got.1 as Came)
}

fn attempt_to_receive(act: &str) -> Came {
    let mut sink = sink();
    match act {
        "receive" => {
            let message = operate(|| sink.receiver.recv());
            message.map_or_else(|error| failed(&error), |message| whole(&message))
        }
        "try to receive" => {
            let message = operate(|| sink.receiver.try_recv()).expect("nothing is wrong");
            message.map_or(NOTHING, |message| whole(&message))
        }
        "receive the latest" => {
            let message = operate(|| sink.receiver.latest()).expect("nothing is wrong");
            message.map_or(NOTHING, |message| whole(&message))
        }
        "process" | "give back" | "close" => {
            let message = sink.receiver.recv().expect("a message");
            assert_whole(&message);
            let mut open = Some(sink);
            operate(|| match act {
                "process" => drop(message),
                "give back" => message.give_back(),
                _ => drop((open.take(), message)),
            });
            DONE
        }
        "go back" => {
            sink.drain();
            operate(|| sink.receiver.rewind());
            let before = sink.got.len();
            sink.next = [None; 2];
            sink.drain();
            let got: Vec<u64> = sink.got[before..].iter().map(|got| got.1).collect();
            assert!(got.ends_with(&[3, 4]), "{got:?}");
            4
        }
        other => panic!("no operation {other}"),
    }
}

/// It is still, when the other operation is done, what it was. What it missed is what was sent since it came.
fn whole(message: &Message) -> Came {
    assert_whole(message);
    let sequence = message.sequence();
    assert!(message.missed() == sequence.saturating_sub(3) || message.missed() == 0, "{}", message.missed());
    sequence as Came
}
