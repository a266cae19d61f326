//! What README.md shows is what runs.
#![allow(missing_docs)]

mod common;

use common::Dir;
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
