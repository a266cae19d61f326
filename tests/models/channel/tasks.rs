//! The word of a message in a queue: one gets it, and after a death another one.

use super::entries::{content_of, entry};
use super::lane::Seen;
use super::memory::Entry;
use super::queue;
use crate::owner::Table;
use crate::prim::AtomicU64;
use crate::region::{RegionMut, table};
use crate::{explore, explore_deaths, join, prim};
use loom::cell::UnsafeCell;
use loom::thread;
use std::cell::Cell;
use std::rc::Rc;

/// A window of one message, and what its takers do, of which loom reports it if two do it at the same time.
struct Queue {
    table: Rc<Table>,
    entry: Rc<Entry>,
    task: AtomicU64,
    work: UnsafeCell<()>,
    taken: Cell<u64>,
}

impl Queue {
    fn new() -> Rc<Self> {
        let (table, entry, task) = (table(), entry(), AtomicU64::new(0));
        Rc::new(Self { table, entry, task, work: UnsafeCell::new(()), taken: Cell::new(0) })
    }

    fn work(&self) {
        self.work.with_mut(|_| ());
        // A step to die at.
        prim::step();
    }

    /// Sends message `sequence`, if the one before was processed.
    fn send(&self, sequence: u64) -> bool {
        let has_room = queue::is_done(&self.task, sequence - 1);
        if has_room {
            self.work();
            queue::offer(&self.task, sequence);
            self.entry.publish(sequence, content_of(sequence, None), &[]);
        }
        has_room
    }

    /// Takes message `sequence`, if it is there to be taken: the count of its deliveries.
    fn take(&self, region: &RegionMut, sequence: u64) -> Option<u64> {
        if self.entry.look(sequence) != Seen::There {
            return None;
        }
        let attachment = region.attachment();
        let deliveries = queue::take(&self.task, sequence, attachment.me(), |owner| attachment.is_dead(owner))?;
        let there = self.entry.sequence();
        assert!(there >= sequence && self.entry.content(there) == Some(content_of(there, None)), "it stays as it is");
        self.taken.set(self.taken.get() + 1);
        self.work();
        Some(deliveries)
    }

    fn let_go(&self, region: &RegionMut, processed: bool) {
        queue::let_go(&self.task, self.entry.sequence(), region.attachment().me(), processed);
    }

    fn attach(&self, pid: u32) -> RegionMut {
        RegionMut::attach(&self.table, pid)
    }
}

#[test]
fn a_message_is_taken_once_and_again_after_its_taker_died_or_gave_it_back() {
    explore("1 sends, 2 take in turn", (None, None), || {
        let queue = Queue::new();
        let [a, b] = [1, 2].map(|pid| queue.attach(pid));
        assert_eq!(queue.take(&a, 5), None, "it was not sent yet");
        assert!(queue.send(5));
        assert_eq!(queue.take(&a, 6), None, "another message");
        assert_eq!(queue.take(&a, 5), Some(1));
        assert_eq!(queue.take(&b, 5), None, "somebody has it");
        a.die();
        assert_eq!(queue.take(&b, 5), Some(2), "who had it is dead");
        queue.let_go(&a, true);
        assert!(!queue.send(6), "it is not his");
        queue.let_go(&b, false);
        assert_eq!(queue.take(&b, 5), Some(3));
        queue.let_go(&b, true);
        assert_eq!(queue.take(&b, 5), None, "it was processed");
        assert!(queue.send(6));
    });
}

/// Two take two messages, each of them once, and the sender changes nothing that one has.
#[test]
fn one_of_two_gets_a_message() {
    explore("1 sends 2 messages, 2 take", (Some(3), Some(4)), || {
        let queue = Queue::new();
        let takers = [1, 2].map(|pid| (Rc::clone(&queue), queue.attach(pid)));
        queue.send(1);
        let takers = takers.map(|(queue, region)| {
            thread::spawn(move || {
                let mut taken = 0;
                for sequence in [1, 2] {
                    if queue.take(&region, sequence).is_some_and(|deliveries| deliveries == 1) {
                        queue.let_go(&region, true);
                        taken += 1;
                    }
                }
                taken
            })
        });
        let sent = 1 + u64::from(queue.send(2));
        let taken = join(takers).into_iter().sum::<u64>();
        assert!(taken <= sent && taken == queue.taken.get() && (sent == 1 || taken >= 1));
        assert_eq!(queue.send(3), taken == sent, "what was taken is done");
    });
}

