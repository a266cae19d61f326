//! Boost.Interprocess: a program in C++ that is built when it is first needed.

use crate::transport::{Case, How, Role, Transport, Workload};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const SOURCE: &str = include_str!("boost.cpp");
const FLAGS: [&str; 4] = ["-std=c++17", "-O3", "-DNDEBUG", "-pthread"];
const INSTALL: &str = "on Debian, `apt-get install g++ libboost1.81-dev` gets it";

pub(crate) fn transports() -> Vec<Transport> {
    vec![
        Transport {
            name: "Boost hand-off",
            about: "Boost.Interprocess: a mutex, two conditions, two flags; copied in, copied out, acknowledged",
            missing,
            offers: |case| match case.workload {
                Workload::Create | Workload::Open | Workload::Close => !case.asleep,
                _ => offers_round_trips(case),
            },
            how: How::Program(|role| command("hand-off", role)),
        },
        Transport {
            name: "Boost in place",
            about: "the same, but written and read in the shared memory",
            missing,
            offers: offers_round_trips,
            how: How::Program(|role| command("in-place", role)),
        },
        Transport {
            name: "Boost message_queue",
            about: "Boost.Interprocess: its queue, copied in and out",
            missing,
            offers: |case| offers_round_trips(case) || case.workload == Workload::OneWay && !case.asleep,
            how: How::Program(|role| command("message-queue", role)),
        },
        Transport {
            name: "Boost mutex",
            about: "Boost.Interprocess: its mutex, which is robust",
            missing,
            offers: |case| matches!(case.workload, Workload::Lock | Workload::LockContended),
            how: How::Program(|role| command("mutex", role)),
        },
    ]
}

/// What sleeps in every wait can do both: be answered at once, and after a thought.
fn offers_round_trips(case: Case) -> bool {
    case.workload == Workload::RoundTrip || case.workload == Workload::Idle && !case.asleep
}

fn missing() -> Option<String> {
    program().as_ref().err().cloned()
}

fn command(transport: &str, role: Role) -> (PathBuf, Vec<String>) {
    let program = program().as_ref().expect("whoever starts it knows that it is not missing");
    (program.clone(), [transport, role.name()].map(str::to_owned).to_vec())
}

fn program() -> &'static Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(build)
}

/// Beside this program, or where temporary files go if that cannot be written. Another source makes another name.
fn build() -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    (SOURCE, FLAGS).hash(&mut hasher);
    let name = format!("memlane-bench-boost-{:016x}", hasher.finish());
    let here = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let mut why = String::from("no directory");
    for directory in here.into_iter().chain([std::env::temp_dir()]) {
        let path = directory.join(&name);
        if is_mine(&path) {
            return Ok(path);
        }
        let draft = directory.join(format!(".{name}-{}", std::process::id()));
        if let Err(error) = File::create_new(&draft) {
            why = format!("{}: {error}", draft.display());
            continue;
        }
        let built = compile(&draft).and_then(|()| {
            fs::rename(&draft, &path).map_err(|error| format!("cannot write {}: {error}", path.display()))
        });
        let _ = fs::remove_file(&draft);
        return built.map(|()| path);
    }
    Err(format!("the Boost program cannot be written anywhere ({why}): set TMPDIR to a directory that can be written"))
}

/// What another user has put there is not run.
fn is_mine(path: &Path) -> bool {
    let owners = [path, Path::new("/proc/self")].map(|path| fs::symlink_metadata(path).ok().map(|found| found.uid()));
    owners[0].is_some() && owners[0] == owners[1]
}

fn compile(to: &Path) -> Result<(), String> {
    let mut command = Command::new("g++");
    command.args(FLAGS).args(["-x", "c++", "-", "-o"]).arg(to).arg("-lrt");
    let compiler = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut compiler = compiler.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("the compiler `g++` is not installed: {INSTALL}"),
        _ => format!("cannot run `g++`: {error}"),
    })?;
    let written = compiler.stdin.take().map(|mut input| input.write_all(SOURCE.as_bytes()));
    let output = compiler.wait_with_output().map_err(|error| format!("cannot wait for `g++`: {error}"))?;
    if output.status.success() && matches!(written, Some(Ok(()))) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find(|line| line.contains("error")).unwrap_or("it did not say why");
    if error.contains("boost/") && error.contains("No such file") {
        return Err(format!("the headers of Boost.Interprocess are not installed: {INSTALL}"));
    }
    Err(format!("`g++` cannot build the Boost program ({error}): it is written for Boost 1.81; {INSTALL}"))
}
