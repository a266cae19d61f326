//! One file per command.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod gc;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod recv;
pub(crate) mod rm;
pub(crate) mod send;
pub(crate) mod tap;
pub(crate) mod top;
