//! The operations on a channel, as the victim does them.

use crate::channel_peers::{LABELLED, LARGE, SMALL, Sink, Source, assert_whole, content, label, options};
use crate::victim::{OBJECT, PATIENCE};
use memlane::{Loan, Message, Origin, Policy, Receiver, RecvError, SendError, Sender, TicketError};
use memlane_crash::operate;
use std::time::Duration;

/// A bound for what is in vain.
const SHORT: Option<Duration> = Some(Duration::from_millis(3));

/// What is done between the two stops; whatever is to live on lives until the second.
pub fn act(operation: &str) {
    match operation {
        "create" => drop(operate(|| create().expect("a channel"))),
        "take over" => {
            let sender = operate(|| create().expect("a channel"));
            assert_eq!(sender.origin(), Origin::TakenOver);
        }
        "open or create" => {
            drop(operate(|| Sender::<[u8]>::open_or_create(OBJECT, &options(Policy::Lossless)).expect("a channel")));
        }
        "open a sender" => drop(operate(|| Sender::<[u8]>::open(OBJECT).expect("a lane"))),
        "open a receiver" => drop(operate(|| Receiver::<[u8]>::open(OBJECT).expect("a place"))),
        "wait for the channel" => {
            drop(operate(|| Receiver::<[u8]>::wait_for(OBJECT, Some(PATIENCE)).expect("a place")));
        }
        _ if operation.starts_with("send") => act_as_sender(operation),
        _ => act_as_receiver(operation),
    }
}

fn create() -> Result<Sender, memlane::Error> {
    Sender::create(OBJECT, &options(Policy::Lossless))
}

pub fn source() -> Source {
    Source::of(Sender::open(OBJECT).expect("a lane"), &[])
}

/// With all that is kept still to be received.
pub fn sink() -> Sink {
    let mut receiver = Receiver::open(OBJECT).expect("a place");
    receiver.rewind();
    Sink::of(receiver, Policy::Newest)
}

fn act_as_sender(operation: &str) {
    let mut source = source();
    let operation = operation.strip_prefix("sender: ").unwrap_or(operation);
    match operation {
        "borrow" => {
            let mut loan = operate(|| {
                let mut loan = source.sender.loan(LARGE).expect("a buffer");
                loan.fill(1);
                loan.set_metadata(b"not sent").expect("it is short");
                loan.shrink(SMALL).expect("it is shorter");
                loan
            });
            loan.fill(2);
        }
        "borrow and drop" => operate(|| {
            drop(source.sender.loan_zeroed(LARGE).expect("a buffer"));
            drop(source.sender.loan_many(2, LARGE).expect("a buffer"));
        }),
        "send large" => send_one(&mut source, LARGE),
        "send small" => send_one(&mut source, SMALL),
        "send labelled" => send_one(&mut source, LABELLED),
        "send a third" | "send a third, blocked" => {
            source.send(LARGE);
            source.send(SMALL);
            send_one(&mut source, LARGE);
        }
        "send many" => {
            let mut loans = Vec::new();
            for (offset, len) in [SMALL, LARGE, SMALL].into_iter().enumerate() {
                source.sent += u64::from(offset > 0);
                loans.push(source.fill(len));
            }
            let ticket = operate(|| Loan::send_many(&mut loans)).expect("room, in the end").expect("some were sent");
            assert_eq!((ticket.sequence(), loans.len()), (3, 0));
        }
        "send in vain" => {
            source.send(LARGE);
            source.send(SMALL);
            let loan = source.fill(LARGE);
            let unsent = operate(|| {
                let unsent = loan.try_send().expect_err("nobody lets go");
                unsent.into_loan().send_timeout(SHORT.unwrap_or_default()).expect_err("nobody lets go")
            });
            assert!(matches!(unsent.error(), SendError::Full { slowest: Some(_), sequence: 1, .. }), "{unsent}");
        }
        "send to nobody" => {
            let loan = source.fill(LARGE);
            let unsent = operate(|| loan.send()).expect_err("all receivers have died");
            assert!(matches!(unsent.error(), SendError::NoReceiver { last: Some(_), .. }), "{unsent}");
        }
        "close" => {
            source.send(LARGE);
            operate(|| drop(source));
        }
        "close, with a loan" => {
            let loan = source.fill(LARGE);
            operate(|| {
                drop(source);
                loan.send().expect("there is room");
            });
        }
        "wait for an answer" | "wait until processed" => {
            let ticket = source.send(LARGE);
            let answers = operate(|| match operation {
                "wait for an answer" => ticket.wait(Some(PATIENCE)).expect("an answer").len(),
                _ => ticket.wait_processed(Some(PATIENCE)).map(|()| 1).expect("an answer"),
            });
            assert_eq!(answers, 1);
        }
        "wait in vain for an answer" => {
            let ticket = source.send(LARGE);
            let error = operate(|| ticket.wait(SHORT)).expect_err("nobody answers");
            assert!(matches!(error, TicketError::TimedOut { .. }), "{error}");
        }
        "wait for receivers" => operate(|| source.sender.wait_for_receivers(2, Some(PATIENCE))).expect("two"),
        "wait in vain for receivers" => {
            let error = operate(|| source.sender.wait_for_receivers(2, SHORT)).expect_err("there is one");
            assert!(matches!(error, SendError::TooFew { .. }), "{error}");
        }
        "look around" => {
            let (senders, receivers) = operate(|| (source.sender.senders(), source.sender.receivers()));
            assert_eq!((senders.len(), receivers.len()), (2, 1));
        }
        other => panic!("no operation {other}"),
    }
}

