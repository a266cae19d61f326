//! The hand-off of images from one sender to one receiver, either of which may be killed at any instant.
//!
//! One frame lies in shared memory. Under its lock the sender fills it and says `ready`; under the same lock the
//! receiver works on it in place and says `processed`. Each waits for the other by a condition, and notices its death.
//!
//! | `ready` | `processed` | the frame |
//! |---|---|---|
//! | no | no | being filled, or none yet; a death here leaves nothing to receive |
//! | yes | no | offered: complete, and stays so whoever dies |
//! | yes | yes | processed: the sender may fill it again |

use crate::failure::Failure;
use crate::picture::{Format, Shape, Source};
use crate::stop::{GLANCE, stopped};
use memlane::{
    Bool, Condvar, Error, LockError, Locked, Mutex, MutexGuard, Name, Options, Origin, OwnerId, Segment, Shareable,
    Until, WaitError, Who,
};
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// What lies in shared memory.
#[derive(Shareable)]
#[repr(C)]
struct Handoff {
    /// There is something for the receiver to look at.
    offered: Condvar,
    /// There is something for the sender to look at.
    answered: Condvar,
    frame: Mutex<Frame>,
}

/// One image and its state.
#[derive(Shareable)]
#[repr(C)]
pub(crate) struct Frame {
    sender: OwnerId,
    receiver: OwnerId,
    /// Goes up with every image, also from one sender to the next.
    sequence: u64,
    /// The bytes of `pixels` that are used.
    size: u64,
    /// When it was offered and when it was taken, in nanoseconds of the monotonic clock.
    offered_at: u64,
    taken_at: u64,
    width: u32,
    height: u32,
    stride: u32,
    format: u32,
    ready: Bool,
    processed: Bool,
    /// What the receiver found: whether the image is as it should be.
    good: Bool,
    /// The sender has ended in good order: nothing more comes from it.
    done: Bool,
    pixels: [u8],
}

fn is(flag: Bool) -> bool {
    flag.get() == Some(true)
}

impl Frame {
    fn waits_for_receiver(&self) -> bool {
        is(self.ready) && !is(self.processed)
    }

    /// What a death can leave: `ready` is written last and taken back first, so a frame that says so is complete.
    fn repair(&mut self) {
        if !is(self.ready) {
            self.processed = Bool::new(false);
        }
    }

    /// The image, if what the header says fits together.
    fn image(&self) -> Option<(Shape, &[u8])> {
        let shape = Shape { width: self.width, height: self.height, format: Format::from_number(self.format)? };
        let size = usize::try_from(self.size).ok().filter(|size| shape.size() == Some(*size))?;
        Some((shape, self.pixels.get(..size)?))
    }
}

/// How long to wait, and how long already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    start: Instant,
    timeout: Option<Duration>,
}

impl Patience {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { start: Instant::now(), timeout }
    }

    /// The next piece of waiting, after which to look around; `None` when the time is over.
    fn next(self) -> Option<Duration> {
        let left = self.timeout.map_or(GLANCE, |timeout| timeout.saturating_sub(self.start.elapsed()).min(GLANCE));
        (!left.is_zero()).then_some(left)
    }
}

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Event {
    /// What was waited for is there.
    There,
    /// The other side was killed.
    Lost(Option<Who>),
    /// The time is over; who kept us waiting, if somebody did.
    TimedOut(Option<Who>),
    /// The object was removed by force, or replaced.
    Retired,
    /// Ctrl-C.
    Stopped,
}

type Guard<'a> = MutexGuard<'a, Frame>;

