//! The memory of a channel as words, entries and buffers: where offsets become references.
#![allow(unsafe_code)]

use super::geometry::{ENTRY, Geometry, LANE_HEADER, MESSAGES, RELEASED};
use crate::error::Error;
use crate::object::Object;
use crate::owner::OwnerId;
use crate::prim::{AtomicU64, Ordering};
use crate::region::Attachment;
use crate::sync::EventCount;
use crate::sys::Moment;
use std::ops::Range;
use std::ptr::NonNull;

/// The bytes of a message that travels in its entry.
pub(super) const SMALL: usize = 88;

/// What lies at the start of a lane, written by its sender alone.
#[derive(Debug)]
#[repr(C)]
pub(super) struct LaneHeader {
    /// The last message that was sent; at least the last but one that is to be seen in an entry.
    pub(super) head: AtomicU64,
    /// Who can tell ages: 0 while the next two are being written.
    pub(super) clock: AtomicU64,
    /// A moment before all stamps.
    pub(super) ticks: AtomicU64,
    pub(super) nanos: AtomicU64,
    pub(super) reserved: [AtomicU64; 12],
}

impl LaneHeader {
    /// A moment before all stamps of the lane, for who reads that clock.
    pub(super) fn since(&self, clock: u64) -> Option<Moment> {
        // ORDERING: Acquire pairs with the Release in `keep_time`.
        (self.clock.load(Ordering::Acquire) == clock)
            .then(|| Moment { ticks: self.ticks.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) })
    }

    /// Says since when there are stamps of a clock, unless that is known: a predecessor's messages are still there.
    pub(super) fn keep_time(&self, clock: u64, now: Moment) {
        let known = self.since(clock);
        if known.is_none_or(|since| (since.ticks == 0) != (now.ticks == 0) || since.ticks > now.ticks) {
            self.clock.store(0, Ordering::Relaxed);
            self.ticks.store(now.ticks, Ordering::Relaxed);
            self.nanos.store(now.nanos, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire in `since`. A processor completes the stores of a process that dies
            // in between in their order.
            self.clock.store(clock, Ordering::Release);
        }
    }
}

/// One place of the window of a lane, written by its sender alone. `word` is the message that is in it; it is written
/// last, and taken back before anything else is changed.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Entry {
    /// The message's sequence number; 0 while there is none.
    pub(super) word: AtomicU64,
    /// Length, flags and buffer, see `Place`.
    pub(super) place: AtomicU64,
    /// Elements of the flexible tail.
    pub(super) tail: AtomicU64,
    /// When it was sent, in ticks of the lane's clock.
    pub(super) stamp: AtomicU64,
    /// The request that it answers, if it does.
    pub(super) about: AtomicU64,
    /// The message itself, if it is small.
    pub(super) small: [AtomicU64; SMALL / 8],
}

const _: () = assert!(size_of::<LaneHeader>() as u64 == LANE_HEADER && size_of::<Entry>() as u64 == ENTRY);

/// A channel in this process: the control pages for reading and writing, the lanes for reading, and one of them, if it
/// is this process that sends in it, for writing too.
#[derive(Debug)]
pub(super) struct Memory {
    attachment: Attachment,
    geometry: Geometry,
}

impl Memory {
    /// Maps a channel and takes part in it.
    pub(super) fn new(object: Object) -> Result<Self, Error> {
        let header = &object.header;
        let geometry = Geometry::parse(object.name.as_str(), &header.schema, header.data_len)?;
        let attachment = Attachment::with_writable(object, geometry.control_len)?;
        Ok(Self { attachment, geometry })
    }

    #[inline]
    pub(super) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    #[inline]
    pub(super) fn me(&self) -> OwnerId {
        self.attachment.me()
    }

    #[inline]
    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Lets this process write a lane.
    pub(super) fn allow_lane(&self, lane: usize) -> Result<(), Error> {
        self.attachment.allow_write(self.geometry.lane(lane), self.geometry.shape(lane).len)
    }

    /// The address of `len` bytes at `offset`.
    ///
    /// # Panics
    ///
    /// If they do not lie in the channel: no offset that `Geometry` gives for a lane, receiver, claim or buffer that
    /// there is does that.
    #[inline]
    fn at(&self, offset: u64, len: u64) -> NonNull<u8> {
        assert!(offset + len <= self.attachment.len() as u64, "the offset lies in the channel");
        // SAFETY: the range lies in the mapping, as just seen.
        unsafe { self.attachment.data().add(offset as usize) }
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        &self.words(offset, 1)[0]
    }

