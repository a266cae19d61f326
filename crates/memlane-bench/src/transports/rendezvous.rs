//! How the two sides of a peer find each other: texts in the directory that they share.

use crate::transport::{PATIENCE, Setup};
use std::fmt::Display;
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Tries until something comes of it.
pub(super) fn wait<T>(what: impl Display, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        let patience = PATIENCE.as_secs();
        assert!(
            start.elapsed() < PATIENCE,
            "{what} did not come within {patience} s: see whether the other side failed"
        );
        thread::sleep(Duration::from_micros(100));
    }
}

/// Says something to the other side.
pub(super) fn tell(setup: &Setup, label: &str, text: &str) {
    let [draft, path] = [format!("{label}.draft"), label.to_owned()].map(|name| setup.directory.join(name));
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, &path))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}; is /dev/shm full?", path.display()));
}

/// Waits for what the other side says.
pub(super) fn hear(setup: &Setup, label: &str) -> String {
    let path = setup.directory.join(label);
    let text = wait(path.display(), || fs::read_to_string(&path).ok());
    fs::remove_file(&path).unwrap_or_else(|error| panic!("cannot remove {}: {error}", path.display()));
    text
}

/// Waits until both sides are here.
pub(super) fn meet(setup: &Setup, place: &str) {
    let (mine, theirs) = (setup.role.name(), setup.role.other().name());
    tell(setup, &format!("{place}.{mine}"), "");
    hear(setup, &format!("{place}.{theirs}"));
}
