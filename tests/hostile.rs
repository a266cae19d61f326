//! Garbage in an object's file, before it is opened and while it is in use: an error or a defined result, never a
//! crash, a panic or a hang. What could crash runs in a child process, whose end is looked at.
#![allow(missing_docs)]

mod common;
#[path = "common/garble.rs"]
mod garble;
#[path = "common/object.rs"]
mod object;
#[path = "common/random.rs"]
mod random;

use common::{Child, Dir, hear, role, say, spawn, times};
use garble::garble;
use memlane::{
    Error, LockError, Locked, Name, Options, Persistence, Region, Segment, SharedMemory, Until, WaitError, gc, list,
    remove, retire,
};
use object::{
    CREATOR, DATA, DIRTY, OWNER, SCHEMA, SLOTS, STATE, State, TABLE, Victim, WAITERS, WORD, create, open_file, put,
    u64_at, word_of,
};
use random::Random;
use std::fs::{File, OpenOptions};
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_micros(200);

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let name = Name::new("cam").expect("a name");
    match role.as_str() {
        "use" => {
            let mine = Segment::<Victim>::open(&name).expect("it is there");
            mine.state.lock(&mine).expect("the lock").or_repair(|_| ()).peer = mine.region().owner();
            say("here");
            while hear().is_some() {
                let added = mine.state.lock_timeout(&mine, PATIENCE).map(|locked| {
                    let mut state = locked.or_repair(|_| ());
                    state.value += 1;
                    state.value
                });
                mine.changed.notify_all();
                say(&format!("{added:?}"));
            }
        }
        "mutate" => mutate(arguments[0].parse().expect("a seed"), arguments[1].parse().expect("a count")),
        "scribble" => scribble(arguments[0].parse().expect("a seed")),
        "endure" => endure(Duration::from_secs(arguments[0].parse().expect("seconds"))),
        other => panic!("no role {other}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Before opening

/// Opens in every way, and says what they all agree on.
fn open_all(name: &Name) -> Vec<Error> {
    let results = [
        Segment::<Victim>::open(name).map(drop),
        Segment::<Victim>::open_or_create(name, (), &Options::new(), |_| ()).map(drop),
        Segment::<Victim>::wait_for(name, Some(PATIENCE)).map(drop),
        SharedMemory::open(name).and_then(SharedMemory::map_mut).map(drop),
        Region::open(name).map(drop),
        create(name).map(drop),
    ];
    results.into_iter().map(|result| result.expect_err("it is damaged")).collect()
}

#[test]
fn every_field_of_the_header_is_checked_before_anything_is_believed() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mine = create(&name).expect("a fresh object");
    let file = open_file(&dir.path().join("cam"));
    let fields: [(&str, usize, usize); 13] = [
        ("no memlane object", 0, 8),
        ("format", 8, 4),
        ("endianness", 12, 4),
        ("pointer width", 16, 4),
        ("persistence", 20, 4),
        ("data offset", 40, 8),
        ("size", 48, 8),
        ("schema length", 64, 4),
        ("participant count", 68, 4),
        ("sparse flag", 72, 4),
        ("reserved range", 76, 4),
        ("reserved range", 96, 8),
        ("reserved range", 124, 4),
    ];
    let mut pristine = vec![0; DATA as usize];
    file.read_exact_at(&mut pristine, 0).expect("the header");
    for (part, offset, size) in fields {
        let garbage: [&[u8]; 5] =
            [&[0xff; 8], &[0x7f; 8], &[0x81, 0, 0, 0, 0, 0, 0, 0x81], &[3; 8], &[0, 0, 0, 1, 0, 0, 0, 1]];
        for garbage in garbage {
            put(&file, offset as u64, &garbage[..size]);
            for error in open_all(&name) {
                let known = match &error {
                    Error::Foreign { .. } => offset == 0,
                    Error::Incompatible { field, .. } => *field == part,
                    // A wrong schema length moves all that follows it.
                    Error::Corrupt { field, .. } => *field == part || part == "schema length",
                    _ => false,
                };
                assert!(known && error.to_string().contains("'cam'"), "{part} {garbage:?}: {error:?}");
            }
            assert!(gc(Some(dir.path()), false).expect("the directory").is_empty(), "damaged is not dead");
            let listed = list(Some(dir.path())).expect("the directory");
            assert!(listed.len() == 1 && listed[0].problem.is_some(), "{listed:?}");
            put(&file, offset as u64, &pristine[offset..offset + size]);
            assert!(Segment::<Victim>::open(&name).is_ok(), "whole again");
        }
    }
    assert!(mine.state.lock_timeout(&mine, PATIENCE).is_ok(), "whoever was there already saw nothing of it");
    put(&file, 20, &[9]);
    remove(&name).expect("a damaged object is removed");
    assert!(dir.files().is_empty());
}

#[test]
fn a_damaged_schema_or_tail_is_another_type() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let bytes = Segment::<[u16]>::create(&name, 100, &Options::new(), |_| ()).expect("a fresh object");
    let file = open_file(&dir.path().join("cam"));
    for tail in [0, 99, 101, u64::MAX, u64::MAX / 2, 1 << 63, i64::MAX as u64 / 2] {
        put(&file, 56, &tail.to_ne_bytes());
        let error = Segment::<[u16]>::open(&name).expect_err("not as many");
        assert!(matches!(error, Error::Corrupt { field: "tail length", .. }), "{tail}: {error:?}");
    }
    put(&file, 56, &100_u64.to_ne_bytes());
    assert_eq!(Segment::<[u16]>::open(&name).expect("whole again").len(), 100);
    put(&file, SCHEMA, b"\xff\xfe");
    assert!(matches!(Segment::<[u16]>::open(&name), Err(Error::Corrupt { field: "schema", .. })));
    put(&file, SCHEMA, b"\t\x1b[");
    let shown = [
        Segment::<[u16]>::open(&name).expect_err("another type").to_string(),
        SharedMemory::open(&name).and_then(SharedMemory::map_mut).expect_err("not raw").to_string(),
        list(Some(dir.path())).expect("the directory")[0].type_name.clone().expect("typed"),
    ];
    for text in shown {
        assert!(!text.contains('\x1b'), "a terminal must not obey what lies in shared memory: {text:?}");
    }
    put(&file, SCHEMA, b"\t\t");
    let listed = list(Some(dir.path())).expect("the directory");
    assert_eq!(listed[0].type_name.as_deref(), Some("value of an unknown type"), "not nothing");
    drop(bytes);
    let other = create(&dir.name("other")).expect("a fresh object");
    put(&open_file(&dir.path().join("other")), 56, &1_u64.to_ne_bytes());
    let error = Segment::<Victim>::open(dir.name("other")).expect_err("its type has no tail");
    assert!(matches!(error, Error::Corrupt { field: "tail length", .. }), "{error:?}");
    drop(other);
}

