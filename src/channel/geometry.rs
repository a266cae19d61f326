//! How large a channel is and what lies where in it: checked once, from the description in the object's header.
//! docs/DESIGN.md draws it.

use super::{ChannelOptions, Policy, ServiceOptions};
use crate::error::Error;
use crate::owner::PARTICIPANTS;
use crate::segment::Schema;
use std::ops::Range;

/// Words that different processes write do not share a cache line.
const LINE: u64 = 64;
/// What one process may write and others only read starts at a page of its own.
const PAGE: u64 = 4096;

/// The bytes of a lane before its entries.
pub(super) const LANE_HEADER: u64 = 128;
/// The bytes of an entry of a lane's window.
pub(super) const ENTRY: u64 = 128;
/// The bytes in front of the buffers, for each of them.
pub(super) const BUFFER_HEADER: u64 = 128;
/// The largest alignment a message can have.
pub(super) const MESSAGE_ALIGN: u64 = 64;

/// Offsets of what lies once in the control pages.
pub(super) const MESSAGES: u64 = 0;
pub(super) const RELEASED: u64 = LINE;
const SENDERS: u64 = 2 * LINE;

/// The largest values that are accepted: of slots, of claims, and of a message's length.
const SLOTS: u64 = 1 << 15;
const CLAIMS: u64 = 62;
const LENGTH: u64 = 1 << 40;

/// The numbers that make a channel, and the offsets that follow from them, in the object's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) policy: Policy,
    pub(super) slots: u64,
    /// `slots - 1`, if that makes a mask: else 0.
    mask: u64,
    pub(super) senders: u64,
    pub(super) receivers: u64,
    /// Of one receiver, with the one that is kept for `latest`.
    pub(super) claims: u64,
    pub(super) loans: u64,
    /// The lanes for messages or requests; those for answers are the others.
    first_lanes: u64,
    /// Of the lanes of a channel, or of requests; and of answers.
    shapes: [LaneShape; 2],
    receivers_at: u64,
    tasks_at: u64,
    entries_at: u64,
    outcomes_in_entry: u64,
    entry_len: u64,
    pub(super) control_len: u64,
}

/// How large the messages of a lane can be, and what follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneShape {
    pub(super) max_message: u64,
    /// From one buffer to the next.
    pub(super) stride: u64,
    buffers_at: u64,
    pub(super) len: u64,
}

impl LaneShape {
    fn new(max_message: u64, slots: u64, buffers: u64) -> Option<Self> {
        let align = if max_message >= PAGE { PAGE } else { MESSAGE_ALIGN };
        let stride = max_message.max(1).next_multiple_of(align);
        let buffers_at = (LANE_HEADER + slots * ENTRY + buffers * BUFFER_HEADER).next_multiple_of(align);
        let len = buffers_at.checked_add(stride.checked_mul(buffers)?)?.checked_next_multiple_of(PAGE)?;
        Some(Self { max_message, stride, buffers_at, len })
    }
}

impl Geometry {
    /// From what a creator asks for; `None` if no channel can be like that.
    pub(super) fn of(options: &ChannelOptions, max_message: u64) -> Option<Self> {
        Self::new(
            options.policy,
            [
                options.slots.into(),
                options.senders.into(),
                options.receivers.into(),
                u64::from(options.claims) + 1,
                options.loans.into(),
                max_message,
                0,
            ],
        )
    }

    /// The same for a service: a lane each way for each client, and a place for each client behind that of the server.
    pub(super) fn of_service(options: &ServiceOptions, max_request: u64, max_answer: u64) -> Option<Self> {
        let clients = u64::from(options.clients);
        let (slots, claims) = (options.slots.into(), u64::from(options.claims) + 1);
        Self::new(
            Policy::Service,
            [slots, 2 * clients, clients + 1, claims, options.loans.into(), max_request, max_answer],
        )
    }

