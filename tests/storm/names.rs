//! Who creates, opens, removes, retires, collects and lists; and raw bytes that come and go like the others.

use crate::board::{Me, NAMES};
use memlane::{
    Error, LockError, Mutex, Options, Origin, Persistence, RegionMut, Segment, Shareable, SharedMemory, gc, list,
    remove, retire,
};
use std::time::Duration;

const USE: Duration = Duration::from_millis(2);
const KEPT: usize = 2;
const RAW: usize = 3;
const BUSY: &str = "busy";
const RAW_SIZE: u64 = 1 << 14;

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    stamp: u64,
    pair: Mutex<[u64; 2]>,
    bytes: [u8],
}

fn build(stamp: u64) -> impl FnMut(&mut Shared) {
    move |shared| {
        shared.stamp = stamp;
        shared.bytes.fill(stamp as u8);
    }
}

/// How often the name was taken away from those who live, or was about to be.
fn removals(me: &Me, name: usize) -> u64 {
    *me.board.removals[name].lock(&me.board).expect("the parent's object").or_repair(|_| ())
}

/// Does what may take the name away from those who live. Counted first, and both under the lock: who sees this count
/// sees the name gone, or us dead. Gives the count as well.
fn removing<T>(me: &Me, name: usize, take_away: impl FnOnce() -> T) -> (u64, T) {
    let mut removals = me.board.removals[name].lock(&me.board).expect("the parent's object").or_repair(|_| ());
    *removals += 1;
    (*removals, take_away())
}

fn count_origin(me: &Me, origin: Origin) {
    me.count(match origin {
        Origin::Created => "created",
        Origin::TakenOver => "taken over",
        Origin::Opened => "opened",
    });
}

pub fn create(mut me: Me) {
    loop {
        let name = me.random.below(3) as usize;
        let stamp = me.random.next();
        let keep = if name == KEPT { Persistence::Keep } else { Persistence::UntilLastUser };
        let options = Options::new().persistence(keep);
        // An orphan of another size is retired: that may happen to the second name.
        let size = if name == 1 { 256 << (stamp % 2) } else { 256 };
        let create = || Segment::create(NAMES[name], size, &options, build(stamp));
        let (before, created) = if name == 1 { removing(&me, name, create) } else { (removals(&me, name), create()) };
        match created {
            Ok(mine) => use_it(&mut me, mine, name, before),
            Err(Error::AlreadyExists { .. }) => me.count("exists already"),
            Err(error) => panic!("{error:?}"),
        }
        me.turn();
        me.work(USE);
    }
}

pub fn open(mut me: Me) {
    loop {
        let name = me.random.below(3) as usize;
        let before = removals(&me, name);
        let stamp = me.random.next();
        let opened = match stamp % 4 {
            0 if name == 0 => Segment::open_or_create(NAMES[0], 256, &Options::new(), build(stamp)),
            _ => Segment::open(NAMES[name]),
        };
        match opened {
            Ok(mine) => use_it(&mut me, mine, name, before),
            Err(Error::NotFound { .. }) => me.count("not found"),
            Err(error) => panic!("{error:?}"),
        }
        me.turn();
        me.work(USE);
    }
}

