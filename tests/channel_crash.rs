//! Death of senders and receivers at every step that changes what others see, in one process, as `tests/crash.rs` for
//! segments. After each: messages are whole, none is lost or received twice without need, and every place and buffer can
//! be used again.
#![cfg(any(miri, memlane_heap))]
#![allow(missing_docs)]

mod common;
#[path = "common/victim.rs"]
mod victim;

use common::Dir;
use memlane::heap::{die_at, kill_self, peek, start_process};
use memlane::{ChannelOptions, Loan, Message, Name, Outcome, Policy, Receiver, RecvError, Sender, Ticket};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use victim::die_while;

const PATIENCE: Duration = Duration::from_secs(60);
const OBJECT: &str = "object";

const SLOTS: u64 = 2;
const RECEIVERS: u64 = 2;
const LARGE: usize = 200;
const SMALL: usize = 8;
/// A place in the window, a claim and the one for `latest` of each receiver, a loan.
const BUFFERS: u64 = SLOTS + RECEIVERS * 2 + 1;

/// One victim, that dies at its `step`-th step.
struct Run {
    dir: Dir,
    name: Name,
    step: u64,
    policy: Policy,
    survived: Cell<bool>,
}

/// What the victim has done with messages, as it says.
#[derive(Clone, Default)]
struct Diary {
    /// The last message it has begun to let go of.
    begun: Arc<AtomicU64>,
    /// The last one it has let go of.
    ended: Arc<AtomicU64>,
}

