//! Senders and receivers whole, as a user has them: every message arrives whole, and nobody sleeps for ever.

use super::message::Message;
use super::receiver::Receiver;
use super::sender::Sender;
use super::ticket::Outcome;
use super::{Channel, ChannelOptions, LARGE, Policy, SMALL, memory_of};
use crate::error::{RecvError, SendError};
use crate::{explore, explore_deaths, join, prim, sys};
use loom::cell::UnsafeCell;
use loom::thread;
use std::rc::Rc;

/// Sends messages whose bytes are their numbers.
fn send(channel: &Channel, sender: &Sender, numbers: impl IntoIterator<Item = u8>, len: usize) {
    for number in numbers {
        channel.loan(sender, number, len).send().expect("there is room in the end");
    }
}

/// Receives until nobody sends any more, and says what.
fn receive_all(channel: &Channel, receiver: &mut Receiver) -> Vec<u8> {
    receive_all_in_time(channel, receiver, || ())
}

/// The same, with `time` that passes after each message.
fn receive_all_in_time(channel: &Channel, receiver: &mut Receiver, time: fn()) -> Vec<u8> {
    let mut received = Vec::new();
    loop {
        match receiver.recv() {
            Ok(message) => {
                let content = channel.read(&message);
                assert_eq!(u64::from(content), message.sequence());
                received.push(content);
                drop(message);
                time();
            }
            Err(RecvError::Closed { .. } | RecvError::SenderDied { .. }) => return received,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn nothing_is_lost_and_nobody_sleeps_for_ever() {
    for len in [SMALL, LARGE] {
        explore("1 sends 2 messages through 1 place, 1 receives", (Some(1), Some(2)), move || {
            let (channel, sender) = Channel::new(ChannelOptions::new());
            let mut receiver = channel.receiver();
            let receiver = thread::spawn({
                let channel = channel.clone();
                move || receive_all(&channel, &mut receiver)
            });
            send(&channel, &sender, 1..=2, len);
            drop(sender);
            assert_eq!(join([receiver])[0], [1, 2]);
        });
    }
}

/// Who is too slow learns how many messages it missed.
#[test]
fn what_is_overwritten_is_counted() {
    explore("1 sends 2 messages through 1 place, 1 receives the newest", (Some(1), Some(2)), || {
        let (channel, sender) = Channel::new(ChannelOptions::new().policy(Policy::Newest));
        let mut receiver = channel.receiver();
        let receiver = thread::spawn({
            let channel = channel.clone();
            move || {
                let mut seen = 0;
                while let Ok(message) = receiver.recv() {
                    assert_eq!(u64::from(channel.read(&message)), message.sequence());
                    seen += 1 + message.missed();
                    assert_eq!(message.sequence(), seen);
                }
                seen
            }
        });
        send(&channel, &sender, 1..=2, LARGE);
        drop(sender);
        assert_eq!(join([receiver])[0], 2, "the last one stays");
    });
}

#[test]
fn each_message_of_a_queue_goes_to_one() {
    explore("2 share 2 messages", (Some(1), Some(2)), || {
        let (channel, sender) = Channel::new(ChannelOptions::new().policy(Policy::Queue).slots(2).receivers(2));
        let [mut mine, mut other] = [channel.receiver(), channel.receiver()];
        send(&channel, &sender, 1..=2, LARGE);
        drop(sender);
        let other = thread::spawn({
            let channel = channel.clone();
            move || receive_all(&channel, &mut other)
        });
        let mut received = receive_all(&channel, &mut mine);
        received.extend(join([other]).concat());
        received.sort_unstable();
        assert_eq!(received, [1, 2]);
    });
}

/// Whoever waits for what has become of a message is told, and sees all that its receiver did before.
fn a_ticket(end: fn(Message), expected: Outcome) {
    explore("1 sends a message and waits for what becomes of it", (Some(2), Some(3)), move || {
        let (channel, sender) = Channel::new(ChannelOptions::new());
        let (mut receiver, work) = (channel.receiver(), Rc::new(UnsafeCell::new(())));
        let ticket = channel.loan(&sender, 1, SMALL).send().expect("there is room");
        let receiver = thread::spawn({
            let work = Rc::clone(&work);
            move || {
                let message = receiver.recv().expect("a message");
                work.with_mut(|_| ());
                end(message);
                // Not closed before the end of the model.
                receiver
            }
        });
        if expected == Outcome::Processed {
            ticket.wait_processed(None).expect("it was processed");
        } else {
            let handled = ticket.wait(None).expect("all have answered");
            assert_eq!(handled.iter().map(|it| it.outcome).collect::<Vec<_>>(), [expected]);
        }
        work.with_mut(|_| ());
        join([receiver]);
    });
}

#[test]
fn a_ticket_says_what_was_done() {
    a_ticket(drop, Outcome::Processed);
    a_ticket(Message::give_back, Outcome::GaveBack);
}

/// Whoever closes has not died, whatever it had received.
#[test]
fn who_closes_has_not_died() {
    explore("1 sends a message, 1 closes", (Some(2), Some(3)), || {
        let (channel, sender) = Channel::new(ChannelOptions::new());
        let receiver = channel.receiver();
        let closing = thread::spawn(move || drop(receiver));
        let ticket = channel.loan(&sender, 1, SMALL).send().expect("there is room");
        let handled = ticket.wait(None).expect("all have answered");
        assert!(handled.iter().all(|it| it.outcome == Outcome::Skipped), "{handled:?}");
        join([closing]);
    });
}

/// A sender leaves or dies behind its message, and another one takes its lane: the message is there.
#[test]
fn a_successor_hides_nothing() {
    explore_deaths("who sends a message dies, 1 takes its lane, 1 receives", (Some(1), Some(2)), |steps| {
        let (channel, sender) = Channel::new(ChannelOptions::new());
        let mut receiver = channel.receiver();
        let victim = thread::spawn({
            let channel = channel.clone();
            move || sys::mortal(steps, move || send(&channel, &sender, [1], SMALL)).is_some()
        });
        let successor = thread::spawn({
            let channel = channel.clone();
            move || drop(Sender::<[u8]>::open(&channel.name))
        });
        let message = receiver.recv().map(|message| (message.sequence(), message.missed()));
        let lives = join([victim])[0];
        join([successor]);
        match message {
            Ok(message) => assert_eq!(message, (1, 0), "nothing may be lost"),
            Err(_) => assert!(!lives && memory_of(&channel.name).last(0) == 0),
        }
    });
}

/// Who takes a message dies at any step: the other one gets it then, if it was not processed, and the end comes for him.
#[test]
fn a_death_of_one_who_takes() {
    explore_deaths("2 share 1 message, 1 dies", (Some(1), Some(2)), |steps| {
        let (channel, sender) = Channel::new(ChannelOptions::new().policy(Policy::Queue).receivers(2));
        let [mut mine, mut victim] = [channel.receiver(), channel.receiver()];
        let ticket = channel.loan(&sender, 1, SMALL).send().expect("there is room");
        drop(sender);
        let victim = thread::spawn({
            let channel = channel.clone();
            move || sys::mortal(steps, move || receive_all(&channel, &mut victim))
        });
        let received = receive_all(&channel, &mut mine);
        assert!(ticket.is_processed());
        match join([victim]).remove(0) {
            Some(theirs) => assert_eq!([received, theirs].concat(), [1]),
            None => assert!(received.len() <= 1),
        }
    });
}

/// A receiver dies at any step: its sender goes on, or is told.
#[test]
fn a_death_of_one_who_receives() {
    explore_deaths("1 sends 2 messages through 1 place, who receives dies", (Some(1), Some(2)), |steps| {
        let (channel, sender) = Channel::new(ChannelOptions::new());
        let mut victim = channel.receiver();
        channel.loan(&sender, 1, LARGE).send().expect("there is room");
        let victim = thread::spawn({
            let channel = channel.clone();
            move || sys::mortal(steps, move || receive_all(&channel, &mut victim))
        });
        let sent = channel.loan(&sender, 2, LARGE).send();
        let told = sent.is_err_and(|unsent| matches!(unsent.error(), SendError::NoReceiver { .. }));
        drop(sender);
        let received = join([victim]).remove(0);
        assert!(received.is_none_or(|received| received == [1, 2] && !told));
    });
}

/// A sender dies at any step: what it sent is received whole, and its successor goes on behind it.
#[test]
fn a_death_of_one_who_sends() {
    explore_deaths("who sends 2 messages through 1 place dies, 1 receives", (Some(1), Some(2)), |steps| {
        let (channel, sender) = Channel::new(ChannelOptions::new());
        let mut receiver = channel.receiver();
        channel.loan(&sender, 1, LARGE).send().expect("there is room");
        let victim = thread::spawn({
            let channel = channel.clone();
            move || sys::mortal(steps, move || send(&channel, &sender, [2], LARGE)).is_some()
        });
        let received = receive_all_in_time(&channel, &mut receiver, prim::end_slices);
        let lives = join([victim])[0];
        assert!(received == [1, 2] || received == [1] && !lives);
        let next = received.len() as u8 + 1;
        send(&channel, &Sender::open(&channel.name).expect("its lane"), [next], LARGE);
        assert_eq!(receive_all(&channel, &mut receiver), [next]);
    });
}

/// One comes while another one processes: what is sent from then on it gets, all of it.
#[test]
fn a_newcomer_gets_all_that_is_sent_from_then_on() {
    explore("1 sends 6 messages through 3 places, 1 comes", (Some(1), Some(2)), || {
        let (channel, sender) = Channel::new(ChannelOptions::new().slots(3).receivers(2));
        let mut old = channel.receiver();
        send(&channel, &sender, 1..=3, SMALL);
        let newcomer = thread::spawn({
            let channel = channel.clone();
            move || {
                let mut receiver = channel.receiver();
                let mut last = None;
                for message in receiver.iter().take(2).map_while(Result::ok) {
                    assert_eq!(message.missed(), 0, "nothing may be lost");
                    assert!(last.is_none_or(|last| last + 1 == message.sequence()), "nothing is passed over");
                    last = Some(message.sequence());
                }
            }
        });
        (1..=3).for_each(|_| drop(old.recv().expect("a message")));
        drop(old);
        for number in 4..=6 {
            channel.loan(&sender, number, SMALL).send().expect("there is room in the end");
        }
        drop(sender);
        join([newcomer]);
    });
}
