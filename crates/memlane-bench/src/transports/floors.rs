//! What any transport stands on, with nothing in between: cache lines, system calls, and the bytes themselves.
#![allow(unsafe_code)]

use super::eventfd;
use super::rendezvous::wait;
use super::{Nothing, lock_side};
use crate::transport::{Case, How, Laps, Role, SMALL, Setup, Side, Transport, Workload};
use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) fn transports() -> Vec<Transport> {
    let transport =
        |name, about, offers, open| Transport { name, about, missing: || None, offers, how: How::Side(open) };
    vec![
        transport("futex", "a word, FUTEX_WAKE and FUTEX_WAIT", offers_asleep, |setup| {
            Words::open(setup, Words::asleep)
        }),
        transport("eventfd", "write and read of two eventfds", offers_asleep, eventfd::open),
        transport("cache line", "a word each way, both sides spin", offers_line, |setup| {
            Words::open(setup, Words::spinning)
        }),
        transport("memory", "the same bytes written and read, and a cache line each way", offers_memory, |setup| {
            Words::open(setup, Words::memory)
        }),
        transport("memcpy", "one process copies its bytes into shared ones", offers_copy, |setup| match setup.role {
            Role::Ask => Box::new(Copying { shared: Shared::open(setup), private: vec![1; setup.case.len] }),
            Role::Answer => Box::new(Nothing(Shared::open(setup))),
        }),
        transport("std mutex", "std::sync::Mutex, which knows one process and no death", offers_lock, |setup| {
            lock_side(setup, || Box::new(Standard::default()))
        }),
        transport("pthread robust", "pthread_mutex_t, robust and shared between processes", offers_locks, |setup| {
            lock_side(setup, || Box::new(Robust::open(setup)))
        }),
    ]
}

fn offers_asleep(case: Case) -> bool {
    case.workload == Workload::RoundTrip && case.asleep && !case.touched && case.len == SMALL
}

fn offers_line(case: Case) -> bool {
    case.workload == Workload::RoundTrip && !case.asleep && !case.touched
}

fn offers_memory(case: Case) -> bool {
    case.workload == Workload::RoundTrip && !case.asleep && case.touched
}

fn offers_copy(case: Case) -> bool {
    case.workload == Workload::OneWay && case.touched
}

fn offers_lock(case: Case) -> bool {
    case.workload == Workload::Lock
}

fn offers_locks(case: Case) -> bool {
    matches!(case.workload, Workload::Lock | Workload::LockContended)
}

/// Bytes that both sides have mapped: words first, each with cache lines to itself, then the payload.
struct Shared {
    start: *mut u8,
    len: usize,
}

impl Shared {
    /// Bytes for words.
    const HEAD: usize = 4096;

    /// Maps the file that both sides open, and waits for the other side if there is one.
    fn open(setup: &Setup) -> Self {
        let shared = Self::map(setup).expect("a file in memory that both sides can map");
        let here = shared.word(Self::HERE);
        here.fetch_add(1, Ordering::Relaxed);
        wait("the other side of a floor", || (here.load(Ordering::Relaxed) >= 2).then_some(()));
        shared
    }