impl Diary {
    /// Lets go of a message.
    fn process(&self, message: Message) {
        let sequence = message.sequence();
        self.begun.store(sequence, Ordering::Relaxed);
        drop(message);
        self.ended.store(sequence, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

fn options(policy: Policy) -> ChannelOptions {
    ChannelOptions::new()
        .policy(policy)
        .slots(SLOTS as u16)
        .receivers(RECEIVERS as u16)
        .claims(1)
        .loans(1)
        .max_message(LARGE as u64)
}

impl Run {
    fn die_while(&self, victim: impl FnOnce(&Name, &dyn Fn()) + Send + 'static, meanwhile: impl FnMut()) {
        let name = self.name.clone();
        let victim = move |begin: &dyn Fn()| {
            victim(&name, begin);
            die_at(0);
        };
        self.survived.set(die_while(self.step, victim, || (), meanwhile));
    }

    fn die(&self, victim: impl FnOnce(&Name, &dyn Fn()) + Send + 'static) {
        self.die_while(victim, || ());
    }

    /// A new channel.
    fn sender(&self) -> Sender {
        Sender::create(&self.name, &options(self.policy)).expect("a fresh channel")
    }

    fn receiver(&self) -> Receiver {
        Receiver::open(&self.name).expect("there is a place")
    }

    /// Whether somebody sleeps on the eventcount at `offset` of the channel.
    fn is_awaited(&self, offset: u64) -> bool {
        // Where the user's bytes lie, as docs/DESIGN.md draws it.
        const DATA: u64 = 12_288;
        let mut word = [0; 4];
        peek(self.dir.path(), OBJECT, &mut word, DATA + offset).expect("it is there");
        u32::from_ne_bytes(word) & 1 != 0
    }
}

/// Lets victims of one operation die at each of its steps, in channels of each policy.
fn die_everywhere(policies: &[Policy], scenario: impl Fn(&Run)) {
    for policy in policies.iter().copied() {
        for step in 1.. {
            let dir = Dir::new();
            let run = Run { name: dir.name(OBJECT), dir, step, policy, survived: Cell::new(false) };
            scenario(&run);
            assert_eq!(run.dir.files(), [""; 0], "something was left over");
            if run.survived.get() {
                println!("{policy:?}: {} deaths", step - 1);
                assert!(step > 1, "an operation without steps");
                break;
            }
        }
    }
}

const ALL: &[Policy] = &[Policy::Lossless, Policy::Newest, Policy::Queue];
const LOSSLESS: &[Policy] = &[Policy::Lossless];
const QUEUE: &[Policy] = &[Policy::Queue];

// ---------------------------------------------------------------------------------------------------------------
// Messages that follow from their numbers

/// Every second one is large, and every second of these has a label.
fn len_of(sequence: u64) -> usize {
    if sequence % 2 == 1 { LARGE } else { SMALL }
}

fn sent(sender: &Sender) -> u64 {
    sender.senders()[0].sent
}

fn loan(sender: &Sender) -> Loan {
    let sequence = sent(sender) + 1;
    let mut loan = sender.loan(len_of(sequence)).expect("a loan never waits");
    loan.fill(sequence as u8);
    if sequence % 4 == 1 {
        loan.set_metadata(&sequence.to_ne_bytes()).expect("room for it");
    }
    loan
}

fn send(sender: &Sender) -> Ticket {
    let ticket = loan(sender).send_timeout(PATIENCE).expect("the dead hold nobody up");
    assert_eq!(ticket.sequence(), sent(sender));
    ticket
}

/// The number of a message, which is whole.
fn check(message: &Message) -> u64 {
    let sequence = message.sequence();
    assert_eq!(message.len(), len_of(sequence), "message {sequence}");
    assert!(message.iter().all(|byte| *byte == sequence as u8), "message {sequence}");
    let metadata = if sequence % 4 == 1 { &sequence.to_ne_bytes()[..] } else { &[] };
    assert_eq!(message.metadata(), metadata, "message {sequence}");
    sequence
}

/// Receives what there is until nobody sends any more, or nothing came for a moment: the numbers, from the least on. What
/// a dead taker had is found later than what nobody had.
fn drain(receiver: &mut Receiver) -> Vec<u64> {
    let mut received = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_millis(1)) {
            Ok(message) => received.push(check(&message)),
            Err(RecvError::TimedOut { .. } | RecvError::Closed { .. } | RecvError::SenderDied { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    received.sort_unstable();
    received
}

fn contiguous(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

// ---------------------------------------------------------------------------------------------------------------
// What must hold after a death

/// Both places can be had, messages go through the whole window, twice, and no buffer is missing.
fn works(run: &Run, sender: &Sender, receivers: usize) {
    let mut receivers: Vec<_> = (0..receivers).map(|_| run.receiver()).collect();
    // What is left in the window is nobody's any more.
    receivers.iter_mut().for_each(|receiver| drop(drain(receiver)));
    for _ in 0..2 * SLOTS + 1 {
        let sequence = send(sender).sequence();
        let received: Vec<_> = receivers.iter_mut().flat_map(drain).collect();
        let expected = if run.policy == Policy::Queue { 1 } else { receivers.len() };
        assert_eq!(received, vec![sequence; expected]);
    }
    let last = sent(sender);
    let in_window = (last + 1 - SLOTS..=last).filter(|sequence| len_of(*sequence) == LARGE).count();
    let free = sender.loan_many(100, LARGE).expect("some are free").len();
    assert_eq!((free + in_window) as u64, BUFFERS, "a buffer is missing");
}

// ---------------------------------------------------------------------------------------------------------------
// Senders

/// Sends four messages through a window of two, and closes.
fn sends(name: &Name, begin: &dyn Fn()) {
    let sender = Sender::open(name).expect("there is a lane");
    begin();
    (0..4).for_each(|_| drop(send(&sender)));
    drop(sender);
}

/// What is received while `sends` dies, and after.
fn receive_while(run: &Run, receiver: &mut Receiver, slowly: bool) -> Vec<u64> {
    const RELEASED: u64 = 64;
    let mut last = 0;
    let mut received = Vec::new();
    let mut receive = |receiver: &mut Receiver| match receiver.recv_timeout(Duration::ZERO) {
        Ok(message) => {
            let sequence = check(&message);
            assert_eq!(sequence, last + 1 + message.missed(), "what was missed is known");
            assert!(message.missed() == 0 || run.policy == Policy::Newest, "a message was lost");
            last = sequence;
            received.push(sequence);
            true
        }
        Err(RecvError::TimedOut { .. } | RecvError::Closed { .. } | RecvError::SenderDied { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    run.die_while(sends, || {
        if !slowly || run.is_awaited(RELEASED) {
            receive(receiver);
        }
    });
    while receive(receiver) {}
    received
}

#[test]
fn death_in_send() {
    for slowly in [false, true] {
        die_everywhere(if slowly { &[Policy::Lossless, Policy::Queue] } else { ALL }, |run| {
            drop(run.sender());
            // The channel goes with its last user.
            let sender = run.sender();
            let mut receiver = run.receiver();
            drop(sender);
            let received = receive_while(run, &mut receiver, slowly);
            let ended = receiver.recv_timeout(PATIENCE).map(|message| message.sequence());
            assert!(matches!(ended, Err(RecvError::SenderDied { .. } | RecvError::Closed { .. })), "{ended:?}");
            let successor = Sender::open(&run.name).expect("the lane of the dead one");
            assert_eq!(received.last().copied().unwrap_or(0), sent(&successor), "nothing was lost");
            assert!(!run.survived.get() || sent(&successor) == 4);
            let sequence = send(&successor).sequence();
            assert_eq!(drain(&mut receiver), [sequence]);
            drop(receiver);
            works(run, &successor, 2);
        });
    }
}

#[test]
fn death_in_attach_and_detach_of_a_sender() {
    die_everywhere(ALL, |run| {
        let sender = run.sender();
        let receiver = run.receiver();
        drop(sender);
        run.die(|name, begin| {
            begin();
            let sender = Sender::<[u8]>::open(name).expect("there is a lane");
            let loan = loan(&sender);
            drop(sender);
            drop(loan);
        });
        let successor = Sender::open(&run.name).expect("the lane of the dead one");
        drop(receiver);
        works(run, &successor, 2);
    });
}

#[test]
fn death_in_create() {
    die_everywhere(ALL, |run| {
        let policy = run.policy;
        run.die(move |name, begin| {
            begin();
            let sender = Sender::<[u8]>::create(name, &options(policy)).expect("a fresh channel");
            send(&sender);
            drop(sender);
        });
        works(run, &run.sender(), 2);
    });
}

/// A receiver has died and holds a full window up; the sender that finds that out dies as well.
#[test]
fn death_in_send_that_takes_a_dead_receiver_out() {
    die_everywhere(LOSSLESS, |run| {
        let sender = run.sender();
        let name = run.name.clone();
        let (says, hears) = std::sync::mpsc::channel();
        let died = start_process(move || {
            let mut receiver = Receiver::<[u8]>::open(&name).expect("there is a place");
            says.send(()).expect("the test listens");
            let _held = receiver.recv().expect("a message");
            kill_self();
        });
        hears.recv().expect("it came");
        let mut ours = run.receiver();
        (0..SLOTS).for_each(|_| drop(send(&sender)));
        assert_eq!((died.recv(), drain(&mut ours)), (Ok(false), vec![1, 2]));
        drop(sender);
        run.die(|name, begin| {
            let sender = Sender::open(name).expect("there is a lane");
            begin();
            send(&sender);
        });
        let successor = Sender::open(&run.name).expect("the lane of the dead one");
        let last = sent(&successor);
        assert_eq!(drain(&mut ours), (SLOTS + 1..=last).collect::<Vec<_>>());
        drop(ours);
        works(run, &successor, 2);
    });
}

// ---------------------------------------------------------------------------------------------------------------
// Receivers

/// The only receiver does `victim` with two messages and dies. Who comes next gets what it had not processed.
fn alone(policies: &[Policy], victim: impl Fn(&mut Receiver, &Diary) + Copy + Send + 'static) {
    die_everywhere(policies, |run| {
        let sender = run.sender();
        let diary = Diary::default();
        let theirs = diary.clone();
        let tickets = [send(&sender), send(&sender)];
        run.die(move |name, begin| {
            let mut receiver = Receiver::<[u8]>::open(name).expect("there is a place");
            begin();
            victim(&mut receiver, &theirs);
            drop(receiver);
        });
        let (begun, ended) = diary.read();
        let mut next = run.receiver();
        if run.policy != Policy::Newest {
            let received = drain(&mut next);
            assert!(contiguous(&received) && received.last().is_none_or(|last| *last == SLOTS), "{received:?}");
            let first = received.first().copied().unwrap_or(SLOTS + 1);
            assert!((ended + 1..=begun + 1).contains(&first), "{begun}, {ended}: what is not processed is kept");
            assert!(tickets.iter().all(Ticket::is_processed));
        }
        for ticket in &tickets {
            let handled = ticket.wait(Some(PATIENCE)).expect("the dead answer");
            assert!(handled.len() <= 1);
        }
        drop(next);
        works(run, &sender, 2);
    });
}

#[test]
fn death_in_recv_and_in_letting_go() {
    alone(ALL, |receiver, diary| {
        while let Ok(message) = receiver.recv_timeout(Duration::ZERO) {
            check(&message);
            diary.process(message);
        }
    });
}

#[test]
fn death_in_giving_back() {
    alone(&[Policy::Lossless, Policy::Newest], |receiver, _| {
        while let Ok(message) = receiver.recv_timeout(Duration::ZERO) {
            message.give_back();
        }
    });
    alone(QUEUE, |receiver, _| receiver.recv_timeout(PATIENCE).expect("a message").give_back());
}

#[test]
fn death_in_latest() {
    alone(&[Policy::Newest], |receiver, _| drop(receiver.latest().expect("nothing is wrong")));
}

#[test]
fn death_in_attach_and_detach_of_a_receiver() {
    die_everywhere(ALL, |run| {
        let sender = run.sender();
        (0..SLOTS).for_each(|_| drop(send(&sender)));
        run.die(|name, begin| {
            begin();
            let mut receiver = Receiver::<[u8]>::open(name).expect("there is a place");
            let message = receiver.try_recv().expect("nothing is wrong");
            drop(receiver);
            if let Some(message) = message {
                message.give_back();
            }
        });
        let mut next = run.receiver();
        let expected = if run.policy == Policy::Newest { 0..0 } else { 1..SLOTS + 1 };
        let received = drain(&mut next);
        assert_eq!(received, expected.collect::<Vec<_>>());
        drop(next);
        works(run, &sender, 2);
    });
}

/// We receive as well, all along, and the sender goes on.
#[test]
fn death_beside_another_receiver() {
    die_everywhere(LOSSLESS, |run| {
        let sender = run.sender();
        let mut ours = run.receiver();
        let mut received = Vec::new();
        run.die_while(
            |name, begin| {
                let mut receiver = Receiver::<[u8]>::open(name).expect("there is a place");
                begin();
                for _ in 0..3 {
                    check(&receiver.recv_timeout(PATIENCE).expect("a message"));
                }
                drop(receiver);
            },
            || {
                // Full while the victim is behind, and lives.
                if let Ok(ticket) = loan(&sender).try_send() {
                    received.extend(drain(&mut ours));
                    assert_eq!(received.last().copied(), Some(ticket.sequence()));
                }
            },
        );
        received.extend(drain(&mut ours));
        assert!(contiguous(&received) && received.last().copied().unwrap_or(0) == sent(&sender));
        for _ in 0..2 {
            let ticket = send(&sender);
            received.extend(drain(&mut ours));
            let handled = ticket.wait(Some(PATIENCE)).expect("the dead answer");
            let living = handled.iter().filter(|it| it.outcome != Outcome::Died).collect::<Vec<_>>();
            assert!(living.len() == 1 && living[0].outcome == Outcome::Processed, "only we receive: {handled:?}");
        }
        drop(ours);
        works(run, &sender, 2);
    });
}

/// In a queue, we get what the victim has not processed, and nothing that it has.
#[test]
fn death_beside_another_taker() {
    die_everywhere(QUEUE, |run| {
        let sender = run.sender();
        let mut ours = run.receiver();
        let diary = Diary::default();
        let theirs = diary.clone();
        let tickets = [send(&sender), send(&sender)];
        run.die(move |name, begin| {
            let mut receiver = Receiver::<[u8]>::open(name).expect("there is a place");
            begin();
            receiver.recv_timeout(PATIENCE).expect("a message").give_back();
            theirs.process(receiver.recv_timeout(PATIENCE).expect("a message"));
            drop(receiver);
        });
        let (begun, ended) = diary.read();
        drop(sender);
        let received = drain(&mut ours);
        assert!(matches!(ours.try_recv(), Err(RecvError::Closed { .. })));
        assert!(contiguous(&received) && received.last() == Some(&SLOTS));
        assert!((ended + 1..=begun + 1).contains(&received[0]), "{begun}, {ended}: {received:?}");
        assert!(tickets.iter().all(Ticket::is_processed));
        drop(tickets);
        let sender = Sender::open(&run.name).expect("there is a lane");
        drop(ours);
        works(run, &sender, 2);
    });
}

/// The victim and we sleep until there is a message; whatever becomes of it, we are woken.
#[test]
fn death_in_recv_that_waits() {
    die_everywhere(&[Policy::Lossless, Policy::Queue], |run| {
        const MESSAGES: u64 = 0;
        let sender = run.sender();
        let mut ours = run.receiver();
        thread::scope(|scope| {
            let waits = scope.spawn(move || {
                let sequence = ours.recv_timeout(PATIENCE).map(|message| check(&message));
                (ours, sequence)
            });
            let mut is_sent = false;
            run.die_while(
                |name, begin| {
                    let mut receiver = Receiver::<[u8]>::open(name).expect("there is a place");
                    begin();
                    let message = receiver.recv_timeout(PATIENCE);
                    // In a queue, the other one gets it.
                    let _ = message.map(Message::give_back);
                    drop(receiver);
                },
                || {
                    if !is_sent && run.is_awaited(MESSAGES) {
                        send(&sender);
                        is_sent = true;
                    }
                },
            );
            if !is_sent {
                send(&sender);
            }
            let (ours, sequence) = waits.join().expect("no panic");
            assert_eq!(sequence.expect("we are woken"), 1);
            drop(ours);
        });
        works(run, &sender, 2);
    });
}
