//! Who sends and who receives: each place has one, nobody who receives loses what is sent from then on, and whoever
//! waits for a message is known to its sender.

use super::entries::content_of;
use super::lane::Seen;
use super::memory::Memory;
use super::queue::raise;
use super::roster::{Done, Receivers, Start};
use super::writer::{Sent, Writer};
use super::{Channel, ChannelOptions, LARGE, Policy, lane, memory_of, name_of};
use crate::error::Error;
use crate::object::Name;
use crate::owner::OwnerId;
use crate::{explore, explore_deaths, join, prim, sys};
use loom::thread;
use std::sync::Arc;

const LANE: usize = 0;

/// Becomes a sender, as [`Sender`](super::Sender) does.
fn send_in(memory: Memory) -> Result<Writer, Error> {
    let memory = Arc::new(memory);
    let lane = memory.take_lane()?;
    Writer::new(memory, lane)
}

/// Becomes a receiver, as [`Receiver`](super::Receiver) does: in which place, and where it starts.
fn receive_in(memory: &Memory) -> Result<(usize, Vec<Start>), Error> {
    let index = memory.take_place("receivers", memory.receivers())?;
    Ok((index, memory.attach_receiver(index)))
}

fn writer(name: &Name) -> Writer {
    send_in(memory_of(name)).expect("there is a lane")
}

/// Sends the next message, if there is room, and says so if `announces`.
fn send(writer: &Writer, announces: bool) -> Option<Sent> {
    let mut state = writer.state();
    if !writer.has_room(&mut state) {
        return None;
    }
    let sequence = writer.commit(&mut state, content_of(1, None), &[1]);
    let receivers = if announces { writer.announce(sequence).receivers } else { Receivers::new() };
    Some(Sent { sequence, receivers })
}

/// What receiver `index` does with a message.
fn process(memory: &Memory, index: usize, sequence: u64) {
    memory.set_outcome(index, LANE, sequence, Done::Processed);
}

/// Somebody who has come: who, where, and the last message that it does not count on.
struct Newcomer {
    owner: OwnerId,
    index: usize,
    joined: u64,
}

/// Comes, and sees that the first message from then on stays.
fn come(memory: &Memory) -> Newcomer {
    let (index, starts) = receive_in(memory).expect("there is a place");
    let joined = starts[LANE].joined.max(starts[LANE].cursor - 1);
    let looked = memory.entry(LANE, joined + 1).look(joined + 1);
    assert!(!matches!(looked, Seen::Later), "it was overwritten before it was let go");
    Newcomer { owner: memory.me(), index, joined }
}

fn check(newcomer: &Newcomer, sent: &[Sent]) {
    assert!(sent.len() as u64 <= newcomer.joined + 1, "all after the first wait for it");
    for Sent { sequence, receivers } in sent.iter().filter(|sent| !sent.receivers.is_empty()) {
        if *sequence > newcomer.joined {
            assert!(receivers.contains(&(newcomer.index, newcomer.owner)), "its sender knows who waits for {sequence}");
        }
    }
}

/// One receiver is there and processes all at once; another comes meanwhile.
#[test]
fn what_is_sent_after_a_receiver_came_waits_for_it() {
    explore("1 sends 3 messages, 1 comes", (Some(1), Some(3)), || {
        let name = name_of(&ChannelOptions::new().receivers(2));
        let (writer, old) = (writer(&name), memory_of(&name));
        let (index, _) = receive_in(&old).expect("there is a place");
        let newcomer = thread::spawn(move || come(&memory_of(&name)));
        let mut sent = Vec::new();
        while let Some(next) = send(&writer, true).filter(|_| sent.len() < 3) {
            let mut waits = next.receivers.iter();
            assert!(waits.all(|(_, owner)| !old.attachment().is_dead(*owner)), "a newcomer is not taken for dead");
            process(&old, index, next.sequence);
            sent.push(next);
        }
        check(&join([newcomer])[0], &sent);
    });
}

