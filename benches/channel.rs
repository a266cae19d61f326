//! Channels between two processes, against the floors they stand on, and whether their goals are met.
#![allow(missing_docs, unsafe_code)]

mod common;
#[path = "common/pair.rs"]
mod pair;

use common::{Contender, Turns, compare};
use criterion::Criterion;
use memlane::{ChannelOptions, Loan, Message, Name, Options, Receiver, RegionMut, Segment, Sender, SharedMemory};
use pair::{Order, Peer, Words, part, pin, serve, told};
use std::cell::{Cell, RefCell};
use std::hint::{black_box, spin_loop};
use std::time::Duration;

const SIZES: [(&str, usize); 6] = [
    ("64 B", 64),
    ("4 KiB", 4 << 10),
    ("64 KiB", 64 << 10),
    ("1 MiB", 1 << 20),
    ("8 MiB", 8 << 20),
    ("64 MiB", LARGEST),
];
const LARGEST: usize = 64 << 20;
const RECEIVERS: [(&str, usize); 6] = [("1", 1), ("2", 2), ("4", 4), ("8", 8), ("16", 16), ("32", 32)];
const SMALL: usize = 64;
const BATCH: u64 = 64;
/// Short enough that most blocks see no other process, where one round takes a microsecond.
const BLOCK: u64 = 200;
const BLOCKS: usize = 200;
/// Long enough for the other side to fall asleep.
const THOUGHT: Duration = Duration::from_micros(30);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

/// What both sides do in a round. The sender asks, the receiver answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// A cache line goes to and fro.
    Line,
    /// A futex does.
    Futex,
    /// Bytes are written by the one and read by the other, in one place, with a cache line to and fro.
    Memory,
    /// The same in two places in turn, as many as a channel of one slot uses.
    TwoPlaces,
    /// A small message, answered by one, both received by `recv`, which spins, and sleeps if that does not help.
    Small,
    /// As `Small`, measured from when it was sent to when it was received.
    OneWay,
    /// As `Small`, received by calls of `try_recv`, as in all that follows but the streams.
    Polled,
    /// A message nobody touches, answered by one of the same length.
    Untouched,
    /// A message written and read in place, answered by a small one.
    InPlace,
    /// A message that is copied into the channel and out of it and then read, answered by a small one.
    Copied,
    /// Small messages, one by one; the last is answered.
    Singly,
    /// The same in batches.
    Batches,
    /// There are to be `len` receivers.
    Join,
    /// A small message to all of them, answered by one.
    Shared,
}

const ALL: [What; 14] = {
    use What::{
        Batches, Copied, Futex, InPlace, Join, Line, Memory, OneWay, Polled, Shared, Singly, Small, TwoPlaces,
        Untouched,
    };
    [Line, Futex, Memory, TwoPlaces, Small, OneWay, Polled, Untouched, InPlace, Copied, Singly, Batches, Join, Shared]
};

fn sleeps(what: What) -> bool {
    matches!(what, What::Small | What::OneWay)
}

/// The channels: each has its sender in this process.
fn channel(name: &Name, label: &str) -> (Name, ChannelOptions) {
    let options = ChannelOptions::new();
    let options = match label {
        "large" | "largeback" => options.max_message(LARGEST as u64).slots(1).receivers(1).claims(1).loans(1),
        "stream" => options.slots(1024).receivers(1),
        "shared" => options.receivers(32),
        _ => options,
    };
    (part(name, label), options)
}

fn sender(name: &Name, label: &str) -> Sender {
    let (name, options) = channel(name, label);
    Sender::create(&name, &options).expect("a fresh channel")
}

fn receiver(name: &Name, label: &str) -> Receiver {
    Receiver::wait_for(channel(name, label).0, PATIENCE).expect("the other side's channel")
}

/// A channel there, and one back.
struct Ends {
    sender: Sender,
    receiver: Receiver,
}

impl Ends {
    fn new(name: &Name, there: &str, back: &str) -> Self {
        Self { sender: sender(name, there), receiver: receiver(name, back) }
    }

    fn send(&self, len: usize, write: impl FnOnce(&mut [u8])) {
        let mut loan = self.sender.loan(len).expect("a buffer");
        write(&mut loan);
        loan.send().expect("there is room");
    }

    fn receive(&mut self) -> Message {
        self.receiver.recv().expect("a message")
    }

    fn poll(&mut self) -> Message {
        poll(&mut self.receiver)
    }
}

fn poll(receiver: &mut Receiver) -> Message {
    loop {
        if let Some(message) = receiver.try_recv().expect("nothing is wrong") {
            return message;
        }
        spin_loop();
    }
}

/// What both sides have open.
struct Shared {
    words: Segment<Words>,
    memory: RefCell<RegionMut>,
    turn: Cell<bool>,
    /// Where copies come from and go to.
    private: RefCell<Vec<u8>>,
}

