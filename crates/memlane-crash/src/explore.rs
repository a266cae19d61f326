//! The exploration of one operation: its points, the deaths and the schedules at each of them.

use crate::place::Snapshot;
use crate::report::{Moment, Report, Violation};
use crate::victim::{Stop, Victim};
use crate::watch::{Change, Files, Watch};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// More violations of one operation than this are not looked for.
const ENOUGH: usize = 3;

/// Whether all is well; the error is what the report says.
pub type Verdict = Result<(), Problem>;

/// Anything that can be said of what is not well.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A moment in an operation: so many system calls have returned, and then so many instructions were executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// System calls that have returned.
    pub calls: u64,
    /// Instructions since the last of them.
    pub steps: u64,
}

/// What a scenario is told about its victim, so that it can play its own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The victim is ready, and begins as soon as this has been dealt with.
    Ready,
    /// The victim has come a little further.
    Moved,
    /// In a schedule, exactly once: the victim is stopped at the point, or has come to its end before it. Now the
    /// other operation is to run.
    Turn,
    /// In a schedule: the victim has done its operation, is still there, and ends as soon as this has been dealt with.
    Done,
}

/// How the victim of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Killed before its operation was done.
    Killed,
    /// Killed after it.
    Done,
    /// In a schedule: by itself after it, with this exit code.
    Exited(i32),
}

/// A point as it was found, with what had changed there since the one before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) point: Point,
    /// The number of the instruction in the operation.
    pub(crate) step: u64,
    pub(crate) changes: Vec<Change>,
}

/// What one walk through an operation found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Points {
    /// Where bytes had changed or a system call had ended.
    changed: Vec<Found>,
    /// All others, with the number of the instruction.
    between: Vec<(Point, u64)>,
}

impl Points {
    /// The last `count` instructions before each change, as far as they come after the point before it.
    fn before_changes(&self, count: u64) -> impl Iterator<Item = Found> {
        let pairs = self.changed.iter().zip(self.changed.iter().skip(1));
        pairs.filter(|(_, found)| !found.changes.is_empty()).flat_map(move |(last, found)| {
            let room = (found.step - last.step).saturating_sub(1).min(found.point.steps.saturating_sub(1));
            (1..=count.min(room)).map(|back| Found {
                point: Point { calls: found.point.calls, steps: found.point.steps - back },
                step: found.step - back,
                changes: Vec::new(),
            })
        })
    }
}

/// What is done at the points of one run.
enum Mode<'a> {
    /// Single-stepped to the end; wherever a death would leave something new, this looks at a copy of what it leaves.
    Looked(&'a (dyn Fn(&Path) -> Verdict + Sync)),
    /// Single-stepped to the end, then the other operation: finds the points of the schedules.
    Walked,
    /// Not disturbed, then the other operation.
    Whole,
    /// `kill -9` at this point.
    Killed(Found),
    /// Stopped at this point while the other operation runs.
    Stopped(Found),
    /// Not traced: it kills itself at its N-th failpoint; the environment variable tells it so.
    Failpoint(&'a str, u64),
}

/// One run of a scenario: one victim, and how it meets its end.
pub struct Run<'a> {
    mode: Mode<'a>,
    number: usize,
    steps: u64,
    points: Points,
    violations: Vec<Violation>,
    snapshot: Option<Snapshot>,
    end: Option<End>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("number", &self.number).field("end", &self.end).finish_non_exhaustive()
    }
}

/// What is to be explored, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Explore {
    title: String,
    further: usize,
    before: u64,
    points: Option<Points>,
}

