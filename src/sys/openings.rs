//! The descriptors that carry locks, for a forked child to close; `super` brings the atomics, so that a model can.
#![forbid(unsafe_code)]

use super::{AtomicI32, AtomicU32, Ordering, SLOTS, openings, thread};
use std::sync::OnceLock;
use std::time::Duration;

/// The lock descriptors of this process, in chunks that are never freed, so that the fork handler can walk them
/// without allocating. `busy` names the process inside, and is held across every
/// fork once the handlers are installed: no child can be born between an `open` and its entry here.
pub(super) struct Openings {
    busy: AtomicU32,
    /// A slot holds -1 when free.
    chunk: [AtomicI32; SLOTS],
    next: OnceLock<Box<Self>>,
}

impl Openings {
    pub(super) const fn new(busy: AtomicU32, chunk: [AtomicI32; SLOTS]) -> Self {
        Self { busy, chunk, next: OnceLock::new() }
    }

    /// Enters for process `me` when none of its threads is inside. Only who is inside adds, removes and drains.
    pub(super) fn enter(&self, me: u32) {
        let mut rounds = 0_u32;
        while !self.try_enter(me) {
            // The holder may be of a lower priority: yielding alone would never let it run.
            rounds = rounds.saturating_add(1);
            if rounds < 100 { thread::yield_now() } else { thread::sleep(Duration::from_micros(50)) }
        }
    }

    /// Like [`enter`](Self::enter), but only now.
    pub(super) fn try_enter(&self, me: u32) -> bool {
        // A child that was born without the handlers can inherit the entry of a thread that it does not have.
        let free = |holder| (holder != me).then_some(me);
        // ORDERING: Acquire pairs with the Release in `leave`: entries are seen as the last holder left them.
        self.busy.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).is_ok()
    }

    pub(super) fn leave(&self) {
        // ORDERING: Release pairs with the Acquire in `try_enter`.
        self.busy.store(0, Ordering::Release);
    }

    pub(super) fn add(&self, fd: i32) {
        match self.chunk.iter().find(|slot| slot.load(Ordering::Relaxed) < 0) {
            Some(slot) => slot.store(fd, Ordering::Relaxed),
            None => self.next.get_or_init(|| Box::new(openings())).add(fd),
        }
    }

    pub(super) fn remove(&self, fd: i32) {
        self.visit(&mut |slot| {
            if slot.load(Ordering::Relaxed) == fd {
                slot.store(-1, Ordering::Relaxed);
            }
        });
    }

    /// Removes every descriptor, and gives it to `close`.
    pub(super) fn drain(&self, mut close: impl FnMut(i32)) {
        self.visit(&mut |slot| close(slot.swap(-1, Ordering::Relaxed)));
    }

    fn visit(&self, visit: &mut dyn FnMut(&AtomicI32)) {
        self.chunk.iter().filter(|slot| slot.load(Ordering::Relaxed) >= 0).for_each(&mut *visit);
        if let Some(next) = self.next.get() {
            next.visit(visit);
        }
    }
}
