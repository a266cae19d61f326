//! `memlane top`.

mod screen;
mod table;
mod watch;

use crate::failure::Failure;
use crate::report::{Counted, as_json, policy};
use crate::stop::{GLANCE, stopped};
use clap::Args;
use memlane::{ChannelInfo, ReceiverInfo, SenderInfo};
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};
use watch::{Channel, Snapshot, State, Watch};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Top {
    /// Print what there is as plain text, and end; so it does anyway where there is no terminal
    #[arg(long, conflicts_with = "json")]
    once: bool,
    /// Print a JSON object, and end
    #[arg(long)]
    json: bool,
    /// With --json: print so many JSON objects, an interval apart
    #[arg(long, value_name = "N", requires = "json", value_parser = clap::value_parser!(u64).range(1..), default_value_t = 1)]
    count: u64,
    /// How often to look; with --once and --json the time over which messages are counted
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "250ms")]
    interval: Duration,
}

const HELP: &str = "\
MSG/S    messages sent per second, over the last second
SLOTS    messages of the fullest lane that somebody still waits for or holds, of those it keeps
SEND     senders, of those there can be; so RECV, receivers
LAG      messages sent that the slowest receiver has not received yet; none in a queue
MISSED   messages that a receiver has found overwritten, since it came; one that is stopped finds out later
LATENCY  from being sent to being received, of one of the last 16 messages
HOLDS    messages that a receiver holds in place";

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(10) { Err("10ms is the least".into()) } else { Ok(interval) }
}

pub(crate) fn run(arguments: &Top) -> Result<(), Failure> {
    let directory = memlane::space(None)?.directory;
    let mut watch = Watch::default();
    // A rate needs two looks.
    let mut snapshot = watch.look()?;
    if !arguments.json && !arguments.once && stdout().is_terminal() {
        return screen::run(&directory, arguments.interval, watch, snapshot);
    }
    for _ in 0..arguments.count {
        if !snapshot.channels.is_empty() || arguments.count > 1 {
            if !pause(arguments.interval) {
                return Ok(());
            }
            snapshot = watch.look()?;
        }
        let out = stdout().lock();
        if arguments.json { print_json(out, &directory, &snapshot)? } else { print(out, &directory, &snapshot)? }
    }
    Ok(())
}

/// Whether nobody wanted to end meanwhile.
fn pause(time: Duration) -> bool {
    let end = Instant::now() + time;
    while !stopped() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(GLANCE));
    }
    false
}

/// What to say when there is nothing to show.
fn nothing(directory: &Path) -> String {
    format!("no channels in {}: start one with `memlane send cam0 IMAGE...` or `memlane demo`", directory.display())
}

/// How much there is.
fn summary(snapshot: &Snapshot) -> String {
    let channels = snapshot.channels.iter().filter(|channel| channel.state != State::Gone).count();
    let locks = snapshot.locks.len() as u64;
    let held = if locks == 0 { String::new() } else { format!(", {} held", Counted(locks, "lock")) };
    format!("{}{held}", Counted(channels as u64, "channel"))
}

fn print(mut out: impl Write, directory: &Path, snapshot: &Snapshot) -> Result<(), Failure> {
    if snapshot.channels.is_empty() {
        writeln!(out, "{}", nothing(directory))?;
    } else {
        write!(out, "{}", table::channels(snapshot))?;
    }
    for table in [table::participants(&snapshot.channels, true), table::locks(snapshot)] {
        if !table.is_empty() {
            write!(out, "\n{table}")?;
        }
    }
    Ok(())
}

fn print_json(mut out: impl Write, directory: &Path, snapshot: &Snapshot) -> Result<(), Failure> {
    let lock = |(object, lock): &(String, memlane::HeldLock)| {
        json!({
            "object": object, "lock": lock.lock, "holder": lock.holder.as_ref().map(as_json), "alive": lock.alive,
        })
    };
    let line = json!({
        "directory": directory,
        "channels": snapshot.channels.iter().map(channel).collect::<Vec<_>>(),
        "locks": snapshot.locks.iter().map(lock).collect::<Vec<_>>(),
    });
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn channel(channel: &Channel) -> Value {
    let (state, problem) = match &channel.state {
        State::InUse => ("in use", None),
        State::Kept => ("kept", None),
        State::Stale => ("stale", None),
        State::Gone => ("gone", None),
        State::Damaged(problem) => ("damaged", Some(problem)),
    };
    let mut value = json!({ "name": channel.name, "state": state, "problem": problem });
    let (Some(info), Some(fields)) = (&channel.info, value.as_object_mut()) else { return value };
    let mut more = info_as_json(info);
    let receivers = more.get_mut("receivers").and_then(Value::as_array_mut).into_iter().flatten();
    for (receiver, grows) in receivers.zip(&channel.growing) {
        receiver["lag_grows"] = (*grows).into();
    }
    more.insert("messages_per_second".into(), channel.rate.into());
    fields.extend(more);
    value
}

/// What a channel is like, who takes part, and how far they are.
pub(super) fn info_as_json(info: &ChannelInfo) -> Map<String, Value> {
    let sender = |sender: &SenderInfo| json!({ "who": sender.who.as_ref().map(as_json), "lane": sender.lane, "sent": sender.sent });
    let receiver = |receiver: &ReceiverInfo| {
        json!({
            "who": receiver.who.as_ref().map(as_json), "lag": receiver.lag, "missed": receiver.missed,
            "holds": receiver.claims, "latency_ns": receiver.latency.map(|latency| latency.as_nanos() as u64),
        })
    };
    let info = json!({
        "type": info.message_type, "policy": policy(info.policy), "max_message": info.max_message,
        "slots": info.slots, "slots_used": info.used, "sent": info.sent,
        "max_senders": info.max_senders, "max_receivers": info.max_receivers,
        "senders": info.senders.iter().map(sender).collect::<Vec<_>>(),
        "dead_senders": info.dead_senders.iter().map(sender).collect::<Vec<_>>(),
        "receivers": info.receivers.iter().map(receiver).collect::<Vec<_>>(),
    });
    info.as_object().cloned().unwrap_or_default()
}
