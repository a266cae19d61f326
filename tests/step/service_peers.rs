//! The server and the clients of the service as this process has them, and what their requests and answers must be.

use crate::common::Dir;
use crate::victim::{OBJECT, PATIENCE};
use memlane::{
    Call, Client, Error, Loan, Message, Observer, Persistence, RecvError, Request, SendError, Server, ServiceOptions,
};
use std::collections::BTreeMap;
use std::time::Duration;

pub type Bytes = [u8];

/// Small, because its bytes are compared after each instruction.
pub const SLOTS: usize = 2;
pub const CLIENTS: usize = 2;
pub const CLAIMS: usize = 2;
pub const LOANS: usize = 1;
/// Those of a lane: one for each message in the window, each claim of its reader with that of `latest`, and each loan.
pub const BUFFERS: usize = SLOTS + CLAIMS + 1 + LOANS;

/// The lengths of requests and their answers: in their entry, in a buffer.
pub const SMALL: usize = 40;
pub const LARGE: usize = 200;

/// Who asks: the victim, clients of this process, the dead. Newcomers have the numbers from `NEW` on.
pub const VICTIM: u8 = 1;
pub const FIRST: u8 = 2;
pub const SECOND: u8 = 3;
pub const DEAD: u8 = 4;
pub const NEW: u8 = 5;
/// In the bytes of an answer.
const ANSWER: u8 = 0x80;

pub fn options() -> ServiceOptions {
    let options = ServiceOptions::new().slots(SLOTS as u16).clients(CLIENTS as u16).claims(CLAIMS as u16);
    options.loans(LOANS as u16).max_request(LARGE as u64).max_answer(LARGE as u64)
}

/// The bytes of a request, or an answer, follow from who asks, the request's number, and their length.
fn content(who: u8, number: u8, len: usize) -> Vec<u8> {
    let first = usize::from(number) * 31 + usize::from(who) * 17 + len * 7;
    [who, number].into_iter().chain((first..).map(|byte| byte as u8)).take(len).collect()
}

/// Who asks, and the number of the request, which is whole.
pub fn read(request: &Request<Bytes, Bytes>) -> (u8, u8) {
    let (who, number) = (request[0], request[1]);
    assert!([SMALL, LARGE].contains(&request.len()), "no request is that long: {request:?}");
    assert_eq!(request[..], content(who, number, request.len()), "torn: {request:?}");
    (who, number)
}

/// The answer, which is as long as its request.
pub fn answer_to(request: &Request<Bytes, Bytes>) -> Vec<u8> {
    let (who, number) = read(request);
    content(who | ANSWER, number, request.len())
}

fn fill_answer(request: &Request<Bytes, Bytes>) -> Result<Loan, SendError> {
    let bytes = answer_to(request);
    let mut answer = request.loan(bytes.len())?;
    answer.copy_from_slice(&bytes);
    Ok(answer)
}

/// A request that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    number: u8,
    len: usize,
}

/// A client, and what it has asked and was not answered.
pub struct Asker {
    pub client: Client<Bytes, Bytes>,
    who: u8,
    asked: u8,
    pub open: BTreeMap<Call, Asked>,
    /// The last answer, which it keeps to see whether it stays what it is.
    held: Option<(Asked, Message<Bytes>)>,
}

impl Asker {
    pub fn of(client: Client<Bytes, Bytes>, who: u8) -> Self {
        Self { client, who, asked: 0, open: BTreeMap::new(), held: None }
    }

    /// A filled loan.
    pub fn fill(&self, len: usize) -> Loan {
        let mut request = self.client.loan(len).expect("nothing is lent");
        request.copy_from_slice(&content(self.who, self.asked + 1, len));
        request
    }

    /// A request has become this call.
    pub fn has_asked(&mut self, call: Call, len: usize) -> Call {
        self.asked += 1;
        let before = self.open.insert(call, Asked { number: self.asked, len });
        assert!(before.is_none(), "two requests are one call");
        call
    }

    pub fn ask(&mut self, len: usize) -> Call {
        let request = self.fill(len);
        let call = self.client.call(request).expect("there is room");
        self.has_asked(call, len)
    }

    fn assert_whole(&self, asked: Asked, answer: &[u8]) {
        assert_eq!(
            answer,
            content(self.who | ANSWER, asked.number, asked.len),
            "torn, or the answer to another request"
        );
    }

