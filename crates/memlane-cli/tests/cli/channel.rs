//! Channels to be watched, and processes that take part until they are killed.

use crate::common::{Place, Running, wait_for};
use memlane::{ChannelOptions, Mutex, Name, Receiver, Segment, Sender, Shareable};
use std::process::{Command, Stdio};
use std::time::Duration;

const ROLE: &str = "MEMLANE_TEST_ROLE";

#[derive(Debug, Shareable)]
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) value: Mutex<u64>,
}

pub(crate) fn named(place: &Place, name: &str) -> Name {
    Name::new(name).expect("a name").in_directory(place.objects())
}

/// A channel of which this process is the sender.
pub(crate) fn create<T: Shareable + ?Sized>(place: &Place, name: &str, options: &ChannelOptions) -> Sender<T> {
    Sender::create(named(place, name), options).expect("a fresh channel")
}

/// Starts this test program in another role, and waits until it has begun.
pub(crate) fn start(place: &Place, role: &str) -> Running {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["channel::role", "--exact", "--ignored", "--nocapture"]);
    command.env(ROLE, role).env("MEMLANE_DIR", place.objects());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start(command);
    loop {
        let line = running.line();
        assert!(!line.is_empty(), "'{role}' has ended");
        if line == "ready\n" {
            return running;
        }
    }
}

/// Stops a process, and waits until it does nothing more.
pub(crate) fn stop(running: &Running) {
    running.signal("STOP");
    let stat = format!("/proc/{}/stat", running.pid());
    wait_for("the stop", || std::fs::read_to_string(&stat).ok()?.contains(") T ").then_some(()));
}

#[test]
#[ignore = "a process of the other tests"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["receive", name] => {
            let mut receiver = Receiver::<[u8]>::open(name).expect("it is there");
            println!("\nready");
            loop {
                receiver.recv().expect("its sender lives");
            }
        }
        ["send", name, text] => {
            let sender = Sender::<[u8]>::open_or_create(name, &ChannelOptions::new()).expect("a channel");
            sender.send_copy(text.as_bytes()).expect("there is room");
            println!("\nready");
            std::thread::sleep(Duration::from_secs(60));
        }
        ["hold", name] => {
            let shared = Segment::<Shared>::open(name).expect("it is there");
            let _held = shared.value.lock(&shared).expect("the lock");
            println!("\nready");
            std::thread::sleep(Duration::from_secs(60));
        }
        ["hold", "everything", name] => {
            let shared = Segment::<crate::inspect::Everything>::open(name).expect("it is there");
            let _held = shared.value.lock(&shared).expect("the lock");
            println!("\nready");
            std::thread::sleep(Duration::from_secs(60));
        }
        ["wait", name] => {
            let shared = Segment::<crate::inspect::Everything>::open(name).expect("it is there");
            println!("\nready");
            let _held = shared.value.lock(&shared).expect("the lock");
        }
        _ => panic!("no role {role}"),
    }
}
