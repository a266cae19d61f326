//! The operations on a service, as the parent sees them: what is there before, what it does meanwhile, what must hold
//! after.

use crate::common::{Dir, times};
use crate::peek::{directory_is_locked, messages_are_awaited, release_is_awaited};
use crate::scenarios::{Run, wait_until};
use crate::service_after::{Expected, settle};
use crate::service_peers::{FIRST, LARGE, Ours, SECOND, SLOTS, SMALL, Serve, other};
use crate::victim::PATIENCE;
use memlane::RecvError;
use memlane_crash::{End, Event};
use std::ops::RangeInclusive;
use std::time::Duration;

/// An operation, and what a death in it may leave.
pub struct Row {
    pub title: &'static str,
    act: &'static str,
    expected: Expected,
    scenario: fn(&Dir, &mut Run, &Row),
    /// Most of its instructions are those of another row: done with `MEMLANE_LONG=1`.
    long: bool,
}

impl Row {
    pub fn run(&self, dir: &Dir, run: &mut Run) {
        (self.scenario)(dir, run, self);
    }

    /// Nobody has survived.
    pub fn look(&self, dir: &Dir) {
        settle(Ours::nobody(), dir, &self.expected);
    }

    /// These have survived.
    fn settle(&self, ours: Ours, dir: &Dir, end: Died) {
        let mut expected = self.expected.clone();
        match end {
            // Killed at a failpoint while it prepared.
            Died::Early => (expected.asked, expected.kept) = (0..=*expected.asked.end(), 0..=*expected.kept.end()),
            // It had dealt with all that it did not leave, and nobody asked since.
            Died::After if !self.act.ends_with("what comes") => {
                expected.kept = *expected.kept.start()..=*expected.kept.start();
            }
            Died::Within | Died::After => {}
        }
        settle(ours, dir, &expected);
    }

    fn die(&self, dir: &Dir, run: &mut Run, on: &mut dyn FnMut(Event)) -> Died {
        let mut died = Died::Early;
        let end = run.die(dir, &format!("service {}", self.act), &mut |event| {
            if event == Event::Ready {
                died = Died::Within;
            }
            on(event);
        });
        if end == End::Done { Died::After } else { died }
    }
}

/// When the victim has died: before its operation, in it, or when it was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Died {
    Early,
    Within,
    After,
}

const fn row(
    title: &'static str,
    act: &'static str,
    (asked, kept): (RangeInclusive<usize>, RangeInclusive<usize>),
    scenario: fn(&Dir, &mut Run, &Row),
) -> Row {
    Row { title, act, expected: Expected { asked, kept, unanswered: 0, nothing: false }, scenario, long: false }
}

impl Row {
    const fn unanswered(mut self, unanswered: usize) -> Self {
        self.expected.unanswered = unanswered;
        self
    }

    const fn in_the_long_form(mut self) -> Self {
        self.long = true;
        self
    }

    const fn or_nothing(mut self) -> Self {
        self.expected.nothing = true;
        self
    }
}

/// The victim asks nothing.
const NONE: (RangeInclusive<usize>, RangeInclusive<usize>) = (0..=0, 0..=0);

/// The victim asks so often.
const fn asks(asked: RangeInclusive<usize>) -> (RangeInclusive<usize>, RangeInclusive<usize>) {
    (asked, 0..=0)
}

/// The victim's successor gets so many requests.
const fn leaves(kept: RangeInclusive<usize>) -> (RangeInclusive<usize>, RangeInclusive<usize>) {
    (0..=0, kept)
}

pub fn rows() -> Vec<Row> {
    let mut rows = all();
    rows.retain(|row| times(0, 1) == 1 || !row.long);
    rows
}

