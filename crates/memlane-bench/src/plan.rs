//! What is measured: cases, and who is measured beside whom.

use crate::transport::{Case, SMALL, Transport, Workload};
use std::time::Duration;

/// Who does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) transport: usize,
    pub(crate) case: Case,
}

/// Contenders that take turns.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) contenders: Vec<Contender>,
    /// Whether its figures are rows, or only the source of a ratio.
    pub(crate) reported: bool,
}

/// What the user wants.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) quick: bool,
    /// Parts of names of transports; none: all.
    pub(crate) only: Vec<String>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) sizes: Vec<usize>,
}

const ALL_SIZES: [usize; 6] = [SMALL, 4 << 10, 64 << 10, 1 << 20, 8 << 20, 64 << 20];
const QUICK_SIZES: [usize; 4] = [SMALL, 64 << 10, 1 << 20, 8 << 20];

/// A picture of 1920 x 1080 with three bytes a pixel.
pub(crate) const PICTURE: usize = 1920 * 1080 * 3;

/// How long both sides think where they are to fall asleep: everybody does within this.
const THOUGHT: Duration = Duration::from_micros(30);

impl Case {
    pub(crate) fn new(workload: Workload, len: usize) -> Self {
        Self { workload, len, touched: false, count: 1, asleep: false }
    }

    /// How long each side thinks in a round.
    pub(crate) fn think(&self, quick: bool) -> Duration {
        match self.workload {
            Workload::Idle if quick => Duration::from_secs(2),
            Workload::Idle => Duration::from_secs(10),
            // They share a processor, and each spins before it sleeps.
            Workload::FanOutAsleep => THOUGHT * (2 + self.count as u32),
            _ if self.asleep => THOUGHT,
            _ => Duration::ZERO,
        }
    }

    /// Too large for several transports to have it open at a time.
    pub(crate) fn is_huge(&self) -> bool {
        self.len > 16 << 20
    }
}

fn touched(case: Case) -> Case {
    Case { touched: true, ..case }
}

fn asleep(case: Case) -> Case {
    Case { asleep: true, ..case }
}

/// Groups of cases that are measured beside each other.
fn groups(wish: &Wish) -> Vec<Vec<Case>> {
    use Workload::{
        Channels, Close, Create, FanOut, FanOutAsleep, Idle, Lock, LockContended, Memory, OneWay, Open, RoundTrip,
    };
    let sizes = match (&wish.sizes[..], wish.quick) {
        ([], true) => &QUICK_SIZES[..],
        ([], false) => &ALL_SIZES,
        (sizes, _) => sizes,
    };
    let of = |workload| sizes.iter().map(move |len| Case::new(workload, *len));
    let small = |workload| Case::new(workload, SMALL);
    let to = |workload, count| Case { count, ..small(workload) };
    let mut cases: Vec<Case> = of(RoundTrip).chain(of(RoundTrip).map(touched)).collect();
    cases.push(asleep(small(RoundTrip)));
    if !wish.quick {
        cases.extend([64 << 10, 8 << 20].map(|len| asleep(touched(Case::new(RoundTrip, len)))));
    }
    cases.extend(of(OneWay).chain(of(OneWay).map(touched)));
    let mut groups: Vec<Vec<Case>> = cases.into_iter().map(|case| vec![case]).collect();
    groups.push([1, 4, 16].map(|count| to(FanOut, count)).into());
    groups.push([1, 4, 16].map(|count| asleep(to(FanOutAsleep, count))).into());
    groups.push(vec![to(Channels, 16)]);
    groups.extend([Lock, LockContended].map(|workload| vec![small(workload)]));
    groups.extend([Create, Open, Close].map(|workload| vec![Case::new(workload, 64 << 10)]));
    groups.push(vec![small(Idle)]);
    groups.push(vec![Case { count: 8, ..Case::new(Memory, PICTURE) }]);
    groups
}

