//! The numbers of messages, which go on when a channel is replaced because the next messages need more room: so no
//! message is written over another in a receiver's folder.

use memlane::{Loan, Message, Observer, SendError, Shareable};

/// Says that the metadata of a message are a number, to be added to its own.
const AFTER: u64 = u64::from_be_bytes(*b"memlane+");

/// What a message says is to be added to the numbers of its channel.
fn added(schema_id: u64, metadata: &[u8]) -> u64 {
    metadata.try_into().ok().filter(|_| schema_id == AFTER).map_or(0, u64::from_le_bytes)
}

/// The number of a message that was received.
pub(crate) fn number_of<T: Shareable + ?Sized>(message: &Message<T>) -> u64 {
    message.sequence().wrapping_add(added(message.schema_id(), message.metadata()))
}

/// What is added to the numbers of a channel, of which `sent` messages were sent.
pub(crate) fn added_in(observer: &Observer, sent: u64) -> u64 {
    let last = observer.copy(0, sent, 0).ok().flatten();
    last.map_or(0, |last| added(last.schema_id, &last.metadata))
}

/// Says in a message what is to be added to the numbers of its channel.
pub(crate) fn add<T: Shareable + ?Sized>(number: u64, loan: &mut Loan<T>) -> Result<(), SendError> {
    if number == 0 {
        return Ok(());
    }
    loan.set_schema_id(AFTER)?;
    loan.set_metadata(&number.to_le_bytes())
}
