//! The two processes of a transport. A side that hangs, dies or fails is a failure that says so, never a hang of the
//! bench.

use crate::machine;
use crate::transport::{Case, How, PATIENCE, Role, Transport};
use crate::worker::{Done, Order};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Set when the user wants the run to end.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The directory of a run, under /dev/shm. It is locked while the run lives, and goes with it.
pub(crate) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    const PARENT: &str = "/dev/shm";
    const PREFIX: &str = "memlane-bench-";

    /// Makes one, and removes what killed runs have left.
    pub(crate) fn create() -> Result<Self, String> {
        sweep();
        let path = Path::new(Self::PARENT).join(format!("{}{}", Self::PREFIX, std::process::id()));
        let lock = fs::create_dir_all(&path).and_then(|()| File::open(&path)).and_then(|lock| {
            lock.lock()?;
            Ok(lock)
        });
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                Err(format!("cannot use {}: {error}; the bench needs a writable {}", path.display(), Self::PARENT))
            }
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        remove_all_of(&self.path);
    }
}

/// Removes a directory of a run, and what has its name elsewhere in shared memory: some transports know no directories.
fn remove_all_of(directory: &Path) {
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in fs::read_dir(RunDirectory::PARENT).into_iter().flatten().flatten() {
        let rest = entry.file_name().to_string_lossy().split_once(&name).map(|(_, rest)| rest.to_owned());
        if rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit())) && entry.path() != directory {
            // It is of no use to anybody any more; that it cannot be removed changes nothing.
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir_all(directory);
}

fn sweep() {
    for entry in fs::read_dir(RunDirectory::PARENT).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(RunDirectory::PREFIX) && entry.path().is_dir();
        if ours && File::open(entry.path()).is_ok_and(|directory| directory.try_lock().is_ok()) {
            remove_all_of(&entry.path());
        }
    }
}

/// What a process says, or that it says no more.
type Said = (Role, Option<String>);

/// One of the two processes.
struct Worker {
    role: Role,
    process: Child,
    input: ChildStdin,
    /// What it writes to its standard error.
    errors: PathBuf,
}

impl Worker {
    fn start(transport: &Transport, role: Role, errors: PathBuf, said: Sender<Said>) -> Result<Self, String> {
        let (program, arguments) = match transport.how {
            How::Program(program) => program(role),
            How::Side(_) => {
                let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
                (program, ["worker", transport.name, role.name()].map(str::to_owned).into())
            }
        };
        let start = || {
            let mut command = Command::new(&program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
            machine::tie(&mut command, usize::from(role == Role::Answer));
            command.spawn()
        };
        let mut process = start().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (input, output) = input.zip(output).ok_or("a process without the pipes that were asked for")?;
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for line in lines.map(Some).chain([None]) {
                if said.send((role, line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { role, process, input, errors })
    }

    fn says(&self, what: &str) -> String {
        format!("{self}: {what}")
    }

    fn ended(&mut self) -> String {
        let _ = self.process.kill();
        let how = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let last =
            errors.lines().rfind(|line| !line.trim().is_empty()).map_or(String::new(), |line| format!(": {line}"));
        self.says(&format!("ended ({how}){last}"))
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.role == Role::Ask { "asking" } else { "answering" };
        write!(f, "the {side} process {}", self.process.id())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both sides of one case of a transport.
pub(crate) struct Pair {
    workers: [Worker; 2],
    said: Receiver<Said>,
    directory: PathBuf,
}

impl Pair {
    pub(crate) fn start(transport: &Transport, run: &RunDirectory) -> Result<Self, String> {
        static PAIRS: AtomicU64 = AtomicU64::new(0);
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let file = |label: &str| run.path.join(format!("{number}-{label}"));
        let (sender, said) = mpsc::channel();
        let ask = Worker::start(transport, Role::Ask, file("ask.log"), sender.clone())?;
        let answer = Worker::start(transport, Role::Answer, file("answer.log"), sender)?;
        Ok(Self { workers: [ask, answer], said, directory: file("files") })
    }

    fn tell(&mut self, line: &str) {
        for worker in &mut self.workers {
            // Who is dead and cannot be told is noticed when it is listened to.
            let _ = writeln!(worker.input, "{line}");
        }
    }

    /// Waits for what each side says to what both were told. Whoever fails first is who is reported.
    fn hear_both<T>(&mut self, patience: Duration, parse: impl Fn(&str) -> Option<T>) -> Result<[T; 2], String> {
        let (start, mut answers) = (Instant::now(), [None, None]);
        loop {
            if let [Some(_), Some(_)] = answers {
                return Ok(answers.map(|answer| answer.expect("both are here")));
            }
            let Some((role, said)) = self.hear()? else {
                if start.elapsed() < patience {
                    continue;
                }
                let all = self.workers.iter().zip(&answers);
                let silent = all.filter(|(_, answer)| answer.is_none()).map(|(worker, _)| worker.to_string());
                let silent = silent.collect::<Vec<_>>().join(" and ");
                return Err(format!("{silent}: no answer within {} s; killed", patience.as_secs()));
            };
            let index = usize::from(role == Role::Answer);
            let worker = &mut self.workers[index];
            let said = said.ok_or_else(|| worker.ended())?;
            if let Some(why) = said.strip_prefix("failed ") {
                return Err(worker.says(why));
            }
            let answer = parse(&said).ok_or_else(|| worker.says(&format!("says `{said}`, which is no answer")))?;
            answers[index] = Some(answer);
        }
    }

    /// What one of both says next, if it does soon.
    fn hear(&self) -> Result<Option<Said>, String> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        Ok(self.said.recv_timeout(Duration::from_millis(100)).ok())
    }

    fn both_ready(&mut self, line: &str) -> Result<(), String> {
        self.tell(line);
        self.hear_both(PATIENCE + Duration::from_secs(2), |said| (said == "ready").then_some(())).map(|_| ())
    }

    pub(crate) fn open(&mut self, case: Case) -> Result<(), String> {
        static CASES: AtomicU64 = AtomicU64::new(0);
        let run = self.directory.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = format!("{run}-{}", CASES.fetch_add(1, Ordering::Relaxed));
        let directory = self.directory.display();
        fs::create_dir(&self.directory).map_err(|error| format!("cannot make {directory}: {error}"))?;
        let Case { workload, len, touched, count, asleep } = case;
        let (touched, asleep) = (u8::from(touched), u8::from(asleep));
        self.both_ready(&format!("open {workload:?} {len} {touched} {count} {asleep} {directory} {name}"))
    }

    /// Lets both sides begin.
    pub(crate) fn begin(&mut self, order: Order) {
        self.tell(&format!("run {order}"));
    }

    /// What the asking side and the answering side measured.
    pub(crate) fn finish(&mut self, order: Order) -> Result<[Done; 2], String> {
        let thought = order.think * 2 * (order.warm + order.rounds) as u32;
        self.hear_both(PATIENCE + thought, |said| Done::parse(said.strip_prefix("done ")?))
    }

    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.both_ready("close")?;
        let directory = self.directory.display();
        fs::remove_dir_all(&self.directory).map_err(|error| format!("cannot remove {directory}: {error}"))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.process.kill();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
