//! Watching a channel without taking part: through its file, in nobody's way, and believing nothing.

use super::geometry::{ENTRY, Geometry, MESSAGE, is_of};
use super::lane::Place;
use super::memory::{Entry, LaneHeader, SMALL};
use super::message::{METADATA, Value};
use super::queue::Task;
use super::roster::{CLOSED, Done, RECEIVES, ReceiverInfo, SenderInfo, latency_of, outcome_of};
use super::{Policy, check_kind, schema_at};
use crate::error::{Error, Who, shown};
use crate::object::{Found, Header, Name, ToName};
use crate::owner::{self, OwnerId};
use crate::prim::{self, Ordering};
use crate::segment::{Schema, Shareable};
use crate::sys::{self, Access, Moment};
use std::mem::offset_of;
use std::time::Duration;

/// A channel as an [`Observer`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Who gets a message.
    pub policy: Policy,
    /// What a message is: the name of its type, or `bytes`.
    pub message_type: String,
    /// The longest message in bytes.
    pub max_message: u64,
    /// The messages that each lane keeps.
    pub slots: u64,
    /// How many senders there can be.
    pub max_senders: usize,
    /// How many receivers there can be.
    pub max_receivers: usize,
    /// The messages that were sent in each lane.
    pub sent: Vec<u64>,
    /// Of those that each lane keeps, the messages that somebody still waits for or holds.
    pub used: Vec<u64>,
    /// Who sends.
    pub senders: Vec<SenderInfo>,
    /// Who has died without ending in good order, and in whose lane nobody has followed yet.
    pub dead_senders: Vec<SenderInfo>,
    /// Who receives.
    pub receivers: Vec<ReceiverInfo>,
}

/// A message as an [`Observer`] has copied it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The lane it came by.
    pub lane: usize,
    /// Its number in the lane.
    pub sequence: u64,
    /// The number of its bytes, of which `bytes` may have fewer.
    pub size: u64,
    /// The elements of its flexible tail, if its type has one.
    pub tail: u64,
    /// How long ago it was sent, or `None` if its sender reads another clock.
    pub age: Option<Duration>,
    /// What its sender says that the bytes are; 0 if it says nothing.
    pub schema_id: u64,
    /// What its sender sent along.
    pub metadata: Vec<u8>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Copied {
    /// The bytes as a `T`, also if they were sent as something else: [`Observer::holds`] says. Of a tail it has what was
    /// copied; `None` if not even the rest was.
    #[must_use]
    pub fn value<T: Shareable + ?Sized>(&self) -> Option<Value<T>> {
        Value::of(&self.bytes, self.tail)
    }
}

/// Watches a channel without taking part in it: nobody waits for it, it keeps nothing alive and changes nothing. It copies
/// what it shows, and misses what is overwritten before that.
#[derive(Debug)]
pub struct Observer {
    found: Found,
    geometry: Geometry,
}

/// Some words of a channel, copied.
struct Words {
    start: u64,
    bytes: Vec<u8>,
}

impl Words {
    fn at(&self, offset: u64) -> u64 {
        let start = offset.checked_sub(self.start).and_then(|start| usize::try_from(start).ok());
        let word = start.and_then(|start| self.bytes.get(start..)?.first_chunk());
        word.map_or(0, |word| u64::from_ne_bytes(*word))
    }
}

