//! Who holds one lock, who holds two, who waits for one, and who talks over a condition.

use crate::board::{Account, HANG, Me, Questions};
use memlane::{Condvar, LockError, Locked, MutexGuard, OwnerId, RegionMut, Until, WaitError, lock_both};
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

pub const INSIDE: Duration = Duration::from_millis(2);

/// What must hold of an account that was just locked: nobody else is in it, its numbers are those of a complete change
/// unless its owner died, and it never goes back. Repairs it in that case.
pub fn check(account: &mut Account, died: bool, least: &mut u64, region: &RegionMut) {
    let Account { inside, count, copy } = *account;
    assert!(!region.is_alive(inside), "{inside:?} is inside, and alive");
    if died {
        assert!(count == copy || count == copy + 1, "{count} and {copy} are of no change that was begun");
        account.copy = count;
        account.inside = OwnerId::NOBODY;
    } else {
        assert!(inside.is_nobody() && count == copy, "{inside:?} left {count} and {copy}");
    }
    assert!(count >= *least, "{count} after {least}");
    *least = count;
}

/// Changes accounts that this process has locked, so slowly that a death may come between any two steps.
pub fn change(me: &mut Me, accounts: &mut [&mut Account]) {
    let owner = me.board.region().owner();
    accounts.iter_mut().for_each(|account| account.inside = owner);
    compiler_fence(Ordering::SeqCst);
    accounts.iter_mut().for_each(|account| account.count += 1);
    compiler_fence(Ordering::SeqCst);
    me.work(INSIDE);
    assert!(accounts.iter().all(|account| account.inside == owner), "somebody else is inside");
    accounts.iter_mut().for_each(|account| account.copy += 1);
    compiler_fence(Ordering::SeqCst);
    accounts.iter_mut().for_each(|account| account.inside = OwnerId::NOBODY);
}

fn data<'a>(locked: &'a mut Locked<MutexGuard<'_, Account>>) -> &'a mut Account {
    match locked {
        Locked::Clean(guard) => guard,
        Locked::OwnerDied(died) => died,
    }
}

pub fn hold(mut me: Me) {
    let board = Arc::clone(&me.board);
    let mut least = 0;
    loop {
        let mut locked = board.single.lock(&board).expect("the lock");
        let died = matches!(locked, Locked::OwnerDied(_));
        check(data(&mut locked), died, &mut least, board.region());
        let mut account = me.take(locked, "owner died: one lock");
        change(&mut me, &mut [&mut account]);
        drop(account);
        me.turn();
        me.work(INSIDE);
    }
}

/// Both accounts change together, and only together.
pub fn hold_both(mut me: Me) {
    let board = Arc::clone(&me.board);
    let mut least = [0, 0];
    loop {
        let first = me.random.below(2) as usize;
        let [a, b] = [&board.both[first], &board.both[1 - first]];
        let (mut a, mut b) = lock_both(a, b, &board, None).expect("the locks");
        let died = matches!(a, Locked::OwnerDied(_)) || matches!(b, Locked::OwnerDied(_));
        check(data(&mut a), died, &mut least[first], board.region());
        check(data(&mut b), died, &mut least[1 - first], board.region());
        let counts = [data(&mut a).count, data(&mut b).count];
        if died {
            // Both are complete before either is declared so.
            let most = counts[0].max(counts[1]);
            assert!(counts[0].abs_diff(counts[1]) <= 1, "{counts:?} are of no change that was begun");
            for account in [data(&mut a), data(&mut b)] {
                (account.count, account.copy) = (most, most);
            }
        } else {
            assert_eq!(counts[0], counts[1], "one was changed without the other");
        }
        let mut a = me.take(a, "owner died: two locks");
        let mut b = me.take(b, "owner died: two locks");
        change(&mut me, &mut [&mut a, &mut b]);
        drop((a, b));
        me.turn();
        me.work(INSIDE);
    }
}

/// Waits for the lock in each of the ways there are, and looks. What an owner left when it died it repairs, or leaves
/// for the next one to find.
pub fn wait_for_lock(mut me: Me) {
    let board = Arc::clone(&me.board);
    let mut least = 0;
    loop {
        let timeout = Duration::from_micros(me.random.below(10_000));
        let locked = match me.random.below(3) {
            0 => board.single.lock(&board),
            1 => board.single.try_lock(&board),
            _ => board.single.lock_timeout(&board, timeout),
        };
        match locked {
            Ok(Locked::Clean(mut account)) => check(&mut account, false, &mut least, board.region()),
            Ok(Locked::OwnerDied(died)) if me.random.below(2) == 0 => {
                assert!(!board.region().is_alive(died.inside), "{:?} is inside, and alive", died.inside);
                me.count("owner died: one lock, left unrepaired");
            }
            Ok(Locked::OwnerDied(mut died)) => {
                check(&mut died, true, &mut least, board.region());
                me.count("owner died: one lock");
                died.mark_consistent().unlock();
            }
            Err(LockError::TimedOut { .. }) => me.count("lock timed out"),
            Err(error) => panic!("{error}"),
        }
        me.turn();
        me.work(INSIDE);
    }
}

/// Waits until it is so, or another peer is there, or the peer that was named is dead; never for long.
fn wait<'a>(
    me: &Me,
    condition: &Condvar,
    state: MutexGuard<'a, Questions>,
    peer: OwnerId,
    until: impl Fn(&Questions) -> bool,
) {
    let region = me.board.region();
    let peer = if region.is_alive(peer) { peer } else { OwnerId::NOBODY };
    match condition.wait_while(state, Until::timeout(HANG).or_peer_lost(peer), |state| !until(state)) {
        Ok(locked) => drop(me.take(locked, "owner died: talk")),
        Err(WaitError::PeerLost { .. }) => {
            assert!(!region.is_alive(peer), "{peer:?} is lost, and alive");
            me.count("peer lost");
        }
        Err(error) => panic!("{error}"),
    }
}

pub fn ask(mut me: Me) {
    let board = Arc::clone(&me.board);
    let owner = board.region().owner();
    let lock = |me: &Me| me.take(board.talk.state.lock(&board).expect("the lock"), "owner died: talk");
    loop {
        let mut state = lock(&me);
        assert!(state.answer <= state.question, "an answer to no question");
        state.asker = owner;
        state.question += 1;
        let mine = state.question;
        board.talk.asked.notify_one();
        while state.answer < mine {
            let answerer = state.answerer;
            wait(&me, &board.talk.answered, state, answerer, |state| {
                state.answer >= mine || state.answerer != answerer
            });
            state = lock(&me);
        }
        drop(state);
        me.turn();
        me.work(INSIDE);
    }
}

pub fn answer(mut me: Me) {
    let board = Arc::clone(&me.board);
    let lock = |me: &Me| me.take(board.talk.state.lock(&board).expect("the lock"), "owner died: talk");
    lock(&me).answerer = board.region().owner();
    // Those who waited for a predecessor look again.
    board.talk.answered.notify_all();
    let mut last = 0;
    loop {
        let mut state = lock(&me);
        assert!(last <= state.answer && state.answer <= state.question, "an answer that went back, or to no question");
        while state.answer == state.question {
            let asker = state.asker;
            wait(&me, &board.talk.asked, state, asker, |state| state.answer < state.question || state.asker != asker);
            state = lock(&me);
        }
        me.work(INSIDE);
        state.answer = state.question;
        last = state.answer;
        drop(state);
        board.talk.answered.notify_all();
        me.turn();
    }
}
