//! Messages whose type is known only when the program runs: what a face for another language sends and receives.
#![allow(unsafe_code)]

use super::geometry::{ANSWER, MESSAGE};
use super::memory::Memory;
use super::receiver::Receiver;
use super::sender::Sender;
use super::service::{Client, Server, ServiceOptions};
use super::{ChannelOptions, check_message, schema_at};
use crate::error::Error;
use crate::object::{Name, ToName};
use crate::region::open_or_create;
use crate::segment::{Layout, Schema, Shareable, Tail, private};
use std::ops::{Deref, DerefMut};

/// A message of whatever type, as its bytes. A channel of any type can be opened as one of `Untyped`, and
/// [`Receiver::schema`] says what its messages are.
///
/// ```
/// use memlane::{ChannelOptions, Image, PixelFormat, Receiver, Sender, Untyped};
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let sender = Sender::<Image>::create(&name, &ChannelOptions::new())?;
/// let mut receiver = Receiver::<Untyped>::open(&name)?; // in another process
/// sender.loan_image(6, 4, PixelFormat::Rgb8)?.send()?;
///
/// assert_eq!(receiver.schema().fields().next().map(|whole| whole.kind), Some("Image"));
/// let message = receiver.recv()?;
/// assert_eq!(message.view::<Image>().map(|image| (image.width, image.height)), Some((6, 4)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct Untyped([u8]);

/// What [`Untyped`] is called in descriptions, where it stands for any type.
const UNTYPED: &str = "untyped";

/// Whether a description is that of [`Untyped`].
pub(super) fn is_untyped(schema: &Schema) -> bool {
    schema.fields().next().is_some_and(|whole| whole.path.is_empty() && whole.kind == UNTYPED)
}

// SAFETY: bytes, which are a value whatever they are, and do not change through a shared reference; the cast keeps address
// and length.
unsafe impl Shareable for Untyped {
    type Tail = UntypedTail;
    const LAYOUT: Layout = Layout::of_tail::<u8>();
    const PLAIN: bool = true;

    fn describe(schema: &mut Schema, path: &str, offset: usize) {
        schema.line(path, UNTYPED, offset, 0);
    }

    fn from_base(base: *mut u8, tail: UntypedTail) -> *mut Self {
        std::ptr::slice_from_raw_parts_mut(base, tail.len) as *mut Self
    }
}

impl Deref for Untyped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Untyped {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// How many elements the tail of a `T` has that takes up `len` bytes at that address.
fn tail_of<T: Shareable + ?Sized>(bytes: *const u8, len: usize) -> Option<T::Tail> {
    const { check_message::<T>() };
    if !bytes.addr().is_multiple_of(T::LAYOUT.align()) {
        return None;
    }
    let most = T::LAYOUT.tail_in(len)?;
    // The end may be padded with more bytes than there are: then there are some elements fewer.
    let fewest = most.saturating_sub(T::LAYOUT.align() as u64);
    (fewest..=most).rev().find_map(|tail| {
        let size = T::LAYOUT.size(tail);
        size.filter(|size| *size <= len).and_then(|size| T::Tail::of_message(tail, size as u64))
    })
}

impl Untyped {
    /// The bytes as a `T`, whatever they were sent as: any bytes are one. Of a flexible tail it has as many elements as there
    /// are bytes for, so what pads a message at its end counts as well. `None` if they are too few or do not lie as a `T`
    /// has to.
    #[must_use]
    pub fn view<T: Shareable + ?Sized>(&self) -> Option<&T> {
        let base = self.0.as_ptr();
        let tail = tail_of::<T>(base, self.0.len())?;
        // SAFETY: aligned, and no longer than the bytes, as `tail_of` checked; borrowed like them. Every byte pattern is a
        // `T`, and nothing in it changes through a shared reference.
        Some(unsafe { &*T::from_base(base.cast_mut(), tail) })
    }

    /// The same, to be written.
    #[must_use]
    pub fn view_mut<T: Shareable + ?Sized>(&mut self) -> Option<&mut T> {
        let base = self.0.as_mut_ptr();
        let tail = tail_of::<T>(base, self.0.len())?;
        // SAFETY: as in `view`, and borrowed exclusively.
        Some(unsafe { &mut *T::from_base(base, tail) })
    }
}

/// The length of an [`Untyped`] message. However short it is, it is filled in a buffer of the channel: what is there stays where
/// it is when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntypedTail {
    len: usize,
    elements: u64,
}

