//! What can go wrong, one enum per kind of operation, each message with the object, the cause and the cure.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A process, as people know it. Names in messages and reports; never used to decide whether somebody lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The process id, in the PID namespace of that process.
    pub pid: u32,
    /// The program's name, at most 16 bytes of it.
    pub name: String,
    /// Whether it was stopped (by SIGSTOP, Ctrl-Z or a debugger) when it was looked up: it lives, but does nothing until
    /// `kill -CONT`.
    pub stopped: bool,
}

impl Who {
    pub(crate) fn new(pid: u32, name: &[u8], stopped: bool) -> Self {
        let name = shown(String::from_utf8_lossy(name).trim_end_matches('\0'));
        Self { pid, name, stopped }
    }
}

/// Text from shared memory, without what a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = if self.stopped { ", stopped: `kill -CONT` lets it go on" } else { "" };
        write!(f, "pid {} ({}{stopped})", self.pid, self.name)
    }
}

/// Shows somebody who may not be known by name.
pub(crate) struct Somebody<'a>(pub(crate) Option<&'a Who>);

impl fmt::Display for Somebody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(who) => who.fmt(f),
            None => f.write_str("an unknown process"),
        }
    }
}

/// Shows a process of which nothing but its number may be known.
struct Process(Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "pid {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Why an object could not be named, created, opened, mapped, listed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is not 1 to 200 of the characters `A-Z a-z 0-9 _ . -`, or is `.` or `..`.
    #[error("'{}' is no object name: use 1 to 200 of A-Z a-z 0-9 _ . - (and not . or ..)", shortened(name))]
    InvalidName {
        /// What was given.
        name: String,
    },

    /// The directory that holds the objects cannot be trusted or used.
    #[error("the directory {} cannot be used: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and how to mend it.
        reason: String,
    },

    /// No object has that name, or only a dead one that nobody uses any more.
    #[error("there is no object '{name}': start the program that creates it, or look for it with `memlane ls`")]
    NotFound {
        /// The object.
        name: String,
    },

    /// The object exists and is in use, or is kept until it is removed.
    #[error("'{name}' exists already, created by {}: open it, or remove it with `memlane rm {name}`", Somebody(creator.as_ref()))]
    AlreadyExists {
        /// The object.
        name: String,
        /// Who created it, or took it over, last, if that is known; of a kept object it may be dead.
        creator: Option<Who>,
    },

    /// Something that is no memlane object has that name.
    #[error("'{name}' is no memlane object but {what}: use another name, or take it out of the way")]
    Foreign {
        /// The object.
        name: String,
        /// What it is instead.
        what: String,
    },

    /// The object is not as its creator left it.
    #[error("'{name}' is damaged: its {field} is wrong; remove it with `memlane rm {name}` and create it again")]
    Corrupt {
        /// The object.
        name: String,
        /// The first header field that does not make sense.
        field: &'static str,
    },

    /// The object was made by a program of another memlane format or another kind of machine.
    #[error(
        "'{name}' has {field} {found}, this program needs {expected}: rebuild both programs with the same memlane for the same machine"
    )]
    Incompatible {
        /// The object.
        name: String,
        /// What differs.
        field: &'static str,
        /// What the object has.
        found: u32,
        /// What this program needs.
        expected: u32,
    },

    /// The object holds another type than the one asked for.
    #[error(
        "'{name}' holds another type than this program expects; build both programs from the same definition\n{difference}"
    )]
    TypeMismatch {
        /// The object.
        name: String,
        /// The fields that differ, a line each.
        difference: String,
    },

    /// The memory cannot be had. Nothing was left behind.
    #[error("'{name}' needs {need} bytes, but {} has {available} bytes left: {fix}", place.display())]
    NoSpace {
        /// The object.
        name: String,
        /// What it needs, in bytes, with its header.
        need: u64,
        /// What is left, in bytes.
        available: u64,
        /// The mount or limit that is full.
        place: PathBuf,
        /// The usual way to get more.
        fix: String,
    },

    /// The mode would let any user write into the object, whom nothing keeps to the protocol.
    #[error("'{name}' would be writable by strangers with mode {mode:04o}: create it with {:04o}", mode & !0o002)]
    UnsafeMode {
        /// The object.
        name: String,
        /// The mode asked for.
        mode: u32,
    },

    /// The handle was opened before this process was forked.
    #[error("'{name}' was opened before this process was forked: open it again in the child")]
    Forked {
        /// The object.
        name: String,
    },

    /// The sizes asked for do not fit into an address space, or the description of the type is over 1 MiB.
    #[error("'{name}' would be too large to map on this machine: ask for less")]
    TooLarge {
        /// The object.
        name: String,
    },

    /// As many processes as can be are attached already.
    #[error("'{name}' has {limit} participants already: detach one first")]
    TooManyParticipants {
        /// The object.
        name: String,
        /// How many there can be.
        limit: usize,
    },

    /// Every place for another sender or receiver of the channel is taken by a living one.
    #[error("'{name}' has {limit} {of} already, all it was created for{}: end one, or create it for more", listed(who))]
    NoRoom {
        /// The channel.
        name: String,
        /// What there are enough of.
        of: &'static str,
        /// How many there can be.
        limit: usize,
        /// Those who are there.
        who: Vec<Who>,
    },

    /// No channel can be as the options say.
    #[error("'{name}' cannot be a channel like that: {why}")]
    BadOptions {
        /// The channel.
        name: String,
        /// What does not fit, and what would.
        why: String,
    },

    /// Somebody has held the directory for long; it is normally held for microseconds.
    #[error("the directory {} is held by {} for more than {waited:.1?}: resume or end that process", path.display(), Process(*holder))]
    Busy {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, where the system shows it.
        holder: Option<u32>,
        /// How long this call waited.
        waited: Duration,
    },

    /// Somebody has the file locked, and the time given is over, or none was given.
    #[error("the file {} is locked by {}, waited {waited:.1?}: look at that process, or wait longer", path.display(), Process(*holder))]
    FileLocked {
        /// The file.
        path: PathBuf,
        /// The process that has locked it, or one of those, where the system shows it.
        holder: Option<u32>,
        /// How long this call waited.
        waited: Duration,
    },

    /// The object did not appear in time.
    #[error("no object '{name}' appeared within {waited:.1?}: start the program that creates it, or wait longer")]
    TimedOut {
        /// The object.
        name: String,
        /// How long this call waited.
        waited: Duration,
    },

    /// [`interrupt_waits`](crate::interrupt_waits) was told to end the wait.
    #[error("the wait for an object '{name}' was interrupted: wait again, or end")]
    Interrupted {
        /// The object.
        name: String,
    },

    /// The range does not lie inside the region, or not at an address that suits the type.
    #[error(
        "{len} bytes at offset {offset} do not fit, aligned to {align}, into a region of {size} bytes: use another offset, or a larger object"
    )]
    OutOfBounds {
        /// Where the range starts.
        offset: usize,
        /// How long it is.
        len: usize,
        /// The alignment the type needs.
        align: usize,
        /// The size of the region.
        size: usize,
    },

    /// Only an object that lies in a directory can be dealt with like that.
    #[error("cannot {action} '{name}', which was not looked up in a directory: {fix}")]
    Unnamed {
        /// The object.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What to do instead.
        fix: &'static str,
    },

    /// A descriptor was not sent over a socket, did not come, or does not lead to an object that can be trusted.
    #[error("'{name}' cannot be handed over: {reason}{}", with(peer.as_ref()))]
    HandOver {
        /// The object, as far as it is known.
        name: String,
        /// Who made the other end of the socket or connected to it, if it was a socket and that is known.
        peer: Option<Who>,
        /// What kind of failure: `UnexpectedEof` or `BrokenPipe` if the other side is gone, `TimedOut` if the time of the
        /// socket is over, `InvalidData` if what came is no hand-over, `PermissionDenied` if the descriptor is not to be
        /// trusted, `Unsupported` if the object is not in memory; else what the system said.
        kind: io::ErrorKind,
        /// What happened, and what to do.
        reason: String,
    },

    /// The object is there, but belongs to somebody else, and its mode or that of its directory keeps this process out.
    #[error(
        "cannot {action} '{name}' in {}: it belongs to user {user} and group {group} with mode {mode:04o}, and this process acts for user {us}: {fix}",
        directory.display()
    )]
    Denied {
        /// What was tried.
        action: &'static str,
        /// The object.
        name: String,
        /// Where it is.
        directory: PathBuf,
        /// Whose it is.
        user: u32,
        /// Its group.
        group: u32,
        /// Its permission bits.
        mode: u32,
        /// The user that this process acts for.
        us: u32,
        /// What to do.
        fix: String,
    },

    /// There are no such bytes.
    #[error("'{name}' has {size} bytes, and {start}..{end} do not lie in it: ask for others, or make it larger")]
    NoSuchRange {
        /// The object or file.
        name: String,
        /// The first byte that was asked for.
        start: u64,
        /// The one behind the last.
        end: u64,
        /// How many bytes there are.
        size: u64,
    },

    /// A file cannot be made, opened or grown, or a descriptor is none that can be mapped.
    #[error("the file {} {reason}", path.display())]
    File {
        /// Its path, or what it is called without one.
        path: PathBuf,
        /// What kind of refusal it is: `NotFound`, `AlreadyExists` and the like.
        kind: io::ErrorKind,
        /// What is wrong with it, and how to mend it.
        reason: String,
    },

    /// It was opened for reading only.
    #[error("'{name}' was opened for reading only: open it for reading and writing")]
    ReadOnly {
        /// The file.
        name: String,
    },

    /// The operating system refused.
    #[error("cannot {action} '{name}': {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// The object.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Wraps what the system said about `action` on `name`.
    pub(crate) fn os(action: &'static str, name: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { action, name: name.to_string(), source }
    }
}

