//! What another process has a part in, against the same of the C library, process-shared: reading under a lock alone
//! and while another process reads too; and a round trip of an event.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Contender, compare};
use criterion::Criterion;
use memlane::{Event, Name, Options, RwLock, Segment, Shareable, Until};
use std::cell::{OnceCell, UnsafeCell};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Some 0.1 ms, and some 1 ms.
const BLOCK: u64 = 10_000;
const TRIPS: u64 = 100;
const BLOCKS: usize = 300;
/// So long it is tried to have the other process beside a block.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Shareable)]
#[repr(C)]
struct Ours {
    value: RwLock<u64>,
    ping: Event,
    pong: Event,
}

/// The same of the C library, and what the other process is to do.
struct Theirs {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    cond: UnsafeCell<libc::pthread_cond_t>,
    /// Whose turn it is, under `mutex`.
    pinged: UnsafeCell<bool>,
    value: UnsafeCell<u64>,
    part: AtomicU32,
    /// How often it has done its part, whichever.
    rounds: AtomicU32,
}

// The parts of the first of the other processes; the second one answers by the C library.
const NOTHING: u32 = 0;
const READ_OURS: u32 = 1;
const READ_THEIRS: u32 = 2;
const PONG: u32 = 3;

impl Theirs {
    /// In memory that is shared with children, never unmapped.
    fn new() -> &'static Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Self>(), protection, flags, -1, 0) };
        assert_ne!(address, libc::MAP_FAILED);
        // SAFETY: the mapping is large enough, aligned to a page, and zeroed, which is a value of every field; all-zero
        // bytes are valid attributes to initialise.
        unsafe {
            let theirs = &*address.cast::<Self>();
            let mut of_lock: libc::pthread_rwlockattr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_rwlockattr_init(&raw mut of_lock), 0);
            assert_eq!(libc::pthread_rwlockattr_setpshared(&raw mut of_lock, libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_rwlock_init(theirs.lock.get(), &raw const of_lock), 0);
            let mut of_mutex: libc::pthread_mutexattr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&raw mut of_mutex), 0);
            assert_eq!(libc::pthread_mutexattr_setpshared(&raw mut of_mutex, libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_mutex_init(theirs.mutex.get(), &raw const of_mutex), 0);
            let mut of_cond: libc::pthread_condattr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_condattr_init(&raw mut of_cond), 0);
            assert_eq!(libc::pthread_condattr_setpshared(&raw mut of_cond, libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_cond_init(theirs.cond.get(), &raw const of_cond), 0);
            theirs
        }
    }

    fn read(&self) -> u64 {
        // SAFETY: `new` initialised the lock, and the value is read only under it.
        unsafe {
            assert_eq!(libc::pthread_rwlock_rdlock(self.lock.get()), 0);
            let value = *self.value.get();
            assert_eq!(libc::pthread_rwlock_unlock(self.lock.get()), 0);
            value
        }
    }

    /// Says whether it is `pinged`, and waits until the other one says the opposite.
    fn hand_over(&self, pinged: bool) {
        // SAFETY: `new` initialised both, and the flag is touched only under the mutex.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.mutex.get()), 0);
            *self.pinged.get() = pinged;
            assert_eq!(libc::pthread_cond_signal(self.cond.get()), 0);
            while *self.pinged.get() == pinged {
                assert_eq!(libc::pthread_cond_wait(self.cond.get(), self.mutex.get()), 0);
            }
            assert_eq!(libc::pthread_mutex_unlock(self.mutex.get()), 0);
        }
    }
}

fn read(ours: &Segment<Ours>) -> u64 {
    *ours.value.read(ours).expect("the lock")
}

/// Starts a process that does `act` until it is killed.
fn start(act: impl Fn()) -> libc::pid_t {
    // SAFETY: this process has one thread, so a child of it can do all that it can.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: only says that this process is to end with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            act();
        }
    }
    child
}

/// What the first of the other processes does.
fn be_the_other(ours: &Segment<Ours>, theirs: &Theirs) {
    match theirs.part.load(Ordering::Relaxed) {
        READ_OURS => {
            black_box(read(ours));
        }
        READ_THEIRS => {
            black_box(theirs.read());
        }
        PONG => {
            if ours.ping.take(ours, Until::timeout(Duration::from_millis(10))).is_ok() {
                ours.pong.set();
            }
        }
        _ => std::thread::sleep(Duration::from_micros(50)),
    }
    theirs.rounds.fetch_add(1, Ordering::Relaxed);
}

fn time(rounds: u64, mut round: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(|_| round());
    start.elapsed()
}

fn main() {
    let name = Name::unique("bench-processes").expect("a unique name");
    let theirs = Theirs::new();
    let ours = Segment::<Ours>::create(&name, (), &Options::new(), |_| ()).expect("a fresh object");
    let opened = OnceCell::new();
    let its_own = || opened.get_or_init(|| Segment::<Ours>::open(&name).expect("the parent's object"));
    let others = [start(|| be_the_other(its_own(), theirs)), start(|| theirs.hand_over(false))];
    let mut criterion = Criterion::default().configure_from_args();
    let as_part = |part: u32, rounds: u64, round: &dyn Fn()| {
        theirs.part.store(part, Ordering::Relaxed);
        // A block counts only if the other process had a processor too, and did its part all the while.
        let least = if part == PONG { 0 } else { rounds as u32 / 4 };
        let start = Instant::now();
        let blocks = std::iter::repeat_with(|| {
            let before = theirs.rounds.load(Ordering::Relaxed);
            let took = time(rounds, round);
            assert!(start.elapsed() < PATIENCE, "two processors that are free");
            (theirs.rounds.load(Ordering::Relaxed).wrapping_sub(before) >= least).then_some(took)
        });
        let took = blocks.flatten().next().expect("it goes on without end");
        theirs.part.store(NOTHING, Ordering::Relaxed);
        took
    };
    let read_ours = || {
        black_box(read(black_box(&ours)));
    };
    let read_theirs = || {
        black_box(black_box(theirs).read());
    };
    let mut alone = [
        Contender::new("memlane", BLOCK, |rounds| time(rounds, read_ours)),
        Contender::new("pthread rwlock", BLOCK, |rounds| time(rounds, read_theirs)),
    ];
    compare(&mut criterion, "read and unlock, nobody else there", BLOCKS, &mut alone);
    let mut together = [
        Contender::new("memlane", BLOCK, |rounds| as_part(READ_OURS, rounds, &read_ours)),
        Contender::new("pthread rwlock", BLOCK, |rounds| as_part(READ_THEIRS, rounds, &read_theirs)),
    ];
    compare(&mut criterion, "read and unlock, while another process does", BLOCKS, &mut together);

    let forever = Until::forever();
    let trip_ours = || {
        ours.ping.set();
        ours.pong.take(&ours, forever).expect("an answer");
    };
    let trip_theirs = || theirs.hand_over(true);
    let mut trips = [
        Contender::new("memlane event", TRIPS, |rounds| as_part(PONG, rounds, &trip_ours)),
        Contender::new("pthread condition", TRIPS, |rounds| time(rounds, trip_theirs)),
    ];
    compare(&mut criterion, "round trip", BLOCKS, &mut trips);
    criterion.final_summary();
    for other in others {
        // SAFETY: the child is ours, and what may be null is null.
        unsafe {
            libc::kill(other, libc::SIGKILL);
            libc::waitpid(other, std::ptr::null_mut(), 0);
        }
    }
}
