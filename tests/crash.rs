//! Death at every step that changes what others see, in one process, and so also under Miri: the victim is a thread
//! that is a process of its own to `src/sys/heap.rs`, which frees its locks and lets it do nothing more. Without that
//! system nothing of this is compiled; `./check` says how to run it, or
//! `RUSTFLAGS='--cfg memlane_heap' cargo test --test crash --target-dir target/heap`.
#![cfg(any(miri, memlane_heap))]
#![allow(missing_docs)]

mod common;
#[path = "common/victim.rs"]
mod victim;

use Expected::{Object, ObjectOrNothing, ObjectOrOther};
use common::Dir;
use memlane::heap::{die_at, kill_self, peek, start_process};
use memlane::{
    Condvar, Error, LockError, Locked, Mutex, MutexGuard, Name, Options, Origin, OwnerId, Persistence, Segment,
    Shareable, Until, WaitError,
};
use std::cell::Cell;
use std::mem::offset_of;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use victim::die_while;

const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(3);
const OBJECT: &str = "object";

// Where the user's bytes lie, as docs/DESIGN.md draws it.
const DATA: usize = 12_288;

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    changed: Condvar,
    /// Notified inside critical sections, so that there is a step between two changes of the data.
    between: Condvar,
    state: Mutex<State>,
    /// Written when the object is made, and never again.
    table: [u64; 8],
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct State {
    /// Changed under the lock, `a` first: in complete data it is equal to `b`.
    a: u64,
    b: u64,
    turn: u64,
    waiting: u64,
    victim: OwnerId,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Other {
    value: Mutex<u64>,
}

/// What a death may leave under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Object,
    ObjectOrNothing,
    /// Also the object of another type that had the name before.
    ObjectOrOther,
}

/// One victim, that dies at its `step`-th step.
struct Run {
    dir: Dir,
    name: Name,
    step: u64,
    persistence: Persistence,
    survived: Cell<bool>,
}

impl Run {
    /// Lets `victim` die, see [`die_while`].
    fn die_while(
        &self,
        victim: impl FnOnce(&Name, &dyn Fn()) + Send + 'static,
        ready: impl FnOnce(),
        meanwhile: impl FnMut(),
    ) {
        let name = self.name.clone();
        self.survived.set(die_while(self.step, move |begin| victim(&name, begin), ready, meanwhile));
    }

    fn die(&self, victim: impl FnOnce(&Name, &dyn Fn()) + Send + 'static) {
        self.die_while(victim, || (), || ());
    }

    fn object(&self) -> Segment<Shared> {
        create(&self.name, self.persistence).expect("a fresh object")
    }

    /// The 32 bits at `offset` of the shared value, the lower half of a lock's word.
    fn peek(&self, offset: usize) -> u32 {
        let (mut word, low) = ([0; 8], offset == offset_of!(Shared, state));
        let word = if low { &mut word[..] } else { &mut word[..4] };
        peek(self.dir.path(), OBJECT, word, (DATA + offset) as u64).expect("it is there");
        let half = if low && cfg!(target_endian = "big") { &word[4..] } else { &word[..4] };
        half.try_into().map_or(0, u32::from_ne_bytes)
    }

    fn lock_is_awaited(&self) -> bool {
        self.peek(offset_of!(Shared, state)) & 1 << 31 != 0
    }

    fn condition_is_awaited(&self) -> bool {
        self.peek(offset_of!(Shared, changed)) & 1 != 0
    }
}

fn create(name: &Name, persistence: Persistence) -> Result<Segment<Shared>, Error> {
    Segment::create(name, (), &Options::new().persistence(persistence), |shared: &mut Shared| shared.table = [7; 8])
}

fn open(name: &Name) -> Segment<Shared> {
    Segment::open(name).expect("the object")
}

fn lock(shared: &Segment<Shared>) -> MutexGuard<'_, State> {
    shared.state.lock_timeout(shared, PATIENCE).expect("the lock").or_repair(|state| state.b = state.a)
}