/// What is measured of what is wanted, by those who are here.
pub(crate) fn plan(wish: &Wish, transports: &[Transport]) -> Vec<Section> {
    let wanted = |transport: &Transport| {
        wish.only.is_empty() || wish.only.iter().any(|part| transport.name.contains(part.as_str()))
    };
    let present: Vec<usize> = (0..transports.len())
        .filter(|index| wanted(&transports[*index]) && (transports[*index].missing)().is_none())
        .collect();
    let workload = |workload| wish.workloads.is_empty() || wish.workloads.contains(&workload);
    let mut sections = Vec::new();
    for group in groups(wish).into_iter().filter(|group| workload(group[0].workload)) {
        let of = |case: Case| present.iter().map(move |transport| Contender { transport: *transport, case });
        let all = group.iter().copied().flat_map(of);
        let contenders: Vec<_> = all.filter(|who| (transports[who.transport].offers)(who.case)).collect();
        if !contenders.is_empty() {
            sections.push(Section { title: title(&group), contenders, reported: true });
        }
    }
    if workload(Workload::RoundTrip) && wish.sizes.is_empty() {
        let spinning = present.into_iter().find(|index| transports[*index].name == UNTOUCHED);
        let sizes = ALL_SIZES.map(|len| Case::new(Workload::RoundTrip, len));
        sections.extend(spinning.map(|transport| Section {
            title: format!("{UNTOUCHED}, round trip, untouched, all sizes"),
            contenders: sizes.map(|case| Contender { transport, case }).into(),
            reported: false,
        }));
    }
    sections
}

/// The transport of which all sizes are compared with each other.
pub(crate) const UNTOUCHED: &str = "memlane spinning";

/// What a group of cases is called in tables.
fn title(group: &[Case]) -> String {
    match group {
        [case] => case.to_string(),
        _ => format!("{}, by their number", group[0].what()),
    }
}

impl Case {
    fn what(&self) -> &'static str {
        match self.workload {
            Workload::RoundTrip => "round trip",
            Workload::OneWay => "one way",
            Workload::FanOut => "sending to receivers that are awake",
            Workload::FanOutAsleep => "sending to receivers that sleep, and waking them",
            Workload::Channels => "round trip through one of several channels",
            Workload::Lock => "lock and unlock, uncontended",
            Workload::LockContended => "lock and unlock, contended by both processes",
            Workload::Create => "create a channel",
            Workload::Open => "open a channel",
            Workload::Close => "close a channel",
            Workload::Idle => "wait for what does not come",
            Workload::Memory => "memory of a channel",
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what())?;
        if !matches!(self.workload, Workload::Lock | Workload::LockContended | Workload::Idle) {
            write!(f, ", {}", crate::report::bytes(self.len as u64))?;
        }
        match self.workload {
            Workload::RoundTrip if self.touched => f.write_str(", written and read")?,
            Workload::RoundTrip | Workload::OneWay if !self.touched => f.write_str(", untouched")?,
            Workload::OneWay => f.write_str(", written and read")?,
            Workload::Channels => write!(f, ", {} channels", self.count)?,
            Workload::FanOut | Workload::FanOutAsleep | Workload::Memory => write!(f, ", {} receivers", self.count)?,
            _ => {}
        }
        if self.asleep && self.workload == Workload::RoundTrip { f.write_str(", asleep") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Wish, plan};
    use crate::transport::Workload;
    use crate::transports;
    use clap::ValueEnum;

    #[test]
    fn every_workload_is_done_by_somebody() {
        for quick in [false, true] {
            let sections = plan(&Wish { quick, ..Wish::default() }, &transports::all());
            for &workload in Workload::value_variants() {
                let done =
                    |section: &super::Section| section.contenders.iter().any(|who| who.case.workload == workload);
                assert!(sections.iter().any(done), "{workload:?}");
            }
        }
    }

    #[test]
    fn wishes_narrow_the_plan() {
        let wish = Wish {
            only: vec!["futex".into()],
            workloads: vec![Workload::RoundTrip],
            sizes: vec![64],
            ..Wish::default()
        };
        let sections = plan(&wish, &transports::all());
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].contenders.len(), 1);
        assert!(sections[0].contenders[0].case.asleep);
    }
}