/// Whoever attaches and takes at once is not taken for dead by those who find it in the word.
#[test]
fn a_newcomer_is_not_taken_for_dead() {
    explore("2 attach and take", (Some(3), None), || {
        let queue = Queue::new();
        queue.send(1);
        let taker = |pid| {
            let queue = Rc::clone(&queue);
            move || queue.take(&queue.attach(pid), 1).is_some()
        };
        let other = thread::spawn(taker(1));
        let mine = taker(2)();
        assert!(mine != join([other])[0], "one has it");
    });
}

/// What is given back is taken again, by who sees what was done with it.
#[test]
fn what_is_given_back_goes_to_another() {
    explore("1 gives back, 2 take", (Some(3), None), || {
        let queue = Queue::new();
        let takers = [1, 2].map(|pid| (Rc::clone(&queue), queue.attach(pid)));
        queue.send(1);
        let takers = takers.map(|(queue, region)| {
            thread::spawn(move || {
                let deliveries = queue.take(&region, 1);
                deliveries.inspect(|deliveries| queue.let_go(&region, *deliveries == 2))
            })
        });
        let deliveries: Vec<_> = join(takers).into_iter().flatten().collect();
        assert!(deliveries == [1] || deliveries.iter().sum::<u64>() == 3, "{deliveries:?}");
        assert_eq!(queue.send(2), deliveries.len() == 2);
    });
}

/// A taker dies at any step: another gets the message then, if it was not processed, and nobody twice.
#[test]
fn a_dead_taker_keeps_nothing() {
    explore_deaths("1 dies taking, 2 take", (Some(2), Some(3)), |steps| {
        let queue = Queue::new();
        let [victim, mine, other] = [1, 2, 3].map(|pid| queue.attach(pid));
        queue.send(1);
        let process = |queue: &Queue, region: &RegionMut| {
            let taken = queue.take(region, 1);
            taken.inspect(|_| queue.let_go(region, true)).unwrap_or(0)
        };
        let others = thread::spawn({
            let queue = Rc::clone(&queue);
            move || process(&queue, &other)
        });
        let before = prim::mortal(steps, || process(&queue, &victim));
        if before.is_none() {
            victim.die();
        }
        let (last, others) = (process(&queue, &mine), join([others])[0]);
        let deliveries = before.unwrap_or(0) + last + others;
        assert!(deliveries <= 2 && queue.taken.get() <= 2, "one has it at a time");
        assert!(queue.send(2), "it was processed");
    });
}

/// A sender dies at any step; its successor is not held up by what it was about to send.
#[test]
fn a_dead_sender_holds_nobody_up() {
    explore_deaths("1 dies sending, its successor sends, 1 takes", (Some(3), None), |steps| {
        let queue = Queue::new();
        let taker = queue.attach(1);
        queue.send(1);
        assert_eq!(queue.take(&taker, 1), Some(1));
        queue.let_go(&taker, true);
        let others = thread::spawn({
            let queue = Rc::clone(&queue);
            move || {
                let taken = [1, 2].map(|sequence| queue.take(&taker, sequence));
                assert!(taken[0].is_none(), "it was processed");
                taken[1].inspect(|_| queue.let_go(&taker, true)).is_some()
            }
        });
        prim::mortal(steps, || queue.send(2));
        if queue.entry.sequence() != 2 {
            assert!(queue.send(2), "nobody has what was not sent");
        }
        let taken = join([others])[0];
        assert_eq!(queue.send(3), taken);
    });
}
