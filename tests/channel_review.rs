//! Channels: deaths at every step (over `src/sys/heap.rs`), takers that are killed, forks, damaged windows.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{
    ChannelOptions, Client, Outcome, Policy, Receiver, RecvError, SendError, Sender, Server, ServiceOptions,
};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn options(policy: Policy) -> ChannelOptions {
    ChannelOptions::new().max_message(1000).slots(2).policy(policy)
}

fn bytes(number: u64, len: usize) -> Vec<u8> {
    vec![number as u8; len]
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "fork" => fork(),
        "ask" => {
            let mut client = Client::<u64, u64>::open("srv").expect("it is there");
            for _ in 0..2 {
                client.call(client.loan(()).expect("small")).expect("there is room");
            }
            say("has asked");
            hear();
        }
        other => panic!("no role {other}"),
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "has no processes")]
fn a_server_does_not_wait_for_a_client_that_dies() {
    let dir = Dir::new();
    let options = ServiceOptions::new().slots(1).clients(2);
    let mut server = Server::<u64, u64>::create(dir.name("srv"), &options).expect("a fresh service");
    let _other = Client::<u64, u64>::open(dir.name("srv")).expect("it is there");
    let mut client = spawn(dir.path(), "ask", &[]);
    let first = server.recv().expect("a request");
    first.loan(()).expect("small").send().expect("there is room");
    drop(first);
    client.expect("has asked");
    let second = server.recv().expect("a request");
    let answer = second.loan(()).expect("it lives");
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| answer.send_timeout(PATIENCE));
        client.kill();
        let unsent = sent.join().expect("no panic").expect_err("nobody takes it");
        assert!(matches!(unsent.error(), SendError::NoReceiver { .. }), "{unsent}");
    });
}

#[test]
fn an_answer_waits_for_its_client_alone() {
    let dir = Dir::new();
    let mut server = Server::<u64, u64>::create(dir.name("srv"), &ServiceOptions::new()).expect("a fresh service");
    let [mut client, _other] = [0, 1].map(|_| Client::<u64, u64>::open(dir.name("srv")).expect("it is there"));
    let call = client.call(client.loan(()).expect("small")).expect("there is room");
    let ticket = server.recv().expect("a request").loan(()).expect("small").send().expect("there is room");
    drop(client.answer(call, Some(PATIENCE)).expect("an answer"));
    let handled = ticket.wait(Some(Duration::ZERO)).expect("it was let go");
    assert_eq!(handled.iter().map(|it| it.outcome).collect::<Vec<_>>(), [Outcome::Processed]);
}

/// Forks while it holds all that a channel has. The forked child tries to use it, and drops it.
fn fork() {
    let sender = Sender::<[u8]>::create("cam", &options(Policy::Lossless)).expect("a fresh channel");
    let mut receiver = Receiver::<[u8]>::open("cam").expect("it is there");
    drop(sender.loan(500).expect("a buffer")); // so that it knows of free ones
    sender.send_copy(&bytes(1, 500)).expect("there is room");
    let held = receiver.recv().expect("a message");
    let ticket = sender.send_copy(&bytes(2, 500)).expect("there is room");
    let loan = sender.loan(500).expect("a buffer");
    // SAFETY: this process has no other thread that matters, and the child ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        receiver.rewind();
        let forked = [
            sender.loan_zeroed(500).is_err_and(|error| matches!(error, SendError::Unusable(_))),
            sender.loan(5).expect("memory of its own").set_metadata(b"x").is_err(),
            sender.send_copy(&[5]).is_err(),
            receiver.recv().is_err() && receiver.try_recv().is_err() && receiver.wait(None).is_err(),
            receiver.latest().is_err_and(|error| matches!(error, RecvError::Unusable(_))),
            ticket.wait(None).is_err() && ticket.wait_processed(None).is_err(),
        ];
        drop((loan, held, ticket, receiver, sender));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(forked != [true; 6])) };
    }
    let mut status = -1;
    // SAFETY: the child is ours, and `status` outlives the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "what a forked child inherited cannot be used");
    assert_eq!(sender.receivers()[0].claims, 1, "what is held is held");
    assert!(ticket.wait(Some(Duration::ZERO)).is_err(), "nothing was passed over");
    drop((held, loan));
    assert_eq!(receiver.recv().expect("a message")[..], bytes(2, 500));
    assert_eq!((sender.senders().len(), sender.receivers().len()), (1, 1));
    say("done");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "knows of no forks")]
fn a_forked_child_takes_nothing_from_its_parent() {
    let dir = Dir::new();
    let mut parent = spawn(dir.path(), "fork", &[]);
    parent.expect("done");
    assert!(parent.finish().success());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "has no files")]
