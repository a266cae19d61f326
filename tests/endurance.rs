//! A channel that is used for long: memory, descriptors and latency do not grow, while receivers are killed and come.
//!
//! `MEMLANE_ENDURANCE=3600 cargo test --release --test endurance -- --nocapture` does it for an hour.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, role, say, spawn};
use memlane::{ChannelOptions, Receiver, Sender};
use std::path::Path;
use std::time::{Duration, Instant};

const PERIODS: usize = 20;
const LEN: usize = 100_000;
/// Says that a receiver is to tell how long messages took since the last time.
const REPORT: u64 = 1;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let mut receiver = Receiver::<[u8]>::open("cam").expect("it is there");
    say("here");
    let mut ages = Vec::new();
    for message in &mut receiver {
        let message = message.expect("its sender lives");
        ages.push(message.age().expect("the same clock"));
        assert!(message.iter().all(|byte| *byte == message.sequence() as u8), "message {}", message.sequence());
        if role == "stay" && message.schema_id() == REPORT {
            ages.sort_unstable();
            say(&ages[ages.len() / 2].as_nanos().to_string());
            ages = Vec::with_capacity(ages.len());
        }
    }
}

/// The memory of a process of its own, in KiB, and the number of its descriptors.
type Usage = (u64, usize);

/// What one period ended with: the sender's usage and the receiver's, and the latency of its messages in ns.
type Period = (Usage, Usage, u64);

fn usage(pid: u32) -> Usage {
    let process = Path::new("/proc").join(pid.to_string());
    let status = std::fs::read_to_string(process.join("status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line of Linux");
    let memory = line.trim().trim_end_matches(" kB").parse().expect("a number");
    (memory, std::fs::read_dir(process.join("fd")).expect("it lives").count())
}

fn receiver(dir: &Dir, role: &str) -> Child {
    let mut child = spawn(dir.path(), role, &[]);
    child.expect("here");
    child
}

#[test]
fn nothing_grows() {
    let seconds = std::env::var("MEMLANE_ENDURANCE").ok().and_then(|text| text.parse().ok()).unwrap_or(2_u64);
    let dir = Dir::new();
    let options = ChannelOptions::new().max_message(LEN as u64).receivers(3);
    let sender = Sender::<[u8]>::create(dir.name("cam"), &options).expect("new");
    let mut stays = receiver(&dir, "stay");
    let (mut kills, mut sent) = (0, 0_u64);
    let mut periods = Vec::new();
    let mut comes = receiver(&dir, "come");
    for _ in 0..PERIODS {
        let end = Instant::now() + Duration::from_secs(seconds) / PERIODS as u32;
        let mut last = false;
        while !last {
            last = Instant::now() >= end;
            let mut message = sender.loan(LEN).expect("a buffer");
            sent += 1;
            message.fill(sent as u8);
            if last {
                message.set_schema_id(REPORT).expect("it fits");
            }
            let ticket = message.send().expect("somebody receives");
            ticket.wait(Some(Duration::from_secs(20))).expect("nobody keeps it");
            if seconds > 60 {
                std::thread::sleep(Duration::from_millis(4)); // the pace of a camera, for a machine that is used otherwise
            }
            if sent.is_multiple_of(500) {
                comes.kill();
                kills += 1;
                comes = receiver(&dir, "come");
            }
        }
        let latency: u64 = stays.hear().and_then(|text| text.parse().ok()).expect("its report");
        periods.push((usage(std::process::id()), usage(stays.pid()), latency));
    }
    println!(
        "{seconds} s, {sent} messages of {LEN} bytes, {kills} receivers killed; by period: ours, theirs (KiB, descriptors), ns"
    );
    periods.iter().for_each(|period| println!("{period:?}"));
    // The first periods fill caches and pools.
    let (early, late) = (&periods[PERIODS / 4..PERIODS / 2], &periods[PERIODS * 3 / 4..]);
    let most = |of: &[Period]| {
        let most = |(a, b): Usage, (c, d): Usage| (a.max(c), b.max(d));
        of.iter().fold(((0, 0), (0, 0)), |all, period| (most(all.0, period.0), most(all.1, period.1)))
    };
    let (early, late) = (most(early), most(late));
    for (early, late) in [(early.0, late.0), (early.1, late.1)] {
        assert!(late.0 <= early.0 + 1024, "memory grows: {early:?}, {late:?}");
        assert!(late.1 <= early.1, "descriptors grow: {early:?}, {late:?}");
    }
}
