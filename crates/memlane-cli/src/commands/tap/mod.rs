//! `memlane tap`.

mod content;
mod follow;

use crate::blocks::{self, Canvas};
use crate::failure::Failure;
use crate::report::{Counted, tell};
use crate::stop::{GLANCE, stopped};
use clap::Args;
use content::Line;
use follow::{Followed, News};
use memlane::{Copied, Image, Name, Tensor};
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(crate) struct Tap {
    /// The channel; if there is none, it is waited for
    name: String,
    /// Begin with all messages that are kept, not with the newest
    #[arg(long)]
    all: bool,
    /// Show the first bytes of each message [default: 64]
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "64")]
    hex: Option<usize>,
    /// Show no pictures, which are otherwise shown where images are sent and standard output is a terminal
    #[arg(long)]
    no_picture: bool,
    /// Write each message to this folder, named by its number: images as PNG, others as .bin; files of that name are
    /// replaced. With several lanes the lane comes first: 0-000001.png
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// End after this many messages [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long to wait for the channel, and for each message [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Print a JSON object per message
    #[arg(long)]
    json: bool,
}

/// How long to sleep when no message has come: first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

pub(crate) fn run(arguments: &Tap) -> Result<(), Failure> {
    let name = Name::new(&arguments.name)?;
    if let Some(folder) = &arguments.save {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::failed(format!("cannot make the folder '{}': {error}", folder.display())))?;
    }
    Watcher { arguments, name, followed: None, seen: 0, missed: 0, heard: Instant::now() }.run()
}

struct Watcher<'a> {
    arguments: &'a Tap,
    name: Name,
    followed: Option<Followed>,
    /// How many messages were shown.
    seen: u64,
    /// How many were missed before these.
    missed: u64,
    /// When the last one was.
    heard: Instant,
}

impl Watcher<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let (mut pause, mut looked) = (PAUSES[0], Instant::now());
        self.followed = Followed::open(&self.name, Some(self.arguments.all))?;
        match &self.followed {
            None => tell(format!("there is no channel '{}' yet; waiting for it", self.name)),
            Some(followed) => followed.who_sends().into_iter().for_each(tell),
        }
        while !stopped() && !self.is_done() {
            let drained = self.drain()?;
            if let Some(timeout) = self.arguments.timeout.filter(|timeout| self.heard.elapsed() >= *timeout) {
                return Err(self.timed_out(timeout));
            }
            if self.followed.is_none() {
                self.appear()?;
            } else if looked.elapsed() >= GLANCE {
                self.look_around()?;
                looked = Instant::now();
            }
            if drained {
                pause = PAUSES[0];
            } else {
                std::thread::sleep(pause);
                pause = (pause * 3 / 2).min(PAUSES[1]);
            }
        }
        if !self.is_done() {
            let missed = self.missed + self.followed.as_ref().map_or(0, Followed::missed);
            tell(format!("interrupted, {} seen, {missed} missed", Counted(self.seen, "message")));
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        Some(self.seen) == self.arguments.count
    }

    /// Looks whether the channel is there by now. What was sent since it was created is all to be seen.
    fn appear(&mut self) -> Result<(), Failure> {
        self.followed = Followed::open(&self.name, None)?;
        if self.followed.is_some() {
            tell(format!("'{}' is there", self.name));
        }
        Ok(())
    }

    /// Looks who has come and gone, and tells so after all that was sent before.
    fn look_around(&mut self) -> Result<(), Failure> {
        let Some(followed) = &mut self.followed else { return Ok(()) };
        let News { says, gone } = followed.look_around(&self.name)?;
        if !says.is_empty() || gone {
            self.drain()?;
        }
        says.into_iter().for_each(tell);
        if gone {
            self.followed = None;
        }
        Ok(())
    }

    /// Shows the messages that are there, for so long that senders are still looked after; whether there were any.
    fn drain(&mut self) -> Result<bool, Failure> {
        let (before, start) = (self.seen, Instant::now());
        let Some(mut followed) = self.followed.take() else { return Ok(false) };
        let most = self.most();
        while !stopped() && !self.is_done() && start.elapsed() < GLANCE {
            let Some((message, missed)) = followed.next(most)? else { break };
            self.show(&followed, &message, missed)?;
            self.seen += 1;
            self.missed += missed;
            self.heard = Instant::now();
        }
        self.followed = Some(followed);
        Ok(self.seen > before)
    }

    /// How many bytes of a message are needed.
    fn most(&self) -> usize {
        let fields = Tensor::size(&[0], memlane::Dtype::U8).unwrap_or(0).max(Image::size(0, 0, content::ANY_FORMAT));
        if self.arguments.save.is_some() || self.shows_pictures() {
            usize::MAX
        } else {
            self.arguments.hex.unwrap_or(0).max(fields as usize)
        }
    }

    fn shows_pictures(&self) -> bool {
        !self.arguments.no_picture && !self.arguments.json && blocks::are_shown()
    }

    fn show(&self, followed: &Followed, message: &Copied, missed: u64) -> Result<(), Failure> {
        let mut line = Line::new(followed.kind(), message, missed);
        if let Some(folder) = &self.arguments.save {
            line.file = Some(content::save(folder, followed.lanes() > 1, followed.kind(), message)?);
        }
        let hex = self.arguments.hex.map(|most| &message.bytes[..message.bytes.len().min(most)]);
        let mut out = stdout().lock();
        if self.arguments.json {
            return Ok(writeln!(out, "{}", line.to_json(hex))?);
        }
        writeln!(out, "{line}")?;
        if let Some(bytes) = hex {
            write!(out, "{}", content::hex_dump(bytes))?;
        }
        if self.shows_pictures()
            && let Some(picture) = line.image().and_then(|image| blocks::of_image(image, Canvas::of_terminal()))
        {
            write!(out, "{picture}")?;
        }
        Ok(())
    }

    fn timed_out(&self, timeout: Duration) -> Failure {
        let (name, seen, timeout) = (&self.name, Counted(self.seen, "message"), humantime::format_duration(timeout));
        let who = match &self.followed {
            None => format!("there was no channel '{name}'"),
            Some(followed) => followed.culprit(),
        };
        Failure::timed_out(format!("{who} for {timeout}, {seen} seen: wait longer, or look with `memlane top`"))
    }
}
