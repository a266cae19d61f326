//! The sending side of one lane: which buffers are free, whether there is room, and the commit.

use super::Policy;
use super::lane::{Content, Pool};
use super::memory::Memory;
use super::queue;
use super::roster::Receivers;
use crate::error::Error;
use crate::prim::{self, Ordering};
use crate::sys;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A lane that this process sends in. Its loans and tickets share it.
#[derive(Debug)]
pub(super) struct Writer {
    memory: Arc<Memory>,
    lane: usize,
    state: Mutex<State>,
}

/// What the sender alone knows of its lane; a successor finds it out again from the entries.
#[derive(Debug)]
pub(super) struct State {
    /// The number of the next message.
    next: u64,
    pool: Pool,
    /// Up to here, messages may be overwritten.
    let_go: u64,
}

/// A message that was sent, and who was to receive it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) receivers: Receivers,
}

impl Writer {
    /// Finds out what a predecessor left in a lane that was taken; dropping it gives the lane back.
    pub(super) fn new(memory: Arc<Memory>, lane: usize) -> Result<Self, Error> {
        let mut writer = Self { memory, lane, state: Mutex::new(State::empty(lane)) };
        writer.memory.allow_lane(lane)?;
        let state = writer.take_stock();
        let header = writer.memory.lane(lane);
        header.keep_time(sys::clock_id(), sys::moment());
        // ORDERING: Release pairs with the Acquire in `Memory::head`.
        header.head.store(state.next - 1, Ordering::Release);
        writer.state = Mutex::new(state);
        Ok(writer)
    }

    /// What the entries of the lane say.
    fn take_stock(&self) -> State {
        let (memory, lane, geometry) = (&self.memory, self.lane, self.memory.geometry());
        let last = memory.last(lane);
        let oldest = memory.oldest(last);
        let mut window = vec![None; geometry.slots as usize];
        for sequence in oldest..=last {
            let content = memory.entry(lane, sequence).find(sequence);
            let place = content.map(|content| content.place).filter(|place| !place.small);
            // A number that is no buffer's was not written by a sender; who reads it will see that too.
            let buffer = place.map(|place| place.buffer).filter(|buffer| u64::from(*buffer) < geometry.buffers());
            window[geometry.position(sequence) as usize] = buffer;
        }
        State {
            next: last + 1,
            pool: Pool::new(lane, window, geometry.buffers() as usize, geometry.shape(lane).stride),
            let_go: oldest - 1,
        }
    }

    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    #[inline]
    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread leaves nothing half-done here: nothing in here panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free buffer, or `None` if there are as many loans as there can be.
    pub(super) fn take_buffer(&self) -> Option<u16> {
        let memory = &self.memory;
        let claims = memory
            .geometry()
            .readers(self.lane)
            .flat_map(|index| (0..memory.geometry().claims).map(move |claim| memory.claim(index, claim)));
        self.state().pool.take(claims)
    }

    /// A loan came back unsent.
    pub(super) fn put_back(&self, buffer: u16) {
        self.state().pool.put_back(buffer);
    }

    /// Whether the next message can be sent without overwriting what somebody still waits for.
    #[inline]
    pub(super) fn has_room(&self, state: &mut State) -> bool {
        let Some(overwritten) = state.next.checked_sub(self.memory.geometry().slots).filter(|number| *number > 0)
        else {
            return true;
        };
        match self.memory.geometry().policy {
            Policy::Newest => true,
            Policy::Queue => queue::is_done(self.memory.task(self.lane, overwritten), overwritten),
            Policy::Lossless | Policy::Service => {
                // As far as can be seen, not one at a time: the receivers' words are in their caches.
                if state.let_go < overwritten {
                    // ORDERING: pairs with the fence in `attach_receiver`: a receiver that is not seen now sees all that was
                    // sent so far, by predecessors too, as sent before it came.
                    prim::fence(Ordering::SeqCst);
                    state.let_go = self.memory.last_let_go(self.lane, state.let_go + 1, state.next);
                }
                state.let_go >= overwritten
            }
        }
    }

    /// Looks for room for the next message already, where that takes looking at other messages too: what is found is kept.
    #[inline]
    pub(super) fn look_ahead(&self, state: &mut State) {
        if self.memory.geometry().policy != Policy::Queue {
            self.has_room(state);
        }
    }

    /// Sends a message; there is room. Whoever sleeps is woken later, by [`announce`](Self::announce).
    #[inline]
    pub(super) fn commit(&self, state: &mut State, content: Content, small: &[u64]) -> u64 {
        let (memory, lane, sequence) = (&self.memory, self.lane, state.next);
        if memory.geometry().policy == Policy::Queue {
            queue::offer(memory.task(lane, sequence), sequence);
        }
        memory.entry(lane, sequence).publish(sequence, content, small);
        // ORDERING: Release pairs with the Acquire in `Memory::head`.
        memory.lane(lane).head.store(sequence, Ordering::Release);
        let buffer = (!content.place.small).then_some(content.place.buffer);
        state.pool.sent(memory.geometry().position(sequence) as usize, buffer);
        state.next += 1;
        sequence
    }

    /// Wakes who waits for messages, and finds out who is to receive what was sent last.
    #[inline]
    pub(super) fn announce(&self, sequence: u64) -> Sent {
        self.memory.messages().notify();
        Sent { sequence, receivers: self.memory.who_receives(self.lane) }
    }

    /// The message that the next one would overwrite.
    pub(super) fn in_the_way(&self, state: &State) -> u64 {
        state.next.saturating_sub(self.memory.geometry().slots)
    }
}

impl State {
    fn empty(lane: usize) -> Self {
        Self { next: 1, pool: Pool::new(lane, Vec::new(), 0, 1), let_go: 0 }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // In a forked child the lane is its parent's.
        if !self.memory.attachment().is_forked() {
            self.memory.leave_lane(self.lane);
        }
    }
}
