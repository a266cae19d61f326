//! Requests and answers: many clients, one server, a lane each way for each client.

use super::geometry::{ANSWER, Geometry, MESSAGE};
use super::memory::Memory;
use super::message::{Loan, Message};
use super::receiver::Receiver;
use super::ticket::Ticket;
use super::writer::Writer;
use super::{check_kind, check_message, check_type, longest};
use crate::error::{Error, RecvError, SendError};
use crate::object::{Name, Object, Options, Persistence, ToName};
use crate::region::{header_of, open_or_create};
use crate::segment::{Layout, Schema, Shareable};
use crate::sync::Slices;
use crate::sys::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// How a service is created.
///
/// All memory is reserved at once: for each client `slots + claims + 1 + loans` buffers for requests and as many for
/// answers. By default that is 8 clients x 9 buffers x 2 x 64 KiB, 9.4 MB in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceOptions {
    max_request: Option<u64>,
    max_answer: Option<u64>,
    pub(super) slots: u16,
    pub(super) clients: u16,
    pub(super) claims: u16,
    pub(super) loans: u16,
    object: Options,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { max_request: None, max_answer: None, slots: 4, clients: 8, claims: 2, loans: 2, object: Options::new() }
    }
}

impl ServiceOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The size of the largest request in bytes, 65536 by default. A type of fixed size has its own.
    #[must_use]
    pub fn max_request(mut self, bytes: u64) -> Self {
        self.max_request = Some(bytes);
        self
    }

    /// The size of the largest answer in bytes, 65536 by default. A type of fixed size has its own.
    #[must_use]
    pub fn max_answer(mut self, bytes: u64) -> Self {
        self.max_answer = Some(bytes);
        self
    }

    /// How many requests of a client can wait, and how many answers to it (4 by default).
    #[must_use]
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots;
        self
    }

    /// How many clients there can be at a time (8 by default, at most 127).
    #[must_use]
    pub fn clients(mut self, clients: u16) -> Self {
        self.clients = clients;
        self
    }

    /// How many requests the server, and how many answers a client, can hold at a time (2 by default, at most 62), small
    /// ones not counted.
    #[must_use]
    pub fn claims(mut self, claims: u16) -> Self {
        self.claims = claims;
        self
    }

    /// How many messages can be filled at a time in each lane (2 by default), small ones not counted.
    #[must_use]
    pub fn loans(mut self, loans: u16) -> Self {
        self.loans = loans;
        self
    }

    /// How long the service stays: by default until its server and its last client have closed it or died.
    #[must_use]
    pub fn persistence(mut self, persistence: Persistence) -> Self {
        self.object = self.object.persistence(persistence);
        self
    }

    /// The permission bits, as [`Options::mode`]. Clients need the right to write, too.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.object = self.object.mode(mode);
        self
    }
}

/// What an object must be to be opened as a service of these types.
fn checked<Q: Shareable + ?Sized, A: Shareable + ?Sized>(object: Object) -> Result<Arc<Memory>, Error> {
    check_kind(&object.header, &object.name, "service")?;
    check_type::<Q>(&object.header, &object.name, MESSAGE)?;
    check_type::<A>(&object.header, &object.name, ANSWER)?;
    Ok(Arc::new(Memory::new(object)?))
}

