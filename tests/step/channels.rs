//! The operations on a channel, as the parent sees them: what is there before, what it does meanwhile, what must hold
//! after.

use crate::channel_after::{Expected, settle};
use crate::channel_peers::{LARGE, Ours, SLOTS, SMALL, Sink, Source};
use crate::common::Dir;
use crate::peek::{directory_is_locked, messages_are_awaited, release_is_awaited};
use crate::scenarios::{Run, wait_until};
use crate::victim::PATIENCE;
use memlane::{Policy, RecvError};
use memlane_crash::{End, Event};
use std::ops::RangeInclusive;

/// An operation, and what a death in it may leave.
pub struct Row {
    pub title: &'static str,
    act: &'static str,
    policy: Policy,
    expected: Expected,
    scenario: fn(&Dir, &mut Run, &Row),
}

impl Row {
    pub fn run(&self, dir: &Dir, run: &mut Run) {
        (self.scenario)(dir, run, self);
    }

    /// Nobody has survived.
    pub fn look(&self, dir: &Dir) {
        settle(Ours::nobody(self.policy), dir, &self.expected);
    }

    /// These have survived; and the victim had come as far as to its operation, if it was `ready`.
    fn settle(&self, ours: Ours, dir: &Dir, ready: bool) {
        let mut expected = self.expected.clone();
        if !ready {
            // Killed at a failpoint while it prepared.
            (expected.sent, expected.processed) = (0..=*expected.sent.end(), 0..=*expected.processed.end());
        }
        settle(ours, dir, &expected);
    }

    fn die(&self, dir: &Dir, run: &mut Run, on: &mut dyn FnMut(Event)) -> (End, bool) {
        let mut ready = false;
        let end = run.die(dir, &format!("channel {}", self.act), &mut |event| {
            ready |= event == Event::Ready;
            on(event);
        });
        (end, ready)
    }
}

const fn row(
    title: &'static str,
    act: &'static str,
    policy: Policy,
    (lane, sent, processed): (usize, RangeInclusive<u64>, RangeInclusive<u64>),
    scenario: fn(&Dir, &mut Run, &Row),
) -> Row {
    Row { title, act, policy, expected: Expected { lane, sent, processed, nothing: false }, scenario }
}

const NONE: (usize, RangeInclusive<u64>, RangeInclusive<u64>) = (0, 0..=0, 0..=0);
/// Two messages of ours that nobody has processed.
const TWO: (usize, RangeInclusive<u64>, RangeInclusive<u64>) = (0, 2..=2, 0..=0);

