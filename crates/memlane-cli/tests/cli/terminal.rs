//! `memlane top` and `tap` as people see them: in a real terminal, which tmux gives.

use crate::channel::{create, start, stop};
use crate::common::{Place, wait_for};
use memlane::{ChannelOptions, Image, PixelFormat, Policy, Sender};
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// A terminal of its own, with a shell that runs a command, of the program `$MEMLANE`, and says how it ended.
struct Terminal {
    server: String,
}

impl Terminal {
    /// `None` if there is no tmux, which is said on standard error past the test harness.
    fn start(place: &Place, command: &str) -> Option<Self> {
        let server = memlane::Name::unique("memlane-terminal").expect("a unique name").to_string();
        let terminal = Self { server };
        let shell = format!("{command}; echo \"ended with $?\"; exec cat");
        let mut tmux = terminal.tmux(&["new-session", "-d", "-x", "120", "-y", "30", "sh", "-c", &shell]);
        tmux.env("MEMLANE_DIR", place.objects())
            .env("MEMLANE", env!("CARGO_BIN_EXE_memlane"))
            .env_remove("NO_COLOR")
            .env_remove("TMUX");
        match tmux.output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => {
                let _ = writeln!(
                    std::io::stderr(),
                    "\nSKIPPED: a test in a terminal: tmux is missing: apt-get install tmux"
                );
                return None;
            }
        }
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.server, "-f", "/dev/null"]).args(arguments).stdin(Stdio::null());
        command
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.tmux(arguments).output().expect("tmux");
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("text")
    }

    fn text(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    fn press(&self, key: &str) {
        self.ask(&["send-keys", key]);
    }

    /// Waits until the screen gives an answer, and shows it if it never does.
    fn wait<T>(&self, what: &str, mut answer: impl FnMut(&str) -> Option<T>) -> T {
        wait_for(what, || {
            let text = self.text();
            let answer = answer(&text);
            if answer.is_none() {
                println!("{text}"); // shown only if the test fails
            }
            answer
        })
    }

    fn wait_for_text(&self, text: &str) {
        self.wait(text, |screen| screen.contains(text).then_some(()));
    }

    /// Asserts that the command has ended well, and that the terminal is as it was.
    fn assert_restored(&self) {
        self.wait_for_text("ended with 0");
        assert!(!self.text().contains("memlane top"), "the other screen is left: {}", self.text());
        assert_eq!(self.ask(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
        // Not raw any more: what is typed is echoed, and comes back by lines.
        self.ask(&["send-keys", "echoed", "Enter"]);
        self.wait("an echo", |screen| (screen.matches("echoed").count() == 2).then_some(()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}

fn newest() -> ChannelOptions {
    ChannelOptions::new().policy(Policy::Newest)
}

/// The fields of the line about a process.
fn about(screen: &str, pid: u32) -> Option<Vec<String>> {
    let line = screen.lines().find(|line| line.split_whitespace().nth(1) == Some(&pid.to_string()))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

const LAG: usize = 6;
const MISSED: usize = 7;

fn number(fields: &[String], index: usize) -> u64 {
    fields[index].parse().unwrap_or_else(|_| panic!("a number at {index} of {fields:?}"))
}

#[test]
fn top_shows_a_lag_that_grows_when_a_receiver_is_stopped() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &newest());
    let (healthy, stopped) = (start(&place, "receive cam"), start(&place, "receive cam"));
    let Some(terminal) = Terminal::start(&place, "\"$MEMLANE\" top --interval 100ms") else { return };
    let lag_of = |screen: &str, pid| about(screen, pid).map(|fields| number(&fields, LAG));
    let send = |sender: &Sender| drop(sender.send_copy(b"again").expect("it never waits"));
    terminal.wait("the channel and its receivers, who keep up", |screen| {
        send(&sender);
        let cam =
            screen.lines().any(|line| line.starts_with("> cam ") && line.contains(" newest ") && line.contains("2/4"));
        let keep_up = [&healthy, &stopped].iter().all(|it| lag_of(screen, it.pid()).is_some_and(|lag| lag < 2));
        (cam && keep_up && about(screen, std::process::id())?[0] == "sender").then_some(())
    });
    stop(&stopped);
    let mut lags = Vec::new();
    terminal.wait("a lag that grows", |screen| {
        send(&sender);
        let fields = about(screen, stopped.pid())?;
        let lag = number(&fields, LAG);
        let told = fields.ends_with(&["stopped,", "lag", "grows"].map(str::to_owned));
        if told && lags.last().is_none_or(|last| *last < lag) {
            lags.push(lag);
        }
        let keeps_up = lag_of(screen, healthy.pid()).is_some_and(|lag| lag < 5);
        assert!(!about(screen, healthy.pid())?.contains(&"stopped".into()), "{screen}");
        let noted = screen.lines().any(|line| line.starts_with("> cam ") && line.contains("1 stopped, lag grows"));
        (noted && keeps_up && lags.len() >= 5 && lag > 20).then_some(())
    });
    stopped.signal("CONT");
    terminal.wait("its return, and what it has missed", |screen| {
        send(&sender);
        let fields = about(screen, stopped.pid())?;
        (number(&fields, LAG) < 2 && number(&fields, MISSED) > 10 && !screen.contains("stopped")).then_some(())
    });
    terminal.press("q");
    terminal.assert_restored();
}

#[test]
fn top_has_colours_only_where_they_are_wanted() {
    let place = Place::new();
    let _sender = create::<[u8]>(&place, "cam", &newest());
    let receiver = start(&place, "receive cam");
    stop(&receiver);
    for (environment, colored) in [("", true), ("NO_COLOR=1", false)] {
        let command = format!("{environment} \"$MEMLANE\" top");
        let Some(terminal) = Terminal::start(&place, &command) else { return };
        terminal.wait_for_text("1 stopped");
        let screen = terminal.ask(&["capture-pane", "-p", "-e"]);
        assert_eq!(screen.contains("\x1b[38;5;1m1 stopped"), colored, "{screen:?}");
    }
}

#[test]
fn top_follows_keys_and_channels_that_come_and_go() {
    let place = Place::new();
    let Some(terminal) = Terminal::start(&place, "\"$MEMLANE\" top --interval 100ms") else { return };
    terminal.wait_for_text("start one with `memlane send cam0");
    let [first, second] = ["first", "second"].map(|name| create::<[u8]>(&place, name, &newest()));
    terminal.wait_for_text("> first ");
    terminal.press("j");
    terminal.wait_for_text("> second ");
    terminal.wait_for_text("second: bytes, newest, 4 slots of up to 64.0 KiB");
    terminal.press("Up");
    terminal.wait_for_text("> first ");
    terminal.press("+");
    terminal.wait_for_text("every 200ms");
    terminal.press("-");
    terminal.wait_for_text("every 100ms");
    terminal.press("?");
    terminal.wait_for_text("look less often");
    terminal.press("?");
    terminal.wait_for_text("> first ");
    drop(first);
    let gone = |line: &str| line.starts_with("> first ") && line.ends_with(" gone");
    terminal.wait("the end of the channel", |screen| screen.lines().any(gone).then_some(()));
    terminal.wait("its being forgotten", |screen| (!screen.contains("first")).then_some(()));
    terminal.wait_for_text("> second ");
    drop(second);
    terminal.press("C-c");
    terminal.assert_restored();
}

#[test]
fn top_survives_any_size_and_gives_the_terminal_back_when_it_is_told_to_end() {
    let place = Place::new();
    let _channels: Vec<_> =
        (0..20).map(|number| create::<[u8]>(&place, &format!("channel{number:02}"), &newest())).collect();
    let Some(terminal) = Terminal::start(&place, "\"$MEMLANE\" top --interval 100ms") else { return };
    terminal.wait_for_text("> channel00 ");
    terminal.wait_for_text("more below");
    for _ in 0..19 {
        terminal.press("Down");
    }
    terminal.wait_for_text("> channel19 ");
    for (width, height) in [("1", "1"), ("2", "3"), ("200", "2"), ("5", "50"), ("40", "8")] {
        terminal.ask(&["resize-window", "-x", width, "-y", height]);
        terminal.press("?");
        terminal.press("?");
    }
    terminal.wait_for_text("> channel19 ");
    terminal.ask(&["resize-window", "-x", "120", "-y", "30"]);
    terminal.wait_for_text("channel19: bytes, newest");
    let shell = terminal.ask(&["display-message", "-p", "#{pane_pid}"]);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).expect("the shell");
    crate::common::signal(children.trim().parse().expect("one child"), "TERM");
    terminal.assert_restored();
}

#[test]
fn tap_shows_images_as_pictures() {
    let place = Place::new();
    let sender = create::<Image>(&place, "cam", &newest());
    let mut image = sender.loan_image(2, 3, PixelFormat::Rgb8).expect("a buffer");
    image.pixels.copy_from_slice(&[250, 0, 0, 0, 251, 0, 0, 0, 252, 253, 253, 253, 7, 8, 9, 10, 11, 12]);
    image.send().expect("it never waits");
    let Some(terminal) = Terminal::start(&place, "\"$MEMLANE\" tap cam --count 1") else { return };
    terminal.wait_for_text("ended with 0");
    let text = terminal.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("0:000001 ") && lines[0].ends_with("image 2x3 rgb8"), "{text}");
    assert_eq!(lines[1..4], ["▀▀", "▀▀", "ended with 0"], "{text}");
    let colored = terminal.ask(&["capture-pane", "-p", "-e"]);
    let picture: Vec<_> = colored.lines().skip(1).take(2).collect();
    for (row, colors) in [
        (0, ["38;2;250;0;0", "48;2;0;0;252", "38;2;0;251;0", "48;2;253;253;253"].as_slice()),
        (1, &["38;2;7;8;9", "38;2;10;11;12"]),
    ] {
        assert!(colors.iter().all(|color| picture[row].contains(color)), "{colors:?} in {:?}", picture[row]);
    }
    assert!(!picture[1].contains("48;2"), "nothing is below the last row: {picture:?}");
}

#[test]
fn tap_shows_no_pictures_where_none_are_wanted() {
    let place = Place::new();
    let sender = create::<Image>(&place, "cam", &newest());
    sender.loan_image(2, 2, PixelFormat::Rgb8).expect("a buffer").send().expect("it never waits");
    let Some(terminal) = Terminal::start(&place, "\"$MEMLANE\" tap cam --count 1 --no-picture") else { return };
    terminal.wait_for_text("ended with 0");
    assert!(terminal.text().contains("image 2x2 rgb8") && !terminal.text().contains('▀'), "{}", terminal.text());
    let plain = Terminal::start(&place, "NO_COLOR=1 \"$MEMLANE\" tap cam --count 1").expect("tmux is there");
    plain.wait_for_text("ended with 0");
    assert!(plain.text().contains("image 2x2 rgb8") && !plain.text().contains('▀'), "{}", plain.text());
}

#[test]
fn demo_shows_its_last_picture() {
    let place = Place::new();
    let Some(terminal) = Terminal::start(&place, "\"$MEMLANE\" demo --count 3") else { return };
    terminal.wait_for_text("ended with 0");
    let screen = terminal.ask(&["capture-pane", "-p", "-e"]);
    let rows: Vec<_> = screen.lines().filter(|line| line.contains('▀')).collect();
    // A third of 30 rows; the picture is 16 to 9, and a row two pixels high.
    assert!(rows.len() == 10 && rows[0].matches('▀').count() == 35, "{screen}");
    assert!(rows.iter().all(|row| row.contains("38;2;")), "in colour: {screen}");
    let Some(terminal) = Terminal::start(&place, "NO_COLOR=1 \"$MEMLANE\" demo --count 3") else { return };
    terminal.wait_for_text("ended with 0");
    assert!(!terminal.text().contains('▀'));
}
