//! ipc-channel, of the Servo browser: bytes through sockets, and shared memory of its own for each message.

use super::rendezvous::{hear, meet, tell};
use super::rounds::{Arrived, Link, Rounds};
use crate::transport::{Case, How, Laps, Role, SMALL, Setup, Side, Transport, Workload};
use ::ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory, bytes_channel, channel,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// Nothing but the buffer of a socket, some 200 messages, limits how much shared memory is under way.
const LARGEST_SHARED_STREAM: usize = 1 << 20;

pub(crate) fn transports() -> Vec<Transport> {
    vec![
        Transport {
            name: "ipc-channel bytes",
            about: "the ipc-channel crate: bytes copied through a socket into a new vector",
            missing: || None,
            offers: |case| offers(case, usize::MAX),
            how: How::Side(open::<Bytes>),
        },
        Transport {
            name: "ipc-channel shared",
            about: "the ipc-channel crate: new shared memory, which it always fills, for each message",
            missing: || None,
            offers: |case| offers(case, LARGEST_SHARED_STREAM),
            how: How::Side(open::<Shared>),
        },
    ]
}

fn offers(case: Case, largest_stream: usize) -> bool {
    match case.workload {
        Workload::RoundTrip => true,
        Workload::OneWay => !case.asleep && case.len <= largest_stream,
        Workload::Create | Workload::Idle => !case.asleep,
        _ => false,
    }
}

/// One of the kinds of channel that the crate has.
trait Kind: 'static {
    type Sender: Serialize + DeserializeOwned;
    type Receiver: Serialize + DeserializeOwned;

    fn channel() -> io::Result<(Self::Sender, Self::Receiver)>;
    fn send(sender: &Self::Sender, case: Case, private: &mut Vec<u8>, round: u64);
    fn receive(receiver: &Self::Receiver, case: Case) -> Arrived;
}

struct Bytes;

impl Kind for Bytes {
    type Sender = IpcBytesSender;
    type Receiver = IpcBytesReceiver;

    fn channel() -> io::Result<(IpcBytesSender, IpcBytesReceiver)> {
        bytes_channel()
    }

    fn send(sender: &IpcBytesSender, case: Case, private: &mut Vec<u8>, round: u64) {
        private.resize(case.len, 1);
        case.write(round, private);
        sender.send(private).expect("the other side receives until it is told to close");
    }

    fn receive(receiver: &IpcBytesReceiver, case: Case) -> Arrived {
        Arrived::read(&receiver.recv().expect("the other side sends until it is told to close"), case)
    }
}

struct Shared;

impl Kind for Shared {
    type Sender = IpcSender<IpcSharedMemory>;
    type Receiver = IpcReceiver<IpcSharedMemory>;

    fn channel() -> io::Result<(Self::Sender, Self::Receiver)> {
        channel()
    }

    fn send(sender: &Self::Sender, case: Case, _private: &mut Vec<u8>, round: u64) {
        let message = IpcSharedMemory::from_byte(round as u8, case.len);
        sender.send(message).expect("the other side receives until it is told to close");
    }

    fn receive(receiver: &Self::Receiver, case: Case) -> Arrived {
        Arrived::read(&receiver.recv().expect("the other side sends until it is told to close"), case)
    }
}

/// Both directions, each for messages and for answers.
type Ends<K> = (<K as Kind>::Sender, <K as Kind>::Receiver, IpcBytesSender, IpcBytesReceiver);

struct Channels<K: Kind> {
    case: Case,
    ends: Ends<K>,
    /// What messages are copied from.
    private: Vec<u8>,
}

fn open<K: Kind>(setup: &Setup) -> Box<dyn Side> {
    if setup.case.workload == Workload::Create {
        meet(setup, "open");
        return Box::new(Create { role: setup.role, channel: K::channel });
    }
    let ends = match setup.role {
        Role::Ask => {
            let (server, name) =
                IpcOneShotServer::<Ends<K>>::new().expect("a socket in the directory for temporary files");
            tell(setup, "server", &name);
            server.accept().expect("the ends that the other side sends").1
        }
        Role::Answer => connect::<K>(&hear(setup, "server")).expect("sockets, and the other side to accept them"),
    };
    Box::new(Rounds::new(setup, Channels::<K> { case: setup.case, ends, private: Vec::new() }))
}

/// Makes the channels and sends the other side its ends.
fn connect<K: Kind>(server: &str) -> Result<Ends<K>, Box<dyn std::error::Error>> {
    let ((sender, their_receiver), (their_sender, receiver)) = (K::channel()?, K::channel()?);
    let ((answers, their_answered), (their_answers, answered)) = (bytes_channel()?, bytes_channel()?);
    IpcSender::<Ends<K>>::connect(server.to_owned())?.send((
        their_sender,
        their_receiver,
        their_answers,
        their_answered,
    ))?;
    Ok((sender, receiver, answers, answered))
}

impl<K: Kind> Link for Channels<K> {
    fn send(&mut self, _channel: usize, round: u64) {
        K::send(&self.ends.0, self.case, &mut self.private, round);
    }

    fn receive(&mut self, _channel: usize) -> Arrived {
        K::receive(&self.ends.1, self.case)
    }

    fn answer(&mut self) {
        self.ends.2.send(&[1; SMALL]).expect("the other side receives until it is told to close");
    }

    fn await_answer(&mut self) {
        self.ends.3.recv().expect("the other side sends until it is told to close");
    }
}

struct Create<C> {
    role: Role,
    channel: fn() -> io::Result<C>,
}

impl<C> Side for Create<C> {
    fn rounds(&mut self, rounds: u64, _think: &dyn Fn(), laps: &mut Laps) {
        if self.role == Role::Ask {
            (0..rounds).for_each(|_| drop(laps.part(|| (self.channel)().expect("a pair of sockets"))));
        }
    }
}