impl Explore {
    /// An operation with this title, at every point that changed watched bytes or ended a system call.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), further: 0, before: 0, points: None }
    }

    /// Kills and stops it also at up to so many instructions between the points, evenly spread; `usize::MAX` for all.
    #[must_use]
    pub fn further(mut self, further: usize) -> Self {
        self.further = further;
        self
    }

    /// For schedules: stops it also at up to so many instructions before each change, which is where it has read what
    /// it is about to act on.
    #[must_use]
    pub fn before_changes(mut self, before: u64) -> Self {
        self.before = before;
        self
    }

    /// For schedules: takes the points that an exploration of the same operation in the same world has found, for
    /// another operation to meet it there, instead of finding them again.
    #[must_use]
    pub fn at_points_of(mut self, report: &Report) -> Self {
        self.points = Some(report.found.clone());
        self
    }

    /// Lets the victim die at each point: first looks, with `look`, at copies of the files as a death would leave
    /// them, in a run that is single-stepped to its end; then really kills fresh victims, one at each point.
    ///
    /// `scenario` is called for each run. It makes a fresh world, calls [`Run::victim`] once, and checks what is left.
    /// `look` is given a directory with copies of the files, which it may change; it is called on a thread of its own.
    #[must_use]
    pub fn deaths(&self, scenario: &dyn Fn(&mut Run) -> Verdict, look: &(dyn Fn(&Path) -> Verdict + Sync)) -> Report {
        self.explore(scenario, Mode::Looked(look))
    }

    /// Stops the victim at each point, lets the other operation run, and lets the victim go on to its end.
    ///
    /// `scenario` is called for each run. It makes a fresh world, calls [`Run::victim`] once, runs the other operation
    /// at [`Event::Turn`], and checks what came of both. If the other one has to wait for the victim, it is for the
    /// scenario to bound that wait and to say which outcomes are right.
    #[must_use]
    pub fn schedules(&self, scenario: &dyn Fn(&mut Run) -> Verdict) -> Report {
        self.explore(scenario, Mode::Walked)
    }

    fn explore(&self, scenario: &dyn Fn(&mut Run) -> Verdict, walk: Mode) -> Report {
        let (start, mut report) = (Instant::now(), Report::new(&self.title));
        let schedules = matches!(walk, Mode::Walked);
        let known = self.points.as_ref().filter(|_| schedules);
        let mut walk = Run::new(if known.is_some() { Mode::Whole } else { walk }, 0);
        let said = walk.judge(scenario);
        report.violations.append(&mut walk.violations);
        report.violations.extend(said);
        report.found = known.cloned().unwrap_or(walk.points);
        (report.steps, report.points) = (walk.steps, report.found.changed.len());
        report.schedules = usize::from(schedules);
        let further = spread(&report.found.between, self.further);
        let further = further.map(|(point, step)| Found { point: *point, step: *step, changes: Vec::new() });
        let before = report.found.before_changes(if schedules { self.before } else { 0 });
        let chosen: Vec<_> = report.found.changed.iter().cloned().chain(before).chain(further).collect();
        for (number, found) in chosen.into_iter().enumerate() {
            if report.violations.len() >= ENOUGH {
                break;
            }
            let mode = if schedules { Mode::Stopped(found) } else { Mode::Killed(found) };
            report.violations.extend(Run::new(mode, number).judge(scenario));
            *(if schedules { &mut report.schedules } else { &mut report.kills }) += 1;
        }
        report.elapsed = start.elapsed();
        report
    }

    /// Where ptrace is not permitted: lets the victim kill itself at its first failpoint, at its second, and so on
    /// until one survives. The program counts its failpoints, and kills itself at the one whose number, from 1, is in
    /// the environment variable `variable`.
    #[must_use]
    pub fn failpoints(&self, variable: &str, scenario: &dyn Fn(&mut Run) -> Verdict) -> Report {
        let (start, mut report) = (Instant::now(), Report::new(&self.title));
        for step in 1.. {
            let mut run = Run::new(Mode::Failpoint(variable, step), step as usize);
            report.violations.extend(run.judge(scenario));
            if run.end != Some(End::Killed) || report.violations.len() >= ENOUGH {
                break;
            }
            report.points += 1;
            report.kills += 1;
        }
        report.elapsed = start.elapsed();
        report
    }
}

/// At most `most` of them, evenly spread.
fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let (count, most) = (all.len(), most.min(all.len()));
    all.iter().enumerate().filter(move |(index, _)| index * most % count < most).map(|(_, one)| one)
}

