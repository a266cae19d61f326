//! What comes by a channel, from one sender after the other.

use crate::args::Recv;
use crate::channel::{is_nameless, refused};
use crate::failure::Failure;
use crate::report::{Counted, Once, called, listed, tell};
use crate::stop::{Patience, stopped};
use memlane::{Error, LockError, Message, Name, Observer, Receiver, RecvError, Shareable, Who};

/// A receiver that finds the channel again when it was replaced.
pub(crate) struct Inbox<'a, T: Shareable + ?Sized> {
    receiver: Option<Receiver<T>>,
    name: Name,
    arguments: &'a Recv,
    received: u64,
    /// Somebody has sent, or was there to send: the end of that one ends it all.
    greeted: bool,
    /// Nobody sends at present, and everything was received.
    alone: bool,
    waiting: Once,
}

impl<'a, T: Shareable + ?Sized> Inbox<'a, T> {
    pub(crate) fn new(arguments: &'a Recv) -> Result<Self, Failure> {
        let name = Name::new(&arguments.name)?;
        let waiting = Once::new();
        Ok(Self { receiver: None, name, arguments, received: 0, greeted: false, alone: false, waiting })
    }

    /// How many messages came.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whoever sends in a lane, if it still does.
    pub(crate) fn sender_in(&self, lane: usize) -> Option<Who> {
        let senders = self.receiver.as_ref()?.senders();
        senders.into_iter().find(|info| info.lane == lane)?.who
    }

    /// The next message; `None` if the sender is done, or this process is to end.
    pub(crate) fn next(&mut self) -> Result<Option<Message<T>>, Failure> {
        let patience = Patience::new(self.arguments.timeout);
        loop {
            let Some(receiver) = &mut self.receiver else {
                if !self.attach(patience)? && self.is_over(patience, &[])? {
                    return Ok(None);
                }
                continue;
            };
            let result = match self.alone {
                true => receiver.wait_for_sender(Some(patience.piece())).map(|()| None),
                false => receiver.recv_timeout(patience.piece()).map(Some),
            };
            match result {
                Ok(None) => (self.greeted, self.alone) = (true, false),
                Ok(message) => return Ok(self.count(message)),
                Err(RecvError::Closed { .. }) if self.greeted => return Ok(None),
                Err(RecvError::Closed { .. }) => self.alone = true,
                Err(RecvError::SenderDied { sender, .. }) => {
                    let who = called(sender, "the sender");
                    tell(format!("{who}, which sent to '{}', is dead; waiting for the next sender", self.name));
                    self.alone = true;
                }
                Err(RecvError::TimedOut { senders, .. }) => {
                    let nameless = self.alone && is_nameless(&self.name, receiver.id());
                    // A sender may have come and gone meanwhile.
                    if self.alone
                        && let Ok(Some(message)) = receiver.try_recv()
                    {
                        return Ok(self.count(Some(message)));
                    }
                    if nameless {
                        self.let_go();
                    }
                    if self.is_over(patience, &senders)? {
                        return Ok(None);
                    }
                }
                Err(RecvError::Unusable(LockError::Retired { .. })) => self.let_go(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn count(&mut self, message: Option<Message<T>>) -> Option<Message<T>> {
        (self.greeted, self.alone) = (true, false);
        self.received += u64::from(message.is_some());
        message
    }

    /// Waits a piece for the channel; whether it is there.
    fn attach(&mut self, patience: Patience) -> Result<bool, Failure> {
        let name = &self.name;
        let before = Observer::open(name).and_then(|observer| Ok((observer.id(), observer.look()?)));
        let receiver = match Receiver::wait_for(name, Some(patience.piece())) {
            // The directory was not to be had within the piece; it is given the time that everybody gives it.
            Err(Error::Busy { .. }) => Receiver::open(name),
            result => result,
        };
        let receiver = match receiver {
            Ok(receiver) => receiver,
            Err(Error::TimedOut { .. } | Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.not_attached(error)),
        };
        // A channel has a sender from the start: if it is new, or had one just now, that one may have ended already.
        let idle = before.is_ok_and(|(id, info)| id == receiver.id() && info.senders.is_empty());
        (self.greeted, self.alone) = (!idle || !receiver.senders().is_empty(), false);
        self.receiver = Some(receiver);
        Ok(true)
    }

    fn not_attached(&self, error: Error) -> Failure {
        let name = &self.name;
        let Error::NoRoom { who, limit, .. } = error else { return refused(name, error) };
        let (verb, end) = if limit == 1 { ("receives", "end it") } else { ("receive", "end one of them") };
        Failure::failed(format!(
            "{} {verb} from '{name}' already, and there is room for no more: {end}, or send with `--room {}`",
            listed(&who),
            limit + 1
        ))
    }

    fn let_go(&mut self) {
        tell(format!("'{}' was replaced or removed; waiting for it again", self.name));
        self.receiver = None;
    }

    /// After a piece of waiting for `senders`: whether this process was told to end. That time is over is an error.
    fn is_over(&mut self, patience: Patience, senders: &[Who]) -> Result<bool, Failure> {
        let (name, so_far) = (&self.name, format!("{} received", Counted(self.received, self.what())));
        if stopped() {
            tell(format!("interrupted, {so_far}"));
            return Ok(true);
        }
        match (senders, patience.is_over()) {
            ([], false) => {
                self.waiting.tell(format_args!("waiting for `{}` (Ctrl-C ends)", counterpart(name, self.arguments)));
            }
            (_, false) => {}
            ([], true) => {
                let sender = counterpart(name, self.arguments);
                return Err(Failure::timed_out(format!("nobody sent to '{name}' in time, {so_far}: start `{sender}`")));
            }
            (who, true) => {
                let (who, what) = (listed(who), self.what());
                return Err(Failure::timed_out(format!(
                    "{who} sent no {what} to '{name}' in time, {so_far}: wait longer"
                )));
            }
        }
        Ok(false)
    }

    fn what(&self) -> &'static str {
        if self.arguments.raw { "message" } else { "image" }
    }
}

/// The command that sends what this one is to receive.
fn counterpart(name: &Name, arguments: &Recv) -> String {
    format!("memlane send {name} FILE{}", if arguments.raw { " --raw" } else { "" })
}
