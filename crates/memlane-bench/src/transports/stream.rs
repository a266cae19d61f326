//! Messages over streams of bytes: sockets and pipes. Both sides know how long a message is.
#![allow(unsafe_code)]

use super::rounds::{Arrived, Link};
use crate::transport::{Case, SMALL};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::AsRawFd;

/// Small messages are read many at a time; large ones are not buffered.
const BUFFER: usize = 64 << 10;

/// One stream there, and one back.
pub(super) struct Stream {
    from: BufReader<File>,
    to: File,
}

impl Stream {
    pub(super) fn new(from: File, to: File) -> Self {
        Self { from: BufReader::with_capacity(BUFFER, from), to }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).expect("the other side reads until it is told to close");
    }

    fn read(&mut self, bytes: &mut [u8]) {
        self.from.read_exact(bytes).expect("the other side writes until it is told to close");
    }
}

/// The streams of a case: one for each channel or receiver. Answers take the first.
pub(super) struct Streams {
    case: Case,
    streams: Vec<Stream>,
    polled: Vec<libc::pollfd>,
    /// What is sent, or was received.
    private: Vec<u8>,
}

impl Streams {
    pub(super) fn new(case: Case, streams: Vec<Stream>) -> Self {
        let polled = streams.iter().map(|stream| libc::pollfd {
            fd: stream.from.get_ref().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        Self { case, polled: polled.collect(), streams, private: vec![1; case.len] }
    }
}

impl Link for Streams {
    fn send(&mut self, channel: usize, round: u64) {
        self.case.write(round, &mut self.private);
        self.streams[channel].write(&self.private);
    }

    fn send_to_all(&mut self, round: u64) {
        self.case.write(round, &mut self.private);
        self.streams.iter_mut().for_each(|stream| stream.write(&self.private));
    }

    fn receive(&mut self, channel: usize) -> Arrived {
        self.streams[channel].read(&mut self.private);
        Arrived::read(&self.private, self.case)
    }

    /// There is one message at a time, so that no buffer holds another one.
    fn receive_any(&mut self) -> Arrived {
        loop {
            // SAFETY: the call reads and writes so many entries, which are all there.
            unsafe { libc::poll(self.polled.as_mut_ptr(), self.polled.len() as libc::nfds_t, -1) };
            if let Some(channel) = self.polled.iter().position(|polled| polled.revents != 0) {
                return self.receive(channel);
            }
        }
    }

    fn answer(&mut self) {
        self.streams[0].write(&[1; SMALL]);
    }

    fn await_answer(&mut self) {
        self.streams[0].read(&mut [0; SMALL]);
    }
}
