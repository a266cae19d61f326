//! Channels whose messages can be checked, and where things lie in them, as docs/DESIGN.md draws it.
#![allow(dead_code, missing_docs, unreachable_pub, missing_debug_implementations, reason = "each file uses its part")]

use crate::random::Random;
use memlane::{ChannelOptions, Message, Policy, Region, Sender};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The numbers that make a channel, and the offsets in its bytes that follow from them.
#[derive(Clone, Copy)]
pub struct Shape {
    pub policy: Policy,
    pub slots: u64,
    pub senders: u64,
    pub receivers: u64,
    pub claims: u64,
    pub loans: u64,
    pub max: u64,
}

const POLICIES: [Policy; 3] = [Policy::Lossless, Policy::Newest, Policy::Queue];

impl Shape {
    pub fn options(&self) -> ChannelOptions {
        let short = |number: u64| u16::try_from(number).expect("a small number");
        ChannelOptions::new()
            .policy(self.policy)
            .slots(short(self.slots))
            .senders(short(self.senders))
            .receivers(short(self.receivers))
            .claims(short(self.claims))
            .loans(short(self.loans))
            .max_message(self.max)
    }

    /// As an argument of a child.
    pub fn to_text(self) -> String {
        let policy = POLICIES.iter().position(|policy| *policy == self.policy).unwrap_or_default() as u64;
        let numbers = [policy, self.slots, self.senders, self.receivers, self.claims, self.loans, self.max];
        numbers.map(|number| number.to_string()).join(" ")
    }

    pub fn from_text(text: &str) -> Self {
        let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [policy, slots, senders, receivers, claims, loans, max] = numbers[..] else { panic!("{text}") };
        Self { policy: POLICIES[policy as usize], slots, senders, receivers, claims, loans, max }
    }

    pub fn buffers(&self) -> u64 {
        self.slots + self.receivers * (self.claims + 1) + self.loans
    }

    fn lines(bytes: u64) -> u64 {
        bytes.next_multiple_of(64)
    }

    fn position(&self, lane: u64, sequence: u64) -> u64 {
        (lane * self.slots + sequence % self.slots) * 8
    }

    pub fn sender(&self, lane: u64) -> u64 {
        128 + lane * 8
    }

    pub fn receiver(&self, index: u64) -> u64 {
        128 + Self::lines(self.senders * 8) + index * 8
    }

    fn tasks(&self) -> u64 {
        self.receiver(0) + Self::lines(self.receivers * 8)
    }

    pub fn task(&self, lane: u64, sequence: u64) -> u64 {
        self.tasks() + self.position(lane, sequence)
    }

    /// The words of a receiver: all that it writes, but for its name and the tasks.
    fn block(&self, index: u64) -> u64 {
        self.tasks() + Self::lines(self.senders * self.slots * 8) + index * self.block_len()
    }

    fn block_len(&self) -> u64 {
        self.outcomes() + Self::lines(self.senders * self.slots * 8)
    }

    fn outcomes(&self) -> u64 {
        Self::lines((self.claims + 3 + self.senders) * 8)
    }

    pub fn claim(&self, index: u64, claim: u64) -> u64 {
        self.block(index) + claim * 8
    }

    pub fn missed(&self, index: u64) -> u64 {
        self.block(index) + (self.claims + 1) * 8
    }

    pub fn latency(&self, index: u64) -> u64 {
        self.block(index) + (self.claims + 2) * 8
    }

    pub fn cursor(&self, index: u64, lane: u64) -> u64 {
        self.block(index) + (self.claims + 3 + lane) * 8
    }

    pub fn outcome(&self, index: u64, lane: u64, sequence: u64) -> u64 {
        self.block(index) + self.outcomes() + self.position(lane, sequence)
    }

    pub fn control_len(&self) -> u64 {
        self.block(self.receivers).next_multiple_of(4096)
    }

    fn stride(&self) -> u64 {
        self.max.max(1).next_multiple_of(self.align())
    }

    fn align(&self) -> u64 {
        if self.max >= 4096 { 4096 } else { 64 }
    }

