//! The library's channels, over the model's memory. Only their options are the model's own, and what refuses other types.

#[path = "../../../src/channel/geometry.rs"]
mod geometry;
#[path = "../../../src/channel/lane.rs"]
mod lane;
#[path = "../../../src/channel/memory.rs"]
mod memory;
#[path = "../../../src/channel/message.rs"]
mod message;
#[path = "../../../src/channel/queue.rs"]
mod queue;
#[path = "../../../src/channel/receiver.rs"]
mod receiver;
#[path = "../../../src/channel/roster.rs"]
mod roster;
#[path = "../../../src/channel/sender.rs"]
mod sender;
#[path = "../../../src/channel/ticket.rs"]
mod ticket;
#[path = "../../../src/channel/wait.rs"]
mod wait;
#[path = "../../../src/channel/writer.rs"]
mod writer;

mod buffers;
mod ends;
mod entries;
mod places;
mod tasks;

use crate::error::Error;
use crate::object::{Name, Object, Options};
use crate::prim;
use crate::region::header_of;
use crate::segment::{Layout, Schema, Shareable};
use crate::sys::Access;
use geometry::Geometry;
use loom::cell::UnsafeCell;
use memory::Memory;
use message::{Loan, Message};
use receiver::Receiver;
use sender::Sender;
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Lossless,
    Newest,
    Queue,
    Service,
}

impl Policy {
    const ALL: [(Self, &str); 4] =
        [(Self::Lossless, "lossless"), (Self::Newest, "newest"), (Self::Queue, "queue"), (Self::Service, "service")];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.1 == name).map(|known| known.0)
    }
}

/// As small as a channel can be, if nothing else is said.
#[derive(Debug, Clone, Copy)]
pub struct ChannelOptions {
    policy: Policy,
    slots: u16,
    senders: u16,
    receivers: u16,
    claims: u16,
    loans: u16,
    object: Options,
}

impl ChannelOptions {
    fn new() -> Self {
        let policy = Policy::Lossless;
        Self { policy, slots: 1, senders: 1, receivers: 1, claims: 1, loans: 1, object: Options::new() }
    }

    fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    fn slots(self, slots: u16) -> Self {
        Self { slots, ..self }
    }

    fn senders(self, senders: u16) -> Self {
        Self { senders, ..self }
    }

    fn receivers(self, receivers: u16) -> Self {
        Self { receivers, ..self }
    }

    fn claims(self, claims: u16) -> Self {
        Self { claims, ..self }
    }

    fn geometry(&self, _: &Name, _: Layout) -> Result<Geometry, Error> {
        Ok(geometry_of(self))
    }
}

/// For what is made of them only: no model has a service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceOptions {
    slots: u16,
    clients: u16,
    claims: u16,
    loans: u16,
}

/// In the shape of the library's, for the tests that `message.rs` has of its own.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Image {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) stride: u32,
    pub(crate) format: u32,
    pub(crate) reserved: [u64; 6],
    pub(crate) pixels: [u8],
}

// SAFETY: as the derive of `Shareable`, which the model cannot use: numbers and arrays of them, and bytes at the end.
unsafe impl Shareable for Image {
    type Tail = usize;
    const LAYOUT: Layout = Layout::EMPTY
        .with(u32::LAYOUT)
        .with(u32::LAYOUT)
        .with(u32::LAYOUT)
        .with(u32::LAYOUT)
        .with(<[u64; 6]>::LAYOUT)
        .with(<[u8]>::LAYOUT);
    const PLAIN: bool = true;

    fn describe(_: &mut Schema, _: &str, _: usize) {}

    fn from_base(base: *mut u8, tail: usize) -> *mut Self {
        std::ptr::slice_from_raw_parts_mut(base, tail) as *mut Self
    }
}

fn geometry_of(options: &ChannelOptions) -> Geometry {
    Geometry::of(options, LARGE as u64).expect("a channel can be like that")
}

const fn check_message<T: Shareable + ?Sized>() {}

fn checked<T: Shareable + ?Sized>(object: Object) -> Result<Object, Error> {
    Ok(object)
}

/// The length of a message that lies in a buffer, and of one that lies in its entry.
const LARGE: usize = 128;
const SMALL: usize = 8;

fn memory_of(name: &Name) -> Memory {
    Memory::new(Object::open(name.clone(), Access::ReadWrite).expect("it was created")).expect("it is sound")
}

/// A channel without senders.
fn name_of(options: &ChannelOptions) -> Name {
    let (name, geometry) = (Name::new(), geometry_of(options));
    let header = header_of(geometry.total().expect("it is small"), 0, geometry.describe(&Schema::of::<[u8]>(), None));
    let draft = Object::draft(name.clone(), header, &options.object).expect("a fresh channel");
    // All but the eventcounts, the words of senders and receivers, tasks and outcomes has one writer, which knows what is
    // there.
    let base = draft.data().addr().get();
    let plain = |from: u64, to: u64| prim::plain(base + from as usize..base + to as usize);
    plain(geometry.lane(0), geometry.lane(geometry.senders as usize));
    for index in 0..geometry.receivers as usize {
        plain(geometry.claim(index, 0), geometry.cursor(index, geometry.senders as usize));
    }
    let table = std::ptr::from_ref(&**draft.table()).addr();
    prim::plain(table..table + crate::owner::TABLE_SIZE);
    name
}

/// A channel, and a cell for each of its buffers: loom reports whoever accesses one while another writes it.
#[derive(Clone)]
struct Channel {
    name: Name,
    cells: Rc<HashMap<usize, UnsafeCell<()>>>,
}

impl Channel {
    /// Creates one, with its first sender.
    fn new(options: ChannelOptions) -> (Self, Sender) {
        let name = name_of(&options);
        let sender = Sender::open(&name).expect("there is a lane");
        let geometry = geometry_of(&options);
        let base = Object::open(name.clone(), Access::ReadWrite).expect("it was created").data().addr().get();
        let lanes = 0..geometry.senders as usize;
        let buffers = lanes.flat_map(|lane| (0..geometry.buffers() as u16).map(move |buffer| (lane, buffer)));
        let cell = |(lane, buffer)| (base + geometry.buffer(lane, buffer) as usize, UnsafeCell::new(()));
        (Self { name, cells: Rc::new(buffers.map(cell).collect()) }, sender)
    }

    fn receiver(&self) -> Receiver {
        Receiver::open(&self.name).expect("there is a place")
    }

    /// Fills a message whose bytes follow from `content`.
    fn loan(&self, sender: &Sender, content: u8, len: usize) -> Loan {
        let mut loan = sender.loan(len).expect("a buffer");
        match self.cells.get(&loan.as_ptr().addr()) {
            Some(cell) => cell.with_mut(|_| loan.fill(content)),
            None => loan.fill(content),
        }
        loan
    }

    /// The content of a message, all of whose bytes must be of one.
    fn read(&self, message: &Message) -> u8 {
        let read = || {
            let content = message[0];
            assert!(message.iter().all(|byte| *byte == content), "a message is whole");
            content
        };
        self.cells.get(&message.as_ptr().addr()).map_or_else(read, |cell| cell.with(|_| read()))
    }
}
