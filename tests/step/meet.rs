//! Two operations meet: ours runs while the victim's is stopped.

use crate::common::Dir;
use crate::scenarios::Run;
use crate::victim::PATIENCE;
use memlane_crash::{End, Event};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

/// Two operations.
pub struct Meeting {
    /// The first one and what is there before: those with the same have the same points.
    pub first: String,
    pub title: String,
    /// At so many instructions before each change the first one is stopped as well.
    pub before: u64,
    /// And at so many others.
    pub further: u64,
    pub run: Box<Scenario>,
}

type Scenario = dyn Fn(&Dir, &mut Run);

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Created,
    TakenOver,
    Opened,
    Exists,
    Missing,
    Removed,
    Closed,
    /// It did what it had to do under the lock.
    Done,
    /// The same, after it was told that the last holder died.
    Repaired,
    /// It did not get the lock, because the other one held it.
    Held,
    /// It was told that the object was retired.
    Retired,
}

impl Outcome {
    /// As an exit code.
    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: i32) -> Option<Self> {
        use Outcome::{Closed, Created, Done, Exists, Held, Missing, Opened, Removed, Repaired, Retired, TakenOver};
        let all = [Created, TakenOver, Opened, Exists, Missing, Removed, Closed, Done, Repaired, Held, Retired];
        all.into_iter().find(|outcome| i32::from(outcome.code()) == code)
    }
}

/// What came of the first operation, and of the second.
pub type Pair = (Outcome, Outcome);

/// What came of both is what comes of one after the other, in one order or the other.
pub fn assert_allowed(allowed: &[Pair], came: Pair) {
    assert!(allowed.contains(&came), "it came to {came:?}, which is none of {allowed:?}");
}

/// Lets `a` and `b` meet as [`meet_at`] does. Returns what came of `a` and of `b`.
pub fn meet<B: Send>(
    dir: &Dir,
    run: &mut Run,
    a: &str,
    needed: &dyn Fn() -> bool,
    waits: &dyn Fn() -> bool,
    b: impl FnOnce() -> B + Send,
    look: &mut dyn FnMut(),
) -> (Outcome, B) {
    let (code, result) = meet_at(dir, run, &format!("attempt {a}"), needed, waits, b, look);
    (Outcome::from_code(code).unwrap_or_else(|| panic!("the victim failed: exit code {code}")), result)
}

/// Runs `b` at its turn, in a thread of its own, while the victim is stopped in `a`. Where `waits` says that the
/// victim has at that point what `b` needs, it goes on as soon as `b` sleeps. If `a` cannot end without `b`, `needed`
/// says from when on. When both are done, and the victim still has what it got, `look` looks. Returns the exit code of the
/// victim and what came of `b`.
pub fn meet_at<B: Send>(
    dir: &Dir,
    run: &mut Run,
    a: &str,
    needed: &dyn Fn() -> bool,
    waits: &dyn Fn() -> bool,
    b: impl FnOnce() -> B + Send,
    look: &mut dyn FnMut(),
) -> (i32, B) {
    std::thread::scope(|scope| {
        let (mut b, mut running) = (Some(b), None);
        let mut result = None;
        let end = run.die(dir, a, &mut |event| match event {
            Event::Moved | Event::Turn if b.is_some() && (event == Event::Turn || needed()) => {
                running = b.take().map(|b| start(scope, b, waits()));
            }
            Event::Done => {
                result = running.take().map(|thread| thread.join().unwrap_or_else(|_| panic!("the other failed")));
                look();
            }
            _ => {}
        });
        let End::Exited(code) = end else { panic!("the victim failed: {end:?}") };
        (code, result.expect("its turn came"))
    })
}

/// Starts `b`, and waits until it has ended; or, if it is to wait for the victim, until it sleeps.
fn start<'scope, B: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    b: impl FnOnce() -> B + Send + 'scope,
    waits: bool,
) -> ScopedJoinHandle<'scope, B> {
    let (sender, receiver) = channel();
    let thread = scope.spawn(move || {
        let _ = sender.send(std::fs::read_link("/proc/thread-self").expect("a thread"));
        b()
    });
    let path = Path::new("/proc").join(receiver.recv().expect("its name")).join("stat");
    let asleep = || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") S "));
    let begun = Instant::now();
    while !(thread.is_finished() || waits && asleep()) {
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        std::thread::yield_now();
    }
    thread
}
