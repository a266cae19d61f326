//! Waiting for any of several receivers.

use super::geometry::MESSAGES;
use super::receiver::{Reader, Receiver};
use crate::owner::Sleep;
use crate::prim;
use crate::segment::Shareable;
use crate::sync::{self, EventCount, Slices};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Names a member of a [`WaitSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u64);

/// Receivers of any channels and types, to be waited for together. Any number of them; they can be added and removed, and
/// the wait woken, from other threads while one waits.
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
    list: Vec<(Key, Arc<Reader>)>,
    /// The wait that is under way, or the next one, is to end.
    woken: bool,
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
        let mut members = self.members();
        let key = Key(members.next);
        members.next += 1;
        members.list.push((key, Arc::clone(receiver.reader())));
        drop(members);
        self.changed.notify();
        key
    }

    /// Removes a receiver; false if it was not there.
    pub fn remove(&self, key: Key) -> bool {
        let mut members = self.members();
        let found = members.list.iter().position(|(its, _)| *its == key);
        let removed = found.map(|index| members.list.swap_remove(index));
        drop(members);
        self.changed.notify();
        removed.is_some()
    }

    /// How many receivers are in it.
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

    /// Waits until one of the receivers has something to receive, or would say that nobody sends any more or that it
    /// cannot be used; at most for `timeout` (for ever if `None`). Returns all of which that is so; none if the time is
    /// over, or it was woken.
    ///
    /// It sleeps for at most 50 ms at a time, and looks then which senders have died. More than 127 members take a thread
    /// for each further 127 while it sleeps.
    pub fn wait(&self, timeout: Option<Duration>) -> Vec<Key> {
        let mut slices = Slices::new(timeout);
        let mut probe = false;
        loop {
            let changed = self.changed.prepare();
            let (readers, woken) = {
                let mut members = self.members();
                (members.list.clone(), std::mem::take(&mut members.woken))
            };
            let any = || readers.iter().any(|(_, reader)| reader.is_ready(false)).then_some(());
            if !probe && !woken && timeout != Some(Duration::ZERO) {
                sync::spin(any);
            }
            let prepared: Vec<_> = readers
                .iter()
                .map(|(_, reader)| (reader.memory().messages(), reader.memory().messages().prepare()))
                .collect();
            let ready = readers.iter().filter(|(_, reader)| reader.is_ready(probe)).map(|(key, _)| *key);
            let ready: Vec<Key> = ready.collect();
            let slice = slices.next().filter(|_| ready.is_empty() && !woken);
            let Some(slice) = slice else { return ready };
            let say = |sleep| readers.iter().for_each(|(_, reader)| reader.memory().attachment().set_sleep(sleep));
            say(Some(Sleep::Condition(MESSAGES)));
            self.sleep((&self.changed, changed), &prepared, slice);
            say(None);
            slices.grow();
            probe = true;
        }
    }

    /// Sleeps on all of these words, in as many threads as it takes; who wakes first wakes the others.
    fn sleep(&self, changed: (&EventCount, u32), prepared: &[(&EventCount, u32)], slice: Duration) {
        let sleep = |group: &[(&EventCount, u32)]| {
            let words: Vec<_> = group.iter().chain([&changed]).copied().collect();
            EventCount::sleep_on_any(&words, slice);
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
