//! Who watches processes that say what they are about to call, and in the end what came of their calls: whether one hangs,
//! panics or gets a signal.
#![allow(unreachable_pub, missing_debug_implementations, reason = "each file uses its part")]

use crate::common::Child;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long one call may take before it counts as hung.
const HANG: Duration = Duration::from_secs(30);
/// Somebody who keeps to the protocol is killed, and replaced, each time that so many calls were made.
const CALLS_PER_KILL: u64 = 5_000;

/// What was called, what it came to, and how often.
pub type Tally = BTreeMap<(String, String), u64>;

enum Told {
    Said(String),
    Ended(ExitStatus),
}

/// Passes on what a worker says, and how it ended.
fn listen(number: usize, mut worker: Child, tell: &Sender<(usize, Told)>) {
    while let Some(said) = worker.hear() {
        let _ = tell.send((number, Told::Said(said)));
    }
    let _ = tell.send((number, Told::Ended(worker.finish())));
}

#[derive(Default)]
pub struct Watch {
    pub tally: Tally,
    pub signals: u64,
    pub panics: u64,
    pub hangs: u64,
    pub kills: u64,
}

impl Watch {
    /// Watches these workers until all have ended.
    pub fn over(workers: Vec<Child>, kill_somebody: impl FnMut()) -> Self {
        let (tell, told) = channel();
        let pids: Vec<u32> = workers.iter().map(Child::pid).collect();
        for (number, worker) in workers.into_iter().enumerate() {
            let tell = tell.clone();
            std::thread::spawn(move || listen(number, worker, &tell));
        }
        drop(tell);
        let mut watch = Self::default();
        watch.follow(&pids, &told, kill_somebody);
        watch
    }

    fn follow(&mut self, pids: &[u32], told: &Receiver<(usize, Told)>, mut kill_somebody: impl FnMut()) {
        let mut last: Vec<Option<(Instant, String)>> = vec![Some((Instant::now(), "start".into())); pids.len()];
        let mut calls = 0;
        while last.iter().any(Option::is_some) {
            match told.recv_timeout(HANG) {
                Ok((number, Told::Ended(status))) => {
                    let during = last[number].take().map(|(_, call)| call);
                    self.end(status, during.as_deref().unwrap_or_default());
                }
                Ok((number, Told::Said(said))) => {
                    self.add(&said);
                    last[number] = Some((Instant::now(), said));
                    calls += 1;
                    if calls % CALLS_PER_KILL == 0 {
                        kill_somebody();
                        self.kills += 1;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for (pid, last) in pids.iter().zip(&mut last) {
                if let Some((_, call)) = last.take_if(|(since, _)| since.elapsed() > HANG) {
                    println!("HANG in {call}");
                    self.hangs += 1;
                    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                    assert!(killed.is_ok_and(|status| status.success()), "it is ours to kill");
                }
            }
        }
    }

    fn end(&mut self, status: ExitStatus, call: &str) {
        if let Some(signal) = status.signal() {
            println!("SIGNAL {signal} in {call}");
            self.signals += 1;
        } else if !status.success() {
            println!("PANIC in {call}");
            self.panics += 1;
        }
    }

    fn add(&mut self, said: &str) {
        if let [what, came, count] = said.split('=').collect::<Vec<_>>()[..] {
            *self.tally.entry((what.into(), came.into())).or_default() += count.parse::<u64>().expect("a count");
        }
    }

    pub fn print(&self) {
        let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((what, came), count) in &self.tally {
            shown.entry(what).or_default().push(format!("{came} {count}"));
        }
        for (what, outcomes) in shown {
            println!("  {what}: {}", outcomes.join(", "));
        }
    }
}
