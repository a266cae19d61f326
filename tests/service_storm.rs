//! The storm over services: a server and its clients are killed at any time. No request or answer is torn, every answer
//! belongs to its request, every request of a client that lives is answered, once; and when all are gone, every place and
//! every buffer can be used, and nothing is left.
//!
//! `MEMLANE_LONG=1` makes it longer.
#![allow(missing_docs, unreachable_pub)]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Child, Dir, HANG, hear, role, say, spawn, times};
use memlane::{Client, Loan, RecvError, Request, SendError, Server, ServiceOptions};
use random::Random;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

type Bytes = [u8];

const CLIENTS: usize = 3;
/// Small, so that a window is soon full.
const SLOTS: usize = 2;
const CLAIMS: usize = 2;
const LOANS: usize = 1;
/// The longest request and answer.
const MOST: usize = 4096;

fn options() -> ServiceOptions {
    let options = ServiceOptions::new().slots(SLOTS as u16).clients(CLIENTS as u16).claims(CLAIMS as u16);
    options.loans(LOANS as u16).max_request(MOST as u64).max_answer(MOST as u64)
}

/// Whoever has the first 16 bytes knows the others.
fn fill(bytes: &mut Bytes, number: u128) {
    let number = number.to_ne_bytes();
    bytes
        .iter_mut()
        .zip(number.iter().cycle())
        .enumerate()
        .for_each(|(at, (byte, of))| *byte = of.wrapping_add(at as u8));
}

fn number_of(bytes: &Bytes) -> u128 {
    let mut number = [0; 16];
    number.iter_mut().zip(bytes).enumerate().for_each(|(at, (byte, of))| *byte = of.wrapping_sub(at as u8));
    u128::from_ne_bytes(number)
}

fn assert_whole(bytes: &Bytes, number: u128) {
    let mut whole = vec![0; bytes.len()];
    fill(&mut whole, number);
    assert!(bytes == whole, "torn, or another's");
}

#[test]
#[ignore = "a child process of the other test"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let mut random = Random::from_seed(arguments[0].parse().expect("a number"));
    match role.as_str() {
        "serve" => {
            // Goes with its parent.
            std::thread::spawn(|| {
                while hear().is_some() {}
                std::process::exit(0);
            });
            serve(&mut random);
        }
        "ask" => ask(&mut random),
        other => panic!("no role {other}"),
    }
}

/// Answers all that comes, sometimes two requests in the other order.
fn serve(random: &mut Random) {
    let mut server = Server::<Bytes, Bytes>::open_or_create("srv", &options()).expect("there is no other");
    say("here");
    loop {
        let first = server.recv().expect("a request");
        if random.below(3) == 0 {
            server.try_recv().expect("nothing is wrong").iter().for_each(answer);
        }
        answer(&first);
    }
}

fn answer(request: &Request<Bytes, Bytes>) {
    let number = number_of(request);
    assert_whole(request, number);
    let sent = request.loan(request.len()).and_then(|mut loan: Loan| {
        fill(&mut loan, !number);
        Ok(loan.send()?)
    });
    assert!(matches!(sent, Ok(_) | Err(SendError::NoReceiver { .. })), "{sent:?}");
}

static END: AtomicBool = AtomicBool::new(false);