/// The same where several are sent before it is looked who receives, and processed by another thread.
#[test]
fn what_is_sent_in_a_batch_waits_for_who_came() {
    explore("1 sends 2 messages at once, 1 processes, 1 comes", (Some(2), Some(3)), || {
        let name = name_of(&ChannelOptions::new().receivers(2));
        let (writer, old, new) = (writer(&name), memory_of(&name), memory_of(&name));
        let (index, _) = receive_in(&old).expect("there is a place");
        let newcomer = thread::spawn(move || come(&new));
        let old = thread::spawn(move || {
            if old.entry(LANE, 1).look(1) == Seen::There {
                process(&old, index, 1);
            }
        });
        let sent: Vec<_> = (0..2).map_while(|number| send(&writer, number == 1)).collect();
        check(&join([newcomer])[0], &sent);
        join([old]);
    });
}

/// A receiver closes: whatever message a ticket says it was to get, it knows of, and passes over.
#[test]
fn who_closes_passes_over_all_that_waits_for_it() {
    explore("1 sends 2 messages, 1 closes", (Some(4), None), || {
        let name = name_of(&ChannelOptions::new().receivers(1));
        let (writer, receiver) = (writer(&name), memory_of(&name));
        let (index, _) = receive_in(&receiver).expect("there is a place");
        let owner = receiver.me();
        let closing = thread::spawn(move || {
            receiver.close_receiver(index);
            let last = receiver.last(LANE);
            (1..=last).for_each(|sequence| receiver.set_outcome(index, LANE, sequence, Done::Skipped));
            receiver.leave_receiver(index);
            last
        });
        let sent: Vec<_> = (0..2)
            .map_while(|_| {
                let sent = send(&writer, true)?;
                raise(writer.memory().task(LANE, sent.sequence), sent.sequence);
                Some(sent)
            })
            .collect();
        let last = join([closing])[0];
        for Sent { sequence, receivers } in sent {
            assert!(!receivers.contains(&(index, owner)) || sequence <= last, "{sequence} waits for nobody");
        }
    });
}

/// A receiver closes while it is looked for room: what nobody has processed stays.
#[test]
fn what_is_passed_over_as_a_receiver_closes_is_kept() {
    explore("1 fills the window and looks for room, 1 closes", (Some(4), None), || {
        let name = name_of(&ChannelOptions::new().receivers(1));
        let (writer, receiver) = (writer(&name), memory_of(&name));
        let (index, _) = receive_in(&receiver).expect("there is a place");
        let slots = receiver.geometry().slots;
        (0..slots).for_each(|_| drop(send(&writer, false).expect("there is room")));
        let closing = thread::spawn(move || {
            receiver.close_receiver(index);
            (1..=slots).for_each(|sequence| receiver.set_outcome(index, LANE, sequence, Done::Skipped));
            receiver.leave_receiver(index);
        });
        assert!(send(&writer, false).is_none(), "what nobody has processed is overwritten");
        join([closing]);
    });
}

fn is_one(won: &[bool]) -> bool {
    won.iter().filter(|won| **won).count() == 1
}

/// Two want the lane of a dead sender; one gets it, and goes on where that one ended.
#[test]
fn a_lane_has_one_successor() {
    explore_deaths("1 dies sending 2 messages, 2 want its lane", (Some(2), Some(3)), |steps| {
        let name = name_of(&ChannelOptions::new());
        let first = memory_of(&name);
        let receiver = memory_of(&name);
        let rivals = [memory_of(&name), memory_of(&name)];
        let dies = sys::mortal(steps, || {
            let writer = send_in(first).expect("there is a lane");
            send(&writer, true);
            raise(writer.memory().task(LANE, 1), 1);
            send(&writer, true);
        });
        let before = receiver.last(LANE);
        let rivals = rivals.map(|memory| {
            thread::spawn(move || match send_in(memory) {
                Ok(writer) => {
                    raise(writer.memory().task(LANE, before), before);
                    assert_eq!(send(&writer, true).map(|sent| sent.sequence), Some(before + 1));
                    std::mem::forget(writer);
                    true
                }
                Err(Error::NoRoom { who, .. }) => {
                    assert!(who.len() <= 1);
                    false
                }
                Err(error) => panic!("{error}"),
            })
        });
        assert!(is_one(&join(rivals)) && receiver.last(LANE) == before + 1, "{dies:?}");
    });
}

/// Two come and want a lane that is free; one gets it, and is not taken for dead by the other.
#[test]
fn a_free_lane_goes_to_one() {
    explore("2 attach and want a lane", (Some(3), Some(4)), || {
        let name = name_of(&ChannelOptions::new());
        let rivals = [(); 2].map(|()| {
            let name = name.clone();
            thread::spawn(move || send_in(memory_of(&name)).map(std::mem::forget).is_ok())
        });
        assert!(is_one(&join(rivals)));
    });
}

