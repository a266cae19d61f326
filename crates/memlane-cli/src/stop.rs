//! What ends a wait: Ctrl-C, being told to end, and the end of patience. Every wait is made of pieces of at most
//! [`GLANCE`], so that it can end in good order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    pub(crate) fn piece(self) -> Duration {
        self.timeout.map_or(GLANCE, |timeout| timeout.saturating_sub(self.start.elapsed()).min(GLANCE))
    }

    pub(crate) fn waited(self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn is_over(self) -> bool {
        self.piece().is_zero()
    }
}
