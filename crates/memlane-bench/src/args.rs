//! The command line.

use crate::transport::{Role, Workload};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// memlane beside its peers and its floors: the same work between two processes, in turns, in one run.
///
/// Each transport has two processes, pinned to the first two processors. In a case all transports take turns block by
/// block, so that each ratio is the median of ratios of neighbouring blocks: absolute times change with the machine,
/// ratios hardly.
#[derive(Debug, Parser)]
#[command(name = "memlane-bench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// Fewer sizes and blocks: done within a minute on two processors.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only transports with one of these texts in their names.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub(crate) only: Vec<String>,

    /// Only these workloads.
    #[arg(long, value_name = "NAME", num_args = 1.., ignore_case = true)]
    pub(crate) workload: Vec<Workload>,

    /// Sizes of messages for round trips and one way, instead of the usual ones.
    #[arg(long, value_name = "BYTES", num_args = 1.., value_parser = size)]
    pub(crate) size: Vec<usize>,

    /// How many blocks of each transport and case; from five on, ratios can be trusted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) blocks: Option<u16>,

    /// Write the figures: one array with an object for each transport and case.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write plots (SVG) into this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,

    /// Say which transports there are, and how to get those that are missing.
    #[arg(long)]
    pub(crate) list: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One side of one transport.
    #[command(hide = true)]
    Worker { name: String, role: Role },
}

/// A message has a first byte to be looked at, and no more than 1 GiB.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size; give bytes, from 1 to 1073741824, as in `--size 64 8388608`");
    text.parse().ok().filter(|size| (1..=1 << 30).contains(size)).ok_or_else(wrong)
}
