//! `memlane send`.

use crate::args::Send;
use crate::failure::Failure;
use crate::handoff::{Absence, Patience, Sender};
use crate::picture::Source;
use crate::report::{Bytes, Once, Time, called, tell};
use memlane::Name;
use serde_json::json;
use std::io::Write;

pub(crate) fn run(arguments: &Send) -> Result<(), Failure> {
    let name = Name::new(&arguments.name)?;
    let sources = arguments.images.iter().map(|path| Source::file(path)).collect::<Result<Vec<_>, _>>()?;
    let capacity = sources.iter().map(Source::size).max().unwrap_or(0);
    let sender = Sender::create(&name, capacity, Patience::new(arguments.timeout))?;
    if sender.took_over() {
        tell(format!("took '{name}' over from a sender that was killed"));
    }
    let mut out = std::io::stdout().lock();
    let mut waiting = Once::new(format!("waiting for `memlane recv {name}` (Ctrl-C ends)"));
    for ((number, source), path) in (0..).zip(&sources).zip(&arguments.images) {
        let delivered = sender.hand_over(source, number, Patience::new(arguments.timeout), |absence| {
            match absence {
                Absence::Killed(who) => {
                    let who = called(who, "the receiver");
                    tell(format!("{who} died before it had processed '{}'; offering it again", path.display()));
                }
                Absence::Nobody => waiting.tell(),
            }
            Ok(())
        })?;
        let (shape, sequence) = (source.shape(), delivered.sequence);
        if arguments.json {
            let line = json!({
                "sequence": sequence, "file": path, "width": shape.width, "height": shape.height,
                "format": shape.format.to_string(), "bytes": source.size(),
                "latency_ns": delivered.latency.as_nanos() as u64,
            });
            writeln!(out, "{line}")?;
        } else {
            let (size, latency) = (Bytes(source.size() as u64), Time(delivered.latency));
            writeln!(out, "{sequence:06}  {}  {shape}  {size}  taken after {latency}, processed", path.display())?;
        }
    }
    Ok(())
}
