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
#[path = "step/events.rs"]
mod events;
#[path = "step/file_system.rs"]
mod file_system;
#[path = "step/files.rs"]
mod files;
#[path = "step/handover.rs"]
mod handover;
#[path = "step/locks.rs"]
mod locks;
#[path = "step/meet.rs"]
mod meet;
#[path = "step/names.rs"]
mod names;
#[path = "step/peek.rs"]
mod peek;
#[path = "step/rwlocks.rs"]
mod rwlocks;
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
#[path = "step/words.rs"]
mod words;

use aftermath::{left_behind, next_user};
use common::{Dir, hear, say, spawn, times};
use meet::Meeting;
use memlane::Persistence;
use memlane_crash::{Explore, Report, Verdict, may_trace};
use scenarios::{OPERATIONS, Run};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// At so many further points of each operation victims are killed, and stopped for another operation, with
/// `MEMLANE_LONG=1`: at every instruction, if it has no more than that.
const MORE: u64 = 60;

/// So many processes explore at the same time: mostly they wait, for a death to be noticed.
const EXPLORERS: usize = 8;

fn main() -> ExitCode {
    match common::role() {
        Some((role, arguments)) if role == "explorer" => return explore(&arguments.concat()),
        Some((operation, arguments)) => return victim::act(&operation, &arguments),
        None => {}
    }
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-')).unwrap_or_default();
    if !file_system::own_file_system() {
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
    let totals = explore_all(&wanted);
    totals.iter().filter(|total| total.done > 0).for_each(Total::print);
    let sound = totals.iter().all(|total| total.violations == 0) && totals.iter().any(|total| total.done > 0);
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is explored in one go: deaths in an operation, or pairs that have their first operation in common.
type Work = Box<dyn Fn(bool) -> Vec<Report>>;

/// Deaths, and pairs.
fn works(wanted: &str) -> [Vec<Work>; 2] {
    [deaths(wanted), if cfg!(memlane_failpoints) { Vec::new() } else { meetings(wanted) }]
}

/// What became of all deaths, or of all pairs.
struct Total {
    title: &'static str,
    instructions: u64,
    points: u64,
    done: u64,
    violations: u64,
    what: &'static str,
    start: Instant,
}

impl Total {
    fn new(title: &'static str, what: &'static str) -> Self {
        Self { title, instructions: 0, points: 0, done: 0, violations: 0, what, start: Instant::now() }
    }

    fn add(&mut self, counts: &str) {
        let numbers = counts.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let [instructions, points, done, violations] = numbers.collect::<Vec<_>>()[..] else { panic!("{counts}") };
        self.instructions += instructions;
        self.points += points;
        self.done += done;
        self.violations += violations;
    }

    fn print(&self) {
        let Self { title, instructions, points, done, violations, what, start } = self;
        let took = start.elapsed().as_secs_f64();
        println!(
            "{title:<50} {instructions:>8} instructions, {points:>4} points, {done:>4} {what}, {violations} violations, {took:>6.1} s"
        );
    }
}

/// Lets explorers do all the work, whoever is free the next, and prints what they report.
fn explore_all(wanted: &str) -> [Total; 2] {
    let [of_deaths, of_pairs] = works(wanted).map(|works| works.len());
    let totals = [Total::new("all operations", "kills"), Total::new("all pairs of operations", "schedules")];
    let (totals, next) = (Mutex::new(totals), AtomicUsize::new(0));
    let work_through = || {
        let mut explorer = spawn(Path::new("/dev/shm"), "explorer", &[wanted]);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= of_deaths + of_pairs {
                return;
            }
            explorer.say(&number.to_string());
            let mut lines = String::new();
            let counts = loop {
                let said = explorer.hear().expect("an explorer goes on to the end");
                match said.strip_prefix('=') {
                    Some(counts) => break counts.to_owned(),
                    None => lines += &format!("{said}\n"),
                }
            };
            print!("{lines}");
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals[usize::from(number >= of_deaths)].add(&counts);
        }
    };
    std::thread::scope(|scope| (0..EXPLORERS).for_each(|_| drop(scope.spawn(work_through))));
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Does the work whose numbers come, and says what came of it: in a file system of its own, so that no other explorer's
/// memory is taken for a leak.
fn explore(wanted: &str) -> ExitCode {
    let own = file_system::own_file_system();
    let works: Vec<Work> = works(wanted).into_iter().flatten().collect();
    while let Some(number) = hear() {
        let mut counts = [0; 4];
        for report in works[number.parse::<usize>().expect("a number")](own) {
            report.to_string().lines().for_each(say);
            let (points, done) = (report.points as u64, (report.kills + report.schedules) as u64);
            let more = [report.steps, points, done, report.violations.len() as u64];
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
        say(&format!("={}", counts.map(|count| count.to_string()).join(" ")));
    }
    ExitCode::SUCCESS
}

/// Lets victims die in all operations.
fn deaths(wanted: &str) -> Vec<Work> {
    let operations =
        OPERATIONS.iter().chain(rwlocks::OPERATIONS).filter(|operation| operation.title.contains(wanted)).map(
            |operation| {
                let work: Work = Box::new(|own| {
                    let mut report = Report::new(operation.title);
                    for persistence in operation.persistences {
                        let look = |dir: &Dir| next_user(dir, operation.expected, 0, false);
                        report.add(die(operation.title, *persistence, own, &operation.scenario, &look));
                    }
                    vec![report]
                });
                work
            },
        );
    let channels = channels::rows().into_iter().filter(|row| row.title.contains(wanted));
    let channels = channels.map(|row| deaths_in(row.title, row, channels::Row::run, channels::Row::look));
    let services = services::rows().into_iter().filter(|row| row.title.contains(wanted));
    let services = services.map(|row| deaths_in(row.title, row, services::Row::run, services::Row::look));
    let files = files::rows().into_iter().filter(|row| row.title.contains(wanted));
    let files = files.map(|row| deaths_in(row.title, row, files::Row::run, files::Row::look));
    operations.chain(channels).chain(services).chain(files).collect()
}

/// Lets victims die in the operation that a row of a table describes.
fn deaths_in<R: Sync + 'static>(title: &'static str, row: R, run: fn(&R, &Dir, &mut Run), look: fn(&R, &Dir)) -> Work {
    Box::new(move |own| {
        let scenario = |dir: &Dir, step: &mut Run| run(&row, dir, step);
        vec![die(title, Persistence::UntilLastUser, own, &scenario, &|dir| look(&row, dir))]
    })
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
fn meetings(wanted: &str) -> Vec<Work> {
    let mut groups: Vec<Vec<Meeting>> = Vec::new();
    let all = names::meetings()
        .chain(locks::meetings())
        .chain(words::meetings())
        .chain(channel_pairs::meetings())
        .chain(service_pairs::meetings())
        .chain(files::meetings());
    for meeting in all.filter(|meeting| meeting.title.contains(wanted)) {
        match groups.last_mut().filter(|group| group[0].first == meeting.first) {
            Some(group) => group.push(meeting),
            None => groups.push(vec![meeting]),
        }
    }
    let work = |group: Vec<Meeting>| -> Work { Box::new(move |own| meet_all(&group, own)) };
    groups.into_iter().map(work).collect()
}

/// Walks through the first operation, which all have in common, once.
fn meet_all(group: &[Meeting], own: bool) -> Vec<Report> {
    let mut reports: Vec<Report> = Vec::new();
    for meeting in group {
        let scenario = |run: &mut memlane_crash::Run| {
            let (number, persistence) = (run.number(), Persistence::UntilLastUser);
            without_leaks(own, |dir| (meeting.run)(dir, &mut Run { run, persistence, number }))
        };
        let explore = Explore::new(&meeting.title).further(meeting.further as usize);
        let mut explore = explore.before_changes(meeting.before);
        if let Some(report) = reports.last() {
            explore = explore.at_points_of(report);
        }
        reports.push(explore.schedules(&scenario));
    }
    reports
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
