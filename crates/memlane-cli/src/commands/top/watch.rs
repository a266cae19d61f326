//! What there is to show: everything in the directory, looked at again and again, and what has changed meanwhile.

use memlane::{ChannelInfo, Error, HeldLock, Listed, Observer, ReceiverInfo, held_locks};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Rates are over this time, or over the last two looks if they are further apart.
const WINDOW: Duration = Duration::from_secs(1);
/// For how long a channel that has vanished is still shown.
const MEMORY: Duration = Duration::from_secs(5);

/// All that was seen in one look.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) channels: Vec<Channel>,
    /// The locks that are held, each with the name of its object.
    pub(super) locks: Vec<(String, HeldLock)>,
}

/// A channel, or a damaged object, which may be one.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    pub(super) name: String,
    pub(super) state: State,
    /// What it is like, if it can be read; of one that is gone what was seen last.
    pub(super) info: Option<ChannelInfo>,
    /// Messages per second, of all senders.
    pub(super) rate: Option<f64>,
    /// Of each receiver, whether its lag grows.
    pub(super) growing: Vec<bool>,
}

/// How a channel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    InUse,
    /// Nobody uses it, and it is to stay.
    Kept,
    /// Nobody uses it, and `gc` will remove it.
    Stale,
    Gone,
    /// It cannot be read, for this reason.
    Damaged(String),
}

/// What was seen of a channel lately.
struct History {
    id: u128,
    looks: VecDeque<(Instant, ChannelInfo)>,
    last: Channel,
}

/// Looks again and again.
#[derive(Default)]
pub(super) struct Watch {
    channels: BTreeMap<String, History>,
}

impl Watch {
    /// Looks at everything once more.
    pub(super) fn look(&mut self) -> Result<Snapshot, Error> {
        let now = Instant::now();
        let mut snapshot = Snapshot::default();
        for object in memlane::list(None)?.iter().filter(|object| !object.foreign) {
            match (&object.problem, object.type_name.as_deref()) {
                (Some(problem), _) => snapshot.channels.push(damaged(&object.name, problem.clone())),
                (None, Some("channel" | "service")) => snapshot.channels.extend(self.look_at(object, now)),
                (None, Some(_)) => {
                    // Whatever keeps a look at its locks from succeeding, the next one will tell.
                    let held = held_locks(object.name.as_str()).unwrap_or_default();
                    snapshot.locks.extend(held.into_iter().map(|lock| (object.name.clone(), lock)));
                }
                (None, None) => {}
            }
        }
        self.recall(&mut snapshot, now);
        Ok(snapshot)
    }

    /// `None` if it has vanished meanwhile.
    fn look_at(&mut self, object: &Listed, now: Instant) -> Option<Channel> {
        let looked = Observer::open(object.name.as_str()).and_then(|it| Ok((it.id(), it.look()?)));
        let (id, info) = match looked {
            Ok(looked) => looked,
            Err(Error::NotFound { .. }) => return None,
            Err(error) => return Some(damaged(&object.name, error.to_string())),
        };
        let state = match object {
            Listed { stale: true, .. } => State::Stale,
            Listed { in_use: false, .. } => State::Kept,
            _ => State::InUse,
        };
        let history = self.channels.remove(&object.name).filter(|history| history.id == id);
        let mut looks = history.map_or_else(VecDeque::new, |history| history.looks);
        looks.push_back((now, info.clone()));
        while looks.len() > 2 && now.duration_since(looks[1].0) >= WINDOW {
            looks.pop_front();
        }
        let growing = (0..info.receivers.len()).map(|index| grows(&looks, &info.receivers, index)).collect();
        let last = Channel { name: object.name.clone(), state, rate: rate(&looks), growing, info: Some(info) };
        self.channels.insert(object.name.clone(), History { id, looks, last: last.clone() });
        Some(last)
    }

    /// Adds channels that have vanished lately, and forgets those that vanished long ago.
    fn recall(&mut self, snapshot: &mut Snapshot, now: Instant) {
        self.channels.retain(|name, History { looks, last, .. }| {
            if snapshot.channels.iter().any(|channel| channel.name == *name) {
                return true;
            }
            let growing = vec![false; last.growing.len()];
            snapshot.channels.push(Channel { state: State::Gone, rate: None, growing, ..last.clone() });
            looks.back().is_some_and(|(seen, _)| now.duration_since(*seen) < MEMORY)
        });
        snapshot.channels.sort_by(|one, other| one.name.cmp(&other.name));
    }
}

fn damaged(name: &str, problem: String) -> Channel {
    Channel { name: name.into(), state: State::Damaged(problem), info: None, rate: None, growing: Vec::new() }
}

/// Messages per second between the first and the last look.
fn rate(looks: &VecDeque<(Instant, ChannelInfo)>) -> Option<f64> {
    let ((start, first), (end, last)) = (looks.front()?, looks.back()?);
    let sent = |info: &ChannelInfo| info.sent.iter().fold(0_u64, |all, sent| all.saturating_add(*sent));
    let seconds = end.duration_since(*start).as_secs_f64();
    (seconds > 0.0).then(|| sent(last).saturating_sub(sent(first)) as f64 / seconds)
}

/// Whether the lag of a receiver grows from look to look. One message behind is how every receiver lives.
fn grows(looks: &VecDeque<(Instant, ChannelInfo)>, receivers: &[ReceiverInfo], index: usize) -> bool {
    let pid = |receiver: &ReceiverInfo| receiver.who.as_ref().map(|who| who.pid);
    let own = pid(&receivers[index]);
    // A process may receive several times.
    let nth = receivers[..index].iter().filter(|receiver| pid(receiver) == own).count();
    let lag = |(_, info): &(Instant, ChannelInfo)| {
        info.receivers.iter().filter(|receiver| pid(receiver) == own).nth(nth).map(|receiver| receiver.lag)
    };
    has_grown(&looks.iter().filter_map(lag).collect::<Vec<_>>())
}

fn has_grown(lags: &[u64]) -> bool {
    let (first, last) = (lags.first(), lags.last());
    lags.is_sorted() && first < last && last > Some(&1)
}

#[cfg(test)]
mod tests {
    use super::has_grown;

    #[test]
    fn a_lag_grows_if_it_never_shrinks_and_is_more_than_one() {
        assert!(has_grown(&[0, 2]) && has_grown(&[1, 1, 2]) && has_grown(&[5, 6]));
        assert!(!has_grown(&[]) && !has_grown(&[9]) && !has_grown(&[3, 3]));
        assert!(!has_grown(&[0, 1]), "it will be received");
        assert!(!has_grown(&[4, 0, 5]), "it keeps up");
    }
}
