//! Rows: for the terminal, and for `--json`.

use crate::plan::Section;
use crate::run::{Entry, Figures};
use crate::transport::Workload;
use crate::transports::is_floor;
use serde::Serialize;
use std::fmt::Write as _;

/// What was measured of a transport in a case. Where there is no figure of a kind, it is `null`.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) transport: &'static str,
    pub(crate) workload: String,
    /// The bytes of a message.
    pub(crate) size: usize,
    /// Whether each message was written and read in full.
    pub(crate) touched: bool,
    /// Whether both sides fell asleep in each round.
    pub(crate) asleep: bool,
    /// How many receivers or channels there were.
    pub(crate) count: usize,
    /// The median over blocks of the time of a round.
    pub(crate) p50_ns: Option<f64>,
    /// Of single rounds, each of which was timed.
    pub(crate) p99_ns: Option<f64>,
    /// Rounds per second.
    pub(crate) per_second: Option<f64>,
    /// The processor time of both sides per message; where only a part of a round is measured, the time of that part:
    /// nobody waits in it.
    pub(crate) cpu_ns: Option<f64>,
    /// The median over turns, as all ratios.
    pub(crate) ratio_to_memlane: Option<f64>,
    pub(crate) ratio_to_floor: Option<f64>,
    /// Pages mapped in all blocks by both sides.
    pub(crate) faults: Option<u64>,
    pub(crate) blocks: usize,
    pub(crate) rounds_per_block: u64,
    pub(crate) timed_rounds: usize,
    pub(crate) reserved_bytes: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
    /// Why there are no figures.
    pub(crate) failed: Option<String>,
    pub(crate) machine: String,
}

/// The fastest of those whose name is wanted, in the case of an entry.
fn best<'a>(entries: &'a [Entry], like: &Entry, wanted: impl Fn(&str) -> bool) -> Option<&'a Figures> {
    let all = entries.iter().filter(|other| other.case == like.case && wanted(other.transport));
    let figures = all.filter_map(|other| Some((other.outcome.as_ref().ok()?, other.outcome.as_ref().ok()?.p50()?)));
    figures.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(figures, _)| figures)
}

/// The rows of a section.
pub(crate) fn rows(entries: &[Entry], machine: &str) -> Vec<Row> {
    let row = |entry: &Entry| {
        let figures = entry.outcome.clone().unwrap_or_default();
        let workload = entry.case.workload;
        // All wait as long.
        let ratio_to = |to: Option<&Figures>| figures.ratio(to?).filter(|_| workload != Workload::Idle);
        // An event carries no message.
        let memlane = best(entries, entry, |name| name.starts_with("memlane") && name != "memlane event");
        let floor = best(entries, entry, is_floor);
        let p50 = figures.p50();
        Row {
            transport: entry.transport,
            workload: format!("{workload:?}"),
            size: entry.case.len,
            touched: entry.case.touched,
            asleep: entry.case.asleep,
            count: entry.case.count,
            p50_ns: p50,
            p99_ns: figures.p99(),
            per_second: p50.filter(|p50| *p50 > 0.0 && workload != Workload::Idle).map(|p50| 1e9 / p50),
            cpu_ns: figures.processor_time(),
            ratio_to_memlane: ratio_to(memlane),
            ratio_to_floor: ratio_to(floor),
            faults: p50.map(|_| figures.faults),
            blocks: figures.times.len(),
            rounds_per_block: figures.rounds_per_block,
            timed_rounds: figures.rounds.len(),
            reserved_bytes: figures.memory.map(|(reserved, _)| reserved),
            resident_bytes: figures.memory.map(|(_, resident)| resident),
            failed: entry.outcome.as_ref().err().cloned(),
            machine: machine.to_owned(),
        }
    };
    entries.iter().map(row).collect()
}

/// Bytes as people say them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) && bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Nanoseconds with three digits and their unit.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "us"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Three digits or so, if it is not more before the point.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        absolute if absolute < 0.1 => format!("{value:.4}"),
        absolute if absolute < 10.0 => format!("{value:.2}"),
        absolute if absolute < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        _ if per_second >= 1e6 => format!("{} M", digits(per_second / 1e6)),
        _ if per_second >= 1e3 => format!("{} k", digits(per_second / 1e3)),
        _ => digits(per_second),
    }
}

fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".into(), show)
}

/// The table of a section.
pub(crate) fn table(section: &Section, rows: &[Row]) -> String {
    let mut text = format!("\n{}\n", section.title);
    let memory = section.contenders[0].case.workload == Workload::Memory;
    let line = |text: &mut String, name: &str, columns: &[String]| {
        let columns = columns.iter().map(|column| format!("{column:>11}")).collect::<String>();
        writeln!(text, "{name:32}{columns}").expect("text grows");
    };
    let head: &[&str] = match memory {
        true => &["reserved", "resident"],
        false => &["p50", "p99", "per second", "GiB/s", "CPU", "x memlane", "x floor"],
    };
    line(&mut text, "", &head.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>());
    let counts = rows.iter().any(|row| row.count != rows[0].count);
    for row in rows {
        let name = if counts { format!("{}, {}", row.transport, row.count) } else { row.transport.to_owned() };
        if let Some(why) = &row.failed {
            writeln!(text, "{name:32}  FAILED: {why}").expect("text grows");
            continue;
        }
        let bandwidth = row.per_second.filter(|_| row.touched).map(|rate| rate * row.size as f64 / f64::from(1 << 30));
        let columns = match memory {
            true => vec![or_dash(row.reserved_bytes, bytes), or_dash(row.resident_bytes, bytes)],
            false => vec![
                or_dash(row.p50_ns, time),
                or_dash(row.p99_ns, time),
                or_dash(row.per_second, rate),
                or_dash(bandwidth, digits),
                or_dash(row.cpu_ns, time),
                or_dash(row.ratio_to_memlane, digits),
                or_dash(row.ratio_to_floor, digits),
            ],
        };
        line(&mut text, &name, &columns);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{bytes, digits, rate, time};

    #[test]
    fn figures_as_people_say_them() {
        assert_eq!([64, 4096, 1 << 20, 6_220_800].map(bytes), ["64 B", "4 KiB", "1 MiB", "6.2 MB"]);
        assert_eq!([0.5, 187.2, 12_340.0, 2.5e6, 3e9].map(time), ["0.50 ns", "187 ns", "12.3 us", "2.50 ms", "3.00 s"]);
        assert_eq!([12.0, 1_500.0, 2.34e7].map(rate), ["12.0", "1.50 k", "23.4 M"]);
        assert_eq!([0.0042, 1.0, 99.94, 1234.5].map(digits), ["0.0042", "1.00", "99.9", "1234"]);
    }
}
