//! What is broken is caught, at the line where it is; what is mended is not.
#![allow(missing_docs)]

#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/counter.rs"]
mod counter;

use memlane_crash::{Event, Explore, Files, Moment, Problem, Report, Run, Verdict, may_trace, operate};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const OLD: &str = "the old text";
const NEW: &str = "the new text, which is longer";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role, _] if role.starts_with("bump") || role.starts_with("add") => return counter::main(),
        [role, directory] if !role.starts_with('-') => return save(role, Path::new(directory)),
        _ => {}
    }
    if let Err(reason) = may_trace() {
        println!("SKIPPED: {reason}");
        return ExitCode::SUCCESS;
    }
    a_death_between_two_words_is_caught_at_the_first_one();
    a_lost_update_is_caught_between_load_and_store();
    what_is_mended_passes();
    files_that_are_rewritten_are_caught_and_files_that_are_replaced_are_not();
    a_victim_that_fails_is_a_violation();
    let long = std::env::var_os("MEMLANE_LONG").is_some_and(|value| value == "1");
    if long {
        a_victim_that_hangs_is_a_violation();
    }
    println!("{} passed", 5 + i32::from(long));
    ExitCode::SUCCESS
}

/// The number of the first line of the example that has `text`, after the one that has `function`.
fn line(function: &str, text: &str) -> u32 {
    let source = include_str!("../examples/counter.rs");
    let lines = source.lines().zip(1..).skip_while(|(line, _)| !line.contains(&format!("fn {function}(")));
    lines.into_iter().find(|(line, _)| line.contains(text)).expect("the line is there").1
}

fn a_death_between_two_words_is_caught_at_the_first_one() {
    let report = counter::dies("bump_broken");
    let moments: Vec<Moment> = report.violations.iter().map(|violation| violation.moment).collect();
    assert_eq!(moments, [Moment::Copied, Moment::Killed], "{report}");
    for violation in &report.violations {
        let frame = &violation.frames[0];
        assert!(frame.function.ends_with("bump_broken") && frame.file.ends_with("examples/counter.rs"), "{report}");
        assert_eq!(frame.line, line("bump_broken", "value.store"), "{report}");
        assert_eq!(violation.said, "the value is 1, its copy is 0, and the journal says 0");
        assert_eq!(violation.changes.len(), 1, "{report}");
    }
    assert!(report.to_string().contains("changed counter +0x0: 00 -> 01"), "{report}");
    assert!(report.points >= 3 && report.kills == report.points, "{report}");
}

fn a_lost_update_is_caught_between_load_and_store() {
    let report = counter::meets("add_broken");
    let lines = line("add_broken", "value.load")..=line("add_broken", "value.store");
    assert!(!report.violations.is_empty());
    for violation in &report.violations {
        assert_eq!(violation.said, "two have added one, and the value is 1");
        assert_eq!(violation.moment, Moment::Stopped);
        assert!(violation.frames.iter().any(|frame| lines.contains(&frame.line)), "{report}");
    }
}

fn what_is_mended_passes() {
    for report in [counter::dies("bump_mended"), counter::meets("add_mended")] {
        assert!(report.violations.is_empty() && report.points >= 3, "{report}");
        assert!(report.kills + report.schedules > report.points - 1, "{report}");
    }
}

/// The victim: it saves a text, in one of three ways.
fn save(role: &str, directory: &Path) -> ExitCode {
    let file = directory.join("text");
    operate(|| match role {
        "rewrite" => fs::write(&file, NEW).expect("a file"),
        "replace" => {
            let draft = directory.join("draft");
            fs::write(&draft, NEW).expect("a file");
            fs::rename(&draft, &file).expect("a name");
        }
        "hang" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        _ => std::process::exit(7),
    });
    ExitCode::SUCCESS
}

fn is_whole(directory: &Path) -> Verdict {
    match fs::read_to_string(directory.join("text"))?.as_str() {
        OLD | NEW => Ok(()),
        other => Err(format!("neither old nor new: {other:?}").into()),
    }
}

fn saves(role: &str) -> Report {
    let scenario = |run: &mut Run| {
        let directory = fresh(role, run.number())?;
        fs::write(directory.join("text"), OLD)?;
        let mut victim = Command::new(std::env::current_exe()?);
        victim.arg(role).arg(&directory);
        let mut ready = 0;
        let ended = run.victim(victim, &Files::In(directory.clone()), &mut |event| {
            ready += usize::from(event == Event::Ready);
        });
        let verdict = ended.and_then(|_| is_whole(&directory));
        fs::remove_dir_all(&directory)?;
        assert_eq!(ready, 1);
        verdict
    };
    Explore::new(role).deaths(&scenario, &is_whole)
}

fn fresh(role: &str, number: usize) -> Result<PathBuf, Problem> {
    let directory = std::env::temp_dir().join(format!("crash-save-{}-{role}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory)?;
    Ok(directory)
}

fn files_that_are_rewritten_are_caught_and_files_that_are_replaced_are_not() {
    let report = saves("rewrite");
    assert!(report.violations[0].said.contains("neither old nor new: \"\""), "{report}");
    assert!(report.violations[0].frames[0].line > 0, "{report}");
    assert!(report.to_string().contains("text has 0 bytes, and had 12"), "{report}");
    let report = saves("replace");
    assert!(report.violations.is_empty() && report.points > 4, "{report}");
}

fn a_victim_that_fails_is_a_violation() {
    let report = saves("fail");
    assert!(report.violations[0].said.ends_with("it ended with exit code 7"), "{report}");
}

fn a_victim_that_hangs_is_a_violation() {
    let report = saves("hang");
    assert!(report.violations[0].said.ends_with("it hung, and was killed"), "{report}");
}
