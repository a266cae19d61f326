//! Following a channel: each message that is kept for long enough to be copied, and what becomes of the senders.

use crate::failure::Failure;
use crate::report::{called, tell};
use memlane::{Copied, Error, Image, Name, Observer, SenderInfo, Tensor};

/// What the messages of a channel are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Image,
    Tensor,
    /// Of a type that only those who use it know.
    Typed(String),
}

/// A channel that is followed.
pub(super) struct Followed {
    observer: Observer,
    kind: Kind,
    slots: u64,
    lanes: Vec<Lane>,
    /// The lane to be looked at first, so that a fast one leaves the others their turn.
    turn: usize,
    /// The living senders, as they were last looked at.
    senders: Vec<SenderInfo>,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    /// The message to come.
    next: u64,
    /// How many were missed since the last one that was copied.
    missed: u64,
}

/// What has become of a channel since it was last looked at.
pub(super) struct News {
    pub(super) says: Vec<String>,
    /// Nothing more can come: the name is gone, or another channel has it.
    pub(super) gone: bool,
}

impl Followed {
    /// Begins with the newest message, or with the oldest that is kept if `all` is true; without `all`, at the very first:
    /// the channel has come while it was waited for. `None` if there is none.
    pub(super) fn open(name: &Name, all: Option<bool>) -> Result<Option<Self>, Failure> {
        let observer = match Observer::open(name) {
            Err(Error::NotFound { .. }) => return Ok(None),
            observer => observer?,
        };
        let info = observer.look()?;
        let kind = if observer.holds::<[u8]>() {
            Kind::Bytes
        } else if observer.holds::<Image>() {
            Kind::Image
        } else if observer.holds::<Tensor>() {
            Kind::Tensor
        } else {
            Kind::Typed(info.message_type)
        };
        let start = |sent: &u64| match all {
            None => 1,
            Some(true) => sent.saturating_sub(info.slots - 1).max(1),
            Some(false) => (*sent).max(1),
        };
        let lanes = info.sent.iter().map(|sent| Lane { next: start(sent), missed: 0 }).collect();
        Ok(Some(Self { observer, kind, slots: info.slots, lanes, turn: 0, senders: info.senders }))
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The next message, at most so many bytes of it, and how many of its lane were missed before it.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<(Copied, u64)>, Failure> {
        let sent = self.observer.sent()?;
        for offset in 0..self.lanes.len() {
            let index = (self.turn + offset) % self.lanes.len();
            let (lane, sent) = (&mut self.lanes[index], sent[index]);
            let oldest = (sent + 1).saturating_sub(self.slots);
            lane.missed += oldest.saturating_sub(lane.next);
            lane.next = lane.next.max(oldest);
            while lane.next <= sent {
                let copied = self.observer.copy(index, lane.next, most);
                lane.next += 1;
                match copied {
                    Ok(Some(message)) => {
                        self.turn = index + 1;
                        return Ok(Some((message, std::mem::take(&mut lane.missed))));
                    }
                    Ok(None) => lane.missed += 1,
                    Err(error @ Error::Corrupt { .. }) => {
                        lane.missed += 1;
                        tell(format!("message {index}:{:06} cannot be read: {error}", lane.next - 1));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(None)
    }

    /// How many messages were missed since the last one of their lane that was copied.
    pub(super) fn missed(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.missed).sum()
    }

    /// Says that nobody sends, if so.
    pub(super) fn who_sends(&self) -> Option<String> {
        self.senders.is_empty().then(|| format!("nobody sends to '{}'; waiting for a sender", self.observer.name()))
    }

    pub(super) fn look_around(&mut self, name: &Name) -> Result<News, Failure> {
        let info = self.observer.look()?;
        let same = |one: &SenderInfo, other: &SenderInfo| {
            one.lane == other.lane && one.who.as_ref().map(|who| who.pid) == other.who.as_ref().map(|who| who.pid)
        };
        let mut says = Vec::new();
        for sender in &self.senders {
            let is_in = |senders: &[SenderInfo]| senders.iter().any(|other| same(sender, other));
            if !is_in(&info.senders) {
                let fate = if is_in(&info.dead_senders) { "is dead" } else { "has ended" };
                says.push(format!("{}, which sent to '{name}', {fate}", called(sender.who.clone(), "a process")));
            }
        }
        if info.senders.is_empty() && !self.senders.is_empty() {
            says.push(format!("nobody sends to '{name}' now; waiting for the next sender"));
        }
        let come = info.senders.iter().filter(|sender| !self.senders.iter().any(|other| same(sender, other)));
        says.extend(come.map(|sender| format!("{} sends to '{name}' now", called(sender.who.clone(), "a process"))));
        self.senders = info.senders;
        let gone = match Observer::open(name) {
            Ok(other) if other.id() != self.observer.id() => Some("was created again"),
            Err(Error::NotFound { .. }) if self.senders.is_empty() => Some("is gone; waiting until it is there again"),
            _ => None,
        };
        says.extend(gone.map(|gone| format!("'{name}' {gone}")));
        Ok(News { says, gone: gone.is_some() })
    }

    /// Who sends nothing.
    pub(super) fn culprit(&self) -> String {
        let name = self.observer.name();
        match &self.senders[..] {
            [] => format!("nobody sent to '{name}'"),
            senders => {
                let who = senders.iter().map(|sender| called(sender.who.clone(), "a process"));
                format!("{} sent nothing to '{name}'", who.collect::<Vec<_>>().join(", "))
            }
        }
    }
}
