//! Messages on their way: sent, and not processed yet by everybody who is to get them.

use crate::args::{Policy, Send};
use crate::channel::{Made, is_nameless, make};
use crate::failure::Failure;
use crate::numbers::add;
use crate::picture::Shape;
use crate::report::{Bytes, Once, Time, called, listed, tell};
use crate::stop::{GLANCE, Patience, stopped};
use memlane::{Handled, Loan, LockError, Name, Outcome, SendError, Sender, Shareable, Ticket, TicketError, Who};
use serde_json::json;
use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

/// After so long it is said who keeps everybody waiting.
const SLOW: Duration = Duration::from_secs(2);

/// What is sent, for people.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) file: String,
    pub(crate) shape: Option<Shape>,
    pub(crate) bytes: u64,
}

/// A message that was sent.
struct Sent {
    ticket: Ticket,
    item: Item,
    at: Instant,
}

/// A sender, and what it has sent.
pub(crate) struct Outbox<'a, T: Shareable + ?Sized> {
    sender: Sender<T>,
    name: Name,
    arguments: &'a Send,
    added: u64,
    kept: bool,
    /// The oldest first. Where messages are overwritten, only the last one is waited for.
    on_their_way: VecDeque<Sent>,
    /// When the next message may be sent.
    due: Instant,
    /// Who received when it was last looked.
    present: Vec<Who>,
    /// Whose deaths were told.
    mourned: Vec<Who>,
    /// Says that nobody receives.
    waiting: Once,
    /// Says who is slow.
    slow: Once,
}

impl<'a, T: Shareable + ?Sized> Outbox<'a, T> {
    /// Makes the channel, for messages of up to `max_message` bytes, and waits for its receivers.
    pub(crate) fn open(arguments: &'a Send, max_message: u64) -> Result<Self, Failure> {
        let name = Name::new(&arguments.name)?;
        let Made { sender, added, kept } = make(&name, arguments, arguments.max_message.unwrap_or(0).max(max_message))?;
        let mut outbox = Self {
            sender,
            name,
            arguments,
            added,
            kept,
            on_their_way: VecDeque::new(),
            due: Instant::now(),
            present: Vec::new(),
            mourned: Vec::new(),
            waiting: Once::new(),
            slow: Once::new(),
        };
        outbox.wait_for_receivers()?;
        Ok(outbox)
    }

    fn wait_for_receivers(&mut self) -> Result<(), Failure> {
        let (count, patience) = (self.arguments.receivers, Patience::new(self.arguments.timeout));
        loop {
            match self.sender.wait_for_receivers(count.into(), Some(patience.piece())) {
                Ok(()) => break,
                Err(SendError::TooFew { who, .. }) if !who.is_empty() && patience.is_over() && !stopped() => {
                    return Err(Failure::timed_out(format!(
                        "only {} of {count} receivers of '{}' came in time, {}: start more, or wait longer",
                        who.len(),
                        self.name,
                        listed(&who)
                    )));
                }
                Err(SendError::TooFew { .. }) => self.go_on(patience, &[], "")?,
                Err(error) => return Err(self.failure(error)),
            }
        }
        self.look_around();
        Ok(())
    }

    pub(crate) fn sender(&self) -> &Sender<T> {
        &self.sender
    }

    /// Sends a message when it is due and there is room; says so of earlier ones that were processed meanwhile.
    pub(crate) fn send(&mut self, mut loan: Loan<T>, item: Item) -> Result<(), Failure> {
        add(self.added, &mut loan)?;
        self.wait_until_due()?;
        let newest = self.arguments.policy == Policy::Newest;
        // Before the window is full: what became of a message is not known for longer.
        while !newest && self.on_their_way.len() >= usize::from(self.arguments.slots) {
            self.settle_first()?;
        }
        let at = Instant::now();
        let sent = Sent { ticket: self.commit(loan, &item)?, item, at };
        if newest {
            self.report(&sent, None)?;
            self.on_their_way.clear();
        }
        self.on_their_way.push_back(sent);
        self.settle_ready()
    }

    fn wait_until_due(&mut self) -> Result<(), Failure> {
        let Some(period) = self.arguments.rate else { return Ok(()) };
        loop {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.check_stopped()?;
            if self.on_their_way.is_empty() {
                std::thread::sleep(left.min(GLANCE));
            } else {
                self.look(left.min(GLANCE))?;
            }
        }
        // Who is late does not make up for it in a burst.
        self.due = (self.due + period).max(Instant::now());
        Ok(())
    }

    fn commit(&mut self, mut loan: Loan<T>, item: &Item) -> Result<Ticket, Failure> {
        let patience = Patience::new(self.arguments.timeout);
        loop {
            let unsent = match loan.send_timeout(patience.piece()) {
                Ok(ticket) => return Ok(ticket),
                Err(unsent) => unsent,
            };
            match unsent.error() {
                SendError::Full { slowest, .. } => self.go_on(patience, slowest.as_slice(), &item.file)?,
                SendError::NoReceiver { .. } => self.go_on(patience, &[], &item.file)?,
                _ => return Err(self.failure(unsent.into())),
            }
            loan = unsent.into_loan();
        }
    }

    /// Says so of all messages that were processed by now.
    pub(crate) fn settle_ready(&mut self) -> Result<(), Failure> {
        self.check_stopped()?;
        while !self.on_their_way.is_empty() && self.look(Duration::ZERO)?.is_none() {}
        Ok(())
    }

