//! What was explored and what was found, for people.

use crate::explore::{Found, Point, Points};
use crate::place::{Frame, Snapshot};
use crate::watch::Change;
use std::fmt;
use std::time::Duration;

/// More changes of one point than this are counted, not shown.
const CHANGES: usize = 6;

/// What an exploration did, and what it found. [`Display`](fmt::Display) shows all of it: one line if all is well.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was explored.
    pub title: String,
    /// Instructions that were executed one by one.
    pub steps: u64,
    /// Points where watched bytes changed or a system call ended.
    pub points: usize,
    /// Victims that were killed.
    pub kills: usize,
    /// Schedules of two operations.
    pub schedules: usize,
    /// What was not well, in the order in which it was found: the search ends after a few.
    pub violations: Vec<Violation>,
    /// How long it took.
    pub elapsed: Duration,
    pub(crate) found: Points,
}

impl Report {
    /// An empty one, to add others to.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// Adds what another exploration did and found.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.points += other.points;
        self.kills += other.kills;
        self.schedules += other.schedules;
        self.violations.extend(other.violations);
        self.elapsed += other.elapsed;
    }

    /// The line without the violations.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { title, steps, points, kills, schedules, .. } = self;
        let mut line = format!("{title:<50} {steps:>8} instructions, {points:>4} points,");
        if *kills > 0 || *schedules == 0 {
            line += &format!(" {kills:>4} kills,");
        }
        if *schedules > 0 {
            line += &format!(" {schedules:>4} schedules,");
        }
        line + &format!(" {} violations, {:>6.1} s", self.violations.len(), self.elapsed.as_secs_f64())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        for violation in &self.violations {
            write!(f, "\n{violation}")?;
        }
        Ok(())
    }
}

/// What was done to the victim when the violation showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A copy of the files was looked at, as a death there would have left them.
    Copied,
    /// It was really killed there.
    Killed,
    /// It was stopped there, and went on after the other operation.
    Stopped,
    /// It killed itself at this failpoint.
    Failpoint(u64),
    /// It came to its end, undisturbed.
    Whole,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copied => f.write_str("in a copy of what a death would leave"),
            Self::Killed => f.write_str("killed"),
            Self::Stopped => f.write_str("stopped while the other operation ran"),
            Self::Failpoint(number) => write!(f, "killed at failpoint {number}"),
            Self::Whole => f.write_str("not disturbed before its end"),
        }
    }
}

/// One thing that was not well.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What was done to the victim.
    pub moment: Moment,
    /// What the invariant, or the scenario, said.
    pub said: String,
    /// Where in the operation that was.
    pub point: Option<Point>,
    /// The number of the last instruction that was executed.
    pub step: u64,
    /// The function that was executing, and its callers.
    pub frames: Vec<Frame>,
    /// What had changed since the point before.
    pub changes: Vec<Change>,
}

impl Violation {
    pub(crate) fn new(moment: Moment, said: String, found: Option<&Found>, snapshot: Option<&Snapshot>) -> Self {
        let frames = snapshot.map_or_else(Vec::new, Snapshot::frames);
        let (point, step) = found.map_or((None, 0), |found| (Some(found.point), found.step));
        let changes = found.map_or_else(Vec::new, |found| found.changes.clone());
        Self { moment, said, point, step, frames, changes }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  violation, {}", self.moment)?;
        if let Some(Point { calls, steps }) = self.point {
            let (step, call) = (self.step, if calls == 1 { "call" } else { "calls" });
            write!(f, " after instruction {step} ({calls} system {call}, then {steps} instructions)")?;
        }
        for (number, line) in self.said.lines().enumerate() {
            write!(f, "\n    {} {line}", if number == 0 { "said   " } else { "       " })?;
        }
        for (number, frame) in self.frames.iter().enumerate() {
            write!(f, "\n    {} {frame}", if number == 0 { "at     " } else { "   from" })?;
        }
        for (number, change) in self.changes.iter().take(CHANGES).enumerate() {
            write!(f, "\n    {} {change}", if number == 0 { "changed" } else { "       " })?;
        }
        match self.changes.len().saturating_sub(CHANGES) {
            0 => Ok(()),
            more => write!(f, "\n            and {more} more"),
        }
    }
}
