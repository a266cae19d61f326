//! What memlane is to reach, and whether it did in this run.

use crate::plan::PICTURE;
use crate::report::digits;
use crate::run::{Entry, Figures};
use crate::samples::ratio;
use crate::transport::{Case, SMALL, Workload};
use std::fmt::Write as _;

/// What was measured in a section.
pub(crate) type Measured = Vec<Entry>;

enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    /// It is said, and no goal.
    None,
}

struct Goal {
    what: String,
    measured: f64,
    limit: Limit,
}

/// The figures of a run.
struct Run<'a>(&'a [Measured]);

impl<'a> Run<'a> {
    fn figures(section: &'a Measured, transport: &str, case: Case) -> Option<&'a Figures> {
        let entry = section.iter().find(|entry| entry.transport == transport && entry.case == case);
        entry.and_then(|entry| entry.outcome.as_ref().ok())
    }

    fn find(&self, transport: &str, case: Case) -> Option<&'a Figures> {
        self.0.iter().find_map(|section| Self::figures(section, transport, case))
    }

    /// How many times `to` is `of`, where both took turns.
    fn ratio_of(&self, (of, of_case): (&str, Case), (to, to_case): (&str, Case)) -> Option<f64> {
        let both = |section| Some((Self::figures(section, of, of_case)?, Self::figures(section, to, to_case)?));
        let (of, to) = self.0.iter().find_map(both)?;
        of.ratio(to)
    }

    fn ratio(&self, case: Case, of: &str, to: &str) -> Option<f64> {
        self.ratio_of((of, case), (to, case))
    }

    /// The largest ratio over all sizes and both kinds of payload.
    fn largest_ratio(&self, of: &str, to: &str) -> Option<f64> {
        let cases = self.0.iter().flatten().filter(|entry| entry.transport == of).map(|entry| entry.case);
        let round_trips = cases.filter(|case| case.workload == Workload::RoundTrip && !case.asleep);
        round_trips.filter_map(|case| self.ratio(case, of, to)).max_by(f64::total_cmp)
    }

    /// The slowest size against the fastest one, of the section that has one transport in all sizes.
    fn spread(&self) -> Option<f64> {
        let all_sizes = |section: &&Measured| {
            section.len() > 1
                && section.iter().all(|entry| entry.transport == crate::plan::UNTOUCHED)
                && section.iter().all(|entry| entry.case.workload == Workload::RoundTrip)
        };
        let sizes: Vec<_> =
            self.0.iter().find(all_sizes)?.iter().filter_map(|entry| entry.outcome.as_ref().ok()).collect();
        let pairs = sizes.iter().flat_map(|of| sizes.iter().map(move |to| ratio(&of.times, &to.times)));
        pairs.flatten().max_by(f64::total_cmp)
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut add = |what: &str, measured: Option<f64>, limit| {
            goals.extend(measured.map(|measured| Goal { what: what.to_owned(), measured, limit }));
        };
        self.latency(&mut add);
        self.bandwidth(&mut add);
        self.others(&mut add);
        goals
    }

    fn latency(&self, add: &mut impl FnMut(&str, Option<f64>, Limit)) {
        let awake = Case::new(Workload::RoundTrip, SMALL);
        let asleep = Case { asleep: true, ..awake };
        let spinning = "memlane spinning";
        add(
            "spinning round trip, 64 B, x the bare cache line",
            self.ratio(awake, spinning, "cache line"),
            Limit::AtMost(2.0),
        );
        add("... x iceoryx2 polling", self.ratio(awake, spinning, "iceoryx2 polling"), Limit::AtMost(0.4));
        add("... at its worst size", self.largest_ratio(spinning, "iceoryx2 polling"), Limit::Below(1.0));
        let sleeping = "memlane sleeping";
        let floors = ["futex", "eventfd"].map(|floor| self.ratio(asleep, sleeping, floor));
        let better = floors.into_iter().flatten().max_by(f64::total_cmp);
        add("sleeping round trip, 64 B, x the better of futex and eventfd", better, Limit::AtMost(1.1));
        add("... x Boost hand-off", self.ratio(asleep, sleeping, "Boost hand-off"), Limit::AtMost(0.9));
        add("... x iceoryx2 blocking", self.ratio(asleep, sleeping, "iceoryx2 blocking"), Limit::AtMost(0.6));
        let adaptive = self.ratio(awake, "Boost hand-off", "memlane adaptive");
        add("adaptive wait, 64 B, answered at once: times faster than Boost hand-off", adaptive, Limit::AtLeast(10.0));
        add("untouched payload, 64 B to 64 MiB, slowest x fastest", self.spread(), Limit::AtMost(1.2));
    }

