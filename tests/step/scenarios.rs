//! The operations, as the parent sees them: what is there before, what it does meanwhile, what must hold after.

use crate::aftermath::Expected::{self, Object, ObjectOrNothing, ObjectOrOther};
use crate::aftermath::{next_user, works, works_or_is_retired};
use crate::common::Dir;
use crate::events;
use crate::handover;
use crate::peek::{condition_is_awaited, directory_is_locked, lock_is_awaited};
use crate::victim::{Cell, OBJECT, PATIENCE, PLACE, RAW, Shared, command, create, place};
use crate::words;
use memlane::{LockError, Locked, Mutex, Options, Persistence, Segment, Shareable, SharedMemory, Until, WaitError};
use memlane_crash::{End, Event, Files};
use std::time::{Duration, Instant};

pub struct Operation {
    pub title: &'static str,
    pub persistences: &'static [Persistence],
    /// What a death may leave.
    pub expected: Expected,
    pub scenario: fn(&Dir, &mut Run),
}

/// One run of an operation, with objects of one persistence.
pub struct Run<'a, 'b> {
    pub run: &'a mut memlane_crash::Run<'b>,
    pub persistence: Persistence,
    /// For the two orders in which somebody can come next.
    pub number: usize,
}

impl Run<'_, '_> {
    /// Lets a victim do `operation` in `dir`.
    pub fn die(&mut self, dir: &Dir, operation: &str, on: &mut dyn FnMut(Event)) -> End {
        let files = Files::In(dir.path().to_owned());
        self.run
            .victim(command(dir, operation, self.persistence), &files, on)
            .unwrap_or_else(|problem| panic!("{problem}"))
    }
}

const BOTH: &[Persistence] = &[Persistence::Keep, Persistence::UntilLastUser];
pub const UNTIL_LAST_USER: &[Persistence] = &[Persistence::UntilLastUser];

pub const fn operation(
    title: &'static str,
    persistences: &'static [Persistence],
    expected: Expected,
    scenario: fn(&Dir, &mut Run),
) -> Operation {
    Operation { title, persistences, expected, scenario }
}

