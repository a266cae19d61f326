//! Numbers as people read them, and what was measured.

use memlane::{Policy, Who};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How wide a column of a table is at most; what is longer stands out. An object may name its type and parts at any length,
/// and no more than `u16::MAX` can be asked of a format.
pub(crate) const WIDEST: usize = 80;

/// The lines of a table, of which the first row is the heads: each column but the last one is as wide as its longest text, and
/// those of `right` (numbers) stand at the right of theirs.
pub(crate) fn lines<const N: usize>(rows: &[[String; N]], right: &[usize]) -> impl Iterator<Item = String> {
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).min(WIDEST);
    let widths: [usize; N] = std::array::from_fn(wide);
    rows.iter().map(move |row| {
        let padded = row.iter().zip(widths).enumerate().map(|(column, (text, width))| match right.contains(&column) {
            true => format!("{text:>width$}"),
            false if column == N - 1 => text.clone(),
            false => format!("{text:width$}"),
        });
        padded.collect::<Vec<_>>().join("  ")
    })
}

/// Says something on standard error, in one line, to whoever still listens.
pub(crate) fn tell(message: impl fmt::Display) {
    let line = message.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    let _ = writeln!(io::stderr(), "memlane: {line}");
}

/// What a run of hand-overs came to.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Whether every byte of every frame arrived as it was sent.
    pub(crate) verified: bool,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) bytes_per_second: u64,
    pub(crate) receivers_lost: u64,
}

impl Summary {
    /// From the latency of each frame.
    pub(crate) fn new(latencies: &mut [Duration], bytes: u64, elapsed: Duration, verified: bool, lost: u64) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let rank = (latencies.len() as f64 * share).ceil() as usize;
            latencies.get(rank.saturating_sub(1)).map_or(0, |latency| latency.as_nanos() as u64)
        };
        Self {
            frames: latencies.len() as u64,
            bytes,
            verified,
            p50_ns: at(0.50),
            p99_ns: at(0.99),
            max_ns: at(1.0),
            bytes_per_second: (bytes as f64 / elapsed.as_secs_f64().max(1e-9)) as u64,
            receivers_lost: lost,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verified = if self.verified { "every byte verified" } else { "WRONG BYTES" };
        writeln!(f, "{}, {}, {verified}", Counted(self.frames, "frame"), Bytes(self.bytes))?;
        let latency = |nanoseconds| Time(Duration::from_nanos(nanoseconds));
        writeln!(
            f,
            "latency     p50 {}   p99 {}   max {}   (offered to received, nothing copied)",
            latency(self.p50_ns),
            latency(self.p99_ns),
            latency(self.max_ns)
        )?;
        write!(f, "throughput  {}/s with drawing or decoding and checking", Bytes(self.bytes_per_second))
    }
}

/// Tells something once, and only to somebody who watches.
#[derive(Debug)]
pub(crate) struct Once(bool);

impl Once {
    pub(crate) fn new() -> Self {
        Self(std::io::stderr().is_terminal())
    }

    pub(crate) fn tell(&mut self, text: impl fmt::Display) {
        if std::mem::take(&mut self.0) {
            tell(text);
        }
    }
}

/// Somebody by pid and name, or by `role` if that is not known.
pub(crate) fn called(who: Option<Who>, role: &str) -> String {
    who.map_or(role.to_owned(), |who| who.to_string())
}

/// Somebody in JSON.
pub(crate) fn as_json(who: &Who) -> Value {
    json!({ "pid": who.pid, "name": who.name, "stopped": who.stopped })
}

/// Several processes by pid and name.
pub(crate) fn listed(who: &[Who]) -> String {
    who.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The policy by its name.
pub(crate) fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Lossless => "lossless",
        Policy::Newest => "newest",
        Policy::Queue => "queue",
        Policy::Service => "service",
    }
}

/// A number of bytes, as people read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => write!(f, "{:.1} {name}", self.0 as f64 / unit as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A number of things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A time in microseconds, or a larger unit if it is long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub(crate) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            0..20_000 => write!(f, "{:.1} us", self.0.as_nanos() as f64 / 1e3),
            20_000..2_000_000 => write!(f, "{} ms", self.0.as_millis()),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Summary, Time};
    use std::time::Duration;

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies() {
        let mut latencies: Vec<_> = (1..=200).rev().map(Duration::from_nanos).collect();
        let summary = Summary::new(&mut latencies, 4000, Duration::from_secs(2), true, 0);
        assert_eq!((summary.p50_ns, summary.p99_ns, summary.max_ns), (100, 198, 200));
        assert_eq!((summary.frames, summary.bytes_per_second), (200, 2000));
        let none = Summary::new(&mut [], 0, Duration::ZERO, true, 0);
        assert_eq!((none.p50_ns, none.max_ns, none.bytes_per_second), (0, 0, 0));
    }

    #[test]
    fn times_read_well() {
        let time = |microseconds| Time(Duration::from_micros(microseconds)).to_string();
        assert_eq!([time(7), time(19_999), time(20_000), time(2_500_000)], ["7.0 us", "19999.0 us", "20 ms", "2.5 s"]);
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(6_220_800).to_string(), "5.9 MiB");
    }
}
