//! A semaphore whose permits are words that name their holders, so that those of the dead come back.
//!
//! There is no count that a death could falsify: a permit is free if its word is 0 or names nobody who lives. Method:
//! an array of owner words, each taken and given back as a robust lock's, and an eventcount for those who find none.

use super::condvar::{Sleeper, Until};
use super::eventcount::EventCount;
use super::look::Looked;
use super::sleep::{Look, holders};
use crate::error::LockError;
use crate::owner::OwnerId;
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::fmt;
use std::time::Duration;

/// `PERMITS` permits that processes take and give back: as many are inside something at a time. 8 bytes and 8 for each
/// permit; zeroed, all are free.
///
/// A permit is held by the attachment it was taken with, whichever thread gives it back, and comes back when that one
/// closes the object or its process dies: who waits sees it within 50 ms. What was written before a permit was given
/// back is seen by who takes that permit next; it guards no data against those who have another.
///
/// It is not for signalling, as nobody can give back what he has not taken: use an [`Event`](crate::Event), or a
/// channel.
///
/// ```
/// use memlane::{Options, Segment, Semaphore, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Gpu {
///     slots: Semaphore<4>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let gpu = Segment::<Gpu>::create(&name, (), &Options::new(), |_| ())?;
/// let permit = gpu.slots.acquire(&gpu)?;
/// assert_eq!(gpu.slots.available(&gpu), 3);
/// drop(permit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Semaphore<const PERMITS: usize> {
    /// Notified when a permit is given back.
    returned: EventCount,
    _reserved: AtomicU32,
    holders: [AtomicU64; PERMITS],
}

/// A permit; dropping it gives it back and wakes those who wait for one.
///
/// Forgotten (`mem::forget`), it comes back when the attachment it was taken with closes. In the child of a fork it
/// does nothing: it is the parent's.
#[must_use = "the permit is given back as soon as this is dropped"]
pub struct Permit<'a> {
    holder: &'a AtomicU64,
    returned: &'a EventCount,
    attachment: &'a Attachment,
}

impl<const PERMITS: usize> Semaphore<PERMITS> {
    /// Takes a permit, waiting until one is given back or a holder dies.
    ///
    /// # Errors
    ///
    /// [`LockError::Retired`] if the object was removed by force, also while waiting, [`LockError::Forked`],
    /// [`LockError::NotInSegment`].
    pub fn acquire<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Permit<'a>, LockError> {
        self.acquire_until(by.region().attachment(), Until::forever())
    }

    /// Takes a permit if one is free.
    ///
    /// # Errors
    ///
    /// [`LockError::NoneFree`], with the holders, if none is, and those of [`acquire`](Self::acquire).
    pub fn try_acquire<'a>(&'a self, by: &'a (impl Attached + ?Sized)) -> Result<Permit<'a>, LockError> {
        self.acquire_until(by.region().attachment(), Until::timeout(Duration::ZERO))
    }

    /// Takes a permit, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn acquire_timeout<'a>(
        &'a self,
        by: &'a (impl Attached + ?Sized),
        timeout: Duration,
    ) -> Result<Permit<'a>, LockError> {
        self.acquire_until(by.region().attachment(), Until::timeout(timeout))
    }

    /// How many permits nobody who lives holds, as `by` sees it now: others may take them at any time.
    #[must_use]
    pub fn available(&self, by: &(impl Attached + ?Sized)) -> usize {
        let attachment = by.region().attachment();
        self.owners().filter(|owner| owner.is_nobody() || attachment.is_dead(*owner)).count()
    }

    fn owners(&self) -> impl Iterator<Item = OwnerId> {
        // ORDERING: Acquire pairs with the exchange in `take`: who is found in a word is found in the table too.
        self.holders.iter().map(|holder| OwnerId::in_word(holder.load(Ordering::Acquire)))
    }

    fn acquire_until<'a>(&'a self, attachment: &'a Attachment, until: Until) -> Result<Permit<'a>, LockError> {
        let permit = |holder| Permit { holder, returned: &self.returned, attachment };
        if attachment.may_lock(&self.returned)
            && let Some(holder) = self.take(attachment, Look::Brief)
        {
            return Ok(permit(holder));
        }
        let mut sleeper = Sleeper::new(attachment, until);
        let take = |look| self.take(attachment, look);
        let taken = sleeper.sleep_until(self.returned.word(), || self.returned.prepare(), take)?;
        taken.map(permit).map_err(|_| self.none_free(attachment, sleeper.slices.waited()))
    }

    /// Takes a word that is free, or, if there is none, looks for one whose holder is dead.
    fn take(&self, attachment: &Attachment, look: Look) -> Option<&AtomicU64> {
        const { assert!(PERMITS > 0, "a semaphore has at least one permit") };
        let me = attachment.me();
        let first = me.word() as usize % PERMITS;
        let (before, after) = self.holders.split_at(first);
        let claim = |is_free: &dyn Fn(&OwnerId) -> bool| {
            after.iter().chain(before).find(|holder| {
                // ORDERING: as in `owners`.
                let seen = holder.load(Ordering::Acquire);
                // ORDERING: Acquire pairs with the Release by which the last holder gave it back; one that died
                // released nothing, but the system that reported its death orders all it did before. Release: as in
                // `owners`.
                let exchange = || holder.compare_exchange(seen, me.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
                is_free(&OwnerId::in_word(seen)) && exchange()
            })
        };
        let free = claim(&|owner| owner.is_nobody());
        free.or_else(|| if look == Look::Close { claim(&|owner| attachment.is_dead(*owner)) } else { None })
    }

    #[cold]
    fn none_free(&self, attachment: &Attachment, waited: Duration) -> LockError {
        let holders = holders(attachment, self.owners());
        let lock = attachment.offset_of(&self.returned).map(|offset| attachment.lock_at(offset));
        LockError::NoneFree { object: attachment.name(), lock: lock.unwrap_or_default(), of: "permit", waited, holders }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let me = self.attachment.me().word();
        // ORDERING: Release pairs with the Acquire of who takes this permit next. Only an exchange: whoever has it by
        // now, if the word was overwritten, keeps it.
        let gives_back = || self.holder.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed).is_ok();
        // The child of a fork holds nothing: the permit is its parent's.
        if !self.attachment.is_forked() && gives_back() {
            self.returned.notify_after_exchange();
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl<const PERMITS: usize> fmt::Debug for Semaphore<PERMITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.owners().filter(|owner| !owner.is_nobody()).count();
        f.debug_struct("Semaphore").field("permits", &PERMITS).field("taken", &taken).finish_non_exhaustive()
    }
}

/// What the words of its permits say; those of the dead are free.
pub(super) fn look(permits: impl Iterator<Item = u64>) -> Looked {
    let owners: Vec<OwnerId> = permits.map(OwnerId::in_word).collect();
    let taken: Vec<OwnerId> = owners.iter().copied().filter(|owner| !owner.is_nobody()).collect();
    let state = format!("{} of {} taken", taken.len(), owners.len());
    Looked { holders: taken.into_iter().map(|owner| (owner, "has a permit")).collect(), ..Looked::new(state) }
}
