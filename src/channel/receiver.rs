//! The receiving end of a channel.

use super::lane::{self, Seen};
use super::memory::{Entry, Memory};
use super::message::{Found, Held, Message, Small};
use super::queue::{self, Task};
use super::roster::{Done, Ending, ReceiverInfo, SenderInfo, Start};
use super::wait::Event;
use super::{Policy, check_message, checked};
use crate::error::{Error, RecvError};
use crate::object::{Name, Object, ToName};
use crate::prim::Ordering;
use crate::segment::Shareable;
use crate::sync::{self, Slices};
use crate::sys::{self, Access};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How often something is tried again that a sender overwrites all the time.
const TRIES: usize = 64;

/// How long calls that do not wait take it for granted that nobody has died, in ticks of `sys::stamp`: 7 to 34 ms. To look
/// costs more than all else they do.
const TRUST: u64 = 1 << 25;

/// A place among the receivers. The messages that it holds share it.
#[derive(Debug)]
pub(super) struct Reader {
    memory: Arc<Memory>,
    index: usize,
    /// The claims in use, a bit each: what is in shared memory is for senders, and not believed here.
    claims: AtomicU64,
    /// Whose clock this process reads.
    clock: u64,
}

impl Reader {
    /// Begins to receive in a place that was taken; dropping it gives the place back.
    fn new(memory: Arc<Memory>, index: usize) -> (Self, Vec<Start>) {
        let starts = memory.attach_receiver(index);
        (Self { memory, index, claims: AtomicU64::new(0), clock: sys::clock_id() }, starts)
    }

    /// How it ended, if nobody sends to it any more; a server waits for further clients.
    fn ending(&self, proved: bool) -> Option<Ending> {
        let geometry = self.memory.geometry();
        let serves = geometry.policy == Policy::Service && self.index == 0;
        if serves { None } else { self.memory.ending(geometry.lanes_of(self.index), proved) }
    }

    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Says how long a message took: of the first ones, and then of each 16th, as to ask the time takes some.
    #[inline]
    fn note_latency<T: Shareable + ?Sized>(&self, held: &Held<T>) {
        if held.sequence() < 16 || held.sequence().is_multiple_of(16) {
            let age = self.age(held.lane(), held.stamp()).map_or(0, |age| age.as_nanos() as u64);
            self.memory.latency(self.index).store(age, Ordering::Relaxed);
        }
    }

    /// How long ago a message of a lane was sent.
    pub(super) fn age(&self, lane: usize, stamp: u64) -> Option<Duration> {
        sys::age(stamp, self.memory.lane(lane).since(self.clock)?)
    }

    /// Takes a claim that is not in use, with `reserved` also the last one.
    #[inline]
    pub(super) fn take_claim(&self, reserved: bool) -> Result<u8, RecvError> {
        let limit = self.memory.geometry().claims - u64::from(!reserved);
        let mut used = self.claims.load(Ordering::Relaxed);
        loop {
            let claim = used.trailing_ones() as u8;
            if u64::from(claim) >= limit {
                return Err(self.no_claim(reserved));
            }
            // ORDERING: Acquire pairs with the Release in `let_go`: the word of the claim is 0 before it is written anew.
            match self.claims.compare_exchange_weak(used, used | 1 << claim, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(claim),
                Err(now) => used = now,
            }
        }
    }

    fn no_claim(&self, reserved: bool) -> RecvError {
        let limit = (self.memory.geometry().claims - u64::from(!reserved)) as usize;
        RecvError::ClaimsInUse { channel: self.memory.attachment().name(), limit }
    }

    /// Whether there is a claim that is not in use.
    fn has_claim(&self) -> bool {
        u64::from(self.claims.load(Ordering::Relaxed).trailing_ones()) < self.memory.geometry().claims - 1
    }