fn a_number_that_no_message_has_costs_nothing_but_what_it_overwrote() {
    for policy in [Policy::Lossless, Policy::Newest, Policy::Queue] {
        for garbage in [u64::MAX, u64::MAX - 1, 1 << 62, 1 << 61, 77] {
            let dir = Dir::new();
            let sender = Sender::<[u8]>::create(dir.name("cam"), &options(policy)).expect("a fresh channel");
            let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
            sender.send_copy(b"a message of 32 bytes to be found").expect("there is room");
            let path = dir.path().join("cam");
            let file = std::fs::read(&path).expect("the object");
            let found = file.windows(32).position(|bytes| bytes == b"a message of 32 bytes to be foun");
            // Five words are in front of it: docs/DESIGN.md draws it.
            let entry = found.expect("it lies in its entry") as u64 - 40;
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("the object");
            std::os::unix::fs::FileExt::write_all_at(&file, &garbage.to_ne_bytes(), entry).expect("written");
            for _ in 0..5 {
                let _ = receiver.try_recv().map(drop);
                let _ = receiver.latest().map(drop);
            }
            receiver.rewind();
            let _ = (receiver.receivers(), sender.senders(), receiver.wait(Some(Duration::ZERO)));
            if policy == Policy::Queue {
                continue; // nobody can have the message, so its place is not used again
            }
            for number in 0..4 {
                sender.loan(number).expect("small").send_timeout(PATIENCE).expect("there is room");
                let message = receiver.recv_timeout(PATIENCE).expect("a message");
                assert_eq!(message.size(), number, "{policy:?} {garbage}");
            }
            drop(sender);
            assert!(receiver.recv_timeout(PATIENCE).is_err_and(|error| matches!(error, RecvError::Closed { .. })));
        }
    }
}

/// Deaths at every step that changes what others see, each in a process that is a thread.
#[cfg(any(miri, memlane_heap))]
mod steps {
    use super::*;
    use memlane::heap::{die_at, kill_self, start_process};
    use std::sync::mpsc::channel;

    const POLICIES: [Policy; 3] = [Policy::Lossless, Policy::Newest, Policy::Queue];

    /// A process prepares, calls what it is given, and dies at its `step`-th step after that; `ready` happens before.
    /// Whether it survived.
    fn die(step: u64, victim: impl FnOnce(&dyn Fn()) + Send + 'static, ready: impl FnOnce()) -> bool {
        let (says, is_ready) = channel();
        let (begin, begins) = channel();
        let end = start_process(move || {
            victim(&|| {
                says.send(()).expect("the test listens");
                begins.recv().expect("the test goes on");
                die_at(step);
            });
        });
        is_ready.recv().expect("it prepared");
        ready();
        begin.send(()).expect("it waits");
        end.recv().expect("it died or ended, and did not panic")
    }

