//! The round trip of a hand-off between two processes, of a frame behind a lock, with a payload nobody
//! touches, and of an event; and the two floors they stand on: a cache line that goes to and fro, and a futex that does.
#![allow(missing_docs)]

mod common;
#[path = "common/pair.rs"]
mod pair;

use common::{Contender, compare};
use criterion::Criterion;
use memlane::{Condvar, Event, Locked, Mutex, MutexGuard, Name, Options, Segment, Shareable, Until};
use pair::{Order, Peer, Words, part, pin, serve, told};
use std::cell::RefCell;
use std::time::Duration;

const SIZES: [(&str, usize); 4] = [("64 B", 64), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20)];
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for the other side to fall asleep.
const THOUGHT: Duration = Duration::from_micros(30);
const BLOCKS: usize = 200;

#[derive(Shareable)]
#[repr(C)]
struct Handoff {
    ready: Condvar,
    processed: Condvar,
    frame: Mutex<Frame>,
}

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    sequence: u64,
    done: u64,
    payload: [u8],
}

fn take<'a>(locked: Result<Locked<'a, Frame>, impl std::fmt::Debug>) -> MutexGuard<'a, Frame> {
    locked.expect("the lock").or_repair(|_| panic!("nobody dies here"))
}

impl Handoff {
    fn send(by: &Segment<Self>, think: &dyn Fn()) {
        let mut frame = take(by.frame.lock(by));
        frame.sequence += 1;
        frame.unlock();
        by.ready.notify_one();
        let frame = take(by.frame.lock(by));
        drop(take(by.processed.wait_while(frame, Until::timeout(PATIENCE), |frame| frame.done < frame.sequence)));
        think();
    }

    fn receive(by: &Segment<Self>, think: &dyn Fn()) {
        let frame = take(by.frame.lock(by));
        let until = Until::timeout(PATIENCE);
        let mut frame = take(by.ready.wait_while(frame, until, |frame| frame.done == frame.sequence));
        think();
        frame.done = frame.sequence;
        frame.unlock();
        by.processed.notify_one();
    }
}

/// Each in a cache line of its own.
#[derive(Shareable)]
#[repr(C)]
struct Events {
    question: Event,
    _1: [u32; 31],
    answer: Event,
    _2: [u32; 31],
}

impl Events {
    fn ask(by: &Segment<Self>, think: &dyn Fn()) {
        by.question.set();
        by.answer.take(by, Until::timeout(PATIENCE)).expect("an answer");
        think();
    }

    fn answer(by: &Segment<Self>, think: &dyn Fn()) {
        by.question.take(by, Until::timeout(PATIENCE)).expect("a question");
        think();
        by.answer.set();
    }
}

/// What both sides have open.
struct Shared {
    handoffs: Vec<Segment<Handoff>>,
    events: Segment<Events>,
    words: Segment<Words>,
}

impl Shared {
    fn create(name: &Name) -> Self {
        let of_size = |(label, size): (&str, usize)| {
            Segment::create(part(name, label), size, &Options::new(), |_| ()).expect("a fresh object")
        };
        let words = Segment::create(part(name, "words"), (), &Options::new(), |_| ()).expect("a fresh object");
        let events = Segment::create(part(name, "events"), (), &Options::new(), |_| ()).expect("a fresh object");
        Self { handoffs: SIZES.map(of_size).into(), events, words }
    }

    fn open(name: &Name) -> Self {
        let of_size = |(label, _)| Segment::open(part(name, label)).expect("the parent's object");
        let events = Segment::open(part(name, "events")).expect("the events");
        let words = Segment::open(part(name, "words")).expect("the words");
        Self { handoffs: SIZES.map(of_size).into(), events, words }
    }

    /// The other side.
    fn answer(&self, order: Order, think: &dyn Fn()) {
        for _ in 0..order.rounds {
            match self.handoffs.get(order.what) {
                Some(handoff) => Handoff::receive(handoff, think),
                None if order.what == EVENT => Events::answer(&self.events, think),
                None if order.what == SLEEPING => self.words.answer_sleeping(think),
                None => self.words.answer_spinning(),
            }
        }
    }
}

/// What to measure: an index into `SIZES`, or one of these.
const SLEEPING: usize = 10;
const SPINNING: usize = 11;
const EVENT: usize = 12;

fn main() {
    if let Some(name) = told() {
        let shared = Shared::open(&name);
        return serve(|order, think| shared.answer(order, think));
    }
    let name = Name::unique("bench-handoff").expect("a unique name");
    let shared = &Shared::create(&name);
    let peer = &RefCell::new(Peer::start(&name));
    let run = |what: usize, rounds: u64, thought: Duration| {
        let side = |think: &dyn Fn()| {
            for _ in 0..rounds {
                match shared.handoffs.get(what) {
                    Some(handoff) => Handoff::send(handoff, think),
                    None if what == EVENT => Events::ask(&shared.events, think),
                    None if what == SLEEPING => shared.words.ask_sleeping(think),
                    None => shared.words.ask_spinning(),
                }
            }
        };
        peer.borrow_mut().run(Order { what, rounds, thought }, side)
    };
    let contender =
        |label, what, block, thought| Contender::new(label, block, move |rounds| run(what, rounds, thought));
    let mut criterion = Criterion::default().configure_from_args();

    pin(0, 0);
    peer.borrow().pin(1);
    let mut awake: Vec<_> =
        SIZES.iter().enumerate().map(|(what, (label, _))| contender(label, what, 2_000, Duration::ZERO)).collect();
    awake.push(contender("bare cache line", SPINNING, 2_000, Duration::ZERO));
    compare(&mut criterion, "hand-off between two cores", BLOCKS, &mut awake);

    let mut awake = [
        contender("event", EVENT, 2_000, Duration::ZERO),
        contender("bare cache line", SPINNING, 2_000, Duration::ZERO),
    ];
    compare(&mut criterion, "event between two cores", BLOCKS, &mut awake);

    let floor = |label, what, block, thought| {
        [contender(label, what, block, thought), contender("bare futex", SLEEPING, block, thought)]
    };
    compare(&mut criterion, "hand-off between two cores, asleep", BLOCKS, &mut floor("64 B", 0, 50, THOUGHT));
    compare(&mut criterion, "event between two cores, asleep", BLOCKS, &mut floor("event", EVENT, 50, THOUGHT));
    peer.borrow().pin(0);
    compare(&mut criterion, "hand-off on one core", BLOCKS, &mut floor("64 B", 0, 200, Duration::ZERO));
    compare(&mut criterion, "event on one core", BLOCKS, &mut floor("event", EVENT, 200, Duration::ZERO));
    criterion.final_summary();
}