fn listed(who: &[Who]) -> String {
    if who.is_empty() {
        return String::new();
    }
    let names: Vec<String> = who.iter().map(ToString::to_string).collect();
    format!(" ({})", names.join(", "))
}

/// Enough of a text that is too long to show.
fn with(peer: Option<&Who>) -> String {
    peer.map_or(String::new(), |peer| format!(" (at the other end: {peer})"))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(60).chain("...".chars()).collect() }
}

/// Why a lock was not taken. The lock and what it guards are as they were.
///
/// Of several reasons it is the first of `NotInSegment`, `Forked`, `Retired`, `AlreadyLocked`, `NeedsRepair`, `TimedOut` (or
/// `NoneFree`) and `Interrupted`: that the
/// object can be used no more is said also to a thread that holds the lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A living process holds it, and the time given is over, or none was given.
    #[error("{}", held(object, lock, *waited, *held_for, holder.as_ref(), cycle))]
    TimedOut {
        /// The object that the lock lies in.
        object: Box<str>,
        /// The lock: the path of its field, or where it lies if the object has no type that says so.
        lock: Box<str>,
        /// How long this call waited.
        waited: Duration,
        /// For how long at least the present holder has held it, as this call saw it.
        held_for: Duration,
        /// Who holds it, if that is known.
        holder: Option<Who>,
        /// If not empty, this looks like a deadlock: each process sleeps on a lock of the next one, and the last on
        /// one of ours. It is one, unless one of them has several threads and another of these is to let go.
        cycle: Vec<Who>,
    },

    /// This thread holds it already: waiting would never end.
    #[error("this thread holds the lock {lock} of '{object}' already: unlock it first, or pass the guard on")]
    AlreadyLocked {
        /// The object that the lock lies in.
        object: Box<str>,
        /// The lock, as in `TimedOut`.
        lock: Box<str>,
    },

    /// A writer died while it changed the data, or gave it back half-changed, and nobody has repaired it since.
    #[error(
        "a writer died while it changed {lock} of '{object}': take the write lock and repair (RwLock), or write it anew (SeqCell)"
    )]
    NeedsRepair {
        /// The object that the lock lies in.
        object: Box<str>,
        /// The lock, as in `TimedOut`.
        lock: Box<str>,
    },

    /// The object was removed by force.
    #[error("'{object}' was retired (removed by force): open or create it again")]
    Retired {
        /// The object.
        object: Box<str>,
    },

    /// This process is a fork of the one that opened the object.
    #[error("'{object}' was opened before this process was forked: open it again in the child")]
    Forked {
        /// The object.
        object: Box<str>,
    },

    /// [`interrupt_waits`](crate::interrupt_waits) was told to end the wait.
    #[error("a wait in '{object}' was interrupted: wait again, or end")]
    Interrupted {
        /// The object.
        object: Box<str>,
    },

    /// The lock, condition or event does not lie in the object that was passed with it.
    #[error("the lock, condition or event does not lie in '{object}': pass the segment or region that it lies in")]
    NotInSegment {
        /// The object that was passed.
        object: Box<str>,
    },

    /// Every permit of a semaphore, or seat of a barrier, is taken, and the time given is over, or none was given.
    #[error(
        "no {of} of {lock} of '{object}' is free, waited {waited:.1?}: {} them; look at that, or wait longer",
        taken(holders)
    )]
    NoneFree {
        /// The object that the semaphore or barrier lies in.
        object: Box<str>,
        /// The semaphore or barrier, as in `TimedOut`.
        lock: Box<str>,
        /// What is not free: `permit` or `seat`.
        of: &'static str,
        /// How long this call waited.
        waited: Duration,
        /// Who has them, each once, as far as they are known. Of a barrier, some may be dead: reset it then.
        holders: Vec<Who>,
    },
}