impl Shared {
    fn new(words: Segment<Words>, memory: SharedMemory) -> Self {
        let memory = RefCell::new(memory.map_mut().expect("its bytes"));
        Self { words, memory, turn: Cell::new(false), private: RefCell::new(vec![1; LARGEST]) }
    }

    fn create(name: &Name) -> Self {
        let words = Segment::create(part(name, "words"), (), &Options::new(), |_| ()).expect("a fresh object");
        let memory = SharedMemory::create(part(name, "memory"), 2 * LARGEST as u64, &Options::new());
        Self::new(words, memory.expect("a fresh object"))
    }

    fn open(name: &Name) -> Self {
        let words = Segment::open(part(name, "words")).expect("the parent's object");
        Self::new(words, SharedMemory::open(part(name, "memory")).expect("the parent's object"))
    }

    /// The bytes of this round.
    fn memory(&self, what: What, len: usize) -> *mut [u8] {
        let turn = self.turn.replace(!self.turn.get());
        let offset = if what == What::TwoPlaces && turn { len } else { 0 };
        let mut memory = self.memory.borrow_mut();
        assert!(offset + len <= memory.len());
        std::ptr::slice_from_raw_parts_mut(memory.as_mut_ptr().wrapping_add(offset), len)
    }
}

fn write(bytes: &mut [u8]) {
    black_box(bytes).fill(1);
}

fn read(bytes: &[u8]) {
    let words = black_box(bytes).chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
    black_box(words.fold(0, u64::wrapping_add));
}

/// The side that asks.
struct Asking {
    shared: Shared,
    small: Ends,
    large: Ends,
    stream: Sender,
    many: Sender,
}

impl Asking {
    /// The other side starts in between: it sends in the channels back.
    fn start(name: &Name) -> (Self, Peer) {
        let shared = Shared::create(name);
        let [small, large, stream, many] = ["small", "large", "stream", "shared"].map(|label| sender(name, label));
        let peer = Peer::start(name);
        let small = Ends { sender: small, receiver: receiver(name, "smallback") };
        let large = Ends { sender: large, receiver: receiver(name, "largeback") };
        (Self { shared, small, large, stream, many }, peer)
    }

    fn ask(&mut self, what: What, order: Order, think: &dyn Fn()) {
        if what == What::Join {
            return;
        }
        let mut left = order.rounds;
        while left > 0 {
            left -= match what {
                What::Singly => self.singly(left),
                What::Batches => self.batch(left),
                _ => {
                    self.ask_once(what, order.len, think);
                    1
                }
            };
        }
        if matches!(what, What::Singly | What::Batches) {
            self.small.receive();
        }
    }

    fn ask_once(&mut self, what: What, len: usize, think: &dyn Fn()) {
        let Self { shared, small, large, many, .. } = self;
        match what {
            What::Line => return shared.words.ask_spinning(),
            What::Futex => return shared.words.ask_sleeping(think),
            What::Memory | What::TwoPlaces => {
                // SAFETY: the other side reads these bytes between the question and the answer only.
                write(unsafe { &mut *shared.memory(what, len) });
                return shared.words.ask_spinning();
            }
            What::Untouched => {
                large.send(len, |_| ());
                return drop(large.poll());
            }
            What::InPlace => large.send(len, write),
            What::Copied => {
                let mut private = shared.private.borrow_mut();
                write(&mut private[..len]);
                large.sender.send_copy(&private[..len]).expect("there is room");
            }
            What::Shared => drop(many.send_copy(&[1; SMALL]).expect("there is room")),
            _ => small.send(SMALL, |_| ()),
        }
        drop(if sleeps(what) { small.receive() } else { small.poll() });
        think();
    }

    fn singly(&self, left: u64) -> u64 {
        self.stream.send_copy(&[left as u8; SMALL]).expect("there is room");
        1
    }

    fn batch(&self, left: u64) -> u64 {
        let mut loans = self.stream.loan_many(BATCH.min(left) as usize, SMALL).expect("small ones take no buffer");
        for loan in &mut loans {
            loan.fill(left as u8);
        }
        let count = loans.len() as u64;
        Loan::send_many(&mut loans).expect("there is room");
        count
    }
}

/// The side that answers.
struct Answering {
    name: Name,
    shared: Shared,
    small: Ends,
    large: Ends,
    stream: Receiver,
    many: Vec<Receiver>,
}

impl Answering {
    fn start(name: Name) -> Self {
        let shared = Shared::open(&name);
        let small = Ends::new(&name, "smallback", "small");
        let large = Ends::new(&name, "largeback", "large");
        let stream = receiver(&name, "stream");
        Self { name, shared, small, large, stream, many: Vec::new() }
    }