pub fn rows() -> Vec<Row> {
    use Policy::{Lossless, Newest, Queue};
    let mut rows = vec![
        row("channel: create", "create", Lossless, NONE, alone),
        row("channel: open or create, with nothing there", "open or create", Lossless, NONE, alone),
        row("channel: create, taking over an orphan", "take over", Lossless, TWO, orphaned),
        row("channel: open another sender", "open a sender", Lossless, NONE, beside),
        row(
            "channel: open a sender after one dead while it sent",
            "open a sender",
            Lossless,
            (0, 2..=2, 2..=2),
            after_one_dead_in_send,
        ),
        row(
            "queue: open a sender after one dead while it sent",
            "open a sender",
            Queue,
            (0, 2..=2, 2..=2),
            after_one_dead_in_send,
        ),
        row("channel: open another receiver", "open a receiver", Lossless, TWO, with_two_unprocessed),
        row("channel: open a receiver after a dead one", "open a receiver", Lossless, TWO, in_place_of_the_dead),
        row("queue: open a receiver after a dead one", "open a receiver", Queue, TWO, in_place_of_the_dead),
        row("channel: wait for it", "wait for the channel", Lossless, NONE, created_later),
        row("channel: borrow", "sender: borrow", Lossless, NONE, beside),
        row("channel: borrow and drop", "sender: borrow and drop", Lossless, NONE, beside),
        row("channel: send a large message to a sleeper", "send large", Lossless, (1, 0..=1, 0..=1), to_a_sleeper),
        row("channel: send a small message to a sleeper", "send small", Lossless, (1, 0..=1, 0..=1), to_a_sleeper),
        row("channel: send a message with a label", "send labelled", Lossless, (1, 0..=1, 0..=1), to_a_sleeper),
        row("channel: send several", "send many", Lossless, (1, 0..=3, 0..=3), to_a_sleeper),
        row("channel: send, where room was made", "send a third", Lossless, (1, 2..=3, 2..=2), drained),
        row(
            "channel: send, blocked until room is made",
            "send a third, blocked",
            Lossless,
            (1, 2..=3, 0..=3),
            drained_later,
        ),
        row("channel: send over the oldest", "send a third", Newest, (1, 2..=3, 0..=3), held),
        row("channel: send in vain", "send in vain", Lossless, (1, 2..=2, 0..=2), beside),
        row("channel: send past a dead receiver", "send large", Lossless, (0, 2..=3, 2..=2), past_the_dead),
        row("channel: send to nobody", "send to nobody", Lossless, (0, 2..=2, 0..=0), to_the_dead),
        row("queue: send to a sleeper", "send large", Queue, (1, 0..=1, 0..=1), to_a_sleeper),
        row("queue: send, where room was made", "send a third", Queue, (1, 2..=3, 2..=2), drained),
        row("queue: the same, to a sleeper", "send a third", Queue, (1, 2..=3, 2..=3), drained_to_a_sleeper),
        row(
            "queue: send, blocked until room is made",
            "send a third, blocked",
            Queue,
            (1, 2..=3, 0..=3),
            drained_later,
        ),
        row("channel: close a sender", "sender: close", Lossless, (1, 1..=1, 0..=1), to_a_sleeper),
        row(
            "channel: close a sender that lends",
            "sender: close, with a loan",
            Lossless,
            (1, 0..=1, 0..=1),
            to_a_sleeper,
        ),
        row("channel: wait for an answer", "sender: wait for an answer", Lossless, (1, 1..=1, 0..=1), drained_later),
        row(
            "channel: wait until processed",
            "sender: wait until processed",
            Lossless,
            (1, 1..=1, 0..=1),
            drained_later,
        ),
        row("queue: wait for an answer", "sender: wait for an answer", Queue, (1, 1..=1, 0..=1), drained_later),
        row(
            "channel: wait in vain for an answer",
            "sender: wait in vain for an answer",
            Lossless,
            (1, 1..=1, 0..=0),
            beside,
        ),
        row("channel: wait for receivers", "sender: wait for receivers", Lossless, NONE, another_receiver_comes),
        row("channel: wait in vain for receivers", "sender: wait in vain for receivers", Lossless, NONE, beside),
        row("channel: who sends, who receives", "sender: look around", Lossless, NONE, beside),
    ];
    rows[0].expected.nothing = true;
    rows[1].expected.nothing = true;
    let nothing_at_first = rows.iter_mut().find(|row| row.act == "wait for the channel");
    nothing_at_first.expect("a row").expected.nothing = true;
    rows.extend(receiving());
    rows
}