/// The first of those who have something, and how many more they are.
fn taken(holders: &[Who]) -> String {
    match holders {
        [] => "unknown processes have".into(),
        [one] => format!("{one} has"),
        [one, other] => format!("{one} and {other} have"),
        [first, others @ ..] => format!("{first} and {} others have", others.len()),
    }
}

fn held(object: &str, lock: &str, waited: Duration, held_for: Duration, holder: Option<&Who>, cycle: &[Who]) -> String {
    let holder = Somebody(holder);
    let text =
        format!("the lock {lock} of '{object}' is held by {holder} for at least {held_for:.1?}, waited {waited:.1?}");
    if cycle.is_empty() {
        return format!("{text}: look at that process, or wait longer");
    }
    let others: String = cycle.iter().map(|who| format!(" {who}, who waits for")).collect();
    format!("{text}; this looks like a deadlock: we wait for{others} us; take locks in one order, as `lock_both` does")
}

/// Why a wait on a condition, an event or a barrier ended without it. The lock of the condition is not held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time is over.
    #[error("nothing happened in '{object}' within {waited:.1?}{}", silent(peer.as_ref()))]
    TimedOut {
        /// The object that the condition, event or barrier lies in.
        object: Box<str>,
        /// How long this call waited.
        waited: Duration,
        /// Who kept it waiting: the living peer that was named, or who held the lock when the time was over, or the first
        /// party that has not arrived.
        peer: Option<Who>,
    },

    /// The process that was waited for is dead or has closed the object.
    #[error("{} has left '{object}', and nobody else was to end this wait: start it again, or wait without naming it", Somebody(peer.as_ref()))]
    PeerLost {
        /// The object that the condition, event or barrier lies in.
        object: Box<str>,
        /// Who it was, if that is still known.
        peer: Option<Who>,
    },

    /// A party of the barrier died, or left, while others waited: nobody waits there until it is
    /// [reset](crate::Barrier::reset).
    #[error("the barrier {barrier} of '{object}' is broken, {} has left it: reset it, and begin again", Somebody(who.as_ref()))]
    Broken {
        /// The object that the barrier lies in.
        object: Box<str>,
        /// The barrier: the path of its field, or where it lies.
        barrier: Box<str>,
        /// Who broke it, if that is still known: not after it was reset.
        who: Option<Who>,
    },

    /// The lock could not be taken again after the wait; or, of an event or a barrier, the object cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
}

