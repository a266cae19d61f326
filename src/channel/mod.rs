//! Channels: messages of any size in place, from several senders to several receivers.
//!
//! From the bottom up: `geometry` (what lies where), `memory` (as references), `lane` (one sender's messages and buffers),
//! `queue` (a word that says what became of a message), `roster` (who sends and receives), `writer` (a lane in its
//! sender's hands), `message` (the bytes in the user's hands), and the public ends: `sender`, `receiver`, `ticket`; and
//! `observer`, which takes no part.
//! docs/DESIGN.md draws the bytes, and says what a death leaves at each step.

mod geometry;
mod handover;
mod lane;
mod memory;
mod message;
mod observer;
mod payload;
mod queue;
mod receiver;
mod roster;
mod sender;
mod service;
#[cfg(test)]
mod tests;
mod ticket;
mod untyped;
mod wait;
mod waitset;
mod writer;

pub use message::{Loan, Message, Value};
pub use observer::{ChannelInfo, Copied, Observer};
pub use payload::{Dtype, Image, PixelFormat, Tensor, TensorView};
pub use receiver::{Messages, Receiver};
pub use roster::{ReceiverInfo, SenderInfo};
pub use sender::{Sender, Unsent};
pub use service::{Call, Client, Request, Server, ServiceOptions};
pub use ticket::{Handled, Outcome, Ticket};
use untyped::is_untyped;
pub use untyped::{Untyped, UntypedTail};
pub use waitset::{Key, WaitSet};

use crate::error::Error;
use crate::object::{Header, Name, Object, Options, Persistence};
use crate::segment::{Layout, Schema, Shareable};
use geometry::{Geometry, MESSAGE, MESSAGE_ALIGN, MESSAGES, RELEASED, is_of};

/// Who gets a message, and what happens when receivers are slower than senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Everybody gets every message. A message stays until all who received when it was sent have let go of it or died,
    /// and somebody has processed it; until then a full window blocks the sender.
    #[default]
    Lossless,
    /// Everybody gets the newest messages. The sender is never blocked: it overwrites the oldest message, and receivers
    /// that were too slow learn how many they missed.
    Newest,
    /// One receiver gets each message. If it dies or gives the message back, another one gets it. A full window of
    /// unprocessed messages blocks the sender.
    Queue,
    /// Requests of several clients go to one server, and each answer to who asked: a [`Server`] makes such a channel, and
    /// none can be created with these options.
    Service,
}

impl Policy {
    const ALL: [Self; 4] = [Self::Lossless, Self::Newest, Self::Queue, Self::Service];

    /// Its name in the description of a channel.
    fn name(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::Newest => "newest",
            Self::Queue => "queue",
            Self::Service => "service",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// How a channel is created. Its creator decides; whoever opens it gets it as it is.
///
/// All memory is reserved at once, for each sender `slots + receivers * (claims + 1) + loans` buffers of `max_message`
/// bytes: so no loan ever waits for a receiver. By default that is 4 + 4 * 3 + 2 = 18 buffers of 64 KiB, 1.2 MB in all;
/// for RGB images of 1920 x 1080 it is 112 MB, and 50 MB with `slots(2).receivers(1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOptions {
    max_message: Option<u64>,
    slots: u16,
    senders: u16,
    receivers: u16,
    claims: u16,
    loans: u16,
    policy: Policy,
    object: Options,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            max_message: None,
            slots: 4,
            senders: 1,
            receivers: 4,
            claims: 2,
            loans: 2,
            policy: Policy::default(),
            object: Options::new(),
        }
    }
}

