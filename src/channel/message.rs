//! The bytes of a message in somebody's hands: a loan while it is filled, a message once it was received.
#![allow(unsafe_code)]

use super::check_message;
use super::geometry::{BUFFER_HEADER, MESSAGE_ALIGN};
use super::lane::{Content, Place};
use super::memory::{Entry, SMALL};
use super::receiver::Reader;
use super::roster::Done;
use super::writer::Writer;
use crate::error::{RecvError, SendError};
use crate::segment::{Shareable, Tail};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// The bytes that can be sent along with a message.
pub(super) const METADATA: usize = 64;

/// A small message, in this process's own memory until it is sent and after it was received.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Small([u64; SMALL / 8]);

impl Small {
    pub(super) const EMPTY: Self = Self([0; SMALL / 8]);
}

/// A buffer of the channel, which is this guard's own: to write, or to read.
#[derive(Clone, Copy)]
struct Buffer {
    number: u16,
    base: NonNull<u8>,
}

// SAFETY: whoever has the guard has the buffer, in whatever thread; the guard keeps the mapping.
unsafe impl Send for Buffer {}
// SAFETY: through a shared guard the buffer is only read.
unsafe impl Sync for Buffer {}

/// What lies beside a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Label {
    schema_id: u64,
    len: u64,
    metadata: [u8; METADATA],
}

impl Label {
    const EMPTY: Self = Self { schema_id: 0, len: 0, metadata: [0; METADATA] };
}

const _: () = assert!(size_of::<Label>() as u64 <= BUFFER_HEADER && align_of::<Label>() as u64 <= MESSAGE_ALIGN);

enum Bytes {
    Small(Small),
    Buffer(Buffer),
}

impl Bytes {
    fn base(&self) -> *const u8 {
        match self {
            Self::Small(small) => small.0.as_ptr().cast(),
            Self::Buffer(buffer) => buffer.base.as_ptr(),
        }
    }

    fn base_mut(&mut self) -> *mut u8 {
        match self {
            Self::Small(small) => small.0.as_mut_ptr().cast(),
            Self::Buffer(buffer) => buffer.base.as_ptr(),
        }
    }
}

/// So many bytes, aligned as any message needs it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; MESSAGE_ALIGN as usize]);

/// A message that was copied, read as a `T`. It derefs to the `T`.
pub struct Value<T: Shareable + ?Sized = [u8]> {
    lines: Vec<Line>,
    tail: T::Tail,
}

impl<T: Shareable + ?Sized> Value<T> {
    /// The first of `bytes` with at most `tail` elements; `None` if they are too few.
    pub(super) fn of(bytes: &[u8], tail: u64) -> Option<Self> {
        const { check_message::<T>() };
        if T::LAYOUT.align() > align_of::<Line>() {
            return None;
        }
        let tail = T::Tail::from_len(T::LAYOUT.tail_in(bytes.len())?.min(tail))?;
        let mut lines = vec![Line([0; MESSAGE_ALIGN as usize]); bytes.len().div_ceil(size_of::<Line>())];
        for (line, bytes) in lines.iter_mut().zip(bytes.chunks(size_of::<Line>())) {
            line.0[..bytes.len()].copy_from_slice(bytes);
        }
        Some(Self { lines, tail })
    }
}

impl<T: Shareable + ?Sized> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lines are aligned, and hold a `T` with this tail, as `of` checked, up to the end of its padding, as
        // they are whole lines. Every byte pattern is a `T`, and nothing in it changes through a shared reference.
        unsafe { &*T::from_base(self.lines.as_ptr().cast_mut().cast(), self.tail) }
    }
}

impl<T: Shareable + ?Sized> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("tail", &self.tail.to_len()).finish_non_exhaustive()
    }
}

/// The bytes of a `T` with a tail that was found to be possible.
fn size<T: Shareable + ?Sized>(tail: T::Tail) -> usize {
    T::LAYOUT.size(tail.to_len()).unwrap_or(0)
}

/// Whether a `T` of `len` bytes can lie in an entry, where it is copied as whole words: padding has no value to copy.
fn is_small<T: Shareable + ?Sized>(len: usize) -> bool {
    len <= SMALL && T::LAYOUT.align() <= align_of::<Small>() && !T::LAYOUT.is_padded()
}