    fn bandwidth(&self, add: &mut impl FnMut(&str, Option<f64>, Limit)) {
        let large = Case { touched: true, ..Case::new(Workload::RoundTrip, 8 << 20) };
        let spinning = "memlane spinning";
        add(
            "8 MiB written and read in place, x the bare memory",
            self.ratio(large, spinning, "memory"),
            Limit::AtMost(1.05),
        );
        for copying in ["Boost hand-off", "Unix socket", "ipc-channel bytes"] {
            let times = self.ratio(large, copying, spinning);
            add(&format!("... times faster than {copying}"), times, Limit::AtLeast(2.0));
        }
        let stream = Case { touched: true, ..Case::new(Workload::OneWay, SMALL) };
        let millions = self.find(spinning, stream).and_then(Figures::p50).map(|ns| 1e3 / ns);
        add("one way, 64 B, written and read: million messages/s", millions, Limit::AtLeast(10.0));
        let times = self.ratio(stream, "Boost message_queue", spinning);
        add("... times as many as Boost message_queue", times, Limit::AtLeast(5.0));
    }

    fn others(&self, add: &mut impl FnMut(&str, Option<f64>, Limit)) {
        let to = |workload, count| Case { count, ..Case::new(workload, SMALL) };
        let awake = |count| ("memlane spinning", to(Workload::FanOut, count));
        let asleep = |count| ("memlane sleeping", Case { asleep: true, ..to(Workload::FanOutAsleep, count) });
        add("sending to 16 receivers that are awake, x to one", self.ratio_of(awake(16), awake(1)), Limit::AtMost(2.0));
        add("sending to 16 receivers that sleep, x to one", self.ratio_of(asleep(16), asleep(1)), Limit::None);
        let lock = Case::new(Workload::Lock, SMALL);
        add(
            "lock and unlock, uncontended, x std::sync::Mutex",
            self.ratio(lock, "memlane mutex", "std mutex"),
            Limit::AtMost(1.5),
        );
        add("... x pthread robust", self.ratio(lock, "memlane mutex", "pthread robust"), Limit::Below(1.0));
        let contended = self.ratio(Case::new(Workload::LockContended, SMALL), "pthread robust", "memlane mutex");
        add("... contended by two processes: locks per second, x pthread robust", contended, Limit::AtLeast(1.0));
        let idle = Case::new(Workload::Idle, SMALL);
        let share =
            self.find("memlane adaptive", idle).and_then(|figures| Some(figures.processor_time()? / figures.p50()?));
        add("waiting: per cent of a core", share.map(|share| share * 100.0), Limit::Below(0.1));
        let open = Case::new(Workload::Open, 64 << 10);
        let took = self.find("memlane adaptive", open).and_then(Figures::p50).map(|ns| ns / 1e3);
        add("open a channel, us", took, Limit::AtMost(200.0));
        let iceoryx2 = ["iceoryx2 polling", "iceoryx2 blocking"].map(|name| self.ratio(open, "memlane adaptive", name));
        add("... x iceoryx2", iceoryx2.into_iter().flatten().max_by(f64::total_cmp), Limit::Below(1.0));
        let picture = Case { count: 8, ..Case::new(Workload::Memory, PICTURE) };
        let reserved = |name| Some(self.find(name, picture)?.memory?.0 as f64 / 1e6);
        let theirs = reserved("iceoryx2 polling").map_or(Limit::None, Limit::Below);
        add(
            "memory reserved for pictures of 1920x1080, 8 receivers, MB (iceoryx2: goal)",
            reserved("memlane adaptive"),
            theirs,
        );
    }
}

/// The table of goals, of those that were measured; empty if none was.
pub(crate) fn table(measured: &[Measured]) -> String {
    let goals = Run(measured).goals();
    if goals.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:80}{:>10}{:>16}\n", "goals", "measured", "goal");
    for Goal { what, measured, limit } in goals {
        let (relation, verdict) = match limit {
            Limit::AtMost(limit) => (format!("<= {}", digits(limit)), Some(measured <= limit)),
            Limit::AtLeast(limit) => (format!(">= {}", digits(limit)), Some(measured >= limit)),
            Limit::Below(limit) => (format!("< {}", digits(limit)), Some(measured < limit)),
            Limit::None => ("-".into(), None),
        };
        let verdict = verdict.map_or("", |met| if met { "met" } else { "NOT MET" });
        let measured = digits(measured);
        writeln!(text, "{what:80}{measured:>10}{relation:>16}  {verdict}").expect("text grows");
    }
    text
}
