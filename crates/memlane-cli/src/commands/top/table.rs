//! What was seen, as tables: for a terminal, with columns left out where it is narrow, or as plain text.

use super::watch::{Channel, Snapshot, State};
use crate::report::{Counted, Time, WIDEST, policy};
use memlane::{ChannelInfo, Policy, ReceiverInfo, SenderInfo, Who};
use std::fmt;

/// How much something deserves to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Tone {
    #[default]
    Plain,
    Notable,
    Bad,
}

/// One field of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl<T: fmt::Display> From<T> for Cell {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), tone: Tone::Plain }
    }
}

#[derive(Debug, Clone, Copy)]
struct Column {
    head: &'static str,
    /// Whether it is of numbers, and so to the right.
    right: bool,
    /// Where it is narrow, columns are left out from the lowest rank on, but not those of rank 9.
    rank: u8,
}

const fn left(head: &'static str, rank: u8) -> Column {
    Column { head, right: false, rank }
}

const fn right(head: &'static str, rank: u8) -> Column {
    Column { head, right: true, rank }
}

/// Where it is narrow, longer texts are cut, and notes take no more from the other columns.
const LONGEST: usize = 24;

/// Rows of cells below heads.
#[derive(Debug, Clone)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The rows as padded cells, the heads first, at most `width` wide if that can be.
    pub(super) fn lines(mut self, width: usize) -> Vec<Vec<Cell>> {
        while self.width() > width {
            let lowest = self.columns.iter().enumerate().filter(|(_, column)| column.rank < 9);
            let Some((index, _)) = lowest.min_by_key(|(_, column)| column.rank) else { break };
            self.columns.remove(index);
            self.rows.iter_mut().for_each(|row| drop(row.remove(index)));
        }
        if self.width() > width {
            self.cut();
        }
        let heads = self.columns.iter().map(|column| column.head.into()).collect();
        let widths = self.widths();
        let last = self.columns.len() - 1;
        let pad = |(index, cell): (usize, &Cell)| {
            let (width, gap) = (widths[index].min(WIDEST), if index == last { "" } else { "  " });
            let text = match self.columns[index].right {
                true => format!("{:>width$}{gap}", cell.text),
                false if index == last => cell.text.clone(),
                false => format!("{:width$}{gap}", cell.text),
            };
            Cell { text, tone: cell.tone }
        };
        [&heads].into_iter().chain(&self.rows).map(|row| row.iter().enumerate().map(pad).collect()).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| row[index].text.chars().count());
            cells.chain([column.head.len()]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// The width that is needed; at its right edge a note may be cut.
    fn width(&self) -> usize {
        let widths = self.widths();
        let (notes, others) = widths.split_last().unwrap_or((&0, &[]));
        others.iter().map(|width| width + 2).sum::<usize>() + *notes.min(&LONGEST)
    }

    /// Cuts long texts, but for the notes.
    fn cut(&mut self) {
        let others = self.columns.len() - 1;
        for cell in self.rows.iter_mut().flat_map(|row| &mut row[..others]) {
            if cell.text.chars().count() > LONGEST {
                cell.text = cell.text.chars().take(LONGEST - 1).chain(['…']).collect();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.clone().lines(usize::MAX) {
            let text: String = line.into_iter().map(|cell| cell.text).collect();
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// A line for each channel.
pub(super) fn channels(snapshot: &Snapshot) -> Table {
    let columns = vec![
        left("CHANNEL", 9),
        left("TYPE", 1),
        left("POLICY", 2),
        right("MSG/S", 9),
        right("SENT", 0),
        right("SLOTS", 6),
        right("SEND", 4),
        right("RECV", 5),
        right("LAG", 8),
        right("MISSED", 7),
        right("LATENCY", 3),
        left("NOTE", 9),
    ];
    Table { columns, rows: snapshot.channels.iter().map(channel).collect() }
}

fn channel(channel: &Channel) -> Vec<Cell> {
    let name = Cell::from(&channel.name);
    let Some(info) = &channel.info else {
        let blank = std::iter::repeat_n(Cell::from("-"), 10);
        return [name].into_iter().chain(blank).chain([note(channel)]).collect();
    };
    let receivers = &info.receivers;
    let sent = info.sent.iter().fold(0_u64, |all, sent| all.saturating_add(*sent));
    let used = info.used.iter().max().copied().unwrap_or(0);
    let lag = receivers.iter().map(|receiver| receiver.lag).max();
    let missed = receivers.iter().map(|receiver| receiver.missed).fold(0, u64::saturating_add);
    vec![
        name,
        info.message_type.as_str().into(),
        policy(info.policy).into(),
        channel.rate.map_or("-".into(), per_second).into(),
        sent.into(),
        slots(used, info),
        format!("{}/{}", info.senders.len(), info.max_senders).into(),
        format!("{}/{}", receivers.len(), info.max_receivers).into(),
        Cell { tone: lag_tone(channel.growing.contains(&true)), ..lag_of(lag, info.policy) },
        (if receivers.is_empty() { "-".into() } else { missed.to_string() }).into(),
        latency(receivers.iter().filter_map(|receiver| receiver.latency).max()),
        note(channel),
    ]
}

/// What of a channel is out of the ordinary, the worst first.
fn note(channel: &Channel) -> Cell {
    let of_state = match &channel.state {
        State::InUse => None,
        State::Kept => Some((Tone::Plain, "kept, nobody uses it".into())),
        State::Stale => Some((Tone::Notable, "stale: `memlane gc`".into())),
        State::Gone => Some((Tone::Notable, "gone".into())),
        State::Damaged(problem) => Some((Tone::Bad, problem.lines().collect::<Vec<_>>().join("; "))),
    };
    let mut notes: Vec<_> = of_state.into_iter().collect();
    if let Some(info) = channel.info.as_ref().filter(|_| channel.state == State::InUse) {
        let senders = info.senders.iter().map(|sender| &sender.who);
        let all = senders.chain(info.receivers.iter().map(|receiver| &receiver.who));
        let stopped = all.filter(|who| is_stopped(who.as_ref())).count();
        if stopped > 0 {
            notes.push((Tone::Bad, format!("{stopped} stopped")));
        }
        if !info.dead_senders.is_empty() {
            notes.push((Tone::Bad, format!("{} dead", Counted(info.dead_senders.len() as u64, "sender"))));
        }
        if channel.growing.contains(&true) {
            notes.push((Tone::Notable, "lag grows".into()));
        }
        if info.policy != Policy::Newest && info.used.contains(&info.slots) {
            notes.push((Tone::Notable, "full".into()));
        }
    }
    joined(notes)
}

fn joined(notes: Vec<(Tone, String)>) -> Cell {
    let tone = notes.iter().map(|(tone, _)| *tone).max().unwrap_or_default();
    let text = notes.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ");
    Cell { text, tone }
}

/// A line for each sender and receiver of these channels; `with_name` if there may be several.
pub(super) fn participants<'a>(channels: impl IntoIterator<Item = &'a Channel>, with_name: bool) -> Table {
    let mut columns = vec![
        left("CHANNEL", 9),
        left("ROLE", 9),
        right("PID", 9),
        left("NAME", 4),
        right("LANE", 0),
        right("SENT", 5),
        right("SLOTS", 3),
        right("LAG", 8),
        right("MISSED", 7),
        right("HOLDS", 1),
        right("LATENCY", 2),
        left("NOTE", 9),
    ];
    let mut rows = Vec::new();
    for channel in channels {
        let Some(info) = &channel.info else { continue };
        rows.extend(info.senders.iter().map(|it| sender(&channel.name, info, it, false)));
        rows.extend(info.dead_senders.iter().map(|it| sender(&channel.name, info, it, true)));
        let growing = channel.growing.iter().chain(std::iter::repeat(&false));
        rows.extend(info.receivers.iter().zip(growing).map(|(it, grows)| receiver(&channel.name, info, it, *grows)));
    }
    if !with_name {
        columns.remove(0);
        rows.iter_mut().for_each(|row| drop(row.remove(0)));
    }
    Table { columns, rows }
}

fn sender(channel: &str, info: &ChannelInfo, sender: &SenderInfo, dead: bool) -> Vec<Cell> {
    let note = if dead { Cell { text: "dead".into(), tone: Tone::Bad } } else { stopped(sender.who.as_ref()) };
    let used = info.used.get(sender.lane).copied().unwrap_or(0);
    let [pid, name] = named(sender.who.as_ref());
    let blank = || Cell::from("-");
    vec![
        channel.into(),
        "sender".into(),
        pid,
        name,
        sender.lane.into(),
        sender.sent.into(),
        slots(used, info),
        blank(),
        blank(),
        blank(),
        blank(),
        note,
    ]
}

fn receiver(channel: &str, info: &ChannelInfo, receiver: &ReceiverInfo, grows: bool) -> Vec<Cell> {
    let mut notes = Vec::new();
    let stopped = stopped(receiver.who.as_ref());
    if !stopped.text.is_empty() {
        notes.push((stopped.tone, stopped.text));
    }
    if grows {
        notes.push((Tone::Notable, "lag grows".into()));
    }
    let [pid, name] = named(receiver.who.as_ref());
    let blank = || Cell::from("-");
    vec![
        channel.into(),
        "receiver".into(),
        pid,
        name,
        blank(),
        blank(),
        blank(),
        Cell { tone: lag_tone(grows), ..lag_of(Some(receiver.lag), info.policy) },
        receiver.missed.into(),
        receiver.claims.into(),
        latency(receiver.latency),
        joined(notes),
    ]
}

/// A line for each lock that is held.
pub(super) fn locks(snapshot: &Snapshot) -> Table {
    let columns = vec![left("OBJECT", 9), left("LOCK HELD", 9), right("PID", 9), left("NAME", 4), left("NOTE", 9)];
    let row = |(object, lock): &(String, memlane::HeldLock)| {
        let [pid, name] = named(lock.holder.as_ref());
        let dead = || Cell { text: "dead: the next to lock takes it over".into(), tone: Tone::Bad };
        let note = if lock.alive { stopped(lock.holder.as_ref()) } else { dead() };
        vec![object.into(), lock.lock.as_str().into(), pid, name, note]
    };
    Table { columns, rows: snapshot.locks.iter().map(row).collect() }
}

fn is_stopped(who: Option<&Who>) -> bool {
    who.is_some_and(|who| who.stopped)
}

fn stopped(who: Option<&Who>) -> Cell {
    if is_stopped(who) { Cell { text: "stopped".into(), tone: Tone::Bad } } else { Cell::default() }
}

fn named(who: Option<&Who>) -> [Cell; 2] {
    who.map_or(["-".into(), "unknown".into()], |who| [who.pid.into(), who.name.as_str().into()])
}

fn slots(used: u64, info: &ChannelInfo) -> Cell {
    let full = used >= info.slots && info.policy != Policy::Newest;
    let tone = if full { Tone::Notable } else { Tone::Plain };
    Cell { text: format!("{used}/{}", info.slots), tone }
}

/// Messages of a queue are nobody's until they are taken, so nobody is behind.
fn lag_of(lag: Option<u64>, policy: Policy) -> Cell {
    lag.filter(|_| policy != Policy::Queue).map_or("-".into(), Cell::from)
}

fn lag_tone(grows: bool) -> Tone {
    if grows { Tone::Notable } else { Tone::Plain }
}

fn latency(latency: Option<std::time::Duration>) -> Cell {
    latency.map_or("-".into(), |latency| Time(latency).into())
}

fn per_second(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Table, left, right};

    fn table(name: &str, note: &str) -> Table {
        let columns = vec![left("NAME", 9), right("FIRST", 1), right("SECOND", 0), left("NOTE", 9)];
        Table { columns, rows: vec![[name, "1", "22", note].map(Into::into).into()] }
    }

    fn lines(table: Table, width: usize) -> Vec<String> {
        table.lines(width).into_iter().map(|line| line.into_iter().map(|cell| cell.text).collect()).collect()
    }

    #[test]
    fn columns_are_left_out_by_rank_until_it_fits() {
        assert_eq!(lines(table("cam", "gone"), 25), ["NAME  FIRST  SECOND  NOTE", "cam       1      22  gone"]);
        assert_eq!(lines(table("cam", "gone"), 24), ["NAME  FIRST  NOTE", "cam       1  gone"]);
        assert_eq!(lines(table("cam", "gone"), 16), ["NAME  NOTE", "cam   gone"]);
        assert_eq!(lines(table("cam", "gone"), 0), ["NAME  NOTE", "cam   gone"], "some are always there");
    }

    #[test]
    fn long_names_are_cut_and_long_notes_push_nothing_out() {
        let (name, note) = ("n".repeat(200), "w".repeat(200));
        let cut = format!("{}…", "n".repeat(LONGEST - 1));
        assert_eq!(lines(table(&name, "gone"), 40), [format!("NAME{}  NOTE", " ".repeat(20)), format!("{cut}  gone")]);
        assert_eq!(lines(table("cam", &note), 45)[1], format!("cam       1      22  {note}"));
        assert!(table(&name, &note).to_string().contains(&format!("{name}      1      22  {note}\n")), "whole as text");
        assert!(table(&"n".repeat(70_000), "gone").to_string().ends_with("gone\n"), "however long it is");
    }
}