/// Asks until it is told to end; then it says how often it was answered, and how long it took at most.
fn ask(random: &mut Random) {
    let mut client = Client::<Bytes, Bytes>::wait_for("srv", Some(HANG)).expect("there is room");
    say("here");
    std::thread::spawn(|| {
        hear();
        END.store(true, Relaxed);
    });
    let (mut answers, mut longest) = (0_u64, Duration::ZERO);
    while !END.load(Relaxed) {
        let asked = Instant::now();
        let mut calls = Vec::new();
        for _ in 0..=random.below(SLOTS as u64) {
            let (number, len) = (u128::from(random.next()) << 64 | u128::from(random.next()), 16 << random.below(9));
            // Its server may die; the next one makes room.
            let call = loop {
                let mut request = client.loan(len).expect("a buffer");
                fill(&mut request, number);
                match client.call(request) {
                    Ok(call) => break call,
                    Err(SendError::NoReceiver { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            calls.push((call, number, len));
        }
        while !calls.is_empty() {
            let (call, number, len) = calls.swap_remove(random.below(calls.len() as u64) as usize);
            let answer = loop {
                match client.answer(call, Some(HANG)) {
                    Ok(answer) => break answer,
                    Err(RecvError::SenderDied { .. } | RecvError::Closed { .. }) => {
                        client.wait_for_server(Some(HANG)).expect("a successor");
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            assert_whole(&answer, !number);
            assert_eq!(answer.len(), len);
            answers += 1;
        }
        longest = longest.max(asked.elapsed());
    }
    say(&format!("{answers} {}", longest.as_millis()));
}

fn start(dir: &Dir, role: &str, seed: u64) -> Child {
    let mut child = spawn(dir.path(), role, &[&seed.to_string()]);
    child.expect("here");
    child
}

#[test]
fn every_answer_belongs_to_its_request_whoever_dies() {
    let (dir, kills) = (Dir::new(), times(60, 3000));
    let mut random = Random::new();
    let role = |index: usize| if index == 0 { "serve" } else { "ask" };
    let mut all: Vec<Child> = (0..=CLIENTS).map(|index| start(&dir, role(index), random.next())).collect();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(8000)));
        let index = random.below(2 * CLIENTS as u64) as usize % (CLIENTS + 1);
        assert!(all[index].kill_if_alive(), "{} has ended by itself", role(index));
        all[index] = start(&dir, role(index), random.next());
    }
    let (mut answers, mut longest) = (0, 0);
    for client in &mut all[1..] {
        client.say("end");
        let said = client.hear_or_kill().expect("a client that is answered");
        let (count, time) = said.split_once(' ').expect("two numbers");
        answers += count.parse::<u64>().expect("a number");
        longest = longest.max(time.parse::<u64>().expect("a number"));
    }
    println!("{kills} kills; who lived last had {answers} answers, and waited for one at most {longest} ms");
    assert!(answers > 0);
    let mut server = all.remove(0);
    all.into_iter().for_each(|client| assert!(client.finish().success()));
    // Somebody keeps the service when its server is killed.
    let mut first = Client::<Bytes, Bytes>::open(dir.name("srv")).expect("a place");
    server.kill();
    audit(&dir, &mut first);
    drop(first);
    assert_eq!(dir.files(), Vec::<String>::new());
}

/// All places and all buffers can be had.
fn audit(dir: &Dir, first: &mut Client<Bytes, Bytes>) {
    let mut server = Server::<Bytes, Bytes>::open(dir.name("srv")).expect("there is none");
    while let Some(request) = server.try_recv().expect("nothing is wrong") {
        answer(&request);
    }
    let mut others: Vec<_> =
        (1..CLIENTS).map(|_| Client::<Bytes, Bytes>::open(dir.name("srv")).expect("a place")).collect();
    for client in others.iter_mut().chain([first]) {
        for number in 0..=SLOTS as u128 {
            let mut request = client.loan(16).expect("nothing is lent");
            fill(&mut request, number);
            let call = client.call(request).expect("there is room");
            let request = server.recv_timeout(HANG).expect("a request");
            let buffers = lent(|| request.loan(MOST));
            assert!(number < SLOTS as u128 || buffers == SLOTS + CLAIMS + 1 + LOANS, "{buffers} buffers");
            answer(&request);
            drop(request);
            assert_whole(&client.answer(call, Some(HANG)).expect("an answer"), !number);
        }
        // The windows hold small ones only.
        assert_eq!(lent(|| client.loan(MOST)), SLOTS + CLAIMS + 1 + LOANS);
    }
}

fn lent(lend: impl Fn() -> Result<Loan, SendError>) -> usize {
    std::iter::from_fn(|| lend().ok()).collect::<Vec<_>>().len()
}
