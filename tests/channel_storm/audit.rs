//! When all are dead: what was sent is there, and every lane, place, claim and buffer can be used.

use crate::board::{Board, Did, Mark};
use crate::channel::{Shape, check};
use crate::common::HANG;
use memlane::{Error, Loan, Name, Policy, Receiver, RecvError, Region, Segment, Sender};

/// More than lies in an entry.
const LARGE: usize = 4096;

pub fn all(name: &Name, shape: &Shape, board: &Segment<Board>, region: &Region) {
    drain(name, shape, board, region);
    let senders: Vec<Sender> = (0..shape.senders).map(|_| Sender::open(name).expect("a lane")).collect();
    let mut receivers: Vec<Receiver> = (0..shape.receivers).map(|_| Receiver::open(name).expect("a place")).collect();
    assert!(matches!(Sender::<[u8]>::open(name), Err(Error::NoRoom { of: "senders", .. })));
    assert!(matches!(Receiver::<[u8]>::open(name), Err(Error::NoRoom { of: "receivers", .. })));
    for (lane, sender) in senders.iter().enumerate() {
        use_lane(shape, lane, sender, &mut receivers);
    }
}

/// Whatever was not processed is kept for the next to come.
fn drain(name: &Name, shape: &Shape, board: &Segment<Board>, region: &Region) {
    let mut receiver = Receiver::<[u8]>::open(name).expect("a place");
    let end = loop {
        match receiver.recv_timeout(HANG) {
            Ok(message) => {
                check(&message);
                let mark = Mark { sequence: message.sequence(), process: 0, did: Did::Process };
                board.set_mark(message.lane() as u64, mark);
            }
            Err(end) => break end,
        }
    };
    assert!(matches!(end, RecvError::SenderDied { .. } | RecvError::Closed { .. }), "{end}");
    if shape.policy == Policy::Newest {
        return;
    }
    for lane in 0..shape.senders {
        let last = shape.last(region, lane);
        for sequence in last.saturating_sub(32)..=last {
            assert!(
                board.is_processed(lane, sequence),
                "{sequence} of {last} is lost: {:?}",
                board.mark(lane, sequence)
            );
        }
    }
}

fn use_lane(shape: &Shape, lane: usize, sender: &Sender, receivers: &mut [Receiver]) {
    // Small ones need no buffers: then all are free.
    for _ in 0..shape.slots {
        sender.loan(1).expect("small").send_timeout(HANG).expect("there is room");
        receive_one(shape, receivers);
    }
    let buffers = shape.buffers() as usize;
    let loans = sender.loan_many(buffers + 1, LARGE).expect("buffers");
    assert_eq!(loans.len(), buffers, "a buffer of lane {lane} is lost");
    drop(loans);
    // Each receiver can hold what it may, and one more that it asks for as the latest.
    let mut held = Vec::new();
    let queue = shape.policy == Policy::Queue;
    for round in 0..=shape.claims {
        let needed = if queue { receivers.len() } else { 1 };
        for _ in 0..needed {
            // Who holds messages of a queue is in nobody's way, as long as the window is not full.
            let Ok(_) = sender.loan(LARGE).expect("a buffer").try_send() else { continue };
        }
        for receiver in receivers.iter_mut() {
            let message = if round < shape.claims { receiver.try_recv() } else { receiver.latest() };
            held.extend(message.ok().flatten());
        }
    }
    let all = receivers.len() * (shape.claims as usize + usize::from(!queue));
    assert_eq!(held.len(), all, "a claim is lost");
    let loans: Vec<Loan> = (0..shape.loans).map(|_| sender.loan(LARGE).expect("a loan never waits")).collect();
    drop((held, loans));
    for _ in receivers.iter_mut().flat_map(|receiver| receiver.try_recv()).flatten() {}
}

/// Everybody receives what was sent, or in a queue somebody.
fn receive_one(shape: &Shape, receivers: &mut [Receiver]) {
    let got = receivers.iter_mut().filter_map(|receiver| receiver.try_recv().expect("nothing is wrong")).count();
    assert_eq!(got as u64, if shape.policy == Policy::Queue { 1 } else { shape.receivers });
}
