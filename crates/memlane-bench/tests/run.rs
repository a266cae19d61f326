//! The program itself: every transport that is here does every workload it offers, and leaves nothing.

use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Both tests would share two processors, and one of them has hardly time enough.
static PROCESSORS: Mutex<()> = Mutex::new(());

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memlane-bench"));
    command.args(arguments);
    command
}

/// Runs to the end, and says with what process number.
fn finish(child: Child) -> (u32, Output) {
    let id = child.id();
    (id, child.wait_with_output().expect("its end"))
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

fn left_in_shared_memory(run: u32) -> Vec<String> {
    let names = fs::read_dir("/dev/shm").expect("shared memory").flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains(&format!("memlane-bench-{run}"))).collect()
}

#[test]
fn every_transport_does_what_it_offers() {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let (json, plots) = (temporary("rows"), temporary("plots"));
    let arguments = ["--quick", "--blocks", "1", "--size", "64", "4096", "--json"];
    let mut command = bench(&arguments);
    command.arg(&json).arg("--plots").arg(&plots).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (run, output) = finish(command.spawn().expect("the bench"));
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}\n{said}");
    assert_eq!(left_in_shared_memory(run), [""; 0]);
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(&json).expect("rows")).expect("an array");

    let listed = bench(&["--list"]).output().expect("the list");
    let listed = String::from_utf8(listed.stdout).expect("text");
    let mut missing = HashSet::new();
    let mut names = Vec::new();
    for line in listed.lines() {
        match line.strip_prefix(' ') {
            Some(_) => drop(missing.insert(names.last().cloned().expect("a name before"))),
            None => names.push(line[..24].trim().to_owned()),
        }
    }
    for name in names.iter().filter(|name| !missing.contains(*name)) {
        assert!(rows.iter().any(|row| row["transport"] == **name), "no row of {name}");
    }
    let workloads: HashSet<_> = rows.iter().filter_map(|row| row["workload"].as_str()).collect();
    assert_eq!(workloads.len(), 12, "{workloads:?}");
    rows.iter().for_each(check);
    for plot in ["latency", "latency-untouched", "throughput", "tails", "ratios"] {
        let svg = fs::read_to_string(plots.join(format!("{plot}.svg"))).expect("a plot");
        assert!(svg.starts_with("<svg") && svg.contains("memlane"), "{plot}");
    }
    fs::remove_file(json).expect("it is there");
    fs::remove_dir_all(plots).expect("it is there");
}

/// Whether a row says something that can be.
fn check(row: &Value) {
    assert!(row["failed"].is_null(), "{row}");
    let positive =
        |key: &str| assert!(row[key].as_f64().is_some_and(|figure| figure.is_finite() && figure > 0.0), "{key}: {row}");
    if row["workload"] == "Memory" {
        positive("reserved_bytes");
        positive("resident_bytes");
        return;
    }
    positive("p50_ns");
    assert!(row["cpu_ns"].as_f64().is_some_and(|figure| figure.is_finite() && figure >= 0.0), "{row}");
    if row["workload"] != "Idle" {
        positive("p99_ns");
        positive("per_second");
        let product = row["p50_ns"].as_f64().unwrap_or_default() * row["per_second"].as_f64().unwrap_or_default();
        assert!((product / 1e9 - 1.0).abs() < 1e-6, "{row}");
    }
    for ratio in
        ["ratio_to_memlane", "ratio_to_floor"].map(|key| &row[key]).into_iter().filter(|ratio| !ratio.is_null())
    {
        assert!(ratio.as_f64().is_some_and(|ratio| ratio > 0.0), "{row}");
    }
}

#[test]
fn a_killed_worker_is_a_named_failure() {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let json = temporary("killed");
    let arguments = ["--quick", "--blocks", "500", "--workload", "RoundTrip", "--size", "64", "--only"];
    let mut command = bench(&arguments);
    command.args(["memlane spinning", "memlane queue"]).arg("--json").arg(&json);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the bench");
    let worker = first_worker(child.id());
    let start = Instant::now();
    assert!(Command::new("kill").args(["-9", &worker]).status().expect("kill").success());
    let (run, output) = finish(child);
    assert!(start.elapsed() < Duration::from_secs(15), "no hang");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("memlane spinning, RoundTrip, 64 bytes: the asking process"), "{errors}");
    assert!(errors.contains(&format!("process {worker}: ended (signal: 9 (SIGKILL))")), "{errors}");
    assert_eq!(left_in_shared_memory(run), [""; 0]);

    // Its peer went on, and so did the next case, with a new process.
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(&json).expect("rows")).expect("an array");
    let failed: Vec<_> = rows.iter().map(|row| !row["failed"].is_null()).collect();
    assert_eq!(failed, [true, false, false, false]);
    fs::remove_file(json).expect("it is there");
}

/// The process numbers of its workers.
fn workers(bench: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{bench}/task/{bench}/children")).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

/// Waits until both workers of the first transport are there.
fn first_worker(bench: u32) -> String {
    let start = Instant::now();
    loop {
        if let [first, _, ..] = &workers(bench)[..] {
            return first.clone();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "two workers");
        sleep(Duration::from_millis(10));
    }
}