    /// The answer is whole, and the first one to a request of this client.
    pub fn take(&mut self, call: Call, answer: Message<Bytes>) -> Message<Bytes> {
        self.check(call, &answer);
        answer
    }

    fn check(&mut self, call: Call, answer: &[u8]) -> Asked {
        let asked = self.open.remove(&call).expect("this call was answered before, or is another's");
        self.assert_whole(asked, answer);
        asked
    }

    /// Receives an answer.
    pub fn receive(&mut self, timeout: Duration) -> Result<(), RecvError> {
        let (call, answer) = self.client.any_answer(Some(timeout))?;
        let asked = self.check(call, &answer);
        self.let_go();
        self.held = Some((asked, answer));
        Ok(())
    }

    /// Receives all answers that are there.
    pub fn collect(&mut self) {
        while self.receive(Duration::ZERO).is_ok() {}
    }

    /// What it kept is what it was.
    pub fn let_go(&mut self) {
        if let Some((asked, answer)) = self.held.take() {
            self.assert_whole(asked, &answer);
        }
    }

    /// Receives what comes, until it is told that nothing more does.
    pub fn wait_for_the_end(&mut self) -> RecvError {
        loop {
            match self.receive(PATIENCE) {
                Ok(()) => {}
                Err(ended @ (RecvError::Closed { .. } | RecvError::SenderDied { .. })) => return ended,
                Err(other) => panic!("it hung: {other}"),
            }
        }
    }

    /// Everything that can be lent is written to: nothing is in it that anybody holds or is still to get. Says how many
    /// buffers that were.
    pub fn scribble(&self) -> usize {
        scribble(|| self.client.loan(LARGE))
    }
}

