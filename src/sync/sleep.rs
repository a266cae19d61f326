//! How an event, a semaphore and a barrier are waited for: by one loop of sleeps, between which everything is looked
//! at.

use super::condvar::{Sleeper, Woken};
use super::spin;
use crate::error::{LockError, Who};
use crate::owner::{OwnerId, Sleep};
use crate::prim::{self, AtomicU32};
use crate::region::Attachment;

/// How closely to look whether a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// At memory alone: again and again, while spinning.
    Brief,
    /// Also whether others live, which takes system calls: before each sleep, and at the end.
    Close,
}

/// Who is named by these words, each once, as far as they are known.
pub(super) fn holders(attachment: &Attachment, owners: impl Iterator<Item = OwnerId>) -> Vec<Who> {
    let mut distinct: Vec<OwnerId> = Vec::new();
    for owner in owners.filter(|owner| !owner.is_nobody()) {
        if !distinct.contains(&owner) {
            distinct.push(owner);
        }
    }
    distinct.into_iter().filter_map(|owner| attachment.table().who(owner)).collect()
}

impl Sleeper<'_> {
    /// Sleeps until `done` has an answer, or its time or peer is gone. `prepare` says in `word` that somebody is about
    /// to sleep on it, and returns what it is then; whoever changes what `done` looks at after that changes the word
    /// too.
    pub(super) fn sleep_until<T>(
        &mut self,
        word: &AtomicU32,
        prepare: impl Fn() -> u32,
        mut done: impl FnMut(Look) -> Option<T>,
    ) -> Result<Result<T, Woken>, LockError> {
        let attachment = self.attachment;
        let offset = attachment.offset_of(word)? as u64;
        attachment.check()?;
        if let Some(answer) = done(Look::Brief) {
            return Ok(Ok(answer));
        }
        if self.slices.next().is_some()
            && let Some(answer) = spin(|| done(Look::Brief))
        {
            return Ok(Ok(answer));
        }
        while let Some(slice) = self.slices.next() {
            let prepared = prepare();
            if let Some(answer) = done(Look::Close) {
                return Ok(Ok(answer));
            }
            attachment.check()?;
            if self.is_peer_lost() {
                break;
            }
            attachment.set_sleep(Some(Sleep::Condition(offset)));
            prim::wait(word, prepared, slice);
            attachment.set_sleep(None);
            self.slices.grow();
            if let Some(answer) = done(Look::Brief) {
                return Ok(Ok(answer));
            }
            attachment.check_awake()?;
        }
        let woken = if self.is_peer_lost() { Woken::PeerLost } else { Woken::TimedOut };
        // Once more: what a peer that is dead has done, it has done before.
        Ok(done(Look::Close).ok_or(woken))
    }
}
