//! What a process leaves to its children: no lock, however they were made.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{
    Barrier, ChannelOptions, Error, Event, Loan, LockError, Locked, Message, Mutex, Name, Once, Options, Persistence,
    Receiver, ReentrantMutex, RwLock, Segment, Semaphore, SendError, Sender, SeqCell, Shareable, SharedMemory, Ticket,
    Until, Versioned, WaitError,
};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    value: Mutex<u64>,
    spare: Mutex<u64>,
    free: Mutex<u64>,
    event: Event,
    permits: Semaphore<1>,
    barrier: Barrier<1>,
    count: Versioned<u64>,
    cell: SeqCell<u64>,
    once: Once<u64>,
}

/// What is held in all the ways there are.
#[derive(Shareable)]
#[repr(C)]
struct Ways {
    read: RwLock<u64>,
    written: RwLock<u64>,
    downgraded: RwLock<u64>,
    reentrant: ReentrantMutex<u64>,
}

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, (), &Options::new(), |_| ()).expect("a fresh object")
}

#[test]
#[ignore = "a child process of the other tests"]
#[expect(clippy::zombie_processes, reason = "what is left behind outlives the one who started it")]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "fork" => fork(&Segment::open("cam").expect("it is there")),
        "leave a program behind" => {
            let shared = Segment::<Shared>::open("cam").expect("it is there");
            let _held = shared.value.lock(&shared).expect("the lock");
            Command::new("cat").stdout(Stdio::null()).spawn().expect("a program that ends with the pipe from the test");
            say("left");
            loop {
                std::thread::park(); // until it is killed
            }
        }
        "fork with a permit" => fork_with_a_permit(&Segment::open("cam").expect("it is there")),
        "fork with a channel" => fork_with_a_channel(),
        "fork with guards" => fork_with_guards(&Segment::open("ways").expect("it is there")),
        "raw clones" => raw_clones(),
        "be the first twice" => be_the_first_twice(),
        other => panic!("no role {other}"),
    }
}

/// Forks while it holds two locks. The forked child first tries what it inherited, then an opening of its own.
fn fork(shared: &Segment<Shared>) {
    let name = shared.region().name();
    // More than one chunk of the descriptors that the child is to close: the last of them holds a lock.
    let others: Vec<Segment<Shared>> = (0..70).map(|_| Segment::open(name).expect("it is there")).collect();
    let last = others.last().expect("the last");
    let unmapped = SharedMemory::open(name).expect("it is there");
    let held = shared.value.lock(shared).expect("the lock").or_repair(|_| ());
    let spare = last.spare.lock(last).expect("the lock").or_repair(|_| ());
    // SAFETY: the child uses only what fork handlers keep usable, memory and this library, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child > 0 {
        let (done, opened) = mpsc::channel();
        let name = name.clone();
        std::thread::spawn(move || done.send(Segment::<Shared>::open(name).map(drop)));
        say(&format!("opens: {:?}", opened.recv_timeout(PATIENCE)));
        // Lives until it is killed; a child that ends before that has failed, and so has this.
        // SAFETY: the child is ours, and what may be null is null; ends this process at once.
        unsafe {
            libc::waitpid(child, std::ptr::null_mut(), 0);
            libc::_exit(1)
        };
    }
    hear(); // the parent has said what it had to say
    say(&format!("{:?}", shared.value.try_lock(shared).map(drop)));
    say(&format!("{:?}", shared.free.try_lock(shared).map(drop)));
    say(&format!("{:?}", shared.event.wait(shared, Until::timeout(PATIENCE))));
    say(&format!("{:?}", shared.event.take(shared, Until::timeout(PATIENCE))));
    say(&format!("{:?}", unmapped.map().map(drop)));
    // The numbers of the descriptors that were closed are those of other files now.
    let files: Vec<File> = (0..200).map(|_| File::open("/dev/null").expect("a file")).collect();
    say(&format!("alive: {}", shared.region().is_alive(last.region().owner())));
    drop(files);
    let again = Segment::<Shared>::open(name).expect("it is there");
    drop(spare);
    drop(others);
    match again.value.try_lock(&again) {
        Err(LockError::TimedOut { holder: Some(who), .. }) => say(&format!("held by {}", who.pid)),
        other => say(&format!("{other:?}")),
    }
    hear(); // the parent process is dead by now, or locked by somebody else
    let died = matches!(again.value.lock_timeout(&again, PATIENCE), Ok(Locked::OwnerDied(_)));
    say(&format!("owner died: {died}"));
    hear();
    std::mem::forget(held);
    // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
    unsafe { libc::_exit(0) };
}

