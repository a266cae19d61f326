//! Requests and answers: clients ask a server process, which is killed and started again. `cargo run --example service`.

use memlane::{Client, Name, RecvError, Server, ServiceOptions};
use std::process::{Child, Command};
use std::time::Duration;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        Some(name) => serve(&name),
        None => ask(),
    }
}

/// The server: sorts numbers in place, whatever process they come from.
fn serve(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let options = ServiceOptions::new().max_request(1 << 20).max_answer(1 << 20).clients(4);
    let mut server = Server::<[u64], [u64]>::open_or_create(name, &options)?;
    loop {
        let request = server.recv()?;
        if request.is_empty() {
            std::process::abort(); // as a kill would: the request is answered by whoever comes next
        }
        let mut answer = request.loan(request.len())?;
        answer.copy_from_slice(&request);
        answer.sort_unstable();
        answer.try_send()?;
    }
}

fn ask() -> Result<(), Box<dyn std::error::Error>> {
    let name = Name::unique("sorter")?;
    let start = || -> std::io::Result<Child> { Command::new(std::env::current_exe()?).arg(name.as_str()).spawn() };
    let mut server = start()?;
    let mut client = Client::<[u64], [u64]>::wait_for(&name, PATIENCE)?;

    // Several requests are under way at a time; each is filled in place.
    let mut calls = Vec::new();
    for count in [3_u64, 50_000] {
        let mut request = client.loan(count as usize)?;
        request.iter_mut().zip(1..).for_each(|(number, index)| *number = count - index);
        calls.push(client.call(request)?);
    }
    for call in calls {
        let answer = client.answer(call, PATIENCE)?; // in place, too
        println!("{} numbers sorted: {:?} ...", answer.len(), &answer[..3]);
    }

    let deadly = client.loan(0)?;
    let call = client.call(deadly)?;
    match client.answer(call, PATIENCE) {
        Err(error @ RecvError::SenderDied { .. }) => println!("{error}"),
        other => return Err(format!("the server was to die: {other:?}").into()),
    }
    server.wait()?;
    Ok(())
}
