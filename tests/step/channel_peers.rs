//! Senders and receivers of the channel as this process has them, and what their messages must be.

use crate::common::Dir;
use crate::victim::{OBJECT, PATIENCE};
use memlane::{ChannelOptions, Loan, Message, Persistence, Policy, Receiver, RecvError, Sender, Ticket};
use std::time::Duration;

/// Small, because its bytes are compared after each instruction.
pub const SLOTS: u64 = 2;
pub const LANES: usize = 2;
pub const PLACES: usize = 2;
pub const CLAIMS: usize = 2;
pub const LOANS: u64 = 1;
/// Those of a lane: one for each message in the window, each claim with that of `latest`, and each loan.
pub const BUFFERS: usize = SLOTS as usize + PLACES * (CLAIMS + 1) + LOANS as usize;

/// The lengths of messages: in their entry, in a buffer, in a buffer with a label.
pub const SMALL: usize = 40;
pub const LARGE: usize = 200;
pub const LABELLED: usize = 150;

pub fn options(policy: Policy) -> ChannelOptions {
    let options = ChannelOptions::new().slots(SLOTS as u16).senders(LANES as u16).receivers(PLACES as u16);
    options.claims(CLAIMS as u16).loans(LOANS as u16).max_message(LARGE as u64).policy(policy)
}

/// The bytes of a message follow from its place and its length.
pub fn content(lane: usize, sequence: u64, len: usize) -> Vec<u8> {
    let first = sequence.wrapping_mul(31) + lane as u64 * 17 + len as u64 * 7;
    (first..).take(len).map(|byte| byte as u8).collect()
}

/// Fills a loan that will be message `sequence` of `lane`.
pub fn fill(loan: &mut Loan, lane: usize, sequence: u64) {
    let len = loan.len();
    loan.copy_from_slice(&content(lane, sequence, len));
    if len == LABELLED {
        label(loan, sequence);
    }
}

pub fn label(loan: &mut Loan, sequence: u64) {
    loan.set_metadata(&sequence.to_ne_bytes()).expect("it is short");
    loan.set_schema_id(sequence).expect("it has a buffer");
}

/// It is whole, and what its sender sent.
pub fn assert_whole(message: &Message) {
    let (lane, sequence) = (message.lane(), message.sequence());
    assert!([SMALL, LARGE, LABELLED].contains(&message.size()), "no message is that long: {message:?}");
    assert_eq!(message[..], content(lane, sequence, message.size()), "torn: {message:?}");
    let label = if message.size() == LABELLED { (sequence, &sequence.to_ne_bytes()[..]) } else { (0, &[][..]) };
    assert_eq!((message.schema_id(), message.metadata()), label, "the label of another message: {message:?}");
}

/// The lane of the only sender of this process that has none of `others`, and how many messages were sent in it.
pub fn lane_of(sender: &Sender, others: &[usize]) -> (usize, u64) {
    let mine = |who: &memlane::Who| who.pid == std::process::id();
    let mut infos = sender.senders();
    infos.retain(|info| info.who.as_ref().is_some_and(mine) && !others.contains(&info.lane));
    assert_eq!(infos.len(), 1, "one sender, and known by name: {infos:?}");
    (infos[0].lane, infos[0].sent)
}

/// A sender, and what it has sent.
pub struct Source {
    pub sender: Sender,
    pub lane: usize,
    pub sent: u64,
}

impl Source {
    pub fn of(sender: Sender, others: &[usize]) -> Self {
        let (lane, sent) = lane_of(&sender, others);
        Self { sender, lane, sent }
    }

    /// A filled loan.
    pub fn fill(&self, len: usize) -> Loan {
        let mut loan = self.sender.loan(len).expect("nothing is lent");
        fill(&mut loan, self.lane, self.sent + 1);
        loan
    }

    pub fn send(&mut self, len: usize) -> Ticket {
        let ticket = self.fill(len).send_timeout(PATIENCE).expect("there is room");
        self.sent += 1;
        assert_eq!(ticket.sequence(), self.sent, "numbers have no gap");
        ticket
    }
}

/// A receiver, and what it is to receive next in each lane, if that is known.
pub struct Sink {
    pub receiver: Receiver,
    pub policy: Policy,
    pub next: [Option<u64>; LANES],
    /// What it has processed, with the count of deliveries.
    pub got: Vec<(usize, u64, u64)>,
}