impl<'a> Run<'a> {
    fn new(mode: Mode<'a>, number: usize) -> Self {
        Self { mode, number, steps: 0, points: Points::default(), violations: Vec::new(), snapshot: None, end: None }
    }

    /// Counts the runs of one exploration, for scenarios with variants.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    fn judge(&mut self, scenario: &dyn Fn(&mut Run) -> Verdict) -> Option<Violation> {
        let said = caught(|| scenario(self))?;
        let moment = match self.mode {
            Mode::Looked(_) | Mode::Walked | Mode::Whole => Moment::Whole,
            Mode::Killed(_) => Moment::Killed,
            Mode::Stopped(_) => Moment::Stopped,
            Mode::Failpoint(_, number) => Moment::Failpoint(number),
        };
        let found = match &self.mode {
            Mode::Killed(found) | Mode::Stopped(found) => Some(found),
            _ => None,
        };
        Some(Violation::new(moment, said, found, self.snapshot.as_ref()))
    }

    /// Starts `command`, which calls [`operate`](crate::operate) once, and leads it to the end that this run has for
    /// it; `files` are what it shares with others. Call this once in a scenario.
    ///
    /// # Errors
    ///
    /// If the victim does not do as expected: it cannot be started or traced, it ends by itself too early, it hangs.
    pub fn victim(&mut self, mut command: Command, files: &Files, on: &mut dyn FnMut(Event)) -> Result<End, Problem> {
        let traced = if let Mode::Failpoint(variable, step) = self.mode {
            command.env(variable, step.to_string());
            false
        } else {
            true
        };
        let mut victim = Victim::start(command, traced)?;
        let ready = if traced { victim.next_stop() } else { victim.wait() };
        match ready {
            Stop::Signal(libc::SIGSTOP) => on(Event::Ready),
            Stop::Killed(libc::SIGKILL) if !traced => return self.ended(End::Killed),
            other => return Err(unexpected(&victim, "was to stop before its operation", other)),
        }
        let done = match &self.mode {
            Mode::Looked(_) | Mode::Walked => self.step_through(&victim, files, on).map(|()| true),
            Mode::Killed(found) | Mode::Stopped(found) => self.run_to(&victim, found.point, on),
            Mode::Whole | Mode::Failpoint(..) => to_its_end(&victim, on),
        }?;
        if matches!(self.mode, Mode::Walked | Mode::Whole | Mode::Stopped(_)) {
            return self.take_turns(&victim, done, on);
        }
        victim.kill();
        self.ended(if done { End::Done } else { End::Killed })
    }

    fn ended(&mut self, end: End) -> Result<End, Problem> {
        self.end = Some(end);
        Ok(end)
    }

    /// The other operation runs, then the victim to its end.
    fn take_turns(&mut self, victim: &Victim, done: bool, on: &mut dyn FnMut(Event)) -> Result<End, Problem> {
        on(Event::Turn);
        if !done && !to_its_end(victim, on)? {
            return Err(unexpected(victim, "was to do its operation", Stop::Killed(libc::SIGKILL)));
        }
        on(Event::Done);
        match let_run(victim, &mut |_| ()) {
            Stop::Exited(code) => self.ended(End::Exited(code)),
            other => Err(unexpected(victim, "was to end after its operation", other)),
        }
    }

    fn step_through(&mut self, victim: &Victim, files: &Files, on: &mut dyn FnMut(Event)) -> Result<(), Problem> {
        let mut watch = Watch::new(files)?;
        let mut point = Point::default();
        let mut next = victim.registers().instruction();
        self.arrive(victim, next, files, Found::default())?;
        let mut close = victim.stay_close();
        loop {
            match victim.step() {
                Stop::Signal(libc::SIGTRAP) => self.steps += 1,
                Stop::Signal(libc::SIGSTOP) => return Ok(()),
                other => return Err(unexpected(victim, "was to execute one instruction", other)),
            }
            let registers = victim.registers();
            let executed = std::mem::replace(&mut next, registers.instruction());
            let called = victim.has_just_called(&registers);
            point = if called {
                Point { calls: point.calls + 1, steps: 0 }
            } else {
                Point { calls: point.calls, steps: point.steps + 1 }
            };
            let mut changes = if called { watch.refresh()? } else { Vec::new() };
            changes.append(&mut watch.changes());
            if !called && changes.is_empty() {
                self.points.between.push((point, self.steps));
                continue;
            }
            drop(close); // what starts threads must not keep them close
            self.arrive(victim, executed, files, Found { point, step: self.steps, changes })?;
            if called {
                on(Event::Moved);
            }
            close = victim.stay_close();
        }
    }

    /// Takes down a point, and looks at a copy of the files as they are there.
    fn arrive(&mut self, victim: &Victim, executed: u64, files: &Files, found: Found) -> Result<(), Problem> {
        if let Mode::Looked(look) = self.mode
            && self.violations.len() < ENOUGH
        {
            let copy = files.copy()?;
            // On a thread of its own, because this one may hold a lock that the copy shows, and know it.
            let said = std::thread::scope(|scope| scope.spawn(|| caught(|| look(&copy.0))).join());
            if let Some(said) = said.unwrap_or_else(|_| Some("a panic".into())) {
                let snapshot = victim.snapshot(executed);
                self.violations.push(Violation::new(Moment::Copied, said, Some(&found), Some(&snapshot)));
            }
        }
        self.points.changed.push(found);
        Ok(())
    }

    /// Runs the victim to a point; true if it came to its end before.
    fn run_to(&mut self, victim: &Victim, point: Point, on: &mut dyn FnMut(Event)) -> Result<bool, Problem> {
        for _ in 0..point.calls {
            for side in ["enter", "leave"] {
                match victim.next_call() {
                    Stop::Call => {}
                    Stop::Signal(libc::SIGSTOP) => return Ok(true),
                    other => return Err(unexpected(victim, &format!("was to {side} a system call"), other)),
                }
            }
            on(Event::Moved);
        }
        // The instruction of a system call is two bytes long.
        let mut executed = victim.registers().instruction() - if point.calls > 0 { 2 } else { 0 };
        let _close = victim.stay_close();
        for step in 1..=point.steps {
            if step == point.steps {
                executed = victim.registers().instruction();
            }
            match victim.step() {
                Stop::Signal(libc::SIGTRAP) => {}
                Stop::Signal(libc::SIGSTOP) => return Ok(true),
                other => return Err(unexpected(victim, "was to execute one instruction", other)),
            }
        }
        self.snapshot = Some(victim.snapshot(executed));
        Ok(false)
    }
}

