//! What the words of a lock say, for somebody who looks and takes no part.

use super::{barrier, event, mutex, rwlock, semaphore};
use crate::owner::OwnerId;

/// How a thing that processes wait for stands.
#[derive(Debug)]
pub(crate) struct Looked {
    /// In a word or two.
    pub(crate) state: String,
    /// Who holds it, and what it does.
    pub(crate) holders: Vec<(OwnerId, &'static str)>,
    /// Whether what it guards may be half-changed.
    pub(crate) needs_repair: bool,
}

impl Looked {
    pub(super) fn new(state: impl Into<String>) -> Self {
        Self { state: state.into(), holders: Vec::new(), needs_repair: false }
    }
}

/// The words of these bytes, from `skip` words on.
pub(super) fn words(bytes: &[u8], skip: usize) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().skip(skip).map(|word| u64::from_ne_bytes(*word))
}

/// What the thing of that kind says, of which these are the bytes; `None` if it is no such thing, or they are too few.
pub(crate) fn look(kind: &str, bytes: &[u8]) -> Option<Looked> {
    let first = words(bytes, 0).next();
    match kind {
        "mutex" | "reentrant mutex" => first.map(mutex::look),
        "rwlock" => Some(rwlock::look(first?, words(bytes, 1))),
        "semaphore" => Some(semaphore::look(words(bytes, 1))),
        "barrier" => barrier::look(words(bytes, 1)),
        "once" => Some(Looked::new(if first? == 0 { "not initialised" } else { "initialised" })),
        "event" => Some(event::look(u32::from_ne_bytes(*bytes.first_chunk()?))),
        "condvar" => Some(Looked::new("ready")),
        _ => None,
    }
}