    /// Works out the offsets, with checked arithmetic: the numbers may come from shared memory.
    fn new(policy: Policy, numbers: [u64; 7]) -> Option<Self> {
        let [slots, senders, receivers, claims, loans, max_message, max_answer] = numbers;
        let (participants, readers) = match policy {
            Policy::Service if senders != receivers.checked_sub(1)?.checked_mul(2)? => return None,
            Policy::Service => (receivers, 1),
            _ => (senders.checked_add(receivers)?, receivers),
        };
        let sane = (1..=SLOTS).contains(&slots)
            && senders >= 1
            && receivers >= 1
            && participants <= PARTICIPANTS as u64
            && (2..=CLAIMS + 1).contains(&claims)
            && (1..=SLOTS).contains(&loans)
            && max_message.max(max_answer) <= LENGTH
            && slots + readers * claims + loans <= u64::from(u16::MAX);
        if !sane {
            return None;
        }
        let line = |bytes: u64| bytes.next_multiple_of(LINE);
        let receivers_at = SENDERS + line(senders * 8);
        let tasks_at = receivers_at + line(receivers * 8);
        let entries_at = tasks_at + line(senders * slots * 8);
        let outcomes_in_entry = line((claims + 2 + senders) * 8);
        let entry_len = outcomes_in_entry + line(senders * slots * 8);
        let control_len = (entries_at + receivers * entry_len).next_multiple_of(PAGE);
        let buffers = slots + readers * claims + loans;
        let shape = |max_message| LaneShape::new(max_message, slots, buffers);
        let geometry = Self {
            policy,
            slots,
            mask: if slots.is_power_of_two() { slots - 1 } else { 0 },
            senders,
            receivers,
            claims,
            loans,
            first_lanes: if policy == Policy::Service { senders / 2 } else { senders },
            shapes: [shape(max_message)?, shape(max_answer)?],
            receivers_at,
            tasks_at,
            entries_at,
            outcomes_in_entry,
            entry_len,
            control_len,
        };
        geometry.total()?;
        Some(geometry)
    }

    /// The buffers of a lane: one for each message in the window, each claim and each loan, so that a loan never waits.
    #[inline]
    pub(super) fn buffers(&self) -> u64 {
        let readers = if self.policy == Policy::Service { 1 } else { self.receivers };
        self.slots + readers * self.claims + self.loans
    }

    /// All of the user's bytes of the object.
    pub(super) fn total(&self) -> Option<u64> {
        let [first, second] = self.shapes;
        let (ours, theirs) = self.lanes_each_way();
        let lanes = first.len.checked_mul(ours)?.checked_add(second.len.checked_mul(theirs)?)?;
        lanes.checked_add(self.control_len)
    }

    /// How many lanes there are for messages or requests, and for answers.
    #[inline]
    fn lanes_each_way(&self) -> (u64, u64) {
        (self.first_lanes, self.senders - self.first_lanes)
    }

    /// The lanes for messages or requests.
    #[inline]
    pub(super) fn request_lanes(&self) -> Range<usize> {
        0..self.lanes_each_way().0 as usize
    }

    /// The lanes for answers, in the order of those for requests.
    #[inline]
    pub(super) fn answer_lanes(&self) -> Range<usize> {
        self.lanes_each_way().0 as usize..self.senders as usize
    }

    /// Who reads a lane.
    #[inline]
    pub(super) fn readers(&self, lane: usize) -> Range<usize> {
        match (self.policy, lane.checked_sub(self.lanes_each_way().0 as usize)) {
            (Policy::Service, None) => 0..1,
            (Policy::Service, Some(client)) => client + 1..client + 2,
            _ => 0..self.receivers as usize,
        }
    }

    /// The lanes that receiver `index` reads.
    #[inline]
    pub(super) fn lanes_of(&self, index: usize) -> Range<usize> {
        match (self.policy, index.checked_sub(1)) {
            (Policy::Service, Some(client)) => {
                self.answer_lanes().start + client..self.answer_lanes().start + client + 1
            }
            _ => self.request_lanes(),
        }
    }

    /// The shape of a lane.
    #[inline]
    pub(super) fn shape(&self, lane: usize) -> &LaneShape {
        &self.shapes[usize::from(lane as u64 >= self.lanes_each_way().0)]
    }

    /// The place of a message in a window.
    #[inline]
    pub(super) fn position(&self, sequence: u64) -> u64 {
        if self.mask != 0 { sequence & self.mask } else { sequence % self.slots }
    }

    /// The first message that a window can still hold, of which `last` is the last.
    #[inline]
    pub(super) fn oldest(&self, last: u64) -> u64 {
        (last + 1).saturating_sub(self.slots).max(1)
    }

    /// The word that names who writes a lane.
    #[inline]
    pub(super) fn sender(&self, lane: usize) -> u64 {
        SENDERS + lane as u64 * 8
    }

    /// The word that names a receiver.
    #[inline]
    pub(super) fn receiver(&self, index: usize) -> u64 {
        self.receivers_at + index as u64 * 8
    }

    /// The word that says what has become of a message, whoever received it.
    #[inline]
    pub(super) fn task(&self, lane: usize, sequence: u64) -> u64 {
        self.tasks_at + (lane as u64 * self.slots + self.position(sequence)) * 8
    }

    /// A claim of a receiver.
    #[inline]
    pub(super) fn claim(&self, index: usize, claim: u64) -> u64 {
        self.entry_of(index) + claim * 8
    }

    /// The number of messages that a receiver missed.
    #[inline]
    pub(super) fn missed(&self, index: usize) -> u64 {
        self.entry_of(index) + self.claims * 8
    }