/// Lets victims of one operation die at each of its steps, with objects of each persistence.
fn die_everywhere(persistences: &[Persistence], scenario: impl Fn(&Run)) {
    for persistence in persistences.iter().copied() {
        for step in 1.. {
            let dir = Dir::new();
            let run = Run { name: dir.name(OBJECT), dir, step, persistence, survived: Cell::new(false) };
            scenario(&run);
            if run.survived.get() {
                println!("{persistence:?}: {} deaths", step - 1);
                assert!(step > 1, "an operation without steps");
                break;
            }
        }
    }
}

const BOTH: &[Persistence] = &[Persistence::Keep, Persistence::UntilLastUser];
const UNTIL_LAST_USER: &[Persistence] = &[Persistence::UntilLastUser];

// ---------------------------------------------------------------------------------------------------------------
// What must hold after a death

/// Whoever comes next finds what was expected, can use it, remove it, and make it anew, and nothing is left over.
/// `ours` is how often this process is attached.
fn next_user(run: &Run, expected: Expected, ours: usize) {
    for object in memlane::list(Some(run.dir.path())).expect("a list") {
        assert_eq!(object.problem, None);
        let living = object.users.iter().filter(|user| user.pid == std::process::id()).count();
        assert!(living == object.users.len() && (living == ours || expected != Object), "{object:?}");
    }
    if run.step % 2 == 0 {
        match Segment::<Shared>::open(&run.name) {
            Ok(shared) => works(&shared),
            Err(Error::NotFound { .. }) => {
                assert_ne!(expected, Object, "the object is gone");
                assert!(run.dir.files().is_empty(), "a dead object keeps its name");
            }
            Err(Error::TypeMismatch { .. }) if expected == ObjectOrOther => {}
            Err(error) => panic!("neither an object nor a clean end: {error}"),
        }
    }
    let next = match create(&run.name, Persistence::UntilLastUser) {
        Err(error @ Error::AlreadyExists { .. }) => {
            assert!(ours > 0 || run.persistence == Persistence::Keep, "a dead object keeps its name: {error}");
            memlane::remove(&run.name).expect("it exists");
            create(&run.name, Persistence::UntilLastUser)
        }
        result => result,
    };
    let next = next.expect("the name can be used again");
    assert!(next.origin() == Origin::Created || ours > 0);
    works(&next);
    drop(next);
    if ours > 0 {
        let _ = memlane::remove(&run.name); // it was taken over, and those it was taken over from use it still
    }
    assert_eq!(run.dir.files(), [""; 0], "something was left over");
}

/// The object is as it was made, its data is complete or marked, its lock can be had, its condition wakes.
fn works(shared: &Segment<Shared>) {
    assert_eq!(shared.table, [7; 8], "the object is not what its creator made");
    match shared.state.lock_timeout(shared, PATIENCE).expect("the dead keep no lock") {
        Locked::Clean(state) => assert_eq!(state.a, state.b, "half-changed data without a mark"),
        Locked::OwnerDied(mut died) => {
            died.b = died.a;
            drop(died.mark_consistent());
        }
    }
    let turn = clean(shared).turn + 1;
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut state = clean(shared);
            state.waiting = turn;
            let state = shared.changed.wait_while(state, Until::timeout(PATIENCE), |state| state.turn < turn);
            matches!(state, Ok(Locked::Clean(_)))
        });
        // The waiter gives the lock back in the wait, and not before.
        while clean(shared).waiting != turn {
            thread::yield_now();
        }
        clean(shared).turn = turn;
        if turn % 2 == 0 {
            shared.changed.notify_all()
        } else {
            shared.changed.notify_one()
        }
        assert!(waiter.join().expect("no panic"), "a notification was lost");
    });
}