pub const OPERATIONS: &[Operation] = &[
    operation("create", BOTH, ObjectOrNothing, |dir, run| alone(dir, run, "create")),
    operation("create in place of a dead one", BOTH, ObjectOrNothing, create_in_place_of_a_dead_one),
    operation("create, taking over an orphan", UNTIL_LAST_USER, Object, take_over),
    operation("create, retiring an orphan of another type", UNTIL_LAST_USER, ObjectOrOther, retire_an_orphan),
    operation("open", BOTH, Object, |dir, run| beside_us(dir, run, "open")),
    operation("open or create, with nothing there", UNTIL_LAST_USER, ObjectOrNothing, |dir, run| {
        alone(dir, run, "open or create")
    }),
    operation("wait for an object", UNTIL_LAST_USER, ObjectOrNothing, wait_until_created),
    operation("open for reading", BOTH, Object, |dir, run| beside_us(dir, run, "read")),
    operation("list, space", UNTIL_LAST_USER, Object, |dir, run| beside_us(dir, run, "list")),
    operation("create, map and write raw bytes", UNTIL_LAST_USER, ObjectOrOther, create_raw),
    operation("open, map, write, place, find raw bytes", UNTIL_LAST_USER, ObjectOrOther, use_raw),
    operation("open what nobody uses", &[Persistence::Keep], Object, open_what_nobody_uses),
    operation("close, while others use it", BOTH, Object, |dir, run| beside_us(dir, run, "close")),
    operation("close by the last user", BOTH, ObjectOrNothing, |dir, run| alone(dir, run, "close the last")),
    operation("remove", BOTH, ObjectOrNothing, |dir, run| take_away(dir, run, "remove")),
    operation("remove the name of one's own", BOTH, ObjectOrNothing, |dir, run| take_away(dir, run, "remove the name")),
    operation("retire, while another waits", BOTH, ObjectOrNothing, retire_while_another_waits),
    operation("retire", BOTH, ObjectOrNothing, |dir, run| take_away(dir, run, "retire")),
    operation("gc", UNTIL_LAST_USER, ObjectOrNothing, collect),
    operation("lock", BOTH, Object, |dir, run| beside_us(dir, run, "lock")),
    operation("lock, contended", BOTH, Object, lock_contended),
    operation("lock, held until the time is over", BOTH, Object, |dir, run| lock_held(dir, run, "lock in vain")),
    operation("try to lock, held", BOTH, Object, |dir, run| lock_held(dir, run, "try to lock")),
    operation("lock two", BOTH, Object, |dir, run| beside_us(dir, run, "lock both")),
    operation("lock after a dead holder", BOTH, Object, |dir, run| after_a_dead_holder(dir, run, "lock")),
    operation("unlock", BOTH, Object, |dir, run| beside_us(dir, run, "unlock")),
    operation("unlock, repaired", BOTH, Object, |dir, run| after_a_dead_holder(dir, run, "unlock repaired")),
    operation("unlock, unrepaired", BOTH, Object, |dir, run| after_a_dead_holder(dir, run, "unlock unrepaired")),
    operation("unlock, while another waits", BOTH, Object, unlock_while_another_waits),
    operation("notify one", BOTH, Object, |dir, run| notify(dir, run, "notify one")),
    operation("notify all", BOTH, Object, |dir, run| notify(dir, run, "notify all")),
    operation("wait until notified", BOTH, Object, |dir, run| wait_until_notified(dir, run, "wait")),
    operation("wait once", BOTH, Object, |dir, run| wait_until_notified(dir, run, "wait once")),
    operation("wait until the time is over", BOTH, Object, |dir, run| beside_us(dir, run, "wait in vain")),
    operation("set an event that another one waits for", BOTH, Object, |dir, run| events::set(dir, run, "wait")),
    operation("set an event that another one takes", BOTH, Object, |dir, run| events::set(dir, run, "take")),
    operation("set an event that is set", BOTH, Object, events::set_again),
    operation("reset an event", BOTH, Object, |dir, run| events::reset(dir, run, "reset the event")),
    operation("take an event that is set", BOTH, Object, |dir, run| events::reset(dir, run, "take the event")),
    operation("wait for an event", BOTH, Object, |dir, run| events::wait(dir, run, "wait for the event")),
    operation("take an event", BOTH, Object, |dir, run| events::wait(dir, run, "take the event")),
    operation("take an event until the time is over", BOTH, Object, |dir, run| {
        beside_us(dir, run, "take the event in vain")
    }),
    words("acquire a permit", |dir, run| beside_us(dir, run, "words: acquire")),
    words("acquire a permit, contended", words::acquire_contended),
    words("try to acquire a permit, held", |dir, run| words::acquire_held(dir, run, "try to acquire")),
    words("acquire a permit until the time is over", |dir, run| words::acquire_held(dir, run, "acquire in vain")),
    words("acquire a permit of the dead", words::acquire_of_the_dead),
    words("give permits back, while another waits", words::give_back),
    words("join a barrier", |dir, run| beside_us(dir, run, "words: join")),
    words("arrive at a barrier where another waits", words::arrive),
    words("arrive at a barrier first", words::arrive_first),
    words("wait at a barrier until the time is over", |dir, run| beside_us(dir, run, "words: arrive in vain")),
    words("leave a barrier", |dir, run| beside_us(dir, run, "words: leave")),
    words("leave a barrier where another waits", words::leave_amid),
    words("reset a barrier", words::reset),
    words("initialise once", |dir, run| beside_us(dir, run, "words: initialise")),
    words("initialise once, after one that panicked", words::initialise_after_half),
    words("write a versioned value that others read", words::write_versioned),
    words("update a versioned value, after a dead writer", |dir, run| {
        words::write_after_half(dir, run, "update versioned")
    }),
    words("write a cell", |dir, run| words::write_cell(dir, run, "write cell")),
    words("write a cell, after a dead writer", |dir, run| words::write_after_half(dir, run, "write cell")),
    words("update a cell", |dir, run| words::write_cell(dir, run, "update cell")),
    words("read a cell", |dir, run| words::write_cell(dir, run, "read cell")),
    operation("hand an object over", BOTH, Object, handover::send),
    operation("create without a name, and hand over", BOTH, ObjectOrNothing, handover::send_the_only_one),
    operation("receive an object, and open it", UNTIL_LAST_USER, Object, handover::receive),
    operation(
        "receive an object without a name, and open it",
        UNTIL_LAST_USER,
        ObjectOrNothing,
        handover::receive_without_a_name,
    ),
];

