//! What must hold of a channel after a death, whenever it came.

use crate::channel_peers::{BUFFERS, LANES, LARGE, Ours, PLACES, SLOTS, SMALL, Sink, assert_whole, options};
use crate::common::Dir;
use crate::victim::{OBJECT, PATIENCE};
use memlane::{Error, Policy, Receiver, Sender, Who};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What may be found in the lane that a row is about; in the others nothing was sent.
#[derive(Debug, Clone)]
pub struct Expected {
    pub lane: usize,
    pub sent: RangeInclusive<u64>,
    /// The first messages, up to one of these, were processed by those who have died.
    pub processed: RangeInclusive<u64>,
    /// There may be no channel at all.
    pub nothing: bool,
}

fn is_me(who: &Option<Who>) -> bool {
    who.as_ref().is_some_and(|who| who.pid == std::process::id())
}

/// Newcomers find the channel in good order: everybody who is named lives, all places and lanes can be had, every message
/// is whole and where it belongs, every buffer can be used. Then all leave, and so does the channel.
pub fn settle(mut ours: Ours, dir: &Dir, expected: &Expected) {
    let objects = memlane::list(Some(dir.path())).expect("a list");
    assert!(objects.iter().all(|object| object.problem.is_none()), "{objects:?}");
    let survivors = ours.sinks.len();
    if survivors == 0 && ours.sources.is_empty() {
        match Receiver::open(dir.name(OBJECT)) {
            Ok(receiver) => ours.sinks.push(Sink::of(receiver, ours.policy)),
            Err(Error::NotFound { .. }) => assert!(expected.nothing && !is_there(dir), "the channel is gone"),
            Err(error) => panic!("neither a channel nor a clean end: {error}"),
        }
    }
    if ours.sinks.len() + ours.sources.len() > 0 {
        put_to_use(&mut ours, survivors, dir, expected);
    }
    drop(ours);
    leaves_nothing(dir, || {
        drop(Sender::<[u8]>::create(dir.name(OBJECT), &options(Policy::Lossless)).expect("the name can be used again"));
    });
}

pub fn is_there(dir: &Dir) -> bool {
    dir.files().iter().any(|file| file == OBJECT)
}

fn put_to_use(ours: &mut Ours, survivors: usize, dir: &Dir, expected: &Expected) {
    while ours.sources.len() < LANES {
        ours.open_source(dir);
    }
    ours.sources.sort_by_key(|source| source.lane);
    scribble(ours);
    ours.sinks.iter_mut().for_each(Sink::drain);
    while ours.sinks.len() < PLACES {
        ours.open_sink(dir).drain();
    }
    everybody_is_named(ours, dir);
    for lane in 0..LANES {
        let sent = ours.sources[lane].sender.senders()[lane].sent;
        assert_eq!(sent, ours.sources[lane].sent, "numbers go on where they ended");
        messages_are_there(ours, survivors, lane, sent, expected);
    }
    for message in &ours.held {
        assert_whole(message);
    }
    if ours.policy != Policy::Newest {
        ours.held.clear(); // where nothing may be lost, it would hold up what follows
    }
    everything_goes_round(ours);
    all_buffers_are_free(ours);
}

/// Whatever can be lent is written to: no message is in it that anybody holds or is still to get.
fn scribble(ours: &Ours) {
    for source in &ours.sources {
        let mut loans = source.sender.loan_many(1000, LARGE).expect("a buffer");
        loans.iter_mut().for_each(|loan| loan.fill(0xee));
    }
}

/// Each place and each lane has been had, by us, and nobody else is named.
fn everybody_is_named(ours: &Ours, dir: &Dir) {
    let error = Receiver::<[u8]>::open(dir.name(OBJECT)).expect_err("no place is left");
    let Error::NoRoom { of: "receivers", who, .. } = &error else { panic!("{error}") };
    assert!(who.len() == PLACES && who.iter().all(|who| who.pid == std::process::id()), "{error}");
    let error = Sender::<[u8]>::open(dir.name(OBJECT)).expect_err("no lane is left");
    let Error::NoRoom { of: "senders", who, .. } = &error else { panic!("{error}") };
    assert!(who.len() == LANES && who.iter().all(|who| who.pid == std::process::id()), "{error}");
    let (senders, receivers) = (ours.sources[0].sender.senders(), ours.sources[0].sender.receivers());
    assert!(senders.len() == LANES && senders.iter().all(|info| is_me(&info.who)), "{senders:?}");
    assert!(receivers.len() == PLACES && receivers.iter().all(|info| is_me(&info.who)), "{receivers:?}");
    let claims: usize = receivers.iter().map(|info| info.claims).sum();
    assert_eq!(claims, ours.held.iter().filter(|message| message.size() > SMALL).count(), "the dead hold buffers");
}

