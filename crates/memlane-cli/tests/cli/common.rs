//! Running the command, and images to send.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageEncoder};
use memlane::Name;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// No command of these tests takes as long, unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// Asks again and again until `answer` has one.
pub(crate) fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(start.elapsed() < HANG, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A directory for objects, which must be empty at the end, and a folder for images.
pub(crate) struct Place {
    objects: PathBuf,
    folder: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let name = Name::unique("memlane-cli-test").expect("a unique name");
        let objects = Path::new("/dev/shm").join(name.as_str());
        fs::DirBuilder::new().mode(0o700).create(&objects).expect("a directory");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.as_str());
        fs::create_dir_all(&folder).expect("a folder");
        Self { objects, folder }
    }

    pub(crate) fn objects(&self) -> &Path {
        &self.objects
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> Vec<String> {
        names_in(&self.objects)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memlane"));
        command.args(arguments).env("MEMLANE_DIR", &self.objects).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the command in the background. Its working directory is the folder.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// Waits until the process is attached to the object.
    pub(crate) fn await_user(&self, object: &str, pid: u32) {
        wait_for("an attachment", || {
            let listed = memlane::list(Some(&self.objects)).expect("the directory");
            let object = listed.into_iter().find(|listed| listed.name == object)?;
            object.users.iter().any(|user| user.pid == pid).then_some(())
        });
    }

    /// Makes a PNG file of gray noise.
    pub(crate) fn gray(&self, file: &str, width: u32, height: u32) -> PathBuf {
        self.png(file, width, height, ExtendedColorType::L8)
    }

    /// Makes a PNG file of noise.
    pub(crate) fn png(&self, file: &str, width: u32, height: u32, color: ExtendedColorType) -> PathBuf {
        let path = self.folder.join(file);
        let noise = noise(file, width as usize * height as usize * usize::from(color.bits_per_pixel()) / 8);
        let out = fs::File::create(&path).expect("a file");
        PngEncoder::new_with_quality(out, CompressionType::Fast, FilterType::NoFilter)
            .write_image(&noise, width, height, color)
            .expect("a PNG file");
        path
    }

    /// Makes the receiver stop in the midst of processing image `sequence`.
    pub(crate) fn hold(&self, sequence: u64) -> Hold {
        self.hold_file(&format!("{sequence:06}.png"))
    }

    /// Makes the receiver stop in the midst of writing a file.
    pub(crate) fn hold_file(&self, name: &str) -> Hold {
        let pipe = self.folder.join(format!(".{name}.part"));
        assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()), "mkfifo works");
        let reader = fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&pipe).expect("a pipe");
        Hold { reader, paths: [pipe, self.folder.join(name)] }
    }

    /// Where the receiver writes an image when its `--out` is the folder.
    pub(crate) fn received(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("{sequence:06}.png"))
    }

    /// Asserts that image `sequence` was received as it is in `original`.
    pub(crate) fn assert_received(&self, sequence: u64, original: &Path) {
        assert_same_pixels(&self.received(sequence), original);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.names();
        let _ = fs::remove_dir_all(&self.objects);
        let _ = fs::remove_dir_all(&self.folder);
        assert!(std::thread::panicking() || left.is_empty(), "left behind: {left:?}");
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let list = fs::read_dir(folder).expect("the folder");
    let mut names: Vec<_> = list.map(|entry| entry.expect("an entry").file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const O_NONBLOCK: i32 = 0o4000;

/// A pipe where the receiver is to write a file: it blocks there, when the pipe is full, until it is released.
pub(crate) struct Hold {
    reader: fs::File,
    paths: [PathBuf; 2],
}

impl Hold {
    /// Waits until the receiver is there.
    pub(crate) fn reached(&mut self) {
        wait_for("the receiver at its file", || matches!(self.reader.read(&mut [0]), Ok(1)).then_some(()));
    }

    /// Lets the receiver finish the file, which nobody gets to see.
    pub(crate) fn release(mut self) {
        let mut bytes = vec![0; 1 << 16];
        wait_for("the end of the file", || match self.reader.read(&mut bytes) {
            Ok(0) => Some(()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
            _ => None,
        });
        wait_for("the file under its name", || self.paths[1].exists().then_some(()));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}

/// Bytes without a pattern, the same each time for the same `seed`.
fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| state.rotate_left(5) ^ u64::from(byte));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect()
}

fn decode(path: &Path) -> DynamicImage {
    image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The size of the decoded pixels in bytes.
pub(crate) fn decoded_size(path: &Path) -> usize {
    decode(path).as_bytes().len()
}

/// Whether two files hold the same image, in the same format.
pub(crate) fn same_pixels(one: &Path, other: &Path) -> bool {
    let parts = |image: DynamicImage| (image.color(), image.width(), image.height(), image.into_bytes());
    parts(decode(one)) == parts(decode(other))
}

pub(crate) fn assert_same_pixels(one: &Path, other: &Path) {
    assert!(same_pixels(one, other), "{} is not {}", one.display(), other.display());
}

/// A command that runs; killed if it hangs, or when dropped.
pub(crate) struct Running {
    child: std::process::Child,
    out: Box<dyn BufRead + Send>,
    err: Box<dyn BufRead + Send>,
    watchdog: Option<Sender<()>>,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Asserts that it succeeded and had nothing to complain about; gives what it printed.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// Asserts that it failed with `code` and one line of error that holds all `words`.
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "one line: {self:?}");
        assert!(self.err.starts_with("memlane: ") && self.err.ends_with('\n'), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "'{word}' is not in {self:?}");
        }
    }
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(pid: u32, signal: &str) {
    let done = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(done.is_ok_and(|status| status.success()), "cannot send {signal}");
}

fn heard(pipe: Option<impl Read + Send + 'static>) -> Box<dyn BufRead + Send> {
    match pipe {
        Some(pipe) => Box::new(BufReader::new(pipe)),
        None => Box::new(std::io::empty()),
    }
}

/// A pipe whose reader has had enough.
pub(crate) fn closed_pipe() -> Stdio {
    std::io::pipe().expect("a pipe").1.into()
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the command");
        let (out, err) = (heard(child.stdout.take()), heard(child.stderr.take()));
        let (watchdog, ended) = channel::<()>();
        let pid = child.id();
        std::thread::spawn(move || {
            if ended.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
                signal(pid, "KILL");
            }
        });
        Self { child, out, err, watchdog: Some(watchdog) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// The next line it prints; empty when it has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("its output");
        line
    }

    /// Gives each line it prints from now on to `hear`, in a thread of its own.
    pub(crate) fn each_line(&mut self, mut hear: impl FnMut(&str) + Send + 'static) {
        let out = std::mem::replace(&mut self.out, Box::new(std::io::empty()));
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| hear(&line)));
    }

    /// The next line it says on standard error; empty when it has ended.
    pub(crate) fn told(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).expect("its errors");
        line
    }

    /// Asserts that the next line on standard error holds all `words`.
    pub(crate) fn expect_told(&mut self, words: &[&str]) {
        let line = self.told();
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} are not in {line:?}");
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours to kill");
        self.reap();
    }

    fn reap(&mut self) -> Option<i32> {
        let status = self.child.wait().expect("it is ours to wait for");
        self.watchdog = None;
        status.code()
    }

    /// Waits until it ends.
    pub(crate) fn end(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), String::new());
        std::thread::scope(|scope| {
            scope.spawn(|| self.err.read_to_string(&mut err).expect("text"));
            self.out.read_to_string(&mut out).expect("text");
        });
        let code = self.reap();
        Ended { code, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A receiver whose sender was killed after the first image, and knows it. The channel has room for one.
pub(crate) fn orphan(place: &Place) -> Running {
    place.gray("first.png", 1024, 512);
    let mut hold = place.hold(1);
    let mut receiver = place.start(&["recv", "cam", "--out", ".", "--timeout", "50s"]);
    let mut sender = place.start(&["send", "cam", "first.png", "first.png", "--slots", "1", "--room", "1"]);
    hold.reached();
    sender.kill();
    hold.release();
    receiver.expect_told(&[&format!("pid {} (memlane)", sender.pid()), "is dead", "waiting for the next sender"]);
    assert!(receiver.line().starts_with("000001"));
    receiver
}
