//! Two operations on one service, the first stopped at each of its points while the second runs.

use crate::common::{Dir, times};
use crate::meet::{Meeting, meet_at};
use crate::peek::{directory_is_locked, messages_are_awaited};
use crate::scenarios::{Run, in_time};
use crate::service_after::{Expected, settle};
use crate::service_peers::{Asker, Bytes, LARGE, Ours, SECOND, Serve, answer_to, reply};
use crate::service_victim::{asker, prepare, serve};
use crate::victim::{OBJECT, PATIENCE};
use memlane::{Client, Error, RecvError, SendError, Server};
use memlane_crash::operate;
use std::ops::RangeInclusive;

/// What came of an operation, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Done = 60,
    Closed = 61,
    NoReceiver = 62,
    NoRoom = 63,
}
use Came::{Closed, Done, NoReceiver, NoRoom};

/// What is there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// A server of ours.
    Served,
    /// A server of ours, and a client.
    Both,
    /// A client of ours, whose server has closed.
    Orphan,
    /// The same, and it has asked; and another client.
    Asked,
}
use World::{Asked, Both, Orphan, Served};

struct Pair {
    world: World,
    a: &'static str,
    b: &'static str,
    allowed: &'static [(Came, Came)],
    expected: Expected,
}

const fn pair(
    world: World,
    (a, b): (&'static str, &'static str),
    allowed: &'static [(Came, Came)],
    (asked, kept): (RangeInclusive<usize>, RangeInclusive<usize>),
) -> Pair {
    Pair { world, a, b, allowed, expected: Expected { asked, kept, unanswered: 0, nothing: false } }
}

fn pairs() -> Vec<Pair> {
    const BOTH: &[(Came, Came)] = &[(Done, Done)];
    let mut pairs = vec![
        pair(Served, ("ask", "serve"), BOTH, (1..=1, 0..=0)),
        pair(Orphan, ("receive", "ask"), BOTH, (0..=0, 1..=1)),
        pair(Asked, ("reply", "take the answer"), BOTH, (0..=0, 0..=0)),
        pair(Served, ("take the answer", "serve"), BOTH, (1..=1, 0..=0)),
        pair(Served, ("close the client", "serve"), BOTH, (1..=1, 0..=0)),
        // The window is full, and the client is not one that takes anything any more.
        pair(Served, ("close the client", "reply too often"), &[(Done, NoReceiver)], (1..=1, 0..=0)),
        pair(Asked, ("reply", "close the client"), &[(Done, Done), (NoReceiver, Done)], (0..=0, 0..=0)),
        pair(Orphan, ("close the server", "ask"), BOTH, (0..=0, 1..=1)),
        pair(Both, ("ask", "close the server"), BOTH, (1..=1, 0..=0)),
        pair(Both, ("take the answer", "close the server"), &[(Closed, Done)], (1..=1, 0..=0)),
        pair(Orphan, ("open a server", "open a server"), &[(Done, NoRoom), (NoRoom, Done)], (0..=0, 0..=0)),
        pair(Both, ("open a client", "open a client"), &[(Done, NoRoom), (NoRoom, Done)], (0..=0, 0..=0)),
        pair(Both, ("close a client", "open a client"), &[(Done, Done), (Done, NoRoom)], (0..=0, 0..=0)),
    ];
    // What takes long to come to is done with `MEMLANE_LONG=1`.
    pairs.retain(|pair| times(0, 1) == 1 || !pair.a.starts_with("open"));
    pairs
}

pub fn meetings() -> impl Iterator<Item = Meeting> {
    pairs().into_iter().map(|pair| {
        let Pair { world, a, b, .. } = pair;
        Meeting {
            first: format!("service, {a}, {world:?}").to_lowercase(),
            title: format!("service: {a} | {b} ({world:?})").to_lowercase(),
            before: times(1, 16),
            further: times(0, crate::MORE),
            run: Box::new(move |dir, run| run_pair(&pair, dir, run)),
        }
    })
}

