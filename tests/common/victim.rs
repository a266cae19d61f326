//! A thread that is a process of its own to `src/sys/heap.rs`, and dies at one of its steps.
#![allow(missing_docs, unreachable_pub)]

use memlane::heap::{die_at, start_process};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;

/// Lets `victim` prepare, begin when it calls what it is given, and die at its `step`-th step from then on. We do `ready`
/// before it begins, and `meanwhile` again and again until its end. Says whether it came to its end alive.
pub fn die_while(
    step: u64,
    victim: impl FnOnce(&dyn Fn()) + Send + 'static,
    ready: impl FnOnce(),
    mut meanwhile: impl FnMut(),
) -> bool {
    let (says, is_ready) = channel();
    let (begin, begins) = channel();
    let end = start_process(move || {
        let begin = || {
            says.send(()).expect("the test listens");
            begins.recv().expect("the test goes on");
            die_at(step);
        };
        victim(&begin);
    });
    is_ready.recv().expect("it prepared");
    ready();
    begin.send(()).expect("it waits");
    loop {
        match end.try_recv() {
            Ok(survived) => return survived,
            Err(TryRecvError::Disconnected) => panic!("the victim did not die but panic"),
            Err(TryRecvError::Empty) => meanwhile(),
        }
        thread::yield_now();
    }
}
