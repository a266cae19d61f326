//! Two operations on one lock, condition or event, the first stopped at each of its points while the second runs.

use crate::MORE;
use crate::aftermath::{Expected, next_user, works_or_is_retired};
use crate::common::{Dir, times};
use crate::meet::Outcome::{self, Closed, Done, Exists, Held, Missing, Opened, Removed, Repaired, Retired};
use crate::meet::{Meeting, Pair, assert_allowed, meet};
use crate::names;
use crate::peek::{
    condition_is_awaited, event_is_awaited, event_is_set, lock_is_awaited, lock_is_held, reader_is_there,
    second_is_held, turn, waiting, writer_is_there, writer_lets_in,
};
use crate::rwlocks;
use crate::scenarios::{Run, half_change, in_time, wait_until};
use crate::victim::{OBJECT, Shared, State, create};
use memlane::{LockError, Locked, MutexGuard, Persistence, Segment, Until, WaitError, lock_both};
use std::cell::Cell;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

/// What is there before, besides an object that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    Unlocked,
    /// A holder died, and left half-changed data.
    Dirty,
    /// A thread of ours holds the lock.
    Locked,
    /// Two threads of ours wait for something to take.
    Takers,
    /// The event is set.
    Set,
}
use World::{Dirty, Set, Takers, Unlocked};

const PAIRS: &[(World, &str, &str, &[Pair])] = &[
    (Unlocked, "count", "count", &[(Done, Done)]),
    (Unlocked, "count", "try to count", &[(Done, Done), (Done, Held)]),
    (Unlocked, "count", "count for a while", &[(Done, Done), (Done, Held)]),
    (Unlocked, "count", "count both", &[(Done, Done)]),
    (Unlocked, "try to count", "count and hold", &[(Done, Done), (Done, Held), (Held, Done)]),
    (Unlocked, "count for a while", "count and hold", &[(Done, Done), (Done, Held), (Held, Done)]),
    (Dirty, "try to count", "count and hold", &[(Repaired, Done), (Repaired, Held), (Held, Repaired)]),
    (Unlocked, "count", "create", &[(Done, Exists)]),
    (Unlocked, "count", "open", &[(Done, Opened)]),
    (Unlocked, "count", "close", &[(Done, Closed)]),
    (Unlocked, "count", "gc", &[(Done, Missing)]),
    (Unlocked, "count", "remove", &[(Done, Removed)]),
    (Unlocked, "count", "retire", &[(Done, Removed), (Retired, Removed)]),
    (Unlocked, "count both", "count", &[(Done, Done)]),
    (Unlocked, "count both", "count both, turned round", &[(Done, Done)]),
    (Dirty, "count", "count", &[(Repaired, Done), (Done, Repaired)]),
    (Dirty, "count", "try to count", &[(Repaired, Done), (Done, Repaired), (Repaired, Held)]),
    (World::Locked, "count", "unlock", &[(Done, Done)]),
    (World::Locked, "count", "retire", &[(Retired, Removed)]),
    (Unlocked, "wait", "give one", &[(Done, Done)]),
    (Unlocked, "wait", "give all", &[(Done, Done)]),
    (Unlocked, "wait", "retire", &[(Retired, Removed)]),
    (Unlocked, "give one", "take", &[(Done, Done)]),
    (Unlocked, "give all", "take", &[(Done, Done)]),
    (Unlocked, "rw read", "rw read", &[(Done, Done)]),
    (Unlocked, "rw read", "rw write", &[(Done, Done)]),
    (Unlocked, "rw write", "rw read", &[(Done, Done)]),
    (Unlocked, "rw write", "rw write", &[(Done, Done)]),
    (Unlocked, "rw write", "rw upgrade", &[(Done, Done)]),
    (Unlocked, "rw upgrade", "rw read", &[(Done, Done)]),
    (Unlocked, "rw upgrade", "rw upgrade", &[(Done, Done)]),
    (Unlocked, "rw downgrade", "rw write", &[(Done, Done)]),
    (Takers, "give one", "give one", &[(Done, Done)]),
    (Takers, "give one", "give all", &[(Done, Done)]),
    (Takers, "give all", "give one", &[(Done, Done)]),
    (Unlocked, "await", "set", &[(Done, Done)]),
    (Unlocked, "await and reset", "set", &[(Done, Done)]),
    (Unlocked, "await", "retire", &[(Retired, Removed)]),
    (Unlocked, "set", "await", &[(Done, Done)]),
    (Unlocked, "set", "await and reset", &[(Done, Done)]),
    (Unlocked, "set", "reset", &[(Done, Done), (Done, Missing)]),
    (Set, "set", "reset", &[(Done, Done)]),
    (Set, "reset", "set", &[(Done, Done)]),
    (Set, "reset", "reset", &[(Done, Missing), (Missing, Done)]),
];

