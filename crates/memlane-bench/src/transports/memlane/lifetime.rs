//! Channels that come and go, and the memory they take.

use super::{receiver, sender};
use crate::machine;
use crate::transport::{Case, Laps, Role, Setup, Side, Workload};
use crate::transports::Nothing;
use memlane::{ChannelOptions, Receiver, Sender};

/// Nothing set that need not be.
fn options(case: Case) -> ChannelOptions {
    let options = ChannelOptions::new().max_message(case.len as u64);
    if case.count > 1 { options.receivers(case.count as u16) } else { options }
}

struct Creating(Setup);

impl Side for Creating {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        let options = options(self.0.case);
        for _ in 0..rounds {
            drop(laps.part(|| sender(&self.0, "channel", &options)));
        }
    }
}

struct Opening(Setup);

impl Side for Opening {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        let open = || Receiver::<[u8]>::open(super::name(&self.0, "channel")).expect("the other side's channel");
        for _ in 0..rounds {
            match self.0.case.workload {
                Workload::Open => drop(laps.part(open)),
                _ => {
                    let receiver = open();
                    laps.part(|| drop(receiver));
                }
            }
        }
    }
}

struct Filling {
    setup: Setup,
    sender: Sender,
    receivers: Vec<Receiver>,
}

impl Side for Filling {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        for round in 0..rounds {
            let mut loan = self.sender.loan(self.setup.case.len).expect("a buffer");
            crate::transport::fill(&mut loan, round as u8);
            loan.send().expect("there is room");
            for receiver in &mut self.receivers {
                drop(receiver.recv().expect("a message"));
            }
        }
        let (reserved, resident) = machine::size_of_files(&self.setup.directory).expect("its own directory");
        laps.set_memory(reserved, resident);
    }
}

pub(super) fn open(setup: &Setup) -> Box<dyn Side> {
    let setup = setup.clone();
    match (setup.case.workload, setup.role) {
        (Workload::Create, Role::Ask) => Box::new(Creating(setup)),
        (Workload::Memory, Role::Ask) => {
            let sender = sender(&setup, "channel", &options(setup.case));
            let receivers = (0..setup.case.count).map(|_| receiver(&setup, "channel")).collect();
            Box::new(Filling { setup, sender, receivers })
        }
        (Workload::Create | Workload::Memory, Role::Answer) => Box::new(Nothing(())),
        (_, Role::Answer) => Box::new(Nothing(sender(&setup, "channel", &options(setup.case)))),
        (_, Role::Ask) => {
            drop(receiver(&setup, "channel"));
            Box::new(Opening(setup))
        }
    }
}
