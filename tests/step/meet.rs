//! Two operations meet: ours runs while the victim's is stopped.

use crate::common::Dir;
use crate::scenarios::Run;
use crate::victim::PATIENCE;
use memlane_crash::{End, Event};
use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

/// Runs `b` at its turn, in a thread of its own, while the victim is stopped in `a`. Where `waits` says that the
/// victim has at that point what `b` needs, it goes on as soon as `b` sleeps. When both are done, and the victim still
/// has what it got, `look` looks. Returns the victim's exit code, and what came of `b`.
pub fn meet<B: Send>(
    dir: &Dir,
    run: &mut Run,
    a: &str,
    waits: &dyn Fn() -> bool,
    b: impl FnOnce() -> B + Send,
    look: &mut dyn FnMut(),
) -> (i32, B) {
    meet_early(dir, run, a, &|| false, waits, b, look)
}

/// As [`meet`], where `a` cannot end without `b`: it is `b`'s turn as soon as `needed` says so.
pub fn meet_early<B: Send>(
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
            Event::Moved if b.is_some() && needed() => {
                running = b.take().map(|b| start(scope, b, waits()));
            }
            Event::Turn if b.is_some() => running = b.take().map(|b| start(scope, b, waits())),
            Event::Done => {
                result = running.take().map(|thread| thread.join().unwrap_or_else(|_| panic!("the other failed")));
                look();
            }
            _ => {}
        });
        let End::Exited(code) = end else { panic!("the victim did not come to its end: {end:?}") };
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
    let path = std::path::Path::new("/proc").join(receiver.recv().expect("its name")).join("stat");
    let asleep = || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") S "));
    let begun = Instant::now();
    while !(thread.is_finished() || waits && asleep()) {
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        std::thread::yield_now();
    }
    thread
}