fn send_one(source: &mut Source, len: usize) {
    let (sender, sequence) = (&source.sender, source.sent + 1);
    let bytes = content(source.lane, sequence, len);
    let ticket = operate(|| {
        if len == SMALL {
            return sender.send_copy(&bytes).expect("there is room");
        }
        let mut loan = sender.loan(len).expect("nothing is lent");
        loan.copy_from_slice(&bytes);
        if len == LABELLED {
            label(&mut loan, sequence);
        }
        loan.send().expect("there is room, in the end")
    });
    assert_eq!(ticket.sequence(), sequence);
}

fn next(sink: &mut Sink) -> Message {
    let message = sink.receiver.recv_timeout(PATIENCE).expect("a message");
    sink.take(message)
}

fn act_as_receiver(operation: &str) {
    let mut sink = sink();
    match operation {
        "receive" => assert_whole(&operate(|| sink.receiver.recv()).expect("a message")),
        "receive what comes" => {
            sink.drain();
            let message = operate(|| sink.receiver.iter().next()).expect("it is not the end");
            assert_whole(&message.expect("a message"));
        }
        "receive in vain" => {
            sink.drain();
            let result = operate(|| sink.receiver.recv_timeout(SHORT.unwrap_or_default()));
            assert!(matches!(result, Err(RecvError::TimedOut { .. })));
        }
        "try to receive" => {
            let messages: Vec<_> = operate(|| (0..3).map(|_| sink.receiver.try_recv().expect("no error")).collect());
            assert!(messages[0].is_some() && messages[1].is_some() && messages[2].is_none());
            messages.into_iter().flatten().for_each(|message| drop(sink.take(message)));
        }
        "receive many" => {
            let messages = operate(|| sink.receiver.recv_many(5)).expect("messages");
            assert_eq!(messages.len(), 2);
            messages.into_iter().for_each(|message| drop(sink.take(message)));
        }
        "receive the latest" => {
            let latest = operate(|| sink.receiver.latest()).expect("no error").expect("a message");
            assert_whole(&latest);
            assert_eq!(latest.sequence(), 2);
        }
        "rewind" => {
            sink.drain();
            let message = operate(|| {
                sink.receiver.rewind();
                sink.receiver.recv_timeout(PATIENCE)
            });
            assert_eq!(message.expect("a message").sequence(), 1);
        }
        "wait for a message" => operate(|| sink.receiver.wait(Some(PATIENCE))).expect("a message"),
        "process" => {
            let message = next(&mut sink);
            operate(|| drop(message));
        }
        "mark as processed, drop" => {
            let mut message = next(&mut sink);
            operate(|| {
                message.mark_processed();
                drop(message);
            });
        }
        "give back" => {
            let message = next(&mut sink);
            operate(|| message.give_back());
        }
        "close" => {
            let message = next(&mut sink);
            operate(|| {
                drop(sink);
                drop(message);
            });
        }
        "wait for a sender" => operate(|| sink.receiver.wait_for_sender(Some(PATIENCE))).expect("a sender"),
        "wait in vain for a sender" => {
            let error = operate(|| sink.receiver.wait_for_sender(SHORT)).expect_err("nobody comes");
            assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
        }
        other => panic!("no operation {other}"),
    }
}