impl UntypedTail {
    /// Of a message of the type that has this layout ([`Schema::layout`]), with so many elements in its flexible tail (0 if
    /// it has none). `None` if there is no such message.
    #[must_use]
    pub fn new(layout: Layout, elements: u64) -> Option<Self> {
        let len = layout.size(elements).filter(|_| elements == 0 || layout.has_tail())?;
        Some(Self { len, elements })
    }

    /// The length of the message in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a length, not a collection")]
    pub fn len(self) -> usize {
        self.len
    }

    /// The elements of its flexible tail.
    #[must_use]
    pub fn elements(self) -> u64 {
        self.elements
    }
}

impl private::Sealed for UntypedTail {}

impl Tail for UntypedTail {
    fn to_len(self) -> u64 {
        self.len as u64
    }

    fn from_len(len: u64) -> Option<Self> {
        Self::of_message(len, len)
    }

    fn elements(self) -> u64 {
        self.elements
    }

    fn of_message(elements: u64, len: u64) -> Option<Self> {
        Some(Self { len: usize::try_from(len).ok()?, elements })
    }

    fn may_be_small(self) -> bool {
        false
    }
}

/// The layout of what `schema` describes, if there can be messages of it.
fn layout_of(name: &Name, schema: &Schema) -> Result<Layout, Error> {
    let why = || "its messages are not described so that it can be told how long they are".to_owned();
    schema.layout().ok_or_else(|| Error::BadOptions { name: name.to_string(), why: why() })
}

fn schema_of(memory: &Memory, path: &str) -> Schema {
    schema_at(&memory.attachment().object().header, path)
}

impl Sender<Untyped> {
    /// Creates a channel of what `schema` describes, and becomes a sender of it, as [`create`](Self::create). Who opens it
    /// with a type of their own gets it if that describes itself in the same way.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_as(name: impl ToName, options: &ChannelOptions, schema: &Schema) -> Result<Self, Error> {
        let name = name.to_name()?;
        let layout = layout_of(&name, schema)?;
        Self::create_with(name, options, layout, schema)
    }

    /// Opens the channel, if its messages are what `schema` describes, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_as(name: impl ToName, options: &ChannelOptions, schema: &Schema) -> Result<Self, Error> {
        let name = name.to_name()?;
        let open = || {
            let sender = Self::open(&name)?;
            schema.check(&name, sender.schema().as_str()).map(|()| sender)
        };
        open_or_create(open, || Self::create_as(&name, options, schema))
    }
}

impl<T: Shareable + ?Sized> Sender<T> {
    /// The description of the messages.
    #[must_use]
    pub fn schema(&self) -> Schema {
        schema_of(self.memory(), MESSAGE)
    }
}

impl<T: Shareable + ?Sized> Receiver<T> {
    /// The description of the messages.
    #[must_use]
    pub fn schema(&self) -> Schema {
        schema_of(self.memory(), MESSAGE)
    }
}

impl Server<Untyped, Untyped> {
    /// Creates a service of requests and answers as `schemas` describe them, and becomes its server, as
    /// [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_as(name: impl ToName, options: &ServiceOptions, schemas: [&Schema; 2]) -> Result<Self, Error> {
        let name = name.to_name()?;
        let [request, answer] = schemas;
        let types = [(layout_of(&name, request)?, request.clone()), (layout_of(&name, answer)?, answer.clone())];
        Self::create_with(name, options, &types)
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Server<Q, A> {
    /// The descriptions of requests and answers.
    #[must_use]
    pub fn schemas(&self) -> [Schema; 2] {
        [MESSAGE, ANSWER].map(|path| schema_of(self.memory(), path))
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Client<Q, A> {
    /// The descriptions of requests and answers.
    #[must_use]
    pub fn schemas(&self) -> [Schema; 2] {
        [MESSAGE, ANSWER].map(|path| schema_of(self.answers().memory(), path))
    }
}
