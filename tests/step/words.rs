//! Semaphores, barriers, what is initialised once, and values that are read without a lock: deaths, and pairs.

use crate::MORE;
use crate::common::{Dir, times};
use crate::meet::Outcome::{self, Done, Held, Missing};
use crate::meet::{Meeting, Pair, assert_allowed, meet};
use crate::peek::{begin_write, peek};
use crate::scenarios::{Run, after, in_time, object, quietly, wait_until};
use crate::victim::{OBJECT, PATIENCE, Shared};
use memlane::{
    Barrier, LockError, Once, Party, Passed, Persistence, Segment, Semaphore, SeqCell, Shareable, Until, Versioned,
    WaitError,
};
use memlane_crash::{End, Event, operate};
use std::mem::offset_of;
use std::time::Duration;

/// What every object of these tests holds besides locks.
#[derive(Shareable)]
#[repr(C)]
pub struct Words {
    pub permits: Semaphore<2>,
    pub barrier: Barrier<2>,
    pub once: Once<Value>,
    pub versioned: Versioned<Value>,
    pub cell: SeqCell<Value>,
}

/// All of it is equal in what was written whole.
type Value = [u64; 4];

const MOMENT: Duration = Duration::from_millis(3);

fn is_whole(value: Value) -> bool {
    value == [value[0]; 4]
}

fn count(value: &mut Value) {
    assert!(is_whole(*value), "an update of what nobody wrote: {value:?}");
    *value = [value[0] + 1; 4];
}

/// Says that somebody sleeps, or is about to, in the first word of what lies at `offset`.
fn is_awaited(dir: &Dir, offset: usize) -> bool {
    peek(dir, offset_of!(Shared, words) + offset) & 1 != 0
}

fn a_permit_is_awaited(dir: &Dir) -> bool {
    is_awaited(dir, offset_of!(Words, permits))
}

fn the_barrier_is_awaited(dir: &Dir) -> bool {
    is_awaited(dir, offset_of!(Words, barrier))
}

fn is_second_seat_taken(dir: &Dir) -> bool {
    const SECOND_SEAT: usize = 40;
    peek(dir, offset_of!(Shared, words) + offset_of!(Words, barrier) + SECOND_SEAT) & 0xffff != 0
}

fn at_once() -> Until {
    Until::timeout(Duration::ZERO)
}

/// However somebody died: all permits are there, the barrier can be mended and passed, what is to be initialised is or
/// can be, and a value is whole, or wants to be written.
pub fn work(shared: &Segment<Shared>) {
    let words = &shared.words;
    assert_eq!(words.permits.available(shared), 2, "the dead keep no permit");
    drop([(); 2].map(|()| words.permits.try_acquire(shared).expect("it is free")));
    assert_eq!(words.permits.available(shared), 2);

    words.barrier.reset(shared).expect("it can be mended");
    assert!(!words.barrier.is_broken());
    let mut parties = [(); 2].map(|()| words.barrier.join(shared).expect("the dead keep no seat"));
    let waited = parties[0].wait(at_once());
    assert!(matches!(waited, Err(WaitError::TimedOut { .. })), "a phase that was passed by one: {waited:?}");
    assert!(parties[1].wait(at_once()).expect("both are there").last);
    assert!(!parties[0].wait(at_once()).expect("both are there").last);

    assert!(words.once.get().is_none_or(|value| is_whole(*value)), "complete, and not whole");
    assert!(words.once.get_or_init(shared, |value| *value = [5; 4]).is_ok_and(|value| is_whole(*value)));

    let before = words.versioned.read();
    assert!(is_whole(before), "torn: {before:?}");
    words.versioned.update(shared, count).expect("the dead keep no lock");
    assert_eq!(words.versioned.read(), [before[0] + 1; 4]);

    match words.cell.read(shared) {
        Ok(value) => assert!(is_whole(value), "torn: {value:?}"),
        Err(LockError::NeedsRepair { .. }) => {}
        Err(error) => panic!("neither a value nor a clean end: {error}"),
    }
    words.cell.write(shared, before).expect("the dead keep no lock");
    assert_eq!(words.cell.read(shared).expect("it is mended"), before);
}

