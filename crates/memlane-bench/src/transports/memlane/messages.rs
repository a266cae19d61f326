//! Messages through a channel there, and answers through one back.

use super::{answers, few, is_tight, poll, receiver, sender};
use crate::transport::{Case, Laps, Role, SMALL, Setup, Side, Workload};
use memlane::{ChannelOptions, Loan, Message, Policy, Receiver, Sender};

/// How the channel is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Spinning,
    Adaptive,
    Copied,
    Batched,
    Queue,
}

/// One side.
pub(super) struct Messages {
    case: Case,
    role: Role,
    style: Style,
    sender: Sender,
    receiver: Receiver,
    /// Where copies come from and go to.
    private: Vec<u8>,
    /// What was received last. It is let go when the next message was sent, which the other side waits for, or at once if
    /// there is no room for that.
    held: Option<Message>,
}

/// How many messages of that size make a batch.
pub(super) fn batch(len: usize) -> usize {
    ((2 << 20) / len).clamp(1, 62)
}

/// For messages of that size in a row: some 4 MiB of them, but two at least, so that the one can be read while the
/// other one is written.
fn stream(len: usize, style: Style) -> ChannelOptions {
    let slots = ((4 << 20) / len).clamp(2, 1024) as u16;
    let options = ChannelOptions::new().max_message(len as u64).receivers(1).slots(slots);
    match style {
        Style::Batched => options.claims(batch(len) as u16).loans(batch(len) as u16),
        _ => options.claims(1).loans(1),
    }
}

impl Messages {
    pub(super) fn open(setup: &Setup, style: Style) -> Box<dyn Side> {
        let Setup { role, case, .. } = *setup;
        let there = match case.workload {
            Workload::OneWay => stream(case.len, style),
            _ => few(case),
        };
        let policy = if style == Style::Queue { Policy::Queue } else { Policy::Lossless };
        let (own, other, options) = match role {
            Role::Ask => ("there", "back", there),
            Role::Answer => ("back", "there", answers(case)),
        };
        let sender = sender(setup, own, &options.policy(policy));
        let receiver = receiver(setup, other);
        sender.wait_for_receivers(1, super::WAIT).expect("the other side");
        let private = if style == Style::Copied { vec![1; case.len] } else { Vec::new() };
        Box::new(Self { case, role, style, sender, receiver, private, held: None })
    }

    #[inline(always)]
    fn receive(&mut self) -> Message {
        match self.style {
            Style::Adaptive | Style::Batched => self.receiver.recv().expect("a message"),
            _ => poll(&mut self.receiver),
        }
    }

    #[inline(always)]
    fn send(&mut self, round: u64) {
        let Self { case, sender, private, .. } = self;
        if self.style == Style::Copied {
            case.write(round, private);
            sender.send_copy(private).expect("there is room");
        } else {
            let mut loan = sender.loan(case.len).expect("a buffer");
            case.write(round, &mut loan);
            loan.send().expect("there is room");
        }
        self.held = None;
    }

    #[inline(always)]
    fn take(&mut self, round: u64) {
        let message = self.receive();
        if self.style == Style::Copied {
            self.private.copy_from_slice(&message);
            self.case.read(round, &self.private);
        } else {
            self.case.read(round, &message);
        }
        if !is_tight(self.case) {
            self.held = Some(message);
        }
    }

    #[inline(always)]
    fn answer(&mut self) {
        self.sender.loan(SMALL).expect("small ones take no buffer").send().expect("there is room");
        self.held = None;
    }

    fn send_batches(&self, rounds: u64, laps: &mut Laps) {
        let mut round = 0;
        while round < rounds {
            let most = batch(self.case.len).min((rounds - round) as usize);
            let mut loans = self.sender.loan_many(most, self.case.len).expect("a buffer at least");
            for loan in &mut loans {
                self.case.write(round, loan);
                round += 1;
                laps.lap();
            }
            Loan::send_many(&mut loans).expect("there is room");
        }
    }

    fn take_batches(&mut self, rounds: u64) {
        let mut round = 0;
        while round < rounds {
            let most = batch(self.case.len).min((rounds - round) as usize);
            for message in self.receiver.recv_many(most).expect("a message at least") {
                self.case.read(round, &message);
                round += 1;
            }
        }
    }

    fn ask_all(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        if self.case.workload != Workload::OneWay {
            let thinks = self.case.workload != Workload::Idle;
            for round in 0..rounds {
                self.send(round);
                self.held = Some(self.receive());
                if thinks {
                    think();
                }
                laps.lap();
            }
            return;
        }
        if self.style == Style::Batched {
            self.send_batches(rounds, laps);
        } else {
            for round in 0..rounds {
                self.send(round);
                laps.lap();
            }
        }
        drop(self.receive());
    }

    fn answer_all(&mut self, rounds: u64, think: &dyn Fn()) {
        if self.case.workload != Workload::OneWay {
            for round in 0..rounds {
                self.take(round);
                think();
                self.answer();
            }
            return;
        }
        if self.style == Style::Batched {
            self.take_batches(rounds);
        } else {
            for round in 0..rounds {
                self.take(round);
                self.held = None;
            }
        }
        self.answer();
    }
}

impl Side for Messages {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        match self.role {
            Role::Ask => self.ask_all(rounds, think, laps),
            Role::Answer => self.answer_all(rounds, think),
        }
    }
}
