//! The operations, as the victim does them: it prepares, stops, acts, and stops again.
#![allow(unsafe_code)]

use memlane::{
    Condvar, Locked, Mutex, MutexGuard, Options, Origin, OwnerId, Persistence, Segment, Shareable, ToName, Until,
};
use std::time::Duration;

/// The object that all operations are about.
pub const OBJECT: &str = "object";

/// A bound for what must not hang.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Shareable)]
#[repr(C)]
pub struct Shared {
    pub changed: Condvar,
    /// Notified inside critical sections, so that there is a failpoint between two changes of the data.
    between: Condvar,
    pub state: Mutex<State>,
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

/// What `table` holds.
pub fn table() -> [u64; 32] {
    std::array::from_fn(|index| index as u64 * 7 + 1)
}

pub fn create(name: impl ToName, persistence: Persistence) -> Result<Segment<Shared>, memlane::Error> {
    let options = Options::new().persistence(persistence);
    Segment::create(name, (), &options, |shared: &mut Shared| shared.table = table())
}

fn open() -> Segment<Shared> {
    Segment::open(OBJECT).expect("the parent's object")
}

fn lock(shared: &Segment<Shared>) -> MutexGuard<'_, State> {
    shared.state.lock_timeout(shared, PATIENCE).expect("the lock").or_repair(|state| state.b = state.a)
}

/// What is done between the two stops, and leaves behind whatever it wants to live on.
pub fn operate(operation: &str, arguments: &[String]) {
    let persistence = if arguments[0] == "keep" { Persistence::Keep } else { Persistence::UntilLastUser };
    let traced = arguments[1] == "traced";
    // SAFETY: the call takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let ready = || {
        if traced {
            trace_me();
        }
        stop();
    };
    match operation {
        "nothing" => ready(),
        "create" => {
            ready();
            let shared = create(OBJECT, persistence).expect("an object");
            stop();
            drop(shared);
        }
        "take over" => {
            ready();
            let shared = create(OBJECT, persistence).expect("an object");
            stop();
            assert_eq!(shared.origin(), Origin::TakenOver);
        }
        "open" => {
            ready();
            let shared = open();
            stop();
            drop(shared);
        }
        "remove" | "retire" | "gc" => {
            ready();
            match operation {
                "remove" => memlane::remove(OBJECT).expect("it was there"),
                "retire" => memlane::retire(OBJECT).expect("it was there"),
                _ => assert_eq!(memlane::gc(None, false).expect("a directory").len(), 1),
            }
            stop();
        }
        "close" | "close the last" => {
            let shared = if operation == "close" { open() } else { create(OBJECT, persistence).expect("an object") };
            ready();
            drop(shared);
            stop();
        }
        _ => operate_locks(operation, &open(), &ready),
    }
}

fn operate_locks(operation: &str, shared: &Segment<Shared>, ready: &dyn Fn()) {
    match operation {
        "lock" => {
            ready();
            let mut state = lock(shared);
            state.a += 1;
            shared.between.notify_one();
            state.b += 1;
            stop();
        }
        "unlock" => {
            let mut state = lock(shared);
            state.a += 1;
            ready();
            state.b += 1;
            state.unlock();
            stop();
        }
        "unlock unrepaired" => {
            ready();
            assert!(matches!(shared.state.lock_timeout(shared, PATIENCE), Ok(Locked::OwnerDied(_))));
            stop();
        }
        "notify one" | "notify all" => {
            lock(shared).victim = shared.region().owner();
            ready();
            lock(shared).turn = 1;
            if operation == "notify one" {
                shared.changed.notify_one()
            } else {
                shared.changed.notify_all()
            }
            stop();
        }
        "wait" | "wait in vain" => {
            let state = lock(shared);
            let limit = if operation == "wait" { PATIENCE } else { Duration::from_millis(3) };
            ready();
            let result = shared.changed.wait_while(state, Until::timeout(limit), |state| state.turn == 0);
            stop();
            assert_eq!(result.is_ok(), operation == "wait");
        }
        other => panic!("no operation {other}"),
    }
}

/// Lets the parent trace this process, or ends it.
fn trace_me() {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the request takes no arguments.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, nothing, nothing) } != 0 {
        std::process::exit(1);
    }
}

fn stop() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::raise(libc::SIGSTOP) };
}
