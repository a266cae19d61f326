//! Real second processes for tests: the test binary runs itself again as a child with a role.
//!
//! Each test file that needs children has one `#[ignore]`d test named `child` that looks at [`role`] and acts.
#![allow(dead_code, missing_docs, unreachable_pub, missing_debug_implementations, reason = "each file uses its part")]

use memlane::Name;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Nothing takes as long that does not hang.
pub const HANG: Duration = Duration::from_secs(30);

/// Whether objects are not files but lie in this process: `src/sys/heap.rs`.
pub const ON_THE_HEAP: bool = cfg!(any(miri, memlane_heap));

/// A directory of its own for a test's objects; gone with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        let name = Name::unique("memlane-test").expect("a unique name");
        let path = Path::new("/dev/shm").join(name.as_str());
        if !ON_THE_HEAP {
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(&path)
                .expect("a directory");
        }
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn name(&self, text: &str) -> Name {
        Name::new(text).expect("a valid name").in_directory(&self.0)
    }

    /// The files in it.
    pub fn files(&self) -> Vec<String> {
        if ON_THE_HEAP {
            let list = memlane::list(Some(&self.0)).expect("the directory");
            return list.into_iter().map(|object| object.name).collect();
        }
        let list = std::fs::read_dir(&self.0).expect("the directory");
        list.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !ON_THE_HEAP {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A child process with a role; killed, if it still runs, when dropped.
pub struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Starts this test binary again, as `role` with `arguments`; `MEMLANE_DIR` is `dir`.
pub fn spawn(dir: &Path, role: &str, arguments: &[&str]) -> Child {
    spawn_under(&[""; 0], dir, role, arguments)
}

/// Like [`spawn`], below a command that ends by executing its own arguments.
pub fn spawn_under(wrapper: &[impl AsRef<OsStr>], dir: &Path, role: &str, arguments: &[&str]) -> Child {
    let binary = std::env::current_exe().expect("the test binary");
    let mut words = wrapper.iter().map(AsRef::as_ref).chain([binary.as_os_str()]);
    let mut process = Command::new(words.next().expect("at least the binary"))
        .args(words)
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("MEMLANE_DIR", dir)
        .env("MEMLANE_TEST_ROLE", role)
        .env("MEMLANE_TEST_ARGUMENTS", arguments.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let input = process.stdin.take();
    let output = BufReader::new(process.stdout.take().expect("its output"));
    Child { process, input, output }
}

/// The command that runs its arguments with a file system in memory of their own at their `MEMLANE_DIR`, mounted with
/// `options`; `None`, and a reason on stderr, if this user may not do that.
pub fn small_file_system(options: &str) -> Option<Vec<String>> {
    const SCRIPT: &str = r#"mount -t tmpfs -o "mode=0700,$0" tmpfs "$MEMLANE_DIR" && exec "$@""#;
    let dir = Dir::new();
    let mut problem = String::new();
    for unshare in [&["unshare", "--mount"][..], &["unshare", "--mount", "--user", "--map-root-user"]] {
        let words: Vec<&str> = unshare.iter().copied().chain(["sh", "-c", SCRIPT, options]).collect();
        match Command::new(words[0]).args(&words[1..]).arg("true").env("MEMLANE_DIR", dir.path()).output() {
            Ok(output) if output.status.success() => return Some(words.into_iter().map(str::to_owned).collect()),
            Ok(output) => problem = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => problem = error.to_string(),
        }
    }
    // Not `eprintln`: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIPPED, no file system of its own: {problem}");
    None
}

/// Runs `role` in a file system in memory of its own, where it can see whether all memory comes back; or beside others,
/// if this user may not mount one. Its arguments are the directory and whether it is `alone`; what it says is printed.
pub fn run_alone(options: &str, role: &str) {
    let dir = Dir::new();
    let wrapper = small_file_system(options);
    let alone = if wrapper.is_some() { "alone" } else { "beside others" };
    let path = dir.path().to_str().expect("a plain path");
    let mut child = spawn_under(&wrapper.unwrap_or_default(), dir.path(), role, &[path, alone]);
    while let Some(said) = child.hear() {
        println!("{said}");
    }
    assert!(child.finish().success());
}

/// In a child: its role and arguments. `None` if the test binary was started by hand.
pub fn role() -> Option<(String, Vec<String>)> {
    let role = std::env::var("MEMLANE_TEST_ROLE").ok()?;
    let arguments = std::env::var("MEMLANE_TEST_ARGUMENTS").unwrap_or_default();
    Some((role, arguments.lines().map(str::to_owned).collect()))
}

/// In a child: tells the parent something.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{text}").and_then(|()| out.flush()).expect("the parent listens");
}

/// In a child: waits for a line from the parent; `None` when it has closed the pipe or died.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line).expect("the parent's pipe");
    (count > 0).then(|| line.trim_end().to_owned())
}

impl Child {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the child says next; `None` when it has ended.
    pub fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).expect("the child's pipe") == 0 {
                return None;
            }
            // The test harness prints "test child ... " without a newline before the child's first words.
            if let Some((_, said)) = line.trim_end().split_once('@') {
                return Some(said.to_owned());
            }
        }
    }

    /// What the child says next; killed, it has ended, if it says nothing for so long that it must hang.
    pub fn hear_or_kill(&mut self) -> Option<String> {
        let (pid, (heard, waits)) = (self.pid(), mpsc::channel::<()>());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if waits.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                }
            });
            let said = self.hear();
            drop(heard);
            said
        })
    }

    /// Waits until the child says exactly `text`.
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.hear().as_deref(), Some(text));
    }

    pub fn say(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the pipe is open");
        writeln!(input, "{text}").and_then(|()| input.flush()).expect("the child listens");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill().expect("the child is ours to kill");
        self.process.wait().expect("the child is ours to wait for");
    }

    /// Whether it has ended, killed or by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// [`kill`](Self::kill), unless it has ended by itself already: then false.
    pub fn kill_if_alive(&mut self) -> bool {
        let alive = !self.has_ended();
        self.kill();
        alive
    }

    /// Closes its input and waits until it ends by itself.
    pub fn finish(mut self) -> ExitStatus {
        drop(self.input.take());
        while self.hear().is_some() {}
        self.process.wait().expect("the child is ours to wait for")
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "cannot send {signal}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How often something is done: `long` with `MEMLANE_LONG=1`, else `short`.
pub fn times(short: u64, long: u64) -> u64 {
    if std::env::var_os("MEMLANE_LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// Every byte of a region.
pub fn all(region: &memlane::Region) -> Vec<u8> {
    let mut bytes = vec![0xee; region.len()];
    region.read_at(0, &mut bytes).expect("all of it");
    bytes
}

/// A number of `/proc/self/smaps`, in bytes, of the mapping that begins at the page of `address`.
pub fn of_mapping(address: *const u8, field: &str) -> u64 {
    let start = format!("{:x}-", address.addr() & !4095);
    let text = std::fs::read_to_string("/proc/self/smaps").expect("what is mapped");
    let lines = text.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
    let line = lines.take_while(|line| line.starts_with(char::is_uppercase)).find(|line| line.starts_with(field));
    let line = line.unwrap_or_else(|| panic!("no {field} of {start}"));
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}