impl ChannelOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The size of the largest message in bytes, 65536 by default. A type of fixed size has its own.
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// How many messages of each sender are kept (4 by default): as many as a receiver may be behind before it misses
    /// some, or its sender waits.
    #[must_use]
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots;
        self
    }

    /// How many senders there can be at a time (1 by default). Each has a lane with buffers of its own.
    #[must_use]
    pub fn senders(mut self, senders: u16) -> Self {
        self.senders = senders;
        self
    }

    /// How many receivers there can be at a time (4 by default). With the senders at most 128.
    #[must_use]
    pub fn receivers(mut self, receivers: u16) -> Self {
        self.receivers = receivers;
        self
    }

    /// How many messages a receiver can hold at a time (2 by default, at most 62), small ones counted in a queue only; one more
    /// is kept for [`Receiver::latest`].
    #[must_use]
    pub fn claims(mut self, claims: u16) -> Self {
        self.claims = claims;
        self
    }

    /// How many messages a sender can fill at a time (2 by default), small ones not counted.
    #[must_use]
    pub fn loans(mut self, loans: u16) -> Self {
        self.loans = loans;
        self
    }

    /// Who gets a message, and what happens when receivers are slow.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How long the channel stays: by default until its last sender or receiver has closed it or died.
    #[must_use]
    pub fn persistence(mut self, persistence: Persistence) -> Self {
        self.object = self.object.persistence(persistence);
        self
    }

    /// The permission bits, as [`Options::mode`]. Whoever receives needs the right to write, too.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.object = self.object.mode(mode);
        self
    }

    /// What follows from the options for messages of that layout.
    fn geometry(&self, name: &Name, layout: Layout) -> Result<Geometry, Error> {
        let bad = |why: String| Error::BadOptions { name: name.to_string(), why };
        if self.policy == Policy::Service {
            return Err(bad("make a service with `Server::create`".into()));
        }
        let max_message = longest(layout, self.max_message, name)?;
        Geometry::of(self, max_message).ok_or_else(|| {
            bad(format!(
                "{} slots, {} senders, {} receivers, {} claims, {} loans of {max_message} bytes do not fit: use 1 to 32768 \
                 slots, 1 to 62 claims, 1 loan or more, 1 sender and 1 receiver or more, 128 in all, and less than 65536 \
                 buffers of at most a tebibyte",
                self.slots, self.senders, self.receivers, self.claims, self.loans
            ))
        })
    }
}

/// The size of the largest message of that layout, if so much is asked for.
fn longest(layout: Layout, asked: Option<u64>, name: &Name) -> Result<u64, Error> {
    let bad = |why: String| Err(Error::BadOptions { name: name.to_string(), why });
    let (size, align) = (layout.base_size() as u64, layout.align() as u64);
    let longest = asked.unwrap_or(if layout.has_tail() { 1 << 16 } else { size });
    if longest < size {
        return bad(format!("a message has {size} bytes at least, more than {longest}"));
    }
    if align > MESSAGE_ALIGN {
        return bad(format!("its messages need an alignment of {align}, of at most {MESSAGE_ALIGN}"));
    }
    Ok(longest)
}

/// Refuses at compile time what can be no message.
const fn check_message<T: Shareable + ?Sized>() {
    assert!(T::PLAIN, "a message is read by several processes at a time: it holds no atomics and no locks");
}

/// Whether an object holds a `channel`, or a `service`, of whatever.
fn check_kind(header: &Header, name: &Name, kind: &str) -> Result<(), Error> {
    if is_of(&header.schema, kind) {
        return Ok(());
    }
    let held = header.type_name().map_or("raw bytes".to_owned(), |other| format!("a `{other}`"));
    let difference = format!("  it holds {held}, this program wants a {kind}");
    Err(Error::TypeMismatch { name: name.to_string(), difference })
}

/// Whether an object is a channel or a service: its description is of messages then, and not of what lies in it.
pub(crate) fn is_channel(header: &Header) -> bool {
    ["channel", "service"].iter().any(|kind| is_of(&header.schema, kind))
}

/// What somebody waits for who sleeps on the word at this offset of a channel.
pub(crate) fn awaited_in_channel(offset: u64) -> Option<&'static str> {
    match offset {
        MESSAGES => Some("messages"),
        RELEASED => Some("room"),
        _ => None,
    }
}

/// What the description of an object says of the messages, or of what else is at `path`.
fn schema_at(header: &Header, path: &str) -> Schema {
    Schema::from_text(&header.schema).at(path)
}

/// Whether what the description of an object says at `path` is a `T`, or may be anything.
fn check_type<T: Shareable + ?Sized>(header: &Header, name: &Name, path: &str) -> Result<(), Error> {
    let (theirs, ours) = (schema_at(header, path), Schema::of::<T>());
    if is_untyped(&ours) {
        return Ok(());
    }
    // With the path again, for the error.
    let [theirs, ours] = [theirs, ours].map(|schema| {
        let mut whole = Schema::default();
        whole.append(path, &schema);
        whole
    });
    ours.check(name, theirs.as_str())
}

/// What an object must be to be opened as a channel of `T`.
fn checked<T: Shareable + ?Sized>(object: Object) -> Result<Object, Error> {
    check_kind(&object.header, &object.name, "channel")?;
    check_type::<T>(&object.header, &object.name, MESSAGE)?;
    Ok(object)
}
