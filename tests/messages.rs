//! What the library says: errors that name the object, the cause and the fix, and the debug form of everything.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, hear, role, say, spawn, spawn_under};
use memlane::{
    Condvar, Error, Locked, Mutex, MutexGuard, Options, OwnerId, Persistence, Region, Segment, Shareable, SharedMemory,
    ToName, Until,
};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(1);

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    changed: Condvar,
    state: Mutex<State>,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct State {
    turn: u64,
    peer: OwnerId,
}

fn create(name: impl ToName) -> Result<Segment<Shared>, Error> {
    Segment::create(name, (), &Options::new(), |_| ())
}

fn lock(shared: &Segment<Shared>) -> MutexGuard<'_, State> {
    shared.state.lock(shared).expect("the lock").or_repair(|_| ())
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    match role() {
        Some((role, _)) if role == "use" => {
            let shared = Segment::<Shared>::open("cam").expect("the parent's object");
            lock(&shared).peer = shared.region().owner();
            say("here");
            hear();
        }
        Some((role, _)) if role == "run out" => run_out_of_descriptors(),
        _ => {}
    }
}

#[test]
fn a_wait_in_vain_says_what_to_look_at() {
    let dir = Dir::new();
    let shared = create(dir.name("cam")).expect("a fresh object");
    let alone = shared.changed.wait(lock(&shared), Until::timeout(MOMENT)).expect_err("nobody notifies").to_string();
    assert!(alone.starts_with("nothing happened in 'cam' within "), "{alone}");
    assert!(alone.ends_with(": see whether somebody is there to end this wait, or wait longer"), "{alone}");

    let mut child = spawn(dir.path(), "use", &[]);
    child.expect("here");
    let state = lock(&shared);
    let until = Until::timeout(MOMENT).or_peer_lost(state.peer);
    let silent = shared.changed.wait(state, until).expect_err("it does not notify").to_string();
    assert!(silent.contains(&format!(": pid {} (messages", child.pid())), "{silent}");
    assert!(silent.ends_with(") lives, but has not answered; look at that process, or wait longer"), "{silent}");
}

#[test]
fn a_wait_without_a_predicate_ends_with_a_notification() {
    let dir = Dir::new();
    let shared = create(dir.name("cam")).expect("a fresh object");
    std::thread::scope(|scope| {
        let state = lock(&shared);
        scope.spawn(|| {
            lock(&shared).turn = 1; // not before the wait has given the lock back
            shared.changed.notify_all();
        });
        match shared.changed.wait(state, Until::forever()) {
            Ok(Locked::Clean(state)) => assert_eq!(state.turn, 1),
            other => panic!("a notification: {other:?}"),
        }
    });
}

#[test]
fn a_directory_that_will_not_do_is_refused_with_the_reason() {
    let refused = |path: &str| match SharedMemory::create(
        "cam".to_name().expect("a name").in_directory(path),
        1,
        &Options::new(),
    ) {
        Err(Error::Directory { path: named, reason }) if named == Path::new(path) => reason,
        other => panic!("{path} is refused: {other:?}"),
    };
    assert_eq!(refused("here"), "it is relative to where each program runs: name it from the root");
    // A file system that has directories of the right owner, and no unnamed files.
    assert_eq!(refused("/sys/kernel"), "its file system has no unnamed files: use one in memory (tmpfs)");
}

#[test]
fn a_directory_that_vanishes_while_an_object_is_built_is_an_error() {
    let dir = Dir::new();
    let vanish = |_: &mut Shared| std::fs::remove_dir(dir.path()).expect("it is empty");
    let error = Segment::<Shared>::create(dir.name("cam"), (), &Options::new(), vanish).map(drop).expect_err("no name");
    assert!(error.to_string().starts_with("cannot publish 'cam': "), "{error}");
}

/// Opens files until no more than `left` descriptors are left.
fn use_up(descriptors: &mut Vec<File>, left: usize) {
    while let Ok(file) = File::open("/dev/null") {
        descriptors.push(file);
    }
    descriptors.truncate(descriptors.len() - left);
}

