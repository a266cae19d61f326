//! The life of a name: random calls of several processes, and `kill -9` of them, against a model that foretells every
//! answer and every name that is left. What fails is made as short as it can be before it is shown.
//!
//! `MEMLANE_SEED` repeats a run, `MEMLANE_LONG=1` makes it long.
#![allow(missing_docs, unreachable_pub)]

mod common;
#[path = "life/machine.rs"]
mod machine;
#[path = "life/model.rs"]
mod model;
#[path = "common/random.rs"]
mod random;
#[path = "life/worker.rs"]
mod worker;

use common::{Dir, role, run_alone, times};
use machine::{Machine, NAMES, One, Step, WORKERS};
use model::{Shape, View};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use random::Random;
use std::cell::RefCell;
use std::path::Path;

fn shape() -> impl Strategy<Value = Shape> {
    use Shape::{LargeNote, LargeRaw, SmallNote, SmallRaw, Ticket};
    prop_oneof![6 => Just(SmallNote), 1 => Just(LargeNote), 1 => Just(Ticket), 3 => Just(SmallRaw), 1 => Just(LargeRaw)]
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..WORKERS;
    // Mostly the first name, so that they meet.
    let name = || prop_oneof![6 => Just(NAMES[0]), 1 => Just(NAMES[1])];
    let typed = || prop_oneof![4 => Just(View::Note), 1 => Just(View::Ticket)];
    let opened = prop_oneof![4 => typed(), 2 => Just(View::Bare), 2 => Just(View::Reader)];
    let mapped = prop_oneof![2 => Just(View::Raw), 1 => Just(View::Reader)];
    let keep = || prop::bool::weighted(0.2);
    let one = || (worker(), name(), any::<bool>()).prop_map(|(worker, name, oldest)| One { worker, name, oldest });
    prop_oneof![
        10 => (worker(), name(), shape(), keep())
            .prop_map(|(worker, name, shape, keep)| Step::Create { worker, name, shape, keep }),
        16 => (worker(), name(), opened).prop_map(|(worker, name, view)| Step::Open { worker, name, view }),
        3 => (worker(), name(), shape(), keep())
            .prop_map(|(worker, name, shape, keep)| Step::OpenOrCreate { worker, name, shape, keep }),
        1 => (worker(), name(), typed()).prop_map(|(worker, name, view)| Step::WaitFor { worker, name, view }),
        1 => (worker(), worker(), name()).prop_map(|(waiter, creator, name)| Step::Await { waiter, creator, name }),
        3 => (one(), mapped).prop_map(|(one, view)| Step::Map { one, view }),
        5 => one().prop_map(|one| Step::Close { one }),
        1 => (worker(), name()).prop_map(|(worker, name)| Step::Remove { worker, name }),
        1 => (worker(), name()).prop_map(|(worker, name)| Step::Retire { worker, name }),
        1 => one().prop_map(|one| Step::RemoveName { one }),
        2 => (worker(), any::<bool>()).prop_map(|(worker, dry)| Step::Gc { worker, dry }),
        3 => worker().prop_map(|worker| Step::List { worker }),
        10 => (one(), any::<bool>()).prop_map(|(one, repair)| Step::Add { one, repair }),
        4 => one().prop_map(|one| Step::Hold { one }),
        3 => one().prop_map(|one| Step::Look { one }),
        4 => worker().prop_map(|worker| Step::Kill { worker }),
        1 => worker().prop_map(|worker| Step::Litter { worker }),
    ]
}

/// Plays random lives in an empty directory.
fn play(directory: &Path, alone: bool) {
    let config = Config { cases: times(500, 10_000) as u32, failure_persistence: None, ..Config::default() };
    let mut random = Random::new();
    let seed: Vec<u8> = (0..4).flat_map(|_| random.next().to_ne_bytes()).collect();
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let machine = RefCell::new(Machine::new(directory, alone));
    let result = runner.run(&vec(step(), 1..=60), |steps| {
        let mut machine = machine.borrow_mut();
        machine.play(&steps).map_err(|difference| {
            machine.rebuild();
            TestCaseError::fail(difference)
        })
    });
    if let Err(TestError::Fail(difference, steps)) = result {
        panic!("{difference}\nafter: {steps:#?}");
    }
    result.expect("no case is rejected");
    machine.into_inner().assert_that_nothing_is_blind();
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    match role() {
        Some((role, _)) if role == "worker" => worker::obey(),
        Some((_, arguments)) => play(Path::new(&arguments[0]), arguments[1] == "alone"),
        None => {}
    }
}

#[test]
fn every_answer_and_every_name_is_as_the_model_says() {
    run_alone("size=16m", "play");
}

/// Plays one life that was once found to differ.
fn replay(steps: &[Step]) {
    let dir = Dir::new();
    Machine::new(dir.path(), false).play(steps).expect("as the model says");
}

#[test]
fn who_takes_over_and_takes_no_part_is_not_mistaken_for_the_last_creator() {
    let (worker, name, shape, keep) = (0, "a", Shape::SmallRaw, false);
    let one = One { worker, name, oldest: true };
    replay(&[
        Step::Create { worker, name, shape, keep },
        Step::Map { one, view: View::Raw },
        Step::Open { worker, name, view: View::Bare },
        Step::Close { one },
        Step::Create { worker, name, shape, keep },
        Step::List { worker },
        Step::Create { worker, name, shape, keep },
    ]);
}