#[test]
fn a_schema_with_the_same_fields_in_another_order_is_another_type_and_says_so() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mine = Segment::<[u16]>::create(&name, 100, &Options::new(), |_| ()).expect("a fresh object");
    let file = open_file(&dir.path().join("cam"));
    let mut schema = vec![0; u64_at(&file, 64) as u32 as usize];
    file.read_exact_at(&mut schema, SCHEMA).expect("the schema");
    let lines: Vec<&[u8]> = schema.split_inclusive(|byte| *byte == b'\n').rev().collect();
    put(&file, SCHEMA, &lines.concat());
    match Segment::<[u16]>::open(&name) {
        Err(Error::TypeMismatch { difference, .. }) => assert!(difference.contains("another order"), "{difference:?}"),
        other => panic!("{other:?}"),
    }
    drop(mine);
}

#[test]
fn a_truncated_or_grown_file_is_refused() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let keep = Options::new().persistence(Persistence::Keep);
    let path = dir.path().join("cam");
    let full = {
        drop(Segment::<Victim>::create(&name, (), &keep, |_| ()).expect("a fresh object"));
        std::fs::read(&path).expect("its bytes")
    };
    let len = full.len() as u64;
    for wrong in [0, 1, 7, 8, 20, 127, 128, 4096, SCHEMA, SCHEMA + 1, DATA, len - 1, len + 1, len + 4096, 1 << 40] {
        std::fs::write(&path, &full).expect("ours to write");
        open_file(&path).set_len(wrong).expect("a sparse file");
        for error in open_all(&name) {
            let clean = match error {
                Error::Foreign { .. } => wrong < 128,
                Error::Corrupt { field: "size", .. } => wrong >= 128,
                _ => false,
            };
            assert!(clean, "{wrong} bytes: {error:?}");
        }
    }
    // Sizes that agree with each other, but that nobody could map.
    std::fs::write(&path, &full).expect("ours to write");
    let file = open_file(&path);
    let most = i64::MAX as u64 / 4096 * 4096;
    put(&file, 48, &(most - DATA).to_ne_bytes());
    file.set_len(most).expect("a sparse file");
    let result = SharedMemory::open(&name).and_then(SharedMemory::map);
    assert!(matches!(result, Err(Error::Os { action: "map", .. } | Error::TooLarge { .. })), "{result:?}");
    assert!(matches!(Segment::<Victim>::open(&name), Err(Error::Os { .. } | Error::Corrupt { .. })));
    remove(&name).expect("it is an object");
}