/// What [`attempt`] does.
const ACTS: [&str; 17] = [
    "count",
    "try to count",
    "count for a while",
    "count both",
    "count both, turned round",
    "wait",
    "take",
    "give one",
    "give all",
    "await",
    "await and reset",
    "set",
    "reset",
    "rw read",
    "rw write",
    "rw upgrade",
    "rw downgrade",
];

pub fn is_act(act: &str) -> bool {
    ACTS.contains(&act)
}

/// One operation on the locks, as both sides do it.
pub fn attempt(shared: &Segment<Shared>, act: &str) -> Outcome {
    match act {
        "count" => counted(in_time(|limit| shared.state.lock_timeout(shared, limit))),
        "try to count" => counted(shared.state.try_lock(shared)),
        "count for a while" => counted(shared.state.lock_timeout(shared, Duration::from_millis(1))),
        "count both" => match in_time(|limit| lock_both(&shared.state, &shared.second, shared, Some(limit))) {
            Ok((state, second)) => counted_both(state, second),
            Err(error) => panic!("{act}: {error}"),
        },
        "count both, turned round" => {
            match in_time(|limit| lock_both(&shared.second, &shared.state, shared, Some(limit))) {
                Ok((second, state)) => counted_both(state, second),
                Err(error) => panic!("{act}: {error}"),
            }
        }
        "wait" | "take" => taken(shared, u64::from(act == "take")),
        "give one" | "give all" => {
            let state = in_time(|limit| shared.state.lock_timeout(shared, limit)).expect("the lock");
            state.or_repair(|_| ()).turn += 1;
            if act == "give one" {
                shared.changed.notify_one()
            } else {
                shared.changed.notify_all()
            }
            Done
        }
        "await" => set_in_time(|until| shared.event.wait(shared, until)),
        "await and reset" => set_in_time(|until| shared.event.take(shared, until)),
        "set" => {
            shared.event.set();
            Done
        }
        act if act.starts_with("rw ") => rwlocks::attempt(shared, act),
        "reset" if shared.event.reset() => Done,
        "reset" => Missing,
        other => panic!("no operation {other}"),
    }
}

fn set_in_time(wait: impl FnOnce(Until) -> Result<(), WaitError>) -> Outcome {
    match in_time(|limit| wait(Until::timeout(limit))) {
        Ok(()) => Done,
        Err(WaitError::Lock(LockError::Retired { .. })) => Retired,
        Err(error) => panic!("{error}"),
    }
}

fn counted(locked: Result<Locked<MutexGuard<State>>, LockError>) -> Outcome {
    let (mut state, outcome) = match locked {
        Ok(Locked::Clean(state)) => (state, Done),
        Ok(Locked::OwnerDied(mut died)) => {
            died.b = died.a;
            (died.mark_consistent(), Repaired)
        }
        Err(LockError::TimedOut { holder: Some(_), .. }) => return Held,
        Err(LockError::Retired { .. }) => return Retired,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(state.a, state.b, "somebody else is at it");
    state.a += 1;
    state.b += 1;
    outcome
}

fn counted_both(state: Locked<MutexGuard<State>>, second: Locked<MutexGuard<u64>>) -> Outcome {
    *second.or_repair(|_| ()) += 1;
    counted(Ok(state))
}

/// Waits until there is something to take, and takes so many of it.
fn taken(shared: &Segment<Shared>, count: u64) -> Outcome {
    let result = in_time(|limit| {
        let mut state = shared.state.lock_timeout(shared, limit)?.or_repair(|_| ());
        state.waiting += 1;
        shared.changed.wait_while(state, Until::timeout(limit), |state| state.turn == 0)
    });
    match result {
        Ok(state) => {
            state.or_repair(|_| ()).turn -= count;
            Done
        }
        Err(WaitError::Lock(LockError::Retired { .. })) => Retired,
        Err(error) => panic!("{error}"),
    }
}

pub fn meetings() -> impl Iterator<Item = Meeting> {
    PAIRS.iter().map(|&(world, a, b, allowed)| Meeting {
        first: format!("{a}, {world:?}").to_lowercase(),
        title: format!("{a} | {b} ({world:?})").to_lowercase(),
        before: times(6, 16),
        further: times(0, MORE),
        run: Box::new(move |dir, run| run_pair(world, a, b, allowed, dir, run)),
    })
}

fn run_pair(world: World, a: &str, b: &str, allowed: &[Pair], dir: &Dir, run: &mut Run) {
    let mut ours = create(dir.name(OBJECT), Persistence::UntilLastUser).expect("a fresh object");
    let mut closes = None;
    if b == "close" {
        closes = Some(std::mem::replace(&mut ours, Segment::open(dir.name(OBJECT)).expect("the same object")));
    }
    match world {
        Dirty => half_change(dir),
        Set => ours.event.set(),
        _ => {}
    }
    let (came, theirs) = std::thread::scope(|scope| {
        let mut holder = Holder::default();
        if world == World::Locked {
            assert_eq!(holder.start(scope, &ours), Done);
        }
        let takers: Vec<_> =
            (0..if world == Takers { 2 } else { 0 }).map(|_| scope.spawn(|| taken(&ours, 1))).collect();
        wait_until(|| waiting(dir) as usize == takers.len() && (world != Takers || !lock_is_held(dir)));
        let needed = || if world == World::Locked { lock_is_awaited(dir) } else { needs(a, dir) };
        let held = Cell::new(None);
        let waits = || {
            held.set((world == Unlocked).then(|| lock_is_held(dir)));
            waits(b, dir)
        };
        let other = || match b {
            "count and hold" => (holder.start(scope, &ours), None),
            "unlock" => (holder.end(), None),
            act if is_act(act) => (attempt(&ours, act), None),
            act => names::attempt(dir.path(), act, closes),
        };
        let (first, (second, theirs)) = meet(dir, run, a, &needed, &waits, other, &mut || ());
        let bounded = matches!(b, "try to count" | "count for a while" | "count and hold");
        assert!(!bounded || held.get().is_none_or(|held| held == (second == Held)), "held, if and only if it is");
        takers.into_iter().for_each(|taker| assert_eq!(taker.join().expect("no panic"), Done));
        holder.end();
        ((first, second), theirs)
    });
    assert_allowed(allowed, came);
    drop(theirs);
    check(world, [(a, came.0), (b, came.1)], &ours);
    drop(ours);
    assert_eq!(dir.files(), Vec::<String>::new(), "the last user leaves the name");
    next_user(dir, Expected::ObjectOrNothing, 0, run.number % 2 == 1);
}

/// A thread of ours that counts, and holds the lock with the data half-changed until it is told to end.
#[derive(Default)]
struct Holder<'scope>(Option<(Sender<()>, ScopedJoinHandle<'scope, ()>)>);

