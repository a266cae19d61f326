//! Garbage in objects that several processes use at the same time, through everything in the safe API that reads
//! shared memory: a value or an error every time, no signal, no panic, no hang. `tests/hostile.rs` compares with what
//! the bytes say; here everybody writes at once, so that only the kinds of outcomes are counted.
#![allow(missing_docs)]

mod common;
#[path = "common/garble.rs"]
mod garble;
#[path = "common/object.rs"]
mod object;
#[path = "common/random.rs"]
mod random;
#[path = "common/watch.rs"]
mod watch;

use common::{Child, Dir, role, say, spawn, times};
use garble::{LOCK_WORDS, garble};
use memlane::{
    Error, LockError, Locked, MutexGuard, Name, Options, Origin, Region, Segment, SharedMemory, Until, WaitError, gc,
    list, lock_both, remove, retire, space,
};
use object::{CREATOR, DATA, OTHER, SCHEMA, STATE, Victim, WORD, create, put, u64_at};
use random::Random;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use watch::{Tally, Watch};

const WORKERS: u64 = 3;
const MOMENT: Duration = Duration::from_micros(100);
const RAW_SIZE: u64 = 4096;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn path(text: &str) -> PathBuf {
    let name = name(text);
    name.directory().expect("it has one").join(text)
}

fn open_rw(text: &str) -> Option<File> {
    OpenOptions::new().read(true).write(true).open(path(text)).ok()
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "work" => work(arguments[0].parse().expect("a seed"), arguments[1].parse().expect("a count")),
        "use" => use_it(),
        other => panic!("no role {other}"),
    }
}

