//! Contenders that take turns: such machines change their speed by the minute, so only ratios within a run count.
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "a part of each bench")]

use criterion::Criterion;
use std::time::Duration;

/// One of several ways to do the same thing.
pub struct Contender<'a> {
    pub name: &'static str,
    /// How many rounds make a block: long enough to time, short enough that all see the same machine.
    pub block: u64,
    /// Runs so many rounds and says how long they took.
    pub run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'static str, block: u64, run: impl FnMut(u64) -> Duration + 'a) -> Self {
        Self { name, block, run: Box::new(run) }
    }

    /// Nanoseconds per round, over one block.
    fn block(&mut self) -> f64 {
        (self.run)(self.block).as_secs_f64() * 1e9 / self.block as f64
    }
}

/// What contenders took in turns: nanoseconds per round, a row for each contender, a column for each turn.
struct Turns(Vec<Vec<f64>>);

impl Turns {
    /// Every contender's blocks, one of each in turn.
    fn take(blocks: usize, contenders: &mut [Contender<'_>]) -> Self {
        let mut times = vec![Vec::with_capacity(blocks); contenders.len()];
        for _ in 0..blocks {
            for (contender, times) in contenders.iter_mut().zip(&mut times) {
                times.push(contender.block());
            }
        }
        Self(times)
    }

    fn median(&self, of: usize) -> f64 {
        median(self.0[of].clone())
    }

    /// What one contender costs against another.
    fn ratio(&self, of: usize, to: usize) -> f64 {
        median(self.0[of].iter().zip(&self.0[to]).map(|(of, to)| of / to).collect())
    }

    fn print(&self, title: &str, contenders: &[Contender<'_>]) {
        println!("{title}, {} blocks of each in turn:", self.0[0].len());
        println!("{:24}{:>14}{:>14}{:>18}", "", "fastest ns", "median ns", "median ratio");
        for (index, contender) in contenders.iter().enumerate() {
            let fastest = self.0[index].iter().copied().fold(f64::INFINITY, f64::min);
            print!("{:24}{fastest:14.1}{:14.1}", contender.name, self.median(index));
            println!("{:10.2} x this", self.ratio(0, index));
        }
    }
}

/// Criterion's own measurement of each, and then, unless this is only a test, that of their ratios in turns.
pub fn compare(criterion: &mut Criterion, title: &str, blocks: usize, contenders: &mut [Contender<'_>]) {
    let mut group = criterion.benchmark_group(title);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for contender in &mut *contenders {
        group.bench_function(contender.name, |bencher| bencher.iter_custom(|rounds| (contender.run)(rounds)));
    }
    group.finish();
    if std::env::args().any(|argument| argument == "--bench") {
        Turns::take(blocks, contenders).print(title, contenders);
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