    /// Waits until all messages were processed.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        while !self.on_their_way.is_empty() {
            self.settle_first()?;
        }
        Ok(())
    }

    fn settle_first(&mut self) -> Result<(), Failure> {
        let patience = Patience::new(self.arguments.timeout);
        while let Some(missing) = self.look(patience.piece())? {
            let file = self.on_their_way.front().map_or(String::new(), |sent| sent.item.file.clone());
            self.go_on(patience, &missing, &file)?;
        }
        Ok(())
    }

    /// Waits a piece for the oldest message to be processed. If it was, says so; if not, gives who keeps it.
    fn look(&mut self, piece: Duration) -> Result<Option<Vec<Who>>, Failure> {
        let Some(mut sent) = self.on_their_way.pop_front() else { return Ok(None) };
        let newest = self.arguments.policy == Policy::Newest;
        let missing = match sent.ticket.wait(Some(piece)) {
            Ok(handled) => {
                self.mourn(&handled, &sent);
                // Those it was sent to have all let go of it. If none of them has processed it, a successor is to.
                let processed = if newest { Ok(()) } else { sent.ticket.wait_processed(Some(piece)) };
                sent.ticket = sent.ticket.renewed();
                processed
            }
            Err(error) => Err(error),
        };
        match missing {
            Ok(()) if newest => Ok(None),
            Ok(()) => self.report(&sent, Some(sent.at.elapsed())).map(|()| None),
            Err(TicketError::TimedOut { who, .. }) => {
                self.look_around();
                self.on_their_way.push_front(sent);
                Ok(Some(who))
            }
            Err(TicketError::Unusable(error)) => Err(self.unusable(error)),
            Err(error) => Err(error.into()),
        }
    }

    fn look_around(&mut self) {
        self.present = self.sender.receivers().into_iter().filter_map(|info| info.who).collect();
    }

    /// Says of each receiver that died, or left, over a message that nobody else has processed who it was, once.
    fn mourn(&mut self, handled: &[Handled], sent: &Sent) {
        let processed = sent.ticket.is_processed();
        for Handled { who, outcome, .. } in handled {
            let how = match outcome {
                Outcome::Died => "died",
                Outcome::Unknown if !processed => "left",
                _ => continue,
            };
            // A successor may have its place by now: then it is one of those who are not there any more.
            let who = who.clone().or_else(|| {
                let now = self.sender.receivers();
                self.present.iter().find(|who| !now.iter().any(|info| info.who.as_ref() == Some(who))).cloned()
            });
            if who.as_ref().map_or(!self.mourned.is_empty(), |who| self.mourned.contains(who)) {
                continue;
            }
            let then = if processed { "others have processed it" } else { "offering it again" };
            self.mourned.extend(who.clone());
            let who = called(who, "a receiver");
            tell(format!("{who} {how} before it had processed '{}'; {then}", sent.item.file));
        }
    }

    fn check_stopped(&self) -> Result<(), Failure> {
        if stopped() {
            let name = &self.name;
            return Err(Failure::failed(format!("interrupted: not every message sent to '{name}' was processed")));
        }
        Ok(())
    }

    /// After a piece of waiting for `missing`, or for anybody to come if it is empty: whether to go on with it.
    fn go_on(&mut self, patience: Patience, missing: &[Who], file: &str) -> Result<(), Failure> {
        self.check_stopped()?;
        let name = &self.name;
        if missing.is_empty() && is_nameless(name, self.sender.id()) {
            return Err(Failure::failed(format!("'{name}' was removed, so nobody can come: send again")));
        }
        let raw = if self.arguments.raw { " --raw" } else { "" };
        let receiver = format!("`memlane recv {name}{raw}`");
        let who = listed(missing);
        if patience.is_over() {
            return Err(Failure::timed_out(if missing.is_empty() {
                format!("nobody received from '{name}' in time: start {receiver}")
            } else {
                format!("{who} has not processed '{file}' in time: look at that process, or wait longer")
            }));
        }
        if missing.is_empty() {
            self.waiting.tell(format_args!("waiting for {receiver} (Ctrl-C ends)"));
        } else if patience.waited() > SLOW {
            self.slow.tell(format_args!("waiting for {who} to process '{file}' (Ctrl-C ends)"));
        }
        Ok(())
    }

    fn failure(&self, error: SendError) -> Failure {
        match error {
            SendError::Unusable(error) => self.unusable(error),
            error => error.into(),
        }
    }

    fn unusable(&self, error: LockError) -> Failure {
        let name = &self.name;
        match error {
            LockError::Retired { .. } => {
                Failure::failed(format!("'{name}' was removed by force: send again to make it anew"))
            }
            error => Failure::failed(error),
        }
    }

    /// Prints that a message was processed, after so long, or sent, where nobody waits for that.
    fn report(&self, sent: &Sent, processed: Option<Duration>) -> Result<(), Failure> {
        let (sequence, item) = (sent.ticket.sequence().wrapping_add(self.added), &sent.item);
        let mut out = std::io::stdout().lock();
        if self.arguments.json {
            let processed = processed.map(|time| time.as_nanos() as u64);
            let mut line =
                json!({ "sequence": sequence, "file": item.file, "bytes": item.bytes, "processed_ns": processed });
            if let (Some(shape), Some(line)) = (item.shape, line.as_object_mut()) {
                line.extend(shape.fields());
            }
            return Ok(writeln!(out, "{line}")?);
        }
        let shape = item.shape.map_or(String::new(), |shape| format!("  {shape}"));
        let how = processed.map_or("sent".into(), |time| format!("processed after {}", Time(time)));
        Ok(writeln!(out, "{sequence:06}  {}{shape}  {}  {how}", item.file, Bytes(item.bytes))?)
    }
}

impl<T: Shareable + ?Sized> Drop for Outbox<'_, T> {
    /// What was sent is still received by those who are there, but nobody finds it any more.
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.sender.remove_name();
        }
    }
}
