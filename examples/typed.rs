//! Messages with a type of your own and a flexible tail, which two programs must agree on. `cargo run --example typed`.

use memlane::{ChannelOptions, Error, Name, Receiver, Sender, Shareable};
use std::process::Command;
use std::time::Duration;

#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
struct Point {
    x: f32,
    y: f32,
    z: f32,
}

/// What a lidar sees in one turn: as many points as there are.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Cloud {
    turn: u64,
    points: [Point],
}

/// What a program thinks that was built from an older definition.
#[derive(Debug, Shareable)]
#[repr(C)]
struct OldCloud {
    turn: u32,
    points: [Point],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        Some(name) => receive(&name),
        None => send(),
    }
}

fn send() -> Result<(), Box<dyn std::error::Error>> {
    let name = Name::unique("lidar")?;
    let lidar = Sender::<Cloud>::create(&name, &ChannelOptions::new().max_message(1 << 20))?;
    let mut other = Command::new(std::env::current_exe()?).arg(name.as_str()).spawn()?;
    lidar.wait_for_receivers(1, Some(Duration::from_secs(10)))?;
    for turn in 1..=3 {
        let mut cloud = lidar.loan(80_000)?; // room for as many points as there may be
        let seen = 10_000 * turn;
        cloud.turn = turn as u64;
        for (index, point) in cloud.points[..seen].iter_mut().enumerate() {
            *point = Point { x: index as f32, y: 1.0, z: 0.5 };
        }
        cloud.shrink(seen)?; // and as many as there are
        cloud.send()?;
    }
    drop(lidar);
    assert!(other.wait()?.success());
    Ok(())
}

fn receive(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    match Receiver::<OldCloud>::open(name) {
        Err(error @ Error::TypeMismatch { .. }) => println!("{error}"),
        other => return Err(format!("an old definition must not fit: {other:?}").into()),
    }
    let mut lidar = Receiver::<Cloud>::open(name)?;
    for cloud in &mut lidar {
        let cloud = cloud?;
        println!("turn {}: {} points, the last at {:?}", cloud.turn, cloud.points.len(), cloud.points.last());
    }
    Ok(())
}