// ---------------------------------------------------------------------------------------------------------------
// While it is in use

fn user(dir: &Dir) -> Child {
    let mut user = spawn(dir.path(), "use", &[]);
    user.expect("here");
    user
}

#[test]
fn who_uses_an_object_does_not_look_at_its_header_again() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam")).expect("a fresh object");
    let mut user = user(&dir);
    let file = open_file(&dir.path().join("cam"));
    for (number, garbage) in [0xff_u8, 0x00, 0x7f].into_iter().enumerate() {
        put(&file, 0, &[garbage; STATE as usize]);
        put(&file, CREATOR, &[garbage; (TABLE - CREATOR) as usize]);
        put(&file, TABLE, &vec![garbage; (DATA - TABLE) as usize]);
        user.say("add");
        user.expect(&format!("Ok({})", 2 * number + 1));
        assert_eq!(mine.state.lock(&mine).expect("the lock").or_repair(|_| ()).value, 2 * number as u64 + 1);
        mine.state.lock(&mine).expect("the lock").or_repair(|_| ()).value += 1;
        let _ = (mine.region().is_alive(mine.region().owner()), mine.region().who(mine.region().owner()));
    }
    put(&file, STATE, &0xdead_beef_u32.to_ne_bytes());
    user.say("add");
    user.expect(r#"Err(Retired { object: "cam" })"#);
    assert!(mine.region().is_retired());
    assert!(user.finish().success());
}

#[test]
fn a_word_that_names_the_living_is_held_and_one_that_names_nobody_alive_is_taken_over() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam")).expect("a fresh object");
    let file = open_file(&dir.path().join("cam"));
    let mut peer = user(&dir);
    let peers = u64_at(&file, WORD + 8 + offset_of!(State, peer) as u64);
    let set = |word: u64| put(&file, WORD, &word.to_ne_bytes());

    for bits in [0, DIRTY, WAITERS, 0x3fff << 16, DIRTY | WAITERS] {
        set(peers | bits);
        for timeout in [Duration::ZERO, Duration::from_millis(20)] {
            match mine.state.lock_timeout(&mine, timeout) {
                Err(LockError::TimedOut { holder: Some(who), waited, .. }) => {
                    assert!(who.pid == peer.pid() && waited >= timeout, "{who:?}");
                }
                other => panic!("the peer lives: {other:?}"),
            }
        }
    }
    let generation = 0xffff_ffff << 32;
    let of_nobody = [1, 0xffff, 129, u64::MAX, peers ^ (1 << 32), (peers & generation) | 128, 1 << 32 | 100, 128];
    for word in of_nobody {
        set(word);
        assert!(matches!(mine.state.lock(&mine), Ok(Locked::OwnerDied(_))), "{word:#x} names nobody alive");
        set(word);
        let held = mine.state.lock(&mine).expect("the lock").or_repair(|_| ());
        assert_ne!(u64_at(&file, WORD), word);
        set(word); // taken away from its holder, who does not take it from the next one in turn
        drop(held);
        assert_eq!(u64_at(&file, WORD), word);
        peer.say("add");
        assert!(peer.hear().is_some_and(|said| said.starts_with("Ok")));
        assert_eq!(u64_at(&file, WORD), 0);
    }
    set(peers);
    peer.kill();
    assert!(matches!(mine.state.lock_timeout(&mine, PATIENCE), Ok(Locked::OwnerDied(_))));
}

