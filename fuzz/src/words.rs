//! Calls on a live segment, and writes to its header, table, locks and condition between them.

use super::object::{
    CONDITION, DIRTY, OTHER, OWNER, SLOTS, TABLE, Victim, WORD, create, open_file, put, u64_at, word_of,
};
use super::{Input, Place, edit, listed, show, state, tidy};
use memlane::{LockError, Locked, Mutex, MutexGuard, Segment, Until, WaitError, lock_both};
use std::fmt::Debug;
use std::fs::File;
use std::time::Duration;

const MOMENT: Duration = Duration::from_micros(50);

/// What taking a lock comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Clean,
    Died,
    TimedOut,
    AlreadyLocked,
    Retired,
}

/// What the bytes say that taking the lock at `offset` must come to, for the attachment with the word `me`. `others`
/// are the words of the other attachments that live, `held` of those through which this thread holds this lock.
pub fn foretell(file: &File, offset: u64, me: u64, others: &[u64], held: &[u64]) -> Came {
    let word = u64_at(file, offset);
    let (slot, generation) = (word & 0xffff, (word >> 32) as u32);
    let in_table = |slot: u64| u64_at(file, TABLE + 64 * (slot - 1)) as u32;
    let is_other = others.iter().any(|other| (other ^ word) & 0xffff == 0);
    match slot {
        _ if state(file) != 0 => Came::Retired,
        0 if word & DIRTY == 0 => Came::Clean,
        0 => Came::Died,
        // Its own word lives, whatever the table says; of another slot the table says it, if that one lives.
        _ if (word ^ me) & OWNER == 0 => alive(word, held),
        slot if slot > SLOTS as u64 || in_table(slot) != generation || !is_other => Came::Died,
        _ => alive(word, held),
    }
}

fn alive(word: u64, held: &[u64]) -> Came {
    if held.contains(&(word & OWNER)) { Came::AlreadyLocked } else { Came::TimedOut }
}

/// What taking a lock came to.
pub fn came<T: ?Sized>(result: &Result<Locked<MutexGuard<'_, T>>, LockError>) -> Came {
    match result {
        Ok(Locked::Clean(_)) => Came::Clean,
        Ok(Locked::OwnerDied(_)) => Came::Died,
        Err(LockError::TimedOut { .. }) => Came::TimedOut,
        Err(LockError::AlreadyLocked { .. }) => Came::AlreadyLocked,
        Err(LockError::Retired { .. }) => Came::Retired,
        Err(other) => panic!("{other:?}"),
    }
}

/// A lock that is held.
struct Held<'a> {
    by: usize,
    offset: u64,
    complete: bool,
    guard: Box<dyn Debug + 'a>,
}

/// An object that is attached to twice.
struct Live<'a> {
    file: File,
    segments: [&'a Segment<Victim>; 2],
    /// The words of the two, and of one that has gone.
    words: [u64; 3],
    held: Vec<Held<'a>>,
}

pub fn run(data: &[u8]) {
    let place = Place::new();
    let name = place.name("o");
    let mine = create(&name).expect("a fresh object");
    let peer = Segment::open(&name).expect("it is there");
    let gone = Segment::open(&name).expect("it is there");
    let file = open_file(&place.file("o"));
    let words = [&mine, &peer, &gone].map(|segment| word_of(segment, &file));
    drop(gone);
    let mut live = Live { file, segments: [&mine, &peer], words, held: Vec::new() };
    let mut input = Input::new(data);
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        match input.byte() % 16 {
            0..=5 => edit(&mut input, &live.file, &words),
            6..=8 => live.lock(&mut input),
            9 => live.unlock(&mut input),
            10 => live.notify(&mut input),
            11 => live.wait(&mut input),
            12 => live.lock_both(&mut input),
            13 => live.look(),
            14 => drop(listed(&place)),
            _ => change_name(&mut input, &place),
        }
    }
    while !live.held.is_empty() {
        live.unlock(&mut input);
    }
}

impl<'a> Live<'a> {
    fn held_at(&self, offset: u64) -> Vec<u64> {
        self.held.iter().filter(|held| held.offset == offset).map(|held| self.words[held.by]).collect()
    }

    fn foretell(&self, by: usize, offset: u64) -> Came {
        foretell(&self.file, offset, self.words[by], &[self.words[1 - by]], &self.held_at(offset))
    }

    fn lock(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let by = usize::from(choice & 1);
        let segment = self.segments[by];
        if choice & 2 == 0 {
            self.take(&segment.state, "`state`", WORD, by, choice);
        } else {
            self.take(&segment.other, "`other`", OTHER, by, choice);
        }
    }

