//! One side of one transport: a process that does what it is told in lines.
//!
//! `open WORKLOAD LEN TOUCHED COUNT ASLEEP DIRECTORY NAME`: opens its side of a case, waits until the other one has,
//! and says `ready`.
//!
//! `run WARM ROUNDS THINK EACH`: does `WARM` rounds, then `ROUNDS` that are measured, and says
//! `done NS CPU FAULTS RESERVED RESIDENT SAMPLES...`.
//!
//! `close`: closes its side, and says `ready`.
//!
//! `WORKLOAD` is the name of a [`Workload`] as its `Debug` writes it; `TOUCHED`, `ASLEEP` and `EACH` are 0 or 1;
//! `THINK` and all times are nanoseconds. `NS` is the time of all rounds that were measured, or of what was measured of
//! them; `CPU` the processor time of the whole process; `FAULTS` the pages that had to be mapped. The end of the input
//! ends the process. Whoever cannot do it says `failed WHY`, and ends.

use crate::machine;
use crate::transport::{Case, How, Laps, Role, Setup, Side, Workload};
use crate::transports;
use clap::ValueEnum;
use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Serves until the input ends, or something cannot be done.
pub(crate) fn run(name: &str, role: Role) -> ExitCode {
    report_panics();
    match serve(name, role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("failed {why}");
            ExitCode::FAILURE
        }
    }
}

/// A side that cannot go on panics: whoever listens is told why. The main thread still closes what is open.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        println!("failed {}", panic.to_string().replace('\n', " "));
        if std::thread::current().name() != Some("main") {
            std::process::exit(1);
        }
    }));
}

fn serve(name: &str, role: Role) -> Result<(), String> {
    let transport = transports::all().into_iter().find(|transport| transport.name == name);
    let open = match transport.map(|transport| transport.how) {
        Some(How::Side(open)) => open,
        _ => return Err(format!("no transport `{name}` is served by this program; `--list` names all")),
    };
    let mut side: Option<(Case, Box<dyn Side>)> = None;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| format!("cannot read what to do: {error}"))?;
        let unknown = || format!("`{line}` is nothing to do here");
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verb {
            "open" => {
                let setup = setup(role, rest).ok_or_else(unknown)?;
                drop(side.take());
                side = Some((setup.case, open(&setup)));
                println!("ready");
            }
            "run" => {
                let (case, side) = side.as_mut().ok_or_else(unknown)?;
                println!("done {}", Order::parse(rest).ok_or_else(unknown)?.run(*case, side.as_mut()));
            }
            "close" => {
                drop(side.take());
                println!("ready");
            }
            _ => return Err(unknown()),
        }
    }
    Ok(())
}

fn setup(role: Role, text: &str) -> Option<Setup> {
    let [workload, len, touched, count, asleep, directory, name] =
        text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let case = Case {
        workload: Workload::from_str(workload, false).ok()?,
        len: len.parse().ok()?,
        touched: touched == "1",
        count: count.parse().ok()?,
        asleep: asleep == "1",
    };
    Some(Setup { role, case, directory: directory.into(), name: name.into() })
}

/// What both sides are to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) warm: u64,
    pub(crate) rounds: u64,
    /// How long each side thinks in each round.
    pub(crate) think: Duration,
    /// Whether each round is timed.
    pub(crate) each: bool,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { warm, rounds, think, each } = *self;
        write!(f, "{warm} {rounds} {} {}", think.as_nanos(), u8::from(each))
    }
}

impl Order {
    fn parse(text: &str) -> Option<Self> {
        let [warm, rounds, think, each] = numbers(text)?.try_into().ok()?;
        Some(Self { warm, rounds, think: Duration::from_nanos(think), each: each == 1 })
    }

    /// Does them and says what they took.
    fn run(&self, case: Case, side: &mut dyn Side) -> Done {
        let think: &dyn Fn() = match case.workload {
            Workload::Idle => &|| std::thread::sleep(self.think),
            _ if self.think.is_zero() => &|| (),
            _ => &|| {
                let start = Instant::now();
                while start.elapsed() < self.think {}
            },
        };
        side.rounds(self.warm, think, &mut Laps::start(self.each));
        let (faults, processor_time) = (machine::faults(), machine::processor_time());
        let (start, mut laps) = (Instant::now(), Laps::start(self.each));
        side.rounds(self.rounds, think, &mut laps);
        let elapsed = start.elapsed();
        let (faults, processor_time) = (machine::faults() - faults, machine::processor_time() - processor_time);
        let time = laps.measured().unwrap_or(elapsed).as_nanos() as u64;
        let (reserved, resident) = laps.memory.unwrap_or_default();
        let processor_time = processor_time.as_nanos() as u64;
        Done { time, processor_time, faults, reserved, resident, samples: laps.samples }
    }
}

/// What a side measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) time: u64,
    pub(crate) processor_time: u64,
    pub(crate) faults: u64,
    pub(crate) reserved: u64,
    pub(crate) resident: u64,
    pub(crate) samples: Vec<u64>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, processor_time, faults, reserved, resident, samples } = self;
        write!(f, "{time} {processor_time} {faults} {reserved} {resident}")?;
        samples.iter().try_for_each(|sample| write!(f, " {sample}"))
    }
}

impl Done {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers = numbers(text)?;
        let (&[time, processor_time, faults, reserved, resident], samples) = numbers.split_first_chunk()?;
        Some(Self { time, processor_time, faults, reserved, resident, samples: samples.to_vec() })
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split(' ').map(|number| number.parse().ok()).collect()
}
