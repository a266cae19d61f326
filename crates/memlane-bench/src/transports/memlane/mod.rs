//! memlane, used through its public interface as somebody would who wants just that.

mod lifetime;
mod messages;
mod receivers;
mod request;
mod state;

use crate::transport::{Case, How, PATIENCE, SMALL, Setup, Transport, Workload};
use memlane::{ChannelOptions, Message, Name, Receiver, Sender};
use messages::{Messages, Style};
use std::hint::spin_loop;
use std::time::Duration;

const WAIT: Option<Duration> = Some(PATIENCE);

pub(crate) fn transports() -> Vec<Transport> {
    let transport =
        |name, about, offers, open| Transport { name, about, missing: || None, offers, how: How::Side(open) };
    vec![
        transport(
            "memlane spinning",
            "a channel; try_recv in a loop; filled and read in place",
            offers_spinning,
            |setup| match setup.case.workload {
                Workload::FanOut => receivers::fan_out(setup),
                _ => Messages::open(setup, Style::Spinning),
            },
        ),
        transport(
            ADAPTIVE,
            "a channel; recv spins for microseconds, then sleeps",
            offers_adaptive,
            |setup| match setup.case.workload {
                Workload::Channels => receivers::channels(setup),
                Workload::Create | Workload::Open | Workload::Close | Workload::Memory => lifetime::open(setup),
                _ => Messages::open(setup, Style::Adaptive),
            },
        ),
        transport("memlane sleeping", "the same when its receiver has fallen asleep", offers_sleeping, |setup| {
            match setup.case.workload {
                Workload::FanOutAsleep => receivers::fan_out_asleep(setup),
                _ => Messages::open(setup, Style::Adaptive),
            }
        }),
        transport("memlane copied", "a channel; copied into it and out of it", offers_messages, |setup| {
            Messages::open(setup, Style::Copied)
        }),
        transport("memlane batched", "a channel; loan_many, send_many, recv_many", offers_batches, |setup| {
            Messages::open(setup, Style::Batched)
        }),
        transport("memlane queue", "a queue, where one receiver gets each message", offers_messages, |setup| {
            Messages::open(setup, Style::Queue)
        }),
        transport("memlane request", "requests and answers: Client and Server", offers_round_trip, request::open),
        transport("memlane hand-off", "a segment with a Mutex and two Condvars", offers_round_trip, state::hand_off),
        transport("memlane event", "two Events in a segment, without a message", offers_event, state::events),
        transport("memlane mutex", "a Mutex in a segment", offers_locks, state::mutex),
    ]
}

/// What is used if nothing else is asked for.
const ADAPTIVE: &str = "memlane adaptive";

fn offers_spinning(case: Case) -> bool {
    offers_messages(case) || case.workload == Workload::FanOut
}

fn offers_adaptive(case: Case) -> bool {
    use Workload::{Channels, Close, Create, Idle, Memory, Open};
    offers_messages(case) || matches!(case.workload, Channels | Create | Open | Close | Idle | Memory)
}

fn offers_sleeping(case: Case) -> bool {
    case.asleep && matches!(case.workload, Workload::RoundTrip | Workload::FanOutAsleep)
}

fn offers_messages(case: Case) -> bool {
    !case.asleep && matches!(case.workload, Workload::RoundTrip | Workload::OneWay)
}

fn offers_batches(case: Case) -> bool {
    case.workload == Workload::OneWay && messages::batch(case.len) > 1
}

fn offers_round_trip(case: Case) -> bool {
    case.workload == Workload::RoundTrip
}

fn offers_event(case: Case) -> bool {
    case.workload == Workload::RoundTrip && !case.touched && case.len == SMALL
}

fn offers_locks(case: Case) -> bool {
    matches!(case.workload, Workload::Lock | Workload::LockContended)
}

fn name(setup: &Setup, text: &str) -> Name {
    Name::new(text).expect("letters only").in_directory(&setup.directory)
}

/// For messages that go to one receiver who is never more than one behind. Large ones that are written and read lie in no more
/// buffers than they need, so that what is in the caches is used again. Others have some room, so that a sender need not
/// look each time what was let go.
fn few(case: Case) -> ChannelOptions {
    let slots = if is_tight(case) { 1 } else { 8 };
    ChannelOptions::new().max_message(case.len as u64).receivers(1).slots(slots).claims(1).loans(1)
}

/// Whether there is room for one message alone.
fn is_tight(case: Case) -> bool {
    case.touched && case.len > 4 << 10
}

/// For answers to those messages.
fn answers(case: Case) -> ChannelOptions {
    few(Case { len: SMALL, ..case })
}

fn sender(setup: &Setup, text: &str, options: &ChannelOptions) -> Sender {
    Sender::create(name(setup, text), options).expect("a fresh channel")
}

fn receiver(setup: &Setup, text: &str) -> Receiver {
    Receiver::wait_for(name(setup, text), WAIT).expect("the other side's channel")
}

fn poll(receiver: &mut Receiver) -> Message {
    loop {
        if let Some(message) = receiver.try_recv().expect("a message, or none") {
            return message;
        }
        spin_loop();
    }
}
