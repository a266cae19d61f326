//! Two processes, of which one does what the other says, and what any hand-over between them stands on: cache lines that
//! go to and fro, and futexes that do.
#![allow(dead_code, missing_docs, unreachable_pub, missing_debug_implementations, reason = "each bench uses its part")]
#![allow(unsafe_code)]

use memlane::{Name, Shareable};
use std::hint::spin_loop;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const VARIABLE: &str = "MEMLANE_BENCH_PEER";

/// The name of what is shared, if this is the other process.
pub fn told() -> Option<Name> {
    std::env::var(VARIABLE).ok().map(|name| Name::new(&name).expect("a valid name"))
}

/// The name of a part of what is shared.
pub fn part(name: &Name, label: &str) -> Name {
    Name::new(&format!("{}-{}", name.as_str(), label.replace(' ', ""))).expect("a valid name")
}

/// What both sides are to do.
#[derive(Clone, Copy)]
pub struct Order {
    pub what: usize,
    pub rounds: u64,
    /// How long each side thinks in each round.
    pub thought: Duration,
}

/// The other process.
pub struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    pub fn start(name: &Name) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .env(VARIABLE, name.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, input, output }
    }

    /// Does this side of an order while the other process does the other one, and says how long it took, without that which
    /// both sides thought.
    pub fn run(&mut self, order: Order, side: impl FnOnce(&dyn Fn())) -> Duration {
        let Order { what, rounds, thought } = order;
        writeln!(self.input, "{what} {rounds} {}", thought.as_nanos()).expect("it listens");
        self.listen();
        let start = Instant::now();
        side(&think_for(thought));
        let time = start.elapsed();
        self.listen();
        time.saturating_sub(thought * 2 * rounds as u32)
    }

    fn listen(&mut self) {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).expect("its answer"), 0, "it lives");
    }

    /// Keeps the other process on one processor, see [`pin`].
    pub fn pin(&self, index: usize) {
        pin(self.process.id(), index);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other process: does its `side` of every order until the pipe is closed.
pub fn serve(side: impl Fn(Order, &dyn Fn())) {
    for line in std::io::stdin().lines() {
        let line = line.expect("the parent's pipe");
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().expect("a number"));
        let mut next = || numbers.next().expect("three numbers");
        let order = Order { what: next() as usize, rounds: next(), thought: Duration::from_nanos(next()) };
        println!();
        side(order, &think_for(order.thought));
        println!();
    }
}

fn think_for(time: Duration) -> impl Fn() {
    move || {
        let start = Instant::now();
        while start.elapsed() < time {}
    }
}

/// Keeps a process (0: this one) on one processor of those it may use; the last, if there are not so many.
pub fn pin(process: u32, index: usize) {
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, both calls get its size, and the macros stay within it.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(libc::getppid(), size_of_val(&allowed), &raw mut allowed), 0);
        let usable: Vec<_> = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed)).collect();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usable[index.min(usable.len() - 1)], &mut one);
        assert_eq!(libc::sched_setaffinity(process as libc::pid_t, size_of_val(&one), &raw const one), 0);
    }
}

/// Words that each have cache lines to themselves: the number of questions, and of answers.
#[derive(Shareable)]
#[repr(C)]
pub struct Words {
    questions: AtomicU32,
    _1: [u32; 31],
    answers: AtomicU32,
    _2: [u32; 31],
}

impl Words {
    pub fn ask_spinning(&self) {
        let number = self.questions.load(Ordering::Relaxed).wrapping_add(1);
        self.questions.store(number, Ordering::Release);
        spin(&self.answers, number);
    }

    pub fn answer_spinning(&self) {
        let number = self.answers.load(Ordering::Relaxed).wrapping_add(1);
        spin(&self.questions, number);
        self.answers.store(number, Ordering::Release);
    }

    pub fn ask_sleeping(&self, think: &dyn Fn()) {
        sleep(&self.answers, wake(&self.questions));
        think();
    }

    pub fn answer_sleeping(&self, think: &dyn Fn()) {
        sleep(&self.questions, self.answers.load(Ordering::Relaxed).wrapping_add(1));
        think();
        wake(&self.answers);
    }
}

/// Spins until the word holds `value`.
fn spin(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) != value {
        spin_loop();
    }
}

/// Adds one and wakes who sleeps on the word.
fn wake(word: &AtomicU32) -> u32 {
    let value = word.fetch_add(1, Ordering::Release).wrapping_add(1);
    // SAFETY: the call uses nothing of the word but its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    value
}

/// Sleeps until the word holds `value`.
fn sleep(word: &AtomicU32, value: u32) {
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen == value {
            return;
        }
        let forever = std::ptr::null::<libc::timespec>();
        // SAFETY: the kernel itself checks and reads the address of the word.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, forever) };
    }
}
