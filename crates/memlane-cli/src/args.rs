//! What the command understands.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Shared memory between processes that no crash can hang, corrupt or leak.
#[derive(Debug, Parser)]
#[command(name = "memlane", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Objects are in the directory that MEMLANE_DIR names, or else in your own one in /dev/shm.
Durations are written like 500ms or 5s.
Ctrl-C ends in good order: recv and demo with 0, send with 1 if messages are left.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out, 4 no such object.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send pictures from one process to another, check every byte, report the speed
    Demo(Demo),
    /// The receiving process of the demo
    #[command(hide = true)]
    DemoReceiver(DemoReceiver),
    /// Send images, or any bytes, to whoever receives NAME, and wait until everybody has processed them
    Send(Send),
    /// Receive what is sent to NAME, and write it to files or to standard output
    Recv(Recv),
    /// Watch all channels: rates, latency, lag and misses, who takes part, and the locks that are held
    Top(crate::commands::top::Top),
    /// Watch the messages of a channel go by, without slowing anybody
    Tap(crate::commands::tap::Tap),
    /// List the objects, and who uses them
    Ls {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Look into an object: what is in it, who takes part, who holds its locks and who waits for them
    Inspect(crate::commands::inspect::Inspect),
    /// Remove an object; whoever uses it goes on undisturbed
    Rm {
        /// The object
        name: String,
        /// Also tell everybody who uses it to let go
        #[arg(long)]
        force: bool,
    },
    /// Remove what crashes left behind, and nothing that is in use or meant to be kept
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Look for what could go wrong here, and say how to mend it
    Doctor(crate::commands::doctor::Doctor),
    /// The process that the doctor kills
    #[command(hide = true)]
    DoctorVictim { name: String },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// PNG or JPEG files to send in turn; without any, moving 1920x1080 pictures are drawn
    pub(crate) images: Vec<PathBuf>,
    /// How many pictures to send [default: 300, or each image once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoReceiver {
    pub(crate) name: String,
    pub(crate) images: Vec<PathBuf>,
}

/// Who gets a message, and what happens when receivers are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Every receiver gets every message; the slowest holds up the sender
    Lossless,
    /// The sender never waits; slow receivers miss messages, and say how many
    Newest,
    /// Each message goes to one receiver
    Queue,
}

#[derive(Debug, Args)]
#[command(after_help = SEND_EXAMPLES)]
pub(crate) struct Send {
    /// The name to send to
    pub(crate) name: String,
    /// PNG or JPEG files; with --raw any files, or `-` for the messages on standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Send the bytes of each file as they are
    #[arg(long)]
    pub(crate) raw: bool,
    /// Wait for this many receivers before the first message
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=127))]
    pub(crate) receivers: u16,
    /// How many receivers there can be, each for two messages' memory [default: one more than --receivers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=127))]
    pub(crate) room: Option<u16>,
    /// Who gets a message, and what happens when receivers are slow
    #[arg(long, value_enum, default_value_t = Policy::Lossless)]
    pub(crate) policy: Policy,
    /// How many messages the slowest receiver may be behind
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32768))]
    pub(crate) slots: u16,
    /// Send at most this many messages per second
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub(crate) rate: Option<Duration>,
    /// Keep the channel, and what nobody has processed, when everybody has gone; `memlane rm` removes it
    #[arg(long)]
    pub(crate) keep: bool,
    /// The longest message there is to be room for [default: the longest file; 16777216 from standard input]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_message: Option<u64>,
    /// How long to wait for receivers, and for each message to be processed [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object per message
    #[arg(long)]
    pub(crate) json: bool,
}

const SEND_EXAMPLES: &str = "\
Examples:
  memlane send cam0 *.png                               each image to one receiver
  memlane send cam0 *.png --receivers 2                 to two, which both get every image
  memlane send cam0 *.png --policy newest --rate 30     like a camera: waits for nobody
  memlane send map --raw map.bin --keep                 stays until `memlane rm map`
  memlane recv a --raw - | memlane send b --raw -       from one channel to another

On standard input each message follows its length: eight bytes, the lowest first.";

#[derive(Debug, Args)]
#[command(after_help = RECV_EXAMPLES)]
pub(crate) struct Recv {
    /// The name to receive from
    pub(crate) name: String,
    /// The same as `--out -`
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with = "out")]
    pub(crate) stdout: Option<String>,
    /// The folder to write to, one PNG file per image (with --raw NNNNNN.bin) named by its number; files of that name
    /// are replaced. `-` with --raw: standard output. Without it, messages are received and not kept
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Receive bytes as they are, not images
    #[arg(long)]
    pub(crate) raw: bool,
    /// End after this many messages [default: when the sender is done]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How long to wait for a sender, and for each message [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object per message
    #[arg(long)]
    pub(crate) json: bool,
}

const RECV_EXAMPLES: &str = "\
Examples:
  memlane recv cam0 --out frames          write frames/000001.png, frames/000002.png, ...
  memlane recv cam0 --count 1 --json      one image, and what it was
  memlane recv map --raw --out maps       write maps/000001.bin, ...
  memlane recv a --raw - | program        each message after its length

On standard output each message follows its length: eight bytes, the lowest first.";

/// From messages per second to the time between two of them.
fn rate(text: &str) -> Result<Duration, String> {
    let hertz = text.parse::<f64>().ok().filter(|hertz| *hertz > 0.0 && hertz.is_finite());
    let period = hertz.and_then(|hertz| Duration::try_from_secs_f64(1.0 / hertz).ok());
    period.ok_or_else(|| "a number of messages per second, like 30 or 0.5".into())
}
