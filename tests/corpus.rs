//! The inputs that fuzzing found, one for each thing the library can be made to do, and random ones made of them.
//! `cargo fuzz run` looks for more: see docs/DESIGN.md.
#![allow(missing_docs)]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;
#[path = "common/random.rs"]
mod random;

use random::Random;
use std::path::Path;

/// `MEMLANE_LONG=1` asks for more of what is random.
fn rounds() -> u64 {
    if std::env::var_os("MEMLANE_LONG").is_some_and(|value| value == "1") { 20_000 } else { 300 }
}

/// Runs a target on every input of its corpus, and on random changes of them.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let corpus: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).expect("an input")).collect();
    assert!(corpus.len() > 20, "the corpus of {target} is where it is looked for");
    corpus.iter().for_each(|input| try_out(target, run, input));
    let mut random = Random::new();
    for _ in 0..rounds() {
        let mut input = corpus[random.below(corpus.len() as u64) as usize].clone();
        let other = &corpus[random.below(corpus.len() as u64) as usize];
        input.truncate(random.below(input.len() as u64 + 1) as usize);
        input.extend_from_slice(&other[random.below(other.len() as u64 + 1) as usize..]);
        for _ in 0..random.below(4).min(input.len() as u64) {
            let place = random.below(input.len() as u64) as usize;
            input[place] = random.next() as u8;
        }
        try_out(target, run, &input);
    }
}

/// Says which input it was, if it fails.
fn try_out(target: &str, run: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| run(input)) {
        println!("the target {target} fails on the input {input:?}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn what_was_found_for_open() {
    replay("open", fuzz::open::run);
}

#[test]
fn what_was_found_for_list() {
    replay("list", fuzz::list::run);
}

#[test]
fn what_was_found_for_schema() {
    replay("schema", fuzz::schema::run);
}

#[test]
fn what_was_found_for_words() {
    replay("words", fuzz::words::run);
}