fn receiving() -> Vec<Row> {
    use Policy::{Lossless, Newest, Queue};
    let all_processed = |sent| (0, 2..=sent, 2..=2);
    vec![
        row("channel: receive a large message", "receive", Lossless, TWO, with_two_unprocessed),
        row("channel: receive a small message", "receive", Lossless, TWO, small_and_large),
        row("channel: receive, newest only", "receive", Newest, TWO, with_two_unprocessed),
        row("channel: receive, asleep until it is sent", "receive what comes", Lossless, all_processed(3), sent_later),
        row("channel: receive in vain", "receive in vain", Lossless, all_processed(2), with_two_unprocessed),
        row("channel: try to receive", "try to receive", Lossless, TWO, with_two_unprocessed),
        row("channel: receive several", "receive many", Lossless, TWO, with_two_unprocessed),
        row("channel: receive the latest", "receive the latest", Lossless, TWO, with_two_unprocessed),
        row("channel: rewind", "rewind", Lossless, all_processed(2), with_two_unprocessed),
        row("channel: wait for a message", "wait for a message", Lossless, TWO, with_two_unprocessed),
        row("channel: process, while its sender waits", "process", Lossless, all_processed(3), awaited),
        row("channel: process a small one, awaited", "process", Lossless, all_processed(3), small_and_awaited),
        row("channel: process, being the only one to", "process", Lossless, (0, 2..=3, 0..=1), awaited_alone),
        row("channel: mark as processed, drop", "mark as processed, drop", Lossless, all_processed(3), awaited),
        row("channel: give back, while its sender waits", "give back", Lossless, all_processed(3), awaited),
        row("channel: close a receiver, awaited", "close", Lossless, all_processed(3), awaited),
        row("channel: close the last receiver, awaited", "close", Lossless, (0, 2..=3, 0..=1), awaited_alone),
        row("channel: close a receiver, newest only", "close", Newest, TWO, with_two_unprocessed),
        row("channel: wait for a sender", "wait for a sender", Lossless, TWO, another_sender_comes),
        row("channel: wait in vain for a sender", "wait in vain for a sender", Lossless, TWO, orphaned),
        row("queue: take", "receive", Queue, TWO, with_two_unprocessed),
        row("queue: take a small one", "receive", Queue, TWO, small_and_large),
        row("queue: take, asleep until it is sent", "receive what comes", Queue, all_processed(3), sent_later),
        row("queue: take what a dead one had", "receive", Queue, TWO, in_place_of_the_dead),
        row("queue: take several", "receive many", Queue, TWO, with_two_unprocessed),
        row("queue: process, while its sender waits", "process", Queue, (0, 2..=3, 0..=2), awaited),
        row("queue: mark as processed, drop", "mark as processed, drop", Queue, (0, 2..=3, 0..=2), awaited),
        row("queue: give back to a sleeper", "give back", Queue, (0, 2..=2, 0..=2), given_back),
        row("queue: close a receiver that has one", "close", Queue, (0, 2..=2, 0..=1), with_two_unprocessed),
    ]
}

fn quietly(_: Event) {}

/// Nobody but the victim uses the channel.
fn alone(dir: &Dir, run: &mut Run, row: &Row) {
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(Ours::nobody(row.policy), dir, ready);
}

/// Beside a sender and a receiver.
fn beside(dir: &Dir, run: &mut Run, row: &Row) {
    let ours = Ours::new(dir, row.policy);
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, ready);
}

fn with_two(dir: &Dir, row: &Row, lens: [usize; 2]) -> Ours {
    let mut ours = Ours::new(dir, row.policy);
    for len in lens {
        ours.sources[0].send(len);
    }
    ours
}

/// Two messages are there that nobody has processed.
fn with_two_unprocessed(dir: &Dir, run: &mut Run, row: &Row) {
    victim_among_two(dir, run, row, [LARGE, SMALL]);
}

fn victim_among_two(dir: &Dir, run: &mut Run, row: &Row, lens: [usize; 2]) {
    let mut ours = with_two(dir, row, lens);
    let (end, ready) = row.die(dir, run, &mut quietly);
    if row.policy == Policy::Queue && row.act == "receive" {
        ours.sinks[0].drain();
        let first = ours.sinks[0].got.iter().find(|got| got.1 == 1).expect("the dead keep nothing");
        assert!(first.2 == 2 || first.2 == 1 && end != End::Done, "it was delivered {} times", first.2);
    }
    row.settle(ours, dir, ready);
}

fn small_and_large(dir: &Dir, run: &mut Run, row: &Row) {
    victim_among_two(dir, run, row, [SMALL, LARGE]);
}

/// The creator has closed, a receiver lives, and has received nothing yet.
fn orphaned(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = with_two(dir, row, [LARGE, SMALL]);
    ours.sources.clear();
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, ready);
}

/// All are dead but a receiver, which has processed all: their sender died between taking an entry back and naming the next
/// message in it.
fn after_one_dead_in_send(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::all_dead(dir, row.policy);
    ours.open_sink(dir).drain();
    crate::peek::begin_message(dir, SLOTS + 1, row.policy);
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, ready);
}

/// The victim takes the second place of a dead receiver.
fn in_place_of_the_dead(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::all_dead(dir, row.policy);
    let again = row.policy == Policy::Lossless;
    ours.open_sink(dir).next[0] = again.then_some(1);
    ours.open_source(dir);
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, ready);
}

