//! A trial with two real processes: one takes a lock and is killed, the other one is to be told so.

use super::Finding;
use crate::failure::Failure;
use crate::report::Time;
use memlane::{Locked, Mutex, Name, Options, Segment};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the other process may take to start, and its death to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn look() -> Vec<Finding> {
    match attempt() {
        Ok(seen_after) => {
            let found = format!("a process was killed with a lock in its hand: seen after {}", Time(seen_after));
            vec![Finding::ok("trial", found)]
        }
        Err(error) => vec![Finding::failed("trial", error)],
    }
}

/// How long it took until the death was seen.
fn attempt() -> Result<Duration, Box<dyn std::error::Error>> {
    let name = Name::unique("doctor")?;
    let lock = Segment::<Mutex<u64>>::create(&name, (), &Options::new(), |_| ())?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["doctor-victim", name.as_str()]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut victim = command.spawn()?;
    let mut line = String::new();
    if let Some(out) = victim.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    victim.kill()?;
    let killed = Instant::now();
    victim.wait()?;
    if line != "held\n" {
        return Err("the other process could not take the lock".into());
    }
    match lock.lock_timeout(&lock, PATIENCE)? {
        Locked::OwnerDied(died) => {
            let seen_after = killed.elapsed();
            died.mark_consistent().unlock();
            Ok(seen_after)
        }
        Locked::Clean(_) => Err("a process was killed with a lock in its hand, and nobody was told".into()),
    }
}

/// The other process: takes the lock, says so, and waits for its end.
pub(crate) fn victim(name: &str) -> Result<(), Failure> {
    let lock = Segment::<Mutex<u64>>::open(name)?;
    let _held = lock.lock_timeout(&lock, PATIENCE).map_err(Failure::failed)?;
    writeln!(std::io::stdout(), "held")?;
    // The end of its input is that of the process which started it.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
