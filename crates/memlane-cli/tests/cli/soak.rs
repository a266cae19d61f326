//! The real commands under random kills.

use crate::common::{Place, Running, names_in, same_pixels, wait_for};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nothing takes as long that does not hang.
const HANG: Duration = Duration::from_secs(10);

/// A sender and a receiver; whichever has ended is started again.
struct Pair<'a> {
    place: &'a Place,
    sender: Running,
    receiver: Running,
    /// When the sender last said that an image was processed.
    processed: Arc<Mutex<Instant>>,
}

impl<'a> Pair<'a> {
    fn new(place: &'a Place) -> Self {
        let processed = Arc::new(Mutex::new(Instant::now()));
        let sender = sender(place, &processed);
        Self { place, sender, receiver: receiver(place), processed }
    }

    fn keep_going(&mut self) {
        if !self.sender.is_running() {
            self.sender = sender(self.place, &self.processed);
        }
        if !self.receiver.is_running() {
            self.receiver = receiver(self.place);
        }
    }

    /// Waits until an image was processed after `moment`; gives the time from then to now.
    fn recover(&mut self, moment: Instant) -> Duration {
        wait_for("the next processed image", || {
            self.keep_going();
            let processed = *self.processed.lock().expect("no panic");
            (processed > moment).then(|| processed - moment)
        })
    }
}

fn sender(place: &Place, processed: &Arc<Mutex<Instant>>) -> Running {
    let mut sender = place.start(&[&["send", "cam"][..], &["a.png", "b.png"].repeat(20)].concat());
    let processed = Arc::clone(processed);
    sender.each_line(move |_| *processed.lock().expect("no panic") = Instant::now());
    sender
}

fn receiver(place: &Place) -> Running {
    let mut receiver = place.start(&["recv", "cam", "--out", "received"]);
    receiver.each_line(|_| ());
    receiver
}

#[test]
fn random_kills_of_sender_and_receiver_never_stop_the_images() {
    let kills: u64 = if std::env::var_os("MEMLANE_LONG").is_some_and(|value| value == "1") { 200 } else { 20 };
    let place = Place::new();
    let originals = ["a.png", "b.png"].map(|file| place.gray(file, 256, 256));
    let mut pair = Pair::new(&place);
    let mut longest = [Duration::ZERO; 2];
    for round in 0..kills {
        for (victim, longest) in longest.iter_mut().enumerate() {
            pair.keep_going();
            std::thread::sleep(Duration::from_micros((round * 7919 + victim as u64 * 104_729) % 20_000));
            let moment = Instant::now();
            if victim == 0 {
                pair.receiver.kill()
            } else {
                pair.sender.kill()
            }
            *longest = pair.recover(moment).max(*longest);
        }
    }
    drop(pair);
    place.run(&["gc"]).ok();
    let received = names_in(&place.folder().join("received"));
    let received: Vec<_> = received.iter().filter(|name| !name.starts_with('.')).collect();
    for name in &received {
        let file = place.folder().join("received").join(name);
        let whole = originals.iter().any(|original| same_pixels(&file, original));
        assert!(whole, "{name} is torn");
    }
    println!(
        "send and recv: {kills} receivers and {kills} senders killed, {} images whole, longest recovery {:?} and {:?}",
        received.len(),
        longest[0],
        longest[1]
    );
    assert!(longest.iter().all(|longest| *longest < HANG), "{longest:?}");
}