    /// Claims the buffer of a message that was found in `entry`; false if it has left it meanwhile.
    #[inline]
    pub(super) fn claim(&self, claim: u8, entry: &Entry, sequence: u64, lane: usize, buffer: u16) -> bool {
        lane::claim(self.memory.claim(self.index, claim.into()), entry, sequence, lane, buffer)
    }

    /// Lets go of a message, and says what was done with it.
    ///
    /// In this order, because a death may come in between: what was done is known, then its buffer can be used again. In a
    /// queue it is said first who did it: its ticket asks for that as soon as it is done.
    #[inline]
    pub(super) fn let_go(&self, lane: usize, sequence: u64, done: Done, claim: Option<u8>) {
        let memory = &self.memory;
        // In a forked child everything is its parent's.
        if memory.attachment().is_forked() {
            return;
        }
        let queue = memory.geometry().policy == Policy::Queue;
        if done != Done::Absent {
            memory.set_outcome(self.index, lane, sequence, done);
            if queue {
                queue::let_go(memory.task(lane, sequence), sequence, memory.me(), done == Done::Processed);
            }
        }
        if let Some(claim) = claim {
            lane::give_back(memory.claim(self.index, claim.into()));
            // ORDERING: Release pairs with the Acquire in `take_claim`.
            self.claims.fetch_and(!(1 << claim), Ordering::Release);
        }
        memory.released().notify_after_exchange();
        if queue {
            memory.messages().notify_after_exchange();
        }
    }
}

impl Reader {
    /// Whether there is something to receive, as far as the receiver says how far it is.
    fn has_message(&self, probe: bool) -> bool {
        let memory = &self.memory;
        let queue = memory.geometry().policy == Policy::Queue;
        memory.geometry().lanes_of(self.index).any(|lane| {
            let last = memory.last(lane);
            let cursor = memory.cursor(self.index, lane).load(Ordering::Relaxed);
            if !queue {
                return last >= cursor;
            }
            (cursor.max(memory.oldest(last))..=last).any(|sequence| {
                let task = Task::from_word(memory.task(lane, sequence).load(Ordering::Relaxed));
                task.to_take(sequence, |by| probe && memory.attachment().is_dead(by)).is_some()
            })
        })
    }

    /// Whether a receive would not wait: there is something, or nothing will ever come, or it fails.
    pub(super) fn is_ready(&self, probe: bool) -> bool {
        let ended = || self.ending(probe).is_some() && self.is_finished();
        self.has_message(probe) || ended() || self.memory.attachment().check().is_err()
    }

    /// Whether nothing can come any more, when nobody sends: in a queue, somebody may still die over a message.
    fn is_finished(&self) -> bool {
        let memory = &self.memory;
        memory.geometry().policy != Policy::Queue
            || memory.lanes().all(|lane| {
                let last = memory.last(lane);
                (memory.oldest(last)..=last).all(|sequence| {
                    match Task::from_word(memory.task(lane, sequence).load(Ordering::Relaxed)) {
                        Task::Taken { by, .. } => by == memory.me(),
                        task => task.is_over(sequence),
                    }
                })
            })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.memory.attachment().is_forked() {
            self.memory.leave_receiver(self.index);
        }
    }
}

/// What a receiver knows of a lane.
#[derive(Debug)]
struct Progress {
    lane: usize,
    /// The next message to look for; in a queue, the first that is not known to be processed.
    cursor: u64,
    /// The last message before this receiver came.
    joined: u64,
    /// Messages missed since the last one that was received.
    missed: u64,
}

impl Progress {
    #[inline]
    fn advance(&mut self, reader: &Reader, cursor: u64) {
        self.cursor = cursor;
        reader.memory.cursor(reader.index, self.lane).store(cursor, Ordering::Relaxed);
    }

    /// Leaves out all messages before `next`.
    #[inline]
    fn pass_over(&mut self, reader: &Reader, next: u64) {
        if next <= self.cursor {
            return;
        }
        for sequence in self.cursor.max(next.saturating_sub(reader.memory.geometry().slots))..next {
            reader.memory.set_outcome(reader.index, self.lane, sequence, Done::Skipped);
        }
        self.advance(reader, next);
        reader.memory.released().notify();
    }