/// A message that is being filled, in place. It derefs to the `T`.
///
/// [`send`](Loan::send) hands it over without copying it; dropped, it was never there. What is in it at first is what an
/// earlier message left there, if it was not asked for [zeroed](crate::Sender::loan_zeroed): every byte pattern is a `T`.
///
/// A message of up to 88 bytes is copied once when it is sent and once when it is received: that is faster. It may be
/// sent from another thread, and after the [`Sender`](crate::Sender) was dropped.
pub struct Loan<T: Shareable + ?Sized = [u8]> {
    /// `None` once it was sent: then the buffer is no longer its own.
    writer: Option<Arc<Writer>>,
    bytes: Bytes,
    tail: T::Tail,
    labelled: bool,
    /// The request that it answers, if it does.
    about: u64,
}

impl<T: Shareable + ?Sized> Loan<T> {
    /// Takes room for a `T` with `tail` elements.
    #[inline(always)]
    pub(super) fn take(writer: &Arc<Writer>, tail: T::Tail, zeroed: bool) -> Result<Self, SendError> {
        let memory = writer.memory();
        let max = memory.geometry().shape(writer.lane()).max_message;
        let len = T::LAYOUT.size(tail.to_len()).filter(|len| *len as u64 <= max);
        let channel = || memory.attachment().name();
        let len = len.ok_or_else(|| SendError::TooLarge { channel: channel(), max })?;
        let bytes = if is_small::<T>(len) && tail.may_be_small() {
            Bytes::Small(Small::EMPTY)
        } else {
            Bytes::Buffer(Self::take_buffer(writer)?)
        };
        if zeroed && let Bytes::Buffer(buffer) = &bytes {
            // SAFETY: the buffer is this loan's own, and at least `max_message` bytes long.
            unsafe { buffer.base.as_ptr().write_bytes(0, len) };
        }
        Ok(Self { writer: Some(Arc::clone(writer)), bytes, tail, labelled: false, about: 0 })
    }

    fn take_buffer(writer: &Arc<Writer>) -> Result<Buffer, SendError> {
        let memory = writer.memory();
        // In a forked child the buffers are its parent's.
        memory.attachment().check()?;
        let in_use =
            || SendError::LoansInUse { channel: memory.attachment().name(), limit: memory.geometry().loans as usize };
        let number = writer.take_buffer().ok_or_else(in_use)?;
        Ok(Buffer { number, base: memory.buffer(writer.lane(), number) })
    }

    /// Gives back all of the tail but its first elements.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if that would make it longer.
    pub fn shrink(&mut self, tail: T::Tail) -> Result<(), SendError> {
        if tail.to_len() > self.tail.to_len() {
            let channel = self.writer().memory().attachment().name();
            return Err(SendError::TooLarge { channel, max: size::<T>(self.tail) as u64 });
        }
        self.tail = tail;
        Ok(())
    }

    /// Sends up to 64 bytes of the user's own along with the message, to be had with [`Message::metadata`].
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if there are more, [`SendError::LoansInUse`] if the message is small, as it then takes a
    /// buffer after all.
    pub fn set_metadata(&mut self, metadata: &[u8]) -> Result<(), SendError> {
        let channel = || self.writer().memory().attachment().name();
        if metadata.len() > METADATA {
            return Err(SendError::TooLarge { channel: channel(), max: METADATA as u64 });
        }
        self.change_label(|label| {
            label.len = metadata.len() as u64;
            label.metadata[..metadata.len()].copy_from_slice(metadata);
        })
    }

    /// Says what the bytes are, to be had with [`Message::schema_id`]: a number that sender and receivers agree on.
    ///
    /// # Errors
    ///
    /// [`SendError::LoansInUse`], as for [`set_metadata`](Self::set_metadata).
    pub fn set_schema_id(&mut self, schema_id: u64) -> Result<(), SendError> {
        self.change_label(|label| label.schema_id = schema_id)
    }