    /// How long a message took to a receiver.
    #[inline]
    pub(super) fn latency(&self, index: usize) -> u64 {
        self.entry_of(index) + (self.claims + 1) * 8
    }

    /// The next message that a receiver looks for in a lane.
    #[inline]
    pub(super) fn cursor(&self, index: usize, lane: usize) -> u64 {
        self.entry_of(index) + (self.claims + 2 + lane as u64) * 8
    }

    /// The word that says what a receiver did with a message.
    #[inline]
    pub(super) fn outcome(&self, index: usize, lane: usize, sequence: u64) -> u64 {
        self.entry_of(index) + self.outcomes_in_entry + (lane as u64 * self.slots + self.position(sequence)) * 8
    }

    #[inline]
    fn entry_of(&self, index: usize) -> u64 {
        self.entries_at + index as u64 * self.entry_len
    }

    /// Where a lane starts.
    #[inline]
    pub(super) fn lane(&self, lane: usize) -> u64 {
        let (lane, [first, second]) = (lane as u64, &self.shapes);
        let before = lane.min(self.lanes_each_way().0);
        self.control_len + before * first.len + (lane - before) * second.len
    }

    /// The entry of a message in the window of a lane.
    #[inline]
    pub(super) fn entry(&self, lane: usize, sequence: u64) -> u64 {
        self.lane(lane) + LANE_HEADER + self.position(sequence) * ENTRY
    }

    /// What lies beside a buffer.
    #[inline]
    pub(super) fn buffer_header(&self, lane: usize, buffer: u16) -> u64 {
        self.lane(lane) + LANE_HEADER + self.slots * ENTRY + u64::from(buffer) * BUFFER_HEADER
    }

    /// A buffer.
    #[inline]
    pub(super) fn buffer(&self, lane: usize, buffer: u16) -> u64 {
        self.lane(lane) + self.shape(lane).buffers_at + u64::from(buffer) * self.shape(lane).stride
    }

    /// The description of a channel of this geometry, of messages or requests, and of answers if it is a service.
    pub(super) fn describe(&self, message: &Schema, answer: Option<&Schema>) -> String {
        let mut schema = self.numbers_as_schema(if answer.is_some() { "service" } else { "channel" });
        schema.append(MESSAGE, message);
        answer.into_iter().for_each(|answer| schema.append(ANSWER, answer));
        schema.into_text()
    }

    fn numbers_as_schema(&self, kind: &str) -> Schema {
        let mut schema = Schema::default();
        let total = self.total().and_then(|total| usize::try_from(total).ok()).unwrap_or(0);
        schema.line("", kind, 0, total);
        schema.line("policy", self.policy.name(), 0, 0);
        for (name, number) in NUMBERS.iter().zip(self.numbers()) {
            schema.line(name, "number", 0, usize::try_from(number).unwrap_or(usize::MAX));
        }
        schema
    }

    fn numbers(&self) -> [u64; 7] {
        let [first, second] = self.shapes.map(|shape| shape.max_message);
        [self.slots, self.senders, self.receivers, self.claims, self.loans, first, second]
    }

    /// Back from a description; the object `name` has `data_len` bytes.
    pub(super) fn parse(name: &str, schema: &str, data_len: u64) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt { name: name.to_owned(), field: "description of the channel" };
        let field = |wanted: &str| {
            schema.lines().find_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
                [path, kind, _, size] => (path == wanted).then_some((kind, size)),
                _ => None,
            })
        };
        let policy = field("policy").and_then(|(kind, _)| Policy::from_name(kind)).ok_or_else(corrupt)?;
        let mut numbers = [0; 7];
        for (number, name) in numbers.iter_mut().zip(NUMBERS) {
            *number = field(name).and_then(|(_, size)| size.parse().ok()).ok_or_else(corrupt)?;
        }
        Self::new(policy, numbers).filter(|geometry| geometry.total() == Some(data_len)).ok_or_else(corrupt)
    }
}

/// What the numbers are called in a description.
const NUMBERS: [&str; 7] = ["slots", "senders", "receivers", "claims", "loans", "max_message", "max_answer"];

/// The paths under which a description has the type of messages or requests, and of answers.
pub(super) const MESSAGE: &str = "message";
pub(super) const ANSWER: &str = "answer";

