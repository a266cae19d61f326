//! The ways a victim meets its death, seen from the parent: looked at between any two instructions, killed at one of
//! them, or killed by the library's own failpoint.
#![allow(unsafe_code)]

use crate::common::Dir;
use crate::watch::Watch;
use memlane::Persistence;
use std::process::{Child, Command, Stdio};

/// More violations of one operation than this are not looked for.
pub const ENOUGH: usize = 3;

/// A moment in an operation: so many system calls have returned, and then so many instructions were executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    calls: u64,
    steps: u64,
}

/// What a scenario is told about its victim, so that it can play its own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The victim is ready, and begins as soon as this has been dealt with.
    Ready,
    /// The victim has come a little further.
    Moved,
}

/// How the victim of one run ends.
pub enum Mode<'a> {
    /// Single-stepped to the end; wherever a death would leave something new, this looks at a copy of what it leaves.
    Copied(&'a (dyn Fn(&Dir) + Sync)),
    /// `kill -9` at this point.
    Killed(Point),
    /// By itself, at the N-th step that changed what others see.
    Failpoint(u64),
}

/// One run of one operation by one victim.
pub struct Run<'a> {
    pub mode: Mode<'a>,
    pub persistence: Persistence,
    /// For the two orders in which somebody can come next.
    pub number: usize,
    /// Instructions executed one by one.
    pub steps: u64,
    /// Where something new would be left.
    pub points: Vec<Point>,
    /// Where nothing new would be left.
    pub between: Vec<Point>,
    /// How many copies were not in order.
    pub violations: usize,
    /// Whether the victim came to the end of the operation.
    pub survived: bool,
}

impl<'a> Run<'a> {
    pub fn new(mode: Mode<'a>, persistence: Persistence, number: usize) -> Self {
        Self {
            mode,
            persistence,
            number,
            steps: 0,
            points: Vec::new(),
            between: Vec::new(),
            violations: 0,
            survived: false,
        }
    }

    /// Lets a victim do `operation` in `dir` until its death.
    pub fn die(&mut self, dir: &Dir, operation: &str, on: &mut dyn FnMut(Event)) {
        let mut victim = Victim::start(dir, operation, self);
        match victim.wait() {
            Stop::Signal(libc::SIGSTOP) => on(Event::Ready),
            Stop::Gone if matches!(self.mode, Mode::Failpoint(_)) => return,
            other => panic!("the victim was not ready: {other:?}"),
        }
        match self.mode {
            Mode::Copied(look) => self.step_through(&victim, dir, look, on),
            Mode::Killed(point) => self.run_to(&victim, point, on),
            Mode::Failpoint(_) => self.let_run(&victim, on),
        }
        victim.kill();
    }

    fn step_through(&mut self, victim: &Victim, dir: &Dir, look: &(dyn Fn(&Dir) + Sync), on: &mut dyn FnMut(Event)) {
        let mut watch = Watch::new(dir);
        let mut point = Point::default();
        self.look(dir, point, look);
        while self.step(victim) {
            let called = victim.has_just_called();
            point = if called {
                Point { calls: point.calls + 1, steps: 0 }
            } else {
                Point { calls: point.calls, steps: point.steps + 1 }
            };
            if called {
                watch.refresh(dir);
            }
            if watch.has_changed() || called {
                self.look(dir, point, look);
            } else {
                self.between.push(point);
            }
            if called {
                on(Event::Moved);
            }
        }
    }

    fn look(&mut self, dir: &Dir, point: Point, look: &(dyn Fn(&Dir) + Sync)) {
        self.points.push(point);
        if self.violations >= ENOUGH {
            return;
        }
        let copy = copy_of(dir);
        // In a thread of its own, because this one may hold the lock that it was copied from.
        if std::thread::scope(|scope| scope.spawn(|| look(&copy)).join()).is_err() {
            eprintln!("    ^ had the victim died at {point:?}");
            self.violations += 1;
        }
    }

    fn run_to(&mut self, victim: &Victim, point: Point, on: &mut dyn FnMut(Event)) {
        for _ in 0..point.calls {
            for side in ["enters", "leaves"] {
                victim.resume(libc::PTRACE_SYSCALL);
                match victim.wait() {
                    Stop::Call => {}
                    Stop::Signal(libc::SIGSTOP) => return self.survived = true,
                    other => panic!("no stop where the victim {side} a system call: {other:?}"),
                }
            }
            on(Event::Moved);
        }
        for _ in 0..point.steps {
            if !self.step(victim) {
                return;
            }
        }
    }

    /// Executes one instruction; false at the end of the operation.
    fn step(&mut self, victim: &Victim) -> bool {
        victim.resume(libc::PTRACE_SINGLESTEP);
        match victim.wait() {
            Stop::Signal(libc::SIGTRAP) => self.steps += 1,
            Stop::Signal(libc::SIGSTOP) => self.survived = true,
            other => panic!("the victim was to execute one instruction: {other:?}"),
        }
        !self.survived
    }

    fn let_run(&mut self, victim: &Victim, on: &mut dyn FnMut(Event)) {
        victim.signal(libc::SIGCONT);
        loop {
            match victim.look() {
                None => {
                    on(Event::Moved);
                    std::thread::yield_now();
                }
                Some(Stop::Gone) => return,
                Some(Stop::Signal(libc::SIGSTOP)) => return self.survived = true,
                Some(other) => panic!("an unexpected stop: {other:?}"),
            }
        }
    }
}

