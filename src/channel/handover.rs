//! Channels and services that are handed over as descriptors.

use super::receiver::Receiver;
use super::sender::Sender;
use super::service::{Client, Server};
use crate::error::Error;
use crate::segment::Shareable;
use crate::sys::Socket;

impl<T: Shareable + ?Sized> Sender<T> {
    /// Hands the channel over to whoever has the other end of `socket`, as
    /// [`SharedMemory::send_over`](crate::SharedMemory::send_over) does; it goes on here.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        self.memory().attachment().object().send_over(socket)
    }
}

impl<T: Shareable + ?Sized> Receiver<T> {
    /// Hands the channel over, as [`Sender::send_over`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        self.memory().attachment().object().send_over(socket)
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Server<Q, A> {
    /// Hands the service over, as [`Sender::send_over`] does a channel.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        self.memory().attachment().object().send_over(socket)
    }
}

impl<Q: Shareable + ?Sized, A: Shareable + ?Sized> Client<Q, A> {
    /// Hands the service over, as [`Sender::send_over`] does a channel.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        self.answers().memory().attachment().object().send_over(socket)
    }
}
