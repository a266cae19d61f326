//! Waiting for any of several receivers and events.

use super::geometry::MESSAGES;
use super::receiver::{Reader, Receiver};
use crate::owner::Sleep;
use crate::prim::{self, AtomicU32};
use crate::region::{Attached, Attachment};
use crate::segment::{Segment, Shareable};
use crate::sync::{self, Event, EventCount, Slices};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Names a member of a [`WaitSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u64);

/// Receivers of any channels and types, and [`Event`]s, to be waited for together. Any number of them; they can be added
/// and removed, and the wait woken, from other threads while one waits.
///
/// ```
/// # use memlane::{ChannelOptions, Receiver, Sender, WaitSet};
/// # use std::time::Duration;
/// # let [a, b] = [1, 2].map(|_| memlane::Name::unique("doc").unwrap().in_directory("/dev/shm"));
/// # let [left, right] = [&a, &b].map(|name| Sender::<[u8]>::create(name, &ChannelOptions::new()).unwrap());
/// # let [mut left_eye, mut right_eye] = [&a, &b].map(|name| Receiver::<[u8]>::open(name).unwrap());
/// let set = WaitSet::new();
/// let (l, r) = (set.add(&left_eye), set.add(&right_eye));
/// right.send_copy(b"seen")?;
///
/// for key in set.wait(Some(Duration::from_secs(1))) {
///     let eye = if key == l { &mut left_eye } else { &mut right_eye };
///     assert_eq!(&eye.recv()?[..], b"seen");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WaitSet {
    members: Mutex<Members>,
    /// Notified when the set changes, or is woken.
    changed: EventCount,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    list: Vec<(Key, Arc<dyn Member>)>,
    /// The wait that is under way, or the next one, is to end.
    woken: bool,
}

/// What can be waited for.
trait Member: fmt::Debug + Send + Sync {
    /// Says that somebody is about to sleep: on what, and while it is what.
    fn prepare(&self) -> (&AtomicU32, u32);

    /// Whether there is something to do; with `probe` it is looked who has died.
    fn is_ready(&self, probe: bool) -> bool;

    /// Says in the object that somebody sleeps, or no longer.
    fn say(&self, sleeps: bool);
}

impl Member for Reader {
    fn prepare(&self) -> (&AtomicU32, u32) {
        let messages = self.memory().messages();
        (messages.word(), messages.prepare())
    }

    fn is_ready(&self, probe: bool) -> bool {
        self.is_ready(probe)
    }

    fn say(&self, sleeps: bool) {
        self.memory().attachment().set_sleep(sleeps.then_some(Sleep::Condition(MESSAGES)));
    }
}

/// An event, by the segment that it lies in.
struct Watched<T: Shareable + ?Sized, F> {
    segment: Arc<Segment<T>>,
    event: F,
}

impl<T: Shareable + ?Sized, F: Fn(&T) -> &Event> Watched<T, F> {
    fn event(&self) -> &Event {
        (self.event)(&self.segment)
    }

    fn attachment(&self) -> &Attachment {
        self.segment.region().attachment()
    }
}

impl<T: Shareable + ?Sized, F> fmt::Debug for Watched<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl<T: Shareable + ?Sized, F: Fn(&T) -> &Event + Send + Sync> Member for Watched<T, F> {
    fn prepare(&self) -> (&AtomicU32, u32) {
        let event = self.event();
        (event.word(), event.prepare())
    }

    fn is_ready(&self, _: bool) -> bool {
        let (event, attachment) = (self.event(), self.attachment());
        let usable = attachment.check().and_then(|()| attachment.offset_of(event.word()));
        event.is_set() || usable.is_err()
    }

