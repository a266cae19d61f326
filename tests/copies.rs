//! Two copies of the library in one process, as when a program and a plug-in of it were built with memlane each: they know
//! nothing of each other, and are to each other as two processes.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, role, say, spawn};
use memlane::{ChannelOptions, LockError, Locked, Mutex, Name, Options, Outcome, Segment, Sender};
use std::ffi::{CString, c_char};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

type SecondCopy = unsafe extern "C" fn(*const c_char, *const c_char) -> i64;

/// The library that `tests/copies/second.rs` is.
fn library() -> PathBuf {
    let binary = std::env::current_exe().expect("the test binary");
    let profile = binary.ancestors().nth(2).expect("it lies in `deps`");
    let library = profile.join("examples/libsecond_copy.so");
    assert!(library.exists(), "{} is missing: `cargo build --example second_copy`", library.display());
    library
}

#[test]
#[ignore = "a child process of the other test"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "two copies" => two_copies(&arguments[0]),
        other => panic!("no role {other}"),
    }
}

#[test]
fn two_copies_in_one_process_are_as_two_processes() {
    let dir = Dir::new();
    let library = library();
    let mut child = spawn(dir.path(), "two copies", &[library.to_str().expect("a plain path")]);
    assert_eq!(child.hear_or_kill().as_deref(), Some("right"));
    assert!(child.finish().success());
    assert_eq!(dir.files(), [""; 0]);
}

fn two_copies(library: &str) {
    let text = |text: &str| CString::new(text).expect("no zero");
    // SAFETY: the library is ours, and has this function.
    let second: SecondCopy = unsafe {
        let handle = libc::dlopen(text(library).as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!handle.is_null(), "it cannot be loaded");
        let symbol = libc::dlsym(handle, c"second_copy".as_ptr());
        assert!(!symbol.is_null(), "it has no such function");
        std::mem::transmute::<*mut libc::c_void, SecondCopy>(symbol)
    };
    let directory = text(&std::env::var("MEMLANE_DIR").expect("the parent says where"));
    // SAFETY: both are strings, and outlive the call.
    let ask = |wish: &str| unsafe { second(directory.as_ptr(), text(wish).as_ptr()) };
    let name = |text| Name::new(text).expect("a name");
    let sender = Sender::<[u8]>::create(name("frames"), &ChannelOptions::new()).expect("a fresh channel");
    let state = Segment::<Mutex<u64>>::create(name("state"), (), &Options::new(), |_| ()).expect("a fresh object");

    assert_eq!(ask("open"), 0);
    let ticket = sender.send_copy(&[42; 100]).expect("there is room");
    assert_eq!(ask("receive"), 42);
    let handled = ticket.wait(Some(PATIENCE)).expect("it was dealt with");
    assert_eq!(handled.iter().map(|handled| handled.outcome).collect::<Vec<_>>(), [Outcome::Processed]);

    // The list of the locks that a thread holds is each copy's own.
    let held = state.lock(&state).expect("free").or_repair(|_| ());
    assert_eq!(ask("who holds it"), i64::from(std::process::id()));
    drop(held);
    assert_eq!(ask("hold"), 0);
    match state.lock_timeout(&state, Duration::from_millis(30)) {
        Err(LockError::TimedOut { holder: Some(who), .. }) => assert_eq!(who.pid, std::process::id()),
        other => panic!("the other copy holds it: {other:?}"),
    }

    // Each closes, in a forked child, what is its own.
    // SAFETY: the child uses only what fork handlers keep usable, memory and the two copies, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let right = matches!(state.try_lock(&state), Err(LockError::Forked { .. })) && ask("is forked") == 1;
        // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let mut status = -1;
    // SAFETY: the child is ours, and the status may be written.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(ask("is forked"), 0);

    assert_eq!(ask("close"), 0);
    assert!(matches!(state.lock_timeout(&state, PATIENCE), Ok(Locked::OwnerDied(_))), "it let go of all it held");
    assert!(sender.receivers().is_empty());
    say("right");
}