fn all() -> Vec<Row> {
    vec![
        row("service: create", "create", NONE, alone).or_nothing(),
        row("service: open or create, with nothing there", "open or create", NONE, alone)
            .or_nothing()
            .in_the_long_form(),
        row("service: create, taking over an orphan", "create", leaves(2..=2), orphaned).in_the_long_form(),
        row("service: open a server after one that closed", "open a server", leaves(2..=2), orphaned)
            .in_the_long_form(),
        row("service: open a server after a dead one", "open a server", leaves(2..=2), after_a_dead_server),
        row("service: open a client", "open a client", NONE, beside).in_the_long_form(),
        row("service: open a client after a dead one", "open a client", leaves(2..=2), after_a_dead_client),
        row("service: wait for it", "wait for the service", NONE, created_later).or_nothing().in_the_long_form(),
        row("service: wait for a server", "wait for a server", NONE, served_later),
        row("service: ask, large, a sleeper", "ask large", asks(0..=1), a_sleeper),
        row("service: ask, small, a sleeper", "ask small", asks(0..=1), a_sleeper),
        row("service: ask, where room was made", "ask a third", asks(2..=3), answered),
        row("service: ask, blocked until room is made", "ask a third", asks(2..=3), answered_later),
        row("service: ask the dead", "ask the dead", leaves(2..=2), of_the_dead),
        row("service: ask, forget, and close", "ask and forget", asks(0..=1), a_sleeper).in_the_long_form(),
        row("service: take a large answer", "take the answer", asks(1..=1), answered),
        row("service: take a small answer", "take a small answer", asks(1..=1), answered),
        row("service: take an answer, asleep until it comes", "take the answer", asks(1..=1), answered_later),
        row("service: take any answer, asleep", "take any answer", asks(1..=1), answered_later).in_the_long_form(),
        row("service: take answers out of order", "take the second first", asks(2..=2), answered),
        row("service: wait in vain for an answer", "wait in vain", asks(1..=1), beside).in_the_long_form(),
        row("service: wait for an answer of the dead", "wait for the dead", leaves(2..=2), of_the_dead),
        row("service: close a client that waits for an answer", "close", asks(1..=1), beside).in_the_long_form(),
        row("service: close a client that has not taken its answer", "close", asks(1..=1), answered).in_the_long_form(),
        row("service: close a client that has an answer", "close, with an answer", asks(2..=2), answered),
        row("service: receive a large request", "server: receive", leaves(2..=2), asked_large),
        row("service: receive a small request", "server: receive", leaves(2..=2), asked_small),
        row("service: receive, asleep until it is asked", "server: receive what comes", leaves(0..=2), asked_later),
        row("service: receive in vain", "server: receive in vain", NONE, not_asked).in_the_long_form(),
        row("service: try to receive", "server: try to receive", leaves(2..=2), asked_large).in_the_long_form(),
        row("service: reply, large", "server: reply", leaves(1..=2), asked_large),
        row("service: reply, small", "server: reply", leaves(1..=2), asked_small),
        row("service: reply, blocked until room is made", "server: reply", leaves(1..=2), answers_left)
            .in_the_long_form(),
        row("service: reply to several, the last first", "server: reply out of order", leaves(0..=3), asked_by_two),
        row("service: reply to the second only", "server: reply to the second", leaves(1..=2), asked_large)
            .in_the_long_form(),
        row("service: reply to the dead", "server: reply to the dead", leaves(2..=2), of_the_dead),
        row("service: drop a request", "server: drop a request", leaves(1..=2), asked_large).unanswered(1),
        row("service: give a request back", "server: give a request back", leaves(2..=2), asked_large)
            .in_the_long_form(),
        row("service: close a server that has a request", "server: close", leaves(1..=2), asked_large),
    ]
}

fn quietly(_: Event) {}

/// Nobody but the victim uses the service.
fn alone(dir: &Dir, run: &mut Run, row: &Row) {
    let died = row.die(dir, run, &mut quietly);
    row.settle(Ours::nobody(), dir, died);
}

/// Beside a server, which does nothing meanwhile.
fn beside(dir: &Dir, run: &mut Run, row: &Row) {
    let ours = Ours::new(dir);
    let died = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, died);
}

/// A client has asked for these lengths, and the server has closed.
fn asked(dir: &Dir, lens: &[usize]) -> Ours {
    let mut ours = Ours::with_client(dir);
    lens.iter().for_each(|len| _ = ours.askers[0].ask(*len));
    ours.serve = None;
    ours
}

fn orphaned(dir: &Dir, run: &mut Run, row: &Row) {
    let ours = asked(dir, &[LARGE, SMALL]);
    let died = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, died);
}

/// A client of ours has the place of a dead one, with its requests.
fn after_a_dead_server(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::all_dead(dir);
    ours.open_asker(dir, FIRST);
    let died = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, died);
}

/// Its place is the first one that the victim finds.
fn after_a_dead_client(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::all_dead(dir);
    ours.open_server(dir);
    let died = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, died);
}

/// All others are dead, and the service is kept. The victim has the place of the dead client, with its requests.
fn of_the_dead(dir: &Dir, run: &mut Run, row: &Row) {
    let ours = Ours::all_dead(dir);
    let died = row.die(dir, run, &mut quietly);
    row.settle(ours, dir, died);
}

/// We create the service after the victim has looked for it.
fn created_later(dir: &Dir, run: &mut Run, row: &Row) {
    let (mut ours, mut looked) = (None, false);
    let died = row.die(dir, run, &mut |_| {
        let looks = directory_is_locked(dir);
        if looked && !looks && ours.is_none() {
            ours = Some(Ours::new(dir));
        }
        looked |= looks;
    });
    row.settle(ours.unwrap_or_else(|| Ours::new(dir)), dir, died);
}

/// A server of ours comes when the victim sleeps for it.
fn served_later(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = asked(dir, &[]);
    let died = row.die(dir, run, &mut |_| {
        if ours.serve.is_none() && messages_are_awaited(dir) {
            ours.open_server(dir);
        }
    });
    row.settle(ours, dir, died);
}