fn scribble(lend: impl Fn() -> Result<Loan, SendError>) -> usize {
    let mut loans = Vec::new();
    loop {
        match lend() {
            Ok(mut loan) => {
                loan.fill(0xee);
                loans.push(loan);
            }
            Err(SendError::LoansInUse { .. }) => return loans.len(),
            // Its client may close meanwhile.
            Err(SendError::NoReceiver { .. }) => return loans.len(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A server, and the requests it has dealt with.
pub struct Serve {
    pub server: Server<Bytes, Bytes>,
    pub got: Vec<(u8, u8)>,
}

impl Serve {
    pub fn of(server: Server<Bytes, Bytes>) -> Self {
        Self { server, got: Vec::new() }
    }

    /// The request is whole, and later than those before.
    pub fn take(&mut self, request: Request<Bytes, Bytes>) -> Request<Bytes, Bytes> {
        let (who, number) = read(&request);
        let before = self.got.iter().filter(|got| got.0 == who).map(|got| got.1).max();
        assert!(before.is_none_or(|before| before < number), "{number} of {who}, after {:?}", self.got);
        self.got.push((who, number));
        request
    }

    /// Receives a request, and writes to all that can be lent for its answer. Says how many buffers that were.
    pub fn receive(&mut self, timeout: Duration) -> Result<(Request<Bytes, Bytes>, usize), RecvError> {
        let request = self.server.recv_timeout(timeout)?;
        let request = self.take(request);
        let buffers = scribble(|| request.loan(LARGE));
        Ok((request, buffers))
    }

    /// Receives a request, and answers it without waiting.
    pub fn serve(&mut self, timeout: Duration) -> Result<(u8, u8), RecvError> {
        let (request, _) = self.receive(timeout)?;
        reply(&request);
        Ok(read(&request))
    }
}

/// Answers without waiting, if the client is there still.
pub fn reply(request: &Request<Bytes, Bytes>) {
    match fill_answer(request) {
        Ok(answer) => drop(answer.try_send().expect("there is room")),
        Err(SendError::NoReceiver { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What lives in this process.
pub struct Ours {
    pub serve: Option<Serve>,
    pub askers: Vec<Asker>,
}

impl Ours {
    pub fn nobody() -> Self {
        Self { serve: None, askers: Vec::new() }
    }

    /// A new service with its server.
    pub fn new(dir: &Dir) -> Self {
        let server = Server::create(dir.name(OBJECT), &options()).expect("a fresh service");
        Self { serve: Some(Serve::of(server)), askers: Vec::new() }
    }

    /// A new service with its server and a client.
    pub fn with_client(dir: &Dir) -> Self {
        let mut ours = Self::new(dir);
        ours.open_asker(dir, FIRST);
        ours
    }

    /// A service whose server and whose only client have died: two requests were answered, and the client has taken neither
    /// answer; two more were asked, and the server holds the first of them. A file without locks is what their deaths
    /// leave. It is to be kept, because nobody uses it.
    pub fn all_dead(dir: &Dir) -> Self {
        let original = dir.name("original");
        let create = Server::create(&original, &options().persistence(Persistence::Keep));
        let mut serve = Serve::of(create.expect("a fresh service"));
        let mut asker = Asker::of(Client::open(&original).expect("a place"), DEAD);
        for len in [LARGE, SMALL] {
            asker.ask(len);
            serve.serve(PATIENCE).expect("a request");
        }
        for len in [LARGE, SMALL] {
            asker.ask(len);
        }
        let held = serve.server.recv().expect("a request");
        std::fs::copy(dir.path().join("original"), dir.path().join(OBJECT)).expect("a copy");
        drop((serve, asker, held));
        memlane::remove(original).expect("it was there");
        Self::nobody()
    }

    pub fn open_asker(&mut self, dir: &Dir, who: u8) -> &mut Asker {
        self.askers.push(Asker::of(Client::open(dir.name(OBJECT)).expect("a place"), who));
        self.askers.last_mut().expect("one")
    }

    pub fn open_server(&mut self, dir: &Dir) -> &mut Serve {
        self.serve.insert(Serve::of(Server::open(dir.name(OBJECT)).expect("there is none")))
    }

    /// The server deals with all requests that are there, and the clients take all answers.
    pub fn drain(&mut self) {
        loop {
            self.askers.iter_mut().for_each(Asker::collect);
            match self.serve.as_mut().expect("a server").receive(Duration::ZERO) {
                Ok((request, _)) => {
                    self.askers.iter_mut().for_each(Asker::let_go);
                    reply(&request);
                }
                Err(RecvError::TimedOut { .. }) => return,
                Err(error) => panic!("nothing is wrong with the service: {error}"),
            }
        }
    }
}

/// The process other than this one that serves or asks, if one does.
pub fn other(dir: &Dir) -> Option<u32> {
    let info = Observer::open(dir.name(OBJECT)).and_then(|observer| observer.look()).expect("it can be read");
    let senders = info.senders.into_iter().filter_map(|info| info.who);
    let all = senders.chain(info.receivers.into_iter().filter_map(|info| info.who));
    all.map(|who| who.pid).find(|pid| *pid != std::process::id())
}

/// Nobody can come any more, and everybody who is there is of this process.
pub fn everybody_is_named(ours: &Ours, dir: &Dir) {
    let this = std::process::id();
    let mine = |who: &memlane::Who| who.pid == this;
    let error = Client::<Bytes, Bytes>::open(dir.name(OBJECT)).map(drop).expect_err("no place is left");
    let Error::NoRoom { of: "clients", who, .. } = &error else { panic!("{error}") };
    assert!(who.len() == CLIENTS && who.iter().all(mine), "{error}");
    let error = Server::<Bytes, Bytes>::open(dir.name(OBJECT)).map(drop).expect_err("there is a server");
    let Error::NoRoom { of: "servers", who, .. } = &error else { panic!("{error}") };
    assert!(who.len() == 1 && who.iter().all(mine), "{error}");
    let info = Observer::open(dir.name(OBJECT)).and_then(|observer| observer.look()).expect("it can be read");
    let senders = info.senders.iter().filter(|info| info.who.as_ref().is_some_and(mine)).count();
    let receivers = info.receivers.iter().filter(|info| info.who.as_ref().is_some_and(mine)).count();
    assert_eq!((senders, receivers, info.dead_senders.len()), (CLIENTS, CLIENTS + 1, 0), "{info:?}");
    let claims: usize = info.receivers.iter().map(|info| info.claims).sum();
    let large = |held: &&(Asked, Message<Bytes>)| held.1.len() > SMALL;
    let held: usize = ours.askers.iter().map(|asker| asker.held.iter().filter(large).count()).sum();
    assert_eq!(claims, held, "the dead hold buffers");
}