/// The files of `dir` as they are, in a new directory: locks are not copied, so there everybody is dead. Because that
/// includes whoever would have lived on, the copied object is one to be kept.
fn copy_of(dir: &Dir) -> Dir {
    const PERSISTENCE: usize = 20;
    let copy = Dir::new();
    for file in dir.files() {
        let mut bytes = std::fs::read(dir.path().join(&file)).expect("a file");
        if file == crate::victim::OBJECT && bytes.get(PERSISTENCE) == Some(&2) {
            bytes[PERSISTENCE] = 1;
        }
        let to = copy.path().join(&file);
        std::fs::write(&to, bytes).expect("a copy");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(to, mode).expect("a mode");
    }
    copy
}

/// Whether this system lets one process single-step another.
pub fn may_trace() -> bool {
    if cfg!(not(target_arch = "x86_64")) {
        return false;
    }
    let dir = Dir::new();
    let mut victim = Victim::start(&dir, "nothing", &Run::new(Mode::Copied(&|_| ()), Persistence::Keep, 0));
    let stopped = matches!(victim.wait(), Stop::Signal(libc::SIGSTOP));
    victim.kill();
    stopped
}

/// What a child was found to have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Stopped by a signal.
    Signal(libc::c_int),
    /// Stopped where it enters or leaves a system call.
    Call,
    /// Ended, in whatever way.
    Gone,
}

/// A child process that does one operation, and stops itself before and after.
struct Victim {
    process: Child,
    traced: bool,
}

impl Victim {
    fn start(dir: &Dir, operation: &str, run: &Run) -> Self {
        let (traced, die_at) = match run.mode {
            Mode::Failpoint(step) => (false, Some(step.to_string())),
            _ => (true, None),
        };
        let persistence = if run.persistence == Persistence::Keep { "keep" } else { "until last user" };
        let tracing = if traced { "traced" } else { "alone" };
        let process = Command::new(std::env::current_exe().expect("the test binary"))
            .env("MEMLANE_DIR", dir.path())
            .env("MEMLANE_TEST_ROLE", operation)
            .env("MEMLANE_TEST_ARGUMENTS", [persistence, tracing].join("\n"))
            .envs(die_at.map(|step| ("MEMLANE_DIE_AT", step)))
            .stdin(Stdio::null())
            .spawn()
            .expect("a child process");
        Self { process, traced }
    }

    fn pid(&self) -> libc::pid_t {
        libc::pid_t::try_from(self.process.id()).expect("a pid")
    }

    fn wait(&self) -> Stop {
        let stop = self.wait_with(0).expect("a child that stopped or ended");
        if self.traced && stop == Stop::Signal(libc::SIGSTOP) {
            let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
            self.ptrace(libc::PTRACE_SETOPTIONS, options as usize);
        }
        stop
    }

    fn look(&self) -> Option<Stop> {
        self.wait_with(libc::WNOHANG)
    }

    /// What the child did; it is not reaped, so that its pid stays its own.
    fn wait_with(&self, flags: libc::c_int) -> Option<Stop> {
        let flags = flags | libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        // SAFETY: all-zero bytes are a valid `siginfo_t`, a plain C struct.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes for the duration of the call.
        let result = unsafe { libc::waitid(libc::P_PID, self.process.id(), &raw mut info, flags) };
        assert_eq!(result, 0, "waitid: {}", std::io::Error::last_os_error());
        // SAFETY: the call filled in the fields of a child's change of state, or left all of them zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let stop = match (info.si_code, status) {
            (libc::CLD_TRAPPED, status) if status == libc::SIGTRAP | 0x80 => Stop::Call,
            (libc::CLD_TRAPPED | libc::CLD_STOPPED, status) => Stop::Signal(status),
            _ => Stop::Gone,
        };
        (pid != 0).then_some(stop)
    }

    fn ptrace(&self, request: libc::c_uint, data: usize) -> libc::c_long {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the requests made here read and write no memory of this process: they take numbers.
        let result = unsafe { libc::ptrace(request, self.pid(), nothing, data) };
        assert!(result >= 0, "ptrace: {}", std::io::Error::last_os_error());
        result
    }

    fn resume(&self, request: libc::c_uint) {
        self.ptrace(request, 0);
    }

    /// Whether the instruction that was just executed was a system call.
    #[cfg(target_arch = "x86_64")]
    fn has_just_called(&self) -> bool {
        const SYSCALL: libc::c_long = 0x050f;
        // SAFETY: all-zero bytes are a valid register set, a plain C struct.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the call writes one register set, and `registers` is one.
        let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid(), nothing, &raw mut registers) };
        assert_eq!(got, 0, "ptrace: {}", std::io::Error::last_os_error());
        // The instruction leaves the address of the next one in rcx, which spares reading the code most of the time.
        if registers.rcx != registers.rip {
            return false;
        }
        // SAFETY: the call reads the victim's memory, none of ours.
        let code = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid(), registers.rip - 2, nothing) };
        code & 0xffff == SYSCALL
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn has_just_called(&self) -> bool {
        true
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the call takes no pointers, and the child is ours and not reaped.
        unsafe { libc::kill(self.pid(), signal) };
    }

    fn kill(&mut self) {
        self.process.kill().expect("the child is ours to kill");
        self.process.wait().expect("the child is ours to wait for");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