/// Uses the object as one should, until it is killed.
fn use_it() {
    say("here");
    loop {
        let Ok(mine) = Segment::<Victim>::open_or_create(name("cam"), (), &Options::new(), |_| ()) else { continue };
        for _ in 0..100 {
            let Ok(locked) = mine.state.lock_timeout(&mine, MOMENT) else { continue };
            let mut state = locked.or_repair(|_| ());
            state.value = state.value.wrapping_add(1);
            state.peer = mine.region().owner();
            drop(mine.changed.wait(state, Until::timeout(MOMENT)));
            let _ = mine.rw.write_timeout(&mine, MOMENT).map(|locked| *locked.or_repair(|_| ()) = 2);
            let _ = (mine.rw.read_timeout(&mine, MOMENT), mine.again.lock_timeout(&mine, MOMENT));
            mine.changed.notify_all();
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// A worker

/// What a worker does after a mutation, how often (out of the sum), and what that must come to at least once.
type Operation = (&'static str, u64, fn(&mut Worker) -> &'static str, &'static [&'static str]);

const OPERATIONS: [Operation; 25] = [
    ("try_lock", 12, |w| locked(w.mine.state.try_lock(&w.mine)), &["clean", "owner died", "held", "retired"]),
    ("lock_timeout", 6, |w| locked(w.mine.other.lock_timeout(&w.mine, MOMENT)), &["clean", "owner died", "retired"]),
    ("lock_both", 6, both, &["both", "retired"]),
    ("lock twice", 4, twice, &["already locked"]),
    ("read", 12, |w| read_by(w.mine.rw.read_timeout(&w.mine, MOMENT)), &["read", "held", "needs repair", "retired"]),
    ("write", 12, written, &["clean", "owner died", "held", "retired"]),
    ("lock again", 4, again, &["clean", "owner died"]),
    ("wait", 6, |w| wait(w, false), &["timed out", "peer lost"]),
    ("wait_while", 6, |w| wait(w, true), &["timed out", "peer lost"]),
    ("notify", 12, notify, &["done"]),
    ("set, reset", 6, set, &["set", "not set"]),
    ("wait for, take", 6, wait_for, &["set", "timed out", "peer lost", "retired"]),
    ("who, is_alive", 8, who, &["alive, known", "dead, unknown"]),
    ("is_retired", 8, |w| if w.mine.region().is_retired() { "yes" } else { "no" }, &["yes", "no"]),
    ("open", 8, |_| opened(Segment::<Victim>::open(name("cam"))), &["opened", "damaged"]),
    ("wait_for", 4, |_| opened(Segment::<Victim>::wait_for(name("cam"), Some(Duration::ZERO))), &["opened", "damaged"]),
    ("open another type", 4, |_| opened(Segment::<u64>::open(name("cam"))), &["damaged", "another type"]),
    ("open to read", 8, read, &["opened", "damaged"]),
    ("open raw", 8, raw, &["opened", "damaged"]),
    ("open_or_create", 6, |_| opened(open_or_create()), &["opened", "damaged"]),
    ("create", 6, |_| opened(create(&name("cam"))), &["taken over", "exists", "damaged"]),
    ("list", 4, look, &["sound", "damaged"]),
    ("gc", 4, collect, &["nothing"]),
    ("space", 2, |_| if space(None).is_ok_and(|space| space.total > 0) { "known" } else { "unknown" }, &["known"]),
    ("remove, retire", 1, take_away, &["removed"]),
];

struct Worker {
    random: Random,
    mine: Segment<Victim>,
    /// The files of the two objects, or of what had their names before.
    files: [File; 2],
    /// A whole header and schema, which each object is given back now and then.
    whole: [Vec<u8>; 2],
}

impl Worker {
    fn new(random: Random) -> Self {
        let whole = [0, 1].map(|which| {
            let name = Name::unique("whole").expect("a name");
            let (_typed, _raw);
            if which == 0 {
                _typed = create(&name).expect("a fresh object");
            } else {
                _raw = SharedMemory::create(&name, RAW_SIZE, &Options::new()).expect("a fresh object");
            }
            let mut bytes = std::fs::read(path(name.as_str())).expect("its bytes");
            bytes.truncate(DATA as usize);
            bytes
        });
        let (mine, files) = renew(&whole);
        Self { random, mine, files, whole }
    }

    /// Whether the names lead to other objects by now.
    fn is_lost(&self) -> bool {
        let inode = |file: &File| file.metadata().map(|meta| meta.ino()).ok();
        let now = ["cam", "raw"].map(|text| std::fs::metadata(path(text)).map(|meta| meta.ino()).ok());
        self.files.each_ref().map(inode) != now
    }
}

/// Gives an object back what was written before it had a name, but for its id.
fn mend(file: &File, whole: &[u8]) {
    put(file, 0, &whole[..24]);
    put(file, 40, &whole[40..STATE as usize + 4]);
    put(file, SCHEMA, &whole[SCHEMA as usize..]);
}

/// Opens or creates both objects, whatever has their names.
fn renew(whole: &[Vec<u8>; 2]) -> (Segment<Victim>, [File; 2]) {
    loop {
        for (text, whole) in ["cam", "raw"].into_iter().zip(whole) {
            open_rw(text).iter().for_each(|file| mend(file, whole));
        }
        let raw = SharedMemory::open_or_create(name("raw"), RAW_SIZE, &Options::new().persistence(KEEP));
        if let (Ok(mine), Ok(_), Some(cam), Some(raw)) = (open_or_create(), raw, open_rw("cam"), open_rw("raw")) {
            return (mine, [cam, raw]);
        }
    }
}

/// Nobody keeps the raw object open.
const KEEP: memlane::Persistence = memlane::Persistence::Keep;

fn open_or_create() -> Result<Segment<Victim>, Error> {
    Segment::open_or_create(name("cam"), (), &Options::new(), |_| ())
}

/// Mutates `count` times, and makes a call after each.
fn work(seed: u64, count: u64) {
    let mut worker = Worker::new(Random::from_seed(seed));
    let mut tally = Tally::new();
    let mut add = |what: &str, came: &str| *tally.entry((what.into(), came.into())).or_default() += 1;
    let sum: u64 = OPERATIONS.iter().map(|(_, often, ..)| often).sum();
    for number in 0..count {
        let file = &worker.files[usize::from(worker.random.below(8) == 0)];
        let words = [CREATOR, WORD, OTHER, WORD + 16].map(|offset| u64_at(file, offset));
        let state_too = worker.random.below(10) == 0;
        add("mutated", garble(&mut worker.random, file, &words, state_too));

        let mut at = worker.random.below(sum);
        let chosen = OPERATIONS.iter().find(|(_, often, ..)| {
            let here = at < *often;
            at = at.wrapping_sub(*often);
            here
        });
        let (what, _, call, _) = chosen.expect("less than the sum");
        say(what);
        add(what, call(&mut worker));

        if number % 4 == 0 {
            worker.files.iter().zip(&worker.whole).for_each(|(file, whole)| mend(file, whole));
        }
        if worker.is_lost() || worker.random.below(1000) == 0 {
            say("renew");
            (worker.mine, worker.files) = renew(&worker.whole);
        }
    }
    for ((what, came), count) in tally {
        say(&format!("{what}={came}={count}"));
    }
}

fn why(error: &LockError) -> &'static str {
    assert!(!error.to_string().is_empty());
    match error {
        LockError::TimedOut { .. } => "held",
        LockError::AlreadyLocked { .. } => "already locked",
        LockError::NeedsRepair { .. } => "needs repair",
        LockError::Retired { .. } => "retired",
        other => panic!("{other:?}"),
    }
}

fn locked<T: ?Sized>(result: Result<Locked<MutexGuard<'_, T>>, LockError>) -> &'static str {
    match result {
        Ok(Locked::Clean(_)) => "clean",
        Ok(died) => {
            died.or_repair(|_| ()).unlock();
            "owner died"
        }
        Err(error) => why(&error),
    }
}

fn read_by<G>(result: Result<G, LockError>) -> &'static str {
    result.map_or_else(|error| why(&error), |_| "read")
}

/// Writes, or reads and comes to write; and reads on.
fn written(worker: &mut Worker) -> &'static str {
    let (mine, upgrades) = (&worker.mine, worker.random.below(2) == 0);
    if upgrades {
        let guard = match mine.rw.read_upgradable_timeout(mine, MOMENT) {
            Ok(guard) => guard,
            Err(error) => return why(&error),
        };
        return match guard.upgrade_timeout(MOMENT) {
            Ok(guard) => read_by(Ok(guard.downgrade())),
            Err(not) => read_by(Ok(not.into_guard().downgrade())),
        };
    }
    match mine.rw.write_timeout(mine, MOMENT) {
        Ok(Locked::Clean(guard)) => {
            drop(guard.downgrade());
            "clean"
        }
        Ok(died) => {
            *died.or_repair(|_| ()) = 1;
            "owner died"
        }
        Err(error) => why(&error),
    }
}