/// The lock, whose data has been repaired.
fn clean(shared: &Segment<Shared>) -> MutexGuard<'_, State> {
    match shared.state.lock_timeout(shared, PATIENCE) {
        Ok(Locked::Clean(state)) => state,
        other => panic!("a lock in good order: {other:?}"),
    }
}

/// Nobody but the victim uses the object.
fn alone(run: &Run, victim: impl FnOnce(&Name, &dyn Fn()) + Send + 'static) {
    run.die(victim);
    next_user(run, ObjectOrNothing, 0);
}

/// We use the object too, and it goes on to work.
fn beside_us(run: &Run, victim: impl FnOnce(&Name, &dyn Fn()) + Send + 'static) {
    let ours = run.object();
    run.die(victim);
    after(run, &ours);
}

fn after(run: &Run, ours: &Segment<Shared>) {
    works(ours);
    next_user(run, Object, 1);
    works(ours);
}

/// Its only user dies, and leaves the object.
fn make_dead(name: Name) {
    let died = start_process(move || {
        let _shared = create(&name, Persistence::UntilLastUser).expect("a fresh object");
        kill_self();
    });
    assert_eq!(died.recv(), Ok(false));
}

/// An object that we use, and whose creator is gone.
fn orphan<T: Shareable<Tail = ()>>(name: &Name, init: impl FnOnce(&mut T)) -> Segment<T> {
    let creator = Segment::<T>::create(name, (), &Options::new(), init).expect("a fresh object");
    let ours = Segment::open(name).expect("the same object");
    drop(creator);
    ours
}

// ---------------------------------------------------------------------------------------------------------------
// Names

/// Creates, and keeps the object until after its end.
fn creates(persistence: Persistence) -> impl FnOnce(&Name, &dyn Fn()) + Send + 'static {
    move |name, begin| {
        begin();
        let _shared = create(name, persistence).expect("an object");
        die_at(0);
    }
}

#[test]
fn death_in_create() {
    die_everywhere(BOTH, |run| alone(run, creates(run.persistence)));
}

#[test]
fn death_in_create_in_place_of_a_dead_one() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        make_dead(run.name.clone());
        alone(run, creates(run.persistence));
    });
}

#[test]
fn death_in_create_that_takes_an_orphan_over() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        let ours = orphan(&run.name, |shared: &mut Shared| shared.table = [7; 8]);
        run.die(creates(run.persistence));
        after(run, &ours);
    });
}

#[test]
fn death_in_create_that_retires_an_orphan_of_another_type() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        let ours = orphan(&run.name, |other: &mut Other| *other.value.get_mut() = 1);
        run.die(creates(run.persistence));
        match ours.value.try_lock(&ours) {
            Ok(Locked::Clean(value)) => assert_eq!((*value, run.dir.files().as_slice()), (1, &[OBJECT.into()][..])),
            Err(LockError::Retired { .. }) => {}
            other => panic!("neither alive nor retired: {other:?}"),
        }
        next_user(run, ObjectOrOther, 1);
        assert!(matches!(ours.value.try_lock(&ours), Err(LockError::Retired { .. })), "the next create retires it");
    });
}

fn anonymous(persistence: Persistence) -> Segment<Shared> {
    create(&Name::anonymous(OBJECT).expect("a label"), persistence).expect("a fresh object")
}

#[test]
fn death_in_handing_over_what_has_no_name() {
    die_everywhere(BOTH, |run| {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        let (persistence, there) = (run.persistence, Arc::new(there));
        let socket = Arc::clone(&there);
        run.die(move |_, begin| {
            begin();
            let shared = anonymous(persistence);
            shared.region().send_over(&socket).expect("there is room");
            die_at(0);
        });
        // What comes is the victim's, if it came to that, and else this.
        let ours = anonymous(persistence);
        ours.region().send_over(&there).expect("there is room");
        let name = Name::receive_from(&here).expect("an object");
        match Segment::open(&name) {
            Ok(shared) => {
                assert!(persistence == Persistence::Keep || name == *ours.region().name(), "nobody uses it");
                works(&shared);
            }
            Err(Error::NotFound { .. }) => assert_eq!(persistence, Persistence::UntilLastUser, "it is kept"),
            Err(error) => panic!("neither an object nor a clean end: {error}"),
        }
    });
}

