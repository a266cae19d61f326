//! What a round of each workload is, for every peer that can send and receive.

use crate::transport::{Case, Laps, Role, Setup, Side, Workload, sum};

/// How one side talks to the other. Of what there are several has a number.
pub(super) trait Link {
    /// Sends the message of a round, as [`Case::write`] writes it, through a channel.
    fn send(&mut self, channel: usize, round: u64);
    /// Sends such a message to all receivers.
    fn send_to_all(&mut self, round: u64) {
        self.send(0, round);
    }
    /// Waits for a message in a channel, or for a receiver.
    fn receive(&mut self, channel: usize) -> Arrived;
    /// Waits for a message in any channel.
    fn receive_any(&mut self) -> Arrived {
        self.receive(0)
    }
    /// Sends an answer.
    fn answer(&mut self);
    /// Waits for an answer.
    fn await_answer(&mut self);
}

/// What is to be checked of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    len: usize,
    first: Option<u8>,
}

impl Arrived {
    /// Reads a message in full if the case is touched.
    #[inline(always)]
    pub(super) fn read(bytes: &[u8], case: Case) -> Self {
        if case.touched {
            sum(bytes);
        }
        Self { len: bytes.len(), first: case.touched.then(|| bytes[0]) }
    }

    /// Checks the message of the last of so many rounds.
    pub(super) fn check(last: Option<Self>, case: Case, rounds: u64) {
        let first = case.touched.then_some(rounds.wrapping_sub(1) as u8);
        let sent = (rounds > 0).then_some(Self { len: case.len, first });
        assert_eq!(last, sent, "the last message of {case:?} arrives as it was sent");
    }
}

/// A side that does the rounds of its case over a link.
pub(super) struct Rounds<L> {
    role: Role,
    case: Case,
    link: L,
}

impl<L: Link> Rounds<L> {
    pub(super) fn new(setup: &Setup, link: L) -> Self {
        Self { role: setup.role, case: setup.case, link }
    }

    fn ask(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        let channels = if self.case.workload == Workload::Channels { self.case.count } else { 1 };
        let mut channel = 0;
        for round in 0..rounds {
            if self.case.workload == Workload::Idle {
                think();
            }
            self.link.send(channel, round);
            self.link.await_answer();
            if self.case.workload != Workload::Idle {
                think();
            }
            channel = if channel + 1 == channels { 0 } else { channel + 1 };
            laps.lap();
        }
    }

    fn ask_all(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        for round in 0..rounds {
            laps.part(|| self.link.send_to_all(round));
            self.link.await_answer();
            think();
        }
    }

    fn stream(&mut self, rounds: u64, laps: &mut Laps) {
        for round in 0..rounds {
            self.link.send(0, round);
            laps.lap();
        }
        self.link.await_answer();
    }

    /// Returns the last message.
    fn answer(&mut self, rounds: u64, think: &dyn Fn()) -> Option<Arrived> {
        let Self { case, link, .. } = self;
        let mut last = None;
        for _ in 0..rounds {
            match case.workload {
                Workload::FanOut | Workload::FanOutAsleep => {
                    (0..case.count).for_each(|receiver| last = Some(link.receive(receiver)));
                }
                Workload::Channels => last = Some(link.receive_any()),
                _ => last = Some(link.receive(0)),
            }
            if case.workload != Workload::Idle {
                think();
            }
            link.answer();
        }
        last
    }

    fn sink(&mut self, rounds: u64) -> Option<Arrived> {
        let last = (0..rounds).map(|_| self.link.receive(0)).last();
        self.link.answer();
        last
    }
}

impl<L: Link> Side for Rounds<L> {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        let last = match (self.role, self.case.workload) {
            (Role::Ask, Workload::OneWay) => return self.stream(rounds, laps),
            (Role::Ask, Workload::FanOut | Workload::FanOutAsleep) => return self.ask_all(rounds, think, laps),
            (Role::Ask, _) => return self.ask(rounds, think, laps),
            (Role::Answer, Workload::OneWay) => self.sink(rounds),
            (Role::Answer, _) => self.answer(rounds, think),
        };
        Arrived::check(last, self.case, rounds);
    }
}
