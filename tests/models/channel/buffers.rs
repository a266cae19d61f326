//! Buffers and claims: none is written while the message in it is read.

use super::LARGE;
use super::entries::{content_of, entry};
use super::lane::{self, Pool, Seen};
use super::memory::Entry;
use crate::prim::AtomicU64;
use crate::{explore, explore_deaths, join, prim};
use loom::cell::UnsafeCell;
use loom::thread;
use std::cell::RefCell;
use std::rc::Rc;

/// A window of one message, and buffers; loom reports it if one is written while it is read.
struct Lane {
    entry: Rc<Entry>,
    buffers: Vec<UnsafeCell<u64>>,
    claims: Vec<AtomicU64>,
    /// In the hands of its sender.
    pool: RefCell<Pool>,
}

/// The number of the lane.
const LANE: usize = 3;

impl Lane {
    fn new(buffers: usize, claims: usize) -> Rc<Self> {
        let claims: Vec<_> = (0..claims).map(|_| AtomicU64::new(0)).collect();
        let addresses = claims.as_ptr_range();
        prim::plain(addresses.start.addr()..addresses.end.addr());
        Rc::new(Self {
            entry: entry(),
            buffers: (0..buffers).map(|_| UnsafeCell::new(0)).collect(),
            claims,
            pool: RefCell::new(Pool::new(LANE, vec![None], buffers, LARGE as u64)),
        })
    }

    /// Sends message `sequence` in a buffer that is free, if there is one.
    fn send(&self, sequence: u64) {
        let Some(buffer) = self.pool.borrow_mut().take(self.claims.iter()) else { return };
        // SAFETY: loom reports it if somebody reads at the same time.
        self.buffers[usize::from(buffer)].with_mut(|bytes| unsafe { *bytes = sequence });
        self.entry.publish(sequence, content_of(sequence, Some(buffer)), &[]);
        self.pool.borrow_mut().sent(0, Some(buffer));
    }

    /// Holds and reads message `sequence` by a claim, if it is there.
    fn receive(&self, claim: usize, sequence: u64) {
        if self.entry.look(sequence) != Seen::There {
            return;
        }
        let Some(content) = self.entry.content(sequence) else { return };
        let (word, buffer) = (&self.claims[claim], content.place.buffer);
        if lane::claim(word, &self.entry, sequence, LANE, buffer) {
            // SAFETY: loom reports it if somebody writes at the same time.
            let read = self.buffers[usize::from(buffer)].with(|bytes| unsafe { *bytes });
            assert_eq!(read, sequence, "the buffer holds the message");
            lane::give_back(word);
        }
    }

    /// Readers that look for these messages, one after the other, each by a claim of its own.
    fn readers<const N: usize>(self: &Rc<Self>, each: [&'static [u64]; N]) -> Vec<thread::JoinHandle<()>> {
        let reader = |(claim, sequences): (usize, &'static [u64])| {
            let lane = Rc::clone(self);
            thread::spawn(move || sequences.iter().for_each(|sequence| lane.receive(claim, *sequence)))
        };
        each.into_iter().enumerate().map(reader).collect()
    }
}

/// The buffer of the first message is free as soon as nobody claims it, and used for the third.
#[test]
fn a_claimed_buffer_is_not_written() {
    explore("1 sends 3 messages in 2 buffers, 1 reads", (Some(2), None), || {
        let lane = Lane::new(2, 1);
        lane.send(1);
        let readers = lane.readers([&[1]]);
        [2, 3].into_iter().for_each(|sequence| lane.send(sequence));
        join(readers);
    });
    explore("1 sends 3 messages in 2 buffers, 2 read", (Some(0), Some(2)), || {
        let lane = Lane::new(2, 2);
        lane.send(1);
        let readers = lane.readers([&[1], &[1]]);
        [2, 3].into_iter().for_each(|sequence| lane.send(sequence));
        join(readers);
    });
}

/// A claim is given back and used again at once: who sees the second use knows that the first is over.
#[test]
fn a_claim_is_used_twice() {
    explore("1 sends 3 messages in 2 buffers, 1 reads 2", (Some(1), Some(3)), || {
        let lane = Lane::new(2, 1);
        lane.send(1);
        let readers = lane.readers([&[1, 2]]);
        [2, 3].into_iter().for_each(|sequence| lane.send(sequence));
        join(readers);
    });
}

/// Whoever comes too late withdraws its claim, and makes nobody read what is written.
#[test]
fn who_comes_too_late_reads_nothing() {
    explore("1 sends 4 messages in 3 buffers, 1 reads 3", (Some(1), Some(2)), || {
        let lane = Lane::new(3, 1);
        lane.send(1);
        let readers = lane.readers([&[1, 2, 3]]);
        (2..=4).for_each(|sequence| lane.send(sequence));
        join(readers);
    });
}

/// A sender dies at any step; its successor knows of its buffers what the entry and the claims say.
#[test]
fn a_successor_writes_no_claimed_buffer() {
    explore_deaths(
        "1 dies sending, its successor sends 2 messages in 3 buffers, 1 reads",
        (Some(1), Some(2)),
        |steps| {
            let lane = Lane::new(3, 1);
            lane.send(1);
            let readers = lane.readers([&[1, 2]]);
            prim::mortal(steps, || lane.send(2));
            let last = lane.entry.sequence();
            let buffer = lane.entry.content(last).filter(|_| last > 0).map(|content| content.place.buffer);
            *lane.pool.borrow_mut() = Pool::new(LANE, vec![buffer], 3, LARGE as u64);
            let next = last.max(1) + 1;
            (next..next + 2).for_each(|sequence| lane.send(sequence));
            join(readers);
        },
    );
}