fn again(worker: &mut Worker) -> &'static str {
    let lock = || worker.mine.again.lock_timeout(&worker.mine, MOMENT);
    match (lock(), lock()) {
        (Ok(Locked::Clean(_)), Ok(_)) => "clean",
        (Ok(died), second) => {
            drop(second);
            drop(died.or_repair(|_| ()));
            "owner died"
        }
        (Err(error), _) => why(&error),
    }
}

fn both(worker: &mut Worker) -> &'static str {
    match lock_both(&worker.mine.state, &worker.mine.other, &worker.mine, Some(MOMENT)) {
        Ok(_) => "both",
        Err(error) => why(&error),
    }
}

fn twice(worker: &mut Worker) -> &'static str {
    let Ok(first) = worker.mine.other.try_lock(&worker.mine) else { return "no lock" };
    let second = locked(worker.mine.other.lock_timeout(&worker.mine, MOMENT));
    drop(first);
    second
}

fn wait(worker: &mut Worker, on: bool) -> &'static str {
    let mine = &worker.mine;
    let Ok(locked) = mine.state.lock_timeout(mine, MOMENT) else { return "no lock" };
    let guard = locked.or_repair(|_| ());
    let until = Until::timeout(MOMENT).or_peer_lost(guard.peer);
    let waited = if on { mine.changed.wait_while(guard, until, |_| true) } else { mine.changed.wait(guard, until) };
    match waited {
        Ok(_) => "woken",
        Err(WaitError::TimedOut { .. }) => "timed out",
        Err(WaitError::PeerLost { .. }) => "peer lost",
        Err(WaitError::Lock(error)) => why(&error),
        Err(other) => panic!("{other:?}"),
    }
}

fn notify(worker: &mut Worker) -> &'static str {
    worker.mine.changed.notify_one();
    worker.mine.changed.notify_all();
    "done"
}

fn set(worker: &mut Worker) -> &'static str {
    match worker.random.below(3) {
        0 => worker.mine.event.set(),
        1 if !worker.mine.event.reset() => return "not set",
        _ if !worker.mine.event.is_set() => return "not set",
        _ => {}
    }
    "set"
}

fn wait_for(worker: &mut Worker) -> &'static str {
    let peer = worker.mine.state.try_lock(&worker.mine).map(|locked| locked.or_repair(|_| ()).peer);
    let (mine, until) = (&worker.mine, Until::timeout(MOMENT));
    let until = peer.map_or(until, |peer| until.or_peer_lost(peer));
    let waited = if worker.random.below(2) == 0 { mine.event.wait(mine, until) } else { mine.event.take(mine, until) };
    match waited {
        Ok(()) => "set",
        Err(WaitError::TimedOut { .. }) => "timed out",
        Err(WaitError::PeerLost { .. }) => "peer lost",
        Err(WaitError::Lock(error)) => why(&error),
        Err(other) => panic!("{other:?}"),
    }
}

fn who(worker: &mut Worker) -> &'static str {
    let mine = &worker.mine;
    assert!(mine.region().is_alive(mine.region().owner()));
    let text = format!("{mine:?} {:?} {:?}", mine.state, mine.region().who(mine.region().owner()));
    assert!(!text.is_empty());
    let Ok(locked) = mine.state.try_lock(mine) else { return "no lock" };
    let peer = locked.or_repair(|_| ()).peer;
    match (mine.region().is_alive(peer), mine.region().who(peer).is_some()) {
        (true, true) => "alive, known",
        (true, false) => "alive, unknown",
        (false, true) => "dead, known",
        (false, false) => "dead, unknown",
    }
}