/// What was sent is received, and what the dead have processed is not.
fn messages_are_there(ours: &mut Ours, survivors: usize, lane: usize, sent: u64, expected: &Expected) {
    let Expected { sent: bounds, processed, .. } =
        if lane == expected.lane { expected.clone() } else { Expected { sent: 0..=0, processed: 0..=0, ..*expected } };
    assert!(bounds.contains(&sent), "lane {lane}: {sent} were sent, to be {bounds:?}");
    let is_held = |sequence: u64| ours.held.iter().any(|held| (held.lane(), held.sequence()) == (lane, sequence));
    let got = |sink: &Sink| sink.got.iter().filter(|got| got.0 == lane).map(|got| got.1).collect::<Vec<_>>();
    if ours.policy == Policy::Queue {
        let all: Vec<u64> = ours.sinks.iter().flat_map(got).collect();
        let once: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(once.len(), all.len(), "a message was processed twice: {all:?}");
        let before = |got: &u64| survivors == 0 && got <= processed.start();
        assert!(!once.iter().any(before), "{once:?} were processed before");
        let lost = |sequence: &u64| !once.contains(sequence) && !is_held(*sequence);
        assert_eq!((processed.end() + 1..=sent).find(lost), None, "a message was lost");
        return;
    }
    for (index, sink) in ours.sinks.iter().enumerate() {
        assert!(sink.next[lane].is_none_or(|next| next == sent + 1), "lane {lane}: only up to {:?}", sink.next);
        let got = got(sink);
        if index >= survivors && (survivors > 0 || index > 0) {
            assert!(got.iter().all(|got| is_held(*got)), "processed before, by a survivor: {got:?}");
        } else if survivors == 0 && ours.policy == Policy::Lossless {
            // The first to come.
            let first = got.first().map_or(sent, |first| first - 1);
            assert!(processed.contains(&first), "the first {first} had been processed, to be {processed:?}");
        }
    }
    what_is_kept_is_whole(ours, lane, sent);
}

/// Whoever rewinds receives all of the window, but for what was being overwritten.
fn what_is_kept_is_whole(ours: &mut Ours, lane: usize, sent: u64) {
    let sink = ours.sinks.last_mut().expect("one");
    let next = sink.next;
    sink.receiver.rewind();
    let mut again = Vec::new();
    while let Some(message) = sink.receiver.try_recv().unwrap_or(None) {
        assert_whole(&message);
        if message.lane() == lane {
            again.push(message.sequence());
        }
    }
    sink.next = next;
    let count = again.len() as u64;
    assert!(count + 1 >= sent.min(SLOTS) && count <= SLOTS, "of {sent} messages only {again:?} are kept");
    assert_eq!(again, (sent + 1 - count..=sent).collect::<Vec<_>>());
}

/// Messages go from every sender to every receiver, more of them than there are slots.
fn everything_goes_round(ours: &mut Ours) {
    for (round, len) in [LARGE, SMALL, LARGE, LARGE, SMALL, SMALL].into_iter().enumerate() {
        for source in &mut ours.sources {
            let ticket = source.send(len);
            let wanted = (source.lane, source.sent, 1);
            let mut received = 0;
            let takers = if ours.policy == Policy::Queue { round % PLACES..round % PLACES + 1 } else { 0..PLACES };
            for sink in &mut ours.sinks[takers] {
                assert_eq!(sink.process(PATIENCE).expect("what was just sent"), wanted);
                received += 1;
            }
            assert!(ours.sinks.iter_mut().all(|sink| sink.process(Duration::ZERO).is_err()), "received once too often");
            assert_eq!(ticket.wait(Some(PATIENCE)).expect("all have answered").len(), received);
        }
    }
}

/// The windows hold small messages only, so all buffers can be lent but for those that are held.
fn all_buffers_are_free(ours: &Ours) {
    for source in &ours.sources {
        let held = ours.held.iter().filter(|held| held.lane() == source.lane && held.size() > SMALL).count();
        let loans = source.sender.loan_many(1000, LARGE).expect("a buffer");
        assert_eq!(loans.len() + held, BUFFERS, "buffers of lane {} are lost", source.lane);
        ours.held.iter().for_each(assert_whole);
    }
}

/// Nobody uses the channel or service: its name can be had again, and what is created and dropped leaves nothing.
pub fn leaves_nothing(dir: &Dir, create: impl FnOnce()) {
    if is_there(dir) {
        let kept = |object: &memlane::Listed| object.persistence == Some(memlane::Persistence::Keep);
        let objects = memlane::list(Some(dir.path())).expect("a list");
        assert!(objects.iter().all(|object| kept(object) || !object.in_use), "nobody uses it: {objects:?}");
        if objects.iter().any(kept) {
            memlane::remove(dir.name(OBJECT)).expect("it is there");
        }
    }
    create();
    assert_eq!(dir.files(), Vec::<String>::new(), "something was left over");
}
