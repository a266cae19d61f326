//! Channels as both commands meet them: made, taken over, gone, or of another type.

use crate::args::{Policy, Send};
use crate::failure::Failure;
use crate::numbers::added_in;
use crate::report::{Bytes, tell};
use memlane::{
    ChannelInfo, ChannelOptions, Error, Name, Observer, Origin, Persistence, Sender, Shareable, SharedMemory,
};

/// Whether the name leads elsewhere by now: then nobody can come to take the place of who is gone.
pub(crate) fn is_nameless(name: &Name, id: u128) -> bool {
    match SharedMemory::open(name) {
        Ok(object) => object.id() != id,
        Err(error) => matches!(error, Error::NotFound { .. }),
    }
}

/// Says of a channel of another type how to use it.
pub(crate) fn refused(name: &Name, error: Error) -> Failure {
    let carries = || Some(Observer::open(name).ok()?.look().ok()?.message_type);
    match error {
        Error::TypeMismatch { .. } => match carries().as_deref() {
            Some("bytes") => Failure::failed(format!("'{name}' carries raw bytes, no images: use --raw")),
            Some(kind) if kind.ends_with("Image") => {
                Failure::failed(format!("'{name}' carries images, no raw bytes: leave --raw out"))
            }
            _ => error.into(),
        },
        error => error.into(),
    }
}

/// A channel to send to.
pub(crate) struct Made<T: Shareable + ?Sized> {
    pub(crate) sender: Sender<T>,
    /// What is added to its numbers.
    pub(crate) added: u64,
    /// Whether it is to stay when its sender has ended.
    pub(crate) kept: bool,
}

/// Makes the channel, takes it over from a sender that was killed, or opens a kept one.
pub(crate) fn make<T: Shareable + ?Sized>(name: &Name, wanted: &Send, max_message: u64) -> Result<Made<T>, Failure> {
    loop {
        let before = Observer::open(name).and_then(|observer| Ok((observer.look()?, observer))).ok();
        let before = before.map(|(info, observer)| (added_in(&observer, info.sent[0]), info));
        let made = match Sender::create(name, &options(wanted, max_message, before.as_ref().map(|(_, info)| info))) {
            Err(Error::AlreadyExists { .. }) => Sender::open(name),
            made => made,
        };
        let sender = match made {
            Ok(sender) => sender,
            Err(Error::NotFound { .. }) => continue, // it went between the two
            Err(error) => return Err(not_made(name, wanted, error)),
        };
        let added = match (&before, sender.origin()) {
            (Some((added, info)), Origin::Created) if !info.receivers.is_empty() => added.wrapping_add(info.sent[0]),
            (Some((added, _)), Origin::TakenOver | Origin::Opened) => *added,
            _ => 0,
        };
        match sender.origin() {
            Origin::Created => {}
            Origin::TakenOver => {
                tell(format!("took '{name}' over from a sender that was killed"));
                if wanted.keep && SharedMemory::open(name).is_ok_and(|it| it.persistence() != Persistence::Keep) {
                    tell(format!("'{name}' was made without --keep: it goes with its last user all the same"));
                }
            }
            Origin::Opened => check_options(name, wanted, max_message)?,
        }
        let kept = wanted.keep || sender.origin() == Origin::Opened;
        return Ok(Made { sender, added, kept });
    }
}

fn policy(wanted: &Send) -> memlane::Policy {
    match wanted.policy {
        Policy::Lossless => memlane::Policy::Lossless,
        Policy::Newest => memlane::Policy::Newest,
        Policy::Queue => memlane::Policy::Queue,
    }
}

fn room(wanted: &Send) -> u16 {
    wanted.room.unwrap_or((wanted.receivers + 1).min(127)).max(wanted.receivers)
}

/// How the channel is to be: with as much room as one has that is to be taken over, if that is enough.
fn options(wanted: &Send, max_message: u64, before: Option<&ChannelInfo>) -> ChannelOptions {
    let enough = before.filter(|info| !info.receivers.is_empty()).map_or(0, |info| info.max_message);
    let persistence = if wanted.keep { Persistence::Keep } else { Persistence::UntilLastUser };
    ChannelOptions::new()
        .max_message(max_message.max(enough))
        .slots(wanted.slots)
        .receivers(room(wanted))
        .claims(2)
        .loans(1)
        .policy(policy(wanted))
        .persistence(persistence)
}

/// A channel that is there keeps its options; who wants others is told.
fn check_options(name: &Name, wanted: &Send, max_message: u64) -> Result<(), Failure> {
    let info = Observer::open(name)?.look()?;
    let same = info.policy == policy(wanted)
        && info.slots == u64::from(wanted.slots)
        && info.max_receivers == usize::from(room(wanted))
        && info.max_message >= max_message;
    if same {
        return Ok(());
    }
    let (policy, most) = (format!("{:?}", info.policy).to_lowercase(), Bytes(info.max_message));
    Err(Failure::failed(format!(
        "'{name}' is there with other options, --policy {policy} --slots {} --room {}, and room for messages of {most}: \
         send with these, or remove it first with `memlane rm {name}`",
        info.slots, info.max_receivers
    )))
}

fn not_made(name: &Name, wanted: &Send, error: Error) -> Failure {
    match error {
        Error::NoRoom { who, .. } => {
            let who = who.first().map_or("another process".into(), ToString::to_string);
            Failure::failed(format!("{who} sends to '{name}' already: wait until it is done, or end it"))
        }
        Error::NoSpace { .. } if wanted.slots > 1 || room(wanted) > 1 => {
            Failure::failed(format!("{error}; or ask for the least with `--slots 1 --room 1`"))
        }
        error => refused(name, error),
    }
}