#[test]
fn a_peer_that_is_garbage_is_a_lost_peer() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam")).expect("a fresh object");
    let file = open_file(&dir.path().join("cam"));
    for garbage in [1, 0xffff, u64::MAX, 1 << 32 | 7] {
        put(&file, WORD + 8 + offset_of!(State, peer) as u64, &garbage.to_ne_bytes());
        let state = mine.state.lock(&mine).expect("the lock").or_repair(|_| ());
        let until = Until::timeout(PATIENCE).or_peer_lost(state.peer);
        assert!(!mine.region().is_alive(state.peer));
        let waited = mine.changed.wait_while(state, until, |_| true);
        assert!(matches!(waited, Err(WaitError::PeerLost { peer: None, .. })), "{garbage:#x}: {waited:?}");
    }
}

#[test]
fn a_word_without_a_slot_names_nobody_whatever_its_generation() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam")).expect("a fresh object");
    let file = open_file(&dir.path().join("cam"));
    let without_slot = word_of(&mine, &file) >> 32 << 32;
    put(&file, WORD, &without_slot.to_ne_bytes());
    put(&file, WORD + 8 + offset_of!(State, peer) as u64, &without_slot.to_ne_bytes());
    let Ok(Locked::Clean(state)) = mine.state.try_lock(&mine) else { panic!("it is not locked") };
    assert!(state.peer.is_nobody() && !mine.region().is_alive(state.peer));
    assert_eq!(mine.region().who(state.peer), None);
}

/// Our object, its file, and a child that uses it and that its lock names as the holder.
fn held_by_a_peer(dir: &Dir) -> (Segment<Victim>, File, Child) {
    let mine = create(&dir.name("cam")).expect("a fresh object");
    let peer = user(dir);
    let file = open_file(&dir.path().join("cam"));
    put(&file, WORD, &u64_at(&file, WORD + 8 + offset_of!(State, peer) as u64).to_ne_bytes());
    (mine, file, peer)
}

/// The slot of the first who opens an object that another created.
const SECOND: u64 = TABLE + 64;

#[test]
fn a_holder_without_a_pid_is_not_named() {
    let dir = Dir::new();
    let (mine, file, _peer) = held_by_a_peer(&dir);
    put(&file, SECOND + 4, &[0; 4]);
    assert!(matches!(mine.state.try_lock(&mine), Err(LockError::TimedOut { holder: None, .. })));
    let users: Vec<u32> = list(Some(dir.path())).expect("the directory")[0].users.iter().map(|who| who.pid).collect();
    assert_eq!(users, [std::process::id()]);
}

#[test]
fn a_process_that_started_at_another_time_is_another() {
    let dir = Dir::new();
    let (mine, file, peer) = held_by_a_peer(&dir);
    let stopped = || match mine.state.try_lock(&mine) {
        Err(LockError::TimedOut { holder: Some(who), .. }) => who.stopped,
        other => panic!("the peer lives: {other:?}"),
    };
    peer.signal("STOP");
    while !stopped() {}
    put(&file, SECOND + 8, &1_u64.to_ne_bytes());
    assert!(!stopped());
}