fn run_pair(pair: &Pair, dir: &Dir, run: &mut Run) {
    let Pair { world, a, b, .. } = *pair;
    let mut ours = match world {
        Served => Ours::new(dir),
        Both | Orphan | Asked => Ours::with_client(dir),
    };
    if world == Asked {
        ours.askers[0].ask(LARGE);
        ours.open_asker(dir, SECOND);
    }
    if matches!(world, Orphan | Asked) {
        ours.serve = None;
    }
    let needed = || matches!(a, "receive" | "take the answer") && messages_are_awaited(dir);
    let waits = || match b {
        "serve" | "take the answer" | "reply too often" => true,
        "open a server" | "open a client" => directory_is_locked(dir),
        _ => false,
    };
    let other = || (act(&mut ours, dir, b), ours);
    let (code, (second, ours)) = meet_at(dir, run, &format!("service attempt {a}"), &needed, &waits, other, &mut || ());
    let first = [Done, Closed, NoReceiver, NoRoom].into_iter().find(|came| *came as i32 == code);
    let came = (first.unwrap_or_else(|| panic!("the victim failed: exit code {code}")), second);
    assert!(pair.allowed.contains(&came), "it came to {came:?}, which is none of {:?}", pair.allowed);
    settle(ours, dir, &pair.expected);
}

/// The second operation.
fn act(ours: &mut Ours, dir: &Dir, act: &str) -> Came {
    match act {
        "ask" => {
            ours.askers[0].ask(LARGE);
            Done
        }
        "serve" => {
            let serve = ours.serve.as_mut().expect("one");
            in_time(|limit| serve.serve(limit)).expect("a request");
            Done
        }
        "reply too often" => {
            let serve = ours.serve.as_mut().expect("one");
            let (request, _) = in_time(|limit| serve.receive(limit)).expect("a request");
            (0..2).for_each(|_| reply(&request));
            answered(request.loan(LARGE).and_then(|answer| Ok(answer.send_timeout(PATIENCE)?)).map(drop))
        }
        "take the answer" => {
            in_time(|limit| ours.askers[0].receive(limit)).expect("an answer");
            Done
        }
        "close the client" => {
            drop(ours.askers.remove(0));
            Done
        }
        "close the server" => {
            ours.serve = None;
            Done
        }
        "open a server" => came(Server::open(dir.name(OBJECT)).map(|server| {
            ours.serve = Some(Serve::of(server));
        })),
        "open a client" => came(Client::open(dir.name(OBJECT)).map(|client| {
            ours.askers.push(Asker::of(client, SECOND));
        })),
        other => panic!("no operation {other}"),
    }
}

fn answered(result: Result<(), SendError>) -> Came {
    match result {
        Ok(()) => Done,
        Err(SendError::NoReceiver { .. }) => NoReceiver,
        Err(error) => panic!("{error}"),
    }
}

fn came(result: Result<(), Error>) -> Came {
    match result {
        Ok(()) => Done,
        Err(Error::NoRoom { .. }) => NoRoom,
        Err(error) => panic!("{error}"),
    }
}

/// The first operation, as the victim does it.
pub fn attempt(act: &str) -> u8 {
    let came = match act {
        "open a server" => came(operate(|| Server::<Bytes, Bytes>::open(OBJECT)).map(drop)),
        "open a client" => came(operate(|| Client::<Bytes, Bytes>::open(OBJECT)).map(drop)),
        "receive" => {
            let mut serve = serve();
            let request = operate(|| serve.server.recv()).expect("a request");
            assert!(!answer_to(&request).is_empty(), "it is whole still");
            request.give_back();
            Done
        }
        "reply" => {
            let mut serve = serve();
            let (request, bytes) = prepare(&mut serve);
            answered(operate(|| {
                let mut answer = request.loan(bytes.len())?;
                answer.copy_from_slice(&bytes);
                answer.send()?;
                drop(request);
                Ok(())
            }))
        }
        "close the server" => {
            let serve = serve();
            operate(|| drop(serve));
            Done
        }
        _ => attempt_to_ask(act),
    };
    came as u8
}

fn attempt_to_ask(act: &str) -> Came {
    let mut asker = asker();
    match act {
        "ask" => {
            let request = asker.fill(LARGE);
            operate(|| asker.client.call(request)).expect("there is room");
            Done
        }
        "take the answer" => {
            let call = asker.ask(LARGE);
            match operate(|| asker.client.answer(call, Some(PATIENCE))) {
                Ok(answer) => {
                    drop(asker.take(call, answer));
                    Done
                }
                Err(RecvError::Closed { .. }) => Closed,
                Err(error) => panic!("{error}"),
            }
        }
        "close the client" => {
            asker.ask(LARGE);
            operate(|| drop(asker));
            Done
        }
        "close a client" => {
            operate(|| drop(asker));
            Done
        }
        other => panic!("no operation {other}"),
    }
}