    /// So many words, one after the other.
    #[inline]
    fn words(&self, offset: u64, count: usize) -> &[AtomicU64] {
        let words = self.at(offset, 8 * count as u64).cast::<AtomicU64>();
        assert!(words.is_aligned(), "words lie at multiples of 8");
        // SAFETY: all of them are inside the mapping, which `self` keeps, and aligned. Any bytes are a value of an atomic,
        // and anybody may write them.
        unsafe { NonNull::slice_from_raw_parts(words, count).as_ref() }
    }

    #[inline]
    fn event(&self, offset: u64) -> &EventCount {
        // SAFETY: inside the mapping, which `self` keeps; the two offsets are multiples of 64, from a page boundary.
        // It is made of one atomic, so any bytes are a value, and anybody may write them.
        unsafe { self.at(offset, 4).cast::<EventCount>().as_ref() }
    }

    /// Where receivers sleep until there is a message.
    #[inline]
    pub(super) fn messages(&self) -> &EventCount {
        self.event(MESSAGES)
    }

    /// Where senders sleep until a message was let go, or a receiver has come or gone.
    #[inline]
    pub(super) fn released(&self) -> &EventCount {
        self.event(RELEASED)
    }

    #[inline]
    pub(super) fn sender(&self, lane: usize) -> &AtomicU64 {
        self.word(self.geometry.sender(lane))
    }

    #[inline]
    pub(super) fn receiver(&self, index: usize) -> &AtomicU64 {
        self.word(self.geometry.receiver(index))
    }

    /// The words of receivers in these places.
    #[inline]
    pub(super) fn receivers_in(&self, places: Range<usize>) -> &[AtomicU64] {
        self.words(self.geometry.receiver(places.start), places.len())
    }

    #[inline]
    pub(super) fn task(&self, lane: usize, sequence: u64) -> &AtomicU64 {
        self.word(self.geometry.task(lane, sequence))
    }

    #[inline]
    pub(super) fn claim(&self, index: usize, claim: u64) -> &AtomicU64 {
        self.word(self.geometry.claim(index, claim))
    }

    #[inline]
    pub(super) fn missed(&self, index: usize) -> &AtomicU64 {
        self.word(self.geometry.missed(index))
    }

    #[inline]
    pub(super) fn latency(&self, index: usize) -> &AtomicU64 {
        self.word(self.geometry.latency(index))
    }

    #[inline]
    pub(super) fn cursor(&self, index: usize, lane: usize) -> &AtomicU64 {
        self.word(self.geometry.cursor(index, lane))
    }

    #[inline]
    pub(super) fn outcome(&self, index: usize, lane: usize, sequence: u64) -> &AtomicU64 {
        self.word(self.geometry.outcome(index, lane, sequence))
    }

    #[inline]
    pub(super) fn lane(&self, lane: usize) -> &LaneHeader {
        // SAFETY: inside the mapping, which `self` keeps, at a page boundary; made of atomics, so any bytes are a value.
        unsafe { self.at(self.geometry.lane(lane), LANE_HEADER).cast::<LaneHeader>().as_ref() }
    }

    #[inline]
    pub(super) fn entry(&self, lane: usize, sequence: u64) -> &Entry {
        // SAFETY: inside the mapping, which `self` keeps, at a multiple of 128 from a page boundary; made of atomics, so
        // any bytes are a value.
        unsafe { self.at(self.geometry.entry(lane, sequence), ENTRY).cast::<Entry>().as_ref() }
    }

    /// The address of a buffer. Who may access it is the business of `message.rs`.
    #[inline]
    pub(super) fn buffer(&self, lane: usize, buffer: u16) -> NonNull<u8> {
        self.at(self.geometry.buffer(lane, buffer), self.geometry.shape(lane).stride)
    }

    /// The address of what lies beside a buffer, aligned to 64.
    #[inline]
    pub(super) fn buffer_header(&self, lane: usize, buffer: u16) -> NonNull<u8> {
        self.at(self.geometry.buffer_header(lane, buffer), super::geometry::BUFFER_HEADER)
    }

    /// All lanes.
    #[inline]
    pub(super) fn lanes(&self) -> Range<usize> {
        0..self.geometry.senders as usize
    }

    /// All places for receivers.
    #[inline]
    pub(super) fn receivers(&self) -> Range<usize> {
        0..self.geometry.receivers as usize
    }

    /// The last message of a lane, as its sender says; never so large that a number after it could not be counted.
    #[inline]
    pub(super) fn head(&self, lane: usize) -> u64 {
        // ORDERING: Acquire pairs with the Release in `Writer::commit`: what is not in its entry any more by then was
        // overwritten, and not not yet written.
        self.lane(lane).head.load(Ordering::Acquire).min(1 << 61)
    }
}