/// Lets the victim run to the stop after its operation; false if it was killed before, by itself.
fn to_its_end(victim: &Victim, on: &mut dyn FnMut(Event)) -> Result<bool, Problem> {
    match let_run(victim, on) {
        Stop::Signal(libc::SIGSTOP) => Ok(true),
        Stop::Killed(libc::SIGKILL) if !victim.hung() => Ok(false),
        other => Err(unexpected(victim, "was to do its operation", other)),
    }
}

/// Lets the victim run to its next stop or its end.
fn let_run(victim: &Victim, on: &mut dyn FnMut(Event)) -> Stop {
    victim.go_on(0);
    victim.watch();
    let stop = loop {
        match victim.look() {
            None => {
                on(Event::Moved);
                std::thread::yield_now();
            }
            Some(Stop::Signal(signal)) if signal != libc::SIGSTOP => victim.go_on(signal),
            Some(stop) => break stop,
        }
    };
    victim.rest();
    stop
}

fn unexpected(victim: &Victim, expected: &str, stop: Stop) -> Problem {
    let what = if victim.hung() { "it hung, and was killed".into() } else { stop.to_string() };
    format!("the victim {expected}: {what}").into()
}

/// What a check has to say: its error, or the message of its panic.
fn caught(check: impl FnOnce() -> Verdict) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(verdict) => verdict.err().map(|problem| problem.to_string()),
        Err(panic) => Some(match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "a panic".to_owned(),
        }),
    }
}
