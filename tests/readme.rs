//! What README.md shows is what runs.
#![allow(missing_docs)]

mod common;

use common::Dir;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program of `examples/`, run as the README says.
fn example(dir: &Dir, name: &str, argument: &str) -> Child {
    Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--example", name, "--", argument])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("MEMLANE_DIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo runs")
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_two_programs_are_those_of_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("text");
    let readme = read("README.md");
    let shown = readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    let example = read("examples/camera.rs");
    assert_eq!(example.split_once("\n\n").map(|(_, code)| code), Some(shown));
}

/// Every script of docs/CONTAINERS.md says what the text below it says, in any order of lines; it needs root, as it says.
#[test]
fn the_containers_are_those_of_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let allowed =
        Command::new("unshare").args(["--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        // Not `eprintln`: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED, no containers: {allowed:?}");
        return;
    }
    let target = std::env::current_exe().expect("the test binary");
    let target = target.ancestors().nth(3).expect("the target directory");
    for name in ["camera", "handover"] {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--example", name, "--target-dir"]);
        assert!(build.arg(target).current_dir(root).status().is_ok_and(|status| status.success()), "{name}");
    }
    let document = std::fs::read_to_string(root.join("docs/CONTAINERS.md")).expect("text");
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut scripts = 0;
    for part in document.split("```sh\n").skip(1) {
        let (script, rest) = part.split_once("```").expect("an end");
        let expected = rest.split("```text\n").nth(1).and_then(|text| text.split("```").next()).expect("what it says");
        // Where it runs, the target directory has its usual place.
        let script = script.replace("target/debug", &target.join("debug").display().to_string());
        let mut command = Command::new("sh");
        let output = command.args(["-e", "-c", &script]).current_dir(root).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(lines(&said), lines(expected), "{script}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}");
        scripts += 1;
    }
    assert_eq!(scripts, 3);
}

#[test]
fn the_two_programs_find_each_other_whichever_starts_first() {
    for order in [["send", "receive"], ["receive", "send"]] {
        let dir = Dir::new();
        let children = order.map(|role| example(&dir, "camera", role));
        let [first, second] = children.map(said);
        let (sent, received) = if order[0] == "send" { (first, second) } else { (second, first) };
        assert_eq!(sent, "Processed\n".repeat(3), "{order:?}");
        let frames = [(1, 64), (2, 128), (3, 255)];
        let lines = frames.map(|(number, value)| format!("frame {number}: 6220800 bytes of {value}\n"));
        assert_eq!(received, lines.concat(), "{order:?}");
        assert_eq!(dir.files(), [""; 0]);
    }
}
