//! Who reads, who writes, and who does one after the other, under one lock.

use crate::board::{Account, Board, Me};
use crate::locks::{INSIDE, change, check};
use memlane::{LockError, Locked, OwnerId, RwLockUpgradableGuard, RwLockWriteGuard, Segment};
use std::sync::Arc;
use std::time::Duration;

/// What must hold of an account that is read: nobody changes it, and it never goes back.
fn look(account: &Account, least: &mut u64) {
    let Account { inside, count, copy } = *account;
    assert!(inside.is_nobody() && count == copy, "{inside:?} is at work on {count} and {copy}");
    assert!(count >= *least, "{count} after {least}");
    *least = count;
}

/// Comes in to write, however the last one left it.
fn to_write<'a>(me: &Me, board: &'a Segment<Board>, least: &mut u64) -> RwLockWriteGuard<'a, Account> {
    match board.rw.write(board).expect("the lock") {
        Locked::Clean(mut account) => {
            check(&mut account, false, least, board.region());
            account
        }
        Locked::OwnerDied(mut died) => {
            me.count("owner died: readers and writers");
            check(&mut died, true, least, board.region());
            died.mark_consistent()
        }
    }
}

/// Comes in to read, repairing what a dead writer left.
fn to_read<G>(me: &Me, board: &Segment<Board>, least: &mut u64, read: impl Fn() -> Result<G, LockError>) -> Option<G> {
    match read() {
        Ok(guard) => Some(guard),
        Err(LockError::NeedsRepair { .. }) => {
            me.count("needs repair");
            drop(to_write(me, board, least));
            None
        }
        Err(LockError::TimedOut { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

pub fn read(mut me: Me) {
    let board = Arc::clone(&me.board);
    let mut least = 0;
    loop {
        let timeout = Duration::from_micros(me.random.below(10_000));
        let guard = match me.random.below(3) {
            0 => to_read(&me, &board, &mut least, || board.rw.read_timeout(&board, timeout)),
            _ => to_read(&me, &board, &mut least, || board.rw.read(&board)),
        };
        if let Some(account) = guard {
            look(&account, &mut least);
            me.work(INSIDE);
            let again = board.rw.read(&board).expect("this thread reads already");
            drop(account);
            look(&again, &mut least);
        }
        me.turn();
        me.work(INSIDE);
    }
}

pub fn write(mut me: Me) {
    let board = Arc::clone(&me.board);
    let mut least = 0;
    loop {
        let mut account = to_write(&me, &board, &mut least);
        change(&mut me, &mut [&mut account]);
        if me.random.below(2) == 0 {
            let count = account.count;
            let account = account.downgrade();
            look(&account, &mut least);
            assert_eq!(account.count, count, "a writer came between");
            me.count("downgraded");
        }
        me.turn();
        me.work(INSIDE);
    }
}

pub fn upgrade(mut me: Me) {
    let board = Arc::clone(&me.board);
    let mut least = 0;
    loop {
        let guard = to_read(&me, &board, &mut least, || board.rw.read_upgradable(&board));
        if let Some(guard) = guard {
            look(&guard, &mut least);
            upgraded(&mut me, guard);
        }
        me.turn();
        me.work(INSIDE);
    }
}

fn upgraded(me: &mut Me, guard: RwLockUpgradableGuard<'_, Account>) {
    let count = guard.count;
    me.work(INSIDE);
    match guard.upgrade_timeout(Duration::from_micros(me.random.below(20_000))) {
        Ok(mut account) => {
            assert!(account.count == count && account.inside == OwnerId::NOBODY, "a writer came between");
            me.count("upgraded");
            change(me, &mut [&mut account]);
        }
        Err(not) => {
            assert!(matches!(not.error(), LockError::TimedOut { .. }), "{not}");
            assert_eq!(not.into_guard().downgrade().count, count, "a writer came between");
            me.count("not upgraded in time");
        }
    }
}
