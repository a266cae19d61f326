//! One sender to several receivers, and to one receiver through several channels.

use super::{WAIT, answers, few, name, poll, receiver, sender};
use crate::transport::{Case, Laps, Role, SMALL, Setup, Side};
use memlane::{Key, Receiver, Sender, WaitSet};
use std::sync::Barrier;

/// The asking side of all: one channel to `count` receivers, or `count` channels to one each, and answers.
struct Asking {
    case: Case,
    senders: Vec<Sender>,
    answers: Receiver,
    spins: bool,
    /// Whether the sending alone is measured.
    sending: bool,
}

impl Side for Asking {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        let case = self.case;
        for (round, sender) in (0..rounds).zip(self.senders.iter().cycle()) {
            let mut loan = sender.loan(case.len).expect("a buffer");
            case.write(round, &mut loan);
            if self.sending {
                laps.part(|| loan.send()).expect("there is room");
            } else {
                loan.send().expect("there is room");
            }
            drop(if self.spins { poll(&mut self.answers) } else { self.answers.recv().expect("an answer") });
            think();
            if !self.sending {
                laps.lap();
            }
        }
    }
}

fn answer(sender: &Sender) {
    sender.loan(SMALL).expect("small ones take no buffer").send().expect("there is room");
}

/// Each receiver in its turn.
struct Polling {
    case: Case,
    receivers: Vec<Receiver>,
    answers: Sender,
}

impl Side for Polling {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), _: &mut Laps) {
        for round in 0..rounds {
            for receiver in &mut self.receivers {
                self.case.read(round, &poll(receiver));
            }
            think();
            answer(&self.answers);
        }
    }
}

/// Each receiver in a thread.
struct Sleeping(Polling);

impl Side for Sleeping {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), _: &mut Laps) {
        let Polling { case, receivers, answers } = &mut self.0;
        let case = *case;
        let all = &Barrier::new(receivers.len() + 1);
        std::thread::scope(|scope| {
            for receiver in receivers {
                scope.spawn(move || {
                    for round in 0..rounds {
                        case.read(round, &receiver.recv().expect("a message"));
                        all.wait();
                    }
                });
            }
            for _ in 0..rounds {
                all.wait();
                think();
                answer(answers);
            }
        });
    }
}

/// Whichever channel has a message.
struct Waiting {
    case: Case,
    set: WaitSet,
    receivers: Vec<(Key, Receiver)>,
    answers: Sender,
}

impl Side for Waiting {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), _: &mut Laps) {
        for round in 0..rounds {
            let ready = self.set.wait(WAIT);
            let receiver = self.receivers.iter_mut().find(|(key, _)| ready.contains(key));
            let (_, receiver) = receiver.expect("a channel with a message");
            self.case.read(round, &receiver.recv().expect("a message"));
            think();
            answer(&self.answers);
        }
    }
}

pub(super) fn fan_out(setup: &Setup) -> Box<dyn Side> {
    match setup.role {
        Role::Ask => asking_all(setup, true),
        Role::Answer => Box::new(polling(setup)),
    }
}

pub(super) fn fan_out_asleep(setup: &Setup) -> Box<dyn Side> {
    match setup.role {
        Role::Ask => asking_all(setup, false),
        Role::Answer => Box::new(Sleeping(polling(setup))),
    }
}

fn asking_all(setup: &Setup, spins: bool) -> Box<dyn Side> {
    let case = setup.case;
    let options = few(case).receivers(case.count as u16);
    let there = sender(setup, "there", &options);
    there.wait_for_receivers(case.count, WAIT).expect("the other side's receivers");
    Box::new(Asking { case, senders: vec![there], answers: receiver(setup, "back"), spins, sending: true })
}

fn polling(setup: &Setup) -> Polling {
    let answers = sender(setup, "back", &answers(setup.case));
    let receivers = (0..setup.case.count).map(|_| receiver(setup, "there")).collect();
    answers.wait_for_receivers(1, WAIT).expect("the other side");
    Polling { case: setup.case, receivers, answers }
}

pub(super) fn channels(setup: &Setup) -> Box<dyn Side> {
    let case = setup.case;
    let there = |number| format!("there-{number}");
    if setup.role == Role::Answer {
        let answers = sender(setup, "back", &answers(setup.case));
        let set = WaitSet::new();
        let receivers = (0..case.count).map(|number| receiver(setup, &there(number)));
        let receivers = receivers.map(|receiver| (set.add(&receiver), receiver)).collect();
        answers.wait_for_receivers(1, WAIT).expect("the other side");
        return Box::new(Waiting { case, set, receivers, answers });
    }
    let senders: Vec<_> = (0..case.count).map(|number| sender(setup, &there(number), &few(case))).collect();
    for sender in &senders {
        sender.wait_for_receivers(1, WAIT).expect("the other side");
    }
    let answers = Receiver::wait_for(name(setup, "back"), WAIT).expect("the other side's channel");
    Box::new(Asking { case, senders, answers, spins: false, sending: false })
}