impl Sink {
    pub fn open(dir: &Dir, policy: Policy) -> Self {
        Self::of(Receiver::open(dir.name(OBJECT)).expect("a place"), policy)
    }

    pub fn of(receiver: Receiver, policy: Policy) -> Self {
        Self { receiver, policy, next: [None; LANES], got: Vec::new() }
    }

    /// It is there before anything was sent.
    pub fn there_before_all(mut self) -> Self {
        self.next = [Some(1); LANES];
        self
    }

    /// The message is whole and the one that was to come.
    pub fn take(&mut self, message: Message) -> Message {
        assert_whole(&message);
        let (lane, sequence) = (message.lane(), message.sequence());
        if self.policy != Policy::Queue {
            let next = self.next[lane].unwrap_or(sequence - message.missed()) + message.missed();
            assert_eq!(sequence, next, "lane {lane}: the receiver lost a message, or got it twice");
            assert!(message.missed() == 0 || self.policy == Policy::Newest, "lost: {}", message.missed());
            self.next[lane] = Some(sequence + 1);
        }
        message
    }

    /// Receives all that is there, and processes it.
    pub fn drain(&mut self) {
        while self.process(Duration::ZERO).is_ok() {}
    }

    /// Receives a message, and processes it.
    pub fn process(&mut self, timeout: Duration) -> Result<(usize, u64, u64), RecvError> {
        let received = self.receiver.recv_timeout(timeout);
        if let Err(error) = &received {
            let none =
                matches!(error, RecvError::TimedOut { .. } | RecvError::Closed { .. } | RecvError::SenderDied { .. });
            assert!(none, "nothing is wrong with the channel: {error}");
        }
        let message = self.take(received?);
        let what = (message.lane(), message.sequence(), message.deliveries());
        self.got.push(what);
        Ok(what)
    }
}

/// What lives in this process.
pub struct Ours {
    pub policy: Policy,
    pub sources: Vec<Source>,
    pub sinks: Vec<Sink>,
    pub held: Vec<Message>,
}

impl Ours {
    pub fn nobody(policy: Policy) -> Self {
        Self { policy, sources: Vec::new(), sinks: Vec::new(), held: Vec::new() }
    }

    /// A new channel with a sender and a receiver.
    pub fn new(dir: &Dir, policy: Policy) -> Self {
        let mut ours = Self::nobody(policy);
        let sender = Sender::create(dir.name(OBJECT), &options(policy)).expect("a fresh channel");
        ours.sources.push(Source::of(sender, &[]));
        ours.sinks.push(Sink::open(dir, policy).there_before_all());
        ours
    }

    /// A channel whose senders and receivers have all died, one of each for each place: they had sent two messages, and each
    /// receiver holds the first. A file without locks is what their deaths leave. It is to be kept, because nobody uses it.
    pub fn all_dead(dir: &Dir, policy: Policy) -> Self {
        let original = dir.name("original");
        let create = Sender::create(&original, &options(policy).persistence(Persistence::Keep));
        let mut first = Source::of(create.expect("a fresh channel"), &[]);
        let second = Source::of(Sender::open(&original).expect("a lane"), &[first.lane]);
        let mut receivers: Vec<Receiver> = (0..PLACES).map(|_| Receiver::open(&original).expect("a place")).collect();
        for len in [LARGE, SMALL] {
            first.send(len);
        }
        let held: Vec<_> = receivers.iter_mut().map(|receiver| receiver.recv().expect("a message")).collect();
        std::fs::copy(dir.path().join("original"), dir.path().join(OBJECT)).expect("a copy");
        drop((first, second, held, receivers));
        memlane::remove(original).expect("it was there");
        Self::nobody(policy)
    }

    pub fn open_sink(&mut self, dir: &Dir) -> &mut Sink {
        self.sinks.push(Sink::open(dir, self.policy));
        self.sinks.last_mut().expect("one")
    }

    pub fn open_source(&mut self, dir: &Dir) -> &mut Source {
        let taken: Vec<usize> = self.sources.iter().map(|source| source.lane).collect();
        self.sources.push(Source::of(Sender::open(dir.name(OBJECT)).expect("a lane"), &taken));
        self.sources.last_mut().expect("one")
    }
}
