//! Locks of files, between threads, real processes, and `flock(1)`.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, times};
use memlane::{Error, FileLock};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(60);

fn open(dir: &Dir) -> FileLock {
    FileLock::open(dir.path().join("lock")).expect("a directory of ours")
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let mut lock = FileLock::open(PathBuf::from(&arguments[0])).expect("the parent's directory");
    match role.as_str() {
        "hold" => {
            let _guard = lock.lock().expect("it is free");
            say("held");
            hear();
        }
        "hold shared" => {
            let _guard = lock.lock_shared().expect("it is free, or shared");
            say("held");
            hear();
        }
        "count" => {
            let path = PathBuf::from(&arguments[0]).with_extension("count");
            for _ in 0..times(50, 2_000) {
                let _guard = lock.lock().expect("its turn");
                let number: u64 = std::fs::read_to_string(&path).map_or(0, |text| text.parse().expect("whole"));
                std::fs::write(&path, (number + 1).to_string()).expect("a file of ours");
            }
        }
        "fork" => fork(lock),
        other => panic!("no role {other}"),
    }
}

/// The forked child neither has the lock nor gives it back.
fn fork(mut lock: FileLock) {
    let mut other = FileLock::open(std::env::current_exe().expect("a file")).expect("a file");
    let guard = lock.lock().expect("it is free");
    // SAFETY: the child uses only memory and this library, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(guard);
        let forked = matches!(other.try_lock(), Err(Error::Forked { .. }));
        // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
        unsafe { libc::_exit(i32::from(!forked)) };
    }
    let mut status = 1;
    // SAFETY: the child is ours, and `status` is valid for writes for the duration of the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "it is told that it is a fork");
    say("forked");
    hear();
    drop(guard);
}

fn start(dir: &Dir, role: &str, says: &str) -> Child {
    let path = dir.path().join("lock");
    let mut child = spawn(dir.path(), role, &[path.to_str().expect("a plain path")]);
    child.expect(says);
    child
}

fn is_held_by(refused: Result<memlane::FileGuard<'_>, Error>, pid: u32) -> bool {
    matches!(refused, Err(Error::FileLocked { holder: Some(holder), .. }) if holder == pid)
}

#[test]
fn one_alone_or_several_together() {
    let dir = Dir::new();
    let (mut one, mut two, mut three) = (open(&dir), open(&dir), open(&dir));
    for _ in 0..2 {
        let alone = one.lock().expect("it is free");
        assert!(
            is_held_by(two.try_lock(), std::process::id()) && is_held_by(three.try_lock_shared(), std::process::id())
        );
        drop(alone);
        let shared = (two.try_lock_shared().expect("it is free"), three.lock_shared().expect("it is shared"));
        let start = Instant::now();
        assert!(matches!(one.lock_timeout(SHORT), Err(Error::FileLocked { waited, .. }) if waited >= SHORT));
        assert!(start.elapsed() < PATIENCE);
        drop(shared.0);
        assert!(one.try_lock().is_err(), "one is left");
        drop(shared.1);
    }
    drop(one.lock_timeout(SHORT).expect("it is free"));
    drop(one.lock_shared_timeout(SHORT).expect("it is free"));
}

#[test]
fn threads_wait_for_each_other() {
    let dir = Dir::new();
    let (tell, told) = mpsc::channel();
    let mut mine = open(&dir);
    let guard = mine.lock().expect("it is free");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut theirs = open(&dir);
            tell.send(theirs.try_lock().is_ok()).expect("the test listens");
            drop(theirs.lock().expect("its turn"));
            tell.send(true).expect("the test listens");
        });
        assert_eq!(told.recv_timeout(PATIENCE), Ok(false));
        drop(guard);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    });
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_killed_holder_is_named_before_and_succeeded_after() {
    let dir = Dir::new();
    let mut mine = open(&dir);
    for (role, sharing) in [("hold", false), ("hold shared", true)] {
        let mut child = start(&dir, role, "held");
        assert!(is_held_by(mine.lock_timeout(SHORT), child.pid()));
        assert_eq!(mine.try_lock_shared().is_ok(), sharing);
        let text = mine.try_lock().expect_err("it is held").to_string();
        assert!(text.contains(&format!(" is locked by pid {}, waited ", child.pid())), "{text}");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| mine.lock().map(drop));
            child.kill();
            assert!(waiter.join().expect("no panic").is_ok());
        });
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn it_is_the_lock_of_flock() {
    let dir = Dir::new();
    let mut mine = open(&dir);
    let path = dir.path().join("lock");
    let flock = |words: &[&str]| Command::new("flock").args(["--nonblock"]).args(words).arg(&path).arg("true").status();
    let Ok(free) = flock(&[]) else {
        println!("SKIPPED, flock(1) is missing: apt-get install util-linux");
        return;
    };
    assert!(free.success());
    let alone = mine.lock().expect("it is free");
    assert!(!flock(&[]).expect("it is there").success() && !flock(&["--shared"]).expect("it is there").success());
    drop(alone);
    let _shared = mine.lock_shared().expect("it is free");
    assert!(!flock(&[]).expect("it is there").success() && flock(&["--shared"]).expect("it is there").success());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn processes_exclude_each_other_though_some_are_killed() {
    let dir = Dir::new();
    let path = dir.path().join("lock");
    let path = path.to_str().expect("a plain path");
    let counters: Vec<Child> = (0..3).map(|_| spawn(dir.path(), "count", &[path])).collect();
    for _ in 0..times(5, 100) {
        start(&dir, "hold", "held").kill();
    }
    counters.into_iter().for_each(|counter| assert!(counter.finish().success()));
    let count = std::fs::read_to_string(dir.path().join("lock.count")).expect("it was written");
    assert_eq!(count.parse(), Ok(3 * times(50, 2_000)));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_forked_child_neither_has_it_nor_gives_it_back() {
    let dir = Dir::new();
    let mut mine = open(&dir);
    let mut child = start(&dir, "fork", "forked");
    assert!(is_held_by(mine.try_lock(), child.pid()));
    child.kill();
    drop(mine.lock_timeout(PATIENCE).expect("the dead keep no lock"));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "looks at files")]
fn what_is_no_file_of_ours_is_refused_with_its_path() {
    let dir = Dir::new();
    for path in [dir.path().to_owned(), dir.path().join("none").join("lock")] {
        let refused = FileLock::open(&path).expect_err("no file").to_string();
        assert!(refused.starts_with(&format!("cannot open for locking '{}': ", path.display())), "{refused}");
    }
    assert!(Command::new("mkfifo").arg(dir.path().join("fifo")).status().is_ok_and(|status| status.success()));
    let fifo = FileLock::open(dir.path().join("fifo")).expect_err("no file").to_string();
    assert!(fifo.ends_with("it is no regular file"), "{fifo}");
    std::os::unix::fs::symlink("lock", dir.path().join("link")).expect("a link");
    assert!(FileLock::open(dir.path().join("link")).is_err(), "no link is followed");
    // One that can only be read can be locked; it is made, and not changed.
    std::fs::write(dir.path().join("text"), "text").expect("a file of ours");
    std::fs::set_permissions(dir.path().join("text"), std::fs::Permissions::from_mode(0o400)).expect("it is ours");
    drop(FileLock::open(dir.path().join("text")).expect("it can be read").lock().expect("it is free"));
    assert_eq!(std::fs::read_to_string(dir.path().join("text")).expect("it is there"), "text");
}
