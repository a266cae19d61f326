//! A child process that is started, stepped, stopped, looked at and killed.
#![allow(unsafe_code)]

use crate::place::{Registers, Snapshot};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A victim that does not come to its next stop in this time hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of a victim's stack is looked at for callers.
const STACK: usize = 1 << 16;

/// In the victim: does the operation that is explored, between a stop before it and a stop after it.
///
/// What is to be ready is made before, and what is to live on is returned and kept by the caller. The process must
/// have been started by [`Run::victim`](crate::Run::victim), or it stops and nobody lets it go on.
pub fn operate<T>(operation: impl FnOnce() -> T) -> T {
    stop();
    let result = operation();
    stop();
    result
}

fn stop() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Whether one process may single-step another here.
///
/// # Errors
///
/// Why not, for people.
pub fn may_trace() -> Result<(), String> {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        return Err("single-stepping is for x86-64 Linux so far".into());
    }
    // Stopped by its first system call under ptrace, execve, and killed there: it never runs.
    let traced = Victim::start(Command::new("/proc/self/exe"), true);
    traced.map(drop).map_err(|error| format!("ptrace is not permitted here: {error}"))
}

/// What a child was found to have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Stopped by a signal.
    Signal(libc::c_int),
    /// Stopped where it enters or leaves a system call.
    Call,
    /// Ended by itself, with this code.
    Exited(libc::c_int),
    /// Ended by this signal.
    Killed(libc::c_int),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(libc::SIGSTOP) => write!(f, "it was stopped by SIGSTOP"),
            Self::Signal(signal) => write!(f, "it was stopped by signal {signal}"),
            Self::Call => write!(f, "it is in a system call"),
            Self::Exited(code) => write!(f, "it ended with exit code {code}"),
            Self::Killed(signal) => write!(f, "it was ended by signal {signal}"),
        }
    }
}

/// A child process that does one operation, and stops itself before and after. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Victim {
    process: Child,
    traced: bool,
    /// The one that a traced victim runs on, so that its tracer can, too.
    processor: libc::cpu_set_t,
    watchdog: Watchdog,
    /// A process is traced by the thread that started it.
    thread: PhantomData<*const ()>,
}

