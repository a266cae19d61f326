//! Raw messages: files, standard input and output.

use crate::common::{Place, Running, closed_pipe, names_in, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

/// Bytes that follow from a number.
fn bytes(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (number * 31 + index * 7) as u8).collect()
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&(message.len() as u64).to_le_bytes()[..], message].concat()).collect()
}

fn with_input(place: &Place, arguments: &[&str], input: &[u8]) -> Running {
    let file = place.folder().join(format!("{}.input", arguments[1]));
    fs::write(&file, input).expect("a file");
    let mut command = place.command(arguments);
    command.stdin(fs::File::open(file).expect("it is there"));
    Running::start(command)
}

#[test]
fn files_arrive_byte_for_byte() {
    let place = Place::new();
    let files = [("empty", 0), ("one", 1), ("small", 96), ("page", 4097), ("big", 5_000_000)];
    for (number, (file, len)) in files.into_iter().enumerate() {
        fs::write(place.folder().join(file), bytes(number, len)).expect("a file");
    }
    let receiver = place.start(&["recv", "map", "--raw", "--out", "got"]);
    let sent = place.run(&["send", "map", "--raw", "empty", "one", "small", "page", "big"]).ok();
    assert!(sent.starts_with("000001  empty  0 B  processed after "), "{sent}");
    let received = receiver.end().ok();
    assert!(received.starts_with("000001  got/000001.bin  0 B  from pid "), "{received}");
    for (number, (_, len)) in files.into_iter().enumerate() {
        let got = fs::read(place.folder().join(format!("got/{:06}.bin", number + 1))).expect("a file");
        assert!(got == bytes(number, len), "{len} bytes");
    }
    assert_eq!(names_in(&place.folder().join("got")).len(), files.len());
}

#[test]
fn a_stream_goes_through_two_channels_as_it_was() {
    let place = Place::new();
    let mut messages: Vec<_> = (0..5000).map(|number| bytes(number, number * 37 % 300)).collect();
    messages.extend([0, 1, 65536, 16 << 20, 3_000_001].map(|len| bytes(len, len)));
    let stream = framed(&messages);
    let (from, to) = std::io::pipe().expect("a pipe");
    let start = |arguments: &[&str], input: Option<Stdio>, output: Option<Stdio>| {
        let mut command = place.command(arguments);
        command.stdin(input.unwrap_or(Stdio::null())).stdout(output.unwrap_or(Stdio::piped()));
        Running::start(command)
    };
    let got = place.folder().join("got");
    let last = fs::File::create(&got).expect("a file");
    let ends = [
        start(&["recv", "b", "--raw", "--out", "-"], None, Some(last.into())),
        start(&["recv", "a", "--raw", "-"], None, Some(to.into())),
        start(&["send", "b", "--raw", "-"], Some(from.into()), Some(Stdio::null())),
    ];
    let sent = with_input(&place, &["send", "a", "--raw", "-"], &stream).end().ok();
    assert_eq!(sent.lines().count(), messages.len());
    assert!(sent.starts_with("000001  message 1 of standard input  0 B  processed after "), "{sent}");
    ends.into_iter().for_each(|end| assert_eq!(end.end().ok(), ""));
    assert!(fs::read(got).expect("a file") == stream);
}

#[test]
fn what_became_of_a_message_is_said_before_the_next_one_comes() {
    let place = Place::new();
    let (from, mut to) = std::io::pipe().expect("a pipe");
    let mut command = place.command(&["send", "map", "--raw", "-"]);
    command.stdin(from);
    let mut sender = Running::start(command);
    let mut receiver = place.start(&["recv", "map", "--raw"]);
    for number in 1..=3 {
        to.write_all(&framed(&[bytes(number, 100)])).expect("it reads");
        assert!(sender.line().starts_with(&format!("{number:06}  message {number} of standard input")));
        assert!(receiver.line().starts_with(&format!("{number:06}  not kept  100 B")));
    }
    // Nothing comes, and in the midst of a message: it ends all the same.
    to.write_all(&framed(&[bytes(4, 100)])[..50]).expect("it reads");
    sender.signal("INT");
    sender.end().failed(1, &["interrupted"]);
    assert_eq!(receiver.end().ok(), "");
}