#[test]
fn a_forked_child_holds_nothing_and_its_parents_death_is_seen() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam"));
    mine.event.set();
    let mut parent = spawn(dir.path(), "fork", &[]);
    parent.expect("opens: Ok(Ok(()))");
    parent.say("go on");
    parent.expect(r#"Err(Forked { object: "cam" })"#);
    parent.expect(r#"Err(Forked { object: "cam" })"#);
    parent.expect(r#"Err(Lock(Forked { object: "cam" }))"#);
    parent.expect(r#"Err(Lock(Forked { object: "cam" }))"#);
    assert!(mine.event.is_set(), "a forked child takes nothing");
    parent.expect(r#"Err(Forked { name: "cam" })"#);
    parent.expect("alive: true"); // what cannot be probed is not dead
    parent.expect(&format!("held by {}", parent.pid()));
    for lock in [&mine.value, &mine.spare] {
        assert!(matches!(lock.try_lock(&mine), Err(LockError::TimedOut { .. })), "the parent lives and holds it");
    }
    parent.kill();
    for lock in [&mine.value, &mine.spare] {
        match lock.lock_timeout(&mine, PATIENCE) {
            Ok(Locked::OwnerDied(died)) => drop(died), // not repaired: the forked child is to see it, too
            other => panic!("the parent's death is not seen: {other:?}"),
        }
    }
    parent.say("go on");
    parent.expect("owner died: true");
    parent.say("end");
    assert_eq!(parent.hear(), None);
}

/// Forks while it holds each lock. The forked child drops all guards.
fn fork_with_guards(ways: &Segment<Ways>) {
    let read = ways.read.read(ways).expect("the lock");
    let written = ways.written.write(ways).expect("the lock").or_repair(|_| ());
    let downgraded = ways.downgraded.write(ways).expect("the lock").or_repair(|_| ());
    let reentrant = ways.reentrant.lock(ways).expect("the lock").or_repair(|_| ());
    // SAFETY: the child uses only what fork handlers keep usable, memory and this library.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop((read, written, downgraded.downgrade(), reentrant));
        say(&format!("{:?}", ways.read.try_read(ways).map(drop)));
        hear();
        // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the child is ours, and what may be null is null.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

#[test]
fn a_forked_child_gives_back_none_of_its_parents_locks() {
    let dir = Dir::new();
    let mine = Segment::<Ways>::create(dir.name("ways"), (), &Options::new(), |_| ()).expect("a fresh object");
    let mut parent = spawn(dir.path(), "fork with guards", &[]);
    parent.expect(r#"Err(Forked { object: "ways" })"#);
    let held = |error: Option<LockError>| matches!(error, Some(LockError::TimedOut { .. }));
    assert!(mine.read.try_read(&mine).is_ok() && held(mine.read.try_write(&mine).err()));
    assert!(held(mine.written.try_read(&mine).err()), "the parent writes");
    assert!(held(mine.downgraded.try_read(&mine).err()), "the parent writes");
    assert!(held(mine.reentrant.try_lock(&mine).err()));
    assert!(parent.finish().success());
    assert!(mine.written.try_read(&mine).is_ok() && mine.reentrant.try_lock(&mine).is_ok());
}

/// Forks while it has a permit and a seat. The forked child drops them, and tries what else there is.
fn fork_with_a_permit(shared: &Segment<Shared>) {
    let permit = shared.permits.acquire(shared).expect("it is free");
    let mut party = shared.barrier.join(shared).expect("a seat");
    // SAFETY: the child uses only what fork handlers keep usable, memory and this library, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_forked = |ended: Result<(), LockError>| matches!(ended, Err(LockError::Forked { .. }));
        let waited = party.wait(Until::timeout(PATIENCE));
        let refused = [
            is_forked(shared.permits.acquire(shared).map(drop)),
            matches!(waited, Err(WaitError::Lock(LockError::Forked { .. }))),
            is_forked(shared.barrier.join(shared).map(drop)),
            is_forked(shared.barrier.reset(shared).map(drop)),
            is_forked(shared.count.write(shared, 1)),
            is_forked(shared.cell.read(shared).map(drop)),
            is_forked(shared.once.get_or_init(shared, |_| ()).map(drop)),
            shared.count.read() == 0,
        ];
        drop((permit, party));
        // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
        unsafe { libc::_exit(i32::from(refused != [true; 8])) };
    }
    let mut status = 1;
    // SAFETY: the child is ours, and `status` is valid for writes for the duration of the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    say(&format!("ended with {status}"));
    hear();
    assert!(party.wait(Until::timeout(PATIENCE)).is_ok(), "its seat is its own");
    drop(permit);
    say("done");
}

#[test]
fn a_forked_child_has_no_permit_and_no_seat() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam"));
    let mut parent = spawn(dir.path(), "fork with a permit", &[]);
    parent.expect("ended with 0");
    assert!(matches!(mine.permits.try_acquire(&mine), Err(LockError::NoneFree { .. })), "it was not given back");
    assert!(mine.barrier.join(&mine).is_err() && !mine.barrier.is_broken());
    parent.say("go on");
    parent.expect("done");
}

/// Forks while it has everything there is of a channel. The forked child uses and drops it all.
fn fork_with_a_channel() {
    let sender = Sender::<[u8]>::open("cam").expect("it is there");
    let mut receiver = Receiver::<[u8]>::open("cam").expect("it is there");
    let tickets: Vec<Ticket> = (0..3).map(|_| sender.send_copy(&[7; 500]).expect("there is room")).collect();
    let ticket = tickets[0].clone();
    let mut messages = [(); 2].map(|()| Some(receiver.recv().expect("a message")));
    let loans = sender.loan_many(3, 500).expect("buffers");
    // SAFETY: the child uses only what fork handlers keep usable, memory and this library, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        say("born");
        hear(); // all bytes were looked at
        let mut loans = loans.into_iter();
        drop(loans.next());
        let send = |loan: Option<Loan>| loan.map(|loan| loan.send().map(drop).map_err(SendError::from));
        say(&format!("{:?}", send(loans.next())));
        say(&format!("{:?}", Loan::send_many(&mut loans.collect()).map(drop)));
        say(&format!("{:?}", sender.loan(500).map(drop)));
        say(&format!("{:?}", sender.loan(5).expect("its own memory").set_metadata(b"x")));
        say(&format!("{:?}", sender.wait_for_receivers(1, None)));
        say(&format!("{:?}", receiver.recv().map(drop)));
        say(&format!("{:?}", receiver.try_recv().map(drop)));
        say(&format!("{:?}", receiver.recv_many(2).map(drop)));
        say(&format!("{:?}", receiver.latest().map(drop)));
        say(&format!("{:?}", receiver.wait(None)));
        say(&format!("{:?}", receiver.wait_for_sender(None)));
        say(&format!("{:?}", ticket.wait(None).map(drop)));
        say(&format!("{:?}", ticket.wait_processed(None)));
        receiver.rewind();
        messages[0].take().into_iter().for_each(Message::give_back);
        drop((messages, ticket, tickets, sender, receiver));
        say("dropped");
        hear();
        // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the child is ours, and what may be null is null.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert!(messages.iter().flatten().all(|message| message[..] == [7; 500]));
    drop(messages);
    for loan in loans {
        loan.send().expect("there is room");
    }
    assert_eq!(receiver.latest().expect("nothing is wrong").expect("a message").sequence(), 6);
    assert_eq!(ticket.wait(None).expect("it was let go").len(), 1);
    say("right");
    drop_loans_in_children(&sender);
    say("right");
}

/// Forks at any moment of a thread that sends.
fn drop_loans_in_children(sender: &Sender) {
    let done = AtomicBool::new(false);
    let loan = sender.loan(500).expect("a buffer");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _full = sender.loan(500).map(|loan| loan.try_send().map(drop));
            }
        });
        for _ in 0..50 {
            let mut status = -1;
            // SAFETY: the child uses only memory and this library, and ends at once, or when its time is over; the status
            // may be written.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::alarm(PATIENCE.as_secs() as u32);
                    drop(loan);
                    libc::_exit(0);
                }
                libc::waitpid(child, &raw mut status, 0);
            }
            if status != 0 {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(status, 0, "the forked child hangs");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_forked_child_changes_nothing_in_a_channel() {
    let dir = Dir::new();
    let options = ChannelOptions::new().max_message(1000).slots(4).loans(3).persistence(Persistence::Keep);
    drop(Sender::<[u8]>::create(dir.name("cam"), &options).expect("a fresh channel"));
    let mut parent = spawn(dir.path(), "fork with a channel", &[]);
    let bytes = || std::fs::read(dir.path().join("cam")).expect("the channel");
    parent.expect("born");
    let before = bytes();
    parent.say("go on");
    let forked = r#"Forked { object: "cam" }"#;
    parent.expect(&format!("Some(Err(Unusable({forked})))"));
    for _ in 0..12 {
        parent.expect(&format!("Err(Unusable({forked}))"));
    }
    parent.expect("dropped");
    assert_eq!(before, bytes(), "the forked child has changed something");
    parent.say("go on");
    parent.expect("right");
    assert_eq!(parent.hear_or_kill().as_deref(), Some("right"));
    assert!(parent.finish().success());
}

#[test]
fn a_child_with_its_parents_pid_can_use_memlane() {
    let dir = Dir::new();
    let _mine = create(&dir.name("cam"));
    let mut child = spawn(dir.path(), "be the first twice", &[]);
    match child.hear().expect("an answer") {
        // Not `eprintln`: the test harness would swallow it.
        said if said.starts_with("SKIPPED") => drop(writeln!(std::io::stderr(), "{said}")),
        said => assert_eq!(said, "pid 1 opens: Ok(Ok(()))"),
    }
}

fn be_the_first_twice() {
    // Who may not do it may in a user namespace of its own, which only a process of one thread can make.
    go_on_in_a_child();
    if let Err(error) = be_the_first(0).or_else(|_| be_the_first(libc::CLONE_NEWUSER)) {
        say(&format!("SKIPPED, no PID namespace: {error}"));
        // SAFETY: ends this process at once; it is a copy of a part of the test harness.
        unsafe { libc::_exit(0) };
    }
    let _parents = Segment::<Shared>::open("cam").expect("it is there");
    be_the_first(0).expect("a namespace in a namespace");
    let (done, opened) = mpsc::channel();
    std::thread::spawn(move || done.send(Segment::<Shared>::open("cam").map(drop)));
    say(&format!("pid {} opens: {:?}", std::process::id(), opened.recv_timeout(PATIENCE)));
    // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
    unsafe { libc::_exit(0) };
}

/// Goes on as the first process of a PID namespace of its own.
fn be_the_first(more: libc::c_int) -> std::io::Result<()> {
    // SAFETY: the call takes no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWPID | more) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    go_on_in_a_child();
    Ok(())
}

/// Forks; the parent only waits for the child's end.
fn go_on_in_a_child() {
    // SAFETY: what may be null is null; the child uses only what fork handlers keep usable, memory and this library.
    unsafe {
        let child = libc::fork();
        if child != 0 {
            libc::waitpid(child, std::ptr::null_mut(), 0);
            libc::_exit(0);
        }
    }
}

#[test]
fn a_program_that_is_executed_holds_nothing() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam"));
    let mut parent = spawn(dir.path(), "leave a program behind", &[]);
    parent.expect("left");
    assert!(matches!(mine.value.try_lock(&mine), Err(LockError::TimedOut { .. })));
    parent.kill();
    assert!(matches!(mine.value.lock_timeout(&mine, PATIENCE), Ok(Locked::OwnerDied(_))), "the program lives on");
}

/// Children made without libc's `fork`, which keep every descriptor. They do nothing, and end with this.
struct RawClones(Vec<libc::pid_t>);

impl RawClones {
    fn add(&mut self) {
        // SAFETY: like `fork`; the child touches no memory that another thread may have been about to change.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            loop {
                // SAFETY: the calls take no pointers. Should its parent be killed, the child ends with it.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            }
        }
        self.0.push(pid as libc::pid_t);
    }
}

