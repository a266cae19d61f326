//! `memlane inspect`.

use super::ls::{object_as_json, state};
use super::top::info_as_json;
use crate::failure::Failure;
use crate::report::{Bytes, Counted, Time, as_json, called, lines, listed, policy};
use crate::stop::stopped;
use clap::Args;
use memlane::{ChannelInfo, FieldValue, Holder, Inspected, Inspection, LockState, Observer, Persistence};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// How often it is looked who holds what.
const EACH: Duration = Duration::from_millis(10);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Inspect {
    /// The object
    name: String,
    /// How many elements of each array are shown
    #[arg(long, value_name = "N", default_value_t = 4)]
    elements: usize,
    /// How long to look who holds locks, every 10 ms: who has one at each look is shown with the time, though it may have let go of
    /// it and taken it again between two looks
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "100ms")]
    watch: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Nothing is locked or changed by looking; values that change meanwhile may be of different moments.
For the messages of a channel there is `memlane tap`.";

pub(crate) fn run(arguments: &Inspect) -> Result<(), Failure> {
    let look = || memlane::inspect(arguments.name.as_str(), arguments.elements);
    let (mut seen, start, mut watched) = (look()?, Instant::now(), Duration::ZERO);
    let mut held = holders(&seen);
    while !held.is_empty() && start.elapsed() < arguments.watch && !stopped() {
        std::thread::sleep(EACH.min(arguments.watch.saturating_sub(start.elapsed())));
        let time = start.elapsed();
        // If it is gone, or another one has its name, what was seen is all there is to be seen of it.
        let Some(next) = look().ok().filter(|next| next.id == seen.id) else { break };
        let now = holders(&next);
        held.retain(|holder| now.contains(holder));
        (seen, watched) = (next, time);
    }
    let sight = Sight { held, watched, channel: channel(&seen), seen };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", sight.json())?
    } else {
        sight.print(&mut out)?
    }
    Ok(())
}

/// What is held by whom.
fn holders(seen: &Inspection) -> Vec<(u64, Holder)> {
    let held = seen.fields.iter().filter_map(|field| match &field.value {
        FieldValue::Lock(sync) => Some(sync.holders.iter().map(|holder| (field.offset, holder.clone()))),
        _ => None,
    });
    held.flatten().collect()
}

/// What the channel is like, if it is one.
fn channel(seen: &Inspection) -> Option<ChannelInfo> {
    let is_channel = matches!(seen.object.type_name.as_deref(), Some("channel" | "service"));
    is_channel.then(|| Observer::open(seen.object.name.as_str()).and_then(|observer| observer.look()).ok()).flatten()
}

/// What was seen of an object.
struct Sight {
    seen: Inspection,
    channel: Option<ChannelInfo>,
    /// Who was seen with the same at each look.
    held: Vec<(u64, Holder)>,
    /// From the first look to the last.
    watched: Duration,
}

impl Sight {
    fn held_for(&self, field: &Inspected, holder: &Holder) -> Option<Duration> {
        let throughout = self.held.iter().any(|(offset, its)| *offset == field.offset && its == holder);
        (throughout && holder.alive && !self.watched.is_zero()).then_some(self.watched)
    }