#[test]
fn a_stream_that_is_none_is_refused_with_what_it_should_be() {
    let place = Place::new();
    let cases: [(&[u8], &[&str]); 4] = [
        (b"hello, this is text", &["message 1 of standard input cannot have", "eight bytes, the lowest first"]),
        (&[5, 0, 0, 0, 0, 0, 0, 0, 1, 2], &["ended in the midst of message 1", "eight bytes, the lowest first"]),
        (&[5, 0], &["ended in the midst of message 1"]),
        (&[1, 0, 0, 1, 0, 0, 0, 0], &["16777217 bytes", "room for 16777216", "--max-message 16777217"]),
    ];
    for (input, words) in cases {
        let receiver = place.start(&["recv", "map", "--raw"]);
        with_input(&place, &["send", "map", "--raw", "-"], input).end().failed(1, words);
        receiver.end().ok();
    }
    let receiver = place.start(&["recv", "map", "--raw"]);
    let long = framed(&[bytes(0, (16 << 20) + 1)]);
    with_input(&place, &["send", "map", "--raw", "-", "--max-message", "16777217"], &long).end().ok();
    assert_eq!(receiver.end().ok().lines().count(), 1);
}

#[test]
fn what_nobody_reads_stays_for_another_receiver() {
    let place = Place::new();
    fs::write(place.folder().join("big"), bytes(1, 1 << 20)).expect("a file");
    let sender = place.start(&["send", "map", "--raw", "big"]);
    let (mut from, to) = std::io::pipe().expect("a pipe");
    let mut command = place.command(&["recv", "map", "--raw", "-"]);
    command.stdout(to);
    let blocked = Running::start(command);
    from.read_exact(&mut [0; 8]).expect("the length");
    blocked.signal("INT");
    let ended = blocked.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), "memlane: interrupted, 0 messages received\n"));

    let mut command = place.command(&["recv", "map", "--raw", "-"]);
    command.stdout(closed_pipe());
    assert_eq!(Running::start(command).end().ok(), "", "a reader that has had enough is no failure");
    place.run(&["recv", "map", "--raw", "--out", "."]).ok();
    assert!(fs::read(place.folder().join("000001.bin")).expect("a file") == bytes(1, 1 << 20));
    sender.end().ok();
}

#[test]
fn who_mixes_up_bytes_and_images_is_told() {
    let place = Place::new();
    place.gray("a.png", 8, 8);
    for (sent, refused, words) in [
        (&["send", "cam", "a.png"][..], &["recv", "cam", "--raw"][..], "carries images, no raw bytes"),
        (&["send", "cam", "a.png", "--raw"], &["recv", "cam"], "carries raw bytes, no images: use --raw"),
    ] {
        let sender = place.start(sent);
        place.await_user("cam", sender.pid());
        place.run(refused).failed(1, &["'cam'", words]);
        sender.signal("INT");
        sender.end().failed(1, &["interrupted"]);
    }
    for wrong in [&["send", "cam", "-"][..], &["recv", "cam", "-"], &["recv", "cam", "--out", "-"]] {
        place.run(wrong).failed(2, &["is for raw messages: add --raw"]);
    }
    place.run(&["recv", "cam", "--raw", "-", "--json"]).failed(2, &["both messages and --json"]);
    assert_eq!(place.run(&["recv", "cam", "--raw", "-", "--out", "there"]).code, Some(2));
    place.run(&["send", "cam", "--raw", "missing"]).failed(1, &["cannot read 'missing'"]);
    place.run(&["send", "cam", "--raw", "/dev/null"]).failed(1, &["'/dev/null'", "no regular file", "`-`"]);
    wait_for("nothing to be left", || place.names().is_empty().then_some(()));
}