impl<'scope> Holder<'scope> {
    /// Says what came of it, if it got the lock.
    fn start<'env: 'scope>(&mut self, scope: &'scope Scope<'scope, 'env>, shared: &'env Segment<Shared>) -> Outcome {
        let (unlock, told) = channel::<()>();
        let (sender, got) = channel();
        let thread = scope.spawn(move || {
            let (mut state, outcome) = match shared.state.try_lock(shared) {
                Ok(Locked::Clean(state)) => (state, Done),
                Ok(Locked::OwnerDied(mut died)) => {
                    died.b = died.a;
                    (died.mark_consistent(), Repaired)
                }
                _ => {
                    let _ = sender.send(Held);
                    return;
                }
            };
            state.a += 1;
            let _ = sender.send(outcome);
            let _ = told.recv();
            state.b += 1;
        });
        self.0 = Some((unlock, thread));
        got.recv().expect("an answer")
    }

    fn end(&mut self) -> Outcome {
        if let Some((unlock, thread)) = self.0.take() {
            drop(unlock);
            thread.join().expect("no panic");
        }
        Done
    }
}

/// Whether the first operation has come to where it needs the second one.
fn needs(a: &str, dir: &Dir) -> bool {
    a == "wait" && condition_is_awaited(dir) || a.starts_with("await") && event_is_awaited(dir)
}

/// Whether the second operation will have to wait for the first one, as things are.
fn waits(b: &str, dir: &Dir) -> bool {
    match b {
        "count" | "give one" | "give all" => lock_is_held(dir),
        "count both" | "count both, turned round" => lock_is_held(dir) || second_is_held(dir),
        "take" => lock_is_held(dir) || turn(dir) == 0,
        "await" | "await and reset" => !event_is_set(dir),
        "rw read" => writer_is_there(dir) && !writer_lets_in(dir),
        b if b.starts_with("rw ") => writer_is_there(dir) || reader_is_there(dir),
        _ => false,
    }
}

/// Nothing that was done under the lock, and nothing that was notified, is lost.
fn check(world: World, done: [(&str, Outcome); 2], ours: &Segment<Shared>) {
    let times = |act: &str| {
        let did = |(other, outcome): &&(&str, Outcome)| other.contains(act) && matches!(outcome, Done | Repaired);
        done.iter().filter(did).count() as u64
    };
    if !ours.region().is_retired() {
        let state = ours.state.try_lock(ours).expect("the lock").or_repair(|_| ());
        let second = ours.second.try_lock(ours).expect("the lock").or_repair(|_| ());
        let counted = times("count") + u64::from(matches!(world, Dirty | World::Locked));
        let left = times("give") - times("take") - if world == Takers { 2 } else { 0 };
        assert_eq!((state.a, *second, state.turn), (counted, times("both"), left), "something was lost");
        let changed = times("rw ") - times("rw read");
        assert_eq!(ours.rw.try_read(ours).expect("the lock").b, changed, "something was lost");
        let awaited = done.iter().find(|(act, _)| act.starts_with("await"));
        assert!(awaited.is_none_or(|(act, _)| ours.event.is_set() == (*act == "await")), "it is taken, or is not");
    }
    works_or_is_retired(ours);
}