    fn change_label(&mut self, change: impl FnOnce(&mut Label)) -> Result<(), SendError> {
        let buffer = match &self.bytes {
            Bytes::Buffer(buffer) => *buffer,
            Bytes::Small(small) => {
                let buffer = Self::take_buffer(self.writer())?;
                // SAFETY: the buffer is ours alone; the message fits into both, which do not overlap.
                unsafe { buffer.base.as_ptr().copy_from_nonoverlapping(small.0.as_ptr().cast(), size::<T>(self.tail)) };
                self.bytes = Bytes::Buffer(buffer);
                buffer
            }
        };
        let label = self.writer().memory().buffer_header(self.writer().lane(), buffer.number).cast::<Label>();
        if !self.labelled {
            // SAFETY: what lies beside the buffer is this loan's own like the buffer; large and aligned enough for a
            // label, as asserted above.
            unsafe { label.write(Label::EMPTY) };
            self.labelled = true;
        }
        // SAFETY: as above; any bytes are a label.
        change(unsafe { &mut *label.as_ptr() });
        Ok(())
    }

    /// What is to be said of the message in its entry, and its bytes, if they lie there.
    #[inline(always)]
    pub(super) fn content(&self, stamp: u64) -> (Content, &[u64]) {
        let len = size::<T>(self.tail);
        let (small, buffer, words) = match &self.bytes {
            Bytes::Small(small) => (true, 0, &small.0[..len.div_ceil(8)]),
            Bytes::Buffer(buffer) => (false, buffer.number, [].as_slice()),
        };
        let place = Place { len: len as u64, small, labelled: self.labelled, buffer };
        (Content { place, tail: self.tail.elements(), stamp, about: self.about }, words)
    }

    /// Says that it answers a request.
    pub(super) fn answering(mut self, request: u64) -> Self {
        self.about = request;
        self
    }

    #[inline]
    pub(super) fn writer(&self) -> &Arc<Writer> {
        self.writer.as_ref().expect("it was not sent yet")
    }

    /// It was sent: dropping it does nothing any more.
    #[inline]
    pub(super) fn take_writer(&mut self) -> Arc<Writer> {
        self.writer.take().expect("it was not sent yet")
    }
}

impl<T: Shareable + ?Sized> Deref for Loan<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `base` is aligned and long enough for a `T` with this tail: `take` and `shrink` saw to the length, and
        // buffers are aligned to 64, small ones to 16. Every byte pattern is a `T`. A buffer is this loan's own: `Pool`
        // gives none out that is in the window or claimed, and a reader that comes too late sees that, and reads nothing.
        unsafe { &*T::from_base(self.bytes.base().cast_mut(), self.tail) }
    }
}