fn silent(peer: Option<&Who>) -> String {
    match peer {
        Some(peer) => format!(": {peer} lives, but has not answered; look at that process, or wait longer"),
        None => ": see whether somebody is there to end this wait, or wait longer".into(),
    }
}

/// Why a message was not sent, or no room for one was had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is longer than there is room for.
    #[error("'{channel}' takes at most {max} bytes here: send less, or create the channel for longer messages")]
    TooLarge {
        /// The channel.
        channel: Box<str>,
        /// The most bytes that fit.
        max: u64,
    },

    /// As many messages are being filled as can be.
    #[error(
        "'{channel}' has no buffer for more than {limit} unsent messages: send or drop one, or create the channel with more loans"
    )]
    LoansInUse {
        /// The channel.
        channel: Box<str>,
        /// How many there can be at least.
        limit: usize,
    },

    /// Nothing may be lost, and the time given is over before the oldest message was let go.
    #[error("'{channel}' is full, waited {waited:.1?}: {}", full(*sequence, slowest.as_ref(), *lag))]
    Full {
        /// The channel.
        channel: Box<str>,
        /// How long this call waited.
        waited: Duration,
        /// The oldest message in the window: what is waited for.
        sequence: u64,
        /// Of the receivers that have not let go of it, who is the furthest behind; `None` if nobody receives, or if
        /// all have let go of it and none of them has processed it.
        slowest: Option<Who>,
        /// How many messages that one has not received yet.
        lag: u64,
    },

    /// Nothing may be lost, the window is full, and the last receiver has died, or closed, while it was waited for.
    #[error(
        "'{channel}' is full and nobody receives any more{}: start a receiver, which gets what nobody has processed, and send again",
        gone(last.as_ref())
    )]
    NoReceiver {
        /// The channel.
        channel: Box<str>,
        /// Who died, if it was a death.
        last: Option<Who>,
    },

    /// Fewer receivers than were waited for have come in time.
    #[error("'{channel}' has not got {count} receivers within {waited:.1?}{}: start more, or wait longer", listed(who))]
    TooFew {
        /// The channel.
        channel: Box<str>,
        /// How long this call waited.
        waited: Duration,
        /// How many were to come.
        count: usize,
        /// Those who have.
        who: Vec<Who>,
    },

    /// The channel was removed by force, or this process is a fork.
    #[error(transparent)]
    Unusable(#[from] LockError),
}

