//! What must hold after a death, whenever it came.

use crate::common::Dir;
use crate::rwlocks;
use crate::victim::{OBJECT, PATIENCE, Shared, State, create, table};
use memlane::{Error, LockError, Locked, MutexGuard, Origin, Persistence, Segment, Until, WaitError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// What may be found under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The complete object.
    Object,
    /// The complete object, or nothing.
    ObjectOrNothing,
    /// The complete object, nothing, or the object of another type that had the name before.
    ObjectOrOther,
}

/// A directory with what a death would leave, from copies of the files: locks are not copied, so there everybody is
/// dead. Because that includes whoever would have lived on, the object is one to be kept.
pub fn left_behind(copies: &Path) -> Dir {
    const PERSISTENCE: u64 = 20;
    let dir = Dir::new();
    for entry in std::fs::read_dir(copies).expect("the copies") {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("a copy");
        if name == OBJECT {
            let object = File::options().read(true).write(true).open(&from).expect("a copy");
            let mut word = [0; 4];
            if object.read_exact_at(&mut word, PERSISTENCE).is_ok() && word == 2_u32.to_ne_bytes() {
                object.write_all_at(&1_u32.to_ne_bytes(), PERSISTENCE).expect("a copy to write to");
            }
        }
        std::fs::rename(from, dir.path().join(name)).expect("the same file system");
    }
    dir
}

/// Whoever comes next finds what was expected, can use it, remove it, and make it anew, and nothing is left over.
/// `ours` is how often this process is attached; `create_first` says whether the next one creates or opens.
pub fn next_user(dir: &Dir, expected: Expected, ours: usize, create_first: bool) {
    let this_process = std::process::id();
    for object in memlane::list(Some(dir.path())).expect("a list") {
        assert_eq!(object.problem, None);
        if object.name == OBJECT {
            let living = object.users.iter().filter(|user| user.pid == this_process).count();
            assert!(living == object.users.len() && (living == ours || expected != Expected::Object), "{object:?}");
        }
    }
    if !create_first {
        match Segment::<Shared>::open(dir.name(OBJECT)) {
            Ok(shared) => works(&shared),
            Err(Error::NotFound { .. }) => {
                assert_ne!(expected, Expected::Object, "the object is gone");
                assert!(!dir.files().iter().any(|file| file == OBJECT), "a dead object keeps its name");
            }
            Err(Error::TypeMismatch { .. }) if expected == Expected::ObjectOrOther => {}
            Err(error) => panic!("neither an object nor a clean end: {error}"),
        }
    }
    let next = create(dir.name(OBJECT), Persistence::UntilLastUser).or_else(|error| match error {
        Error::AlreadyExists { .. } => {
            assert!(ours > 0 || is_kept(dir), "a dead object keeps its name: {error}");
            memlane::remove(dir.name(OBJECT)).expect("it exists");
            create(dir.name(OBJECT), Persistence::UntilLastUser)
        }
        error => Err(error),
    });
    let next = next.expect("the name can be used again");
    assert!(next.origin() == Origin::Created || ours > 0);
    works(&next);
    drop(next);
    if ours > 0 {
        let _ = memlane::remove(dir.name(OBJECT)); // it was taken over, and those it was taken over from use it still
    }
    assert_eq!(dir.files(), Vec::<String>::new(), "something was left over");
}

fn is_kept(dir: &Dir) -> bool {
    memlane::list(Some(dir.path()))
        .expect("a list")
        .iter()
        .any(|object| object.name == OBJECT && object.persistence == Some(Persistence::Keep))
}

/// The object is as it was made, its data is complete or marked, its lock can be had, its condition wakes.
pub fn works(shared: &Segment<Shared>) {
    assert_eq!(shared.table, table(), "the object is not what its creator made");
    let state = match shared.state.lock_timeout(shared, PATIENCE).expect("the dead keep no lock") {
        Locked::Clean(state) => {
            assert_eq!(state.a, state.b, "half-changed data without a mark");
            state
        }
        Locked::OwnerDied(mut died) => {
            died.b = died.a;
            died.mark_consistent()
        }
    };
    state.unlock();
    assert!(matches!(shared.state.try_lock(shared), Ok(Locked::Clean(_))), "the mark outlives the repair");
    for notify_all in [false, true] {
        a_waiter_wakes(shared, notify_all);
    }
    the_event_is_one(shared);
    rwlocks::work(shared);
    crate::words::work(shared);
}

/// However it was left, it can be set, is seen, and can be taken once.
fn the_event_is_one(shared: &Segment<Shared>) {
    let at_once = Until::timeout(Duration::ZERO);
    let was_set = shared.event.reset();
    assert!(matches!(shared.event.take(shared, at_once), Err(WaitError::TimedOut { .. })));
    shared.event.set();
    assert!(shared.event.wait(shared, at_once).is_ok() && shared.event.take(shared, at_once).is_ok());
    assert!(!shared.event.is_set());
    if was_set {
        shared.event.set();
    }
}

fn a_waiter_wakes(shared: &Segment<Shared>, notify_all: bool) {
    let turn = clean(shared).turn + 1;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut state = clean(shared);
            state.waiting = turn;
            let state = shared.changed.wait_while(state, Until::timeout(PATIENCE), |state| state.turn < turn);
            matches!(state, Ok(Locked::Clean(_)))
        });
        // The waiter gives the lock back in the wait, and not before.
        while clean(shared).waiting != turn {
            std::thread::yield_now();
        }
        clean(shared).turn = turn;
        if notify_all {
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

/// An object that was opened before goes on to work, or says that it was retired.
pub fn works_or_is_retired(shared: &Segment<Shared>) -> bool {
    let retired = matches!(shared.state.try_lock(shared), Err(LockError::Retired { .. }));
    if !retired {
        works(shared);
    }
    retired
}
