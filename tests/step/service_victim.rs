//! The operations on a service, as the victim does them.

use crate::service_peers::{Asker, Bytes, LARGE, SMALL, Serve, VICTIM, answer_to, options, read};
use crate::victim::{OBJECT, PATIENCE};
use memlane::{Client, RecvError, Request, SendError, Server};
use memlane_crash::operate;
use std::time::Duration;

/// A bound for what is in vain.
const SHORT: Option<Duration> = Some(Duration::from_millis(3));

/// What is done between the two stops; whatever is to live on lives until the second.
pub fn act(operation: &str) {
    match operation {
        "create" => drop(operate(|| Server::<Bytes, Bytes>::create(OBJECT, &options()).expect("a service"))),
        "open or create" => {
            drop(operate(|| Server::<Bytes, Bytes>::open_or_create(OBJECT, &options()).expect("a service")));
        }
        "open a server" => drop(operate(|| Server::<Bytes, Bytes>::open(OBJECT).expect("there is none"))),
        "open a client" => drop(operate(|| Client::<Bytes, Bytes>::open(OBJECT).expect("a place"))),
        "wait for the service" => {
            drop(operate(|| Client::<Bytes, Bytes>::wait_for(OBJECT, Some(PATIENCE)).expect("a place")));
        }
        _ => match operation.strip_prefix("server: ") {
            Some(operation) => act_as_server(operation),
            None => act_as_client(operation),
        },
    }
}

pub fn serve() -> Serve {
    Serve::of(Server::open(OBJECT).expect("there is none"))
}

pub fn asker() -> Asker {
    Asker::of(Client::open(OBJECT).expect("a place"), VICTIM)
}

pub fn next(serve: &mut Serve) -> Request<Bytes, Bytes> {
    let request = serve.server.recv_timeout(PATIENCE).expect("a request");
    serve.take(request)
}

/// A request with the bytes of its answer.
type Prepared = (Request<Bytes, Bytes>, Vec<u8>);

pub fn prepare(serve: &mut Serve) -> Prepared {
    let request = next(serve);
    let bytes = answer_to(&request);
    (request, bytes)
}

/// It is answered, and dealt with.
pub fn reply((request, bytes): Prepared) {
    let mut answer = request.loan(bytes.len()).expect("a buffer");
    answer.copy_from_slice(&bytes);
    answer.send().expect("there is room, in the end");
}

fn act_as_server(operation: &str) {
    let mut serve = serve();
    match operation {
        "receive" | "receive what comes" => _ = read(&operate(|| serve.server.recv()).expect("a request")),
        "try to receive" => {
            let requests: Vec<_> = operate(|| (0..3).map(|_| serve.server.try_recv().expect("no error")).collect());
            assert!(requests[0].is_some() && requests[1].is_some() && requests[2].is_none());
            requests.iter().flatten().for_each(|request| _ = read(request));
        }
        "receive in vain" => {
            let result = operate(|| serve.server.recv_timeout(SHORT.unwrap_or_default()));
            assert!(matches!(result, Err(RecvError::TimedOut { .. })));
        }
        "reply" => {
            let request = prepare(&mut serve);
            operate(|| reply(request));
        }
        "reply out of order" => {
            let mut requests = [0; 3].map(|_| Some(prepare(&mut serve)));
            operate(|| requests.iter_mut().rev().filter_map(Option::take).for_each(reply));
        }
        "reply to the second" => {
            let (_first, second) = (next(&mut serve), prepare(&mut serve));
            operate(|| reply(second));
        }
        "reply to the dead" => {
            let request = next(&mut serve);
            let error = operate(|| request.loan(LARGE)).expect_err("it is dead");
            assert!(matches!(error, SendError::NoReceiver { last: Some(_), .. }), "{error}");
        }
        "drop a request" => {
            let request = next(&mut serve);
            operate(|| drop(request));
        }
        "give a request back" => {
            let request = next(&mut serve);
            operate(|| request.give_back());
        }
        "close" => {
            let request = prepare(&mut serve);
            operate(|| {
                drop(serve);
                reply(request);
            });
        }
        other => panic!("no operation {other}"),
    }
}

fn act_as_client(operation: &str) {
    let mut asker = asker();
    match operation {
        "ask large" => ask_one(&mut asker, LARGE),
        "ask small" => ask_one(&mut asker, SMALL),
        "ask a third" => {
            asker.ask(LARGE);
            asker.ask(SMALL);
            ask_one(&mut asker, LARGE);
        }
        "ask the dead" => {
            let request = asker.fill(LARGE);
            let error = operate(|| asker.client.call(request)).expect_err("it is dead");
            assert!(matches!(error, SendError::NoReceiver { last: Some(_), .. }), "{error}");
        }
        "take the answer" | "take a small answer" => {
            let call = asker.ask(if operation == "take the answer" { LARGE } else { SMALL });
            let answer = operate(|| asker.client.answer(call, None)).expect("an answer");
            asker.take(call, answer);
        }
        "take any answer" => {
            asker.ask(LARGE);
            let (call, answer) = operate(|| asker.client.any_answer(None)).expect("an answer");
            asker.take(call, answer);
        }
        "take the second first" => {
            let (first, second) = (asker.ask(LARGE), asker.ask(LARGE));
            let answers = operate(|| [second, first].map(|call| asker.client.answer(call, None).expect("an answer")));
            for (call, answer) in [second, first].into_iter().zip(answers) {
                asker.take(call, answer);
            }
        }
        "wait in vain" => {
            let call = asker.ask(LARGE);
            let error = operate(|| asker.client.answer(call, SHORT)).expect_err("nobody answers");
            assert!(matches!(&error, RecvError::TimedOut { senders, .. } if senders.len() == 1), "{error}");
        }
        "wait for the dead" => {
            let error = operate(|| asker.client.any_answer(None)).expect_err("it is dead");
            assert!(matches!(error, RecvError::SenderDied { sender: Some(_), .. }), "{error}");
        }
        "wait for a server" => operate(|| asker.client.wait_for_server(Some(PATIENCE))).expect("a server"),
        "ask and forget" => {
            let request = asker.fill(LARGE);
            operate(|| {
                asker.client.call(request).expect("there is room");
                drop(asker);
            });
        }
        "close" => {
            asker.ask(LARGE);
            operate(|| drop(asker));
        }
        "close, with an answer" => {
            asker.ask(LARGE);
            asker.ask(LARGE);
            operate(|| {
                let answer = asker.client.any_answer(None).expect("an answer");
                drop(asker);
                drop(answer);
            });
        }
        other => panic!("no operation {other}"),
    }
}

fn ask_one(asker: &mut Asker, len: usize) {
    let bytes = asker.fill(len).to_vec();
    let call = operate(|| {
        let mut request = asker.client.loan(len).expect("nothing is lent");
        request.copy_from_slice(&bytes);
        asker.client.call(request).expect("there is room, in the end")
    });
    asker.has_asked(call, len);
}