/// We create the channel after the victim has looked for it.
fn created_later(dir: &Dir, run: &mut Run, row: &Row) {
    let (mut ours, mut looked) = (None, false);
    let (_, ready) = row.die(dir, run, &mut |_| {
        let looks = directory_is_locked(dir);
        if looked && !looks && ours.is_none() {
            ours = Some(Ours::new(dir, row.policy));
        }
        looked |= looks;
    });
    row.settle(ours.unwrap_or_else(|| Ours::new(dir, row.policy)), dir, ready);
}

/// The victim is the only sender, and a receiver of ours sleeps: it gets all that is sent, and learns of the end.
fn to_a_sleeper(dir: &Dir, run: &mut Run, row: &Row) {
    sleeps_until_the_end(dir, run, row, |_| ());
}

/// The same, when all before was processed.
fn drained_to_a_sleeper(dir: &Dir, run: &mut Run, row: &Row) {
    sleeps_until_the_end(dir, run, row, Sink::drain);
}

fn sleeps_until_the_end(dir: &Dir, run: &mut Run, row: &Row, first: fn(&mut Sink)) {
    let mut ours = Ours::new(dir, row.policy);
    let mut sink = ours.sinks.pop();
    std::thread::scope(|scope| {
        let (mut sleeper, mut victim) = (None, None);
        let (end, ready) = row.die(dir, run, &mut |event| {
            if event == Event::Ready {
                ours.sources.clear();
                let mut sink = sink.take().expect("one");
                first(&mut sink);
                victim = sink.receiver.senders().pop().and_then(|info| info.who).map(|who| who.pid);
                sleeper = Some(scope.spawn(move || {
                    let ended = loop {
                        if let Err(ended) = sink.process(PATIENCE) {
                            break ended;
                        }
                    };
                    (sink, ended)
                }));
                wait_until(|| messages_are_awaited(dir));
            }
        });
        if let Some(sleeper) = sleeper {
            let (awake, ended) = sleeper.join().expect("a receiver that is told of the end");
            match ended {
                RecvError::SenderDied { sender, .. } => {
                    assert!(victim.is_some() && sender.as_ref().map(|who| who.pid) == victim, "{sender:?}");
                }
                RecvError::Closed { .. } => assert!(row.act.contains("close"), "it has died, and not closed"),
                other => panic!("it hung: {other}"),
            }
            assert!(
                end != End::Done || row.act.ends_with("a loan") || awake.got.len() as u64 == *row.expected.sent.end()
            );
            sink = Some(awake);
        }
        ours.sinks.extend(sink);
        row.settle(ours, dir, ready);
    });
}

/// Our receiver has processed all, once the victim is ready.
fn drained(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::new(dir, row.policy);
    let (_, ready) = row.die(dir, run, &mut |event| {
        if event == Event::Ready {
            ours.sinks[0].drain();
        }
    });
    row.settle(ours, dir, ready);
}

/// Our receiver processes all, once the victim sleeps for that.
fn drained_later(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::new(dir, row.policy);
    let (_, ready) = row.die(dir, run, &mut |_| {
        if release_is_awaited(dir) {
            ours.sinks[0].drain();
        }
    });
    row.settle(ours, dir, ready);
}

/// Our receiver holds what is overwritten.
fn held(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::new(dir, row.policy);
    let (_, ready) = row.die(dir, run, &mut |event| {
        if event == Event::Ready {
            let message = ours.sinks[0].receiver.recv_timeout(PATIENCE).expect("a message");
            let message = ours.sinks[0].take(message);
            ours.held.push(message);
        }
    });
    row.settle(ours, dir, ready);
}

/// Our receiver has taken the place of one dead receiver and processed all; another one is dead in its place.
fn past_the_dead(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::all_dead(dir, row.policy);
    ours.open_sink(dir).drain();
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, ready);
}

/// All receivers are dead, and hold everything up. A sender of ours keeps the channel.
fn to_the_dead(dir: &Dir, run: &mut Run, row: &Row) {
    let ours = Ours::all_dead(dir, row.policy);
    let (_, ready) = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, ready);
}

/// We send when the victim sleeps for that.
fn sent_later(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = with_two(dir, row, [LARGE, SMALL]);
    let (_, ready) = row.die(dir, run, &mut |event| {
        if event == Event::Ready {
            ours.sinks[0].drain();
        }
        if ours.sources[0].sent == 2 && messages_are_awaited(dir) {
            ours.sources[0].send(LARGE);
        }
    });
    row.settle(ours, dir, ready);
}

