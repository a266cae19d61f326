//! The round trip of a hand-off between two processes, of a frame behind a lock, with a payload nobody
//! touches; and the two floors it stands on: a cache line that goes to and fro, and a futex that does.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Contender, compare};
use criterion::Criterion;
use memlane::{Condvar, Locked, Mutex, MutexGuard, Name, Options, Segment, Shareable, Until};
use std::hint::spin_loop;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SIZES: [(&str, usize); 4] = [("64 B", 64), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20)];
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for the other side to fall asleep.
const THOUGHT: Duration = Duration::from_micros(30);
const BLOCKS: usize = 200;

#[derive(Shareable)]
#[repr(C)]
struct Handoff {
    ready: Condvar,
    processed: Condvar,
    frame: Mutex<Frame>,
}

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    sequence: u64,
    done: u64,
    payload: [u8],
}

fn take<'a>(locked: Result<Locked<'a, Frame>, impl std::fmt::Debug>) -> MutexGuard<'a, Frame> {
    locked.expect("the lock").or_repair(|_| panic!("nobody dies here"))
}

impl Handoff {
    fn send(by: &Segment<Self>, think: &dyn Fn()) {
        let mut frame = take(by.frame.lock(by));
        frame.sequence += 1;
        frame.unlock();
        by.ready.notify_one();
        let frame = take(by.frame.lock(by));
        drop(take(by.processed.wait_while(frame, Until::timeout(PATIENCE), |frame| frame.done < frame.sequence)));
        think();
    }

    fn receive(by: &Segment<Self>, think: &dyn Fn()) {
        let frame = take(by.frame.lock(by));
        let until = Until::timeout(PATIENCE);
        let mut frame = take(by.ready.wait_while(frame, until, |frame| frame.done == frame.sequence));
        think();
        frame.done = frame.sequence;
        frame.unlock();
        by.processed.notify_one();
    }
}

/// Words that each have a cache line to themselves.
#[derive(Shareable)]
#[repr(C)]
struct Words {
    ping: AtomicU32,
    _1: [u32; 31],
    pong: AtomicU32,
    _2: [u32; 31],
    /// An odd number is the sender's question, an even one the receiver's answer.
    both: AtomicU32,
    _3: [u32; 31],
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

impl Words {
    fn send_sleeping(&self, think: &dyn Fn()) {
        let value = wake(&self.ping);
        sleep(&self.pong, value);
        think();
    }

    fn receive_sleeping(&self, think: &dyn Fn()) {
        let value = self.pong.load(Ordering::Relaxed).wrapping_add(1);
        sleep(&self.ping, value);
        think();
        wake(&self.pong);
    }

    fn send_spinning(&self) {
        self.both.fetch_add(1, Ordering::Release);
        while self.both.load(Ordering::Acquire) % 2 == 1 {
            spin_loop();
        }
    }

    fn receive_spinning(&self) {
        while self.both.load(Ordering::Acquire).is_multiple_of(2) {
            spin_loop();
        }
        self.both.fetch_add(1, Ordering::Release);
    }
}

fn think_for(time: Duration) -> impl Fn() {
    move || {
        let start = Instant::now();
        while start.elapsed() < time {}
    }
}

/// What both sides have open.
struct Shared {
    handoffs: Vec<Segment<Handoff>>,
    words: Segment<Words>,
}

impl Shared {
    fn create(name: &Name) -> Self {
        let of_size = |(label, size): (&str, usize)| {
            Segment::create(part(name, label), size, &Options::new(), |_| ()).expect("a fresh object")
        };
        let words = Segment::create(part(name, "words"), (), &Options::new(), |_| ()).expect("a fresh object");
        Self { handoffs: SIZES.map(of_size).into(), words }
    }

    fn open(name: &Name) -> Self {
        let of_size = |(label, _)| Segment::open(part(name, label)).expect("the parent's object");
        Self { handoffs: SIZES.map(of_size).into(), words: Segment::open(part(name, "words")).expect("the words") }
    }

    /// The other side: answers so many rounds of what the parent says, until it closes the pipe.
    fn serve(&self) {
        for line in std::io::stdin().lines() {
            let line = line.expect("the parent's pipe");
            let mut fields = line.split(' ').map(|field| field.parse::<usize>().expect("a number"));
            let mut next = || fields.next().expect("what, how often, how long it thinks");
            let (what, rounds, thought) = (next(), next(), next());
            let think = think_for(Duration::from_nanos(thought as u64));
            println!();
            for _ in 0..rounds {
                match self.handoffs.get(what) {
                    Some(handoff) => Handoff::receive(handoff, &think),
                    None if what == SLEEPING => self.words.receive_sleeping(&think),
                    None => self.words.receive_spinning(),
                }
            }
        }
    }
}

/// What to measure: an index into `SIZES`, or one of these.
const SLEEPING: usize = 10;
const SPINNING: usize = 11;

fn part(name: &Name, label: &str) -> Name {
    Name::new(&format!("{}-{}", name.as_str(), label.replace(' ', ""))).expect("a valid name")
}

/// The other process.
struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(name: &Name) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .env("MEMLANE_BENCH_PEER", name.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, input, output }
    }

    /// Tells the other side to answer `rounds` of `what`, and waits until it is about to.
    fn begin(&mut self, what: usize, rounds: u64, thought: Duration) {
        writeln!(self.input, "{what} {rounds} {}", thought.as_nanos()).expect("it listens");
        assert_eq!(self.output.read_line(&mut String::new()).expect("its answer"), 1);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps a process (0: this one) on one processor of those it may use; the last, if there are not so many.
fn pin(process: u32, index: usize) {
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

fn main() {
    if let Ok(name) = std::env::var("MEMLANE_BENCH_PEER") {
        return Shared::open(&Name::new(&name).expect("a valid name")).serve();
    }
    let name = Name::unique("bench-handoff").expect("a unique name");
    let shared = &Shared::create(&name);
    let peer = &std::cell::RefCell::new(Peer::start(&name));
    // The time of so many rounds, without that which both sides think.
    let run = |what: usize, rounds: u64, thought: Duration| {
        peer.borrow_mut().begin(what, rounds, thought);
        let think = think_for(thought);
        let start = Instant::now();
        for _ in 0..rounds {
            match shared.handoffs.get(what) {
                Some(handoff) => Handoff::send(handoff, &think),
                None if what == SLEEPING => shared.words.send_sleeping(&think),
                None => shared.words.send_spinning(),
            }
        }
        start.elapsed().saturating_sub(thought * 2 * rounds as u32)
    };
    let contender =
        |label, what, block, thought| Contender::new(label, block, move |rounds| run(what, rounds, thought));
    let mut criterion = Criterion::default().configure_from_args();

    pin(0, 0);
    pin(peer.borrow().process.id(), 1);
    let mut awake: Vec<_> =
        SIZES.iter().enumerate().map(|(what, (label, _))| contender(label, what, 2_000, Duration::ZERO)).collect();
    awake.push(contender("bare cache line", SPINNING, 2_000, Duration::ZERO));
    compare(&mut criterion, "hand-off between two cores", BLOCKS, &mut awake);

    let floor =
        |block, thought| [contender("64 B", 0, block, thought), contender("bare futex", SLEEPING, block, thought)];
    compare(&mut criterion, "hand-off between two cores, asleep", BLOCKS, &mut floor(50, THOUGHT));
    pin(peer.borrow().process.id(), 0);
    compare(&mut criterion, "hand-off on one core", BLOCKS, &mut floor(200, Duration::ZERO));
    criterion.final_summary();
}