fn whole(locked: Locked<'_, Frame>) -> Guard<'_> {
    locked.or_repair(Frame::repair)
}

/// Takes the frame, or says what came between.
fn lock(shared: &Segment<Handoff>, patience: Patience) -> Result<Result<Guard<'_>, Event>, Failure> {
    loop {
        let Some(time) = patience.next() else { return Ok(Err(Event::TimedOut(None))) };
        match shared.frame.lock_timeout(shared, time) {
            Ok(locked) => return Ok(Ok(whole(locked))),
            Err(LockError::Retired { .. }) => return Ok(Err(Event::Retired)),
            Err(LockError::TimedOut { holder, .. }) if patience.next().is_none() => {
                return Ok(Err(Event::TimedOut(holder)));
            }
            Err(LockError::TimedOut { .. }) if stopped() => return Ok(Err(Event::Stopped)),
            Err(LockError::TimedOut { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until `there` holds of the frame, `peer` of the frame (if it names anybody) is lost, or the time is over.
fn wait(
    shared: &Segment<Handoff>,
    condition: &Condvar,
    patience: Patience,
    peer: impl Fn(&Frame) -> OwnerId,
    there: impl Fn(&Frame) -> bool,
) -> Result<Event, Failure> {
    loop {
        let frame = match lock(shared, patience)? {
            Ok(frame) => frame,
            Err(event) => return Ok(event),
        };
        if there(&frame) {
            return Ok(Event::There);
        }
        let other = peer(&frame);
        if stopped() {
            return Ok(Event::Stopped);
        }
        let Some(time) = patience.next() else { return Ok(Event::TimedOut(shared.region().who(other))) };
        let until = Until::timeout(time).or_peer_lost(other);
        // A new peer is a reason to look again: from then on it is its death that counts.
        match condition.wait_while(frame, until, |frame| !there(frame) && peer(frame) == other) {
            Ok(locked) => drop(whole(locked)),
            Err(WaitError::PeerLost { peer, .. }) => return Ok(Event::Lost(peer)),
            Err(WaitError::Lock(LockError::Retired { .. })) => return Ok(Event::Retired),
            Err(WaitError::TimedOut { .. } | WaitError::Lock(LockError::TimedOut { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Nanoseconds of the monotonic clock, the same for all processes of one time namespace.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// An image that was handed over and processed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) sequence: u64,
    /// From offering the image to the receiver holding it.
    pub(crate) latency: Duration,
    /// Whether the receiver found it as it should be.
    pub(crate) good: bool,
}

/// The sending side.
pub(crate) struct Sender {
    shared: Segment<Handoff>,
    name: Name,
}

impl Sender {
    /// Creates the object, for images of up to `capacity` bytes, or takes it over from a sender that was killed.
    pub(crate) fn create(name: &Name, capacity: usize) -> Result<Self, Failure> {
        let shared =
            Segment::<Handoff>::create(name, capacity, &Options::new(), |_| ()).map_err(|error| match error {
                Error::AlreadyExists { creator: Some(creator), .. } => {
                    Failure::failed(format!("{creator} sends to '{name}' already: wait until it is done, or end it"))
                }
                error => error.into(),
            })?;
        let sender = Self { shared, name: name.clone() };
        let mut frame = whole(sender.shared.frame.lock(&sender.shared)?);
        frame.sender = sender.shared.region().owner();
        frame.done = Bool::new(false);
        drop(frame);
        sender.shared.offered.notify_all();
        Ok(sender)
    }

    /// Whether this sender follows one that was killed.
    pub(crate) fn took_over(&self) -> bool {
        self.shared.origin() == Origin::TakenOver
    }

    /// Waits until somebody is there to receive.
    pub(crate) fn wait_for_receiver(&self, patience: Patience) -> Result<(), Failure> {
        self.until(patience, &mut |_| Ok(()), |frame| !frame.receiver.is_nobody())
    }

    /// Puts a picture into shared memory and waits until it was processed, if need be by one receiver after the
    /// other: `lost` is told of each that was killed before it said so.
    pub(crate) fn hand_over(
        &self,
        source: &Source,
        number: u64,
        patience: Patience,
        mut lost: impl FnMut(Option<Who>) -> Result<(), Failure>,
    ) -> Result<Delivered, Failure> {
        // A sender that was killed may have left an image that a living receiver is still at.
        self.until(patience, &mut |_| Ok(()), |frame| {
            !frame.waits_for_receiver() || !self.shared.region().is_alive(frame.receiver)
        })?;
        let mut frame = self.lock(patience)?;
        frame.ready = Bool::new(false);
        // The compiler must not move the writing of the image out from between the two writes of `ready`: a death
        // in between is to be seen. The processor does not: it completes stores of a killed process in order.
        compiler_fence(Ordering::SeqCst);
        let (shape, size) = (source.shape(), source.size());
        let room = frame.pixels.len();
        let pixels = frame.pixels.get_mut(..size).ok_or_else(|| {
            Failure::failed(format!("the image has {size} bytes, but there is room for {room} in '{}'", self.name))
        })?;
        source.fill(number, pixels)?;
        (frame.width, frame.height) = (shape.width, shape.height);
        (frame.stride, frame.format) = (shape.stride().unwrap_or(0), shape.format.number());
        frame.size = size as u64;
        frame.sequence += 1;
        frame.processed = Bool::new(false);
        let sequence = frame.sequence;
        frame.offered_at = now();
        compiler_fence(Ordering::SeqCst);
        frame.ready = Bool::new(true);
        frame.unlock();
        self.shared.offered.notify_one();

        self.until(patience, &mut lost, |frame| is(frame.processed))?;
        let frame = self.lock(patience)?;
        let latency = Duration::from_nanos(frame.taken_at.saturating_sub(frame.offered_at));
        Ok(Delivered { sequence, latency, good: is(frame.good) })
    }

    fn until(
        &self,
        patience: Patience,
        lost: &mut dyn FnMut(Option<Who>) -> Result<(), Failure>,
        there: impl Fn(&Frame) -> bool,
    ) -> Result<(), Failure> {
        loop {
            match wait(&self.shared, &self.shared.answered, patience, |frame| frame.receiver, &there)? {
                Event::There => return Ok(()),
                Event::Lost(who) => {
                    let mut frame = self.lock(patience)?;
                    if !self.shared.region().is_alive(frame.receiver) {
                        frame.receiver = OwnerId::NOBODY;
                    }
                    frame.unlock();
                    lost(who)?;
                }
                event => return Err(self.failure(event)),
            }
        }
    }

    fn lock(&self, patience: Patience) -> Result<Guard<'_>, Failure> {
        lock(&self.shared, patience)?.map_err(|event| self.failure(event))
    }

    fn failure(&self, event: Event) -> Failure {
        let name = &self.name;
        match event {
            Event::TimedOut(Some(who)) => Failure::timed_out(format!(
                "{who} has not processed the image in time: look at that process, or wait longer"
            )),
            Event::TimedOut(None) => {
                Failure::timed_out(format!("nobody received from '{name}' in time: start `memlane recv {name}`"))
            }
            Event::Retired => Failure::failed(format!("'{name}' was removed by force")),
            Event::Stopped | Event::There | Event::Lost(_) => {
                Failure::failed("interrupted: not every image was processed")
            }
        }
    }
}

impl Drop for Sender {
    /// Ends in good order: the receiver learns that nothing more comes, and the name goes.
    fn drop(&mut self) {
        if let Ok(Ok(mut frame)) = lock(&self.shared, Patience::new(Some(GLANCE))) {
            if !frame.waits_for_receiver() {
                frame.ready = Bool::new(false);
            }
            frame.done = Bool::new(true);
            frame.unlock();
            self.shared.offered.notify_all();
        }
        // If the name is somebody else's by now, it stays.
        let _ = self.shared.region().remove_name();
    }
}

/// An image as the receiver sees it, in place.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) sequence: u64,
    pub(crate) shape: Shape,
    pub(crate) pixels: &'a [u8],
    pub(crate) sender: Option<Who>,
}

/// The receiving side.
pub(crate) struct Receiver {
    shared: Segment<Handoff>,
    name: Name,
    /// A sender whose death was told already.
    mourned: OwnerId,
}

impl Receiver {
    /// Waits for the name and becomes its receiver, unless a living process is that already.
    pub(crate) fn attach(name: &Name, patience: Patience) -> Result<Result<Self, Event>, Failure> {
        loop {
            let Some(time) = patience.next() else { return Ok(Err(Event::TimedOut(None))) };
            if stopped() {
                return Ok(Err(Event::Stopped));
            }
            let shared = match Segment::<Handoff>::wait_for(name, Some(time)) {
                Ok(shared) => shared,
                Err(Error::TimedOut { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut frame = match lock(&shared, patience)? {
                Ok(frame) => frame,
                Err(Event::Retired) => continue,
                Err(event) => return Ok(Err(event)),
            };
            if is(frame.done) && !frame.waits_for_receiver() {
                // Its sender has just ended; its name is about to go.
                drop(frame);
                drop(shared);
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if shared.region().is_alive(frame.receiver) {
                let who = shared.region().who(frame.receiver).map_or("another process".into(), |who| who.to_string());
                return Err(Failure::failed(format!("{who} receives from '{name}' already: end it first")));
            }
            frame.receiver = shared.region().owner();
            frame.unlock();
            shared.answered.notify_all(); // the sender has somebody to wait for now
            return Ok(Ok(Self { shared, name: name.clone(), mourned: OwnerId::NOBODY }));
        }
    }

    /// Waits for an image. `There` without one in [`receive`](Self::receive) means that the sender is done.
    pub(crate) fn wait(&mut self, patience: Patience) -> Result<Event, Failure> {
        let mourned = self.mourned;
        let sender = |frame: &Frame| if frame.sender == mourned { OwnerId::NOBODY } else { frame.sender };
        let there = |frame: &Frame| frame.waits_for_receiver() || is(frame.done);
        let event = wait(&self.shared, &self.shared.offered, patience, sender, there)?;
        if matches!(event, Event::Lost(_))
            && let Ok(frame) = lock(&self.shared, patience)?
            && !self.shared.region().is_alive(frame.sender)
        {
            self.mourned = frame.sender;
        }
        Ok(event)
    }

    /// Gives the image that is there to `process`, in place, and says that it was processed, and whether it was as it
    /// should be; `None` if there is none. If `process` fails, the image stays for another receiver.
    pub(crate) fn receive<T>(
        &self,
        process: impl FnOnce(Image<'_>) -> Result<(bool, T), Failure>,
    ) -> Result<Option<T>, Failure> {
        let Ok(mut frame) = lock(&self.shared, Patience::new(None))? else { return Ok(None) };
        if !frame.waits_for_receiver() {
            return Ok(None);
        }
        frame.taken_at = now();
        let sender = self.shared.region().who(frame.sender);
        let (shape, pixels) = frame.image().ok_or_else(|| {
            Failure::failed(format!("what lies in '{}' is no image: remove it with `memlane rm --force`", self.name))
        })?;
        let (good, result) = process(Image { sequence: frame.sequence, shape, pixels, sender })?;
        frame.good = Bool::new(good);
        frame.processed = Bool::new(true);
        frame.unlock();
        self.shared.answered.notify_one();
        Ok(Some(result))
    }

    /// Whether the sender has ended in good order and nothing is left to receive.
    pub(crate) fn is_done(&self) -> bool {
        matches!(lock(&self.shared, Patience::new(Some(GLANCE))),
            Ok(Ok(frame)) if is(frame.done) && !frame.waits_for_receiver())
    }
}

impl Drop for Receiver {
    /// Makes room for another receiver.
    fn drop(&mut self) {
        let me = self.shared.region().owner();
        if let Ok(Ok(mut frame)) = lock(&self.shared, Patience::new(Some(GLANCE)))
            && frame.receiver == me
        {
            frame.receiver = OwnerId::NOBODY;
        }
    }
}