    /// Where a lane starts: with its head.
    pub fn lane(&self, lane: u64) -> u64 {
        let buffers = (128 + self.slots * 128 + self.buffers() * 128).next_multiple_of(self.align());
        self.control_len() + lane * (buffers + self.buffers() * self.stride()).next_multiple_of(4096)
    }

    /// The entry of a message: number, place, tail, stamp.
    pub fn entry(&self, lane: u64, sequence: u64) -> u64 {
        self.lane(lane) + 128 + sequence % self.slots * 128
    }

    /// What lies beside a buffer: schema id, length and bytes of the metadata.
    pub fn label(&self, lane: u64, buffer: u64) -> u64 {
        self.lane(lane) + 128 + self.slots * 128 + buffer * 128
    }

    /// The number of the last message of a lane: at least that of the last one that was there before this call.
    pub fn last(&self, region: &Region, lane: u64) -> u64 {
        let word = |offset: u64| {
            let mut bytes = [0; 8];
            region.read_at(offset as usize, &mut bytes).expect("inside the channel");
            u64::from_ne_bytes(bytes)
        };
        let head = word(self.lane(lane));
        head + u64::from(word(self.entry(lane, head + 1)) > head)
    }
}

/// The file of a channel, for those who do not keep to the protocol.
pub struct Raw {
    file: File,
    /// Where the user's bytes start.
    data: u64,
}

impl Raw {
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("the object's file");
        let mut raw = Self { file, data: 0 };
        raw.data = raw.get(40);
        raw
    }

    pub fn get(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, self.data + offset).expect("inside the file");
        u64::from_ne_bytes(bytes)
    }

    pub fn put(&self, offset: u64, word: u64) {
        self.put_header(self.data + offset, &word.to_ne_bytes());
    }

    /// What lies before the user's bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.data as usize];
        self.file.read_exact_at(&mut bytes, 0).expect("inside the file");
        bytes
    }

    /// Anywhere in the file.
    pub fn put_header(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).expect("inside the file");
    }

    /// Makes the channel's first bytes 0, as they were when it was created.
    pub fn clear(&self, len: u64) {
        self.put_header(self.data, &vec![0; len as usize]);
    }
}

/// What the eight bytes at each place of a message are.
fn words(lane: u64, sequence: u64, len: usize) -> impl Iterator<Item = u64> {
    let first = Random::from_seed(sequence << 20 ^ lane << 56 ^ len as u64).next();
    (0..).map(move |index: u64| first.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Makes the bytes what follows from lane, number and length.
pub fn fill(bytes: &mut [u8], lane: u64, sequence: u64) {
    let words = words(lane, sequence, bytes.len());
    for (bytes, word) in bytes.chunks_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes()[..bytes.len()]);
    }
}

/// Panics if the message is not exactly as [`fill`] made it.
pub fn check(message: &Message) {
    let (lane, sequence) = (message.lane() as u64, message.sequence());
    let mut words = words(lane, sequence, message.len());
    let whole =
        message.chunks(8).all(|bytes| words.next().is_some_and(|word| bytes == &word.to_ne_bytes()[..bytes.len()]));
    assert!(whole, "message {sequence} of lane {lane}, {} bytes, is torn", message.len());
}

/// A length up to `max`: those at which something changes, small and large ones, most of them short.
pub fn length(random: &mut Random, max: u64) -> usize {
    let len = match random.below(16) {
        0 => [0, 1, 8, 95, 96, 97, 128][random.below(7) as usize],
        1..6 => random.below(97),
        6..14 => random.below(4097),
        14 => random.below(max / 16 + 1),
        _ if random.below(4) == 0 => max - random.below(2),
        _ => random.below(max + 1),
    };
    len.min(max) as usize
}

/// The lane of this process, of which it is the only sender.
pub fn lane_of(sender: &Sender) -> u64 {
    let mine = |info: &memlane::SenderInfo| info.who.as_ref().is_some_and(|who| who.pid == std::process::id());
    sender.senders().into_iter().find(mine).expect("this sender").lane as u64
}