    fn take<T: Debug>(&mut self, mutex: &'a Mutex<T>, path: &str, offset: u64, by: usize, choice: u8) {
        let segment = self.segments[by];
        let foretold = self.foretell(by, offset);
        let result = match choice & 4 {
            0 => mutex.try_lock(segment),
            _ => mutex.lock_timeout(segment, MOMENT),
        };
        assert_eq!(came(&result), foretold);
        let (guard, complete): (Box<dyn Debug>, bool) = match result {
            Ok(Locked::OwnerDied(died)) if choice & 8 == 0 => (Box::new(died), false),
            Ok(locked) => (Box::new(locked.or_repair(|_| ())), true),
            Err(error) => {
                show(&error);
                if let LockError::TimedOut { object, lock, .. } | LockError::AlreadyLocked { object, lock } = error {
                    assert_eq!((&*object, &*lock), ("o", path));
                }
                return;
            }
        };
        let word = u64_at(&self.file, offset);
        assert_eq!(word & OWNER, self.words[by]);
        // Until somebody says that the data is complete, also over the death of this holder.
        assert_eq!(word & DIRTY != 0, foretold == Came::Died);
        assert!(!format!("{guard:?}").is_empty());
        self.held.push(Held { by, offset, complete, guard });
    }

    /// Gives a lock back: a word that names somebody else by now is left alone.
    fn unlock(&mut self, input: &mut Input<'_>) {
        if self.held.is_empty() {
            return;
        }
        let held = self.held.swap_remove(usize::from(input.byte()) % self.held.len());
        let before = u64_at(&self.file, held.offset);
        drop(held.guard);
        let left = if held.complete { 0 } else { DIRTY };
        let expected = if before & OWNER == self.words[held.by] { left } else { before };
        assert_eq!(u64_at(&self.file, held.offset), expected, "{before:#x}");
    }

    fn notify(&self, input: &mut Input<'_>) {
        let sequence = || (u64_at(&self.file, CONDITION) as u32) >> 1;
        let before = sequence();
        let condition = &self.segments[0].changed;
        if input.byte() & 1 == 0 {
            condition.notify_one()
        } else {
            condition.notify_all()
        }
        assert_eq!(sequence(), before.wrapping_add(1) & (u32::MAX >> 1));
    }

    /// Nobody notifies: the wait ends when the time is over, or because whoever was named is not there.
    fn wait(&self, input: &mut Input<'_>) {
        let by = usize::from(input.byte() & 1);
        let segment = self.segments[by];
        let foretold = self.foretell(by, WORD);
        let result = segment.state.try_lock(segment);
        assert_eq!(came(&result), foretold);
        let Ok(locked) = result else { return };
        let guard = locked.or_repair(|_| ());
        let peer = guard.peer;
        let lost = !peer.is_nobody() && !segment.region().is_alive(peer);
        let known = segment.region().who(peer);
        let until = Until::timeout(MOMENT).or_peer_lost(peer);
        let error = match input.byte() & 1 {
            0 => segment.changed.wait(guard, until),
            _ => segment.changed.wait_while(guard, until, |_| true),
        };
        let error = error.map(drop).expect_err("nobody notified");
        show(&error);
        match error {
            WaitError::PeerLost { peer, .. } => assert!(lost && peer == known),
            WaitError::TimedOut { waited, .. } => assert!(!lost && waited >= MOMENT),
            other => panic!("{other:?}"),
        }
    }

    /// Both locks or none of them.
    fn lock_both(&self, input: &mut Input<'_>) {
        let by = usize::from(input.byte() & 1);
        let segment = self.segments[by];
        let foretold = [WORD, OTHER].map(|offset| self.foretell(by, offset));
        let both = lock_both(&segment.other, &segment.state, segment, Some(Duration::ZERO));
        let can = foretold.iter().all(|came| matches!(came, Came::Clean | Came::Died));
        assert_eq!(both.is_ok(), can, "{foretold:?}");
        match both {
            Ok((other, state)) => assert_eq!([came(&Ok(state)), came(&Ok(other))], foretold),
            Err(error) => show(&error),
        }
        // A first lock that was taken from a dead holder and given back unrepaired still says so.
        if !can && foretold[0] == Came::Died {
            assert_eq!(u64_at(&self.file, WORD), DIRTY);
            put(&self.file, WORD, &0_u64.to_ne_bytes());
        }
    }

    /// What an attachment says of itself and of the others.
    fn look(&self) {
        for (segment, word) in self.segments.iter().zip(self.words) {
            let region = segment.region();
            assert!(region.is_alive(region.owner()), "{word:#x}");
            assert_eq!(region.is_retired(), state(&self.file) != 0);
            region.who(region.owner()).iter().for_each(|who| tidy(&who.to_string()));
            tidy(&format!("{segment:?} {:?} {:?}", segment.state, segment.changed));
        }
    }
}

/// What acts on the name, and joins the object if it is still there.
fn change_name(input: &mut Input<'_>, place: &Place) {
    let name = place.name("o");
    let result = match input.byte() % 8 {
        0 => memlane::retire(&name),
        1 => memlane::remove(&name),
        2 => memlane::gc(Some(place.path()), false).map(|dead| assert!(dead.is_empty() || !place.file("o").exists())),
        3 => memlane::Region::open(&name).map(drop),
        4 => create(&name).map(drop),
        _ => Segment::<Victim>::open(&name).map(|other| {
            let _ = other.state.try_lock(&other).map_err(|error| show(&error));
        }),
    };
    let _ = result.map_err(|error| show(&error));
}