/// One on an object that goes with its last user: what is done to its words is the same for all.
const fn words(title: &'static str, scenario: fn(&Dir, &mut Run)) -> Operation {
    operation(title, UNTIL_LAST_USER, Object, scenario)
}

pub fn quietly(_: Event) {}

pub fn object(dir: &Dir, run: &Run) -> Segment<Shared> {
    create(dir.name(OBJECT), run.persistence).expect("a fresh object")
}

/// The next user comes while `ours` is still there, and does not disturb it.
pub fn after(dir: &Dir, run: &Run, ours: &Segment<Shared>) {
    works(ours);
    next_user(dir, Object, 1, run.number % 2 == 1);
    works(ours);
}

/// Nobody but the victim uses the object.
fn alone(dir: &Dir, run: &mut Run, act: &str) {
    run.die(dir, act, &mut quietly);
    next_user(dir, ObjectOrNothing, 0, run.number % 2 == 1);
}

/// We use the object too.
pub fn beside_us(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    run.die(dir, act, &mut quietly);
    after(dir, run, &ours);
}

/// A file without locks is what a crash of its last user leaves.
pub fn make_dead(dir: &Dir) {
    let original = create(dir.name("original"), Persistence::UntilLastUser).expect("a fresh object");
    std::fs::copy(dir.path().join("original"), dir.path().join(OBJECT)).expect("a copy");
    drop(original);
}

fn create_in_place_of_a_dead_one(dir: &Dir, run: &mut Run) {
    make_dead(dir);
    alone(dir, run, "create");
}

/// An object that we use, and whose creator is gone.
pub fn orphan<T: Shareable<Tail = ()>>(dir: &Dir, init: impl FnOnce(&mut T)) -> Segment<T> {
    let name = dir.name(OBJECT);
    let creator = Segment::<T>::create(&name, (), &Options::new(), init).expect("a fresh object");
    let ours = Segment::open(&name).expect("the same object");
    drop(creator);
    ours
}

fn take_over(dir: &Dir, run: &mut Run) {
    let ours = orphan::<Shared>(dir, |shared| shared.table = crate::victim::table());
    run.die(dir, "take over", &mut quietly);
    after(dir, run, &ours);
}

fn retire_an_orphan(dir: &Dir, run: &mut Run) {
    #[derive(Shareable)]
    #[repr(C)]
    struct Other {
        value: Mutex<u64>,
    }
    let ours = orphan::<Other>(dir, |other| *other.value.get_mut() = 1);
    let before = dir.files();
    run.die(dir, "create", &mut quietly);
    match ours.value.try_lock(&ours) {
        Ok(Locked::Clean(value)) => assert_eq!((*value, dir.files()), (1, before)),
        Err(LockError::Retired { .. }) => {}
        other => panic!("neither alive nor retired: {other:?}"),
    }
    next_user(dir, ObjectOrOther, 1, run.number % 2 == 1);
    assert!(matches!(ours.value.try_lock(&ours), Err(LockError::Retired { .. })), "the next create retires it");
}

fn open_what_nobody_uses(dir: &Dir, run: &mut Run) {
    drop(object(dir, run));
    run.die(dir, "open", &mut quietly);
    next_user(dir, Object, 0, run.number % 2 == 1);
}

