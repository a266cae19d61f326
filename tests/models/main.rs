//! Models of locks, conditions, events, values, the participant table and the list of openings: all schedules, and all
//! values that a load may return under the memory model of C11, of a few threads that use them; explored by loom.
//!
//! What is modelled is what ships: this crate includes the files of the library that hold the algorithms, whole, and
//! gives them its own `prim` (loom's atomics, a futex that sleeps without a limit, a death at any step), `sys` (lock
//! bytes that a death frees) and `region` (an attachment). So a lost wake-up is a deadlock, which loom reports; an
//! ordering that is too weak is a race on what the lock guards; and a death is a thread that stops for ever between
//! two steps.
//!
//! `MEMLANE_LONG=1` explores further: more preemptions in a schedule, or as many as there can be.
#![allow(missing_docs, unreachable_pub, unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the models use a part of each")]
#[path = "../../src/error.rs"]
mod error;
mod object;
#[allow(dead_code, reason = "the models use a part of each")]
#[path = "../../src/owner.rs"]
mod owner;
mod prim;
mod region;
#[allow(dead_code, reason = "the models use a part of each")]
mod segment;
#[allow(dead_code, reason = "the models use a part of each")]
mod sync;
mod sys;

mod barrier;
#[allow(dead_code, reason = "the models use a part of each")]
#[allow(clippy::arc_with_non_send_sync, reason = "all threads of a model are one of the machine's")]
mod channel;
mod condvar;
mod copies;
mod event;
mod eventcount;
mod mutex;
mod openings;
mod rwlock;
mod semaphore;
mod table;

use loom::thread::JoinHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many preemptions a schedule may have; `None` is no bound.
type Bound = Option<usize>;

/// Runs `model` in every schedule of the bound `short`, or with `MEMLANE_LONG=1` `long`, and says how many there were.
fn explore(name: &str, (short, long): (Bound, Bound), model: impl Fn() + Send + Sync + 'static) {
    let bound = if common::times(0, 1) == 1 { long } else { short };
    let schedules = schedules(bound, model);
    println!("{name}: {schedules} schedules, {}", shown(bound));
}

/// [`explore`]s `model` with a death after its 1st, 2nd, 3rd ... step, until nobody dies there any more.
fn explore_deaths(name: &str, (short, long): (Bound, Bound), model: impl Fn(u64) + Send + Sync + 'static) {
    let bound = if common::times(0, 1) == 1 { long } else { short };
    let model = Arc::new(model);
    let mut total = 0;
    for step in 1.. {
        let (model, deaths) = (Arc::clone(&model), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&deaths);
        total += schedules(bound, move || {
            model(step);
            counted.fetch_add(prim::deaths(), Ordering::Relaxed);
        });
        if deaths.load(Ordering::Relaxed) == 0 {
            println!("{name}: {total} schedules, a death at each of {} steps, {}", step - 1, shown(bound));
            return;
        }
    }
}

fn schedules(bound: Bound, model: impl Fn() + Send + Sync + 'static) -> u64 {
    let schedules = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    let counted = Arc::clone(&schedules);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        prim::begin();
        model();
    });
    schedules.load(Ordering::Relaxed)
}

fn shown(bound: Bound) -> String {
    bound.map_or("with any number of preemptions".into(), |bound| format!("with up to {bound} preemptions"))
}

/// Waits for threads of a model.
fn join<T: 'static>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic passes a thread of a model")).collect()
}
