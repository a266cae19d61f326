//! The operations, as the victim does them: it prepares, stops, acts, and stops again.
#![allow(unsafe_code, reason = "values are placed in raw regions")]

use crate::common::Dir;
use crate::meet::Outcome;
use crate::words::{self, Words};
use crate::{
    channel_pairs, channel_victim, events, files, handover, locks, names, rwlocks, service_pairs, service_victim,
};
use memlane::{
    Condvar, Event, LockError, Locked, Mutex, MutexGuard, Options, Origin, OwnerId, Persistence, Placed,
    ReentrantMutex, Region, RegionMut, RwLock, Segment, Shareable, SharedMemory, ToName, Until, lock_both,
};
use memlane_crash::operate;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The object that all operations are about.
pub const OBJECT: &str = "object";

/// A bound for what must not hang.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Shareable)]
#[repr(C)]
pub struct Shared {
    pub changed: Condvar,
    pub event: Event,
    pub second: Mutex<u64>,
    /// Notified inside critical sections, so that there is a failpoint between two changes of the data.
    pub between: Condvar,
    pub state: Mutex<State>,
    pub rw: RwLock<Halves, 4>,
    pub again: ReentrantMutex<AtomicU64>,
    pub words: Words,
    /// Written when the object is made, and never again.
    pub table: [u64; 32],
}

#[derive(Debug, Shareable)]
#[repr(C)]
pub struct State {
    /// Changed under the lock, `a` first: in complete data it is equal to `b`.
    pub a: u64,
    pub b: u64,
    pub turn: u64,
    pub waiting: u64,
    pub victim: OwnerId,
}

/// Changed under the lock, `a` first: in complete data it is equal to `b`.
#[derive(Debug, Shareable)]
#[repr(C)]
pub struct Halves {
    pub a: u64,
    pub b: u64,
}

/// What `table` holds.
pub fn table() -> [u64; 32] {
    std::array::from_fn(|index| index as u64 * 7 + 1)
}

pub fn create(name: impl ToName, persistence: Persistence) -> Result<Segment<Shared>, memlane::Error> {
    let options = Options::new().persistence(persistence);
    Segment::create(name, (), &options, |shared: &mut Shared| shared.table = table())
}

/// The command that makes this test binary the victim of an operation.
pub fn command(dir: &Dir, operation: &str, persistence: Persistence) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.env("MEMLANE_DIR", dir.path()).env("MEMLANE_TEST_ROLE", operation).stdin(Stdio::null());
    command.env("MEMLANE_TEST_ARGUMENTS", if persistence == Persistence::Keep { "keep" } else { "until last user" });
    command
}

fn open() -> Segment<Shared> {
    Segment::open(OBJECT).expect("the parent's object")
}

pub fn lock(shared: &Segment<Shared>) -> MutexGuard<'_, State> {
    shared.state.lock_timeout(shared, PATIENCE).expect("the lock").or_repair(|state| state.b = state.a)
}

/// What is done between the two stops; whatever is to live on lives until the second.
pub fn act(operation: &str, arguments: &[String]) -> ExitCode {
    if let Some(operation) = operation.strip_prefix("attempt ") {
        return ExitCode::from(attempted(operation).code());
    }
    if let Some(operation) = operation.strip_prefix("words: ") {
        words::act(operation, &open());
        return ExitCode::SUCCESS;
    }
    if let Some(operation) = operation.strip_prefix("channel attempt ") {
        return ExitCode::from(channel_pairs::attempt(operation));
    }
    if let Some(operation) = operation.strip_prefix("channel ") {
        channel_victim::act(operation);
        return ExitCode::SUCCESS;
    }
    if let Some(operation) = operation.strip_prefix("file ") {
        files::act(operation);
        return ExitCode::SUCCESS;
    }
    if let Some(operation) = operation.strip_prefix("service attempt ") {
        return ExitCode::from(service_pairs::attempt(operation));
    }
    if let Some(operation) = operation.strip_prefix("service ") {
        service_victim::act(operation);
        return ExitCode::SUCCESS;
    }
    let persistence = if arguments[0] == "keep" { Persistence::Keep } else { Persistence::UntilLastUser };
    if let Some(operation) = operation.strip_prefix("hand over ") {
        handover::act(operation, persistence);
        return ExitCode::SUCCESS;
    }
    match operation {
        "create" => drop(operate(|| create(OBJECT, persistence).expect("an object"))),
        "take over" => {
            let shared = operate(|| create(OBJECT, persistence).expect("an object"));
            assert_eq!(shared.origin(), Origin::TakenOver);
        }
        "open" => drop(operate(open)),
        "remove" => operate(|| memlane::remove(OBJECT).expect("it was there")),
        "retire" => operate(|| memlane::retire(OBJECT).expect("it was there")),
        "open or create" => drop(operate(|| {
            let init = |shared: &mut Shared| shared.table = table();
            Segment::open_or_create(OBJECT, (), &Options::new().persistence(persistence), init).expect("an object")
        })),
        "wait for" => drop(operate(|| Segment::<Shared>::wait_for(OBJECT, Some(PATIENCE)).expect("an object"))),
        "read" => drop(operate(|| {
            let region = Region::open(OBJECT).expect("the parent's object");
            region.read_at(0, &mut [0; 64]).map(|()| region).expect("bytes")
        })),
        "list" => operate(|| {
            assert!(!memlane::list(None).expect("a list").is_empty());
            assert!(memlane::space(None).expect("a directory").total > 0);
        }),
        "create raw" => drop(operate(|| {
            let options = Options::new().persistence(persistence);
            let raw = SharedMemory::create(OBJECT, RAW, &options).expect("an object");
            let mut raw = raw.map_mut().expect("raw bytes");
            raw.write_at(100, &[1; 100]).map(|()| raw).expect("bytes")
        })),
        "use raw" => {
            let mut raw = None;
            operate(|| {
                let opened = SharedMemory::open_or_create(OBJECT, RAW, &Options::new()).expect("the parent's object");
                let region = raw.insert(opened.map_mut().expect("raw bytes"));
                region.write_at(0, &[1; PLACE]).expect("bytes");
                place(region);
                *find(region).value.lock(region).expect("the lock").or_repair(|_| ()) = 1;
            });
        }
        "gc" => operate(|| assert_eq!(memlane::gc(None, false).expect("a directory").len(), 1)),
        "close" => {
            let shared = open();
            operate(|| drop(shared));
        }
        "close the last" => {
            let shared = create(OBJECT, persistence).expect("an object");
            operate(|| drop(shared));
        }
        _ => act_on(operation, &open()),
    }
    ExitCode::SUCCESS
}