/// Our server sleeps until the victim asks, or we do after its death.
fn a_sleeper(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::with_client(dir);
    let mut serve = ours.serve.take();
    std::thread::scope(|scope| {
        let mut sleeper = None;
        let died = row.die(dir, run, &mut |event| {
            if event == Event::Ready {
                let mut serve = serve.take().expect("one");
                sleeper = Some(scope.spawn(move || {
                    let served = |serve: &mut Serve| serve.serve(PATIENCE);
                    while served(&mut serve).expect("a request, in the end").0 != FIRST {}
                    serve
                }));
                wait_until(|| messages_are_awaited(dir));
            }
        });
        if let Some(sleeper) = sleeper {
            ours.askers[0].ask(SMALL);
            serve = Some(sleeper.join().expect("a server that goes on"));
        }
        ours.serve = serve;
        row.settle(ours, dir, died);
    });
}

/// Our server has answered all, once the victim is ready.
fn answered(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::new(dir);
    let died = row.die(dir, run, &mut |event| {
        if event == Event::Ready {
            ours.drain();
        }
    });
    row.settle(ours, dir, died);
}

/// Our server answers as much as the victim can leave lying, once the victim sleeps for that.
fn answered_later(dir: &Dir, run: &mut Run, row: &Row) {
    let (mut ours, mut left) = (Ours::new(dir), SLOTS);
    let died = row.die(dir, run, &mut |_| {
        if messages_are_awaited(dir) || release_is_awaited(dir) {
            let serve = ours.serve.as_mut().expect("one");
            while left > 0 && serve.serve(Duration::ZERO).is_ok() {
                left -= 1;
            }
        }
    });
    row.settle(ours, dir, died);
}

fn asked_large(dir: &Dir, run: &mut Run, row: &Row) {
    waits_for_the_victim(dir, run, row, asked(dir, &[LARGE, LARGE]));
}

fn asked_small(dir: &Dir, run: &mut Run, row: &Row) {
    waits_for_the_victim(dir, run, row, asked(dir, &[SMALL, SMALL]));
}

fn not_asked(dir: &Dir, run: &mut Run, row: &Row) {
    waits_for_the_victim(dir, run, row, asked(dir, &[]));
}

/// Two clients have asked; what the first asked second is received last.
fn asked_by_two(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = asked(dir, &[LARGE, SMALL]);
    ours.open_asker(dir, SECOND).ask(SMALL);
    waits_for_the_victim(dir, run, row, ours);
}

/// A client of ours sleeps until an answer comes, and goes on so; then it is told that its server, the victim, is dead.
fn waits_for_the_victim(dir: &Dir, run: &mut Run, row: &Row, mut ours: Ours) {
    let mut first = None;
    std::thread::scope(|scope| {
        let (mut sleeper, mut victim) = (None, None);
        let died = row.die(dir, run, &mut |event| {
            if event == Event::Ready {
                victim = other(dir);
                let mut asker = ours.askers.remove(0);
                sleeper = Some(scope.spawn(move || {
                    let ended = asker.wait_for_the_end();
                    (asker, ended)
                }));
                wait_until(|| messages_are_awaited(dir));
            }
        });
        if let Some(sleeper) = sleeper {
            let (asker, ended) = sleeper.join().expect("a client that is told");
            match ended {
                RecvError::SenderDied { sender, .. } => {
                    assert!(victim.is_some() && sender.as_ref().map(|who| who.pid) == victim, "{sender:?}");
                }
                RecvError::Closed { .. } => assert!(row.act.ends_with("close"), "it has died, and not closed"),
                other => panic!("{other}"),
            }
            first = Some(asker);
        }
        ours.askers.extend(first);
        row.settle(ours, dir, died);
    });
}

/// We ask when the victim sleeps for that.
fn asked_later(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = asked(dir, &[]);
    let died = row.die(dir, run, &mut |_| {
        if ours.askers[0].open.is_empty() && messages_are_awaited(dir) {
            [LARGE, SMALL].into_iter().for_each(|len| _ = ours.askers[0].ask(len));
        }
    });
    row.settle(ours, dir, died);
}

/// As many answers as there can be wait for our client, which takes them when the victim sleeps for that.
fn answers_left(dir: &Dir, run: &mut Run, row: &Row) {
    let mut ours = Ours::with_client(dir);
    for _ in 0..2 {
        ours.askers[0].ask(LARGE);
        ours.serve.as_mut().expect("one").serve(PATIENCE).expect("a request");
    }
    (0..2).for_each(|_| _ = ours.askers[0].ask(LARGE));
    ours.serve = None;
    let died = row.die(dir, run, &mut |_| {
        if release_is_awaited(dir) {
            ours.askers[0].collect();
            ours.askers[0].let_go();
        }
    });
    row.settle(ours, dir, died);
}