impl<T: Shareable + ?Sized> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` makes it the only reference.
        unsafe { &mut *T::from_base(self.bytes.base_mut(), self.tail) }
    }
}

impl<T: Shareable + ?Sized> Drop for Loan<T> {
    fn drop(&mut self) {
        // A forked child has nothing to give back, and a lock that may be held for ever.
        if let (Some(writer), Bytes::Buffer(buffer)) = (&self.writer, &self.bytes)
            && !writer.memory().attachment().is_forked()
        {
            writer.put_back(buffer.number);
        }
    }
}

impl<T: Shareable + ?Sized> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("size", &size::<T>(self.tail)).finish_non_exhaustive()
    }
}

/// A message that was received, in place. It derefs to the `T`.
///
/// It stays as it is while it is held, whatever the sender does; it keeps the mapping, and may go to another thread or
/// outlive the [`Receiver`](crate::Receiver). Dropping it says that it was processed, unless a panic unwinds: then, and
/// with [`give_back`](Message::give_back), it says the opposite.
pub struct Message<T: Shareable + ?Sized = [u8]> {
    reader: Arc<Reader>,
    held: Held<T>,
    bytes: Bytes,
    label: Option<Box<Label>>,
    done: Done,
    panicking: bool,
}

/// Where a message was found, and what is known of it besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) lane: usize,
    pub(super) sequence: u64,
    pub(super) content: Content,
    pub(super) missed: u64,
    /// How often it was taken, with this time, if it is of a queue: then nobody overwrites it.
    pub(super) deliveries: Option<u64>,
}

/// A message that a receiver has taken hold of, to be made a guard of. Until then it is as short as can be, because it is
/// handed from call to call: the bytes of a small one lie elsewhere meanwhile. These calls are inlined, which saves a tenth
/// of the time that a small message takes to be sent and received.
#[must_use = "nobody else lets go of it"]
pub(super) struct Held<T: Shareable + ?Sized> {
    sequence: u64,
    tail: T::Tail,
    stamp: u64,
    about: u64,
    missed: u64,
    lane: u16,
    /// The buffer, if it is not small.
    buffer: Option<u16>,
    deliveries: u16,
    claim: Option<u8>,
    labelled: bool,
}

impl<T: Shareable + ?Sized> Held<T> {
    /// Takes hold of a message that was found in `entry`, and copies it to `small` if it is a small one; `None` if it was
    /// overwritten meanwhile. With `reserved` also the claim is used that is kept for `latest`.
    #[inline(always)]
    pub(super) fn take(
        reader: &Reader,
        entry: &Entry,
        found: &Found,
        reserved: bool,
        small: &mut Small,
    ) -> Result<Option<Self>, RecvError> {
        let Found { lane, sequence, content: Content { place, tail, stamp, about }, missed, deliveries } = *found;
        let (memory, geometry) = (reader.memory(), reader.memory().geometry());
        let corrupt = || RecvError::Corrupt { channel: memory.attachment().name(), lane, sequence };
        let tail = T::Tail::of_message(tail, place.len).ok_or_else(corrupt)?;
        let len = T::LAYOUT.size(tail.to_len()).filter(|len| *len as u64 == place.len).ok_or_else(corrupt)?;
        let sound = if place.small {
            is_small::<T>(len)
        } else {
            len as u64 <= geometry.shape(lane).max_message && u64::from(place.buffer) < geometry.buffers()
        };
        if !sound {
            return Err(corrupt());
        }
        let claim = if !place.small || deliveries.is_some() { Some(reader.take_claim(reserved)?) } else { None };
        let is_there = match claim {
            _ if place.small => entry.copy_small(sequence, len, &mut small.0),
            Some(claim) => reader.claim(claim, entry, sequence, lane, place.buffer),
            None => false,
        };
        if !is_there {
            reader.let_go(lane, sequence, Done::Absent, claim);
            return Ok(None);
        }
        Ok(Some(Self {
            sequence,
            tail,
            stamp,
            about,
            missed,
            lane: lane as u16,
            buffer: (!place.small).then_some(place.buffer),
            deliveries: deliveries.unwrap_or(1) as u16,
            claim,
            labelled: place.labelled,
        }))
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn lane(&self) -> usize {
        self.lane.into()
    }

    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }
}

impl<T: Shareable + ?Sized> Message<T> {
    /// The guard of a message that `reader` holds; `small` has its bytes if it is a small one.
    #[inline(always)]
    pub(super) fn of(reader: &Arc<Reader>, held: Held<T>, small: &Small) -> Self {
        let memory = reader.memory();
        let (bytes, label) = match held.buffer {
            None => (Bytes::Small(*small), None),
            Some(number) => {
                let base = memory.buffer(held.lane(), number);
                let label = held.labelled.then(|| Self::read_label(reader, held.lane(), number));
                (Bytes::Buffer(Buffer { number, base }), label)
            }
        };
        let (reader, panicking) = (Arc::clone(reader), std::thread::panicking());
        Self { reader, held, bytes, label, done: Done::Processed, panicking }
    }

    /// Copies what lies beside a buffer that is claimed.
    fn read_label(reader: &Reader, lane: usize, buffer: u16) -> Box<Label> {
        let label = reader.memory().buffer_header(lane, buffer).cast::<Label>();
        // SAFETY: large and aligned enough, as asserted above; claimed like the buffer, so that no sender writes it; any
        // bytes are a label.
        Box::new(unsafe { label.read() })
    }

    /// Says that it was not processed: in a queue somebody else gets it; otherwise its sender's [`Ticket`](crate::Ticket)
    /// says so, and if nothing may be lost and nobody else processes it, it is kept for the next receiver to come.
    pub fn give_back(mut self) {
        if self.done == Done::Processed {
            self.done = Done::GaveBack;
        }
    }

    /// Says that it was processed, and keeps it all the same, to be looked at: nobody waits for it any more, only its buffer
    /// is not used again before it is dropped. To give it back, or a panic, changes nothing then.
    pub fn mark_processed(&mut self) {
        self.mark(Done::Processed);
    }

    /// Says that it was not processed, as [`give_back`](Self::give_back), and keeps it all the same, to be looked at.
    pub fn mark_given_back(&mut self) {
        self.mark(Done::GaveBack);
    }

    fn mark(&mut self, done: Done) {
        if self.done == Done::Processed {
            self.done = Done::Absent; // it is said once: its place may be that of a later message by the time it is dropped
            self.reader.let_go(self.held.lane(), self.held.sequence, done, None);
        }
    }

    /// Its number in its lane, from 1, without a gap: a successor goes on where a dead sender ended.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.held.sequence
    }

    /// The lane it came by: each sender has one.
    #[must_use]
    pub fn lane(&self) -> usize {
        self.held.lane()
    }

    /// The request that it answers, if it does.
    pub(super) fn about(&self) -> u64 {
        self.held.about
    }

    /// How many messages of its lane were overwritten before this receiver could get them, since the one before.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.held.missed
    }

    /// In a queue, how often it was taken, with this time: more than once if who took it died or gave it back.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.held.deliveries.into()
    }

    /// How long ago it was sent; time in which the machine was suspended counts. `None` if that cannot be known: its sender
    /// is in another time namespace, or the processor's counter began anew when the machine was suspended.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.reader.age(self.lane(), self.held.stamp)
    }

    /// The bytes its sender sent along.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        let label = self.label.as_deref().unwrap_or(&Label::EMPTY);
        usize::try_from(label.len).ok().and_then(|len| label.metadata.get(..len)).unwrap_or_default()
    }

    /// What its sender says that the bytes are; 0 if it says nothing.
    #[must_use]
    pub fn schema_id(&self) -> u64 {
        self.label.as_deref().unwrap_or(&Label::EMPTY).schema_id
    }

    /// The number of its bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size::<T>(self.held.tail)
    }

    /// The number of elements of its flexible tail, as [`Sender::loan`](crate::Sender::loan) takes it.
    #[must_use]
    pub fn tail(&self) -> T::Tail {
        self.held.tail
    }
}

impl<T: Shareable + ?Sized> Deref for Message<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `base` is aligned and long enough for a `T` with this tail, as `Held::take` checked. Every byte pattern
        // is a `T`, and nothing in it changes through a shared reference. Small ones are ours; a buffer is claimed: a
        // sender that keeps to the protocol does not write it (docs/DESIGN.md, "Trust").
        unsafe { &*T::from_base(self.bytes.base().cast_mut(), self.held.tail) }
    }
}

impl<T: Shareable + ?Sized> Drop for Message<T> {
    fn drop(&mut self) {
        let unwinds = !self.panicking && std::thread::panicking();
        let done = if unwinds && self.done == Done::Processed { Done::GaveBack } else { self.done };
        self.reader.let_go(self.held.lane(), self.held.sequence, done, self.held.claim);
    }
}

impl<T: Shareable + ?Sized> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sequence", &self.sequence())
            .field("lane", &self.lane())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Value;
    use crate::channel::Image;

    #[test]
    fn copied_bytes_are_read_as_far_as_they_go() {
        let bytes: Vec<u8> = (0..200).collect();
        let number = |start: u8| u32::from_ne_bytes([start, start + 1, start + 2, start + 3]);
        for (len, tail, pixels) in [(64, 9, 0), (65, 9, 1), (200, 9, 9), (200, u64::MAX, 136)] {
            let image = Value::<Image>::of(&bytes[..len], tail).expect("its fields");
            assert_eq!(
                (image.width, image.format, &image.pixels[..]),
                (number(0), number(12), &bytes[64..64 + pixels])
            );
        }
        assert!(Value::<Image>::of(&bytes[..63], 0).is_none() && Value::<[u64; 2]>::of(&bytes[..15], 0).is_none());
        assert_eq!(Value::<[u8]>::of(&[], 9).expect("nothing is enough").len(), 0);
    }
}
