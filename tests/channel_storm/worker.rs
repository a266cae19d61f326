//! A sender and a receiver of the storm. They check all that is promised to them, and what others have done.

use crate::board::{Did, Mark, Me};
use crate::channel::{check, fill, lane_of, length};
use crate::common::HANG;
use memlane::{Loan, Message, Outcome, Policy, Receiver, RecvError, SendError, Sender, Ticket, TicketError};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(1);

fn timed<T>(longest: &AtomicU64, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    longest.fetch_max(start.elapsed().as_nanos() as u64, Relaxed);
    result
}

/// Comes, sends, and goes.
pub fn send(mut me: Me) {
    loop {
        let sender = Sender::<[u8]>::open("cam").expect("a lane");
        let lane = lane_of(&sender);
        let last = me.last(lane);
        // The one before may have died before it said what it had sent.
        let committed = me.board.committed[lane as usize].load(SeqCst);
        assert!((committed..=committed + me.shape.loans).contains(&last), "{last} after {committed}: lost, or a gap");
        me.board.committed[lane as usize].store(last, SeqCst);
        if last > committed {
            me.count("sent by one that died before it knew");
        }
        let mut next = last + 1;
        for _ in 0..me.random.below(3_000) {
            send_some(&mut me, &sender, lane, &mut next);
            me.turn();
        }
        drop(sender);
        me.count("sender closed");
    }
}

/// One message, or several at once; now and then none.
fn send_some(me: &mut Me, sender: &Sender, lane: u64, next: &mut u64) {
    let count = if me.random.below(10) == 0 { me.shape.loans } else { 1 };
    let mut loans = Vec::new();
    for number in 0..count {
        let len = length(&mut me.random, me.shape.max);
        let mut loan = sender.loan(len).expect("a loan never waits");
        fill(&mut loan, lane, *next + number);
        loans.push(loan);
    }
    if me.random.below(30) == 0 {
        me.count("loan dropped");
        return;
    }
    let ticket = if count > 1 { send_many(me, sender, loans) } else { send_one(me, sender, loans.remove(0)) };
    *next += count;
    assert_eq!(ticket.sequence(), *next - 1);
    me.board.committed[lane as usize].store(*next - 1, SeqCst);
    me.board.sent.fetch_add(count, Relaxed);
    let overwritten = (*next - 1).saturating_sub(me.shape.slots);
    assert!(
        me.shape.policy == Policy::Newest || me.board.is_processed(lane, overwritten),
        "{overwritten} is overwritten, and lost: {:?}",
        me.board.mark(lane, overwritten)
    );
    if me.random.below(50) == 0 {
        ask(me, &ticket);
    }
}

fn send_one(me: &mut Me, sender: &Sender, mut loan: Loan) -> Ticket {
    loop {
        let newest = me.shape.policy == Policy::Newest;
        let send = if newest { Loan::try_send } else { |loan: Loan| loan.send_timeout(HANG) };
        match timed(&me.board.longest_send, || send(loan)) {
            Ok(ticket) => return ticket,
            Err(unsent) => {
                unreceived(me, sender, unsent.error());
                loan = unsent.into_loan();
            }
        }
    }
}

fn send_many(me: &mut Me, sender: &Sender, mut loans: Vec<Loan>) -> Ticket {
    me.count("several sent at once");
    let mut ticket = None;
    loop {
        match timed(&me.board.longest_send, || Loan::send_many(&mut loans)) {
            Ok(last) => return last.or(ticket).expect("something was sent"),
            Err(error) => unreceived(me, sender, &error),
        }
        ticket = None;
    }
}

/// The only reason not to send is that nobody receives: then waits until somebody does.
fn unreceived(me: &Me, sender: &Sender, error: &SendError) {
    assert!(me.shape.policy != Policy::Newest, "the sender is never blocked: {error}");
    match error {
        SendError::NoReceiver { last: Some(_), .. } => me.count("no receiver, one died"),
        SendError::NoReceiver { .. } => me.count("no receiver, closed"),
        other => panic!("{other}"),
    }
    sender.wait_for_receivers(1, Some(HANG)).expect("somebody comes");
}

fn ask(me: &Me, ticket: &Ticket) {
    let processed = |outcome: Outcome| if outcome == Outcome::Died { "ticket: died" } else { "ticket: processed" };
    match ticket.wait(Some(20 * MOMENT)) {
        Ok(handled) => handled
            .iter()
            .filter(|handled| matches!(handled.outcome, Outcome::Died | Outcome::Processed))
            .for_each(|handled| me.count(processed(handled.outcome))),
        Err(TicketError::TimedOut { .. }) => me.count("ticket: timed out"),
        Err(error) => panic!("{error}"),
    }
}