#[test]
fn garbage_in_what_sleepers_say_harms_nobody() {
    // Also the lock that it holds itself.
    let own = offset_of!(Victim, state) as u64;
    for last in [u64::MAX, u64::MAX - 3, u64::MAX - 7, u64::MAX - DATA, i64::MAX as u64, 1 << 63, 4096, own, 0] {
        for kind in [1, 2, 3] {
            let dir = Dir::new();
            let (mine, file, mut peer) = held_by_a_peer(&dir);
            put(&file, SECOND + 32, &(last & !3 | kind).to_ne_bytes());
            let (mine, (done, ended)) = (Arc::new(mine), mpsc::channel());
            std::thread::spawn(move || done.send(mine.state.try_lock(&*mine).map(drop)));
            match ended.recv_timeout(PATIENCE) {
                Ok(Err(LockError::TimedOut { cycle, .. })) => assert!(cycle.is_empty(), "{last:#x} {cycle:?}"),
                other => panic!("the peer lives, and to try is not to wait: {other:?}"),
            }
            retire(dir.name("cam")).expect("it is there");
            peer.say("add");
            peer.expect(r#"Err(Retired { object: "cam" })"#);
            assert!(peer.finish().success());
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// At random

/// An object that this process uses twice, and its file.
struct Target {
    path: PathBuf,
    mine: Segment<Victim>,
    peer: Segment<Victim>,
    file: File,
    pristine: Vec<u8>,
    words: [u64; 2],
}

impl Target {
    fn new() -> Self {
        let name = Name::new("cam").expect("a name");
        let path = name.directory().expect("it has one").join("cam");
        let mine = create(&name).expect("a fresh object");
        let peer = Segment::open(&name).expect("it is there");
        let file = open_file(&path);
        let words = [word_of(&mine, &file), word_of(&peer, &file)];
        let pristine = std::fs::read(&path).expect("its bytes");
        Self { path, mine, peer, file, pristine, words }
    }

    fn is_as_made(&self, range: std::ops::Range<usize>) -> bool {
        let mut now = vec![0; range.len()];
        self.file.read_exact_at(&mut now, range.start as u64).expect("inside the file");
        now == self.pristine[range]
    }
}

/// What taking the lock must come to, from the bytes alone.
fn lock_as_foretold(target: &Target) -> &'static str {
    let (word, state) = (u64_at(&target.file, WORD), u64_at(&target.file, STATE) as u32);
    let (slot, generation) = ((word & 0xffff) as usize, (word >> 32) as u32);
    let in_table = |slot: usize| u64_at(&target.file, TABLE + 64 * slot as u64) as u32;
    // Our own word lives, whatever the table says; of another slot the table says it, if it is the peer's.
    let [mine, peer] = target.words;
    let names_peer = (word ^ peer) & 0xffff == 0;
    let foretold = match slot {
        _ if state != 0 => "retired",
        0 if word & DIRTY == 0 => "clean",
        0 => "died",
        _ if (word ^ mine) & OWNER == 0 => "timed out",
        slot if slot > SLOTS || in_table(slot - 1) != generation || !names_peer => "died",
        _ => "timed out",
    };
    let result = target.mine.state.lock_timeout(&target.mine, MOMENT);
    let came = match &result {
        Ok(Locked::Clean(_)) => "clean",
        Ok(Locked::OwnerDied(_)) => "died",
        Err(LockError::Retired { .. }) => "retired",
        Err(error @ LockError::TimedOut { holder, .. }) => {
            assert!(!error.to_string().is_empty());
            let table = TABLE as usize..SCHEMA as usize;
            let named = holder.as_ref().is_some_and(|who| who.pid == std::process::id());
            assert!(named || !target.is_as_made(table), "{error:?}");
            "timed out"
        }
        other => panic!("{word:#x}: {other:?}"),
    };
    assert_eq!(came, foretold, "{word:#x}");
    if let Ok(locked) = result {
        let guard = locked.or_repair(|_| ());
        let until = Until::timeout(MOMENT).or_peer_lost(guard.peer);
        match target.mine.changed.wait_while(guard, until, |_| true) {
            Ok(Locked::OwnerDied(_)) | Err(_) => {}
            Ok(Locked::Clean(_)) => panic!("the condition still holds"),
        }
    }
    came
}

/// Opens in every way; a header that is not as it was made is never believed.
fn open_garbled(target: &Target) {
    // The persistence, the id and the sparse flag have more than one good value.
    let sound = [0..20, 40..72, 76..STATE as usize, SCHEMA as usize..DATA as usize];
    let sound = sound.into_iter().all(|range| target.is_as_made(range));
    let state = u64_at(&target.file, STATE) as u32;
    let opened = Segment::<Victim>::open("cam");
    assert!(opened.is_err() || sound, "a damaged header was believed: {opened:?}");
    assert!(opened.is_err() || state == 0, "a retired object was opened");
    if let Err(error) = &opened {
        assert!(!error.to_string().is_empty());
        assert!(!sound || !target.is_as_made(0..STATE as usize + 4), "a sound object was refused: {error:?}");
    }
    drop(opened);
    let _ = Segment::<u64>::open("cam").map_err(|error| error.to_string());
    let _ = SharedMemory::open("cam").and_then(SharedMemory::map_mut);
    let _ = Region::open("cam").map(|region| region.read_at(0, &mut [0; 8]));
}

/// One process, one object, `count` times: garble, call, compare with what the bytes say.
fn mutate(seed: u64, count: u64) {
    let mut random = Random::from_seed(seed);
    let mut target = Target::new();
    let (mut clean, mut died, mut timed_out, mut retired) = (0_u64, 0_u64, 0_u64, 0_u64);
    for _ in 0..count {
        for _ in 0..=random.below(4) {
            garble(&mut random, &target.file, &target.words, true);
        }
        match lock_as_foretold(&target) {
            "clean" => clean += 1,
            "died" => died += 1,
            "timed out" => timed_out += 1,
            _ => retired += 1,
        }
        target.peer.changed.notify_one();
        target.peer.changed.notify_all();
        let _ = target.peer.other.try_lock(&target.peer).map(|locked| locked.or_repair(|_| ()).unlock());
        let _ = (target.mine.region().who(target.peer.region().owner()), format!("{target:?}", target = target.mine));
        open_garbled(&target);
        let listed = list(None).expect("the directory");
        assert!(listed.len() <= 1, "{listed:?}");
        let _ = gc(None, random.below(2) == 0).expect("the directory");
        match random.below(64) {
            0 => drop(remove("cam")),
            1 => drop(retire("cam")),
            2 | 3 => drop(create(&Name::new("cam").expect("a name"))),
            _ => {}
        }
        if target.path.exists() {
            put(&target.file, 0, &target.pristine);
        } else {
            drop(target);
            target = Target::new();
        }
    }
    drop(target);
    say(&format!("{clean} {died} {timed_out} {retired}"));
}

#[test]
fn random_garbage_gives_what_its_bytes_say_and_never_a_crash() {
    let count = times(3_000, 100_000);
    let dir = Dir::new();
    let mut random = Random::new();
    let mut victim = spawn(dir.path(), "mutate", &[&random.next().to_string(), &count.to_string()]);
    let said = victim.hear().expect("the seed above makes it again");
    assert!(victim.finish().success());
    let counts: Vec<u64> = said.split(' ').map(|number| number.parse().expect("a number")).collect();
    println!("{count} times: clean, owner died, timed out, retired: {said}");
    assert!(counts.iter().sum::<u64>() == count && counts.iter().all(|seen| *seen > 20), "{said}");
    assert!(dir.files().is_empty());
}

/// Garbles whatever has the name, until it is killed.
fn scribble(seed: u64) {
    let mut random = Random::from_seed(seed);
    say("scribbling");
    loop {
        let name = Name::new("cam").expect("a name");
        let Ok(file) =
            OpenOptions::new().read(true).write(true).open(name.directory().expect("it has one").join("cam"))
        else {
            continue;
        };
        let words = [u64_at(&file, CREATOR), u64_at(&file, WORD)];
        for _ in 0..200 {
            let state_too = random.below(500) == 0;
            garble(&mut random, &file, &words, state_too);
        }
    }
}

/// Uses the object for `time` while others garble it.
fn endure(time: Duration) {
    let name = Name::new("cam").expect("a name");
    let start = Instant::now();
    let (mut calls, mut objects) = (0_u64, 0_u64);
    while start.elapsed() < time {
        if remove(&name).is_err() {
            drop(std::fs::remove_file(name.directory().expect("it has one").join("cam")));
        }
        let Ok(mine) = create(&name) else { continue };
        objects += 1;
        for _ in 0..50 {
            if let Ok(locked) = mine.state.lock_timeout(&mine, MOMENT) {
                let guard = locked.or_repair(|_| ());
                let until = Until::timeout(MOMENT).or_peer_lost(guard.peer);
                drop(mine.changed.wait_while(guard, until, |_| true));
            }
            mine.changed.notify_all();
            drop(mine.other.try_lock(&mine));
            let _ = Segment::<Victim>::open(&name).map(|other| other.state.try_lock(&other).map(drop));
            let _ = Region::open(&name);
            let _ = list(None).expect("the directory");
            let _ = gc(None, true).expect("the directory");
            calls += 1;
        }
    }
    say(&format!("{calls} {objects}"));
}

#[test]
fn garbage_that_appears_between_any_two_instructions_never_crashes() {
    let dir = Dir::new();
    let mut random = Random::new();
    let mut scribblers: Vec<Child> =
        (0..2).map(|_| spawn(dir.path(), "scribble", &[&random.next().to_string()])).collect();
    scribblers.iter_mut().for_each(|scribbler| scribbler.expect("scribbling"));
    let mut victim = spawn(dir.path(), "endure", &[&times(5, 60).to_string()]);
    let said = victim.hear().expect("the seed above makes it again, perhaps");
    assert!(victim.finish().success());
    assert!(scribblers.iter_mut().all(Child::kill_if_alive), "a scribbler ended by itself");
    println!("rounds of calls, objects: {said}");
    let calls: u64 = said.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(calls > 100, "{said}");
}