    fn print(&self, out: &mut impl Write) -> Result<(), Failure> {
        let Inspection { object, id, data_size, tail, sparse, user, mode, participants, fields, .. } = &self.seen;
        let kind = object.type_name.as_deref().unwrap_or("bytes");
        writeln!(out, "{}: {kind}, {}", object.name, state(object))?;
        let tail = if *tail > 0 { format!(", {} in its tail", Counted(*tail, "element")) } else { String::new() };
        let sparse = if *sparse { ", not reserved" } else { "" };
        writeln!(out, "  {} in all, {} of them its own{tail}{sparse}", Bytes(object.size), Bytes(*data_size))?;
        let stays =
            if object.persistence == Some(Persistence::Keep) { "it is removed" } else { "its last user has gone" };
        writeln!(out, "  of user {user}, mode {mode:04o}; stays until {stays}; id {id:032x}")?;
        writeln!(out, "\n{}", Counted(participants.len() as u64, "participant"))?;
        for participant in participants {
            let creator = if object.creator.as_ref() == Some(&participant.who) { ", created it" } else { "" };
            let sleeps = participant.sleeps_on.as_ref().map_or(String::new(), |on| format!(", sleeps on `{on}`"));
            writeln!(out, "  {}{creator}{sleeps}", participant.who)?;
        }
        if let Some(info) = &self.channel {
            print_channel(out, info)?;
        }
        if fields.is_empty() {
            return Ok(());
        }
        let rows = fields.iter().map(|field| {
            let path = if field.path.is_empty() { "." } else { &field.path };
            [field.offset.to_string(), field.size.to_string(), path.into(), field.kind.clone(), self.value(field)]
        });
        let heads = ["OFFSET", "SIZE", "FIELD", "TYPE", "VALUE"].map(str::to_owned);
        let rows: Vec<[String; 5]> = [heads].into_iter().chain(rows).collect();
        writeln!(out)?;
        for line in lines(&rows, &[0, 1]) {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn value(&self, field: &Inspected) -> String {
        match &field.value {
            FieldValue::Unsigned(number) => number.to_string(),
            FieldValue::Signed(number) => number.to_string(),
            FieldValue::Float(number) => number.to_string(),
            FieldValue::Bool(value) => value.map_or("neither true nor false".into(), |value| value.to_string()),
            FieldValue::Elements(count) => Counted(*count, "element").to_string(),
            FieldValue::Bytes { len, first } => bytes(*len, first),
            FieldValue::Owner(None) => "nobody".into(),
            FieldValue::Owner(Some(holder)) => named(holder),
            FieldValue::Lock(sync) => self.sync(field, sync),
            FieldValue::Unreadable => "cannot be read".into(),
            _ => String::new(),
        }
    }

    fn sync(&self, field: &Inspected, sync: &LockState) -> String {
        let holder = |holder: &Holder| {
            let time = self
                .held_for(field, holder)
                .map_or(String::new(), |time| format!(" (at each look for {})", Time(time)));
            format!("{} {}{time}", named(holder), holder.role)
        };
        let mut parts = vec![sync.state.clone()];
        parts.extend(sync.holders.iter().map(holder));
        if !sync.waiters.is_empty() {
            parts.push(format!("awaited by {}", listed(&sync.waiters)));
        }
        if sync.needs_repair {
            parts.push("to be repaired: who had it died or panicked, and nobody has declared the data complete".into());
        }
        parts.join("; ")
    }

    fn json(&self) -> Value {
        let Inspection { object, id, data_size, tail, sparse, user, mode, participants, fields, .. } = &self.seen;
        let participant = |participant: &memlane::Participant| json!({ "slot": participant.slot, "who": as_json(&participant.who), "sleeps_on": participant.sleeps_on });
        let field = |field: &Inspected| {
            json!({
                "path": field.path, "kind": field.kind, "offset": field.offset, "size": field.size,
                "value": self.value_as_json(field),
            })
        };
        let more = json!({
            "id": format!("{id:032x}"), "data_size": data_size, "tail": tail, "sparse": sparse, "user": user,
            "mode": format!("{mode:04o}"), "kept": object.persistence == Some(Persistence::Keep),
            "participants": participants.iter().map(participant).collect::<Vec<_>>(),
            "fields": fields.iter().map(field).collect::<Vec<_>>(),
            "channel": self.channel.as_ref().map(info_as_json),
        });
        let mut value = object_as_json(object);
        if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
            fields.extend(more);
        }
        value
    }

    fn value_as_json(&self, field: &Inspected) -> Value {
        // What a JSON number may not hold is written as text.
        let exact = |number: String| {
            serde_json::from_str::<i64>(&number).map_or_else(|_| json!(number), |number| json!(number))
        };
        match &field.value {
            FieldValue::Unsigned(number) => exact(number.to_string()),
            FieldValue::Signed(number) => exact(number.to_string()),
            FieldValue::Float(number) if number.is_finite() => json!(number),
            FieldValue::Float(number) => json!(number.to_string()),
            FieldValue::Bool(value) => json!(value),
            FieldValue::Elements(count) => json!({ "elements": count }),
            FieldValue::Bytes { len, first } => json!({ "bytes": len, "first": first }),
            FieldValue::Owner(holder) => json!(holder.as_ref().map(|holder| self.holder(field, holder))),
            FieldValue::Lock(sync) => json!({
                "state": sync.state, "needs_repair": sync.needs_repair,
                "holders": sync.holders.iter().map(|holder| self.holder(field, holder)).collect::<Vec<_>>(),
                "waiters": sync.waiters.iter().map(as_json).collect::<Vec<_>>(),
            }),
            _ => Value::Null,
        }
    }

    fn holder(&self, field: &Inspected, holder: &Holder) -> Value {
        json!({
            "who": holder.who.as_ref().map(as_json), "alive": holder.alive, "role": holder.role,
            "held_at_each_look_for_ns": self.held_for(field, holder).map(|time| time.as_nanos() as u64),
        })
    }
}

fn named(holder: &Holder) -> String {
    let who = called(holder.who.clone(), "an unknown process");
    if holder.alive { who } else { format!("{who}, which is dead,") }
}

/// Text as text, and other bytes as numbers.
fn bytes(len: u64, first: &[u8]) -> String {
    let text = std::str::from_utf8(first.trim_ascii_end()).ok().map(|text| text.trim_end_matches('\0'));
    let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
    let shown = match text {
        Some(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        None => first.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    };
    let more =
        if text.map_or(len > 16, |text| text.chars().count() > 60 || len > first.len() as u64) { " ..." } else { "" };
    format!("{}: {shown}{more}", Counted(len, "byte"))
}

fn print_channel(out: &mut impl Write, info: &ChannelInfo) -> Result<(), Failure> {
    let (kind, longest) = (&info.message_type, Bytes(info.max_message));
    writeln!(out, "\n{}, {} of {kind}, up to {longest} each", policy(info.policy), Counted(info.slots, "slot"))?;
    for (lane, (sent, used)) in info.sent.iter().zip(&info.used).enumerate() {
        let of = |senders: &[memlane::SenderInfo]| senders.iter().find(|sender| sender.lane == lane).cloned();
        let sender = match (of(&info.senders), of(&info.dead_senders)) {
            (Some(sender), _) => called(sender.who, "an unknown process"),
            (None, Some(dead)) => format!("{}, which is dead", called(dead.who, "an unknown process")),
            (None, None) => "nobody".into(),
        };
        writeln!(out, "  lane {lane}: {sent} sent, {used} of {} slots in use, sent by {sender}", info.slots)?;
    }
    for receiver in &info.receivers {
        let latency = receiver.latency.map_or(String::new(), |latency| format!(", latency {}", Time(latency)));
        writeln!(
            out,
            "  received by {}: lag {}, missed {}, holds {}{latency}",
            called(receiver.who.clone(), "an unknown process"),
            receiver.lag,
            receiver.missed,
            receiver.claims
        )?;
    }
    Ok(())
}
