//! Requests and answers between clients and one server, of which any may die.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn};
use memlane::{
    Call, ChannelOptions, Client, Error, Observer, Policy, Receiver, RecvError, SendError, Sender, Server,
    ServiceOptions,
};
use std::time::Duration;

const NOW: Option<Duration> = Some(Duration::ZERO);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

type Bytes = [u8];

fn options() -> ServiceOptions {
    ServiceOptions::new().max_request(1000).max_answer(5000).clients(2).slots(4)
}

fn server(dir: &Dir) -> Server<Bytes, Bytes> {
    Server::create(dir.name("srv"), &options()).expect("a fresh service")
}

fn client(dir: &Dir) -> Client<Bytes, Bytes> {
    Client::open(dir.name("srv")).expect("it is there")
}

fn ask(client: &mut Client<Bytes, Bytes>, bytes: &[u8]) -> Call {
    let mut request = client.loan(bytes.len()).expect("a buffer");
    request.copy_from_slice(bytes);
    client.call(request).expect("there is room")
}

/// Answers the next request with its bytes, five times over.
fn serve(server: &mut Server<Bytes, Bytes>) {
    let request = server.recv_timeout(Duration::from_secs(10)).expect("a request");
    let mut answer = request.loan(request.len() * 5).expect("a buffer");
    answer.copy_from_slice(&request.repeat(5));
    answer.try_send().expect("there is room");
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "serve" => {
            let mut server = Server::<Bytes, Bytes>::open_or_create("srv", &options()).expect("there is room for one");
            say("here");
            hear();
            let _request = server.recv().expect("a request");
            say("has a request");
            hear();
        }
        "answer" => {
            let mut server = Server::<Bytes, Bytes>::open("srv").expect("there is none");
            let request = server.recv().expect("a request");
            let answer = request.loan(100).expect("a buffer");
            answer.send().expect("there is room");
            say("has answered");
            hear();
        }
        "answer the last first" => {
            let mut server = Server::<Bytes, Bytes>::open("srv").expect("there is none");
            let mut requests: Vec<_> = (0..4).map(|_| server.recv().expect("a request")).collect();
            let answer = |request: &memlane::Request<Bytes, Bytes>| {
                request.loan(1).expect("small").send().expect("there is room");
            };
            answer(&requests[3]);
            requests.drain(..3).for_each(|request| answer(&request));
            say("has answered");
            (0..3).for_each(|_| answer(&server.recv().expect("a request")));
            say("has answered");
            hear();
        }
        "answer the second" => {
            let mut server = Server::<Bytes, Bytes>::open("srv").expect("there is none");
            let _first = server.recv().expect("a request");
            serve(&mut server);
            say("has answered");
            hear();
        }
        "ask" => {
            let mut client = Client::<Bytes, Bytes>::open("srv").expect("it is there");
            ask(&mut client, &[7; 200]);
            say("has asked");
            hear();
        }
        "ask four" => {
            let mut client = Client::<Bytes, Bytes>::open("srv").expect("it is there");
            (0..4).for_each(|number| _ = ask(&mut client, &[number]));
            say("has asked");
            hear();
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn answers_of_any_length_come_back_to_who_asked() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let (mut a, mut b) = (client(&dir), client(&dir));
    for len in [0, 1, 20, 100, 1000] {
        let of_a = ask(&mut a, &vec![1; len]);
        let of_b = ask(&mut b, &vec![2; len]);
        serve(&mut server);
        serve(&mut server);
        assert_eq!(a.answer(of_a, PATIENCE).expect("an answer")[..], vec![1; 5 * len]);
        assert_eq!(b.answer(of_b, PATIENCE).expect("an answer")[..], vec![2; 5 * len]);
    }
    let error = Client::<Bytes, Bytes>::open(dir.name("srv")).map(drop).expect_err("two are all");
    assert!(matches!(&error, Error::NoRoom { of: "clients", limit: 2, who, .. } if who.len() == 2), "{error}");
    let error = Server::<Bytes, Bytes>::open(dir.name("srv")).map(drop).expect_err("there is one");
    assert!(matches!(error, Error::NoRoom { of: "servers", limit: 1, .. }), "{error}");
    assert!(matches!(a.loan(1001), Err(SendError::TooLarge { max: 1000, .. })));
}

#[test]
fn several_requests_are_answered_in_any_order() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut client = client(&dir);
    let calls: Vec<Call> = (0..3).map(|number| ask(&mut client, &[number])).collect();
    let requests: Vec<_> = (0..3).map(|_| server.recv().expect("a request")).collect();
    assert!(server.try_recv().expect("nothing is wrong").is_none());
    for request in requests.iter().rev() {
        let mut answer = request.loan(1).expect("small");
        answer[0] = request[0] + 10;
        answer.send().expect("there is room");
    }
    drop(requests);
    assert_eq!(client.answer(calls[1], PATIENCE).expect("an answer")[..], [11], "the other one came before it");
    let (call, answer) = client.any_answer(PATIENCE).expect("an answer");
    assert_eq!((call, &answer[..]), (calls[2], &[12][..]));
    assert_eq!(client.answer(calls[0], PATIENCE).expect("an answer")[..], [10]);
    let error = client.any_answer(NOW).expect_err("all were answered");
    assert!(matches!(&error, RecvError::TimedOut { senders, .. } if senders.len() == 1), "{error}");
}

