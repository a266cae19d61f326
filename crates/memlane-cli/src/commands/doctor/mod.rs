//! `memlane doctor`: what could go wrong here, each finding with its cure.

mod objects;
mod place;
mod system;
mod trial;

use crate::failure::Failure;
use crate::report::Counted;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use system::System;
pub(crate) use trial::victim;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Doctor {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
It looks at the directory, its mount and free space, the objects and locks in it, this process's limits and what is known
of the container and the system, and kills a process of its own that holds a lock, to see that its death is seen.
What it makes for that trial goes with it; like any other create, it may take dead objects away in passing.
Exit code 1 if there is a problem.";

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Good to know.
    Note,
    /// It works, but may not for long, or not for all.
    Warning,
    /// Something does not work.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), fix: None }
    }

    fn note(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::ok(check, found) }
    }

    fn warning(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, fix: Some(fix.into()), ..Self::ok(check, found) }
    }

    fn problem(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, found, fix) }
    }

    /// What could not be looked at, or done: the error says what to do about it.
    fn failed(check: &'static str, error: impl std::fmt::Display) -> Self {
        Self { level: Level::Problem, ..Self::ok(check, error.to_string()) }
    }
}

pub(crate) fn run(arguments: &Doctor) -> Result<(), Failure> {
    let system = System::real();
    let mut findings = place::look(&system);
    // Without a directory there is nothing to look into.
    if findings.iter().all(|finding| finding.check != "directory" || finding.level != Level::Problem) {
        findings.extend(objects::look());
        findings.extend(trial::look());
    }
    findings.extend(system.look());
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count() as u64;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&findings).map_err(Failure::failed)?)?;
    } else {
        print(&mut out, &findings)?;
    }
    if problems > 0 { Err(Failure::failed(format!("{} found", Counted(problems, "problem")))) } else { Ok(()) }
}

fn print(out: &mut impl Write, findings: &[Finding]) -> Result<(), Failure> {
    for Finding { check, level, found, fix } in findings {
        let mut lines = found.lines();
        writeln!(out, "{:8} {check:10} {}", level.name(), lines.next().unwrap_or_default())?;
        for line in lines {
            writeln!(out, "{:19} {}", "", line.trim())?;
        }
        if let Some(fix) = fix {
            writeln!(out, "{:19} fix: {fix}", "")?;
        }
    }
    Ok(())
}
