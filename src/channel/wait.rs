//! How the ends of a channel sleep: in slices, and never without having looked for the dead.

use super::memory::Memory;
use crate::error::LockError;
use crate::owner::Sleep;
use crate::sync::{self, Slices};
use std::time::Duration;

/// What one can sleep on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A message was sent, or a sender has gone.
    Messages,
    /// A message was let go, or a receiver has come or gone.
    Released,
}

impl Memory {
    /// Waits until `look` finds something, at most for `timeout` (for ever if `None`): `None` when the time is over. `look`
    /// is called often and must be quick, but with `true`, at the end of a sleep, it is to look who has died as well.
    pub(super) fn wait<R>(
        &self,
        on: Event,
        timeout: Option<Duration>,
        mut look: impl FnMut(bool) -> Option<R>,
    ) -> Result<Option<R>, LockError> {
        self.attachment().check()?;
        if timeout != Some(Duration::ZERO)
            && let Some(found) = look(false).or_else(|| sync::spin(|| look(false)))
        {
            return Ok(Some(found));
        }
        self.sleep(on, timeout, look)
    }

    /// Like [`wait`](Self::wait), for who has spun already.
    pub(super) fn sleep<R>(
        &self,
        on: Event,
        timeout: Option<Duration>,
        mut look: impl FnMut(bool) -> Option<R>,
    ) -> Result<Option<R>, LockError> {
        // Whoever marks that it sleeps costs the other side a system call.
        if let Some(found) = look(false) {
            return Ok(Some(found));
        }
        if timeout == Some(Duration::ZERO) {
            return Ok(look(true));
        }
        let (event, offset) = match on {
            Event::Messages => (self.messages(), super::geometry::MESSAGES),
            Event::Released => (self.released(), super::geometry::RELEASED),
        };
        let mut slices = Slices::new(timeout);
        loop {
            let prepared = event.prepare();
            if let Some(found) = look(false) {
                return Ok(Some(found));
            }
            let Some(slice) = slices.next() else { return Ok(look(true)) };
            self.attachment().set_sleep(Some(Sleep::Condition(offset)));
            event.sleep(prepared, slice);
            self.attachment().set_sleep(None);
            slices.grow();
            self.attachment().check_awake()?;
            if let Some(found) = look(false).or_else(|| look(true)) {
                return Ok(Some(found));
            }
        }
    }
}
