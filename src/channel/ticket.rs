//! What has become of a message that was sent.

use super::Policy;
use super::queue::Task;
use super::roster::Done;
use super::wait::Event;
use super::writer::{Sent, Writer};
use crate::error::{TicketError, Who};
use crate::owner::OwnerId;
use crate::prim;
use crate::sync::Slices;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// What one receiver did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It dropped the message.
    Processed,
    /// It gave the message back, or panicked while it held it.
    GaveBack,
    /// It did not take it: it was too slow, asked for a later one, or has closed.
    Skipped,
    /// It died before it had processed it.
    Died,
    /// It has let go of it or left, and what it said is overwritten by now.
    Unknown,
}

/// A receiver of a message, and what it did with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handled {
    /// Who it is, if that is still known.
    pub who: Option<Who>,
    /// What it did.
    pub outcome: Outcome,
}

/// Stands for a message that was sent, to find out what has become of it. Dropping it changes nothing.
///
/// What receivers did with a message is known until as many further ones were sent as the channel has slots.
#[derive(Debug, Clone)]
pub struct Ticket {
    writer: Arc<Writer>,
    sent: Sent,
}

impl Ticket {
    pub(super) fn new(writer: Arc<Writer>, sent: Sent) -> Self {
        Self { writer, sent }
    }

    /// The message's number in its lane.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sent.sequence
    }

    /// The same message, asked of those who receive now, or died at it: of the successors, when those it was sent to have
    /// died.
    #[must_use]
    pub fn renewed(&self) -> Self {
        let receivers = self.writer.memory().who_receives(self.writer.lane());
        Self { writer: Arc::clone(&self.writer), sent: Sent { sequence: self.sent.sequence, receivers } }
    }

    /// Waits until everybody who received when the message was sent has processed it, given it back, passed it over or
    /// died, at most for `timeout` (for ever if `None`), and says who did what: nothing, if nobody received. In a queue it
    /// waits until somebody has processed it, also if nobody received yet, and names that one.
    ///
    /// # Errors
    ///
    /// [`TicketError::TimedOut`], with those who have not answered, and [`TicketError::Unusable`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<Handled>, TicketError> {
        let memory = self.writer.memory();
        if memory.geometry().policy == Policy::Queue {
            self.wait_processed(timeout)?;
            return Ok(vec![self.processor()]);
        }
        let mut waiting = self.sent.receivers.clone();
        let mut handled = Vec::new();
        let look = |probe: bool| {
            waiting.retain(|(index, owner)| match self.outcome(*index, *owner, probe) {
                None => true,
                Some(None) => false,
                Some(Some(outcome)) => {
                    let table = memory.attachment().table();
                    let acted = matches!(outcome, Outcome::Processed | Outcome::GaveBack);
                    let who = if acted { table.who_acted(*owner) } else { table.who(*owner) };
                    handled.push(Handled { who, outcome });
                    false
                }
            });
            waiting.is_empty().then_some(())
        };
        let start = Slices::new(timeout);
        match memory.wait(Event::Released, timeout, look)? {
            Some(()) => Ok(handled),
            None => Err(self.timed_out(start.waited(), waiting.iter().filter_map(|(_, owner)| memory.who(*owner)))),
        }
    }

    /// Waits until anybody has processed the message, also a receiver that came after it was sent.
    ///
    /// # Errors
    ///
    /// [`TicketError::TimedOut`], with who receives, also as soon as it cannot be known any more, and
    /// [`TicketError::Unusable`].
    pub fn wait_processed(&self, timeout: Option<Duration>) -> Result<(), TicketError> {
        let memory = self.writer.memory();
        let start = Slices::new(timeout);
        match memory.wait(Event::Released, timeout, |_| self.processed())? {
            Some(true) => Ok(()),
            _ => {
                let who = memory.receiver_infos().into_iter().filter_map(|info| info.who);
                Err(self.timed_out(start.waited(), who))
            }
        }
    }

    fn timed_out(&self, waited: Duration, who: impl Iterator<Item = Who>) -> TicketError {
        let channel = self.writer.memory().attachment().name();
        TicketError::TimedOut { channel, sequence: self.sent.sequence, waited, who: who.collect() }
    }

    /// Whether anybody has processed the message. Where nothing may be lost, one that is no longer kept counts as
    /// processed; where the newest overwrite the oldest, as not.
    #[must_use]
    pub fn is_processed(&self) -> bool {
        self.processed() == Some(true)
    }

    /// Whether anybody has processed the message; `None` while nobody has, but somebody still can.
    fn processed(&self) -> Option<bool> {
        let (memory, lane, sequence) = (self.writer.memory(), self.writer.lane(), self.sent.sequence);
        let overwritten = || memory.last(lane) >= sequence + memory.geometry().slots;
        let processed = match memory.geometry().policy {
            // ORDERING: Acquire pairs with the Release by which a receiver lets go: what it did is seen.
            Policy::Queue => match Task::from_word(memory.task(lane, sequence).load(prim::Ordering::Acquire)) {
                Task::Taken { .. } => overwritten(),
                task => task.is_over(sequence),
            },
            _ if memory.last_processed(lane, sequence) == sequence => true,
            // It may have been overwritten before anybody had it.
            Policy::Newest if overwritten() => return Some(false),
            Policy::Newest => false,
            // Its place is used again only when it was processed.
            Policy::Lossless | Policy::Service => overwritten(),
        };
        processed.then_some(true)
    }

    /// What a receiver did with the message; `Some(None)` if the message was not for it, `None` if that is still open.
    fn outcome(&self, index: usize, owner: OwnerId, probe: bool) -> Option<Option<Outcome>> {
        let (memory, lane, sequence) = (self.writer.memory(), self.writer.lane(), self.sent.sequence);
        let there = memory.owner_of(index);
        // Looked at before the outcome: whoever has gone has said all it had to say.
        let gone = there.is_nobody() || probe && memory.attachment().is_dead(owner);
        if there != owner && !there.is_nobody() {
            return Some(Some(Outcome::Unknown));
        }
        let (last, done) = memory.outcome_of(index, lane, sequence);
        if memory.owner_of(index) != there {
            return None; // it may be what another one began with
        }
        Some(match (last.cmp(&sequence), done) {
            (Ordering::Less, _) if gone => Some(Outcome::Died),
            (Ordering::Less, _) => return None,
            (Ordering::Greater, _) => Some(Outcome::Unknown),
            (Ordering::Equal, Done::Absent) if there == owner => None,
            // Somebody else has had its place since.
            (Ordering::Equal, Done::Absent) => Some(Outcome::Unknown),
            (Ordering::Equal, Done::Processed) => Some(Outcome::Processed),
            (Ordering::Equal, Done::GaveBack) => Some(Outcome::GaveBack),
            (Ordering::Equal, Done::Skipped) => Some(Outcome::Skipped),
        })
    }

    /// Who has processed a message of a queue, which somebody has.
    fn processor(&self) -> Handled {
        let (memory, lane, sequence) = (self.writer.memory(), self.writer.lane(), self.sent.sequence);
        let did = |index: &usize| memory.outcome_of(*index, lane, sequence) == (sequence, Done::Processed);
        let who = memory
            .receivers()
            .find(did)
            .and_then(|index| memory.attachment().table().who_acted(memory.owner_of(index)));
        Handled { who, outcome: Outcome::Processed }
    }
}
