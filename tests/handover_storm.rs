//! Objects without a name that are handed over in a storm of `kill -9`: whoever receives one can use it, or is told that it or
//! its sender is gone; what it holds is consistent or marked; nobody hangs, and no descriptor is left.
#![allow(missing_docs)]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Child, Dir, role, say, spawn, times};
use memlane::{Error, LockError, Locked, Mutex, Name, Options, Segment, Shareable};
use random::Random;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Who hands over; each has an object of its own.
const BROKERS: usize = 2;
const WORKERS: usize = 4;

#[derive(Debug, Shareable)]
#[repr(C)]
struct Account {
    balance: Mutex<Balance>,
}

/// Equal, but for what a death leaves.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Balance {
    here: u64,
    there: u64,
}

#[test]
#[ignore = "a child process of the other test"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let addresses: Vec<SocketAddr> =
        arguments.iter().map(|name| SocketAddr::from_abstract_name(name).expect("a name")).collect();
    match role.as_str() {
        "broker" => broker(&addresses[0]),
        "worker" => worker(&addresses),
        other => panic!("no role {other}"),
    }
}

/// Hands its object over to whoever comes, and changes it meanwhile.
fn broker(address: &SocketAddr) {
    let name = Name::anonymous("account").expect("a label");
    let account = Segment::<Account>::create(name, (), &Options::new(), |_| ()).expect("a fresh object");
    // A predecessor's socket goes with it, which may take a moment.
    let start = Instant::now();
    let listener = loop {
        match UnixListener::bind_addr(address) {
            Ok(listener) => break listener,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    };
    say("ready");
    loop {
        let (socket, _) = listener.accept().expect("a socket");
        match account.region().send_over(&socket) {
            Ok(()) => {}
            Err(Error::HandOver { kind: ErrorKind::BrokenPipe | ErrorKind::ConnectionReset, .. }) => {}
            Err(error) => panic!("neither sent nor alone: {error}"),
        }
        change(&account);
    }
}

/// Pays in; gives what is in order back.
fn change(account: &Segment<Account>) {
    let mut balance = match account.balance.lock_timeout(account, PATIENCE) {
        Ok(Locked::Clean(balance)) => {
            assert_eq!(balance.here, balance.there, "half a payment without a mark");
            balance
        }
        Ok(Locked::OwnerDied(mut died)) => {
            died.there = died.here;
            died.mark_consistent()
        }
        Err(LockError::TimedOut { holder, .. }) => panic!("it hangs: {holder:?}"),
        Err(error) => panic!("{error}"),
    };
    balance.here += 1;
    std::hint::black_box(&mut balance);
    balance.there += 1;
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the list").count()
}

/// Gets an object from one broker or another, uses it, and sends it on to itself; says how often that went well.
fn worker(addresses: &[SocketAddr]) {
    let mut random = Random::new();
    let before = descriptors();
    let (mut used, mut gone) = (0_u64, 0_u64);
    say("ready");
    loop {
        match obtain(&addresses[random.below(addresses.len() as u64) as usize]) {
            Some(account) => {
                (0..random.below(20)).for_each(|_| change(&account));
                let (here, there) = UnixStream::pair().expect("a pair of sockets");
                account.region().send_over(&here).expect("there is room");
                let again = Name::receive_from(&there).expect("it was sent");
                let again = Segment::<Account>::open(again).expect("it is in use");
                assert_eq!(again.region().id(), account.region().id());
                drop(account);
                change(&again);
                used += 1;
            }
            None => gone += 1,
        }
        assert_eq!(descriptors(), before, "a descriptor was left");
        if used + gone == 32 {
            say(&format!("{used} {gone}"));
            (used, gone) = (0, 0);
        }
    }
}

/// The object of the broker there; `None` if that one is gone.
fn obtain(address: &SocketAddr) -> Option<Segment<Account>> {
    let socket = UnixStream::connect_addr(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let name = match Name::receive_from(&socket) {
        Ok(name) => name,
        Err(Error::HandOver { kind: ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset, .. }) => return None,
        Err(error) => panic!("neither an object nor the end: {error}"),
    };
    match Segment::open(name) {
        Ok(account) => Some(account),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("neither an object nor a clean end: {error}"),
    }
}

#[test]
fn objects_are_handed_over_while_anybody_is_killed() {
    let dir = Dir::new();
    let names: Vec<Name> = (0..BROKERS).map(|_| Name::unique("memlane-test").expect("a name")).collect();
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let start_broker = |index: usize| {
        let mut broker = spawn(dir.path(), "broker", &[names[index]]);
        assert_eq!(broker.hear_or_kill().as_deref(), Some("ready"));
        broker
    };
    let start_worker = || {
        let mut worker = spawn(dir.path(), "worker", &names);
        assert_eq!(worker.hear_or_kill().as_deref(), Some("ready"));
        worker
    };
    let mut brokers: Vec<Child> = (0..BROKERS).map(start_broker).collect();
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| start_worker()).collect();
    let mut random = Random::new();
    let (mut used, mut gone, mut kills) = (0, 0, 0);
    let mut count = |mut worker: Child| {
        assert!(worker.kill_if_alive(), "a worker ended by itself");
        while let Some(said) = worker.hear() {
            let (its_used, its_gone) = said.split_once(' ').expect("two numbers");
            used += its_used.parse::<u64>().expect("a number");
            gone += its_gone.parse::<u64>().expect("a number");
        }
    };
    let end = Instant::now() + Duration::from_secs(times(3, 120));
    while Instant::now() < end {
        // Killed at any moment of what it is doing; the others go on.
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let victim = random.below((BROKERS + WORKERS) as u64) as usize;
        if victim < BROKERS {
            assert!(brokers[victim].kill_if_alive(), "a broker ended by itself");
            brokers[victim] = start_broker(victim);
        } else {
            count(std::mem::replace(&mut workers[victim - BROKERS], start_worker()));
        }
        kills += 1;
    }
    workers.into_iter().for_each(count);
    println!("{kills} kills; objects used {used} times, found gone {gone} times");
    assert!(used > 1000 && kills > 20, "{used} objects used, {kills} kills");
    assert_eq!(dir.files(), [""; 0]);
}