    fn map(setup: &Setup) -> io::Result<Self> {
        let path = setup.directory.join("bytes");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = Self::HEAD + setup.case.len;
        file.set_len(len as u64)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), len })
    }

    const QUESTIONS: usize = 0;
    const ANSWERS: usize = 1;
    const HERE: usize = 2;
    const MUTEX: usize = 3;

    fn place(&self, index: usize) -> *mut u8 {
        assert!(index < Self::HEAD / 128);
        self.start.wrapping_add(index * 128)
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the place lies in the mapping, which lives as long as `self`, is aligned, and holds nothing but this
        // word.
        unsafe { AtomicU32::from_ptr(self.place(index).cast()) }
    }

    /// The payload; who touches it must take turns with the other side.
    fn payload(&self) -> *mut [u8] {
        std::ptr::slice_from_raw_parts_mut(self.start.wrapping_add(Self::HEAD), self.len - Self::HEAD)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: `map` mapped so many bytes there, and what was borrowed from `self` is gone.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// The number of questions and that of answers.
struct Words {
    case: Case,
    role: Role,
    shared: Shared,
    number: u32,
    round: fn(&Self, &dyn Fn()),
}

impl Words {
    fn open(setup: &Setup, round: fn(&Self, &dyn Fn())) -> Box<dyn Side> {
        Box::new(Self { case: setup.case, role: setup.role, shared: Shared::open(setup), number: 0, round })
    }

    /// The word that this side writes, and the one it waits for.
    #[inline(always)]
    fn own_and_other(&self) -> (&AtomicU32, &AtomicU32) {
        let (questions, answers) = (self.shared.word(Shared::QUESTIONS), self.shared.word(Shared::ANSWERS));
        match self.role {
            Role::Ask => (questions, answers),
            Role::Answer => (answers, questions),
        }
    }

    #[inline(always)]
    fn turn(&self, think: &dyn Fn(), tell: impl FnOnce(&AtomicU32), hear: impl FnOnce(&AtomicU32)) {
        let (own, other) = self.own_and_other();
        self.role.turn(think, || tell(own), || hear(other));
    }

    fn spinning(&self, think: &dyn Fn()) {
        self.turn(think, |own| own.store(self.number, Ordering::Release), |other| spin(other, self.number));
    }

    fn memory(&self, think: &dyn Fn()) {
        let payload = self.shared.payload();
        let round = u64::from(self.number);
        let tell = |own: &AtomicU32| {
            if self.role == Role::Ask {
                // SAFETY: the other side reads these bytes between the question and the answer only.
                self.case.write(round, unsafe { &mut *payload });
            }
            own.store(self.number, Ordering::Release);
        };
        let hear = |other: &AtomicU32| {
            spin(other, self.number);
            if self.role == Role::Answer {
                // SAFETY: the other side writes these bytes before the question and after the answer only.
                self.case.read(round, unsafe { &*payload });
            }
        };
        self.turn(think, tell, hear);
    }

    fn asleep(&self, think: &dyn Fn()) {
        self.turn(think, |own| wake(own, self.number), |other| sleep(other, self.number));
    }
}

impl Side for Words {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        for _ in 0..rounds {
            self.number = self.number.wrapping_add(1);
            (self.round)(self, think);
            laps.lap();
        }
    }
}

/// Spins until the word holds `value`.
#[inline(always)]
fn spin(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) != value {
        spin_loop();
    }
}

/// Changes the word and wakes who sleeps on it.
fn wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // SAFETY: the call uses nothing of the word but its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Sleeps until the word holds `value`.
fn sleep(word: &AtomicU32, value: u32) {
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen == value {
            return;
        }
        let forever = std::ptr::null::<libc::timespec>();
        // SAFETY: the kernel itself checks and reads the address of the word.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, forever) };
    }
}

struct Copying {
    shared: Shared,
    private: Vec<u8>,
}

impl Side for Copying {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        for _ in 0..rounds {
            // SAFETY: the other side touches none of these bytes.
            let shared = unsafe { &mut *self.shared.payload() };
            black_box(shared).copy_from_slice(black_box(&self.private));
            laps.lap();
        }
    }
}

#[derive(Default)]
struct Standard(Mutex<u64>);

impl Side for Standard {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        for _ in 0..rounds {
            *black_box(&self.0).lock().expect("nobody panics here") += 1;
            laps.lap();
        }
    }
}

/// A robust mutex, and behind it what it protects.
struct Robust(Shared);

impl Robust {
    fn open(setup: &Setup) -> Self {
        let shared = Shared::map(setup).expect("a file in memory that both sides can map");
        if setup.role == Role::Ask {
            // SAFETY: all-zero bytes are a valid attribute to initialise; the place is large enough for a mutex,
            // aligned, and used by nobody before the word below says so.
            unsafe {
                let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
                assert_eq!(libc::pthread_mutexattr_init(&raw mut attributes), 0);
                assert_eq!(libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED), 0);
                assert_eq!(libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST), 0);
                assert_eq!(libc::pthread_mutex_init(shared.place(Shared::MUTEX).cast(), &raw const attributes), 0);
            }
            shared.word(Shared::HERE).store(1, Ordering::Release);
        }
        wait("a robust mutex", || (shared.word(Shared::HERE).load(Ordering::Acquire) != 0).then_some(()));
        Self(shared)
    }
}

impl Side for Robust {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= 64) };
        let mutex: *mut libc::pthread_mutex_t = self.0.place(Shared::MUTEX).cast();
        let value: *mut u64 = self.0.place(Shared::MUTEX).wrapping_add(64).cast();
        for _ in 0..rounds {
            // SAFETY: `open` waited until the mutex was initialised, and the value, in the same mapping, is touched
            // only under it.
            unsafe {
                assert_eq!(libc::pthread_mutex_lock(black_box(mutex)), 0, "nobody dies here");
                *black_box(value) += 1;
                assert_eq!(libc::pthread_mutex_unlock(black_box(mutex)), 0);
            }
            laps.lap();
        }
    }
}
