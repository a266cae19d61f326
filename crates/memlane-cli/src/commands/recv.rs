//! `memlane recv`.

use crate::args::Recv;
use crate::failure::Failure;
use crate::handoff::{Event, Image, Patience, Receiver};
use crate::picture::write_png;
use crate::report::{Bytes, Counted, called, tell};
use memlane::Name;
use serde_json::json;
use std::io::Write;

pub(crate) fn run(arguments: &Recv) -> Result<(), Failure> {
    let name = Name::new(&arguments.name)?;
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::failed(format!("cannot make the folder '{}': {error}", folder.display())))?;
    }
    let mut received = 0;
    let mut patience = Patience::new(arguments.timeout);
    'object: loop {
        let mut receiver = match Receiver::attach(&name, patience)? {
            Ok(receiver) => receiver,
            Err(event) => return end(&name, &event, received),
        };
        loop {
            match receiver.wait(patience)? {
                Event::There => {}
                Event::Done => return Ok(()),
                Event::Retired => {
                    tell(format!("'{name}' was replaced or removed; waiting for it again"));
                    continue 'object;
                }
                Event::Lost(who) => {
                    let who = called(who, "the sender");
                    tell(format!("{who}, which sent to '{name}', is dead; waiting for the next sender"));
                    continue;
                }
                event => return end(&name, &event, received),
            }
            let kept = receiver.receive(patience, |image| Ok((true, keep(arguments, &image)?)))?;
            let Some(line) = kept else { continue };
            writeln!(std::io::stdout(), "{line}")?;
            received += 1;
            if Some(received) == arguments.count {
                return Ok(());
            }
            patience = Patience::new(arguments.timeout);
        }
    }
}

/// Writes the image, if it is to be kept; gives the line that says so.
fn keep(arguments: &Recv, image: &Image<'_>) -> Result<String, Failure> {
    let Image { sequence, shape, pixels, .. } = image;
    let sender = image.sender();
    let file = format!("{sequence:06}.png");
    if let Some(folder) = &arguments.out {
        write_png(folder, &file, *shape, pixels)?;
    }
    let path = arguments.out.as_ref().map(|folder| folder.join(&file));
    Ok(if arguments.json {
        json!({
            "sequence": sequence, "file": path, "width": shape.width, "height": shape.height,
            "format": shape.format.to_string(), "bytes": pixels.len(), "sender": sender.as_ref().map(|who| who.pid),
        })
        .to_string()
    } else {
        let kept = path.map_or("not kept".into(), |path| path.display().to_string());
        let sender = called(sender, "a sender that is gone");
        format!("{sequence:06}  {kept}  {shape}  {}  from {sender}", Bytes(pixels.len() as u64))
    })
}

/// Ends because nothing more is to be had.
fn end(name: &Name, event: &Event, received: u64) -> Result<(), Failure> {
    let so_far = format!("{} received", Counted(received, "image"));
    match event {
        Event::TimedOut(Some(who)) => {
            Err(Failure::timed_out(format!("{who} sent no image to '{name}' in time, {so_far}: wait longer")))
        }
        Event::TimedOut(None) => Err(Failure::timed_out(format!(
            "nobody sent to '{name}' in time, {so_far}: start `memlane send {name} FILE`"
        ))),
        _ => {
            tell(format!("interrupted, {so_far}"));
            Ok(())
        }
    }
}