fn take_away(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    run.die(dir, act, &mut quietly);
    let retired = works_or_is_retired(&ours);
    assert!(act == "retire" || !retired, "a removed object goes on to work");
    assert!(act != "retire" || retired || dir.files() == [OBJECT], "the name went before its users were told");
    next_user(dir, ObjectOrNothing, 1, run.number % 2 == 1);
    assert_eq!(works_or_is_retired(&ours), retired);
}

/// Somebody who sleeps is told, or else can be notified.
fn retire_while_another_waits(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    std::thread::scope(|scope| {
        let mut waiter = None;
        run.die(dir, "retire", &mut |event| {
            if event == Event::Ready {
                waiter = Some(scope.spawn(|| {
                    let state = ours.state.lock(&ours).expect("the lock").or_repair(|_| ());
                    let until = |limit| Until::timeout(limit);
                    let result = in_time(|limit| ours.changed.wait_while(state, until(limit), |state| state.turn == 0));
                    matches!(result, Err(WaitError::Lock(LockError::Retired { .. })))
                }));
                wait_until(|| condition_is_awaited(dir));
            }
        });
        let retired = ours.region().is_retired();
        if !retired {
            ours.state.lock_timeout(&ours, PATIENCE).expect("the lock").or_repair(|_| ()).turn = 1;
            ours.changed.notify_all();
        }
        assert!(waiter.is_none_or(|waiter| waiter.join().expect("a wait that ended") == retired));
    });
    next_user(dir, ObjectOrNothing, 1, run.number % 2 == 1);
}

/// We create the object after the victim has looked for it.
fn wait_until_created(dir: &Dir, run: &mut Run) {
    let persistence = run.persistence;
    let (mut ours, mut looked) = (None, false);
    run.die(dir, "wait for", &mut |_| {
        let looks = directory_is_locked(dir);
        if looked && !looks && ours.is_none() {
            ours = Some(create(dir.name(OBJECT), persistence).expect("a fresh object"));
        }
        looked |= looks;
    });
    let ours = ours.unwrap_or_else(|| object(dir, run));
    after(dir, run, &ours);
}

fn create_raw(dir: &Dir, run: &mut Run) {
    run.die(dir, "create raw", &mut quietly);
    next_user(dir, ObjectOrOther, 0, run.number % 2 == 1);
}

/// What the victim did not write stays as it was, and what it began to build can be built anew.
fn use_raw(dir: &Dir, run: &mut Run) {
    let options = Options::new().persistence(run.persistence);
    let ours = SharedMemory::create(dir.name(OBJECT), RAW, &options).expect("a fresh object");
    let mut ours = ours.map_mut().expect("raw bytes");
    run.die(dir, "use raw", &mut quietly);
    let mut bytes = [0; RAW as usize];
    ours.read_at(0, &mut bytes).expect("bytes");
    assert!(bytes[..PLACE].iter().all(|byte| *byte <= 1), "a byte that nobody wrote");
    assert!(bytes[PLACE + size_of::<Cell>()..].iter().all(|byte| *byte == 0), "more was written than was said");
    let placed = place(&mut ours);
    assert!(matches!(placed.value.try_lock(&placed), Ok(Locked::Clean(value)) if *value == 7));
    next_user(dir, ObjectOrOther, 1, run.number % 2 == 1);
}

fn collect(dir: &Dir, run: &mut Run) {
    let living = create(dir.name("living"), run.persistence).expect("a fresh object");
    make_dead(dir); // after every create, because a create collects as well
    run.die(dir, "gc", &mut quietly);
    works(&living);
    works(&Segment::open(dir.name("living")).expect("what lives stays"));
    drop(living);
    next_user(dir, ObjectOrNothing, 0, run.number % 2 == 1);
}

pub fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it hangs");
        std::thread::yield_now();
    }
}

