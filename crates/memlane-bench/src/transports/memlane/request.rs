//! Requests and answers.

use super::{WAIT, is_tight, name};
use crate::transport::{Case, Laps, Role, SMALL, Setup, Side};
use memlane::{Client, Server, ServiceOptions};

struct Asking(Case, Client<[u8], [u8]>);

impl Side for Asking {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        let Self(case, client) = self;
        for round in 0..rounds {
            let mut request = client.loan(case.len).expect("a buffer");
            case.write(round, &mut request);
            let call = client.call(request).expect("there is room");
            drop(client.answer(call, None).expect("an answer"));
            think();
            laps.lap();
        }
    }
}

struct Answering(Case, Server<[u8], [u8]>);

impl Side for Answering {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), _: &mut Laps) {
        let Self(case, server) = self;
        for round in 0..rounds {
            let request = server.recv().expect("a request");
            case.read(round, &request);
            think();
            request.loan(SMALL).expect("small ones take no buffer").try_send().expect("there is room");
        }
    }
}

pub(super) fn open(setup: &Setup) -> Box<dyn Side> {
    let case = setup.case;
    let name = name(setup, "service");
    match setup.role {
        Role::Ask => {
            let client = Client::wait_for(&name, WAIT).expect("the other side's service");
            client.wait_for_server(WAIT).expect("the other side");
            Box::new(Asking(case, client))
        }
        Role::Answer => {
            let options = ServiceOptions::new().max_request(case.len as u64).max_answer(SMALL as u64).clients(1);
            let options = options.slots(if is_tight(case) { 1 } else { 8 }).claims(1).loans(1);
            Box::new(Answering(case, Server::create(&name, &options).expect("a fresh service")))
        }
    }
}
