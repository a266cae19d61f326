//! Objects that are handed over: the victim sends or receives one over a socket that is its standard input.

use crate::aftermath::Expected::ObjectOrNothing;
use crate::aftermath::{next_user, works};
use crate::common::Dir;
use crate::scenarios::{Run, after, object, quietly};
use crate::victim::{OBJECT, PATIENCE, Shared, command, create};
use memlane::{Error, Name, Persistence, Segment};
use memlane_crash::{Files, operate};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

fn anonymous(persistence: Persistence) -> Segment<Shared> {
    create(Name::anonymous(OBJECT).expect("a label"), persistence).expect("a fresh object")
}

fn die(dir: &Dir, run: &mut Run, act: &str, socket: UnixStream) {
    let mut victim = command(dir, &format!("hand over {act}"), run.persistence);
    victim.stdin(OwnedFd::from(socket));
    let files = Files::In(dir.path().to_owned());
    run.run.victim(victim, &files, &mut quietly).unwrap_or_else(|problem| panic!("{problem}"));
}

/// What a victim that is dead has sent, if it came to that.
fn received(socket: &UnixStream) -> Option<Name> {
    match Name::receive_from(socket) {
        Ok(name) => Some(name),
        Err(Error::HandOver { kind: ErrorKind::UnexpectedEof, .. }) => None,
        Err(error) => panic!("neither an object nor the end: {error}"),
    }
}

/// It sends what we use too.
pub fn send(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    die(dir, run, "send", there);
    if let Some(name) = received(&here) {
        works(&Segment::open(name).expect("we use it"));
    }
    after(dir, run, &ours);
}

/// It sends what nobody else has, and what no directory has.
pub fn send_the_only_one(dir: &Dir, run: &mut Run) {
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    die(dir, run, "send the only one", there);
    match received(&here).map(Segment::open) {
        Some(Ok(shared)) => {
            assert_eq!(run.persistence, Persistence::Keep, "nobody uses it");
            works(&shared);
        }
        Some(Err(Error::NotFound { .. })) => assert_eq!(run.persistence, Persistence::UntilLastUser, "it is kept"),
        Some(Err(error)) => panic!("neither an object nor a clean end: {error}"),
        None => {}
    }
    next_user(dir, ObjectOrNothing, 0, run.number % 2 == 1);
}

/// It receives and opens what we use, with a name in the directory.
pub fn receive(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    hand_to_victim(dir, run, &ours);
    after(dir, run, &ours);
}

/// The same without.
pub fn receive_without_a_name(dir: &Dir, run: &mut Run) {
    let ours = anonymous(run.persistence);
    hand_to_victim(dir, run, &ours);
    works(&Segment::open(ours.region().name()).expect("we use it"));
    next_user(dir, ObjectOrNothing, 0, run.number % 2 == 1);
}

fn hand_to_victim(dir: &Dir, run: &mut Run, ours: &Segment<Shared>) {
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    ours.region().send_over(&here).expect("there is room");
    die(dir, run, "receive", there);
    works(ours);
}

/// What the victim does.
pub fn act(operation: &str, persistence: Persistence) {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().expect("a descriptor"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    match operation {
        "send" => {
            let shared = Segment::<Shared>::open(OBJECT).expect("the parent's object");
            operate(|| shared.region().send_over(&socket).expect("there is room"));
        }
        "send the only one" => drop(operate(|| {
            let shared = anonymous(persistence);
            shared.region().send_over(&socket).map(|()| shared).expect("there is room")
        })),
        "receive" => drop(operate(|| {
            let name = Name::receive_from(&socket).expect("the parent's object");
            Segment::<Shared>::open(name).expect("the parent uses it")
        })),
        other => panic!("no operation {other}"),
    }
}
