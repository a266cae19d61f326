//! Death at every instruction: whatever a process was doing with an object when it died, whoever comes next finds the
//! object complete or gone, its locks to be had, its conditions awake, its name to be used again.
//!
//! On x86-64 Linux `memlane-crash` single-steps a victim through each operation. Where an instruction has changed
//! shared bytes, or a system call has returned, a copy of all objects shows what a death there would leave. Then
//! another victim is really killed at each of these points, and the real directory is looked at. Built with
//! `memlane_failpoints`, the victims instead kill themselves at every step that changed what others see:
//! `RUSTFLAGS='--cfg memlane_failpoints' cargo test --test step --target-dir target/failpoints`.
//!
//! And two operations at every point of the first: it is stopped there, the second one runs, the first one goes on.
//! What comes of both is what comes of one after the other.
#![allow(missing_docs, unreachable_pub)]

#[path = "step/aftermath.rs"]
mod aftermath;
#[path = "step/channel_after.rs"]
mod channel_after;
#[path = "step/channel_pairs.rs"]
mod channel_pairs;
#[path = "step/channel_peers.rs"]
mod channel_peers;
#[path = "step/channel_victim.rs"]
mod channel_victim;
#[path = "step/channels.rs"]
mod channels;
mod common;
#[path = "step/file_system.rs"]
mod file_system;
#[path = "step/locks.rs"]
mod locks;
#[path = "step/meet.rs"]
mod meet;
#[path = "step/names.rs"]
mod names;
#[path = "step/peek.rs"]
mod peek;
#[path = "step/scenarios.rs"]
mod scenarios;
#[path = "step/service_after.rs"]
mod service_after;
#[path = "step/service_pairs.rs"]
mod service_pairs;
#[path = "step/service_peers.rs"]
mod service_peers;
#[path = "step/service_victim.rs"]
mod service_victim;
#[path = "step/services.rs"]
mod services;
#[path = "step/victim.rs"]
mod victim;

use aftermath::{left_behind, next_user};
use common::{Dir, times};
use memlane::Persistence;
use memlane_crash::{Explore, Report, Verdict, may_trace};
use scenarios::{OPERATIONS, Run};
use std::process::ExitCode;

/// At so many further points of each operation victims are killed, and stopped for another operation, with
/// `MEMLANE_LONG=1`: at every instruction, if it has no more than that.
const MORE: u64 = 60;

fn main() -> ExitCode {
    if let Some((operation, arguments)) = common::role() {
        return victim::act(&operation, &arguments);
    }
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-')).unwrap_or_default();
    let own = file_system::own_file_system();
    if !own {
        println!(
            "SKIPPED: leaks of memory, because this system allows no file system of our own; leaks of names are looked for"
        );
    }
    let failpoints = cfg!(memlane_failpoints);
    if let (false, Err(reason)) = (failpoints, may_trace()) {
        println!("SKIPPED: death at every instruction, and pairs of operations, because {reason}.");
        println!("Death at every step that changes what others see is covered by the failpoint version:");
        println!("  RUSTFLAGS='--cfg memlane_failpoints' cargo test --test step --target-dir target/failpoints");
        return ExitCode::SUCCESS;
    }
    println!(
        "SKIPPED: {}",
        if failpoints {
            "death at every instruction, and pairs of operations, because this is built with --cfg memlane_failpoints"
        } else {
            "death at every failpoint, because this is not built with --cfg memlane_failpoints"
        }
    );
    let mut totals = vec![deaths(&wanted, own)];
    if !failpoints {
        totals.push(meetings(&wanted, own));
    }
    totals.iter().for_each(|total| println!("{}", total.summary()));
    let done = |total: &Report| total.kills + total.schedules;
    let sound = totals.iter().all(|total| total.violations.is_empty()) && totals.iter().map(done).sum::<usize>() > 0;
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lets victims die in all operations.
fn deaths(wanted: &str, own: bool) -> Report {
    let mut total = Report::new("all operations");
    for operation in OPERATIONS.iter().filter(|operation| operation.title.contains(wanted)) {
        let mut report = Report::new(operation.title);
        for persistence in operation.persistences {
            let look = |dir: &Dir| next_user(dir, operation.expected, 0, false);
            report.add(die(operation.title, *persistence, own, &operation.scenario, &look));
        }
        println!("{report}");
        total.add(report);
    }
    for row in channels::rows().iter().filter(|row| row.title.contains(wanted)) {
        let scenario = |dir: &Dir, run: &mut Run| row.run(dir, run);
        let report = die(row.title, Persistence::UntilLastUser, own, &scenario, &|dir| row.look(dir));
        println!("{report}");
        total.add(report);
    }
    for row in services::rows().iter().filter(|row| row.title.contains(wanted)) {
        let scenario = |dir: &Dir, run: &mut Run| row.run(dir, run);
        let report = die(row.title, Persistence::UntilLastUser, own, &scenario, &|dir| row.look(dir));
        println!("{report}");
        total.add(report);
    }
    total
}

/// Lets victims die in an operation, wherever that may make a difference.
fn die(
    title: &str,
    persistence: Persistence,
    own: bool,
    scenario: &dyn Fn(&Dir, &mut Run),
    look: &(dyn Fn(&Dir) + Sync),
) -> Report {
    let scenario = |run: &mut memlane_crash::Run| {
        let number = run.number();
        without_leaks(own, |dir| scenario(dir, &mut Run { run, persistence, number }))
    };
    let look = |copies: &std::path::Path| {
        look(&left_behind(copies));
        Ok(())
    };
    let explore = Explore::new(title).further(times(0, MORE) as usize);
    if cfg!(memlane_failpoints) {
        explore.failpoints("MEMLANE_DIE_AT", &scenario)
    } else {
        explore.deaths(&scenario, &look)
    }
}

/// Stops victims at their points, while another operation runs.
fn meetings(wanted: &str, own: bool) -> Report {
    let mut total = Report::new("all pairs of operations");
    // What was walked through last: most pairs have their first operation in common with the pair before.
    let mut walked: Option<(String, Report)> = None;
    let all =
        names::meetings().chain(locks::meetings()).chain(channel_pairs::meetings()).chain(service_pairs::meetings());
    for meeting in all.filter(|meeting| meeting.title.contains(wanted)) {
        let scenario = |run: &mut memlane_crash::Run| {
            let (number, persistence) = (run.number(), Persistence::UntilLastUser);
            without_leaks(own, |dir| (meeting.run)(dir, &mut Run { run, persistence, number }))
        };
        let explore = Explore::new(&meeting.title).further(meeting.further as usize);
        let mut explore = explore.before_changes(meeting.before);
        if let Some((_, report)) = walked.as_ref().filter(|(first, _)| *first == meeting.first) {
            explore = explore.at_points_of(report);
        }
        let report = explore.schedules(&scenario);
        println!("{report}");
        total.add(report.clone());
        walked = Some((meeting.first, report));
    }
    total
}

/// Does something in a fresh directory, after which no memory may be missing.
fn without_leaks(own: bool, act: impl FnOnce(&Dir)) -> Verdict {
    let before = file_system::free();
    act(&Dir::new());
    let after = file_system::free();
    if own && after != before {
        return Err(format!("blocks and inodes before {before:?}, after {after:?}").into());
    }
    Ok(())
}
