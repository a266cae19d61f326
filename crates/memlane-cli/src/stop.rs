//! Ctrl-C, and being told to end: noticed within [`GLANCE`], so that every wait can end in good order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a wait goes on before it looks whether it is to end.
pub(crate) const GLANCE: Duration = Duration::from_millis(100);

static STOPPED: AtomicBool = AtomicBool::new(false);
static IGNORED: AtomicBool = AtomicBool::new(false);

/// Starts to listen for Ctrl-C, hang-up and termination.
pub(crate) fn listen() {
    // Without a handler the signals end the process at once, which memlane survives as any other death.
    let _ = ctrlc::set_handler(|| STOPPED.store(true, Ordering::Relaxed));
}

/// Whether this process is to end.
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed) && !IGNORED.load(Ordering::Relaxed)
}

/// Lets another process decide: from now on this one does not end for a signal.
pub(crate) fn ignore() {
    IGNORED.store(true, Ordering::Relaxed);
}