fn full(sequence: u64, slowest: Option<&Who>, lag: u64) -> String {
    match slowest {
        Some(who) => {
            format!("{who} has not let go of message {sequence}, {lag} behind it: look at that process, or wait longer")
        }
        None => format!("nobody has processed message {sequence}, and nobody is about to: start a receiver"),
    }
}

fn gone(last: Option<&Who>) -> String {
    last.map_or(String::new(), |who| format!(", {who} has died"))
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The time is over.
    #[error("nothing was sent to '{channel}' within {waited:.1?}{}", unsent(senders))]
    TimedOut {
        /// The channel.
        channel: Box<str>,
        /// How long this call waited.
        waited: Duration,
        /// Who could have sent.
        senders: Vec<Who>,
    },

    /// Everything was received, and every sender has closed the channel in good order, or there was none yet.
    #[error("nobody sends to '{channel}' any more: wait for a new sender, or end")]
    Closed {
        /// The channel.
        channel: Box<str>,
    },

    /// Everything was received, nobody sends any more, and a sender has died.
    #[error("{} died and sends nothing more to '{channel}', nor does anybody else: start it again, and wait for it", Somebody(sender.as_ref()))]
    SenderDied {
        /// The channel.
        channel: Box<str>,
        /// Who it was, if that is still known.
        sender: Option<Who>,
    },

    /// As many messages are held as can be. Nothing was received.
    #[error(
        "{limit} messages of '{channel}' are held at a time, and no more: drop one, or create the channel with more claims"
    )]
    ClaimsInUse {
        /// The channel.
        channel: Box<str>,
        /// How many can be held.
        limit: usize,
    },

    /// What the channel says of a message does not make sense. The message was passed over.
    #[error(
        "message {sequence} of lane {lane} of '{channel}' is damaged: something else wrote there; it was passed over"
    )]
    Corrupt {
        /// The channel.
        channel: Box<str>,
        /// The lane it came by.
        lane: usize,
        /// Its number.
        sequence: u64,
    },

    /// The channel was removed by force, or this process is a fork.
    #[error(transparent)]
    Unusable(#[from] LockError),
}

fn unsent(who: &[Who]) -> String {
    if who.is_empty() {
        ": nobody sends; start a sender, or wait longer".into()
    } else {
        format!("{}: it lives; look at that process, or wait longer", listed(who))
    }
}

/// Why it is not known what has become of a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The time is over.
    #[error("message {sequence} of '{channel}' was not processed within {waited:.1?}{}", pending(who))]
    TimedOut {
        /// The channel.
        channel: Box<str>,
        /// The message.
        sequence: u64,
        /// How long this call waited.
        waited: Duration,
        /// Who is to answer still.
        who: Vec<Who>,
    },

    /// The channel was removed by force, or this process is a fork.
    #[error(transparent)]
    Unusable(#[from] LockError),
}

fn pending(who: &[Who]) -> String {
    if who.is_empty() {
        ": nobody has it; start a receiver, or wait longer".into()
    } else {
        format!("{}: it lives, but has not let go of it", listed(who))
    }
}
