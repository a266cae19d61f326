//! The sending end of a channel.

use super::memory::Memory;
use super::message::Loan;
use super::roster::{ReceiverInfo, SenderInfo};
use super::ticket::Ticket;
use super::wait::Event;
use super::writer::{State, Writer};
use super::{ChannelOptions, check_message, checked};
use crate::error::{Error, SendError};
use crate::object::{Name, Object, Origin, ToName};
use crate::region::{header_of, open_or_create};
use crate::segment::{Layout, Schema, Shareable};
use crate::sync::Slices;
use crate::sys::{self, Access};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// Sends messages of type `T`, bytes if nothing else is said, to everybody who receives from the channel of that name.
///
/// A message is filled in place, in memory that its receivers have mapped, and is there for them with one store: it is
/// never copied, whatever its size, and whoever dies, whenever, there is a whole message or none.
///
/// ```
/// use memlane::{ChannelOptions, Receiver, Sender};
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let camera = Sender::<[u8]>::create(&name, &ChannelOptions::new().max_message(1920 * 1080 * 3))?;
/// let mut screen = Receiver::<[u8]>::open(&name)?; // in another process
///
/// let mut frame = camera.loan(1920 * 1080 * 3)?;
/// frame.fill(128);
/// frame.send()?;
///
/// let frame = screen.recv()?;
/// assert_eq!(frame[0], 128);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender<T: Shareable + ?Sized = [u8]> {
    writer: Arc<Writer>,
    origin: Origin,
    message: PhantomData<fn(&T)>,
}

impl<T: Shareable + ?Sized> Sender<T> {
    /// Creates a channel and becomes a sender of it.
    ///
    /// A channel of that name that nobody uses any more is replaced. One that is in use although its creator has died or
    /// closed it is taken over if its options and type are the same: messages go on where they ended. Otherwise it is
    /// retired and replaced.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if a living or kept object has the name, [`Error::NoSpace`] if its memory cannot be had, in
    /// which case nothing is left behind, [`Error::BadOptions`], and the others if the name or its directory cannot be
    /// used.
    pub fn create(name: impl ToName, options: &ChannelOptions) -> Result<Self, Error> {
        const { check_message::<T>() };
        Self::create_with(name.to_name()?, options, T::LAYOUT, &Schema::of::<T>())
    }

    pub(super) fn create_with(
        name: Name,
        options: &ChannelOptions,
        layout: Layout,
        schema: &Schema,
    ) -> Result<Self, Error> {
        let geometry = options.geometry(&name, layout)?;
        let total = geometry.total().ok_or_else(|| Error::TooLarge { name: name.to_string() })?;
        let header = header_of(total, 0, geometry.describe(schema, None));
        let sum = |error| match error {
            Error::NoSpace { name, need, available, place, fix } => {
                let (lanes, buffers, stride) = (geometry.senders, geometry.buffers(), geometry.shape(0).stride);
                let fix = format!("ask for less than {lanes} x {buffers} buffers of {stride} bytes, or {fix}");
                Error::NoSpace { name, need, available, place, fix }
            }
            error => error,
        };
        let draft = Object::draft(name, header, &options.object).map_err(sum)?;
        let writer = Self::start(draft)?;
        match writer.writer.memory().attachment().publish()? {
            None => Ok(writer),
            Some(other) => Self::start(other),
        }
    }