    /// Messages were overwritten: goes on in the middle of what is kept, to have some time before the next ones are; where
    /// nothing may be lost, with the oldest, because none is overwritten any more that this receiver has not let go of.
    fn fall_behind(&mut self, reader: &Reader) {
        // What is in an entry is not believed: a number from there could be the last that can be counted.
        let head = reader.memory.head(self.lane);
        let next = match reader.memory.geometry().policy {
            Policy::Newest => head.saturating_sub(reader.memory.geometry().slots / 2),
            _ => reader.memory.oldest(head),
        };
        let next = next.max(self.cursor + 1);
        // What is older than this receiver it has not missed.
        let missed = next.saturating_sub(self.cursor.max(self.joined + 1));
        self.pass_over(reader, next);
        self.missed = self.missed.saturating_add(missed);
        let total = reader.memory.missed(reader.index);
        total.store(total.load(Ordering::Relaxed).saturating_add(missed), Ordering::Relaxed);
    }

    /// Whether the next message is a request that a predecessor has dealt with, though not with one before it.
    #[inline]
    fn is_dealt_with(&self, reader: &Reader) -> bool {
        let (memory, sequence) = (&reader.memory, self.cursor);
        sequence <= self.joined
            && memory.geometry().policy == Policy::Service
            && memory.task(self.lane, sequence).load(Ordering::Relaxed) >= sequence
    }

