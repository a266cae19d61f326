//! What the words of a lock say, for somebody who looks and takes no part.

use super::{event, mutex};
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

/// What the thing of that kind says, of which these are the bytes; `None` if it is no such thing, or they are too few.
pub(crate) fn look(kind: &str, bytes: &[u8]) -> Option<Looked> {
    match kind {
        "mutex" => Some(mutex::look(u64::from_ne_bytes(*bytes.first_chunk()?))),
        "event" => Some(event::look(u32::from_ne_bytes(*bytes.first_chunk()?))),
        "condvar" => Some(Looked::new("ready")),
        _ => None,
    }
}
