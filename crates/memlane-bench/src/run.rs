//! Measures a section: opens each contender's case, lets them take turns block by block, and closes them.

use crate::pair::{INTERRUPTED, Pair, RunDirectory};
use crate::plan::{Contender, Section};
use crate::samples::{median, percentile, ratio};
use crate::transport::{Case, Transport, Workload};
use crate::worker::{Done, Order};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a block is to take, and how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) block: Duration,
    pub(crate) blocks: usize,
    /// Blocks in which each round is timed.
    pub(crate) timed_blocks: usize,
    pub(crate) quick: bool,
}

/// What was measured of a contender.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// Nanoseconds per round, of each block.
    pub(crate) times: Vec<f64>,
    /// Nanoseconds of processor time per message, of each block.
    pub(crate) processor_times: Vec<f64>,
    /// Nanoseconds of single rounds.
    pub(crate) rounds: Vec<f64>,
    /// Pages that were mapped in all blocks, by both sides.
    pub(crate) faults: u64,
    pub(crate) rounds_per_block: u64,
    /// Reserved and resident bytes.
    pub(crate) memory: Option<(u64, u64)>,
}

impl Figures {
    pub(crate) fn p50(&self) -> Option<f64> {
        median(self.times.iter().copied())
    }

    pub(crate) fn p99(&self) -> Option<f64> {
        percentile(self.rounds.clone(), 99)
    }

    pub(crate) fn processor_time(&self) -> Option<f64> {
        median(self.processor_times.iter().copied())
    }

    /// How many times `to` this is.
    pub(crate) fn ratio(&self, to: &Self) -> Option<f64> {
        ratio(&self.times, &to.times)
    }

    fn add(&mut self, case: Case, order: Order, [ask, answer]: [Done; 2]) {
        let thought = if case.workload == Workload::Idle { 0 } else { 2 * order.think.as_nanos() as u64 };
        let own = |time: u64| time.saturating_sub(if is_part(case) { 0 } else { thought });
        self.rounds.extend(ask.samples.iter().map(|sample| own(*sample) as f64));
        if order.each {
            return;
        }
        self.faults += ask.faults + answer.faults;
        let rounds = order.rounds as f64;
        let both = (ask.processor_time + answer.processor_time).saturating_sub(thought * order.rounds) as f64;
        let (time, processor_time) = match case.workload {
            Workload::Memory => {
                self.memory = Some((ask.reserved, ask.resident));
                return;
            }
            // Both sides lock: who is faster is done before.
            Workload::LockContended => (ask.time.max(answer.time) as f64 / 2.0, both / 2.0),
            // Nobody waits in what is measured.
            _ if is_part(case) => (ask.time as f64, ask.time as f64),
            _ => (ask.time.saturating_sub(thought * order.rounds) as f64, both),
        };
        self.times.push(time / rounds);
        self.processor_times.push(processor_time / rounds);
    }
}

/// Whether parts of rounds are measured.
fn is_part(case: Case) -> bool {
    use Workload::{Close, Create, FanOut, FanOutAsleep, Open};
    matches!(case.workload, FanOut | FanOutAsleep | Create | Open | Close)
}

/// A contender, and its figures or why there are none.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) transport: &'static str,
    pub(crate) case: Case,
    pub(crate) outcome: Result<Figures, String>,
}

/// A contender in its section.
struct Turn {
    who: Contender,
    /// Which of the transport's pairs does it.
    pair: (usize, usize),
    rounds: u64,
    entry: Entry,
}