impl Drop for RawClones {
    fn drop(&mut self) {
        for pid in &self.0 {
            // SAFETY: the child is ours, and what may be null is null.
            unsafe {
                libc::kill(*pid, libc::SIGKILL);
                libc::waitpid(*pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

#[test]
fn what_is_closed_is_free_although_a_raw_clone_still_has_it() {
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "raw clones", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

/// In a process of its own, because a clone has the pipes of all tests, too.
fn raw_clones() {
    let mine = create(&Name::new("cam").expect("a name"));
    let mut clones = RawClones(Vec::new());
    let other = Segment::<Shared>::open("cam").expect("it is there");
    let owner = other.region().owner();
    clones.add();
    drop(other);
    assert!(!mine.region().is_alive(owner));
    // Some of these are born while the directory is locked: at another moment each of an opening.
    let (done, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Segment::<Shared>::open("cam").map(drop)?;
                opened.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        });
        for pause in 0..200 {
            let before = opened.load(Ordering::Relaxed);
            while opened.load(Ordering::Relaxed) == before && !user.is_finished() {
                std::hint::spin_loop();
            }
            (0..pause * 10).for_each(|_| std::hint::spin_loop());
            clones.add();
        }
        done.store(true, Ordering::Relaxed);
        let used = user.join().expect("no panic");
        assert!(used.is_ok(), "the directory is locked by nobody who lives: {used:?}");
    });
    assert!(Segment::<Shared>::open("cam").is_ok());
    drop(clones);
    say("right");
}