fn another_receiver_comes(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::new(dir, row.policy);
    let (_, ready) = row.die(dir, run, &mut |_| {
        if ours.sinks.len() == 1 && release_is_awaited(dir) {
            ours.open_sink(dir);
        }
    });
    row.settle(ours, dir, ready);
}

fn another_sender_comes(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = with_two(dir, row, [LARGE, SMALL]);
    ours.sources.clear();
    let (_, ready) = row.die(dir, run, &mut |_| {
        if ours.sources.is_empty() && messages_are_awaited(dir) {
            ours.open_source(dir);
        }
    });
    row.settle(ours, dir, ready);
}

/// A sender of ours waits for the victim only.
fn awaited(dir: &Dir, run: &mut Run, row: &Row) {
    waits_for_the_victim(dir, run, row, [LARGE, SMALL], true);
}

fn small_and_awaited(dir: &Dir, run: &mut Run, row: &Row) {
    waits_for_the_victim(dir, run, row, [SMALL, LARGE], true);
}

/// The same, and nobody else receives.
fn awaited_alone(dir: &Dir, run: &mut Run, row: &Row) {
    waits_for_the_victim(dir, run, row, [LARGE, SMALL], false);
}

fn waits_for_the_victim(dir: &Dir, run: &mut Run, row: &Row, lens: [usize; 2], beside: bool) {
    let mut ours = with_two(dir, row, lens);
    if !beside {
        ours.sinks.clear();
    }
    let mut source = ours.sources.pop();
    std::thread::scope(|scope| {
        let (mut blocked, mut victim) = (None, None);
        let (_, ready) = row.die(dir, run, &mut |event| {
            if event == Event::Ready {
                ours.sinks.iter_mut().for_each(Sink::drain);
                let mut source: Source = source.take().expect("one");
                let pids = source.sender.receivers().into_iter().filter_map(|info| info.who).map(|who| who.pid);
                victim = pids.into_iter().find(|pid| *pid != std::process::id());
                blocked = Some(scope.spawn(move || {
                    let result = source.fill(LARGE).send_timeout(PATIENCE);
                    source.sent += u64::from(result.is_ok());
                    let error = result.map(|ticket| assert_eq!(ticket.sequence(), 3)).map_err(|unsent| unsent.into());
                    (source, error)
                }));
                wait_until(|| release_is_awaited(dir));
            }
        });
        if row.policy == Policy::Queue {
            ours.sinks.iter_mut().for_each(Sink::drain); // somebody has to take what the dead one had
        }
        if let Some(blocked) = blocked {
            let (awake, result) = blocked.join().expect("a sender that is told");
            match result {
                Ok(()) => {}
                Err(memlane::SendError::NoReceiver { last, .. }) => {
                    let pid = last.map(|who| who.pid);
                    assert!(!beside && (pid == victim || pid.is_none()), "{pid:?}, and not {victim:?}");
                }
                Err(other) => panic!("it hung: {other}"),
            }
            source = Some(awake);
        }
        ours.sources.extend(source);
        row.settle(ours, dir, ready);
    });
}

/// A receiver of ours sleeps, and gets in the end what the victim had.
fn given_back(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = with_two(dir, row, [LARGE, SMALL]);
    let mut sink = ours.sinks.pop();
    std::thread::scope(|scope| {
        let mut sleeper = None;
        let (_, ready) = row.die(dir, run, &mut |event| {
            if event == Event::Ready {
                let mut sink = sink.take().expect("one");
                sleeper = Some(scope.spawn(move || {
                    assert_eq!(sink.process(PATIENCE).expect("a message"), (0, 2, 1));
                    let again = sink.process(PATIENCE);
                    (sink, again)
                }));
                wait_until(|| messages_are_awaited(dir));
            }
        });
        if let Some(sleeper) = sleeper {
            let (awake, again) = sleeper.join().expect("a receiver that gets it");
            assert_eq!(again.expect("nobody else processed it"), (0, 1, 2), "it was delivered before");
            sink = Some(awake);
        }
        ours.sinks.extend(sink);
        row.settle(ours, dir, ready);
    });
}