/// Does everything with so few descriptors left that it fails here or there, until they suffice.
fn run_out_of_descriptors() {
    let kept = Options::new().persistence(Persistence::Keep);
    drop(SharedMemory::create("kept", 1, &kept).expect("a fresh object"));
    let mut descriptors = Vec::new();
    let mut failures = 0;
    for left in 0.. {
        use_up(&mut descriptors, left);
        let results = [
            ("create", create("cam").map(drop)),
            ("open", SharedMemory::open("kept").and_then(SharedMemory::map_mut).map(drop)),
            ("map", Region::open("kept").map(drop)),
            ("list", memlane::list(None).map(drop)),
            ("gc", memlane::gc(None, false).map(drop)),
            ("retire", SharedMemory::create("gone", 1, &kept).and_then(|_| memlane::retire("gone"))),
        ];
        descriptors.clear();
        let failed = results.iter().filter(|(_, result)| result.is_err()).count();
        for (what, result) in results {
            let Err(error) = result else { continue };
            let text = error.to_string();
            assert!(text.contains("open files"), "{what}, with {left} left: {text}");
        }
        let _ = memlane::remove("gone");
        assert_eq!(memlane::list(None).expect("a list").len(), 1, "with {left} left, only what was kept is there");
        if failed == 0 {
            break;
        }
        failures += failed;
    }
    say(&format!("{}", failures > 6));
}

#[test]
fn a_process_without_descriptors_is_told_so_and_leaves_nothing() {
    let dir = Dir::new();
    let mut child = spawn_under(&["prlimit", "--nofile=128"], dir.path(), "run out", &[]);
    child.expect("true");
    assert!(child.finish().success());
}

#[test]
fn everything_has_a_debug_form_that_does_not_lock() {
    let dir = Dir::new();
    let shared = create(dir.name("cam")).expect("a fresh object");
    assert_eq!(format!("{:?}", shared.state), "Mutex { locked: false, dirty: false, .. }");
    let state = shared.state.lock(&shared).expect("free");
    assert_eq!(format!("{state:?}"), "Clean");
    let state = state.or_repair(|_| ());
    assert_eq!(format!("{state:?}"), "State { turn: 0, peer: OwnerId(0) }");
    assert_eq!(format!("{:?}", shared.state), "Mutex { locked: true, dirty: false, .. }");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _state = state;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    assert_eq!(format!("{:?}", shared.state), "Mutex { locked: false, dirty: true, .. }");
    let state = shared.state.lock(&shared).expect("free");
    assert_eq!(format!("{state:?}"), "OwnerDied");
    match state {
        Locked::OwnerDied(state) => assert_eq!(format!("{state:?}"), "OwnerDied(State { turn: 0, peer: OwnerId(0) })"),
        Locked::Clean(_) => unreachable!("it was said to be dirty"),
    }
}

#[test]
fn handles_say_what_they_are_handles_of() {
    let dir = Dir::new();
    let name = dir.name("raw");
    let raw = SharedMemory::create(&name, 64, &Options::new().persistence(Persistence::Keep)).expect("a fresh object");
    assert_eq!((raw.persistence(), raw.size(), raw.name()), (Persistence::Keep, 64, &name));
    let mut region = raw.map_mut().expect("mapped");
    assert_eq!(Region::open(&name).expect("it is there").name(), name.as_str());
    // SAFETY: nothing else uses these bytes.
    let placed = unsafe { region.place::<Mutex<u64>>(0, (), |_| ()) }.expect("it fits");
    assert!(format!("{placed:?}").starts_with("Placed { slot: 0x"));
    assert!(matches!(placed.try_lock(&placed), Ok(Locked::Clean(_))));
    // SAFETY: as above.
    let placed = unsafe { region.place::<Condvar>(16, (), |_| ()) }.expect("it fits");
    placed.notify_all();

    let shared = create(dir.name("cam")).expect("a fresh object");
    assert_eq!("cam".to_owned().to_name().expect("a name").as_str(), shared.region().name().as_str());
    assert!(matches!(shared.state.try_lock(shared.region()), Ok(Locked::Clean(_))));
}