    /// Returns the time that messages took one way, where that is measured.
    fn answer(&mut self, order: Order, think: &dyn Fn()) -> Duration {
        let (what, mut left, mut age) = (ALL[order.what], order.rounds, Duration::ZERO);
        if what == What::Join {
            self.many.truncate(order.len);
            self.many.resize_with(order.len, || receiver(&self.name, "shared"));
            return age;
        }
        while left > 0 {
            left -= match what {
                What::Singly => {
                    self.stream.recv().expect("a message");
                    1
                }
                What::Batches => {
                    let most = BATCH.min(left) as usize;
                    self.stream.recv_many(most).expect("messages").len() as u64
                }
                _ => {
                    age += self.answer_once(what, order.len, think);
                    1
                }
            };
        }
        if matches!(what, What::Singly | What::Batches) {
            self.small.send(SMALL, |_| ());
        }
        age
    }

    fn answer_once(&mut self, what: What, len: usize, think: &dyn Fn()) -> Duration {
        let Self { shared, small, large, many, .. } = self;
        let mut age = Duration::ZERO;
        match what {
            What::Line => shared.words.answer_spinning(|| ()),
            What::Futex => shared.words.answer_sleeping(think),
            What::Memory | What::TwoPlaces => {
                // SAFETY: the other side writes these bytes before the question and after the answer only.
                shared.words.answer_spinning(|| read(unsafe { &*shared.memory(what, len) }));
            }
            What::Untouched => {
                drop(large.poll());
                large.send(len, |_| ());
            }
            What::OneWay => age = small.receive().age().expect("one clock"),
            What::InPlace => read(&large.poll()),
            What::Copied => {
                let mut private = shared.private.borrow_mut();
                private[..len].copy_from_slice(&large.poll());
                read(&private[..len]);
            }
            What::Shared => many.iter_mut().for_each(|receiver| drop(poll(receiver))),
            What::Polled => drop(small.poll()),
            _ => drop(small.receive()),
        }
        if !matches!(what, What::Line | What::Futex | What::Memory | What::TwoPlaces | What::Untouched) {
            think();
            small.send(SMALL, |_| ());
        }
        age
    }
}

/// The goals, and what was measured.
#[derive(Default)]
struct Goals(Vec<(&'static str, f64, &'static str, f64)>);

impl Goals {
    fn at_most(&mut self, what: &'static str, value: f64, limit: f64) {
        self.0.push((what, value, "at most", limit));
    }

    fn at_least(&mut self, what: &'static str, value: f64, limit: f64) {
        self.0.push((what, value, "at least", limit));
    }

    fn print(&self) {
        println!("{:64}{:>10}{:>20}", "", "measured", "goal");
        for (what, value, relation, limit) in &self.0 {
            let met = if *relation == "at most" { value <= limit } else { value >= limit };
            let verdict = if met { "met" } else { "NOT MET" };
            println!("{what:64}{value:10.2}{relation:>12}{limit:8.2}  {verdict}");
        }
    }
}

struct Bench {
    criterion: RefCell<Criterion>,
    asking: RefCell<Asking>,
    peer: RefCell<Peer>,
    receivers: Cell<usize>,
}

impl Bench {
    fn run(&self, what: What, len: usize, rounds: u64, thought: Duration) -> pair::Done {
        let number = ALL.iter().position(|other| *other == what).expect("it is one of all");
        let order = Order { what: number, len, rounds, thought };
        let mut asking = self.asking.borrow_mut();
        self.peer.borrow_mut().run(order, |think| asking.ask(what, order, think))
    }

