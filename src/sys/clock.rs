//! The clock that messages are stamped with, on Linux: read for each of them, so the cheapest that there is.
//!
//! Where the kernel itself keeps time by the processor's time stamp counter, that counter is one clock for all
//! processors and processes: it is read directly, in a third of the time that it takes to ask the kernel's clock,
//! which is used elsewhere. How long a tick is follows from two looks at the counter and at the kernel's clock: one
//! that lies before all stamps, and one when an age is asked for. So however short the time between them was, an age
//! is wrong by no more than the looks are, some 50 ns.
#![allow(unsafe_code)]

use crate::sys::Moment;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

/// The kernel's clock: it goes on while a machine is suspended, as the counter mostly does.
const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;

/// Whether the counter is one clock for the whole machine, as far as the kernel knows.
#[inline]
fn has_counter() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        cfg!(target_arch = "x86_64") && source.is_ok_and(|source| source.trim() == "tsc")
    })
}

/// The time in ticks: those of the counter, or nanoseconds.
#[inline]
pub(crate) fn stamp() -> u64 {
    if has_counter() { counter() } else { time(CLOCK) }
}

/// Now; with 0 ticks, if stamps are nanoseconds.
pub(crate) fn moment() -> Moment {
    if !has_counter() {
        return Moment { ticks: 0, nanos: time(CLOCK) };
    }
    // It is kept: whoever is interrupted between the two clocks looks again.
    (0..2).map(|_| look()).fold(look(), |best, next| if next.1 < best.1 { next } else { best }).0
}

/// How long ago a stamp was taken, which is from after `since`; `None` if the counter has begun anew, which it may when a
/// machine is suspended.
pub(crate) fn age(stamp: u64, since: Moment) -> Option<Duration> {
    let nanos = match since.ticks {
        0 => time(CLOCK).saturating_sub(stamp),
        _ => age_at(look().0, stamp, since)?,
    };
    Some(Duration::from_nanos(nanos))
}

fn age_at(now: Moment, stamp: u64, since: Moment) -> Option<u64> {
    let (ticks, nanos) = (now.ticks.checked_sub(since.ticks)?, now.nanos.checked_sub(since.nanos)?);
    let age = u128::from(now.ticks.saturating_sub(stamp)) * u128::from(nanos) / u128::from(ticks.max(1));
    Some(u64::try_from(age).unwrap_or(u64::MAX))
}

/// Names the time namespace: in another one, looks at the kernel's clocks cannot be compared.
pub(crate) fn clock_id() -> u64 {
    fs::metadata("/proc/self/ns/time").map_or(0, |meta| meta.ino())
}

/// Both clocks at one moment, and the ticks that it took to look at them.
fn look() -> (Moment, u64) {
    let before = counter();
    let nanos = time(CLOCK);
    let between = counter().wrapping_sub(before);
    (Moment { ticks: before.wrapping_add(between / 2), nanos }, between)
}

/// The processor's time stamp counter.
#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, Linux lets programs use it, and it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    time(CLOCK)
}

/// One of the kernel's clocks, in nanoseconds.
pub(super) fn time(clock: libc::clockid_t) -> u64 {
    // SAFETY: all-zero bytes are a valid `timespec`, a plain C struct.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is valid for writes for the duration of the call, which cannot fail for a clock every kernel has.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const SECOND: u64 = 1_000_000_000;

    /// Of this machine, and of one whose stamps are nanoseconds.
    fn stamps() -> [(u64, Moment); 2] {
        let since = moment();
        [(stamp(), since), (time(CLOCK), Moment { ticks: 0, nanos: 0 })]
    }

    #[test]
    fn an_age_is_what_another_clock_says_however_young_it_is() {
        for wait in (0..200).chain([20_000]) {
            let start = Instant::now();
            let stamps = stamps();
            let stamped = Instant::now();
            std::thread::sleep(Duration::from_micros(wait));
            for (stamp, since) in stamps {
                let least = stamped.elapsed();
                let age = age(stamp, since).expect("nobody suspends it meanwhile");
                let most = start.elapsed();
                // Two clocks do not go alike to the last bit, and others may have delayed a look at them a little.
                let slack = most / 100 + Duration::from_micros(1);
                assert!(age + slack >= least && age <= most + slack, "{least:?} <= {age:?} <= {most:?}");
            }
        }
    }

    #[test]
    fn a_later_stamp_is_greater_on_whatever_processor() {
        let mut last = stamp();
        for _ in 0..1_000 {
            let next = std::thread::spawn(stamp).join().expect("a stamp");
            assert!(last < next);
            last = next;
        }
    }

    #[test]
    fn an_age_follows_from_the_length_of_a_tick() {
        let since = Moment { ticks: 1_000, nanos: 5 * SECOND };
        let now = Moment { ticks: 1_000 + 30, nanos: 15 * SECOND };
        assert_eq!(age_at(now, 1_000, since), Some(10 * SECOND));
        assert_eq!(age_at(now, 1_000 + 27, since), Some(SECOND));
        assert_eq!(age_at(since, 1_000, since), Some(0), "no time has passed");
    }

    #[test]
    fn what_no_clock_says_is_no_age_or_any_and_no_panic() {
        let now = Moment { ticks: SECOND, nanos: SECOND };
        assert_eq!(age_at(now, u64::MAX, Moment { ticks: 1, nanos: 0 }), Some(0), "a stamp from the future");
        assert_eq!(age_at(now, 0, Moment { ticks: SECOND + 1, nanos: 0 }), None, "the counter began anew");
        assert_eq!(age_at(now, 0, Moment { ticks: 1, nanos: SECOND + 1 }), None);
        let garbage = [0, 1, SECOND, u64::MAX - 1, u64::MAX];
        for (ticks, nanos) in garbage.into_iter().flat_map(|ticks| garbage.map(|nanos| (ticks, nanos))) {
            for stamp in garbage {
                age_at(Moment { ticks: u64::MAX, nanos: u64::MAX }, stamp, Moment { ticks, nanos });
                age(stamp, Moment { ticks, nanos });
            }
        }
    }
}