/// Where something is built in a raw region, and the region's size.
pub const PLACE: usize = 64;
pub const RAW: u64 = 4096;

/// What is built there.
#[derive(Shareable)]
#[repr(C)]
pub struct Cell {
    pub value: Mutex<u64>,
}

pub fn place(raw: &mut RegionMut) -> Placed<'_, Cell> {
    // SAFETY: nobody else writes there while this is built: the parent does when the victim is dead.
    unsafe { raw.place(PLACE, (), |cell: &mut Cell| *cell.value.get_mut() = 7) }.expect("room")
}

pub fn find(raw: &RegionMut) -> &Cell {
    // SAFETY: from then on everybody uses the bytes there as a `Cell`.
    unsafe { raw.at(PLACE, ()) }.expect("room")
}

fn attempted(operation: &str) -> Outcome {
    let directory = std::env::var_os("MEMLANE_DIR").expect("the parent says where");
    if locks::is_act(operation) {
        let shared = open();
        return operate(|| locks::attempt(&shared, operation));
    }
    if words::is_act(operation) {
        let shared = open();
        return operate(|| words::attempt(&shared, operation));
    }
    let handle = match operation {
        "close" => Some(open()),
        "close the last" => Some(create(OBJECT, Persistence::UntilLastUser).expect("an object")),
        _ => None,
    };
    operate(|| names::attempt(Path::new(&directory), operation, handle)).0
}

fn act_on(operation: &str, shared: &Segment<Shared>) {
    match operation {
        "lock" => {
            let _state = operate(|| {
                let mut state = lock(shared);
                state.a += 1;
                shared.between.notify_one();
                state.b += 1;
                state
            });
        }
        "unlock" => {
            let mut state = lock(shared);
            state.a += 1;
            operate(|| {
                state.b += 1;
                state.unlock();
            });
        }
        "lock both" => {
            let _both = operate(|| {
                let (state, second) = lock_both(&shared.state, &shared.second, shared, Some(PATIENCE)).expect("both");
                let (mut state, mut second) = (state.or_repair(|state| state.b = state.a), second.or_repair(|_| ()));
                state.a += 1;
                *second += 1;
                shared.between.notify_one();
                state.b += 1;
                (state, second)
            });
        }
        "try to lock" => operate(|| assert!(matches!(shared.state.try_lock(shared), Err(LockError::TimedOut { .. })))),
        "lock in vain" => {
            let result = operate(|| shared.state.lock_timeout(shared, Duration::from_millis(3)));
            assert!(matches!(result, Err(LockError::TimedOut { .. })));
        }
        "unlock repaired" => {
            let Ok(Locked::OwnerDied(mut died)) = shared.state.lock_timeout(shared, PATIENCE) else {
                panic!("a dead holder");
            };
            operate(|| {
                died.b = died.a;
                died.mark_consistent().unlock();
            });
        }
        "remove the name" => operate(|| shared.region().remove_name().expect("it was there")),
        "wait once" => {
            let state = lock(shared);
            let result = operate(|| shared.changed.wait(state, Until::timeout(PATIENCE)));
            assert_eq!(result.expect("a notification").or_repair(|_| ()).turn, 1);
        }
        "unlock unrepaired" => {
            let died = |locked| matches!(locked, Ok(Locked::OwnerDied(_)));
            operate(|| assert!(died(shared.state.lock_timeout(shared, PATIENCE))));
        }
        "notify one" | "notify all" => {
            lock(shared).victim = shared.region().owner();
            operate(|| {
                lock(shared).turn = 1;
                if operation == "notify one" { shared.changed.notify_one() } else { shared.changed.notify_all() }
            });
        }
        "wait" | "wait in vain" => {
            let state = lock(shared);
            let limit = if operation == "wait" { PATIENCE } else { Duration::from_millis(3) };
            let until = Until::timeout(limit);
            let result = operate(|| shared.changed.wait_while(state, until, |state| state.turn == 0));
            assert_eq!(result.is_ok(), operation == "wait");
        }
        act if act.starts_with("rw ") || act == "lock twice" => rwlocks::act(act, shared),
        _ => events::act(operation, shared),
    }
}