    /// Receives the next message, if everybody gets all.
    #[inline(always)]
    fn take_next<T: Shareable + ?Sized>(
        &mut self,
        reader: &Reader,
        small: &mut Small,
    ) -> Result<Option<Held<T>>, RecvError> {
        let (memory, lane) = (&reader.memory, self.lane);
        for _ in 0..TRIES {
            let sequence = self.cursor;
            let entry = memory.entry(lane, sequence);
            match entry.look(sequence) {
                Seen::There if self.is_dealt_with(reader) => self.pass_over(reader, sequence + 1),
                Seen::There => {
                    if let Some(held) = self.take(reader, entry, sequence, false, small)? {
                        return Ok(Some(held));
                    }
                }
                Seen::Later => self.fall_behind(reader),
                // Empty, although it was sent: it is being overwritten.
                Seen::NotThere if memory.head(lane) >= sequence && entry.look(sequence) == Seen::NotThere => {
                    self.fall_behind(reader);
                }
                Seen::NotThere => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Receives message `sequence`, which was seen in `entry`, and passes over those before it; `None` if it was
    /// overwritten meanwhile. If it cannot be held, nothing is passed over.
    #[inline(always)]
    fn take<T: Shareable + ?Sized>(
        &mut self,
        reader: &Reader,
        entry: &Entry,
        sequence: u64,
        reserved: bool,
        small: &mut Small,
    ) -> Result<Option<Held<T>>, RecvError> {
        let Some(content) = entry.content(sequence) else { return Ok(None) };
        let found = Found { lane: self.lane, sequence, content, missed: self.missed, deliveries: None };
        match Held::take(reader, entry, &found, reserved, small) {
            Err(error @ RecvError::Corrupt { .. }) => {
                self.pass_over(reader, sequence + 1);
                Err(error)
            }
            Ok(Some(held)) => {
                self.pass_over(reader, sequence);
                self.missed = 0;
                self.advance(reader, sequence + 1);
                Ok(Some(held))
            }
            not_held => not_held,
        }
    }

    /// Receives a message, if they are shared out.
    fn take_shared<T: Shareable + ?Sized>(
        &mut self,
        reader: &Reader,
        probe: bool,
        small: &mut Small,
    ) -> Result<Option<Held<T>>, RecvError> {
        let (memory, lane) = (&reader.memory, self.lane);
        let last = memory.last(lane);
        let mut all_done = true;
        for sequence in self.cursor.max(memory.oldest(last))..=last {
            if memory.entry(lane, sequence).look(sequence) != Seen::There {
                continue;
            }
            let word = memory.task(lane, sequence);
            let task = Task::from_word(word.load(Ordering::Relaxed));
            if task == (Task::Done { number: queue::number(sequence) }) {
                if all_done {
                    self.advance(reader, sequence + 1);
                }
                continue;
            }
            all_done = false;
            let is_dead = |owner| probe && memory.attachment().is_dead(owner);
            if task.to_take(sequence, is_dead).is_none() {
                continue;
            }
            if !reader.has_claim() {
                return Err(reader.no_claim(false));
            }
            if let Some(deliveries) = queue::take(word, sequence, memory.me(), is_dead) {
                return self.hold_shared(reader, sequence, deliveries, small).map(Some);
            }
        }
        Ok(None)
    }

    /// Holds the message that was taken at the place of `sequence`.
    fn hold_shared<T: Shareable + ?Sized>(
        &self,
        reader: &Reader,
        sequence: u64,
        deliveries: u64,
        small: &mut Small,
    ) -> Result<Held<T>, RecvError> {
        let (memory, lane) = (&reader.memory, self.lane);
        let entry = memory.entry(lane, sequence);
        // The place may have gone on to a later message before it was taken: what is there now stays.
        let there = entry.sequence();
        let is_of_this_place = memory.geometry().position(there) == memory.geometry().position(sequence);
        let sequence = if is_of_this_place { there } else { sequence };
        let found = entry.content(sequence).map(|content| {
            let deliveries = Some(deliveries);
            Found { lane, sequence, content, missed: 0, deliveries }
        });
        let held = found.map_or(Ok(None), |found| Held::take(reader, entry, &found, false, small));
        let corrupt = || RecvError::Corrupt { channel: memory.attachment().name(), lane, sequence };
        let held = held.and_then(|held| held.ok_or_else(corrupt));
        if held.is_err() {
            // Nobody can make anything of it.
            reader.let_go(lane, sequence, Done::Processed, None);
        }
        held
    }
}

/// Receives messages of type `T`, bytes if nothing else is said, from everybody who sends to the channel of that name.
///
/// Messages of one sender come in their order; several senders take turns. Who is killed, whenever: a message is received
/// whole or not at all.
///
/// ```
/// # use memlane::{ChannelOptions, Receiver, Sender};
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// # let sender = Sender::<[u8]>::create(&name, &ChannelOptions::new())?;
/// # let mut receiver = Receiver::<[u8]>::open(&name)?;
/// # sender.send_copy(b"hello")?;
/// # drop(sender);
/// for message in &mut receiver {
///     println!("{:?}", &message?[..]); // dropping it lets go of its bytes
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver<T: Shareable + ?Sized = [u8]> {
    reader: Arc<Reader>,
    lanes: Vec<Progress>,
    /// The lane whose turn it is.
    turn: usize,
    /// A stamp of when it was last looked who has died, by calls that do not wait.
    probed: u64,
    /// Where a small message lies until it has become a guard.
    small: Small,
    message: PhantomData<fn() -> Box<T>>,
}

impl<T: Shareable + ?Sized> Receiver<T> {
    /// Becomes a receiver of a channel. It gets what is sent from now on; where nothing may be lost, also what nobody has
    /// processed yet, and in a queue what is there to be taken. See also [`rewind`](Self::rewind).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::TypeMismatch`] with the differences if its messages are of another
    /// type, [`Error::NoRoom`] if it has as many receivers as it was created for, and those of a damaged object.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        const { check_message::<T>() };
        Self::start(Object::open(name.to_name()?, Access::ReadWrite)?)
    }

    /// Waits until a channel of that name exists, at most for `timeout` (for ever if `None`), and opens it. It is looked
    /// for at least every 10 ms.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), with [`Error::TimedOut`] instead of `NotFound`.
    pub fn wait_for(name: impl ToName, timeout: Option<Duration>) -> Result<Self, Error> {
        const { check_message::<T>() };
        Self::start(Object::wait_for(&name.to_name()?, Access::ReadWrite, timeout)?)
    }

    fn start(object: Object) -> Result<Self, Error> {
        let memory = Arc::new(Memory::new(checked::<T>(object)?)?);
        let index = memory.take_place("receivers", memory.receivers())?;
        Ok(Self::at(memory, index))
    }

    /// Receives in a place that was taken.
    pub(super) fn at(memory: Arc<Memory>, index: usize) -> Self {
        let (reader, starts) = Reader::new(memory, index);
        let progress = |Start { lane, cursor, joined }| Progress { lane, cursor, joined, missed: 0 };
        let lanes = starts.into_iter().map(progress).collect();
        Self {
            reader: Arc::new(reader),
            lanes,
            turn: 0,
            probed: sys::stamp(),
            small: Small::EMPTY,
            message: PhantomData,
        }
    }

    pub(super) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.reader.memory
    }

    fn channel(&self) -> Box<str> {
        self.memory().attachment().name()
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

    /// Receives the next message: spins for some microseconds, then sleeps until one is sent. A sender's death wakes it
    /// within 50 ms.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] or [`RecvError::SenderDied`] if everything was received and nobody sends any more,
    /// [`RecvError::ClaimsInUse`] if as many are held as can be, [`RecvError::Corrupt`], [`RecvError::Unusable`].
    pub fn recv(&mut self) -> Result<Message<T>, RecvError> {
        self.receive(None)
    }

    /// Like [`recv`](Self::recv), waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// Also [`RecvError::TimedOut`], with who could have sent.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<T>, RecvError> {
        self.receive(Some(timeout))
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, RecvError> {
        self.memory().attachment().check()?;
        if self.glance(true)
            && let Some(held) = self.poll(false)?
        {
            return Ok(Some(self.guard(held)));
        }
        let now = sys::stamp();
        let probe = now.wrapping_sub(self.probed) >= TRUST;
        if probe {
            self.probed = now;
        } else if self.reader.ending(false).is_none() {
            return Ok(None);
        }
        let held = self.look(probe, &mut |this, probe| this.poll(probe).transpose()).transpose()?;
        Ok(held.map(|held| self.guard(held)))
    }

    #[inline(always)]
    fn guard(&self, held: Held<T>) -> Message<T> {
        Message::of(&self.reader, held, &self.small)
    }

    /// Waits for a message as [`recv`](Self::recv), and receives up to `most` that are there then.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), if not even one is received.
    pub fn recv_many(&mut self, most: usize) -> Result<Vec<Message<T>>, RecvError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut messages = vec![self.recv()?];
        while messages.len() < most
            && let Ok(Some(held)) = self.poll(false)
        {
            messages.push(self.guard(held));
        }
        Ok(messages)
    }

    /// Receives the newest message if there is one, and passes over all before it. It uses a claim that is kept for that,
    /// so it works also if as many messages are held as can be.
    ///
    /// In a queue, where messages are shared out, it is [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn latest(&mut self) -> Result<Option<Message<T>>, RecvError> {
        self.memory().attachment().check()?;
        if self.memory().geometry().policy == Policy::Queue {
            return self.try_recv();
        }
        for _ in 0..TRIES {
            let Some((newest, sequence)) = self.newest() else { break };
            let entry = self.reader.memory.entry(newest, sequence);
            if let Some(held) = self.lanes[newest].take(&self.reader, entry, sequence, true, &mut self.small)? {
                for progress in self.lanes.iter_mut().filter(|progress| progress.lane != newest) {
                    progress.pass_over(&self.reader, self.reader.memory.last(progress.lane) + 1);
                }
                return Ok(Some(self.guard(held)));
            }
        }
        self.try_recv()
    }