/// Comes, receives, and goes.
pub fn receive(mut me: Me) {
    loop {
        let mut receiver = Receiver::<[u8]>::open("cam").expect("a place");
        let mut got = Got::new(&me);
        if me.random.below(2) == 0 {
            me.work(2 * MOMENT); // while its senders go on
        }
        let mut held = Vec::new();
        for _ in 0..me.random.below(3_000) {
            let mut messages = receive_some(&mut me, &mut receiver, held.is_empty());
            // Who waits holds nothing: it may be what its senders wait for. One claim at least is free for the next.
            let most =
                if matches!(&messages, Ok(some) if !some.is_empty()) { me.random.below(me.shape.claims) } else { 0 };
            for message in messages.as_mut().map(std::mem::take).unwrap_or_default() {
                got.take(&me, &message);
                held.push(message);
            }
            while held.len() as u64 > most {
                let at = me.random.below(held.len() as u64) as usize;
                let_go(&mut me, held.swap_remove(at));
            }
            messages.err().iter().for_each(|error| ended(&me, &receiver, error));
            me.turn();
        }
        drop(receiver);
        held.into_iter().for_each(|message| let_go(&mut me, message));
        me.count("receiver closed");
    }
}

fn receive_some(me: &mut Me, receiver: &mut Receiver, waits: bool) -> Result<Vec<Message>, RecvError> {
    if !waits {
        return Ok(receiver.try_recv()?.into_iter().collect());
    }
    let many = me.random.below(10) == 0;
    timed(&me.board.longest_recv, || {
        if many { receiver.recv_many(2) } else { receiver.recv_timeout(HANG).map(|message| vec![message]) }
    })
}

/// The only reason to receive nothing is that nobody sends: then waits until somebody does.
fn ended(me: &Me, receiver: &Receiver, error: &RecvError) {
    match error {
        RecvError::SenderDied { .. } => me.count("sender died"),
        RecvError::Closed { .. } => {}
        other => panic!("{other}"),
    }
    receiver.wait_for_sender(Some(HANG)).expect("somebody comes");
}

fn let_go(me: &mut Me, message: Message) {
    if me.random.below(20) == 0 {
        me.work(2 * MOMENT);
    }
    let (lane, sequence) = (message.lane() as u64, message.sequence());
    let back = me.random.below(30) == 0;
    let did = if back { Did::GiveBack } else { Did::Process };
    // Where all get it, what one has processed is processed.
    if me.shape.policy == Policy::Queue || !back {
        me.board.set_mark(lane, Mark { sequence, process: me.process, did });
    }
    if back {
        message.give_back();
        me.count("given back");
    }
}

/// What a receiver has got of each lane.
struct Got {
    /// The last message of each lane that may have been sent before it came.
    joined: Vec<u64>,
    last: Vec<Option<u64>>,
}

impl Got {
    fn new(me: &Me) -> Self {
        let joined: Vec<u64> = (0..me.shape.senders).map(|lane| me.last(lane)).collect();
        Self { last: vec![None; joined.len()], joined }
    }

    fn take(&mut self, me: &Me, message: &Message) {
        check(message);
        me.board.received.fetch_add(1, Relaxed);
        if me.shape.policy == Policy::Queue {
            return take_task(me, message);
        }
        let (lane, sequence, missed) = (message.lane(), message.sequence(), message.missed());
        let (joined, next) = (self.joined[lane], self.last[lane].map(|last| last + 1));
        let least = next.unwrap_or(0);
        // What was sent before it came it does not miss. But where nothing may be lost, nothing is missing after its first.
        let is_next = next.is_some_and(|next| next > joined || me.shape.policy == Policy::Lossless);
        let most = if is_next { least } else { joined + 1 };
        let expected = least + missed..=most + missed;
        assert!(
            expected.contains(&sequence),
            "{sequence} of lane {lane} is none of {expected:?}: lost, or out of order"
        );
        if next.is_none() && sequence < joined {
            me.count("kept for the next to come");
        }
        self.last[lane] = Some(sequence);
        if missed > 0 {
            assert!(me.shape.policy == Policy::Newest, "{missed} before {sequence} are lost in lane {lane}");
            me.count("missed");
        }
    }
}

/// Whoever had the message of a queue has given it back, or died.
fn take_task(me: &Me, message: &Message) {
    let (lane, sequence) = (message.lane() as u64, message.sequence());
    let before = me.board.set_mark(lane, Mark { sequence, process: me.process, did: Did::Take });
    assert!(before.sequence <= sequence, "{sequence} after {before:?}");
    if before.sequence < sequence {
        return; // or somebody died before it could mark it
    }
    assert!(message.deliveries() > 1, "{before:?} had it before");
    if before.did == Did::GiveBack {
        me.count("delivered again after it was given back");
    } else {
        assert!(me.board.is_doomed(before.process), "{before:?} has it, and lives");
        me.count("delivered again after a death");
    }
}