/// What the victim does.
pub fn act(operation: &str, shared: &Segment<Shared>) {
    let words = &shared.words;
    let permit = || words.permits.acquire_timeout(shared, PATIENCE).expect("a permit");
    match operation {
        "acquire" => drop(operate(permit)),
        "try to acquire" => operate(|| assert!(words.permits.try_acquire(shared).is_err())),
        "acquire in vain" => operate(|| assert!(words.permits.acquire_timeout(shared, MOMENT).is_err())),
        "give back" => {
            let permits = [permit(), permit()];
            operate(|| drop(permits));
        }
        "join" => drop(operate(|| words.barrier.join(shared).expect("a seat"))),
        "arrive" => {
            let mut party = words.barrier.join(shared).expect("a seat");
            let _ = operate(|| party.wait(Until::timeout(PATIENCE))).expect("both arrive");
        }
        "arrive in vain" => {
            let mut party = words.barrier.join(shared).expect("a seat");
            assert!(operate(|| party.wait(Until::timeout(MOMENT))).is_err());
        }
        "leave" => {
            let party = words.barrier.join(shared).expect("a seat");
            operate(|| drop(party));
        }
        "reset" => operate(|| assert!(words.barrier.reset(shared).expect("it lives"))),
        "initialise" => {
            let init = |value: &mut Value| value.iter_mut().for_each(|word| *word = 6);
            let value = operate(|| words.once.get_or_init_timeout(shared, PATIENCE, init));
            assert!(value.is_ok_and(|value| is_whole(*value)));
        }
        "write versioned" => operate(|| words.versioned.write(shared, [9; 4]).expect("its turn")),
        "update versioned" => operate(|| words.versioned.update(shared, count).expect("its turn")),
        "write cell" => operate(|| words.cell.write(shared, [9; 4]).expect("its turn")),
        "update cell" => operate(|| words.cell.update(shared, count).expect("its turn")),
        "read cell" => operate(|| assert!(words.cell.read(shared).is_ok_and(is_whole))),
        other => panic!("no operation {other}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Deaths

/// Somebody dies: an attachment that closes is dead to all others.
fn with_a_dead_one(dir: &Dir, act: impl FnOnce(&Segment<Shared>) + Send) {
    let dead = Segment::<Shared>::open(dir.name(OBJECT)).expect("the object");
    // In a thread of its own, because a thread remembers what it locked.
    std::thread::scope(|scope| scope.spawn(|| act(&dead)).join().expect("no panic"));
}

/// We hold both permits, and give one back as soon as the victim sleeps.
pub fn acquire_contended(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let mut permits = [(); 2].map(|()| Some(ours.words.permits.acquire(&ours).expect("it is free")));
    run.die(dir, "words: acquire", &mut |_| {
        if a_permit_is_awaited(dir) {
            drop(permits[0].take());
        }
    });
    drop(permits);
    after(dir, run, &ours);
}

/// We hold both permits all the time.
pub fn acquire_held(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    let permits = [(); 2].map(|()| ours.words.permits.acquire(&ours).expect("it is free"));
    run.die(dir, &format!("words: {act}"), &mut quietly);
    drop(permits);
    after(dir, run, &ours);
}

/// The dead had both permits.
pub fn acquire_of_the_dead(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    with_a_dead_one(dir, |dead| {
        (0..2).for_each(|_| std::mem::forget(dead.words.permits.acquire(dead).expect("it is free")));
    });
    run.die(dir, "words: acquire", &mut quietly);
    after(dir, run, &ours);
}

/// We wait for a permit that the victim gives back, or leaves.
pub fn give_back(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    std::thread::scope(|scope| {
        let mut waiter = None;
        run.die(dir, "words: give back", &mut |event| {
            if event == Event::Ready {
                waiter = Some(scope.spawn(|| {
                    in_time(|limit| ours.words.permits.acquire_timeout(&ours, limit).map(drop)).expect("a permit");
                }));
                wait_until(|| a_permit_is_awaited(dir));
            }
        });
        waiter.into_iter().for_each(|waiter| waiter.join().expect("a wait that ended"));
    });
    after(dir, run, &ours);
}

fn is_broken(ended: &Result<Passed, WaitError>) -> bool {
    matches!(ended, Err(WaitError::Broken { who: Some(_), .. }))
}

/// Lets the victim die while we wait at the barrier; says how it ended, and what came of our wait, if it came to that.
fn wait_meanwhile<'a>(
    dir: &Dir,
    run: &mut Run,
    ours: &'a Segment<Shared>,
    act: &str,
) -> (End, Option<Result<Passed, WaitError>>, Party<'a, 2>) {
    let mut party = Some(ours.words.barrier.join(ours).expect("a seat"));
    std::thread::scope(|scope| {
        let mut waiter = None;
        let end = run.die(dir, &format!("words: {act}"), &mut |event| {
            if let Some(mut party) = party.take_if(|_| event == Event::Ready) {
                waiter = Some(scope.spawn(move || (in_time(|limit| party.wait(Until::timeout(limit))), party)));
                wait_until(|| the_barrier_is_awaited(dir));
            }
        });
        match (waiter, party) {
            (Some(waiter), _) => {
                let (ended, party) = waiter.join().expect("a wait that ended");
                (end, Some(ended), party)
            }
            (None, party) => (end, None, party.expect("nobody has taken it")),
        }
    })
}

/// We wait at the barrier when the victim arrives: we pass, or are told of its death; after its death we do not pass
/// again.
pub fn arrive(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let (end, ended, mut party) = wait_meanwhile(dir, run, &ours, "arrive");
    if let Some(ended) = ended {
        assert!(ended.is_ok() || end == End::Killed && is_broken(&ended), "{ended:?}");
        let next = in_time(|limit| party.wait(Until::timeout(limit)));
        assert!(is_broken(&next), "the next phase, or the same: {next:?}");
    }
    drop(party);
    after(dir, run, &ours);
}

/// We arrive when the victim has said that it sleeps, or is dead: both pass, or it had not arrived.
pub fn arrive_first(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let mut party = ours.words.barrier.join(&ours).expect("a seat");
    let mut passed = false;
    run.die(dir, "words: arrive", &mut |_| {
        if !passed && the_barrier_is_awaited(dir) {
            assert!(party.wait(at_once()).expect("both are there").last);
            passed = true;
        }
    });
    // A seat that is free is waited for.
    if is_second_seat_taken(dir) {
        let ended = in_time(|limit| party.wait(Until::timeout(limit)));
        assert!(is_broken(&ended) || !passed && ended.is_ok(), "{ended:?}");
    }
    drop(party);
    after(dir, run, &ours);
}

/// We wait when the victim leaves: we are told.
pub fn leave_amid(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let (_, ended, party) = wait_meanwhile(dir, run, &ours, "leave");
    assert!(ended.as_ref().is_none_or(is_broken), "{ended:?}");
    drop(party);
    after(dir, run, &ours);
}

/// A party died where we waited.
pub fn reset(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    with_a_dead_one(dir, |dead| std::mem::forget(dead.words.barrier.join(dead).expect("a seat")));
    let mut party = ours.words.barrier.join(&ours).expect("a seat");
    assert!(is_broken(&party.wait(at_once())));
    let end = run.die(dir, "words: reset", &mut quietly);
    assert!(end == End::Killed || !ours.words.barrier.is_broken());
    drop(party);
    after(dir, run, &ours);
}

/// The last one died, or panicked, in the middle.
pub fn initialise_after_half(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    with_a_dead_one(dir, |dead| {
        let init = |value: &mut Value| {
            value[0] = 6;
            std::panic::resume_unwind(Box::new(()));
        };
        let panics = || dead.words.once.get_or_init(dead, init).map(drop);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    });
    run.die(dir, "words: initialise", &mut quietly);
    after(dir, run, &ours);
}

/// The last writer died in the middle.
pub fn write_after_half(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    ours.words.versioned.write(&ours, [3; 4]).expect("nobody else writes");
    begin_write(dir, offset_of!(Shared, words) + offset_of!(Words, versioned));
    begin_write(dir, offset_of!(Shared, words) + offset_of!(Words, cell));
    assert_eq!(ours.words.versioned.read(), [3; 4], "the old one");
    assert!(matches!(ours.words.cell.read(&ours), Err(LockError::NeedsRepair { .. })));
    run.die(dir, &format!("words: {act}"), &mut quietly);
    after(dir, run, &ours);
}

/// We read all the time: the value is whole, and the new one once it was the new one.
pub fn write_versioned(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let mut last = 0;
    let end = run.die(dir, "words: write versioned", &mut |_| {
        let value = ours.words.versioned.read();
        assert!(is_whole(value) && value[0] >= last, "torn, or gone back: {value:?}");
        last = value[0];
    });
    assert!(end == End::Killed || ours.words.versioned.read() == [9; 4], "what was written is there");
    after(dir, run, &ours);
}

/// The value is whole, or is to be written anew.
pub fn write_cell(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    let end = run.die(dir, &format!("words: {act}"), &mut quietly);
    let value = ours.words.cell.read(&ours);
    assert!(value.as_ref().is_ok_and(|value| is_whole(*value)) || end == End::Killed, "{value:?}");
    after(dir, run, &ours);
}

// ---------------------------------------------------------------------------------------------------------------
// Pairs

/// What [`attempt`] does.
const ACTS: [&str; 9] = [
    "take a permit",
    "try for a permit",
    "meet at the barrier",
    "come to the barrier",
    "initialise",
    "count versioned",
    "look at versioned",
    "count cell",
    "look at cell",
];

const PAIRS: &[(&str, &str, &[Pair])] = &[
    ("take a permit", "take a permit", &[(Done, Done)]),
    ("take a permit", "try for a permit", &[(Done, Done), (Done, Held)]),
    ("try for a permit", "take a permit", &[(Done, Done)]),
    ("meet at the barrier", "meet at the barrier", &[(Done, Done)]),
    ("come to the barrier", "come to the barrier", &[(Done, Done)]),
    ("initialise", "initialise", &[(Done, Missing), (Missing, Done)]),
    ("count versioned", "count versioned", &[(Done, Done)]),
    ("count versioned", "look at versioned", &[(Done, Done)]),
    ("look at versioned", "count versioned", &[(Done, Done)]),
    ("count cell", "count cell", &[(Done, Done)]),
    ("count cell", "look at cell", &[(Done, Done), (Done, Held)]),
    ("look at cell", "count cell", &[(Done, Done)]),
];

pub fn is_act(act: &str) -> bool {
    ACTS.contains(&act)
}

/// One operation, as both sides do it.
pub fn attempt(shared: &Segment<Shared>, act: &str) -> Outcome {
    let words = &shared.words;
    match act {
        "take a permit" => in_time(|limit| words.permits.acquire_timeout(shared, limit).map(drop)).map(|()| Done),
        "try for a permit" => words.permits.try_acquire(shared).map(|_| Done).or_else(|error| match error {
            LockError::NoneFree { .. } => Ok(Held),
            error => Err(error),
        }),
        "meet at the barrier" => {
            let mut party = words.barrier.join(shared).expect("a seat");
            let passed = in_time(|limit| party.wait(Until::timeout(limit))).expect("both come");
            assert_eq!(passed.phase, 1);
            // Who leaves now leaves nobody behind: all have passed.
            Ok(Done)
        }
        "come to the barrier" => words.barrier.join(shared).map(|_| Done),
        "initialise" => {
            let mut outcome = Missing;
            let init = |value: &mut Value| {
                outcome = Done;
                *value = [6; 4];
            };
            let value = in_time(|limit| words.once.get_or_init_timeout(shared, limit, init));
            value.map(|value| assert!(is_whole(*value))).map(|()| outcome)
        }
        "count versioned" => in_time(|limit| words.versioned.update_timeout(shared, count, limit)).map(|()| Done),
        "look at versioned" => {
            let value = words.versioned.read();
            assert!(is_whole(value) && value[0] <= 2, "torn: {value:?}");
            Ok(Done)
        }
        "count cell" => in_time(|_| words.cell.update(shared, count)).map(|()| Done),
        "look at cell" => match words.cell.read(shared) {
            Ok(value) => {
                assert!(is_whole(value) && value[0] <= 2, "torn: {value:?}");
                Ok(Done)
            }
            Err(LockError::TimedOut { holder: Some(_), .. }) => Ok(Held),
            Err(error) => Err(error),
        },
        other => panic!("no operation {other}"),
    }
    .unwrap_or_else(|error| panic!("{act}: {error}"))
}

pub fn meetings() -> impl Iterator<Item = Meeting> {
    PAIRS.iter().map(|&(a, b, allowed)| Meeting {
        first: a.to_owned(),
        title: format!("{a} | {b}"),
        before: times(2, 16),
        further: times(0, MORE),
        run: Box::new(move |dir, run| run_pair(a, b, allowed, dir, run)),
    })
}

fn run_pair(a: &str, b: &str, allowed: &[Pair], dir: &Dir, run: &mut Run) {
    let ours = crate::victim::create(dir.name(OBJECT), Persistence::UntilLastUser).expect("a fresh object");
    // Of two permits one is left.
    let permit = ours.words.permits.acquire(&ours).expect("it is free");
    let needed = || a == "meet at the barrier" && the_barrier_is_awaited(dir);
    let writer_is_inside = |offset: usize| peek(dir, offset_of!(Shared, words) + offset) & 0xffff != 0;
    let waits = || match b {
        "take a permit" => ours.words.permits.available(&ours) == 0,
        "meet at the barrier" => true,
        "initialise" => writer_is_inside(offset_of!(Words, once) + 8),
        "count versioned" => writer_is_inside(offset_of!(Words, versioned)),
        "count cell" => writer_is_inside(offset_of!(Words, cell)),
        _ => false,
    };
    let came = meet(dir, run, a, &needed, &waits, || attempt(&ours, b), &mut || ());
    assert_allowed(allowed, came);
    drop(permit);
    let counts = |act: &str| u64::from(a == act) + u64::from(b == act);
    assert_eq!(ours.words.versioned.read(), [counts("count versioned"); 4], "an update was lost");
    assert_eq!(ours.words.cell.read(&ours).expect("nobody died"), [counts("count cell"); 4], "an update was lost");
    after(dir, run, &ours);
}