    /// The message that was sent last, of those that this receiver has not received, and its lane.
    fn newest(&self) -> Option<(usize, u64)> {
        let memory = self.memory();
        let last = |lane| {
            let last = memory.last(lane);
            let is_new = last >= self.lanes[lane].cursor;
            is_new.then(|| Some((lane, last, memory.entry(lane, last).find(last)?.stamp))).flatten()
        };
        // A stamp says nothing in another lane, whose sender may read another clock.
        let age = |lane, stamp| self.reader.age(lane, stamp).unwrap_or(Duration::MAX);
        let last = memory.lanes().filter_map(last).min_by_key(|(lane, _, stamp)| age(*lane, *stamp));
        last.map(|(lane, last, _)| (lane, last))
    }

    /// Waits until there is something to receive, at most for `timeout` (for ever if `None`), and receives nothing.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), RecvError> {
        self.memory().attachment().check()?;
        self.spin(timeout);
        self.sleep_until(timeout, |this, probe| this.reader.has_message(probe).then_some(Ok(())))
    }

    /// Goes back to the oldest message that is kept, in every lane: for who came late. In a queue it does nothing.
    pub fn rewind(&mut self) {
        // In a forked child the place is its parent's.
        if self.memory().attachment().is_forked() {
            return;
        }
        for lane in 0..self.lanes.len() {
            let oldest = self.memory().oldest(self.memory().last(lane));
            let progress = &mut self.lanes[lane];
            progress.joined = progress.joined.max(progress.cursor.saturating_sub(1));
            progress.advance(&self.reader, progress.cursor.min(oldest));
        }
    }

    /// Waits until somebody sends (has opened the channel to), at most for `timeout` (for ever if `None`).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`] and [`RecvError::Unusable`].
    pub fn wait_for_sender(&self, timeout: Option<Duration>) -> Result<(), RecvError> {
        let memory = self.memory();
        let start = Slices::new(timeout);
        let there = |_| self.reader.ending(true).is_none().then_some(());
        let found = memory.wait(Event::Messages, timeout, there)?;
        found.ok_or_else(|| RecvError::TimedOut {
            channel: self.channel(),
            waited: start.waited(),
            senders: Vec::new(),
        })
    }

    /// Who sends.
    #[must_use]
    pub fn senders(&self) -> Vec<SenderInfo> {
        self.memory().sender_infos(self.memory().geometry().lanes_of(self.reader.index))
    }

    /// Who receives, this receiver included.
    #[must_use]
    pub fn receivers(&self) -> Vec<ReceiverInfo> {
        self.memory().receiver_infos()
    }

    #[inline]
    fn receive(&mut self, timeout: Option<Duration>) -> Result<Message<T>, RecvError> {
        self.memory().attachment().check()?;
        // What is there needs no clock.
        if self.glance(true)
            && let Some(held) = self.poll(false)?
        {
            return Ok(self.guard(held));
        }
        if self.spin(timeout)
            && let Some(held) = self.poll(false)?
        {
            return Ok(self.guard(held));
        }
        let held = self.sleep_until(timeout, |this, probe| this.poll(probe).transpose())?;
        Ok(self.guard(held))
    }

    /// Spins until it is worth while to look for a message; false if that took too long.
    fn spin(&self, timeout: Option<Duration>) -> bool {
        timeout != Some(Duration::ZERO) && sync::spin(|| self.glance(false).then_some(())).is_some()
    }

    /// Sleeps until `look` finds something or nobody sends any more.
    fn sleep_until<R>(
        &mut self,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut Self, bool) -> Option<Result<R, RecvError>>,
    ) -> Result<R, RecvError> {
        let reader = Arc::clone(&self.reader);
        let start = Slices::new(timeout);
        // It stays here, instead of being handed from call to call: it may be a message, with its bytes.
        let mut found = None;
        reader.memory.sleep(Event::Messages, timeout, |probe| {
            found = self.look(probe, &mut look);
            found.is_some().then_some(())
        })?;
        found.unwrap_or_else(|| {
            let senders = self.senders().into_iter().filter_map(|info| info.who).collect();
            Err(RecvError::TimedOut { channel: self.channel(), waited: start.waited(), senders })
        })
    }

    /// Whether it is worth while to look for a message; with `emptied` also if an entry is empty, which a sender leaves that
    /// dies while it overwrites a message. It reads no more than it must: what a receiver has read, the sender has to get
    /// back before it can write there.
    fn glance(&self, emptied: bool) -> bool {
        let memory = self.memory();
        if memory.geometry().policy == Policy::Queue {
            return self.reader.has_message(false);
        }
        self.lanes.iter().any(|progress| {
            let word = memory.entry(progress.lane, progress.cursor).glance();
            word >= progress.cursor || emptied && word == 0
        })
    }

    /// What `look` finds, or that nothing can come any more; with `probe` it is looked who has died, too.
    fn look<R>(
        &mut self,
        probe: bool,
        look: &mut impl FnMut(&mut Self, bool) -> Option<Result<R, RecvError>>,
    ) -> Option<Result<R, RecvError>> {
        if let Some(found) = look(self, probe) {
            return Some(found);
        }
        let ending = self.reader.ending(probe)?;
        // What was sent before the end is to be seen by now. Asked once more: a sender may have come into a lane that was
        // looked at before another one left its own.
        look(self, probe).or_else(|| {
            let ended = self.reader.is_finished() && self.reader.ending(probe).is_some();
            ended.then(|| Err(self.ended(ending)))
        })
    }

    fn ended(&self, ending: Ending) -> RecvError {
        let channel = self.channel();
        match ending {
            Ending::Closed => RecvError::Closed { channel },
            Ending::Died(sender) => RecvError::SenderDied { channel, sender },
        }
    }

    /// Receives a message that is there; the lanes take turns.
    #[inline(always)]
    fn poll(&mut self, probe: bool) -> Result<Option<Held<T>>, RecvError> {
        let count = self.lanes.len();
        let queue = self.memory().geometry().policy == Policy::Queue;
        for offset in 0..count {
            let lane = self.turn + offset;
            let lane = if lane < count { lane } else { lane - count };
            let (progress, reader, small) = (&mut self.lanes[lane], &self.reader, &mut self.small);
            let held =
                if queue { progress.take_shared(reader, probe, small)? } else { progress.take_next(reader, small)? };
            if let Some(held) = held {
                reader.note_latency(&held);
                self.turn = if lane + 1 < count { lane + 1 } else { 0 };
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// The messages as they come, until every sender has closed the channel.
    pub fn iter(&mut self) -> Messages<'_, T> {
        Messages { receiver: self }
    }
}

impl<T: Shareable + ?Sized> Drop for Receiver<T> {
    /// Closes the channel for this receiver. What it holds stays; what it has not received it has passed over, and in a
    /// queue others get that.
    fn drop(&mut self) {
        let (reader, memory) = (&self.reader, &self.reader.memory);
        if memory.attachment().is_forked() {
            return;
        }
        memory.close_receiver(reader.index);
        for progress in &mut self.lanes {
            progress.pass_over(reader, memory.last(progress.lane) + 1);
        }
        memory.released().notify();
    }
}

impl<T: Shareable + ?Sized> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("name", self.name()).field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// The messages of a channel as they come: see [`Receiver::iter`].
#[derive(Debug)]
pub struct Messages<'a, T: Shareable + ?Sized = [u8]> {
    receiver: &'a mut Receiver<T>,
}

impl<T: Shareable + ?Sized> Iterator for Messages<'_, T> {
    type Item = Result<Message<T>, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.recv() {
            Err(RecvError::Closed { .. }) => None,
            result => Some(result),
        }
    }
}

impl<'a, T: Shareable + ?Sized> IntoIterator for &'a mut Receiver<T> {
    type Item = Result<Message<T>, RecvError>;
    type IntoIter = Messages<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