    /// Becomes another sender of a channel that exists, or the successor of one that died.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::TypeMismatch`] with the differences if its messages are of another
    /// type, [`Error::NoRoom`] if it has as many senders as it was created for, and those of a damaged object.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        const { check_message::<T>() };
        Self::start(Object::open(name.to_name()?, Access::ReadWrite)?)
    }

    /// Opens the channel, or creates it if there is none. An existing one keeps its own options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), but neither `NotFound` nor `AlreadyExists`.
    pub fn open_or_create(name: impl ToName, options: &ChannelOptions) -> Result<Self, Error> {
        let name = name.to_name()?;
        open_or_create(|| Self::open(&name), || Self::create(&name, options))
    }

    fn start(object: Object) -> Result<Self, Error> {
        let origin = object.origin;
        let memory = Arc::new(Memory::new(checked::<T>(object)?)?);
        let lane = memory.take_lane()?;
        let writer = Writer::new(memory, lane)?;
        Ok(Self { writer: Arc::new(writer), origin, message: PhantomData })
    }

    /// The name of the channel.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.memory().attachment().object().name
    }

    /// A random number that no other object has or had: a channel that was created again has another.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.memory().attachment().object().header.id
    }

    /// Whether this process created the channel, took it over, or opened it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Takes the channel's name away, if it still has it, as [`remove`](crate::remove()) does: who receives gets what was
    /// sent, and nobody else can come. A name that leads to another object by now stays.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Os`] if the directory cannot be changed.
    pub fn remove_name(&self) -> Result<(), Error> {
        self.memory().attachment().object().remove_name()
    }

    /// The longest message in bytes.
    #[must_use]
    pub fn max_message(&self) -> u64 {
        self.memory().geometry().shape(0).max_message
    }

    pub(super) fn memory(&self) -> &Memory {
        self.writer.memory()
    }

    /// Room for a message with `tail` elements (`()` if `T` has no flexible tail, for bytes their number), to be filled in
    /// place. What is in it first is what an earlier message left there. Never waits, and touches no shared memory that
    /// it need not.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`], [`SendError::LoansInUse`] if as many messages are being filled as can be, and
    /// [`SendError::Unusable`].
    #[inline]
    pub fn loan(&self, tail: T::Tail) -> Result<Loan<T>, SendError> {
        Loan::take(&self.writer, tail, false)
    }

    /// Like [`loan`](Self::loan), with all bytes 0; that takes as long as to write them.
    ///
    /// # Errors
    ///
    /// As [`loan`](Self::loan).
    pub fn loan_zeroed(&self, tail: T::Tail) -> Result<Loan<T>, SendError> {
        Loan::take(&self.writer, tail, true)
    }

    /// Up to `count` loans of the same length: as many as there are buffers for, and at least one.
    ///
    /// # Errors
    ///
    /// As [`loan`](Self::loan), if not even one can be had.
    pub fn loan_many(&self, count: usize, tail: T::Tail) -> Result<Vec<Loan<T>>, SendError> {
        let mut loans = Vec::with_capacity(count);
        while loans.len() < count {
            match self.loan(tail) {
                Ok(loan) => loans.push(loan),
                Err(SendError::LoansInUse { .. }) if !loans.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(loans)
    }

    /// Who receives.
    #[must_use]
    pub fn receivers(&self) -> Vec<ReceiverInfo> {
        self.memory().receiver_infos()
    }

    /// Who sends, this sender included.
    #[must_use]
    pub fn senders(&self) -> Vec<SenderInfo> {
        self.memory().sender_infos(self.memory().lanes())
    }

    /// Waits until `count` receive, at most for `timeout` (for ever if `None`).
    ///
    /// # Errors
    ///
    /// [`SendError::TooFew`], with who receives so far, and [`SendError::Unusable`].
    pub fn wait_for_receivers(&self, count: usize, timeout: Option<Duration>) -> Result<(), SendError> {
        let memory = self.memory();
        let start = Slices::new(timeout);
        // Who has died is asked only if there seem to be enough.
        let there = |_| {
            let enough = memory.count_receivers(memory.receivers()) >= count;
            (enough && memory.sweep(memory.receivers()).living >= count).then_some(())
        };
        let found = memory.wait(Event::Released, timeout, there)?;
        found.ok_or_else(|| SendError::TooFew {
            channel: memory.attachment().name(),
            waited: start.waited(),
            count,
            who: memory.receiver_infos().into_iter().filter_map(|info| info.who).collect(),
        })
    }
}

impl Sender<[u8]> {
    /// Sends a copy of `bytes`; waits for room as [`Loan::send`].
    ///
    /// # Errors
    ///
    /// As [`loan`](Self::loan) and [`Loan::send`].
    pub fn send_copy(&self, bytes: &[u8]) -> Result<Ticket, SendError> {
        let mut loan = self.loan(bytes.len())?;
        loan.copy_from_slice(bytes);
        Ok(loan.send()?)
    }
}

impl<T: Shareable<Tail = ()> + Copy> Sender<T> {
    /// Sends a copy of `value`; waits for room as [`Loan::send`].
    ///
    /// # Errors
    ///
    /// As [`loan`](Self::loan) and [`Loan::send`].
    pub fn send_copy(&self, value: &T) -> Result<Ticket, SendError> {
        let mut loan = self.loan(())?;
        *loan = *value;
        Ok(loan.send()?)
    }
}

impl<T: Shareable + ?Sized> Drop for Sender<T> {
    /// Closes the channel for this sender: its receivers get what was sent, and are told that there is no more. What was
    /// borrowed from it can still be sent.
    fn drop(&mut self) {
        // In a forked child the lane is its parent's.
        if !self.memory().attachment().is_forked() {
            self.memory().close_lane(self.writer.lane());
        }
    }
}

impl<T: Shareable + ?Sized> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("name", self.name()).field("lane", &self.writer.lane()).finish_non_exhaustive()
    }
}