/// Whether a description is that of a `channel`, or of a `service`.
pub(super) fn is_of(schema: &str, kind: &str) -> bool {
    schema.strip_prefix('\t').and_then(|rest| rest.strip_prefix(kind)).is_some_and(|rest| rest.starts_with('\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(max_message: u64) -> Geometry {
        Geometry::of(&ChannelOptions::new().slots(3).senders(2).receivers(5).claims(2), max_message)
            .expect("a channel can be like that")
    }

    /// Every range of a channel, in order.
    fn ranges(of: &Geometry) -> Vec<(u64, u64)> {
        let mut ranges = vec![(MESSAGES, 4), (RELEASED, 4)];
        let lanes = 0..of.senders as usize;
        let sequences = 0..of.slots;
        ranges.extend(lanes.clone().map(|lane| (of.sender(lane), 8)));
        ranges.extend((0..of.receivers as usize).map(|index| (of.receiver(index), 8)));
        for lane in lanes.clone() {
            ranges.extend(sequences.clone().map(|sequence| (of.task(lane, sequence), 8)));
        }
        for index in 0..of.receivers as usize {
            ranges.extend((0..of.claims).map(|claim| (of.claim(index, claim), 8)));
            ranges.extend([(of.missed(index), 8), (of.latency(index), 8)]);
            ranges.extend(lanes.clone().map(|lane| (of.cursor(index, lane), 8)));
            for lane in lanes.clone() {
                ranges.extend(sequences.clone().map(|sequence| (of.outcome(index, lane, sequence), 8)));
            }
        }
        for lane in lanes {
            ranges.push((of.lane(lane), LANE_HEADER));
            ranges.extend(sequences.clone().map(|sequence| (of.entry(lane, sequence), ENTRY)));
            let buffers = 0..of.buffers() as u16;
            ranges.extend(buffers.clone().map(|buffer| (of.buffer_header(lane, buffer), BUFFER_HEADER)));
            ranges.extend(buffers.map(|buffer| (of.buffer(lane, buffer), of.shape(0).stride)));
        }
        ranges
    }

    #[test]
    fn nothing_overlaps_and_all_of_it_lies_in_the_object() {
        for max_message in [0, 1, 64, 100, 4096, 5000] {
            let of = geometry(max_message);
            let ranges = ranges(&of);
            for pair in ranges.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{max_message}: {pair:?}");
            }
            let (last, len) = ranges[ranges.len() - 1];
            assert!(Some(last + len) <= of.total() && of.shape(0).stride >= max_message);
            assert!(of.lane(0).is_multiple_of(PAGE) && of.lane(1).is_multiple_of(PAGE));
            assert!(of.buffer(1, 1).is_multiple_of(MESSAGE_ALIGN) && of.entry(1, 1).is_multiple_of(64));
        }
    }

    #[test]
    fn a_description_is_read_back() {
        let of = geometry(100);
        let text = of.describe(&Schema::of::<[u8]>(), None);
        assert_eq!(Geometry::parse("x", &text, of.total().expect("it fits")).ok(), Some(of));
        assert!(Geometry::parse("x", &text, 4096).is_err(), "another size");
        assert!(Geometry::parse("x", &text.replace("slots", "slits"), of.total().expect("it fits")).is_err());
        assert!(text.ends_with("message\tflexible tail\t0\t0\nmessage.[]\tu8\t0\t1\n"), "{text}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let new = |numbers| Geometry::new(Policy::Newest, numbers);
        assert!(new([1, 1, 1, 2, 1, 0, 0]).is_some());
        for (index, bad) in [(0, 0), (0, SLOTS + 1), (1, 0), (1, 128), (2, 0), (2, 128), (3, 1), (3, 64), (4, 0)] {
            let mut numbers = [1, 1, 1, 2, 1, 0, 0];
            numbers[index] = bad;
            assert_eq!(new(numbers), None, "{numbers:?}");
        }
        assert_eq!(new([1, u64::MAX, u64::MAX, 2, 1, 0, 0]), None);
        assert_eq!(new([1, u64::MAX, 2, 2, 1, 0, 0]), None);
        assert_eq!(new([SLOTS, 60, 60, 63, SLOTS, 0, 0]), None, "more buffers than a word can name");
        let largest = new([SLOTS, 126, 2, 63, SLOTS - 127, LENGTH, LENGTH]).and_then(|largest| largest.total());
        assert!(largest.is_some_and(|total| total <= isize::MAX as u64), "the largest that can be can be counted");
        assert_eq!(new([1, 1, 1, 2, 1, LENGTH + 1, 0]), None);
        assert_eq!(new([1, 1, 1, 2, 1, 0, LENGTH + 1]), None);
        let service = |senders, receivers| Geometry::new(Policy::Service, [1, senders, receivers, 2, 1, 0, 0]);
        assert!(service(4, 3).is_some() && service(254, 128).is_some());
        for (senders, receivers) in [(3, 3), (3, 2), (2, 3), (256, 129), (0, 0)] {
            assert_eq!(service(senders, receivers), None, "{senders} lanes and {receivers} places");
        }
    }
}