pub(crate) struct Runner<'a> {
    transports: &'a [Transport],
    amount: Amount,
    directory: RunDirectory,
    /// By transport, and numbered: each pair has one case open at a time.
    pairs: HashMap<(usize, usize), Pair>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(transports: &'a [Transport], amount: Amount) -> Result<Self, String> {
        Ok(Self { transports, amount, directory: RunDirectory::create()?, pairs: HashMap::new() })
    }

    /// Measures all contenders of a section; who fails is left out from then on.
    pub(crate) fn run(&mut self, section: &Section, progress: &dyn Fn(f64)) -> Vec<Entry> {
        let mut turns = self.turns(section);
        let huge = turns.iter().any(|turn| turn.who.case.is_huge()) && section.reported;
        if !huge {
            self.each(&mut turns, |runner, turn| {
                runner.open(turn)?;
                runner.warm_up(turn)
            });
        }
        let (blocks, timed) = self.blocks(section, huge);
        if section.contenders[0].case.workload == Workload::Idle {
            // All at a time: it takes long, and none does anything.
            self.each(&mut turns, |runner, turn| runner.begin(turn, false).map(|_| ()));
            self.each(&mut turns, |runner, turn| runner.finish(turn, runner.order(turn, false)));
            self.each(&mut turns, Self::close);
            return turns.into_iter().map(|turn| turn.entry).collect();
        }
        let all = blocks + timed;
        for block in 0..all {
            progress(block as f64 / all as f64);
            // Those in which each round is timed are spread among the others: all see the same machine.
            let timed = (block + 1) * timed / all > block * timed / all;
            self.each(&mut turns, |runner, turn| {
                if !huge {
                    return runner.block(turn, timed);
                }
                runner.open(turn)?;
                runner.warm_up(turn)?;
                runner.block(turn, timed)?;
                runner.close(turn)
            });
        }
        if !huge {
            self.each(&mut turns, Self::close);
        }
        turns.into_iter().map(|turn| turn.entry).collect()
    }

    fn turns(&self, section: &Section) -> Vec<Turn> {
        let mut turns: Vec<Turn> = Vec::new();
        for who in &section.contenders {
            let number = turns.iter().filter(|turn| turn.who.transport == who.transport).count();
            let transport = self.transports[who.transport].name;
            let entry = Entry { transport, case: who.case, outcome: Ok(Figures::default()) };
            turns.push(Turn { who: *who, pair: (who.transport, number), rounds: 1, entry });
        }
        turns
    }

    /// How many blocks there are, and how many in which each round is timed.
    fn blocks(&self, section: &Section, huge: bool) -> (usize, usize) {
        let Amount { blocks, timed_blocks, .. } = self.amount;
        match section.contenders[0].case.workload {
            Workload::Idle | Workload::Memory => (1, 0),
            _ if !section.reported => (blocks, 0),
            _ if huge => (blocks.min(5), timed_blocks.min(3)),
            _ => (blocks, timed_blocks),
        }
    }

    /// Lets everybody who has not failed do something; whoever fails loses its processes.
    fn each(&mut self, turns: &mut [Turn], mut what: impl FnMut(&mut Self, &mut Turn) -> Result<(), String>) {
        for turn in turns.iter_mut().filter(|turn| turn.entry.outcome.is_ok()) {
            let done = if INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".into()) } else { what(self, turn) };
            if let Err(why) = done {
                self.pairs.remove(&turn.pair);
                turn.entry.outcome = Err(why);
            }
        }
    }

    fn pair(&mut self, turn: &Turn) -> Result<&mut Pair, String> {
        self.pairs.get_mut(&turn.pair).ok_or_else(|| "its processes are gone".into())
    }

    fn open(&mut self, turn: &mut Turn) -> Result<(), String> {
        if !self.pairs.contains_key(&turn.pair) {
            let pair = Pair::start(&self.transports[turn.who.transport], &self.directory)?;
            self.pairs.insert(turn.pair, pair);
        }
        self.pair(turn)?.open(turn.who.case)
    }

    fn close(&mut self, turn: &mut Turn) -> Result<(), String> {
        self.pair(turn)?.close()
    }

    /// Finds out how many rounds make a block; all that is new is done when it ends.
    fn warm_up(&mut self, turn: &mut Turn) -> Result<(), String> {
        let case = turn.who.case;
        let fewest = match case.workload {
            // More than the buffers of anybody by default.
            Workload::Memory => 64,
            // So many that the one answer counts little.
            Workload::OneWay if case.is_huge() => 4,
            Workload::OneWay => 16,
            _ => 1,
        };
        turn.rounds = if case.len >= 1 << 20 { fewest } else { fewest.max(8) };
        match case.workload {
            Workload::Memory => return Ok(()),
            // One takes long enough.
            Workload::Idle => {
                turn.rounds = 1;
                return Ok(());
            }
            _ => {}
        }
        for _ in 0..3 {
            let start = Instant::now();
            let order = self.begin(turn, false)?;
            let [ask, _] = self.pair(turn)?.finish(order)?;
            let took = if is_part(case) { start.elapsed() } else { Duration::from_nanos(ask.time) };
            let share = self.amount.block.as_secs_f64() / took.as_secs_f64().max(1e-9);
            turn.rounds = ((turn.rounds as f64 * share) as u64).clamp(fewest, 100_000);
            if share < 2.0 {
                break;
            }
        }
        Ok(())
    }

    fn order(&self, turn: &Turn, timed: bool) -> Order {
        // So that there are a thousand where they are fast.
        let enough = (1000 / self.amount.timed_blocks.max(1)) as u64 + 1;
        let rounds = match timed {
            true if turn.rounds > 20 => turn.rounds.clamp(enough, 4 * enough),
            _ => turn.rounds,
        };
        let case = turn.who.case;
        let warm = match case.workload {
            Workload::Idle | Workload::Memory => 0,
            _ => rounds / 10 + 2,
        };
        Order { warm, rounds, think: case.think(self.amount.quick), each: timed }
    }

    fn begin(&mut self, turn: &Turn, timed: bool) -> Result<Order, String> {
        let order = self.order(turn, timed);
        self.pair(turn)?.begin(order);
        Ok(order)
    }

    fn finish(&mut self, turn: &mut Turn, order: Order) -> Result<(), String> {
        let done = self.pair(turn)?.finish(order)?;
        if let Ok(figures) = &mut turn.entry.outcome {
            figures.rounds_per_block = turn.rounds;
            figures.add(turn.who.case, order, done);
        }
        Ok(())
    }

    fn block(&mut self, turn: &mut Turn, timed: bool) -> Result<(), String> {
        let order = self.begin(turn, timed)?;
        self.finish(turn, order)
    }
}