/// A message that was not sent, and why. It can be sent again.
pub struct Unsent<T: Shareable + ?Sized = [u8]>(Box<(SendError, Loan<T>)>);

impl<T: Shareable + ?Sized> Unsent<T> {
    fn new(error: SendError, loan: Loan<T>) -> Self {
        Self(Box::new((error, loan)))
    }

    /// Why it was not sent.
    #[must_use]
    pub fn error(&self) -> &SendError {
        &self.0.0
    }

    /// The message, as it was.
    #[must_use]
    pub fn into_loan(self) -> Loan<T> {
        self.0.1
    }
}

impl<T: Shareable + ?Sized> fmt::Debug for Unsent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unsent").field(&self.0.0).finish()
    }
}

impl<T: Shareable + ?Sized> fmt::Display for Unsent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

impl<T: Shareable + ?Sized> std::error::Error for Unsent<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.0.source()
    }
}

impl<T: Shareable + ?Sized> From<Unsent<T>> for SendError {
    fn from(unsent: Unsent<T>) -> Self {
        unsent.0.0
    }
}

impl<T: Shareable + ?Sized> Loan<T> {
    /// Sends the message. Where nothing may be lost, waits while the window is full, in sleeps of at most 50 ms: receivers
    /// that let go of messages wake it, and a death of theirs is seen. If nobody receives, it waits for somebody to come.
    ///
    /// # Errors
    ///
    /// [`SendError::NoReceiver`] if the last receiver died or closed while it was waited for, [`SendError::Unusable`].
    /// The message comes back with the error.
    pub fn send(self) -> Result<Ticket, Unsent<T>> {
        self.deliver(None)
    }

    /// Like [`send`](Self::send), waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// Also [`SendError::Full`], with who is the furthest behind.
    pub fn send_timeout(self, timeout: Duration) -> Result<Ticket, Unsent<T>> {
        self.deliver(Some(timeout))
    }

    /// Like [`send`](Self::send), without waiting.
    ///
    /// # Errors
    ///
    /// Also [`SendError::Full`], with who is the furthest behind.
    pub fn try_send(self) -> Result<Ticket, Unsent<T>> {
        self.deliver(Some(Duration::ZERO))
    }

