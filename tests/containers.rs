//! Two containers made by hand, each with mounts, processes and, where allowed, users of its own: they share a directory, or
//! nothing but a Unix socket. Hand-off, death and the names of culprits are as between two processes beside each other.
//! And what else may differ between two programs: their clocks, and their copy of the library.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Child, Dir, hear, role, say, spawn_under};
use memlane::{
    ChannelOptions, Handled, LockError, Locked, Message, Mutex, MutexGuard, Name, Options, Outcome, Receiver,
    RecvError, Segment, Sender, Shareable, Ticket,
};
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(120);

#[derive(Debug, Shareable)]
#[repr(C)]
struct State {
    value: Mutex<u64>,
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let shares = Shares::from_arguments(&arguments);
    match role.as_str() {
        "create" => create(&shares),
        "open" => open(&shares),
        other => panic!("no role {other}"),
    }
}

/// What the two sides have in common.
enum Shares {
    Directory,
    /// The socket with this name, which lies in no file system.
    Socket(SocketAddr),
}

impl Shares {
    fn from_arguments(arguments: &[String]) -> Self {
        match arguments {
            [] => Self::Directory,
            [name, ..] => Self::Socket(SocketAddr::from_abstract_name(name).expect("a name")),
        }
    }

    fn name(&self, label: &str) -> Name {
        let name = if let Self::Directory = self { Name::new(label) } else { Name::anonymous(label) };
        name.expect("a name")
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The two sides

/// Creates a channel and a lock; does what it hears.
fn create(shares: &Shares) {
    let options = ChannelOptions::new().max_message(10_000).receivers(2);
    let sender = Sender::<[u8]>::create(shares.name("frames"), &options).expect("a fresh channel");
    let state = Segment::<State>::create(shares.name("state"), (), &Options::new(), |_| ()).expect("a fresh object");
    let listener = match shares {
        Shares::Directory => None,
        Shares::Socket(address) => Some(UnixListener::bind_addr(address).expect("a socket")),
    };
    let (mut tickets, mut sent) = (Vec::<Ticket>::new(), 0_u8);
    say(&format!("pid {}", std::process::id()));
    while let Some(wish) = hear() {
        match wish.as_str() {
            "hand over" => {
                if let Some(listener) = &listener {
                    let (socket, _) = listener.accept().expect("the other side");
                    sender.send_over(&socket).expect("there is room");
                    state.region().send_over(&socket).expect("there is room");
                }
                say("handed over");
            }
            "send" => {
                sent += 1;
                tickets.push(sender.send_copy(&[sent; 5000]).expect("there is room"));
                say("sent");
            }
            "what became of it" => {
                let handled = tickets.last().expect("it was sent").wait(Some(PATIENCE)).expect("it was dealt with");
                let outcomes: Vec<Outcome> = handled.iter().map(|Handled { outcome, .. }| *outcome).collect();
                let receivers = sender.receivers().len();
                say(&format!("{outcomes:?}, {receivers} receivers"));
            }
            "lock" => say(&lock(&state)),
            other => panic!("no wish {other}"),
        }
    }
}

/// Takes the lock in a moment, or says who holds it; repairs what a dead one left.
fn lock(state: &Segment<State>) -> String {
    match state.value.lock_timeout(state, MOMENT) {
        Ok(Locked::Clean(_)) => "clean".into(),
        Ok(Locked::OwnerDied(mut died)) => {
            *died += 1;
            drop(died.mark_consistent());
            "owner died".into()
        }
        Err(LockError::TimedOut { holder: Some(who), .. }) => format!("held by pid {} ({})", who.pid, who.name),
        Err(error) => error.to_string(),
    }
}

/// Opens what the other side created; does what it hears.
fn open(shares: &Shares) {
    let [frames, state] = match shares {
        Shares::Directory => ["frames", "state"].map(|label| shares.name(label)),
        Shares::Socket(address) => {
            let socket = UnixStream::connect_addr(address).expect("the other side listens");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time");
            [(); 2].map(|()| Name::receive_from(&socket).expect("it was sent"))
        }
    };
    let mut receiver = Receiver::<[u8]>::open(frames).expect("the other side's channel");
    let state = Segment::<State>::open(state).expect("the other side's object");
    let mut held = None::<MutexGuard<u64>>;
    let mut message = None::<Message>;
    say(&format!("pid {}", std::process::id()));
    while let Some(wish) = hear() {
        match wish.as_str() {
            "receive" => match receiver.recv_timeout(PATIENCE) {
                Ok(frame) => {
                    say(&format!("{} times {}", frame.len(), frame[0]));
                    message = Some(frame);
                }
                Err(RecvError::SenderDied { sender: Some(who), .. }) => say(&format!("pid {} died", who.pid)),
                Err(error) => say(&error.to_string()),
            },
            "process" => {
                drop(message.take());
                say("processed");
            }
            "wait in vain" => {
                let start = Instant::now();
                let result = receiver.recv_timeout(MOMENT).map(drop);
                let waited = start.elapsed();
                assert!(waited >= MOMENT && waited < MOMENT + PATIENCE, "{waited:?}");
                match result {
                    Err(RecvError::TimedOut { senders, .. }) => say(&format!("in vain, of {}", senders.len())),
                    other => say(&format!("{other:?}")),
                }
            }
            "lock" => say(&lock(&state)),
            "hold" => {
                held = Some(state.value.lock(&state).expect("the lock").or_repair(|_| ()));
                say("held");
            }
            "let go" => {
                drop(held.take());
                say("let go");
            }
            other => panic!("no wish {other}"),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Containers

/// Says on standard error, which the test harness would swallow, that something is not tested here.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED, {what}");
}

/// The command that runs its arguments as a container would: with the first process of a PID namespace, mounts of its own, and a
/// shared memory in which it finds nothing but, if it has a `place` there, the directory that is `MEMLANE_DIR` outside.
fn container(users: bool, place: Option<&str>) -> Option<Vec<String>> {
    const NOTHING: &str = r#"mount -t proc proc /proc && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && unset MEMLANE_DIR &&
        exec "$@""#;
    const DIRECTORY: &str = r#"mount -t proc proc /proc && mount --bind "$MEMLANE_DIR" /mnt &&
        mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mkdir "/dev/shm/$0" && mount --move /mnt "/dev/shm/$0" &&
        MEMLANE_DIR="/dev/shm/$0" exec "$@""#;
    let mut words = vec!["unshare", "--mount", "--pid", "--fork", "--kill-child"];
    words.extend(["--user", "--map-root-user"].iter().filter(|_| users));
    words.extend(["sh", "-c", if place.is_some() { DIRECTORY } else { NOTHING }, place.unwrap_or("sh")]);
    let dir = Dir::new();
    let output = Command::new(words[0]).args(&words[1..]).arg("true").env("MEMLANE_DIR", dir.path()).output();
    match output {
        Ok(output) if output.status.success() => Some(words.into_iter().map(str::to_owned).collect()),
        Ok(output) => {
            skipped(&format!("no container: {}", String::from_utf8_lossy(&output.stderr).trim()));
            None
        }
        Err(error) => {
            skipped(&format!("no container: {error}"));
            None
        }
    }
}

#[track_caller]
fn ask(child: &mut Child, wish: &str, expected: &str) {
    child.say(wish);
    assert_eq!(child.hear_or_kill().as_deref(), Some(expected), "{wish}");
}

/// Starts both sides, each below its own command.
struct Sides<'a> {
    dir: &'a Dir,
    arguments: Vec<&'a str>,
    wrappers: [&'a [String]; 2],
}

impl Sides<'_> {
    fn creator(&self) -> (Child, String) {
        let mut child = spawn_under(self.wrappers[0], self.dir.path(), "create", &self.arguments);
        let pid = child.hear_or_kill().expect("it has begun");
        (child, pid)
    }

    fn opener(&self, creator: &mut Child) -> (Child, String) {
        creator.say("hand over");
        let mut child = spawn_under(self.wrappers[1], self.dir.path(), "open", &self.arguments);
        creator.expect("handed over");
        let pid = child.hear_or_kill().expect("it has begun");
        (child, pid)
    }

    /// A hand-off, a holder that is named and then killed, a receiver and a sender that are killed. Gives the pids that the two
    /// sides have, in their own eyes.
    fn play(&self) -> [String; 2] {
        let (mut creator, first) = self.creator();
        let (mut opener, second) = self.opener(&mut creator);
        for sent in 1..=3 {
            ask(&mut creator, "send", "sent");
            ask(&mut opener, "receive", &format!("5000 times {sent}"));
            ask(&mut opener, "process", "processed");
            ask(&mut creator, "what became of it", "[Processed], 1 receivers");
        }
        ask(&mut opener, "wait in vain", "in vain, of 1");
        ask(&mut opener, "hold", "held");
        let program = std::env::current_exe().expect("the test binary");
        let program: String = program.file_name().expect("a file").to_string_lossy().chars().take(15).collect();
        ask(&mut creator, "lock", &format!("held by {second} ({program})"));
        ask(&mut creator, "send", "sent");
        ask(&mut opener, "receive", "5000 times 4");
        // With the first process of a container all others end; it may take a moment until the system has torn them down.
        opener.kill();
        ask(&mut creator, "what became of it", "[Died], 0 receivers");
        ask(&mut creator, "lock", "owner died");

        let (mut opener, _) = self.opener(&mut creator);
        ask(&mut opener, "receive", "5000 times 4");
        ask(&mut opener, "process", "processed");
        ask(&mut opener, "lock", "clean");
        creator.kill();
        ask(&mut opener, "receive", &format!("{first} died"));
        ask(&mut opener, "lock", "clean");
        assert!(opener.finish().success());
        [first, second]
    }
}

fn play_in_containers(places: [Option<&str>; 2]) {
    for users in [false, true] {
        let wrappers = places.map(|place| container(users, place));
        let [Some(one), Some(two)] = &wrappers else { continue };
        let (dir, socket) = (Dir::new(), Name::unique("memlane-test").expect("a name"));
        let arguments = if places[0].is_some() { Vec::new() } else { vec![socket.as_str()] };
        let pids = Sides { dir: &dir, arguments, wrappers: [one, two] }.play();
        assert_eq!(pids, ["pid 1", "pid 1"], "each is the first of its container");
        let left = dir.files();
        assert!(left.iter().all(|file| file == "frames") || places[0].is_none(), "{left:?}");
    }
}

#[test]
fn containers_that_share_a_directory_work_together() {
    play_in_containers([Some("here"), Some("there")]);
}

#[test]
fn containers_that_share_nothing_but_a_socket_work_together() {
    play_in_containers([None, None]);
}

// ---------------------------------------------------------------------------------------------------------------
// Clocks

/// What a command that says a time says below another one, in seconds.
fn seconds(wrapper: &[String], clock: &[&str]) -> Result<f64, String> {
    let words: Vec<&str> = wrapper.iter().map(String::as_str).chain(clock.iter().copied()).collect();
    let output = Command::new(words[0]).args(&words[1..]).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = said.split_whitespace().next().and_then(|word| word.parse().ok());
    number.ok_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Lets each side in turn run below a command that changes what `clock` says, if that may be done.
fn play_below(wrapper: &[&str], clock: &[&str]) {
    let wrapper: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
    match seconds(&wrapper, clock) {
        Err(problem) => return skipped(&format!("no clock of its own: {problem}")),
        Ok(changed) => {
            let right = seconds(&[], clock).expect("a time");
            assert!((changed - right).abs() > 100_000.0, "{changed} is not another time than {right}");
        }
    }
    for wrappers in [[&wrapper[..], &[]], [&[], &wrapper[..]]] {
        let dir = Dir::new();
        Sides { dir: &dir, arguments: Vec::new(), wrappers }.play();
    }
}

#[test]
fn time_namespaces_change_nothing() {
    const LATER: &[&str] =
        &["unshare", "--time", "--boottime", "1000000", "--monotonic", "1000000", "--fork", "--kill-child"];
    play_below(LATER, &["cat", "/proc/uptime"]);
}

/// What Debian calls libfaketime.
fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = folders.map(|folder| Path::new(folder).join("faketime/libfaketime.so.1"));
    let library = library.into_iter().find(|library| library.exists());
    if library.is_none() {
        skipped("no wrong wall clock: `apt-get install libfaketime`");
    }
    library
}

/// A wall clock that is years behind, and one that runs backwards between any two looks at it; timeouts are as they were.
#[test]
fn a_wrong_wall_clock_changes_nothing() {
    let Some(library) = faketime() else { return };
    let preload = format!("LD_PRELOAD={}", library.display());
    for clock in ["FAKETIME=-10y", "FAKETIME=@2040-01-01 00:00:00 x-1000"] {
        let wrong = ["env", &preload, "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1", clock];
        play_below(&wrong, &["date", "+%s"]);
    }
}