/// What opening, creating or taking away came to.
fn failed(error: &Error) -> &'static str {
    assert!(!error.to_string().is_empty());
    match error {
        Error::NotFound { .. } | Error::TimedOut { .. } => "not found",
        Error::AlreadyExists { .. } => "exists",
        Error::TypeMismatch { .. } => "another type",
        Error::Foreign { .. } | Error::Corrupt { .. } | Error::Incompatible { .. } => "damaged",
        // Two processes that join or leave in the same moment, or a directory that is held.
        Error::Os { .. } | Error::Busy { .. } => "refused by the system",
        other => panic!("{other:?}"),
    }
}

fn opened(result: Result<Segment<impl memlane::Shareable + ?Sized>, Error>) -> &'static str {
    match result.map(|segment| segment.origin()) {
        Ok(Origin::Created) => "created",
        Ok(Origin::TakenOver) => "taken over",
        Ok(Origin::Opened) => "opened",
        Err(error) => failed(&error),
    }
}

fn read(worker: &mut Worker) -> &'static str {
    let text = ["cam", "raw"][worker.random.below(2) as usize];
    match Region::open(name(text)) {
        Ok(region) => {
            let offset = worker.random.below(2 * region.len() as u64) as usize;
            assert_eq!(region.read_at(offset, &mut [0; 8]).is_ok(), offset + 8 <= region.len());
            "opened"
        }
        Err(error) => failed(&error),
    }
}

fn raw(worker: &mut Worker) -> &'static str {
    match SharedMemory::open(name("raw")).and_then(SharedMemory::map_mut) {
        Ok(mut region) => {
            let offset = worker.random.below(2 * region.len() as u64) as usize;
            let fits = offset + 8 <= region.len();
            assert_eq!(region.write_at(offset, &worker.random.next().to_ne_bytes()).is_ok(), fits);
            assert_eq!(region.read_at(offset, &mut [0; 8]).is_ok(), fits);
            "opened"
        }
        Err(error) => failed(&error),
    }
}

fn look(_: &mut Worker) -> &'static str {
    let listed = list(None).expect("the directory");
    assert!(!format!("{listed:?}").is_empty());
    if listed.iter().any(|object| object.problem.is_some()) { "damaged" } else { "sound" }
}

fn collect(worker: &mut Worker) -> &'static str {
    let dead = gc(None, worker.random.below(2) == 0).expect("the directory");
    if dead.is_empty() { "nothing" } else { "something" }
}

fn take_away(worker: &mut Worker) -> &'static str {
    let name = name(["cam", "raw"][worker.random.below(2) as usize]);
    let result = match worker.random.below(3) {
        0 => remove(name),
        1 => retire(name),
        _ => worker.mine.region().remove_name(),
    };
    result.map_or_else(|error| failed(&error), |()| "removed")
}

// ---------------------------------------------------------------------------------------------------------------
// Who watches them

#[test]
fn garbage_in_live_objects_gives_a_value_or_an_error() {
    let count = times(10_000, 1_000_000);
    let dir = Dir::new();
    let mut random = Random::new();
    let start = Instant::now();
    let user = || {
        let mut user = spawn(dir.path(), "use", &[]);
        user.expect("here");
        user
    };
    let mut users = [user(), user()];
    let workers = (0..WORKERS).map(|number| {
        let share = count / WORKERS + u64::from(number < count % WORKERS);
        spawn(dir.path(), "work", &[&random.next().to_string(), &share.to_string()])
    });
    let watch = Watch::over(workers.collect(), || {
        users.rotate_left(1);
        users[0].kill();
        users[0] = user();
    });

    let mutations: u64 = watch.tally.iter().filter(|((what, _), _)| what == "mutated").map(|(_, count)| count).sum();
    println!(
        "{mutations} mutations by {WORKERS} processes in {:.0?}; {} users killed; {} signals, {} panics, {} hangs",
        start.elapsed(),
        watch.kills,
        watch.signals,
        watch.panics,
        watch.hangs
    );
    watch.print();
    assert!(users.iter_mut().all(Child::kill_if_alive), "a user ended by itself");
    assert_eq!((watch.signals, watch.panics, watch.hangs), (0, 0, 0));
    assert_eq!(mutations, count);
    let hit = ["header", "state", "table", "schema", "condition", "event", "lock", LOCK_WORDS, "data"]
        .map(|what| ("mutated", what));
    let came = OPERATIONS.iter().flat_map(|(what, _, _, all)| all.iter().map(move |came| (*what, *came)));
    // Few mutations hit the state of an object: of those of the short form perhaps none that a certain operation meets.
    let sure = |came: &str| times(0, 1) == 1 || !["retired", "yes"].contains(&came);
    for (what, came) in hit.into_iter().chain(came).filter(|(_, came)| sure(came)) {
        assert!(watch.tally.contains_key(&(what.into(), came.into())), "{what} never came to: {came}");
    }
}
