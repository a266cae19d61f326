//! State that programs in any language share: a robot whose pose changes under a lock, and whose readings follow.
//!
//! `cargo run --example state -- robot`, and then in Python:
//!
//!     robot = memlane.Segment("robot")        # its dtype is what this program says that it is
//!     with robot.mutex("pose") as pose:       # the same lock
//!         print(pose["stamp"], pose["position"])
//!
//! Each line on standard input moves the robot, and its end ends the program. Whoever is killed while it holds the lock,
//! the other one goes on, and is told.

use memlane::{Condvar, Mutex, Options, Segment, Shareable};
use std::io::BufRead;

#[derive(Shareable)]
#[repr(C)]
struct Pose {
    stamp: u64,
    position: [f64; 3],
}

#[derive(Shareable)]
#[repr(C)]
struct Robot {
    serial: u32,
    pose: Mutex<Pose>,
    moved: Condvar,
    readings: [f32],
}

fn run(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let robot = Segment::<Robot>::create(name, 5, &Options::new(), |robot| {
        robot.serial = 42;
        robot.readings.iter_mut().zip(1_u8..).for_each(|(reading, number)| *reading = number.into());
    })?;
    println!("robot {} is in '{name}'", robot.serial);
    for line in std::io::stdin().lock().lines() {
        line?;
        let mut pose = robot.pose.lock(&robot)?.or_repair(|pose| pose.position = [0.0; 3]);
        pose.stamp += 1;
        pose.position[0] += 0.5;
        let (stamp, position) = (pose.stamp, pose.position);
        pose.unlock();
        robot.moved.notify_all();
        println!("{stamp} {position:?}");
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let name = std::env::args().nth(1).unwrap_or_else(|| "robot".into());
    match run(&name) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("state: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
