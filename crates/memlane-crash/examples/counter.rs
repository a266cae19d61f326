//! Counters in shared memory, each broken in its own way and mended: `cargo run -p memlane-crash --example counter`.
//!
//! A counter of two words is to say the same twice, whenever its writer dies. A counter that two processes add to is
//! to lose no addition. The explorer finds the instruction after which that is not so.
#![allow(unsafe_code)]

use memlane_crash::{End, Event, Explore, Files, Problem, Report, Run, Verdict, may_trace, operate};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};

/// What lies in the file: whoever comes next believes the value if it equals its copy, else what `saved` says.
#[repr(C)]
struct Counter {
    value: AtomicU64,
    copy: AtomicU64,
    saved: AtomicU64,
}

/// Two words that are to change together, one after the other.
fn bump_broken(counter: &Counter) {
    let next = counter.value.load(Ordering::Relaxed) + 1;
    counter.value.store(next, Ordering::Release);
    counter.copy.store(next, Ordering::Release);
}

/// The same with a journal of one entry: what is to come is said before it is begun.
fn bump_mended(counter: &Counter) {
    let next = counter.value.load(Ordering::Relaxed) + 1;
    counter.saved.store(next, Ordering::Release);
    counter.value.store(next, Ordering::Release);
    counter.copy.store(next, Ordering::Release);
}

/// Load, add, store: whoever adds between load and store did so in vain.
fn add_broken(counter: &Counter) {
    let seen = counter.value.load(Ordering::Relaxed);
    counter.value.store(seen + 1, Ordering::Relaxed);
}

/// One instruction that nobody can come between.
fn add_mended(counter: &Counter) {
    counter.value.fetch_add(1, Ordering::Relaxed);
}

/// What the next process asks: are the two words equal, or can they be made so from the journal?
fn recover(counter: &Counter) -> Verdict {
    let read = |word: &AtomicU64| word.load(Ordering::Acquire);
    let (value, copy, saved) = (read(&counter.value), read(&counter.copy), read(&counter.saved));
    if value == copy || saved == value {
        return Ok(());
    }
    Err(format!("the value is {value}, its copy is {copy}, and the journal says {saved}").into())
}

type Operation = fn(&Counter);

const OPERATIONS: [(&str, Operation); 4] = [
    ("bump_broken", bump_broken),
    ("bump_mended", bump_mended),
    ("add_broken", add_broken),
    ("add_mended", add_mended),
];

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, file] = &arguments[..] {
        return be_the_victim(role, Path::new(file));
    }
    if let Err(reason) = may_trace() {
        println!("SKIPPED: {reason}");
        return ExitCode::SUCCESS;
    }
    let reports = [dies("bump_broken"), dies("bump_mended"), meets("add_broken"), meets("add_mended")];
    reports.iter().for_each(|report| println!("{report}\n"));
    let caught = reports.each_ref().map(|report| !report.violations.is_empty());
    if caught == [true, false, true, false] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The child: it maps the counter, and does its operation between two stops.
fn be_the_victim(role: &str, file: &Path) -> ExitCode {
    let operation = OPERATIONS.iter().find(|(name, _)| *name == role);
    match (operation, map(file)) {
        (Some((_, operation)), Ok(counter)) => {
            operate(|| operation(counter));
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// Kills it wherever the bytes have changed, and looks whether the next process can go on.
pub(crate) fn dies(operation: &str) -> Report {
    let scenario = |run: &mut Run| {
        let file = Fresh::new()?;
        run.victim(file.victim(operation)?, &file.files(), &mut |_| ())?;
        recover(map(&file.0)?)
    };
    Explore::new(operation).deaths(&scenario, &|copy| recover(map(&copy.join("counter"))?))
}

/// Stops it at every instruction, adds one meanwhile, and counts.
pub(crate) fn meets(operation: &str) -> Report {
    let scenario = |run: &mut Run| {
        let file = Fresh::new()?;
        let counter = map(&file.0)?;
        let end = run.victim(file.victim(operation)?, &file.files(), &mut |event| {
            if event == Event::Turn {
                counter.value.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        match (end, counter.value.load(Ordering::Relaxed)) {
            (End::Exited(0), 2) => Ok(()),
            (End::Exited(0), value) => Err(format!("two have added one, and the value is {value}").into()),
            (end, _) => Err(format!("the victim ended differently: {end:?}").into()),
        }
    };
    Explore::new(operation).further(usize::MAX).schedules(&scenario)
}

/// A file with a fresh counter, in a directory of its own that goes with it.
struct Fresh(PathBuf);

impl Fresh {
    fn new() -> Result<Self, Problem> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("crash-counter-{}-{number}", std::process::id()));
        fs::create_dir(&directory)?;
        let file = Self(directory.join("counter"));
        fs::write(&file.0, [0; size_of::<Counter>()])?;
        Ok(file)
    }

    fn files(&self) -> Files {
        Files::These(vec![self.0.clone()])
    }

    fn victim(&self, operation: &str) -> Result<Command, Problem> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(operation).arg(&self.0);
        Ok(command)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}

/// Maps a counter, for good.
fn map(file: &Path) -> Result<&'static Counter, Problem> {
    let file = File::options().read(true).write(true).open(file)?;
    if file.metadata()?.len() != size_of::<Counter>() as u64 {
        return Err("the file is of another size".into());
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let len = size_of::<Counter>();
    // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the mapping is aligned to pages, as long as a counter, and never unmapped; any bytes are a counter, and
    // atomics may change at any time.
    Ok(unsafe { &*base.cast::<Counter>() })
}