#[test]
fn death_in_receiving_and_opening() {
    die_everywhere(BOTH, |run| {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        let ours = anonymous(run.persistence);
        ours.region().send_over(&there).expect("there is room");
        run.die(move |_, begin| {
            begin();
            let _shared = open(&Name::receive_from(&here).expect("an object"));
            die_at(0);
        });
        works(&ours);
        works(&open(ours.region().name()));
    });
}

fn opens(name: &Name, begin: &dyn Fn()) {
    begin();
    let _shared = open(name);
    die_at(0);
}

#[test]
fn death_in_open() {
    die_everywhere(BOTH, |run| beside_us(run, opens));
}

#[test]
fn death_in_open_of_what_nobody_uses() {
    die_everywhere(&[Persistence::Keep], |run| {
        drop(run.object());
        run.die(opens);
        next_user(run, Object, 0);
    });
}

#[test]
fn death_in_close() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        beside_us(run, |name, begin| {
            let shared = open(name);
            begin();
            drop(shared);
            die_at(0);
        });
    });
}

#[test]
fn death_in_close_by_the_last_user() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        let persistence = run.persistence;
        alone(run, move |name, begin| {
            let shared = create(name, persistence).expect("a fresh object");
            begin();
            drop(shared);
            die_at(0);
        });
    });
}

#[test]
fn death_in_remove_and_in_retire() {
    for retires in [false, true] {
        die_everywhere(BOTH, |run| {
            let ours = run.object();
            run.die(move |name, begin| {
                begin();
                if retires { memlane::retire(name) } else { memlane::remove(name) }.expect("it is there");
                die_at(0);
            });
            let retired = matches!(ours.state.try_lock(&ours), Err(LockError::Retired { .. }));
            if retired {
                assert!(retires, "a removed object goes on to work");
            } else {
                works(&ours);
                assert!(!retires || run.dir.files() == [OBJECT], "the name went before its users were told");
            }
            next_user(run, ObjectOrNothing, 1);
        });
    }
}

#[test]
fn death_in_gc() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        let living = create(&run.dir.name("living"), run.persistence).expect("a fresh object");
        make_dead(run.name.clone());
        run.die(|name, begin| {
            begin();
            assert_eq!(memlane::gc(name.directory(), false).expect("a directory").len(), 1);
            die_at(0);
        });
        works(&living);
        works(&open(&run.dir.name("living")));
        drop(living);
        next_user(run, ObjectOrNothing, 0);
    });
}

// ---------------------------------------------------------------------------------------------------------------
// Locks

/// Locks, and changes the data.
fn locks(name: &Name, begin: &dyn Fn()) {
    let shared = open(name);
    begin();
    let mut state = lock(&shared);
    state.a += 1;
    shared.between.notify_one();
    state.b += 1;
    die_at(0);
}

fn unlocks(name: &Name, begin: &dyn Fn()) {
    let shared = open(name);
    let mut state = lock(&shared);
    state.a += 1;
    begin();
    state.b += 1;
    state.unlock();
    die_at(0);
}

#[test]
fn death_in_lock_and_in_unlock() {
    die_everywhere(UNTIL_LAST_USER, |run| beside_us(run, locks));
    die_everywhere(UNTIL_LAST_USER, |run| beside_us(run, unlocks));
}

#[test]
fn death_in_lock_that_waits() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        let ours = run.object();
        let mut state = Some(lock(&ours));
        run.die_while(
            locks,
            || (),
            || {
                if run.lock_is_awaited() {
                    drop(state.take());
                }
            },
        );
        drop(state);
        after(run, &ours);
    });
}