/// Uses an object, checks that its name leads to it meanwhile, and closes it. `before` were the removals before it was
/// opened: if there are more, the name may lead elsewhere.
fn use_it(me: &mut Me, mine: Segment<Shared>, name: usize, before: u64) {
    let id = mine.region().id();
    count_origin(me, mine.origin());
    let is_found = |me: &Me| match Segment::<Shared>::open(NAMES[name]) {
        Ok(found) if found.region().id() == id => true,
        found => {
            let others = removals(me, name) - before;
            assert!(others > 0, "the name of a living object leads to {found:?}, and nobody removed it");
            false
        }
    };
    for _ in 0..me.random.below(4) {
        assert!(mine.bytes.iter().all(|byte| *byte == mine.stamp as u8), "not what its creator wrote");
        let locked = match mine.pair.lock(&mine) {
            Ok(locked) => locked,
            Err(LockError::Retired { .. }) => {
                assert!(removals(me, name) > before, "nobody retired it");
                me.count("told that it is retired");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let died = matches!(locked, memlane::Locked::OwnerDied(_));
        let mut pair = me.take(locked, "owner died: object");
        assert!(died || pair[0] == pair[1], "two inside, or a repair that was not asked for");
        pair[0] += 1;
        me.work(USE);
        pair[1] = pair[0];
        drop(pair);
        if !is_found(me) {
            return;
        }
        me.count("the name leads to the object");
    }
    if name == KEPT {
        drop(mine);
        if is_found(me) {
            me.count("kept");
        }
    }
}

/// In a hurry, as first and as last user, of an object that nobody takes the name of: it always leads to the object.
pub fn come_and_go(mut me: Me) {
    loop {
        for _ in 0..20 {
            let mine = if me.random.below(4) == 0 {
                SharedMemory::create(BUSY, 16, &Options::new())
            } else {
                SharedMemory::open_or_create(BUSY, 16, &Options::new())
            };
            match mine {
                Ok(mine) => {
                    let found = SharedMemory::open(BUSY).map(|found| found.id());
                    let same = matches!(found, Ok(id) if id == mine.id());
                    assert!(same, "the name of a living object leads to {found:?}");
                    me.count("came and went");
                }
                Err(Error::AlreadyExists { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        me.turn();
        me.work(USE);
    }
}

pub fn take_away(mut me: Me) {
    loop {
        me.work(Duration::from_millis(20));
        let name = me.random.below(NAMES.len() as u64) as usize;
        let kind = me.random.below(3);
        let take_away = || match kind {
            0 => retire(NAMES[name]),
            1 if name != RAW => Segment::<Shared>::open(NAMES[name])?.region().remove_name(),
            _ => remove(NAMES[name]),
        };
        let event = if kind == 0 { "retired" } else { "removed" };
        match removing(&me, name, take_away).1 {
            Ok(()) => me.count(event),
            Err(Error::NotFound { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        me.turn();
    }
}

pub fn collect(mut me: Me) {
    loop {
        gc(None, false).expect("the directory").iter().for_each(|_| me.count("reclaimed by gc"));
        me.turn();
        me.work(USE);
    }
}

/// The parent's objects are there whatever happens to the others, and all others are sound.
pub fn look(mut me: Me) {
    loop {
        let objects = list(None).expect("the directory");
        for object in &objects {
            assert!(object.problem.is_none() && !object.foreign, "{object:?}");
            assert!(!(object.in_use && object.stale), "{object:?}");
        }
        for name in ["board", "small", "large"] {
            let there = objects.iter().any(|object| object.name == name && object.in_use && object.creator.is_some());
            assert!(there, "{name} is not in {objects:?}");
        }
        me.count("listed");
        me.turn();
        me.work(USE);
    }
}

/// The byte of a raw object at a place: never 0.
fn byte(id: u128, place: usize) -> u8 {
    ((id >> (place % 120)) as u8).wrapping_add(place as u8) | 1
}

/// Writes some bytes of a raw object that are as they follow from its id and their place, and reads all.
pub fn write_raw(mut me: Me) {
    loop {
        let raw = SharedMemory::open_or_create(NAMES[RAW], RAW_SIZE, &Options::new()).expect("one or the other");
        count_origin(&me, raw.origin());
        let mut region: RegionMut = raw.map_mut().expect("raw bytes");
        for _ in 0..me.random.below(8) {
            let start = me.random.below(RAW_SIZE) as usize;
            let end = start + me.random.below(RAW_SIZE - start as u64) as usize;
            let bytes: Vec<u8> = (start..end).map(|place| byte(region.id(), place)).collect();
            region.write_at(start, &bytes).expect("it fits");
            let mut all = vec![0; RAW_SIZE as usize];
            region.read_at(0, &mut all).expect("it fits");
            check_raw(region.id(), &all);
            assert_eq!(all[start..end], bytes, "not what was written");
            me.count("raw object written");
            me.work(USE);
        }
        me.turn();
    }
}

pub fn read_raw(mut me: Me) {
    loop {
        match SharedMemory::open(NAMES[RAW]) {
            Ok(raw) => {
                let id = raw.id();
                let region = raw.map().expect("the address space");
                let [mut before, mut after] = [(); 2].map(|()| vec![0; RAW_SIZE as usize]);
                region.read_at(0, &mut before).expect("it fits");
                me.work(USE);
                region.read_at(0, &mut after).expect("it fits");
                check_raw(id, &after);
                assert!(before.iter().zip(&after).all(|(before, after)| *before == 0 || before == after), "bytes went");
                me.count("raw object read");
            }
            Err(Error::NotFound { .. }) => me.count("not found"),
            Err(error) => panic!("{error:?}"),
        }
        me.turn();
        me.work(USE);
    }
}

fn check_raw(id: u128, bytes: &[u8]) {
    let strange = bytes.iter().enumerate().find(|(place, found)| **found != 0 && **found != byte(id, *place));
    assert!(strange.is_none(), "a byte that nobody wrote: {strange:?}");
}