    fn say(&self, sleeps: bool) {
        let offset = self.attachment().offset_of(self.event().word()).ok().filter(|_| sleeps);
        self.attachment().set_sleep(offset.map(|offset| Sleep::Condition(offset as u64)));
    }
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitSet {
    /// A set without members.
    #[must_use]
    pub const fn new() -> Self {
        let members = Members { next: 0, list: Vec::new(), woken: false };
        Self { members: Mutex::new(members), changed: EventCount::new() }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Nothing in here panics half-way.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a receiver. It stays a receiver of its channel until it is removed, also if it is dropped.
    pub fn add<T: Shareable + ?Sized>(&self, receiver: &Receiver<T>) -> Key {
        self.add_member(Arc::<Reader>::clone(receiver.reader()))
    }

    /// Adds the event that `event` finds in a segment. The segment stays open until the event is removed, also if it is
    /// dropped.
    ///
    /// ```
    /// use memlane::{Event, Options, Segment, Shareable, WaitSet};
    /// use std::sync::Arc;
    ///
    /// #[derive(Shareable)]
    /// #[repr(C)]
    /// struct Camera {
    ///     ready: Event,
    ///     stop: Event,
    /// }
    ///
    /// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
    /// let camera = Arc::new(Segment::<Camera>::create(&name, (), &Options::new(), |_| ())?);
    /// let set = WaitSet::new();
    /// let ready = set.add_event(&camera, |camera| &camera.ready);
    /// let stop = set.add_event(&camera, |camera| &camera.stop);
    /// camera.stop.set();
    ///
    /// assert_eq!(set.wait(None), [stop]);
    /// assert!(camera.stop.reset(), "the set leaves it set");
    /// # Ok::<(), memlane::Error>(())
    /// ```
    pub fn add_event<T: Shareable + ?Sized + 'static>(
        &self,
        segment: &Arc<Segment<T>>,
        event: impl Fn(&T) -> &Event + Send + Sync + 'static,
    ) -> Key {
        self.add_member(Arc::new(Watched { segment: Arc::clone(segment), event }))
    }

    fn add_member(&self, member: Arc<dyn Member>) -> Key {
        let mut members = self.members();
        let key = Key(members.next);
        members.next += 1;
        members.list.push((key, member));
        drop(members);
        self.changed.notify();
        key
    }

    /// Removes a receiver or an event; false if it was not there.
    pub fn remove(&self, key: Key) -> bool {
        let mut members = self.members();
        let found = members.list.iter().position(|(its, _)| *its == key);
        let removed = found.map(|index| members.list.swap_remove(index));
        drop(members);
        self.changed.notify();
        removed.is_some()
    }

    /// How many receivers and events are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members().list.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends a wait that is under way, or else the next one.
    pub fn wake(&self) {
        self.members().woken = true;
        self.changed.notify();
    }

    /// Waits until one of the receivers has something to receive, or would say that nobody sends any more; or one of the
    /// events is set; or one of either cannot be used. At most for `timeout` (for ever if `None`). Returns all of which
    /// that is so; none if the time is over, or it was woken or [interrupted](crate::interrupt_waits). An event stays set: [`reset`](Event::reset) it, or it is
    /// returned again.
    ///
    /// It sleeps for at most 50 ms at a time, and looks then which senders have died. More than 127 members take a thread
    /// for each further 127 while it sleeps.
    pub fn wait(&self, timeout: Option<Duration>) -> Vec<Key> {
        let mut slices = Slices::new(timeout);
        let mut probe = false;
        loop {
            let changed = self.changed.prepare();
            let (list, woken) = {
                let mut members = self.members();
                (members.list.clone(), std::mem::take(&mut members.woken))
            };
            let any = || list.iter().any(|(_, member)| member.is_ready(false)).then_some(());
            if !probe && !woken && timeout != Some(Duration::ZERO) {
                sync::spin(any);
            }
            let prepared: Vec<_> = list.iter().map(|(_, member)| member.prepare()).collect();
            let ready = list.iter().filter(|(_, member)| member.is_ready(probe)).map(|(key, _)| *key);
            let ready: Vec<Key> = ready.collect();
            let slice = slices.next().filter(|_| ready.is_empty() && !woken);
            let Some(slice) = slice else { return ready };
            list.iter().for_each(|(_, member)| member.say(true));
            self.sleep((self.changed.word(), changed), &prepared, slice);
            list.iter().for_each(|(_, member)| member.say(false));
            slices.grow();
            if prim::is_interrupted() {
                return Vec::new();
            }
            probe = true;
        }
    }

    /// Sleeps on all of these words, in as many threads as it takes; who wakes first wakes the others.
    fn sleep(&self, changed: (&AtomicU32, u32), prepared: &[(&AtomicU32, u32)], slice: Duration) {
        let sleep = |group: &[(&AtomicU32, u32)]| {
            let words: Vec<_> = group.iter().chain([&changed]).copied().collect();
            prim::wait_any(&words, slice);
            self.changed.notify();
        };
        let mut groups = prepared.chunks(prim::WAIT_MOST - 1);
        let first = groups.next().unwrap_or_default();
        std::thread::scope(|scope| {
            // A group for which there is no thread is looked at when this sleep is over.
            groups.for_each(|group| drop(Builder::new().spawn_scoped(scope, move || sleep(group))));
            sleep(first);
        });
    }
}