#[test]
fn death_in_lock_after_a_dead_holder_repaired_or_not() {
    for repairs in [false, true] {
        die_everywhere(UNTIL_LAST_USER, |run| {
            let ours = run.object();
            let name = run.name.clone();
            let died = start_process(move || {
                let shared = open(&name);
                let mut state = lock(&shared);
                state.a += 1;
                kill_self();
            });
            assert_eq!(died.recv(), Ok(false));
            run.die(move |name, begin| {
                let shared = open(name);
                begin();
                match shared.state.lock_timeout(&shared, PATIENCE) {
                    Ok(Locked::OwnerDied(mut died)) if repairs => {
                        died.b = died.a;
                        drop(died.mark_consistent());
                    }
                    other => assert!(matches!(other, Ok(Locked::OwnerDied(_)))),
                }
                die_at(0);
            });
            after(run, &ours);
        });
    }
}

#[test]
fn death_in_unlock_while_another_waits() {
    die_everywhere(UNTIL_LAST_USER, |run| {
        let ours = run.object();
        thread::scope(|scope| {
            let waits = || {
                scope.spawn(|| match ours.state.lock_timeout(&ours, PATIENCE).expect("the dead keep no lock") {
                    Locked::Clean(state) => assert_eq!(state.a, state.b),
                    Locked::OwnerDied(mut died) => {
                        died.b = died.a;
                        drop(died.mark_consistent());
                    }
                });
                while !run.lock_is_awaited() {
                    thread::yield_now();
                }
            };
            run.die_while(unlocks, waits, || ());
        });
        after(run, &ours);
    });
}

// ---------------------------------------------------------------------------------------------------------------
// Conditions

/// We wait for the condition that the victim makes true, and know that it is the one to do so.
#[test]
fn death_in_notify() {
    for all in [false, true] {
        die_everywhere(UNTIL_LAST_USER, |run| {
            let ours = run.object();
            let notifies = move |name: &Name, begin: &dyn Fn()| {
                let shared = open(name);
                lock(&shared).victim = shared.region().owner();
                begin();
                lock(&shared).turn = 1;
                if all {
                    shared.changed.notify_all()
                } else {
                    shared.changed.notify_one()
                }
                die_at(0);
            };
            thread::scope(|scope| {
                let waits = || {
                    scope.spawn(|| {
                        let state = lock(&ours);
                        let until = Until::timeout(PATIENCE).or_peer_lost(state.victim);
                        match ours.changed.wait_while(state, until, |state| state.turn == 0) {
                            Ok(Locked::Clean(state)) => assert_eq!(state.turn, 1),
                            Ok(Locked::OwnerDied(died)) => drop(died.mark_consistent()),
                            Err(WaitError::PeerLost { .. }) => {
                                assert_eq!(lock(&ours).turn, 0, "the condition was lost")
                            }
                            Err(other) => panic!("a wait that no death ended: {other}"),
                        }
                    });
                    while !run.condition_is_awaited() {
                        thread::yield_now();
                    }
                };
                run.die_while(notifies, waits, || ());
            });
            after(run, &ours);
        });
    }
}

#[test]
fn death_in_wait() {
    for notified in [false, true] {
        die_everywhere(UNTIL_LAST_USER, |run| {
            let ours = run.object();
            let waits = move |name: &Name, begin: &dyn Fn()| {
                let shared = open(name);
                let state = lock(&shared);
                let limit = if notified { PATIENCE } else { MOMENT };
                begin();
                let result = shared.changed.wait_while(state, Until::timeout(limit), |state| state.turn == 0);
                die_at(0);
                assert_eq!(result.is_ok(), notified);
            };
            let mut told = !notified;
            run.die_while(
                waits,
                || (),
                || {
                    if !told && run.condition_is_awaited() {
                        lock(&ours).turn = 1;
                        ours.changed.notify_one();
                        told = true;
                    }
                },
            );
            after(run, &ours);
        });
    }
}
