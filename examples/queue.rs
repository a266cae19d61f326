//! A work queue: three worker processes share jobs out, and one of them is killed over a job. `cargo run --example queue`.

use memlane::{ChannelOptions, Message, Name, Outcome, Policy, Receiver, Sender, Shareable};
use std::process::{Child, Command};
use std::time::Duration;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
struct Job {
    number: u64,
    /// Whoever gets it for the first time dies over it.
    deadly: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        Some(name) => work(&name),
        None => hand_out(),
    }
}

fn hand_out() -> Result<(), Box<dyn std::error::Error>> {
    let name = Name::unique("jobs")?;
    let options = ChannelOptions::new().policy(Policy::Queue).slots(8);
    let jobs = Sender::<Job>::create(&name, &options)?;
    let worker = || Command::new(std::env::current_exe()?).arg(name.as_str()).spawn();
    let mut workers = (0..3).map(|_| worker()).collect::<Result<Vec<Child>, _>>()?;
    jobs.wait_for_receivers(3, PATIENCE)?;

    let mut tickets = Vec::new();
    for number in 1..=30 {
        // Waits while eight jobs are not done yet.
        tickets.push(jobs.send_copy(&Job { number, deadly: u64::from(number == 10) })?);
    }
    for ticket in &tickets {
        ticket.wait_processed(PATIENCE)?;
    }
    let last = tickets[29].wait(PATIENCE)?;
    assert!(last.iter().all(|worker| worker.outcome == Outcome::Processed));
    println!("all 30 jobs are done, {} of 3 workers live", jobs.receivers().len());

    drop(jobs); // the workers get what is left, and are told that there is no more
    let ends = workers.iter_mut().map(Child::wait).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(ends.iter().filter(|end| end.success()).count(), 2, "one has died over its job");
    Ok(())
}

fn work(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut jobs = Receiver::<Job>::open(name)?;
    let mut done = 0;
    for job in &mut jobs {
        let job: Message<Job> = job?;
        if job.deadly != 0 && job.deliveries() == 1 {
            std::process::abort(); // as a kill would: nothing is given back
        }
        if job.deliveries() > 1 {
            println!("job {} comes once more, as delivery {}: who had it is dead", job.number, job.deliveries());
        }
        done += 1;
    } // dropping it says that it is done
    println!("a worker has done {done} jobs");
    Ok(())
}