    #[inline(always)]
    fn deliver(mut self, timeout: Option<Duration>) -> Result<Ticket, Unsent<T>> {
        let sent = self.writer().wait_for_room(timeout).map(|mut state| {
            let sequence = self.commit(&mut state, sys::stamp());
            let sent = self.writer().announce(sequence);
            // While the message is on its way.
            self.writer().look_ahead(&mut state);
            sent
        });
        match sent {
            Ok(sent) => Ok(Ticket::new(self.take_writer(), sent)),
            Err(error) => Err(Unsent::new(error, self)),
        }
    }

    /// Sends several messages in their order, of one sender or of several, and wakes receivers once for all for which there
    /// is room; waits for room as [`send`](Self::send). Takes out of `loans` what was sent. The ticket is that of the last.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); what was not sent is still in `loans`.
    pub fn send_many(loans: &mut Vec<Self>) -> Result<Option<Ticket>, SendError> {
        let mut ticket = None;
        while let Some(loan) = loans.first() {
            let writer = Arc::clone(loan.writer());
            let mut state = writer.wait_for_room(None)?;
            let (mut sent, mut sequence) = (0, 0);
            let of_the_same = |loan: &&Self| Arc::ptr_eq(loan.writer(), &writer);
            // One for all: they are sent together, and to ask the time takes as long as to send one.
            let stamp = sys::stamp();
            for loan in loans.iter().take_while(of_the_same) {
                if sent > 0 && !writer.has_room(&mut state) {
                    break;
                }
                sequence = loan.commit(&mut state, stamp);
                sent += 1;
            }
            drop(state);
            let announced = writer.announce(sequence);
            loans.drain(..sent).for_each(|mut loan| drop(loan.take_writer()));
            ticket = Some(Ticket::new(writer, announced));
        }
        Ok(ticket)
    }

    /// Sends it in the lane it was borrowed from, where there is room.
    #[inline(always)]
    fn commit(&self, state: &mut State, stamp: u64) -> u64 {
        let (content, small) = self.content(stamp);
        self.writer().commit(state, content, small)
    }
}

impl Writer {
    /// Waits until the next message can be sent; nobody else of this process sends in the lane until `State` is dropped.
    #[inline]
    fn wait_for_room(&self, timeout: Option<Duration>) -> Result<MutexGuard<'_, State>, SendError> {
        self.memory().attachment().check()?;
        let room = || {
            let mut state = self.state();
            self.has_room(&mut state).then_some(state)
        };
        match room() {
            Some(state) => Ok(state),
            None => self.wait_while_full(timeout, room),
        }
    }

    #[cold]
    fn wait_while_full<'a>(
        &'a self,
        timeout: Option<Duration>,
        mut room: impl FnMut() -> Option<MutexGuard<'a, State>>,
    ) -> Result<MutexGuard<'a, State>, SendError> {
        let memory = self.memory();
        let start = Slices::new(timeout);
        let readers = memory.geometry().readers(self.lane());
        // An answer is for a client that was there: it does not wait for another one to come.
        let answers = memory.geometry().answer_lanes().contains(&self.lane());
        let mut had = answers || memory.count_receivers(readers.clone()) > 0;
        let found = memory.wait(Event::Released, timeout, |probe| {
            if !probe {
                return room().map(Ok);
            }
            // The dead hold nobody up.
            let present = memory.sweep(readers.clone());
            let gone = present.living == 0 && (had || present.died.is_some());
            had = present.living > 0;
            room().map(Ok).or(gone.then_some(Err(present.died)))
        })?;
        match found {
            Some(Ok(state)) => Ok(state),
            Some(Err(last)) => Err(SendError::NoReceiver { channel: memory.attachment().name(), last }),
            None => Err(self.full(start.waited())),
        }
    }

    fn full(&self, waited: Duration) -> SendError {
        let memory = self.memory();
        let sequence = self.in_the_way(&self.state());
        let slowest = memory.slowest(self.lane(), sequence);
        let lag = slowest.as_ref().map_or(0, |info| info.lag);
        let slowest = slowest.and_then(|info| info.who);
        SendError::Full { channel: memory.attachment().name(), waited, sequence, slowest, lag }
    }
}