impl Victim {
    /// Starts it. A traced one has not executed any instruction of its program yet.
    pub(crate) fn start(mut command: Command, traced: bool) -> io::Result<Self> {
        let processor = this_processor();
        let before = move || {
            let nothing = std::ptr::null_mut::<libc::c_void>();
            // SAFETY: neither call takes pointers to memory of ours.
            let refused = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
                    || (traced && libc::ptrace(libc::PTRACE_TRACEME, 0, nothing, nothing) != 0)
            };
            if refused {
                return Err(io::Error::last_os_error());
            }
            if traced {
                run_on(&processor);
            }
            Ok(())
        };
        // SAFETY: between fork and exec it makes three system calls and allocates nothing.
        let process = unsafe { command.pre_exec(before) }.spawn()?;
        let watchdog = Watchdog::of(libc::pid_t::try_from(process.id()).unwrap_or(0));
        let victim = Self { process, traced, processor, watchdog, thread: PhantomData };
        if traced {
            match victim.wait() {
                Stop::Signal(libc::SIGTRAP) => {}
                other => return Err(io::Error::other(format!("a traced process was to stop as it starts: {other}"))),
            }
            let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
            victim.ptrace(libc::PTRACE_SETOPTIONS, options as usize);
        }
        Ok(victim)
    }

    /// Lets this thread run where the victim does, as long as the result lives: stepping is twice as fast when no
    /// other processor is to be woken for each instruction.
    pub(crate) fn stay_close(&self) -> StayClose {
        let before = processors();
        run_on(&self.processor);
        StayClose { before }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn raw_pid(&self) -> libc::pid_t {
        self.process.id().cast_signed()
    }

    /// Waits for its next stop or end, for [`PATIENCE`]: then it is killed.
    pub(crate) fn wait(&self) -> Stop {
        self.watchdog.watch();
        let stop = self.wait_with(0);
        self.watchdog.rest();
        stop.expect("a child that stopped or ended")
    }

    /// What it did, if it did anything.
    pub(crate) fn look(&self) -> Option<Stop> {
        self.wait_with(libc::WNOHANG)
    }

    /// It is not reaped, so that its pid stays its own.
    fn wait_with(&self, flags: libc::c_int) -> Option<Stop> {
        let flags = flags | libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        // SAFETY: all-zero bytes are a valid `siginfo_t`, a plain C struct.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes for the duration of the call.
        let result = unsafe { libc::waitid(libc::P_PID, self.process.id(), &raw mut info, flags) };
        assert_eq!(result, 0, "waitid: {}", io::Error::last_os_error());
        // SAFETY: the call filled in the fields of a child's change of state, or left all of them zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let stop = match (info.si_code, status) {
            (libc::CLD_TRAPPED, status) if status == libc::SIGTRAP | 0x80 => Stop::Call,
            (libc::CLD_TRAPPED | libc::CLD_STOPPED, status) => Stop::Signal(status),
            (libc::CLD_EXITED, status) => Stop::Exited(status),
            (_, status) => Stop::Killed(status),
        };
        (pid != 0).then_some(stop)
    }

    /// Whether it was killed because it hung.
    pub(crate) fn hung(&self) -> bool {
        self.watchdog.bit()
    }

    /// Says that from now on it is expected to come to an end by itself.
    pub(crate) fn watch(&self) {
        self.watchdog.watch();
    }

    /// Says that it may take its time again.
    pub(crate) fn rest(&self) {
        self.watchdog.rest();
    }

    fn ptrace(&self, request: libc::c_uint, data: usize) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the requests made here read and write no memory of this process: they take numbers.
        let result = unsafe { libc::ptrace(request, self.raw_pid(), nothing, data) };
        // A victim that was killed meanwhile is found to be so by the next wait.
        let error = io::Error::last_os_error();
        assert!(result >= 0 || error.raw_os_error() == Some(libc::ESRCH), "ptrace: {error}");
    }

    /// Executes one instruction.
    pub(crate) fn step(&self) -> Stop {
        self.resume_and_wait(libc::PTRACE_SINGLESTEP)
    }

    /// Runs until it enters or leaves a system call.
    pub(crate) fn next_call(&self) -> Stop {
        self.resume_and_wait(libc::PTRACE_SYSCALL)
    }

    /// Runs until it stops itself.
    pub(crate) fn next_stop(&self) -> Stop {
        self.resume_and_wait(libc::PTRACE_CONT)
    }

    /// Signals that are not ours are handed on to it.
    fn resume_and_wait(&self, request: libc::c_uint) -> Stop {
        let mut signal = 0;
        loop {
            self.ptrace(request, signal as usize);
            match self.wait() {
                Stop::Signal(other) if other != libc::SIGTRAP && other != libc::SIGSTOP => signal = other,
                stop => return stop,
            }
        }
    }

    /// Lets it go on by itself, handing `signal` to it, if it is not 0.
    pub(crate) fn go_on(&self, signal: libc::c_int) {
        if self.traced {
            self.ptrace(libc::PTRACE_CONT, signal as usize);
        } else {
            // SAFETY: the call takes no pointers, and the child is ours and not reaped.
            unsafe { libc::kill(self.raw_pid(), libc::SIGCONT) };
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn registers(&self) -> Registers {
        // SAFETY: all-zero bytes are a valid register set, a plain C struct.
        let mut raw: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the call writes one register set, and `raw` is one.
        let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.raw_pid(), nothing, &raw mut raw) };
        assert_eq!(got, 0, "ptrace: {}", io::Error::last_os_error());
        Registers([
            raw.rax, raw.rdx, raw.rcx, raw.rbx, raw.rsi, raw.rdi, raw.rbp, raw.rsp, raw.r8, raw.r9, raw.r10, raw.r11,
            raw.r12, raw.r13, raw.r14, raw.r15, raw.rip,
        ])
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn registers(&self) -> Registers {
        unreachable!("may_trace says so")
    }

    /// Whether the instruction that was just executed was a system call.
    pub(crate) fn has_just_called(&self, registers: &Registers) -> bool {
        const RCX: usize = 2;
        const SYSCALL: libc::c_long = 0x050f;
        // The instruction leaves the address of the next one in rcx, which spares reading the code most of the time.
        let next = registers.instruction();
        if registers.0[RCX] != next {
            return false;
        }
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the call reads the victim's memory, none of ours.
        let code = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.raw_pid(), next - 2, nothing) };
        code & 0xffff == SYSCALL
    }

    /// Where it is, to be understood later; `executed` is the address of the last instruction it executed.
    pub(crate) fn snapshot(&self, executed: u64) -> Snapshot {
        let registers = self.registers();
        let mut stack = vec![0; STACK];
        let memory = File::open(format!("/proc/{}/mem", self.pid()));
        let read = memory.and_then(|memory| memory.read_at(&mut stack, registers.stack())).unwrap_or(0);
        stack.truncate(read);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap_or_default();
        Snapshot { executed, registers, stack, maps }
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.watchdog.end();
        self.process.kill().expect("the child is ours to kill");
        self.process.wait().expect("the child is ours to wait for");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.watchdog.end();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Gives this thread back the processors that it had before.
#[derive(Debug)]
pub(crate) struct StayClose {
    before: libc::cpu_set_t,
}

impl Drop for StayClose {
    fn drop(&mut self) {
        run_on(&self.before);
    }
}

fn this_processor() -> libc::cpu_set_t {
    // SAFETY: the call takes nothing. All-zero bytes are an empty set, a plain C struct, and the index is checked.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap_or(0), &mut set);
        set
    }
}

