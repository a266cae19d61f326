//! What the command understands.

use clap::{Args, Parser, Subcommand};
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
Ctrl-C ends in good order: recv and demo with 0, send with 1 if images are left.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out, 4 no such object.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send pictures from one process to another, check every byte, report the speed
    Demo(Demo),
    /// The receiving process of the demo
    #[command(hide = true)]
    DemoReceiver(DemoReceiver),
    /// Hand images to whoever receives NAME, and wait for each until it was processed
    Send(Send),
    /// Receive the images that are sent to NAME, and write them as PNG files
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

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The name to send to
    pub(crate) name: String,
    /// PNG or JPEG files
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// How long to wait for a receiver, and for each image to be processed [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object per image
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Recv {
    /// The name to receive from
    pub(crate) name: String,
    /// The folder to write PNG files to, named by image number; files of that name are replaced. Without it, images
    /// are received and not kept
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// End after this many images [default: when the sender is done]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How long to wait for a sender, and for each image [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object per image
    #[arg(long)]
    pub(crate) json: bool,
}
