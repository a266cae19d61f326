//! Garbage in semaphores, barriers, and values that are initialised once or read without a lock, while they are used: a
//! value or an error every time, no signal, no panic, no hang.
#![allow(missing_docs)]
#![cfg(not(any(miri, memlane_heap)))]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Dir, times};
use memlane::{
    Barrier, LockError, Once, Options, Party, Permit, Segment, Semaphore, SeqCell, Shareable, Until, Versioned,
    WaitError, held_locks,
};
use random::Random;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_micros(100);
/// Nothing takes as long that does not hang.
const HANG: Duration = Duration::from_secs(30);

#[derive(Shareable)]
#[repr(C)]
struct Words {
    permits: Semaphore<3>,
    barrier: Barrier<2>,
    once: Once<[u64; 2]>,
    versioned: Versioned<[u64; 3]>,
    cell: SeqCell<[u8; 11]>,
}

/// Writes something, mostly what could be meant, over some word.
fn garble(random: &mut Random, file: &File, data: u64, meant: &[u64]) {
    let offset = data + random.below(size_of::<Words>() as u64 / 4) * 4;
    let value = match random.below(6) {
        0 => 0,
        1 => random.next(),
        2 => 1 << random.below(64),
        3 => random.below(4),
        _ => meant[random.below(meant.len() as u64) as usize],
    };
    let size = [4, 8][random.below(2) as usize].min((data + size_of::<Words>() as u64 - offset) as usize);
    file.write_all_at(&value.to_ne_bytes()[..size], offset).expect("inside the file");
}

fn taken<T>(result: Result<T, LockError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(LockError::NoneFree { .. }) => "none free",
        Err(LockError::TimedOut { .. }) => "timed out",
        Err(LockError::NeedsRepair { .. }) => "needs repair",
        Err(LockError::AlreadyLocked { .. }) => "already locked",
        Err(error) => panic!("{error}"),
    }
}

/// What a worker has.
#[derive(Default)]
struct Had<'a> {
    permits: Vec<Permit<'a>>,
    party: Option<Party<'a, 2>>,
}

fn call<'a>(random: &mut Random, shared: &'a Segment<Words>, had: &mut Had<'a>) -> String {
    let Had { permits, party } = had;
    let until = Until::timeout(MOMENT);
    let came = match random.below(12) {
        0 => {
            permits.truncate(random.below(5) as usize);
            let permit = shared.permits.try_acquire(shared).map(|permit| permits.push(permit));
            ("try_acquire", taken(permit))
        }
        1 => ("acquire_timeout", taken(shared.permits.acquire_timeout(shared, MOMENT))),
        2 => ("available", if shared.permits.available(shared) == 3 { "all" } else { "some" }),
        3 => {
            drop(party.take());
            let joined = shared.barrier.join(shared);
            let came = if joined.is_ok() { "done" } else { "none free" };
            assert!(matches!(joined, Ok(_) | Err(LockError::NoneFree { .. })), "{joined:?}");
            *party = joined.ok();
            ("join", came)
        }
        4 => ("leave", if party.take().is_some() { "left" } else { "had none" }),
        5 | 6 => match party.as_mut().map(|party| party.wait(until)) {
            None => ("wait", "had no seat"),
            Some(Ok(_)) => ("wait", "passed"),
            Some(Err(WaitError::Broken { .. })) => ("wait", "broken"),
            Some(Err(WaitError::TimedOut { .. })) => ("wait", "timed out"),
            Some(Err(error)) => panic!("{error}"),
        },
        7 => match shared.barrier.reset(shared) {
            Ok(true) => ("reset", "mended"),
            Ok(false) => ("reset", "nothing to mend"),
            Err(error) => ("reset", taken::<()>(Err(error))),
        },
        8 => ("once", taken(shared.once.get_or_init_timeout(shared, MOMENT, |value| *value = [1; 2]))),
        9 => {
            let _ = shared.versioned.read();
            ("versioned", taken(shared.versioned.update_timeout(shared, |value| value[0] ^= 1, MOMENT)))
        }
        10 => ("cell, read", taken(shared.cell.read(shared))),
        _ => ("cell, write", taken(shared.cell.write_timeout(shared, [3; 11], MOMENT))),
    };
    format!("{} {}", came.0, came.1)
}

/// The word of who has the only permit that is taken, whichever it is.
fn word_of(shared: &Segment<Words>, file: &File, data: u64) -> u64 {
    std::mem::forget(shared.permits.try_acquire(shared).expect("it is free"));
    let words = [8, 16, 24].map(|offset| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, data + offset).expect("a permit's word");
        file.write_all_at(&[0; 8], data + offset).expect("a permit's word");
        u64::from_ne_bytes(word)
    });
    words.into_iter().find(|word| *word != 0).expect("it is taken")
}

#[test]
fn any_bytes_give_a_value_or_an_error() {
    let dir = Dir::new();
    let shared = Segment::<Words>::create(dir.name("w"), (), &Options::new(), |_| ()).expect("a fresh object");
    let file = File::options().read(true).write(true).open(dir.path().join("w")).expect("the object");
    let mut word = [0; 8];
    file.read_exact_at(&mut word, 40).expect("where the user's bytes begin");
    let data = u64::from_ne_bytes(word);
    let me = word_of(&shared, &file, data);
    let dead = word_of(&Segment::open(dir.name("w")).expect("the same object"), &file, data);
    let meant = [me, dead, me | 1 << 16, dead | 1 << 30, 1 << 63, 1 << 48, (1 << 63) | (1 << 40)];
    let (mut tally, done) = (BTreeMap::<String, u64>::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new();
            while !done.load(Ordering::Relaxed) {
                garble(&mut random, &file, data, &meant);
                std::thread::sleep(Duration::from_micros(random.below(200)));
            }
        });
        let (mut random, mut had) = (Random::new(), Had::default());
        for round in 0..times(10_000, 500_000) {
            let start = Instant::now();
            *tally.entry(call(&mut random, &shared, &mut had)).or_default() += 1;
            assert!(start.elapsed() < HANG, "it hung");
            if round % 100 == 0 {
                let _ = held_locks(dir.name("w")).expect("it can be read");
                let _ = format!("{:?} {:?} {:?}", shared.permits, shared.barrier, shared.once);
            }
            garble(&mut random, &file, data, &meant);
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{tally:?}");
    for must in [
        "try_acquire done",
        "try_acquire none free",
        "acquire_timeout none free",
        "join done",
        "join none free",
        "wait passed",
        "wait broken",
        "wait timed out",
        "reset mended",
        "once done",
        "versioned done",
        "versioned timed out",
        "cell, read done",
        "cell, read needs repair",
        "cell, write done",
    ] {
        assert!(tally.contains_key(must), "never happened: {must}");
    }
}
