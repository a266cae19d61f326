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
use crate::report::{Once, called};
use crate::stop::{GLANCE, stopped};
use memlane::{
    Bool, Condvar, Error, LockError, Locked, Mutex, MutexGuard, Name, Options, Origin, OwnerId, RegionMut, Segment,
    Shareable, SharedMemory, Until, WaitError, Who,
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

impl Frame {
    fn waits_for_receiver(&self) -> bool {
        self.ready.is_true() && !self.processed.is_true()
    }

    /// What a death can leave: `ready` is written last and taken back first, so a frame that says so is complete.
    fn repair(&mut self) {
        if !self.ready.is_true() {
            self.processed = Bool::FALSE;
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

    /// The next piece of waiting, after which to look around; zero when the time is over.
    fn next(self) -> Duration {
        self.timeout.map_or(GLANCE, |timeout| timeout.saturating_sub(self.start.elapsed()).min(GLANCE))
    }

    /// The same as a patience of its own.
    fn piece(self) -> Self {
        Self::new(Some(self.next()))
    }

    fn is_over(self) -> bool {
        self.next().is_zero()
    }
}

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Event {
    /// What was waited for is there.
    There,
    /// The sender has ended in good order, and nothing is left to receive.
    Done,
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

/// Takes the frame, or says what came between. When the time is over the lock is still asked for once: only who has it
/// can see who is to blame.
fn lock(shared: &Segment<Handoff>, patience: Patience) -> Result<Result<Guard<'_>, Event>, Failure> {
    loop {
        match shared.frame.lock_timeout(shared, patience.next()) {
            Ok(locked) => return Ok(Ok(whole(locked))),
            Err(LockError::Retired { .. }) => return Ok(Err(Event::Retired)),
            Err(LockError::TimedOut { .. }) if stopped() => return Ok(Err(Event::Stopped)),
            Err(LockError::TimedOut { holder, .. }) if patience.is_over() => {
                return Ok(Err(Event::TimedOut(holder)));
            }
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
        if patience.is_over() && (other.is_nobody() || shared.region().is_alive(other)) {
            return Ok(Event::TimedOut(shared.region().who(other)));
        }
        let until = Until::timeout(patience.next()).or_peer_lost(other);
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

/// Whether the name leads elsewhere by now: then nobody can come to take the place of a peer that is gone.
fn is_nameless(shared: &Segment<Handoff>, name: &Name) -> bool {
    match SharedMemory::open(name) {
        Ok(object) => object.id() != shared.region().id(),
        Err(error) => matches!(error, Error::NotFound { .. }),
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

/// Why nobody processes the image at present.
#[derive(Debug)]
pub(crate) enum Absence {
    /// The receiver was killed.
    Killed(Option<Who>),
    /// No receiver has come yet; said again and again.
    Nobody,
}

/// How long to wait for the frame for what is good to do, but not needed.
const COURTESY: Duration = Duration::from_secs(2);

/// The sending side.
pub(crate) struct Sender {
    shared: Segment<Handoff>,
    name: Name,
}

impl Sender {
    /// Creates the object, for images of up to `capacity` bytes, or takes it over from a sender that was killed.
    pub(crate) fn create(name: &Name, capacity: usize, patience: Patience) -> Result<Self, Failure> {
        let last = last_sequence(name);
        let start = |shared: &mut Handoff| shared.frame.get_mut().sequence = last;
        let shared = Segment::create(name, capacity, &Options::new(), start).map_err(|error| match error {
            Error::AlreadyExists { creator: Some(creator), .. } => match Segment::<Handoff>::open(name) {
                Err(another_type @ Error::TypeMismatch { .. }) => another_type.into(),
                _ => Failure::failed(format!("{creator} sends to '{name}' already: wait until it is done, or end it")),
            },
            error => error.into(),
        })?;
        let sender = Self { shared, name: name.clone() };
        let mut frame = sender.lock(patience)?;
        frame.sender = sender.shared.region().owner();
        frame.done = Bool::FALSE;
        drop(frame);
        sender.shared.offered.notify_all();
        Ok(sender)
    }

    /// Whether this sender follows one that was killed.
    pub(crate) fn took_over(&self) -> bool {
        self.shared.origin() == Origin::TakenOver
    }

    /// Waits until somebody is there to receive.
    pub(crate) fn wait_for_receiver(
        &self,
        patience: Patience,
        mut absent: impl FnMut(Absence) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.until(patience, &mut absent, |frame| !frame.receiver.is_nobody())
    }

    /// Puts a picture into shared memory and waits until it was processed, if need be by one receiver after the
    /// other: `absent` is told of each that was killed before it said so, and as long as there is none.
    pub(crate) fn hand_over(
        &self,
        source: &Source,
        number: u64,
        patience: Patience,
        mut absent: impl FnMut(Absence) -> Result<(), Failure>,
    ) -> Result<Delivered, Failure> {
        // A sender that was killed may have left an image that a living receiver is still at.
        self.until(patience, &mut |_| Ok(()), |frame| {
            !frame.waits_for_receiver() || !self.shared.region().is_alive(frame.receiver)
        })?;
        let mut frame = self.lock(patience)?;
        frame.ready = Bool::FALSE;
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
        frame.sequence = frame.sequence.wrapping_add(1);
        frame.processed = Bool::FALSE;
        let sequence = frame.sequence;
        frame.offered_at = now();
        compiler_fence(Ordering::SeqCst);
        frame.ready = Bool::TRUE;
        frame.unlock();
        self.shared.offered.notify_one();

        self.until(patience, &mut absent, |frame| frame.processed.is_true())?;
        let frame = self.lock(patience)?;
        let latency = Duration::from_nanos(frame.taken_at.saturating_sub(frame.offered_at));
        Ok(Delivered { sequence, latency, good: frame.good.is_true() })
    }

    fn until(
        &self,
        patience: Patience,
        absent: &mut dyn FnMut(Absence) -> Result<(), Failure>,
        there: impl Fn(&Frame) -> bool,
    ) -> Result<(), Failure> {
        loop {
            match wait(&self.shared, &self.shared.answered, patience.piece(), |frame| frame.receiver, &there)? {
                Event::There => return Ok(()),
                Event::Lost(who) => {
                    let mut frame = self.lock(patience)?;
                    if !self.shared.region().is_alive(frame.receiver) {
                        frame.receiver = OwnerId::NOBODY;
                    }
                    frame.unlock();
                    absent(Absence::Killed(who))?;
                }
                Event::TimedOut(None) if is_nameless(&self.shared, &self.name) => {
                    return Err(Failure::failed(format!(
                        "'{}' was removed, so nobody can come: send again",
                        self.name
                    )));
                }
                Event::TimedOut(None) if !patience.is_over() => absent(Absence::Nobody)?,
                Event::TimedOut(Some(_)) if !patience.is_over() => {}
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
            Event::Retired => Failure::failed(format!("'{name}' was removed by force: send again to make it anew")),
            Event::Stopped | Event::There | Event::Done | Event::Lost(_) => {
                Failure::failed(format!("interrupted: not every image sent to '{name}' was processed"))
            }
        }
    }
}

impl Drop for Sender {
    /// Ends in good order: the receiver learns that nothing more comes, and the name goes.
    fn drop(&mut self) {
        if let Ok(locked) = self.shared.frame.lock_timeout(&self.shared, COURTESY) {
            let mut frame = whole(locked);
            if !frame.waits_for_receiver() {
                frame.ready = Bool::FALSE;
            }
            frame.done = Bool::TRUE;
            frame.unlock();
            self.shared.offered.notify_all();
        }
        // If the name is somebody else's by now, it stays.
        let _ = self.shared.region().remove_name();
    }
}

/// The number of the last image under that name, if its sender was killed and its receiver is still there: numbers go
/// on, also when the object is replaced because the next images need more or less room.
fn last_sequence(name: &Name) -> u64 {
    let Ok(shared) = Segment::<Handoff>::open(name) else { return 0 };
    shared.frame.lock_timeout(&shared, COURTESY).map_or(0, |locked| whole(locked).sequence)
}

/// An image as the receiver sees it, in place.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) sequence: u64,
    pub(crate) shape: Shape,
    pub(crate) pixels: &'a [u8],
    region: &'a RegionMut,
    sender: OwnerId,
}

impl Image<'_> {
    /// Who sent it, if that is known: asked of the system, so only where somebody is told.
    pub(crate) fn sender(&self) -> Option<Who> {
        self.region.who(self.sender)
    }
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
        let mut absent = Once::new(format!("waiting for `memlane send {name} FILE` (Ctrl-C ends)"));
        loop {
            if stopped() {
                return Ok(Err(Event::Stopped));
            }
            let shared = match Segment::<Handoff>::wait_for(name, Some(patience.next())) {
                Ok(shared) => shared,
                Err(Error::TimedOut { .. }) if patience.is_over() => return Ok(Err(Event::TimedOut(None))),
                Err(Error::TimedOut { .. }) => {
                    absent.tell();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut frame = match lock(&shared, patience)? {
                Ok(frame) => frame,
                Err(Event::Retired) => continue,
                Err(event) => return Ok(Err(event)),
            };
            if frame.done.is_true() && !frame.waits_for_receiver() {
                // Its sender has just ended; its name is about to go.
                drop(frame);
                drop(shared);
                if patience.is_over() {
                    return Ok(Err(Event::TimedOut(None)));
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if shared.region().is_alive(frame.receiver) {
                let who = called(shared.region().who(frame.receiver), "another process");
                return Err(Failure::failed(format!("{who} receives from '{name}' already: end it first")));
            }
            frame.receiver = shared.region().owner();
            frame.unlock();
            shared.answered.notify_all(); // the sender has somebody to wait for now
            return Ok(Ok(Self { shared, name: name.clone(), mourned: OwnerId::NOBODY }));
        }
    }

    /// Waits for an image, or for the end of the sender.
    pub(crate) fn wait(&mut self, patience: Patience) -> Result<Event, Failure> {
        let mourned = self.mourned;
        let sender = |frame: &Frame| if frame.sender == mourned { OwnerId::NOBODY } else { frame.sender };
        let there = |frame: &Frame| frame.waits_for_receiver() || frame.done.is_true();
        loop {
            match wait(&self.shared, &self.shared.offered, patience.piece(), sender, there)? {
                Event::There if self.is_done() => return Ok(Event::Done),
                Event::TimedOut(None) if is_nameless(&self.shared, &self.name) => return Ok(Event::Retired),
                Event::TimedOut(_) if !patience.is_over() => {}
                Event::Lost(who) => {
                    if let Ok(frame) = lock(&self.shared, patience)?
                        && !self.shared.region().is_alive(frame.sender)
                    {
                        self.mourned = frame.sender;
                    }
                    return Ok(Event::Lost(who));
                }
                event => return Ok(event),
            }
        }
    }

    /// Whether the sender has ended in good order and nothing is left to receive.
    fn is_done(&self) -> bool {
        matches!(lock(&self.shared, Patience::new(Some(GLANCE))),
            Ok(Ok(frame)) if frame.done.is_true() && !frame.waits_for_receiver())
    }

    /// Gives the image that is there to `process`, in place, and says that it was processed, and whether it was as it
    /// should be; `None` if there is none. If `process` fails, the image stays for another receiver.
    pub(crate) fn receive<T>(
        &self,
        patience: Patience,
        process: impl FnOnce(Image<'_>) -> Result<(bool, T), Failure>,
    ) -> Result<Option<T>, Failure> {
        let Ok(mut frame) = lock(&self.shared, patience)? else { return Ok(None) };
        if !frame.waits_for_receiver() {
            return Ok(None);
        }
        frame.taken_at = now();
        let (shape, pixels) = frame.image().ok_or_else(|| {
            Failure::failed(format!("what lies in '{}' is no image: remove it with `memlane rm --force`", self.name))
        })?;
        let (region, sender) = (self.shared.region(), frame.sender);
        let (good, result) = process(Image { sequence: frame.sequence, shape, pixels, region, sender })?;
        frame.good = Bool::new(good);
        compiler_fence(Ordering::SeqCst); // a death between the two leaves no verdict on another image
        frame.processed = Bool::TRUE;
        frame.unlock();
        self.shared.answered.notify_one();
        Ok(Some(result))
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

#[cfg(test)]
mod tests {
    use super::{Event, Patience, Receiver, Sender};
    use crate::picture::Source;
    use memlane::Name;
    use std::os::unix::fs::DirBuilderExt;
    use std::path::Path;
    use std::time::Duration;

    /// A gray image of `width` pixels in one row.
    fn row(folder: &Path, width: u32) -> Source {
        let path = folder.join(format!("{width}.png"));
        image::GrayImage::from_pixel(width, 1, image::Luma([7])).save(&path).expect("a file");
        Source::file(&path).expect("an image")
    }

    #[test]
    fn an_image_of_the_full_size_fits_and_one_byte_more_is_an_error_with_both_sizes() {
        let name = Name::unique("memlane-handoff-test").expect("a name");
        let folder = Path::new("/dev/shm").join(name.as_str());
        std::fs::DirBuilder::new().mode(0o700).create(&folder).expect("a directory");
        let patience = Patience::new(Some(Duration::from_secs(20)));
        let (fits, too_large) = (row(&folder, 5000), row(&folder, 5001));
        let name = name.in_directory(&folder);
        let sender = Sender::create(&name, 5000, patience).unwrap_or_else(|_| panic!("a fresh name"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let Ok(Ok(mut receiver)) = Receiver::attach(&name, patience) else { panic!("the sender is there") };
                assert!(matches!(receiver.wait(patience), Ok(Event::There)));
                let good = receiver.receive(patience, |image| Ok((image.pixels == [7; 5000], ())));
                assert!(matches!(good, Ok(Some(()))));
            });
            let delivered = sender.hand_over(&fits, 0, patience, |_| Ok(()));
            assert!(delivered.is_ok_and(|delivered| delivered.good));
        });
        let Err(failure) = sender.hand_over(&too_large, 1, patience, |_| Ok(())) else { panic!("it cannot fit") };
        let message = format!("{failure:?}");
        assert!(message.contains("5001 bytes") && message.contains("room for 5000"), "{message}");
        drop(sender);
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