    /// What is received until the channel ends.
    fn rest(receiver: &mut Receiver) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(message) => {
                    assert!(message.iter().all(|byte| u64::from(*byte) == message.sequence()), "it is whole");
                    numbers.push(message.sequence());
                }
                Err(RecvError::Closed { .. } | RecvError::SenderDied { .. }) => return numbers,
                Err(error) => panic!("{numbers:?}: {error}"),
            }
        }
    }

    fn send(sender: &Sender, number: u64, len: usize) {
        let mut loan = sender.loan(len).expect("a buffer");
        loan.fill(number as u8);
        let ticket = loan.send_timeout(PATIENCE).expect("there is room");
        assert_eq!(ticket.sequence(), number);
    }

    #[test]
    fn a_sender_that_dies_while_it_sends_leaves_a_message_or_none_and_a_lane_that_goes_on() {
        for (policy, len) in POLICIES.into_iter().flat_map(|policy| [(policy, 8), (policy, 500)]) {
            for step in 1.. {
                let dir = Dir::new();
                let name = dir.name("cam");
                let first = Sender::<[u8]>::create(&name, &options(policy)).expect("a fresh channel");
                let mut receiver = Receiver::<[u8]>::open(&name).expect("it is there");
                drop(first);
                let theirs = name.clone();
                let victim = move |begin: &dyn Fn()| {
                    let sender = Sender::<[u8]>::open(&theirs).expect("there is a lane");
                    send(&sender, 1, len);
                    send(&sender, 2, len);
                    begin();
                    send(&sender, 3, len);
                };
                let mut seen = Vec::new();
                let survived = die(step, victim, || {
                    seen.extend((0..2).map(|_| receiver.recv_timeout(PATIENCE).expect("a message").sequence()));
                });
                seen.extend(rest(&mut receiver));
                let last = seen.len() as u64;
                assert!(
                    (2..=3).contains(&last) && seen == (1..=last).collect::<Vec<_>>(),
                    "{policy:?} {step}: {seen:?}"
                );
                let successor = Sender::<[u8]>::open(&name).expect("the dead one's lane");
                for number in last + 1..last + 6 {
                    send(&successor, number, len);
                    assert_eq!(receiver.recv_timeout(PATIENCE).expect("a message").sequence(), number);
                }
                if survived {
                    assert_eq!(last, 3);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_receiver_that_dies_holds_nobody_up() {
        for (policy, len) in POLICIES.into_iter().flat_map(|policy| [(policy, 8), (policy, 500)]) {
            for step in 1.. {
                let dir = Dir::new();
                let name = dir.name("cam");
                // What a dead taker had blocks the sender until a receiver looks, and here none does meanwhile.
                let slots = if policy == Policy::Queue { 16 } else { 2 };
                let sender = Sender::<[u8]>::create(&name, &options(policy).slots(slots)).expect("a fresh channel");
                let mut receiver = Receiver::<[u8]>::open(&name).expect("it is there");
                let theirs = name.clone();
                let victim = move |begin: &dyn Fn()| {
                    let mut receiver = Receiver::<[u8]>::open(&theirs).expect("there is a place");
                    begin();
                    drop(receiver.recv());
                    drop(receiver);
                };
                let mut ticket = None;
                let survived = die(step, victim, || {
                    ticket = Some(sender.send_copy(&bytes(1, len)).expect("there is room"));
                    send(&sender, 2, len);
                });
                let mut seen = Vec::new();
                for number in 3..9 {
                    if let Some(message) = receiver.try_recv().expect("nothing is wrong") {
                        assert_eq!(&message[..], bytes(message.sequence(), len));
                        assert!(message.deliveries() == 1 || !survived, "none is delivered twice but after a death");
                        seen.push(message.sequence());
                    }
                    send(&sender, number, len);
                }
                drop(sender);
                seen.extend(rest(&mut receiver));
                let handled = ticket.expect("it was sent").wait(PATIENCE.into()).expect("all have answered");
                if policy == Policy::Queue {
                    assert_eq!(handled[0].outcome, Outcome::Processed);
                }
                if policy == Policy::Queue {
                    seen.sort_unstable(); // what the dead one had comes when its death is seen
                }
                let first = if policy == Policy::Queue { seen[0] } else { 1 };
                assert!(first <= 2, "{policy:?} {step}: {seen:?}");
                let complete = (first..9).collect::<Vec<_>>();
                assert!(seen == complete || policy == Policy::Newest, "{policy:?} {step}: {seen:?}");
                if survived {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_a_dead_one_had_taken_is_not_waited_for_without_a_claim() {
        let dir = Dir::new();
        let name = dir.name("cam");
        let sender = Sender::<[u8]>::create(&name, &options(Policy::Queue).claims(1)).expect("a fresh channel");
        let mut receiver = Receiver::<[u8]>::open(&name).expect("it is there");
        send(&sender, 1, 500);
        let held = receiver.recv().expect("a message");
        let victim = move |begin: &dyn Fn()| {
            let mut receiver = Receiver::<[u8]>::open(&name).expect("there is a place");
            begin();
            let _message = receiver.recv();
            kill_self();
        };
        assert!(!die(0, victim, || send(&sender, 2, 500)));
        drop(sender);
        let error = receiver.recv_timeout(PATIENCE).expect_err("no claim is left");
        assert!(matches!(error, RecvError::ClaimsInUse { limit: 1, .. }), "{error}");
        drop(held);
        let again = receiver.recv().expect("it can be held now");
        assert_eq!((again.sequence(), again.deliveries()), (2, 2));
    }
}

#[test]
fn who_takes_a_place_keeps_what_its_predecessor_has_processed() {
    let dir = Dir::new();
    let options = options(Policy::Lossless).receivers(2);
    let sender = Sender::<[u8]>::create(dir.name("cam"), &options).expect("a fresh channel");
    let open = || Receiver::<[u8]>::open(dir.name("cam")).expect("a place");
    let (mut first, mut second) = (open(), open());
    let tickets: Vec<_> = (1..3).map(|number| sender.send_copy(&bytes(number, 9)).expect("there is room")).collect();
    for _ in &tickets {
        first.recv_timeout(PATIENCE).expect("a message").give_back();
        drop(second.recv_timeout(PATIENCE).expect("a message"));
    }
    drop((second, first));
    let nothing_is_left = |mut receiver: Receiver| {
        assert!(receiver.try_recv().expect("nothing is wrong").is_none(), "all was processed");
        assert!(tickets.iter().all(memlane::Ticket::is_processed));
        receiver
    };
    drop(nothing_is_left(open()));
    let both = (nothing_is_left(open()), nothing_is_left(open()));
    drop(both);
    drop(nothing_is_left(open()));
}
