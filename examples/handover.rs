//! Two processes that have nothing in common but a Unix socket: `cargo run --example handover -- send PATH`, and the same
//! with `receive`; PATH is where the socket is. docs/CONTAINERS.md runs them in two containers.

use memlane::{ChannelOptions, Name, Receiver, Sender};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

const PATIENCE: Duration = Duration::from_secs(5);

/// Gives a channel without a name to the first who comes, and sends three messages.
fn send(path: &str) -> Result<(), Failure> {
    let listener = UnixListener::bind(path)?;
    let frames = Sender::<[u8]>::create(Name::anonymous("frames")?, &ChannelOptions::new().max_message(1 << 20))?;
    let (socket, _) = listener.accept()?;
    frames.send_over(&socket)?;
    frames.wait_for_receivers(1, Some(PATIENCE))?;
    for brightness in [64, 128, 255] {
        let mut frame = frames.loan(1 << 20)?; // in memory that both have mapped
        frame.fill(brightness);
        for receiver in frame.send()?.wait(Some(PATIENCE))? {
            println!("{:?}", receiver.outcome);
        }
    }
    Ok(())
}

fn receive(path: &str) -> Result<(), Failure> {
    let socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut frames = Receiver::<[u8]>::open(Name::receive_from(&socket)?)?;
    for frame in &mut frames {
        let frame = frame?;
        println!("frame {}: {} bytes of {}", frame.sequence(), frame.len(), frame[0]);
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [role, path] if role == "send" => send(path),
        [role, path] if role == "receive" => receive(path),
        _ => Err("say `send PATH` or `receive PATH`".into()),
    }
}