/// Those that this thread may run on.
fn processors() -> libc::cpu_set_t {
    // SAFETY: all-zero bytes are an empty set, a plain C struct.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes at most as many bytes as `set` has.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    set
}

/// Only a matter of speed: refused for an empty set, and then nothing changes.
fn run_on(processors: &libc::cpu_set_t) {
    // SAFETY: the call reads as many bytes as a set has.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), processors) };
}

/// A thread that kills a victim which does not come to its next stop.
#[derive(Debug)]
struct Watchdog {
    /// The number of the wait that is going on, or [`RESTING`], or [`BITTEN`].
    wait: Arc<AtomicU64>,
    waits: Cell<u64>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Nobody waits for the victim.
const RESTING: u64 = 0;
/// The victim was killed.
const BITTEN: u64 = u64::MAX;

impl Watchdog {
    fn of(pid: libc::pid_t) -> Self {
        let wait = Arc::new(AtomicU64::new(RESTING));
        let (sender, receiver) = channel();
        let watched = Arc::clone(&wait);
        let thread = std::thread::spawn(move || {
            let (mut last, mut since) = (RESTING, Instant::now());
            while receiver.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let now = watched.load(Ordering::Relaxed);
                if now == RESTING || now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() > PATIENCE
                    && watched.compare_exchange(now, BITTEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                {
                    // SAFETY: the call takes no pointers; the child is reaped only after this thread has ended.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                    return;
                }
            }
        });
        Self { wait, waits: Cell::new(RESTING), thread: Some((sender, thread)) }
    }

    fn watch(&self) {
        self.waits.set(self.waits.get() + 1);
        self.set(self.waits.get());
    }

    fn rest(&self) {
        self.set(RESTING);
    }

    fn set(&self, wait: u64) {
        let before = self.wait.load(Ordering::Relaxed);
        if before != BITTEN {
            let _ = self.wait.compare_exchange(before, wait, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn bit(&self) -> bool {
        self.wait.load(Ordering::Relaxed) == BITTEN
    }

    fn end(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