/// Answers requests `Q` with answers `A`. There is one living server of a service; a successor of a dead one gets the
/// requests that were not answered.
///
/// ```
/// use memlane::{Client, Server, ServiceOptions};
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let mut server = Server::<u64, u64>::create(&name, &ServiceOptions::new())?;
/// let mut client = Client::<u64, u64>::open(&name)?; // in another process
///
/// let mut request = client.loan(())?;
/// *request = 6;
/// let call = client.call(request)?;
///
/// let request = server.recv()?;
/// let mut answer = request.loan(())?;
/// *answer = *request * 7;
/// answer.try_send()?;
///
/// assert_eq!(*client.answer(call, None)?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<Q: Shareable + ?Sized, A: Shareable + ?Sized> {
    requests: Receiver<Q>,
    /// A lane for each client.
    answers: Vec<Arc<Writer>>,
    answer: PhantomData<fn(&A)>,
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Server<Q, A> {
    /// Creates a service and becomes its server. What has the name is replaced or taken over as by
    /// [`Sender::create`](crate::Sender::create).
    ///
    /// # Errors
    ///
    /// As [`Sender::create`](crate::Sender::create).
    pub fn create(name: impl ToName, options: &ServiceOptions) -> Result<Self, Error> {
        const { check_message::<Q>() };
        const { check_message::<A>() };
        let types = [(Q::LAYOUT, Schema::of::<Q>()), (A::LAYOUT, Schema::of::<A>())];
        Self::create_with(name.to_name()?, options, &types)
    }

    pub(super) fn create_with(
        name: Name,
        options: &ServiceOptions,
        types: &[(Layout, Schema); 2],
    ) -> Result<Self, Error> {
        let [(request, request_schema), (answer, answer_schema)] = types;
        let max_request = longest(*request, options.max_request, &name)?;
        let max_answer = longest(*answer, options.max_answer, &name)?;
        let geometry = Geometry::of_service(options, max_request, max_answer).ok_or_else(|| Error::BadOptions {
            name: name.to_string(),
            why: "use 1 to 32768 slots, 1 to 127 clients, 1 to 62 claims, 1 loan or more, and at most a tebibyte each way"
                .into(),
        })?;
        let total = geometry.total().ok_or_else(|| Error::TooLarge { name: name.to_string() })?;
        let header = header_of(total, 0, geometry.describe(request_schema, Some(answer_schema)));
        let draft = Object::draft(name, header, &options.object)?;
        let server = Self::start(draft)?;
        match server.memory().attachment().publish()? {
            None => Ok(server),
            Some(other) => Self::start(other),
        }
    }

    /// Becomes the server of a service that exists, whose last one died or closed it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::NoRoom`] with its server if that one lives, [`Error::TypeMismatch`],
    /// and those of a damaged object.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        const { check_message::<Q>() };
        const { check_message::<A>() };
        Self::start(Object::open(name.to_name()?, Access::ReadWrite)?)
    }

    /// Opens the service, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), but neither `NotFound` nor `AlreadyExists`.
    pub fn open_or_create(name: impl ToName, options: &ServiceOptions) -> Result<Self, Error> {
        let name = name.to_name()?;
        open_or_create(|| Self::open(&name), || Self::create(&name, options))
    }

    fn start(object: Object) -> Result<Self, Error> {
        let memory = checked::<Q, A>(object)?;
        // The place is what makes it the server: the lanes for answers are had by whoever has that.
        let place = memory.take_place("servers", 0..1)?;
        let requests = Receiver::at(Arc::clone(&memory), place);
        let writer = |lane| Writer::new(Arc::clone(&memory), memory.take_answer_lane(lane)?).map(Arc::new);
        let answers = memory.geometry().answer_lanes().map(writer).collect::<Result<Vec<_>, _>>()?;
        memory.geometry().request_lanes().for_each(|client| memory.settle_answered(client));
        memory.messages().notify();
        Ok(Self { requests, answers, answer: PhantomData })
    }

    pub(super) fn memory(&self) -> &Memory {
        self.requests.reader().memory()
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.requests.name()
    }

    /// Receives the next request; the clients take turns. Sleeps until there is one, also while there is no client.
    ///
    /// # Errors
    ///
    /// [`RecvError::ClaimsInUse`], [`RecvError::Corrupt`] and [`RecvError::Unusable`].
    pub fn recv(&mut self) -> Result<Request<Q, A>, RecvError> {
        self.requests.recv().map(|message| self.request(message))
    }

    /// Like [`recv`](Self::recv), waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// Also [`RecvError::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Request<Q, A>, RecvError> {
        self.requests.recv_timeout(timeout).map(|message| self.request(message))
    }

    /// Receives a request if there is one.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Request<Q, A>>, RecvError> {
        Ok(self.requests.try_recv()?.map(|message| self.request(message)))
    }

    fn request(&self, message: Message<Q>) -> Request<Q, A> {
        let writer = Arc::clone(&self.answers[message.lane()]);
        Request { message, writer, answer: PhantomData }
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Drop for Server<Q, A> {
    /// Closes the service for this server; requests that it has taken can still be answered.
    fn drop(&mut self) {
        if !self.memory().attachment().is_forked() {
            self.answers.iter().for_each(|writer| self.memory().close_lane(writer.lane()));
        }
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> fmt::Debug for Server<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", self.name()).finish_non_exhaustive()
    }
}

/// A request that a server has received. It derefs to the `Q`; dropping it says that it was dealt with, and until then, or
/// until it is answered, a successor of this server would get it again.
///
/// It can go to another thread: requests may be answered in any order.
pub struct Request<Q: Shareable + ?Sized, A: Shareable + ?Sized> {
    message: Message<Q>,
    writer: Arc<Writer>,
    answer: PhantomData<fn(&A)>,
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Request<Q, A> {
    /// Room for the answer, as [`Sender::loan`](crate::Sender::loan); sending it answers this request, once: its client
    /// passes over further answers. To send it waits while its client takes no answers, if that is not done with
    /// [`Loan::try_send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::loan`](crate::Sender::loan), and [`SendError::NoReceiver`] if the client has died or closed; so does
    /// sending it, if it would have to wait.
    pub fn loan(&self, tail: A::Tail) -> Result<Loan<A>, SendError> {
        let memory = self.writer.memory();
        let client = memory.geometry().readers(self.writer.lane()).start;
        let owner = memory.owner_of(client);
        // To ask the system whether it lives costs more than the answer: only if it leaves answers lying.
        let last = memory.last(self.writer.lane());
        let gone = owner.is_nobody()
            || last > 0 && !memory.is_let_go(self.writer.lane(), last) && memory.attachment().is_dead(owner);
        if gone {
            let last = (!owner.is_nobody()).then(|| memory.who(owner)).flatten();
            return Err(SendError::NoReceiver { channel: memory.attachment().name(), last });
        }
        Ok(Loan::<A>::take(&self.writer, tail, false)?.answering(self.message.sequence()))
    }

    /// The request, with when it was sent, its metadata and its number.
    #[must_use]
    pub fn message(&self) -> &Message<Q> {
        &self.message
    }

    /// Says that it was not dealt with, and drops it: its client is not answered.
    pub fn give_back(self) {
        self.message.give_back();
    }

    /// Says that it was dealt with, as dropping it does, and keeps it, to be looked at.
    pub fn mark_processed(&mut self) {
        self.message.mark_processed();
    }

    /// Says that it was not dealt with, and keeps it, to be looked at.
    pub fn mark_given_back(&mut self) {
        self.message.mark_given_back();
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Deref for Request<Q, A> {
    type Target = Q;

    fn deref(&self) -> &Q {
        &self.message
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> fmt::Debug for Request<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("message", &self.message).finish_non_exhaustive()
    }
}

/// Names a request of a [`Client`], to tell its answer from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call(u64);

impl Call {
    /// That of a request which was not sent with [`Client::call`], but with [`Loan::send`]: what its ticket stands for.
    #[must_use]
    pub fn of(ticket: &Ticket) -> Self {
        Self(ticket.sequence())
    }

    /// Its number, from 1: no other call of its client has it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Sends requests `Q` to a server, and gets answers `A`: several may be under way, and answers come in any order.
pub struct Client<Q: Shareable + ?Sized, A: Shareable + ?Sized> {
    requests: Arc<Writer>,
    answers: Receiver<A>,
    /// The first request of this client in its lane: answers to earlier ones are a predecessor's.
    first: u64,
    /// The latest requests that were answered, as many as there are slots: one that is still kept, so that a successor of
    /// its server may answer it again if the first answer is overwritten, has fewer after it.
    answered: BTreeSet<u64>,
    /// Answers that came while another one was waited for.
    early: BTreeMap<u64, Message<A>>,
    /// Calls whose answers nobody wants any more.
    forgotten: BTreeSet<u64>,
    request: PhantomData<fn(&Q)>,
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Client<Q, A> {
    /// Becomes a client of a service.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::NoRoom`] if it has as many clients as it was created for,
    /// [`Error::TypeMismatch`], and those of a damaged object.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        const { check_message::<Q>() };
        const { check_message::<A>() };
        Self::start(Object::open(name.to_name()?, Access::ReadWrite)?)
    }

    /// Waits until a service of that name exists, at most for `timeout` (for ever if `None`), and opens it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), with [`Error::TimedOut`] instead of `NotFound`.
    pub fn wait_for(name: impl ToName, timeout: Option<Duration>) -> Result<Self, Error> {
        const { check_message::<Q>() };
        const { check_message::<A>() };
        Self::start(Object::wait_for(&name.to_name()?, Access::ReadWrite, timeout)?)
    }

    fn start(object: Object) -> Result<Self, Error> {
        let memory = checked::<Q, A>(object)?;
        let client = memory.take_client()?;
        let answers = Receiver::at(Arc::clone(&memory), client + 1);
        let requests = Arc::new(Writer::new(Arc::clone(&memory), client)?);
        let first = memory.last(client) + 1;
        Ok(Self {
            requests,
            answers,
            first,
            answered: BTreeSet::new(),
            early: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            request: PhantomData,
        })
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.answers.name()
    }

    pub(super) fn answers(&self) -> &Receiver<A> {
        &self.answers
    }

    /// Room for a request, as [`Sender::loan`](crate::Sender::loan).
    ///
    /// # Errors
    ///
    /// As [`Sender::loan`](crate::Sender::loan).
    pub fn loan(&self, tail: Q::Tail) -> Result<Loan<Q>, SendError> {
        Loan::take(&self.requests, tail, false)
    }

    /// Sends a request that was [lent](Self::loan) by this client. Waits while as many wait to be dealt with as can, as
    /// [`Loan::send`].
    ///
    /// # Errors
    ///
    /// As [`Loan::send`]: [`SendError::NoReceiver`] if the server died while it was waited for. A request that was sent
    /// while there is no server is for the next one.
    pub fn call(&mut self, request: Loan<Q>) -> Result<Call, SendError> {
        Ok(Call::of(&request.send()?))
    }

    /// Waits for the answer to a request, at most for `timeout` (for ever if `None`). Answers to others that come meanwhile
    /// are kept, and count as held.
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`] with the server, if it lives, [`RecvError::SenderDied`] or [`RecvError::Closed`] if it does
    /// not: then the answer may come from its successor, see [`wait_for_server`](Self::wait_for_server).
    /// [`RecvError::ClaimsInUse`] if as many answers are held as can be.
    pub fn answer(&mut self, call: Call, timeout: Option<Duration>) -> Result<Message<A>, RecvError> {
        if let Some(answer) = self.early.remove(&call.0) {
            return Ok(answer);
        }
        let time = Slices::new(timeout);
        loop {
            let (its, answer) = self.next(time.left())?;
            if its == call {
                return Ok(answer);
            }
            self.early.insert(its.0, answer);
        }
    }

    /// Waits for an answer to any request, at most for `timeout` (for ever if `None`).
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer).
    pub fn any_answer(&mut self, timeout: Option<Duration>) -> Result<(Call, Message<A>), RecvError> {
        match self.early.pop_first() {
            Some((call, answer)) => Ok((Call(call), answer)),
            None => self.next(timeout),
        }
    }

    fn next(&mut self, timeout: Option<Duration>) -> Result<(Call, Message<A>), RecvError> {
        let time = Slices::new(timeout);
        loop {
            let answer = match time.left() {
                Some(left) => self.answers.recv_timeout(left)?,
                None => self.answers.recv()?,
            };
            if answer.about() >= self.first && self.answered.insert(answer.about()) {
                if self.answered.len() as u64 > self.answers.reader().memory().geometry().slots {
                    self.answered.pop_first();
                }
                if !self.forgotten.remove(&answer.about()) {
                    return Ok((Call(answer.about()), answer));
                }
            }
        }
    }

    /// Does without the answer to a call: it is dropped if it comes, and does not count as held.
    pub fn forget(&mut self, call: Call) {
        if self.early.remove(&call.0).is_none() {
            self.forgotten.insert(call.0);
        }
        // A request is kept while there are fewer after it than there are slots, and no more answers than that can wait.
        while self.forgotten.len() as u64 > 2 * self.answers.reader().memory().geometry().slots {
            self.forgotten.pop_first();
        }
    }

    /// Waits until there is a server, at most for `timeout` (for ever if `None`).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`] and [`RecvError::Unusable`].
    pub fn wait_for_server(&self, timeout: Option<Duration>) -> Result<(), RecvError> {
        self.answers.wait_for_sender(timeout)
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> fmt::Debug for Client<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", self.name()).finish_non_exhaustive()
    }
}
