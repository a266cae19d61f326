//! Death at every instruction: whatever a process was doing with an object when it died, whoever comes next finds the
//! object complete or gone, its locks to be had, its conditions awake, its name to be used again.
//!
//! On x86-64 Linux a victim is single-stepped through each operation. Where an instruction has changed shared bytes,
//! or a system call has returned, a copy of all objects shows what a death there would leave. Then another victim is
//! really killed at each of these points, and the real directory is looked at. Built with `memlane_failpoints`, the
//! victims instead kill themselves at every step that changed what others see:
//! `RUSTFLAGS='--cfg memlane_failpoints' cargo test --test step --target-dir target/failpoints`.
#![allow(missing_docs, unreachable_pub)]

#[path = "step/aftermath.rs"]
mod aftermath;
mod common;
#[path = "step/death.rs"]
mod death;
#[path = "step/scenarios.rs"]
mod scenarios;
#[path = "step/victim.rs"]
mod victim;
#[path = "step/watch.rs"]
mod watch;

use aftermath::next_user;
use common::{Dir, times};
use death::{ENOUGH, Mode, Run};
use scenarios::{OPERATIONS, Operation};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// At so many further points of each operation victims are killed with `MEMLANE_LONG=1`: at every instruction, if
/// it has no more than that.
const MORE: u64 = 60;

fn main() -> ExitCode {
    if let Some((operation, arguments)) = common::role() {
        victim::operate(&operation, &arguments);
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-')).unwrap_or_default();
    let own = watch::own_file_system();
    if !own {
        println!(
            "SKIPPED: leaks of memory, because this system allows no file system of our own; leaks of names are looked for"
        );
    }
    let failpoints = cfg!(memlane_failpoints);
    if !failpoints && !death::may_trace() {
        println!("SKIPPED: death at every instruction, because ptrace is not permitted here (or this is not x86-64).");
        println!("Death at every step that changes what others see is covered by the failpoint version:");
        println!("  RUSTFLAGS='--cfg memlane_failpoints' cargo test --test step --target-dir target/failpoints");
        return ExitCode::SUCCESS;
    }
    if !failpoints {
        println!("SKIPPED: death at every failpoint, because this is not built with --cfg memlane_failpoints");
    }
    let (start, mut total) = (Instant::now(), Tally::default());
    for operation in OPERATIONS.iter().filter(|operation| operation.title.contains(&wanted)) {
        let before = Instant::now();
        let tally = if failpoints { die_at_failpoints(operation, own) } else { die_by_ptrace(operation, own) };
        println!("{:<44} {tally} {:>6.1} s", operation.title, before.elapsed().as_secs_f64());
        total.add(&tally);
    }
    println!("{:<44} {total} {:>6.1} s", "all operations", start.elapsed().as_secs_f64());
    if total.violations == 0 && total.kills > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was done, and what was found.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    points: usize,
    kills: usize,
    violations: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.points += other.points;
        self.kills += other.kills;
        self.violations += other.violations;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { steps, points, kills, violations } = self;
        write!(f, "{steps:>8} instructions, {points:>4} points, {kills:>4} kills, {violations} violations,")
    }
}

fn die_by_ptrace(operation: &Operation, own: bool) -> Tally {
    let mut tally = Tally::default();
    for persistence in operation.persistences {
        let look = |copy: &Dir| next_user(copy, operation.expected, 0, false);
        let mut copied = Run::new(Mode::Copied(&look), *persistence, 0);
        tally.violations += usize::from(!is_sound(operation, &mut copied, own));
        tally.add(&Tally { steps: copied.steps, points: copied.points.len(), kills: 0, violations: copied.violations });
        let mut points = copied.points;
        let more = times(0, MORE) as usize;
        let stride = copied.between.len() / more.max(1) + 1;
        points.extend(copied.between.into_iter().step_by(stride).take(more));
        for (number, point) in points.into_iter().enumerate() {
            let mut killed = Run::new(Mode::Killed(point), *persistence, number);
            let sound = is_sound(operation, &mut killed, own);
            tally.add(&Tally { steps: 0, points: 0, kills: 1, violations: usize::from(!sound) });
            if tally.violations >= ENOUGH {
                return tally;
            }
        }
    }
    tally
}

fn die_at_failpoints(operation: &Operation, own: bool) -> Tally {
    let mut tally = Tally::default();
    for persistence in operation.persistences {
        for step in 1.. {
            let mut run = Run::new(Mode::Failpoint(step), *persistence, step as usize);
            let sound = is_sound(operation, &mut run, own);
            tally.violations += usize::from(!sound);
            if run.survived || tally.violations >= ENOUGH {
                break;
            }
            tally.kills += 1;
            tally.points += 1;
        }
    }
    tally
}

/// Lets one victim die, and says whether all was well then.
fn is_sound(operation: &Operation, run: &mut Run, own: bool) -> bool {
    let before = watch::free();
    let died = catch_unwind(AssertUnwindSafe(|| {
        let dir = Dir::new();
        (operation.scenario)(&dir, run);
    }));
    let leaked = own && watch::free() != before;
    if leaked {
        eprintln!("blocks and inodes before {before:?}, after {:?}", watch::free());
    }
    let sound = died.is_ok() && !leaked;
    if !sound {
        eprintln!("    ^ {}, {:?}, {}", operation.title, run.persistence, describe(&run.mode));
    }
    sound
}

fn describe(mode: &Mode) -> String {
    match mode {
        Mode::Copied(_) => "single-stepped to its end".into(),
        Mode::Killed(point) => format!("killed at {point:?}"),
        Mode::Failpoint(step) => format!("killed at failpoint {step}"),
    }
}