/// One leaves a lane that another one wants: who gets it goes on behind all that was sent.
#[test]
fn a_lane_that_was_left_goes_on() {
    explore("1 sends and leaves, 1 wants its lane", (Some(3), None), || {
        let name = name_of(&ChannelOptions::new().slots(2));
        let (first, second) = (writer(&name), memory_of(&name));
        let second = thread::spawn(move || Some(send(&send_in(second).ok()?, true).expect("there is room").sequence));
        send(&first, true);
        drop(first);
        assert!(join([second])[0].is_none_or(|sequence| sequence == 2));
    });
}

/// Two want the place of a dead receiver; one gets it.
#[test]
fn a_place_has_one_successor() {
    explore_deaths("1 dies coming, 2 want its place", (Some(2), Some(3)), |steps| {
        let name = name_of(&ChannelOptions::new());
        let first = memory_of(&name);
        let rivals = [memory_of(&name), memory_of(&name)];
        let lives = sys::mortal(steps, || {
            let first = first;
            receive_in(&first).map(|_| first.claim(0, 0).store(7, prim::Ordering::Release)).expect("there is a place");
        });
        let rivals = rivals.map(|memory| {
            thread::spawn(move || {
                let came = receive_in(&memory).is_ok();
                assert!(
                    !came || memory.claim(0, 0).load(prim::Ordering::Relaxed) == 0,
                    "what the dead claimed is free"
                );
                came
            })
        });
        assert_eq!(is_one(&join(rivals)), lives.is_none());
    });
}

/// Who takes the place of a dead receiver frees what that one held; its sender knows then that it is no longer read.
#[test]
fn what_the_dead_read_is_not_written() {
    explore("1 dies reading, 1 comes in its place, 1 sends", (Some(2), Some(4)), || {
        let (channel, sender) = Channel::new(ChannelOptions::new().policy(Policy::Newest));
        let [dead, new] = [memory_of(&channel.name), memory_of(&channel.name)];
        let (index, _) = receive_in(&dead).expect("there is a place");
        // All buffers but the one that is held have been used, and are known to be free.
        let send = |number| drop(channel.loan(&sender, number, LARGE).send().expect("never waits"));
        send(1);
        let entry = dead.entry(LANE, 1);
        let buffer = entry.content(1).expect("it is there").place.buffer;
        assert!(lane::claim(dead.claim(index, 0), entry, 1, LANE, buffer));
        (2..=4).for_each(send);
        let reading = thread::spawn({
            let channel = channel.clone();
            move || {
                sys::mortal(u64::MAX, || {
                    channel.cells[&dead.buffer(LANE, buffer).addr().get()].with(|_| ());
                    let _dead = dead;
                    prim::die()
                })
            }
        });
        let newcomer = thread::spawn(move || receive_in(&new).is_ok());
        send(5);
        join([reading]);
        join([newcomer]);
    });
}

/// A sender takes a dead receiver out while another one wants its place: there is one in it, or none.
#[test]
fn a_dead_receiver_is_taken_out_once() {
    const DEAD: u32 = 7;
    explore("1 takes a dead receiver out, 1 comes", (Some(3), None), || {
        let name = name_of(&ChannelOptions::new());
        let writer = writer(&name);
        sys::be(DEAD);
        let dead = memory_of(&name);
        sys::mortal(u64::MAX, || {
            let dead = dead;
            receive_in(&dead).expect("there is a place");
            prim::die()
        });
        let newcomer = thread::spawn(move || {
            let new = memory_of(&name);
            let came = receive_in(&new).ok().map(|_| new.me());
            came.inspect(|_| new.claim(0, 1).store(9, prim::Ordering::Relaxed))
        });
        let present = writer.memory().sweep(writer.memory().receivers());
        assert!(present.died.is_none_or(|who| who.pid == DEAD), "a newcomer is not taken for dead");
        let came = join([newcomer])[0];
        let there = writer.memory().owner_of(0);
        assert_eq!(there, came.unwrap_or(OwnerId::NOBODY));
        assert!(present.living <= usize::from(came.is_some()));
        let claim = writer.memory().claim(0, 1).load(prim::Ordering::Relaxed);
        assert_eq!(claim, if came.is_some() { 9 } else { 0 }, "the claims of the living stay");
    });
}
