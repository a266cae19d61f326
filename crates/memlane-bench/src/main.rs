//! memlane beside its peers and its floors: the same work between two processes, in turns, in one run.

mod args;
mod goals;
mod machine;
mod pair;
mod plan;
mod plots;
mod report;
mod run;
mod samples;
mod transport;
mod transports;
mod worker;

use args::{Arguments, Command};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use pair::INTERRUPTED;
use plan::Wish;
use report::Row;
use run::{Amount, Runner};
use std::fs::File;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use transport::Transport;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Worker { name, role }) => worker::run(name, *role),
        None if arguments.list => list(&transports::all()),
        None => measure(arguments).unwrap_or_else(|why| {
            eprintln!("memlane-bench: {why}");
            ExitCode::FAILURE
        }),
    }
}

fn list(transports: &[Transport]) -> ExitCode {
    for transport in transports {
        println!("{:24}{}", transport.name, transport.about);
        if let Some(why) = (transport.missing)() {
            println!("{:24}MISSING: {why}", "");
        }
    }
    ExitCode::SUCCESS
}

fn measure(arguments: Arguments) -> Result<ExitCode, String> {
    let start = Instant::now();
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;
    let transports = transports::all();
    let machine = machine::description();
    print_head(&transports, &machine);
    let Arguments { quick, blocks, json, plots, only, workload, size, .. } = arguments;
    let usual = if quick { 9 } else { 31 };
    let amount = Amount {
        block: Duration::from_millis(if quick { 1 } else { 2 }),
        blocks: blocks.unwrap_or(usual).into(),
        timed_blocks: if blocks == Some(1) { 1 } else { 5 },
        quick,
    };
    let sections = plan::plan(&Wish { quick, only, workloads: workload, sizes: size }, &transports);
    if sections.is_empty() {
        return Err("nothing to do: no transport that was chosen does any workload that was; `--list` names all".into());
    }
    // What cannot be written is to be known before anything is measured.
    let json = json.map(|path| match File::create(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(format!("cannot write {}: {error}", path.display())),
    });
    let json = json.transpose()?;
    plots.as_deref().map_or(Ok(()), plots::make_directory)?;
    let mut runner = Runner::new(&transports, amount)?;
    let (mut rows, mut measured) = (Vec::new(), Vec::new());
    let bar = progress_bar(sections.len());
    for (index, section) in sections.iter().enumerate() {
        bar.set_message(section.title.clone());
        let entries = runner.run(section, &|done| bar.set_position(((index as f64 + done) * STEPS) as u64));
        if section.reported {
            let new = report::rows(&entries, &machine);
            bar.suspend(|| print!("{}", report::table(section, &new)));
            rows.extend(new);
        }
        measured.push(entries);
        if INTERRUPTED.load(Ordering::Relaxed) {
            break;
        }
    }
    bar.finish_and_clear();
    drop(runner);
    print!("{}", goals::table(&measured));
    println!("\n{:.0} s", start.elapsed().as_secs_f64());
    if let Some((path, file)) = json {
        serde_json::to_writer_pretty(file, &rows)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(directory) = plots {
        plots::write(&directory, &rows)?;
    }
    Ok(report_failures(&rows))
}

fn print_head(transports: &[Transport], machine: &str) {
    println!("{machine}");
    if machine::processors().len() < 2 {
        println!("ONE PROCESSOR ONLY: both sides share it, and whoever spins wastes what the other one needs");
    }
    for transport in transports {
        if let Some(why) = (transport.missing)() {
            println!("without {}: {why}", transport.name);
        }
    }
}

/// What a section counts in the progress bar.
const STEPS: f64 = 100.0;

fn progress_bar(sections: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {eta:>4} left  {wide_msg}");
    let bar = ProgressBar::new(sections as u64 * STEPS as u64);
    bar.with_style(style.expect("a template that is one"))
}

fn report_failures(rows: &[Row]) -> ExitCode {
    let failed: Vec<_> = rows.iter().filter_map(|row| Some((row, row.failed.as_ref()?))).collect();
    for (row, why) in &failed {
        let Row { transport, workload, size, .. } = row;
        eprintln!("memlane-bench: {transport}, {workload}, {size} bytes: {why}");
        eprintln!("  again: memlane-bench --only '{transport}' --workload {workload}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
