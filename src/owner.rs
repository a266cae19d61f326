//! Who holds a word, and is that holder dead: crash safety in one place.
//!
//! A *participant* is one attachment of one process to one object: a slot of the object's participant table and the
//! generation of that slot. The slot belongs to whoever holds its lock byte, which the operating system frees when
//! the process dies, and not before. The table turns "who" into an answer for people; the lock byte is the truth.

use crate::error::Who;
use crate::prim::{self, AtomicU32, AtomicU64, Ordering};
use crate::sys::{self, LockFd, Sharing};
use std::io;
use std::mem::offset_of;

/// How many attachments one object can have at a time.
pub(crate) const PARTICIPANTS: usize = 128;

/// Where the lock bytes lie: far beyond the end of any object.
const LOCK_BASE: u64 = 1 << 62;

/// Shared by everybody who uses the object.
pub(crate) const LIFE_BYTE: u64 = LOCK_BASE;

/// Exclusive to the one who created the object, or took over from a creator that died.
pub(crate) const ROLE_BYTE: u64 = LOCK_BASE + 1;

fn slot_byte(slot: usize) -> u64 {
    LOCK_BASE + 16 + slot as u64
}

/// One participant, as it lies in the header. Written only by the holder of the slot's lock byte.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    /// Goes up with every attachment, so that words of an earlier holder are seen to be dead.
    generation: AtomicU32,
    pid: AtomicU32,
    started: AtomicU64,
    /// The program's name, 16 bytes, zero-padded.
    name: [AtomicU64; 2],
    /// What this participant sleeps on, see [`Sleep`], else 0: a hint, to name deadlocks and to wake sleepers.
    sleep: AtomicU64,
    _reserved: [AtomicU64; 3],
}

/// The participant table, as it lies in the header.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Table {
    slots: [Slot; PARTICIPANTS],
}

/// The size of the participant table in bytes.
pub(crate) const TABLE_SIZE: usize = 64 * PARTICIPANTS;

const _: () = assert!(size_of::<Slot>() == 64 && size_of::<Table>() == TABLE_SIZE);

/// Names one attachment of one process to one object, for as long as that attachment lives.
///
/// It is 8 bytes, `Shareable`, and may be stored in shared data to say who is responsible for it; the all-zero value,
/// [`OwnerId::NOBODY`], names nobody. A stored `OwnerId` never comes to name anyone else: when its process has died
/// or detached, it is dead for good (until a slot has been used 2^32 times).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct OwnerId(u64);

impl OwnerId {
    /// Names nobody.
    pub const NOBODY: Self = Self(0);

    const SLOT: u64 = 0xffff;