/// Waits with a timeout that is out of reach, so that it is not the timeout that ends the wait.
pub fn in_time<T>(wait: impl FnOnce(Duration) -> T) -> T {
    let start = Instant::now();
    let result = wait(PATIENCE * 2);
    assert!(start.elapsed() < PATIENCE, "it hung until its time was over");
    result
}

/// We hold the lock until the victim waits for it.
fn lock_contended(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let mut state = Some(ours.state.lock(&ours).expect("the lock").or_repair(|_| ()));
    run.die(dir, "lock", &mut |_| {
        if lock_is_awaited(dir) {
            drop(state.take());
        }
    });
    drop(state);
    after(dir, run, &ours);
}

/// We hold the lock all the time.
fn lock_held(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    let state = ours.state.lock(&ours).expect("the lock").or_repair(|_| ());
    run.die(dir, act, &mut quietly);
    drop(state);
    after(dir, run, &ours);
}

/// A holder dies and leaves the data half-changed: detaching is a death to all others.
pub fn half_change(dir: &Dir) {
    let holder = Segment::<Shared>::open(dir.name(OBJECT)).expect("the object");
    // A thread of its own, because a thread remembers what it locked.
    let locked = std::thread::spawn(move || {
        let mut state = holder.state.lock(&holder).expect("the lock").or_repair(|_| ());
        state.a += 1;
        std::mem::forget(state);
    });
    locked.join().expect("no panic");
}

fn after_a_dead_holder(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    half_change(dir);
    run.die(dir, act, &mut quietly);
    after(dir, run, &ours);
}

fn unlock_while_another_waits(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    std::thread::scope(|scope| {
        let mut waiter = None;
        run.die(dir, "unlock", &mut |event| {
            if event == Event::Ready {
                waiter =
                    Some(scope.spawn(
                        || match in_time(|limit| ours.state.lock_timeout(&ours, limit)).expect("the lock") {
                            Locked::Clean(state) => assert_eq!(state.a, state.b),
                            Locked::OwnerDied(mut died) => {
                                died.b = died.a;
                                drop(died.mark_consistent());
                            }
                        },
                    ));
                wait_until(|| lock_is_awaited(dir));
            }
        });
        if let Some(waiter) = waiter {
            waiter.join().expect("a lock in good order, or marked");
        }
    });
    after(dir, run, &ours);
}

/// We wait for the condition that the victim makes true, and know that it is the one to do so.
fn notify(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    std::thread::scope(|scope| {
        let mut waiter = None;
        run.die(dir, act, &mut |event| {
            if event == Event::Ready {
                waiter = Some(scope.spawn(|| {
                    let state = ours.state.lock(&ours).expect("the lock").or_repair(|_| ());
                    let victim = state.victim;
                    let until = |limit| Until::timeout(limit).or_peer_lost(victim);
                    match in_time(|limit| ours.changed.wait_while(state, until(limit), |state| state.turn == 0)) {
                        Ok(Locked::Clean(state)) => assert_eq!(state.turn, 1),
                        Ok(Locked::OwnerDied(died)) => drop(died.mark_consistent()),
                        Err(WaitError::PeerLost { .. }) => {
                            let state = ours.state.try_lock(&ours).expect("the dead keep no lock");
                            assert_eq!(state.or_repair(|_| ()).turn, 0, "the condition was lost");
                        }
                        Err(other) => panic!("a wait that no death ended: {other}"),
                    }
                }));
                wait_until(|| condition_is_awaited(dir));
            }
        });
        if let Some(waiter) = waiter {
            waiter.join().expect("a wait that ended well");
        }
    });
    after(dir, run, &ours);
}

/// We notify as soon as the victim sleeps.
pub fn wait_until_notified(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    let mut notified = false;
    run.die(dir, act, &mut |_| {
        if !notified && condition_is_awaited(dir) {
            ours.state.lock_timeout(&ours, PATIENCE).expect("the lock").or_repair(|_| ()).turn = 1;
            ours.changed.notify_one();
            notified = true;
        }
    });
    after(dir, run, &ours);
}