#[test]
fn a_request_is_answered_from_another_thread() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut client = client(&dir);
    let call = ask(&mut client, b"x");
    let request = server.recv().expect("a request");
    let answered = std::thread::spawn(move || {
        let answer = request.loan(2)?;
        answer.send().map_err(SendError::from)
    });
    answered.join().expect("no panic").expect("there is room");
    assert_eq!(client.answer(call, PATIENCE).expect("an answer").len(), 2);
}

#[test]
fn a_slow_client_is_an_error_for_who_does_not_want_to_wait() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut client = client(&dir);
    for round in 0..5 {
        let call = ask(&mut client, &[round; 100]);
        let request = server.recv().expect("a request");
        let answer = request.loan(100).expect("a buffer");
        match answer.try_send() {
            Ok(_) => assert!(round < 4),
            Err(unsent) => {
                assert_eq!(round, 4, "so many answers wait");
                let SendError::Full { slowest: Some(who), .. } = unsent.error() else { panic!("{unsent}") };
                assert_eq!(who.pid, std::process::id());
                drop(client.any_answer(PATIENCE).expect("an answer"));
                unsent.into_loan().try_send().expect("there is room now");
                let error = client.answer(call, PATIENCE).expect_err("two are held already");
                assert!(matches!(error, RecvError::ClaimsInUse { limit: 2, .. }), "{error}");
            }
        }
    }
}

#[test]
fn a_service_is_no_channel_and_its_types_must_be_the_same() {
    let dir = Dir::new();
    let _server = server(&dir);
    for error in [
        Receiver::<Bytes>::open(dir.name("srv")).map(drop).expect_err("a service"),
        Sender::<Bytes>::open(dir.name("srv")).map(drop).expect_err("a service"),
        Client::<Bytes, u64>::open(dir.name("srv")).map(drop).expect_err("another answer"),
        Client::<u64, Bytes>::open(dir.name("srv")).map(drop).expect_err("another request"),
    ] {
        assert!(matches!(error, Error::TypeMismatch { .. }), "{error}");
    }
    let options = ChannelOptions::new().policy(Policy::Service);
    assert!(matches!(Sender::<Bytes>::create(dir.name("x"), &options), Err(Error::BadOptions { .. })));
    let none = ServiceOptions::new().clients(0);
    assert!(matches!(Server::<Bytes, Bytes>::create(dir.name("x"), &none), Err(Error::BadOptions { .. })));
    let info = Observer::open(dir.name("srv")).expect("it is there").look().expect("it can be read");
    assert_eq!((info.policy, info.sent.len(), info.receivers.len()), (Policy::Service, 4, 1));
}

fn served(dir: &Dir) -> Child {
    let mut child = spawn(dir.path(), "serve", &[]);
    child.expect("here");
    child
}

#[test]
fn a_dead_server_is_told_and_its_successor_answers() {
    let dir = Dir::new();
    let mut child = served(&dir);
    let mut client = client(&dir);
    child.say("serve");
    let call = ask(&mut client, &[3; 200]);
    child.expect("has a request");
    child.kill();
    let error = client.answer(call, PATIENCE).expect_err("it is dead");
    assert!(matches!(&error, RecvError::SenderDied { sender: Some(who), .. } if who.pid == child.pid()), "{error}");
    let mut next = Server::<Bytes, Bytes>::open(dir.name("srv")).expect("there is none");
    client.wait_for_server(PATIENCE).expect("there is one");
    serve(&mut next);
    assert_eq!(client.answer(call, PATIENCE).expect("an answer")[..], [3; 1000], "the request was kept");
    drop(next);
    assert!(matches!(client.any_answer(PATIENCE), Err(RecvError::Closed { .. })));
}

#[test]
fn a_successor_does_not_get_what_was_answered() {
    let dir = Dir::new();
    let mut servant = server(&dir);
    let mut client = client(&dir);
    for round in 0..3 {
        drop(servant);
        let call = ask(&mut client, &[round; 20]);
        let mut child = spawn(dir.path(), "answer", &[]);
        child.expect("has answered");
        child.kill(); // before it has let go of the request
        servant = Server::open(dir.name("srv")).expect("there is none");
        assert!(servant.try_recv().expect("nothing is wrong").is_none(), "round {round}: it was answered");
        assert_eq!(client.answer(call, PATIENCE).expect("an answer").len(), 100);
    }
}