    fn new(slot: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | (slot as u64 + 1))
    }

    /// The owner in a word that may carry other bits between generation and slot.
    #[inline]
    pub(crate) fn in_word(word: u64) -> Self {
        Self(word & (0xffff_ffff_0000_0000 | Self::SLOT))
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Whether this names nobody.
    #[must_use]
    pub fn is_nobody(self) -> bool {
        self.0 & Self::SLOT == 0
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The slot, if it is one: the word comes from shared memory and may hold anything.
    pub(crate) fn slot(self) -> Option<usize> {
        let slot = (self.0 & Self::SLOT).checked_sub(1)? as usize;
        (slot < PARTICIPANTS).then_some(slot)
    }
}

impl Table {
    /// Takes a free slot, or returns `None` if all are taken. The caller's `locks` hold its lock byte from then on.
    pub(crate) fn attach(&self, locks: &LockFd) -> io::Result<Option<OwnerId>> {
        let process = sys::process();
        for (index, slot) in self.slots.iter().enumerate() {
            if !locks.try_lock(slot_byte(index), Sharing::Exclusive)? {
                continue;
            }
            prim::step();
            // Only the holder of the lock byte writes here. A death between any two of these stores leaves a slot
            // whose next holder starts again; nobody is named by a generation that was not handed out.
            let generation = slot.generation.load(Ordering::Relaxed).wrapping_add(1);
            slot.pid.store(0, Ordering::Relaxed);
            slot.sleep.store(0, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire load in `is_dead`: who sees by this generation that the predecessor
            // is dead also sees all that it did. The fence pairs with the one in `who`: who reads anything of what
            // follows sees this generation, and not the predecessor's.
            slot.generation.store(generation, Ordering::Release);
            prim::fence(Ordering::Release);
            slot.started.store(process.started, Ordering::Relaxed);
            let (first, second) = process.name.split_at(8);
            for (half, bytes) in slot.name.iter().zip([first, second]) {
                half.store(bytes.try_into().map_or(0, u64::from_ne_bytes), Ordering::Relaxed);
            }
            // ORDERING: Release pairs with the Acquire load in `who`: a pid that is not 0 comes with its name.
            slot.pid.store(process.pid, Ordering::Release);
            return Ok(Some(OwnerId::new(index, generation)));
        }
        Ok(None)
    }

    /// Whether `owner` is gone for good: its slot does not exist, belongs to a later generation, or is held by no
    /// living process. `me` is alive by definition: a process's own lock reads as free. A probe that the system
    /// refuses proves nothing, so the owner counts as alive.
    pub(crate) fn is_dead(&self, locks: &LockFd, me: OwnerId, owner: OwnerId) -> bool {
        if owner == me {
            return false;
        }
        let Some(index) = owner.slot() else { return true };
        // ORDERING: Acquire pairs with the Release store in `attach`.
        if self.slots[index].generation.load(Ordering::Acquire) != owner.generation() {
            return true;
        }
        !locks.is_locked(slot_byte(index)).unwrap_or(true)
    }

    /// What is known of `owner`, dead or alive, for people.
    pub(crate) fn who(&self, owner: OwnerId) -> Option<Who> {
        self.known(owner).map(|(pid, name, started)| Who::new(pid, &name, sys::is_stopped(pid, started)))
    }

    /// The same of one who has just done something: it is not looked whether it is stopped, which takes the system longer
    /// than to send a message.
    pub(crate) fn who_acted(&self, owner: OwnerId) -> Option<Who> {
        self.known(owner).map(|(pid, name, _)| Who::new(pid, &name, false))
    }

    fn known(&self, owner: OwnerId) -> Option<(u32, [u8; 16], u64)> {
        let slot = &self.slots[owner.slot()?];
        // ORDERING: Acquire pairs with the Release store of the generation in `attach`: no pid of an earlier holder is
        // read after it, also by who knows nothing of `owner` but its name.
        if slot.generation.load(Ordering::Acquire) != owner.generation() {
            return None;
        }
        // ORDERING: Acquire pairs with the last Release store in `attach`.
        let pid = slot.pid.load(Ordering::Acquire);
        let mut name = [0_u8; 16];
        for (bytes, half) in name.chunks_exact_mut(8).zip(&slot.name) {
            bytes.copy_from_slice(&half.load(Ordering::Relaxed).to_ne_bytes());
        }
        let started = slot.started.load(Ordering::Relaxed);
        // ORDERING: the fence pairs with the one in `attach`: if anything read above was of a later holder, so is this.
        prim::fence(Ordering::Acquire);
        let same = slot.generation.load(Ordering::Relaxed) == owner.generation();
        (same && pid != 0).then_some((pid, name, started))
    }

    /// What `owner` sleeps on, as it says itself.
    pub(crate) fn sleep(&self, owner: OwnerId) -> Option<Sleep> {
        Sleep::from_word(self.slots[owner.slot()?].sleep.load(Ordering::Relaxed))
    }

    /// Says what `me` sleeps on.
    pub(crate) fn set_sleep(&self, me: OwnerId, sleep: Option<Sleep>) {
        if let Some(slot) = me.slot() {
            self.slots[slot].sleep.store(sleep.map_or(0, Sleep::to_word), Ordering::Relaxed);
        }
    }
}

/// What a participant sleeps on: the offset of a word in the user's bytes. Words are aligned to 4 at least, so the
/// lowest two bits say of which kind it is. Of several threads of one participant, the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Lock(u64),
    Condition(u64),
}

impl Sleep {
    fn to_word(self) -> u64 {
        match self {
            Self::Lock(offset) => offset | 1,
            Self::Condition(offset) => offset | 2,
        }
    }

    /// The offsets of the 32-bit words that may be slept on: of a lock, one or the other half, by endianness.
    pub(crate) fn words(self) -> [u64; 2] {
        match self {
            Self::Lock(offset) => [offset, offset.saturating_add(4)],
            Self::Condition(offset) => [offset, offset],
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        match word & 3 {
            1 => Some(Self::Lock(word & !3)),
            2 => Some(Self::Condition(word & !3)),
            _ => None,
        }
    }
}

/// What the participants in a copy of a table sleep on.
pub(crate) fn sleeps_in(table: &[u8]) -> impl Iterator<Item = Sleep> {
    let word = |slot: &[u8]| slot[offset_of!(Slot, sleep)..][..8].try_into().map_or(0, u64::from_ne_bytes);
    table.chunks_exact(size_of::<Slot>()).filter_map(move |slot| Sleep::from_word(word(slot)))
}

/// Whether what a schema calls `kind` is a lock: words, as many as its size has room for, that name who holds it.
pub(crate) fn is_lock(kind: &str) -> bool {
    matches!(kind, "mutex" | "reentrant mutex" | "rwlock")
}

/// Whether slot `index` is held by a living process that is not behind `locks` itself.
pub(crate) fn is_held(locks: &LockFd, index: usize) -> io::Result<bool> {
    locks.is_locked(slot_byte(index))
}

/// What is known of `owner` in a copy of a table.
pub(crate) fn who_in(table: &[u8], owner: OwnerId) -> Option<Who> {
    let slot = table.chunks_exact(size_of::<Slot>()).nth(owner.slot()?)?;
    (u32_in(slot, offset_of!(Slot, generation)) == owner.generation()).then(|| who_in_slot(slot)).flatten()
}

/// Who `owner` is, in a copy of a table, if it lives.
pub(crate) fn living_in(table: &[u8], locks: &LockFd, owner: OwnerId) -> Option<Who> {
    let lives = is_held(locks, owner.slot()?).unwrap_or(true);
    who_in(table, owner).filter(|_| lives)
}

/// Who is described in slot `index` of a copy of a table, dead or alive.
pub(crate) fn holder_in(table: &[u8], index: usize) -> Option<Who> {
    table.chunks_exact(size_of::<Slot>()).nth(index).and_then(who_in_slot)
}

fn who_in_slot(slot: &[u8]) -> Option<Who> {
    let pid = u32_in(slot, offset_of!(Slot, pid));
    let name = offset_of!(Slot, name);
    let started = slot[offset_of!(Slot, started)..][..8].try_into().map_or(0, u64::from_ne_bytes);
    (pid != 0).then(|| Who::new(pid, &slot[name..name + 16], sys::is_stopped(pid, started)))
}

fn u32_in(slot: &[u8], offset: usize) -> u32 {
    slot[offset..offset + 4].try_into().map_or(0, u32::from_ne_bytes)
}
