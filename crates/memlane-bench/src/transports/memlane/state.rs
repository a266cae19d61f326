//! State in a segment: what is handed over behind a lock, the lock alone, and events.

use super::{WAIT, name};
use crate::transport::{Case, Laps, PATIENCE, Role, Setup, Side};
use memlane::{Condvar, Event, Locked, Mutex, MutexGuard, Options, Segment, Shareable, Until};
use std::fmt::Debug;
use std::hint::black_box;

#[derive(Shareable)]
#[repr(C)]
struct HandOff {
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

#[inline(always)]
fn take<T: ?Sized>(locked: Result<Locked<MutexGuard<'_, T>>, impl Debug>) -> MutexGuard<'_, T> {
    locked.expect("the lock").or_repair(|_| panic!("the other side died"))
}

struct Asking(Case, Segment<HandOff>);

impl Side for Asking {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        let Self(case, by) = self;
        for round in 0..rounds {
            let mut frame = take(by.frame.lock(by));
            case.write(round, &mut frame.payload);
            frame.sequence += 1;
            frame.unlock();
            by.ready.notify_one();
            let frame = take(by.frame.lock(by));
            let until = Until::timeout(PATIENCE);
            drop(take(by.processed.wait_while(frame, until, |frame| frame.done < frame.sequence)));
            think();
            laps.lap();
        }
    }
}

struct Answering(Case, Segment<HandOff>);

impl Side for Answering {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), _: &mut Laps) {
        let Self(case, by) = self;
        for round in 0..rounds {
            let frame = take(by.frame.lock(by));
            let until = Until::timeout(PATIENCE);
            let mut frame = take(by.ready.wait_while(frame, until, |frame| frame.done == frame.sequence));
            case.read(round, &frame.payload);
            think();
            frame.done = frame.sequence;
            frame.unlock();
            by.processed.notify_one();
        }
    }
}

pub(super) fn hand_off(setup: &Setup) -> Box<dyn Side> {
    let (case, name) = (setup.case, name(setup, "hand-off"));
    match setup.role {
        Role::Ask => {
            let segment = Segment::create(name, case.len, &Options::new(), |_| ());
            Box::new(Asking(case, segment.expect("a fresh object")))
        }
        Role::Answer => Box::new(Answering(case, Segment::wait_for(name, WAIT).expect("the other side's object"))),
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

struct AskingByEvent(Segment<Events>);

impl Side for AskingByEvent {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        let by = &self.0;
        for _ in 0..rounds {
            by.question.set();
            by.answer.take(by, Until::timeout(PATIENCE)).expect("an answer");
            think();
            laps.lap();
        }
    }
}

struct AnsweringByEvent(Segment<Events>);

impl Side for AnsweringByEvent {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), _: &mut Laps) {
        let by = &self.0;
        for _ in 0..rounds {
            by.question.take(by, Until::timeout(PATIENCE)).expect("a question");
            think();
            by.answer.set();
        }
    }
}

pub(super) fn events(setup: &Setup) -> Box<dyn Side> {
    let name = name(setup, "events");
    match setup.role {
        Role::Ask => {
            let segment = Segment::create(name, (), &Options::new(), |_| ());
            Box::new(AskingByEvent(segment.expect("a fresh object")))
        }
        Role::Answer => Box::new(AnsweringByEvent(Segment::wait_for(name, WAIT).expect("the other side's object"))),
    }
}

#[derive(Shareable)]
#[repr(C)]
struct Counter {
    value: Mutex<u64>,
}

struct Locking(Segment<Counter>);

impl Side for Locking {
    fn rounds(&mut self, rounds: u64, _: &dyn Fn(), laps: &mut Laps) {
        for _ in 0..rounds {
            let by = black_box(&self.0);
            *by.value.lock(by).expect("the lock").or_repair(|_| ()) += 1;
            laps.lap();
        }
    }
}

pub(super) fn mutex(setup: &Setup) -> Box<dyn Side> {
    super::super::lock_side(setup, || {
        let counter = Segment::open_or_create(name(setup, "mutex"), (), &Options::new(), |_| ());
        Box::new(Locking(counter.expect("a fresh object, or the other side's")))
    })
}
