//! Uncontended lock, increment, unlock: memlane's mutex in a segment against the standard library's, which knows one
//! process and no death, and against the robust mutex of the C library. A permit, against the semaphore of the C library,
//! which loses it when its holder dies. And reading 64 bytes: without a lock, and under one.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Contender, compare};
use criterion::Criterion;
use memlane::{Mutex, Name, Options, Segment, Semaphore, SeqCell, Shareable, Versioned};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Some 0.1 ms.
const BLOCK: u64 = 10_000;
const BLOCKS: usize = 500;

#[derive(Shareable)]
#[repr(C)]
struct Counter {
    value: Mutex<u64>,
    other: Mutex<u64>,
    permits: Semaphore<4>,
    locked: Mutex<[u64; 8]>,
    cell: SeqCell<[u64; 8]>,
    versioned: Versioned<[u64; 8]>,
}

/// `pthread_mutex_t`, robust and process-shared, in memory that is shared with children.
struct Robust<'a> {
    mutex: &'a UnsafeCell<libc::pthread_mutex_t>,
    value: UnsafeCell<u64>,
}

/// So many bytes that are shared with children, aligned to a page and never unmapped.
fn shared(len: usize) -> *mut libc::c_void {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED);
    address
}

/// `sem_t`, process-shared, in such memory.
struct Posix(*mut libc::sem_t);

impl Posix {
    fn new(permits: u32) -> Self {
        let address = shared(size_of::<libc::sem_t>()).cast();
        // SAFETY: the mapping is large enough for a semaphore.
        assert_eq!(unsafe { libc::sem_init(address, 1, permits) }, 0);
        Self(address)
    }

    fn take_and_give_back(&self) {
        // SAFETY: `new` initialised the semaphore, which stays where it is.
        unsafe {
            assert_eq!(libc::sem_wait(self.0), 0);
            assert_eq!(libc::sem_post(self.0), 0);
        }
    }
}

impl Robust<'_> {
    fn new() -> Self {
        let address = shared(size_of::<libc::pthread_mutex_t>());
        // SAFETY: all-zero bytes are a valid attribute to initialise, and the mapping is large enough for a mutex,
        // aligned to a page, and never unmapped.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&raw mut attributes), 0);
            assert_eq!(libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST), 0);
            assert_eq!(libc::pthread_mutex_init(address.cast(), &raw const attributes), 0);
            Self { mutex: &*address.cast(), value: UnsafeCell::new(0) }
        }
    }

    /// Locks, increments, does `meanwhile`, unlocks.
    fn increment(&self, meanwhile: impl FnOnce()) {
        // SAFETY: `new` initialised the mutex, and the value is touched only under it.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.mutex.get()), 0);
            *self.value.get() += 1;
            meanwhile();
            assert_eq!(libc::pthread_mutex_unlock(self.mutex.get()), 0);
        }
    }
}

fn time(rounds: u64, mut round: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(|_| round());
    start.elapsed()
}

fn main() {
    let name = Name::unique("bench-lock").expect("a unique name");
    let segment = Segment::<Counter>::create(&name, (), &Options::new(), |_| ()).expect("a fresh object");
    let (standard, other_standard) = (std::sync::Mutex::new(0_u64), std::sync::Mutex::new(0_u64));
    let (robust, other_robust) = (Robust::new(), Robust::new());
    let mut criterion = Criterion::default().configure_from_args();

    let memlane = || {
        let segment = black_box(&segment);
        *segment.value.lock(segment).expect("the lock").or_repair(|_| ()) += 1;
    };
    let mut one = [
        Contender::new("memlane", BLOCK, |rounds| time(rounds, memlane)),
        Contender::new("std", BLOCK, |rounds| time(rounds, || *black_box(&standard).lock().expect("the lock") += 1)),
        Contender::new("pthread robust", BLOCK, |rounds| time(rounds, || black_box(&robust).increment(|| ()))),
    ];
    compare(&mut criterion, "uncontended lock and unlock", BLOCKS, &mut one);

    let memlane = || {
        let segment = black_box(&segment);
        let mut value = segment.value.lock(segment).expect("the lock").or_repair(|_| ());
        *segment.other.lock(segment).expect("the lock").or_repair(|_| ()) += 1;
        *value += 1;
    };
    let standard = || {
        let mut value = black_box(&standard).lock().expect("the lock");
        *black_box(&other_standard).lock().expect("the lock") += 1;
        *value += 1;
    };
    let robust = || black_box(&robust).increment(|| black_box(&other_robust).increment(|| ()));
    let mut two = [
        Contender::new("memlane", BLOCK, |rounds| time(rounds, memlane)),
        Contender::new("std", BLOCK, |rounds| time(rounds, standard)),
        Contender::new("pthread robust", BLOCK, |rounds| time(rounds, robust)),
    ];
    compare(&mut criterion, "two locks, one inside the other", BLOCKS, &mut two);

    let posix = Posix::new(4);
    let memlane = || {
        let segment = black_box(&segment);
        drop(segment.permits.acquire(segment).expect("a permit"));
    };
    let mut permits = [
        Contender::new("memlane", BLOCK, |rounds| time(rounds, memlane)),
        Contender::new("sem_t", BLOCK, |rounds| time(rounds, || black_box(&posix).take_and_give_back())),
    ];
    compare(&mut criterion, "uncontended permit", BLOCKS, &mut permits);

    let cell = || {
        let segment = black_box(&segment);
        black_box(segment.cell.read(segment).expect("a value"));
    };
    let locked = || {
        let segment = black_box(&segment);
        black_box(*segment.locked.lock(segment).expect("the lock").or_repair(|_| ()));
    };
    let versioned = || {
        black_box(black_box(&segment).versioned.read());
    };
    let mut reads = [
        Contender::new("Versioned", BLOCK, |rounds| time(rounds, versioned)),
        Contender::new("SeqCell", BLOCK, |rounds| time(rounds, cell)),
        Contender::new("Mutex", BLOCK, |rounds| time(rounds, locked)),
    ];
    compare(&mut criterion, "reading 64 bytes", BLOCKS, &mut reads);
    criterion.final_summary();
}
