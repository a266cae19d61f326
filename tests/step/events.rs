//! Deaths of those who set, reset, await or take an event.

use crate::common::Dir;
use crate::peek::{event_is_awaited, event_is_set};
use crate::scenarios::{Run, after, in_time, object, quietly, wait_until};
use crate::victim::{PATIENCE, Shared, lock};
use memlane::{Segment, Until, WaitError};
use memlane_crash::{End, Event, operate};
use std::time::Duration;

/// What the victim does.
pub fn act(operation: &str, shared: &Segment<Shared>) {
    match operation {
        "set the event" => {
            lock(shared).victim = shared.region().owner();
            operate(|| shared.event.set());
        }
        "reset the event" => operate(|| assert!(shared.event.reset())),
        "wait for the event" => operate(|| shared.event.wait(shared, Until::timeout(PATIENCE))).expect("it is set"),
        "take the event" => operate(|| shared.event.take(shared, Until::timeout(PATIENCE))).expect("it is set"),
        "take the event in vain" => {
            let result = operate(|| shared.event.take(shared, Until::timeout(Duration::from_millis(3))));
            assert!(matches!(result, Err(WaitError::TimedOut { .. })));
        }
        other => panic!("no operation {other}"),
    }
}

/// We wait for the event that the victim sets, and know that it is the one to do so: it is set, or the victim lost.
pub fn set(dir: &Dir, run: &mut Run, how: &str) {
    let ours = object(dir, run);
    let mut ended = None;
    std::thread::scope(|scope| {
        let mut waiter = None;
        run.die(dir, "set the event", &mut |event| {
            if event == Event::Ready {
                waiter = Some(scope.spawn(|| {
                    let victim = ours.state.lock(&ours).expect("the lock").or_repair(|_| ()).victim;
                    let until = |limit| Until::timeout(limit).or_peer_lost(victim);
                    in_time(|limit| match how {
                        "wait" => ours.event.wait(&ours, until(limit)),
                        _ => ours.event.take(&ours, until(limit)),
                    })
                }));
                wait_until(|| event_is_awaited(dir));
            }
        });
        ended = waiter.map(|waiter| waiter.join().expect("a wait that ended"));
    });
    match ended {
        Some(Ok(())) => assert_eq!(event_is_set(dir), how == "wait"),
        Some(Err(WaitError::PeerLost { .. })) => assert!(!event_is_set(dir), "what was set was not seen"),
        Some(Err(other)) => panic!("a wait that no death ended: {other}"),
        None => {}
    }
    after(dir, run, &ours);
}

/// It stays set, whatever becomes of the victim.
pub fn set_again(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    ours.event.set();
    run.die(dir, "set the event", &mut quietly);
    assert!(ours.event.is_set());
    after(dir, run, &ours);
}

/// Whoever has taken it has; before that, it is there for others.
pub fn reset(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    ours.event.set();
    let end = run.die(dir, act, &mut quietly);
    assert!(end == End::Killed || !event_is_set(dir), "it was reset");
    after(dir, run, &ours);
}

/// We set it when the victim has said in the event, and in the table, that it sleeps.
pub fn wait(dir: &Dir, run: &mut Run, act: &str) {
    const SAID: u32 = 2;
    let ours = object(dir, run);
    let mut said = 0;
    let end = run.die(dir, act, &mut |event| {
        if event == Event::Moved && said < SAID && event_is_awaited(dir) {
            said += 1;
            if said == SAID {
                ours.event.set();
            }
        }
    });
    match end {
        End::Done => assert_eq!(event_is_set(dir), act == "wait for the event", "it is taken, or is not"),
        _ => assert!(said == SAID || !event_is_set(dir), "nobody has set it"),
    }
    after(dir, run, &ours);
}
