//! A library that has a copy of memlane of its own, for `tests/copies.rs`: what it does, it does in the process of the other.
#![allow(missing_docs, unsafe_code)]

use memlane::{LockError, Locked, Mutex, Name, Receiver, Segment};
use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex as PrivateMutex;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

struct Opened {
    receiver: Receiver<[u8]>,
    state: Segment<Mutex<u64>>,
}

static OPENED: PrivateMutex<Option<Opened>> = PrivateMutex::new(None);

/// Does one thing with what is in `directory`; its answer is a number, a negative one if it failed.
///
/// # Safety
///
/// Both are strings that end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_copy(directory: *const c_char, wish: *const c_char) -> i64 {
    // SAFETY: as the caller says.
    let [directory, wish] = [directory, wish].map(|text| unsafe { CStr::from_ptr(text) });
    let name = |text| Name::new(text).expect("a name").in_directory(OsStr::from_bytes(directory.to_bytes()));
    let mut opened = OPENED.lock().expect("nothing panics");
    match (wish.to_str(), opened.as_mut()) {
        (Ok("open"), _) => match (Receiver::open(name("frames")), Segment::open(name("state"))) {
            (Ok(receiver), Ok(state)) => {
                *opened = Some(Opened { receiver, state });
                0
            }
            _ => -1,
        },
        (Ok("receive"), Some(opened)) => {
            opened.receiver.recv_timeout(PATIENCE).map_or(-2, |message| i64::from(message[0]))
        }
        (Ok("hold"), Some(Opened { state, .. })) => match state.lock_timeout(state, PATIENCE) {
            Ok(Locked::Clean(guard)) => {
                std::mem::forget(guard); // holds it until it is closed
                0
            }
            _ => -3,
        },
        (Ok("who holds it"), Some(Opened { state, .. })) => {
            match state.lock_timeout(state, Duration::from_millis(30)) {
                Err(LockError::TimedOut { holder: Some(who), .. }) => i64::from(who.pid),
                _ => -4,
            }
        }
        (Ok("is forked"), Some(Opened { state, .. })) => {
            i64::from(matches!(state.try_lock(state), Err(LockError::Forked { .. })))
        }
        (Ok("close"), Some(_)) => {
            *opened = None;
            0
        }
        _ => -5,
    }
}