    fn contender(&self, name: &'static str, what: What, len: usize, block: u64, thought: Duration) -> Contender<'_> {
        Contender::new(name, block, move |rounds| {
            if what == What::Shared && self.receivers.replace(len) != len {
                self.run(What::Join, len, 0, thought);
            }
            if matches!(what, What::Memory | What::TwoPlaces | What::InPlace | What::Copied) {
                // The contender before has filled the caches with its own bytes; a channel has two places to fetch back.
                self.run(what, len, 2, thought);
            }
            let done = self.run(what, len, rounds, thought);
            if what == What::OneWay { done.told } else { done.time }
        })
    }

    /// A contender of which neither side thinks.
    fn awake(&self, name: &'static str, what: What, len: usize, block: u64) -> Contender<'_> {
        self.contender(name, what, len, block, Duration::ZERO)
    }

    fn compare(&self, title: &str, blocks: usize, contenders: &mut [Contender<'_>]) -> Option<Turns> {
        compare(&mut self.criterion.borrow_mut(), title, blocks, contenders)
    }

    fn spinning(&self, goals: &mut Goals) {
        let mut contenders = [
            self.awake("round trip", What::Small, SMALL, BLOCK),
            self.awake("one way, by its age", What::OneWay, SMALL, BLOCK),
            self.awake("bare cache line", What::Line, 0, BLOCK),
            self.awake("round trip, polled", What::Polled, SMALL, BLOCK),
        ];
        if let Some(turns) = self.compare("64 B between two cores", BLOCKS, &mut contenders) {
            goals.at_most("64 B round trip, spinning, x the bare cache line", turns.ratio(0, 2), 4.0);
        }
    }

    fn sleeping(&self, goals: &mut Goals) {
        let contenders = |block, thought| {
            [
                self.contender("round trip", What::Small, SMALL, block, thought),
                self.contender("one way, by its age", What::OneWay, SMALL, block, thought),
                self.contender("bare futex", What::Futex, 0, block, thought),
            ]
        };
        if let Some(turns) = self.compare("64 B between two cores, asleep", BLOCKS, &mut contenders(50, THOUGHT)) {
            goals.at_most("64 B round trip, sleeping, x the bare futex", turns.ratio(0, 2), 1.15);
        }
        self.peer.borrow().pin(0);
        self.compare("64 B on one core", BLOCKS, &mut contenders(200, Duration::ZERO));
        self.peer.borrow().pin(1);
    }

    fn stream(&self, goals: &mut Goals) {
        let mut contenders = [
            self.awake("in batches", What::Batches, SMALL, 5_000),
            self.awake("one by one", What::Singly, SMALL, 5_000),
        ];
        if let Some(turns) = self.compare("stream of 64 B", BLOCKS, &mut contenders) {
            goals.at_least("64 B one way in batches, millions of messages/s", 1e3 / turns.median(0), 10.0);
        }
    }

    fn untouched(&self, goals: &mut Goals) {
        let mut contenders = SIZES.map(|(label, len)| self.awake(label, What::Untouched, len, BLOCK));
        if let Some(turns) = self.compare("untouched, round trip between two cores", BLOCKS, &mut contenders) {
            let all = 0..SIZES.len();
            let pairs = all.clone().flat_map(|of| all.clone().map(move |to| (of, to)));
            let most = pairs.map(|(of, to)| turns.ratio(of, to)).fold(1.0, f64::max);
            goals.at_most("untouched payload 64 B to 64 MiB, slowest x fastest", most, 1.2);
        }
    }

    fn touched(&self, goals: &mut Goals) {
        for (label, len) in SIZES {
            let block = ((128 << 20) / len).clamp(1, BLOCK as usize) as u64;
            let blocks = if len > 1 << 20 { BLOCKS / 4 } else { BLOCKS };
            let mut contenders = [
                self.awake("in place", What::InPlace, len, block),
                self.awake("copied", What::Copied, len, block),
                self.awake("bare write and read", What::Memory, len, block),
                self.awake("bare, two places", What::TwoPlaces, len, block),
            ];
            let turns = self.compare(&format!("{label}, written and read"), blocks, &mut contenders);
            if let Some(turns) = turns.filter(|_| label == "8 MiB") {
                goals.at_most("8 MiB written and read in place, x the bare", turns.ratio(0, 2), 1.1);
            }
        }
    }

    fn receivers(&self) {
        let mut contenders = RECEIVERS.map(|(label, count)| self.awake(label, What::Shared, count, BLOCK));
        self.compare("64 B to so many receivers of one process", BLOCKS / 2, &mut contenders);
    }

    /// Pages that are mapped during rounds, when every buffer has been used before.
    fn faults(&self, goals: &mut Goals) {
        const ROUNDS: u64 = 20;
        self.run(What::InPlace, LARGEST, ROUNDS, Duration::ZERO);
        let faults = self.run(What::InPlace, LARGEST, ROUNDS, Duration::ZERO).faults;
        goals.at_most("page faults of both sides over 20 warm rounds of 64 MiB", faults as f64, 0.0);
    }
}

fn main() {
    if let Some(name) = told() {
        let mut answering = Answering::start(name);
        return serve(|order, think| answering.answer(order, think));
    }
    let name = Name::unique("bench-channel").expect("a unique name");
    let (asking, peer) = Asking::start(&name);
    pin(0, 0);
    peer.pin(1);
    let bench = Bench {
        criterion: RefCell::new(Criterion::default().configure_from_args()),
        asking: RefCell::new(asking),
        peer: RefCell::new(peer),
        receivers: Cell::new(0),
    };
    let mut goals = Goals::default();
    bench.spinning(&mut goals);
    bench.sleeping(&mut goals);
    bench.stream(&mut goals);
    bench.untouched(&mut goals);
    bench.touched(&mut goals);
    bench.receivers();
    bench.faults(&mut goals);
    bench.criterion.borrow().final_summary();
    goals.print();
}
