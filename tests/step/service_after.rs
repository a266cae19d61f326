//! What must hold of a service after a death, whenever it came.

use crate::channel_after::{is_there, leaves_nothing};
use crate::common::Dir;
use crate::service_peers::{
    Asker, BUFFERS, Bytes, CLIENTS, LARGE, NEW, Ours, SMALL, Serve, VICTIM, everybody_is_named, options, reply,
};
use crate::victim::{OBJECT, PATIENCE};
use memlane::{Error, RecvError, Server};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What may be found.
#[derive(Debug, Clone)]
pub struct Expected {
    /// So many requests of the victim reach a server of this process.
    pub asked: RangeInclusive<usize>,
    /// So many requests of others reach the successor of a dead server.
    pub kept: RangeInclusive<usize>,
    /// So many calls of this process may stay without an answer.
    pub unanswered: usize,
    /// There may be no service at all.
    pub nothing: bool,
}

/// Newcomers find the service in good order: everybody who is named lives, all places can be had, every request that was
/// not dealt with is there, every answer is whole and goes to who asked, once, every buffer can be used. Then all leave, and
/// so does the service.
pub fn settle(mut ours: Ours, dir: &Dir, expected: &Expected) {
    let objects = memlane::list(Some(dir.path())).expect("a list");
    assert!(objects.iter().all(|object| object.problem.is_none()), "{objects:?}");
    let nobody = ours.serve.is_none() && ours.askers.is_empty();
    if nobody {
        match Server::open(dir.name(OBJECT)) {
            Ok(server) => ours.serve = Some(Serve::of(server)),
            Err(Error::NotFound { .. }) => assert!(expected.nothing && !is_there(dir), "the service is gone"),
            Err(error) => panic!("neither a service nor a clean end: {error}"),
        }
    }
    if ours.serve.is_some() || !ours.askers.is_empty() {
        put_to_use(&mut ours, nobody, dir, expected);
    }
    drop(ours);
    leaves_nothing(dir, || {
        drop(Server::<Bytes, Bytes>::create(dir.name(OBJECT), &options()).expect("the name can be used again"));
    });
}

fn put_to_use(ours: &mut Ours, nobody: bool, dir: &Dir, expected: &Expected) {
    let succeeds = nobody || ours.serve.is_none();
    if ours.serve.is_none() {
        ours.askers.iter_mut().for_each(|asker| drop(asker.wait_for_the_end()));
        ours.open_server(dir);
    }
    for who in NEW.. {
        if ours.askers.len() == CLIENTS {
            break;
        }
        ours.open_asker(dir, who);
    }
    ours.askers.iter().for_each(|asker| _ = asker.scribble());
    ours.drain();
    requests_are_there(ours, nobody, succeeds, expected);
    let unanswered: usize = ours.askers.iter().map(|asker| asker.open.len()).sum();
    assert!(unanswered <= expected.unanswered, "so many answers were lost: {unanswered}");
    ours.askers.iter_mut().for_each(|asker| asker.open.clear());
    everybody_is_named(ours, dir);
    what_is_held_stays(ours);
    everything_goes_round(ours);
    all_buffers_are_free(ours);
}

/// What was asked has reached a server, as often as it had to.
fn requests_are_there(ours: &Ours, nobody: bool, succeeds: bool, expected: &Expected) {
    let got = &ours.serve.as_ref().expect("a server").got;
    let of_victim: Vec<u8> = got.iter().filter(|got| got.0 == VICTIM).map(|got| got.1).collect();
    let (count, asked) = (of_victim.len(), &expected.asked);
    // With nobody else alive, the server has died as well, and had dealt with some.
    assert!(count <= *asked.end() && (nobody || count >= *asked.start()), "{of_victim:?} of {asked:?} were asked");
    assert!(succeeds || of_victim.iter().copied().eq(1..=count as u8), "a request was lost: {of_victim:?}");
    let (kept, others) = (&expected.kept, got.len() - count);
    assert!(!succeeds || kept.contains(&others), "{got:?} were kept, to be {kept:?}");
}

/// What the clients hold is none of what can be lent to answer them.
fn what_is_held_stays(ours: &mut Ours) {
    ours.askers.iter_mut().for_each(|asker| _ = asker.ask(SMALL));
    let serve = ours.serve.as_mut().expect("a server");
    let mut receive = || serve.receive(PATIENCE).expect("what was just asked").0;
    let requests = [(); CLIENTS].map(|()| receive());
    ours.askers.iter_mut().for_each(Asker::let_go);
    requests.iter().for_each(reply);
    drop(requests);
    ours.askers.iter_mut().for_each(|asker| asker.receive(PATIENCE).expect("an answer"));
    ours.askers.iter_mut().for_each(Asker::let_go);
}

/// Requests go from every client to the server, and answers back, more of them than there are slots.
fn everything_goes_round(ours: &mut Ours) {
    let serve = ours.serve.as_mut().expect("a server");
    for len in [SMALL, LARGE, LARGE, SMALL, SMALL] {
        let calls: Vec<_> = ours.askers.iter_mut().map(|asker| asker.ask(len)).collect();
        for _ in &calls {
            serve.serve(PATIENCE).expect("what was just asked");
        }
        assert!(matches!(serve.serve(Duration::ZERO), Err(RecvError::TimedOut { .. })), "received once too often");
        for (asker, call) in ours.askers.iter_mut().zip(calls) {
            let answer = asker.client.answer(call, Some(PATIENCE)).expect("what was just sent");
            drop(asker.take(call, answer));
            assert!(asker.receive(Duration::ZERO).is_err(), "answered once too often");
        }
    }
}

/// The windows hold small requests and answers only, so all buffers can be lent.
fn all_buffers_are_free(ours: &mut Ours) {
    for asker in &mut ours.askers {
        assert_eq!(asker.scribble(), BUFFERS, "buffers for requests are lost");
        asker.ask(SMALL);
        let (_, buffers) = ours.serve.as_mut().expect("a server").receive(PATIENCE).expect("a request");
        assert_eq!(buffers, BUFFERS, "buffers for answers are lost");
    }
}