impl Observer {
    /// Looks at a channel, whatever its messages are; the right to read it is enough.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::TypeMismatch`] if the object is no channel, and those of a damaged
    /// object.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        let name = name.to_name()?;
        let found = Found::find(&name, Access::Read)?;
        if !is_of(&found.header.schema, "service") {
            check_kind(&found.header, &name, "channel")?;
        }
        let geometry = Geometry::parse(name.as_str(), &found.header.schema, found.header.data_len)?;
        Ok(Self { found, geometry })
    }

    /// The name it was opened by.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.found.name
    }

    /// A random number that no other object has or had: a channel that was created again has another.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.found.header.id
    }

    /// Whether the channel's messages are of type `T`.
    #[must_use]
    pub fn holds<T: Shareable + ?Sized>(&self) -> bool {
        schema_at(&self.found.header, MESSAGE) == Schema::of::<T>()
    }

    /// The messages that were sent in each lane: of [`look`](Self::look) what costs little to ask for again and again.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if it cannot be read.
    pub fn sent(&self) -> Result<Vec<u64>, Error> {
        (0..self.geometry.senders as usize).map(|lane| self.last(lane)).collect()
    }

    fn words(&self, start: u64, len: u64) -> Result<Words, Error> {
        let mut bytes = vec![0; len as usize];
        self.found.read(start, &mut bytes)?;
        Ok(Words { start, bytes })
    }

    fn word(&self, offset: u64) -> Result<u64, Error> {
        Ok(self.words(offset, 8)?.at(offset))
    }

    /// What the channel is like, who takes part, and how far they are. What changes meanwhile may be of different moments.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if it cannot be read.
    pub fn look(&self) -> Result<ChannelInfo, Error> {
        let of = &self.geometry;
        let words = self.words(0, of.control_len)?;
        let table = self.found.table()?;
        let living = |word: u64| owner::living_in(&table, &self.found.locks, OwnerId::in_word(word));
        let lanes = 0..of.senders as usize;
        let sent = self.sent()?;
        let (mut senders, mut dead_senders) = (Vec::new(), Vec::new());
        for lane in of.request_lanes() {
            let word = words.at(of.sender(lane));
            let owner = OwnerId::in_word(word);
            if owner.is_nobody() || word & CLOSED != 0 {
                continue;
            }
            let lives = owner::living_in(&table, &self.found.locks, owner);
            let who = lives.clone().or_else(|| owner::who_in(&table, owner));
            let whose = if lives.is_some() { &mut senders } else { &mut dead_senders };
            whose.push(SenderInfo { who, lane, sent: sent[lane] });
        }
        let receivers = (0..of.receivers as usize).filter_map(|index| {
            let who = living(words.at(of.receiver(index)))?;
            Some(self.receiver(&words, index, who, &sent))
        });
        Ok(ChannelInfo {
            policy: of.policy,
            message_type: message_type(&self.found.header),
            max_message: of.shape(0).max_message,
            slots: of.slots,
            max_senders: of.senders as usize,
            max_receivers: of.receivers as usize,
            used: lanes.map(|lane| self.used(&words, lane, sent[lane])).collect(),
            senders,
            dead_senders,
            receivers: receivers.collect(),
            sent,
        })
    }

    fn receiver(&self, words: &Words, index: usize, who: Who, sent: &[u64]) -> ReceiverInfo {
        let of = &self.geometry;
        let lag = |lane: usize| (sent[lane] + 1).saturating_sub(words.at(of.cursor(index, lane)));
        let lags = of.lanes_of(index).map(lag).fold(0, u64::saturating_add);
        ReceiverInfo {
            who: Some(who),
            lag: if of.policy == Policy::Queue { 0 } else { lags },
            missed: words.at(of.missed(index)),
            latency: latency_of(words.at(of.latency(index))),
            claims: (0..of.claims).filter(|claim| words.at(of.claim(index, *claim)) != 0).count(),
        }
    }

    /// How many messages of a lane are not let go yet.
    fn used(&self, words: &Words, lane: usize, sent: u64) -> u64 {
        let of = &self.geometry;
        let is_used = |sequence: &u64| {
            let task = words.at(of.task(lane, *sequence));
            let outcome = |index| words.at(of.outcome(index, lane, *sequence));
            let is_processed = |index| outcome(index) == outcome_of(*sequence, Done::Processed);
            let receives = |index: &usize| words.at(of.receiver(*index)) & RECEIVES != 0;
            let mut outcomes = of.readers(lane).filter(receives).map(outcome);
            let mut released = of.policy == Policy::Newest || task >= *sequence || of.readers(lane).any(is_processed);
            match of.policy {
                Policy::Queue => !Task::from_word(task).is_over(*sequence),
                // As in `is_let_go`.
                _ => {
                    outcomes.any(|word| {
                        released |= word == outcome_of(*sequence, Done::Skipped);
                        word >> 2 < *sequence
                    }) || !released
                }
            }
        };
        (of.oldest(sent)..=sent).filter(is_used).count() as u64
    }

    /// The last message of a lane.
    fn last(&self, lane: usize) -> Result<u64, Error> {
        let head = self.word(self.geometry.lane(lane) + offset_of!(LaneHeader, head) as u64)?.min(1 << 61);
        let next = self.word(self.geometry.entry(lane, head + 1) + offset_of!(Entry, word) as u64)?;
        Ok(if next == head + 1 { next } else { head })
    }

    /// Copies a message, or as much of it as `most` bytes; `None` if it is not kept any more, or was not sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if what the channel says of it does not make sense, [`Error::Os`] if it cannot be read.
    pub fn copy(&self, lane: usize, sequence: u64, most: usize) -> Result<Option<Copied>, Error> {
        let of = &self.geometry;
        if lane as u64 >= of.senders || sequence == 0 {
            return Ok(None);
        }
        let entry = of.entry(lane, sequence);
        let words = self.words(entry, ENTRY)?;
        if words.at(entry + offset_of!(Entry, word) as u64) != sequence {
            return Ok(None);
        }
        let place = Place::from_word(words.at(entry + offset_of!(Entry, place) as u64));
        let stamp = words.at(entry + offset_of!(Entry, stamp) as u64);
        let tail = words.at(entry + offset_of!(Entry, tail) as u64);
        let longest = if place.small { SMALL as u64 } else { of.shape(lane).max_message };
        let sound = place.len <= longest && u64::from(place.buffer) < of.buffers();
        let len = if sound { (place.len as usize).min(most) } else { 0 };
        let mut bytes = vec![0; len];
        let mut label = Words { start: 0, bytes: vec![0; 16 + METADATA] };
        if place.small {
            bytes.copy_from_slice(&words.bytes[offset_of!(Entry, small)..][..len]);
        } else if sound {
            self.found.read(of.buffer(lane, place.buffer), &mut bytes)?;
            if place.labelled {
                self.found.read(of.buffer_header(lane, place.buffer), &mut label.bytes)?;
            }
        }
        let header = self.words(of.lane(lane), size_of::<LaneHeader>() as u64)?;
        let field = |offset: usize| header.at(of.lane(lane) + offset as u64);
        let since = Moment { ticks: field(offset_of!(LaneHeader, ticks)), nanos: field(offset_of!(LaneHeader, nanos)) };
        let is_comparable = field(offset_of!(LaneHeader, clock)) == sys::clock_id();
        // ORDERING: pairs with the fences in `Entry::publish` and `Pool::refill`: if anything that was copied is of a later
        // message, the word is seen changed.
        prim::fence(Ordering::SeqCst);
        if self.word(entry + offset_of!(Entry, word) as u64)? != sequence {
            return Ok(None);
        }
        if !sound {
            return Err(Error::Corrupt { name: self.name().to_string(), field: "message" });
        }
        let metadata = usize::try_from(label.at(8)).ok().and_then(|len| label.bytes[16..].get(..len));
        Ok(Some(Copied {
            lane,
            sequence,
            size: place.len,
            tail,
            age: is_comparable.then(|| sys::age(stamp, since)).flatten(),
            schema_id: label.at(0),
            metadata: metadata.unwrap_or_default().to_vec(),
            bytes,
        }))
    }
}

/// What a channel's description calls its messages.
fn message_type(header: &Header) -> String {
    match schema_at(header, MESSAGE).fields().next().map(|whole| whole.kind) {
        None | Some("flexible tail") => "bytes".into(),
        Some(kind) => shown(kind),
    }
}