#[test]
fn a_client_takes_the_first_answer_to_a_request() {
    let dir = Dir::new();
    let first = server(&dir);
    let mut client = client(&dir);
    let mut calls = [0, 1, 2, 3].map(|number| ask(&mut client, &[number])).to_vec();
    drop(first);
    let mut child = spawn(dir.path(), "answer the last first", &[]);
    child.expect("has answered");
    let mut answered: Vec<Call> = (0..4).map(|_| client.any_answer(PATIENCE).expect("an answer").0).collect();
    calls.extend([4, 5, 6].map(|number| ask(&mut client, &[number])));
    child.expect("has answered");
    answered.extend((0..3).map(|_| client.any_answer(PATIENCE).expect("an answer").0));
    child.kill(); // before it has let go of the first that it answered, whose answer was overwritten
    let mut next = Server::<Bytes, Bytes>::open(dir.name("srv")).expect("there is none");
    serve(&mut next);
    let again = client.any_answer(NOW).expect_err("all were answered");
    assert!(matches!(again, RecvError::TimedOut { .. }), "{again}");
    answered.sort_unstable();
    assert_eq!(answered, calls);
}

#[test]
fn a_successor_does_not_get_what_was_dealt_with_out_of_order() {
    let dir = Dir::new();
    let first = server(&dir);
    let mut client = client(&dir);
    let calls = [1, 2].map(|number| ask(&mut client, &[number]));
    drop(first);
    let mut child = spawn(dir.path(), "answer the second", &[]);
    child.expect("has answered");
    child.kill();
    let mut next = Server::<Bytes, Bytes>::open(dir.name("srv")).expect("there is none");
    assert_eq!(next.recv().expect("a request")[..], [1]);
    assert!(next.try_recv().expect("nothing is wrong").is_none(), "the second was dealt with");
    assert_eq!(client.answer(calls[1], PATIENCE).expect("an answer")[..], [2; 5]);
}

#[test]
fn an_answer_does_not_wait_for_a_client_that_has_gone() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut client = client(&dir);
    for number in 0..4 {
        ask(&mut client, &[number; 100]);
        serve(&mut server);
    }
    ask(&mut client, &[4; 100]);
    let request = server.recv().expect("a request");
    let answer = request.loan(100).expect("its client lives");
    drop(client);
    let unsent = answer.send_timeout(Duration::from_secs(10)).expect_err("nobody takes answers there");
    assert!(matches!(unsent.error(), SendError::NoReceiver { .. }), "{unsent}");
}

#[test]
fn a_dead_client_is_told_and_its_successor_gets_its_own_answers_only() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut child = spawn(dir.path(), "ask", &[]);
    child.expect("has asked");
    let (first, second) = (server.recv().expect("a request"), server.try_recv().expect("nothing is wrong"));
    assert!(second.is_none());
    let mut answer = first.loan(500).expect("it lives");
    answer.fill(1);
    answer.send().expect("there is room");
    child.kill();
    let error = first.loan(500).map(drop).expect_err("it is dead");
    assert!(matches!(&error, SendError::NoReceiver { last: Some(who), .. } if who.pid == child.pid()), "{error}");

    let (mut a, mut b) = (client(&dir), client(&dir));
    let late = first.loan(500).expect("somebody has its place");
    late.send().expect("there is room");
    drop(first);
    for client in [&mut a, &mut b] {
        assert!(matches!(client.any_answer(NOW), Err(RecvError::TimedOut { .. })), "that was not for it");
        let call = ask(client, &[5; 10]);
        serve(&mut server);
        assert_eq!(client.answer(call, PATIENCE).expect("an answer")[..], [5; 50]);
    }
}

#[test]
fn what_a_dead_client_did_not_take_is_not_in_its_successors_way() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut child = spawn(dir.path(), "ask four", &[]);
    child.expect("has asked");
    (0..4).for_each(|_| serve(&mut server));
    child.kill();
    let mut client = client(&dir);
    let call = ask(&mut client, &[9]);
    serve(&mut server); // without waiting
    assert_eq!(client.answer(call, PATIENCE).expect("an answer")[..], [9; 5]);
}

#[test]
fn a_waiting_server_outlives_its_clients() {
    let dir = Dir::new();
    let mut server = server(&dir);
    assert!(matches!(server.recv_timeout(Duration::from_millis(30)), Err(RecvError::TimedOut { .. })));
    for round in 0..5 {
        let mut child = spawn(dir.path(), "ask", &[]);
        child.expect("has asked");
        if round % 2 == 0 {
            child.kill();
        } else {
            assert!(child.finish().success());
        }
        assert_eq!(server.recv().expect("a request")[..], [7; 200], "what a client asked before it ended");
    }
    assert!(server.try_recv().expect("nothing is wrong").is_none());
}

#[test]
fn an_answer_that_nobody_wants_any_more_is_not_kept() {
    let dir = Dir::new();
    let mut server = server(&dir);
    let mut client = client(&dir);
    // More than it can hold at a time, forgotten before they are answered and after that.
    for round in 0..20 {
        let [early, late] = [100, 101].map(|len| ask(&mut client, &vec![round; len]));
        client.forget(early);
        (0..2).for_each(|_| serve(&mut server));
        let call = ask(&mut client, &[round]);
        serve(&mut server);
        assert_eq!(client.answer(call, PATIENCE).expect("an answer")[..], [round; 5]);
        client.forget(late);
    }
}
