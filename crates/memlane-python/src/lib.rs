//! memlane for Python. It has no logic of its own: each class is one of the library's, in Python's habits. What they do is
//! said in `python/memlane/__init__.pyi`.
//!
//! `views` (addresses in the hands of others), `waits` (without the interpreter's lock), `errors`, `infos` and `python` (what
//! Python has), `end` (one thread at a time), `types` (messages in NumPy's terms) and `fill` (loans of each kind, and copies)
//! carry the classes: `frame`, `loan`, `ticket`, `sender`, `receiver`, `service`, `waitset`, `memory`, `locks`.

mod end;
mod errors;
mod fill;
mod frame;
mod infos;
mod loan;
mod locks;
mod memory;
mod python;
mod receiver;
mod sender;
mod service;
mod ticket;
mod types;
mod views;
mod waits;
mod waitset;

#[pyo3::pymodule]
mod _memlane {
    #[pymodule_export]
    use crate::frame::Frame;
    #[pymodule_export]
    use crate::loan::Loan;
    #[pymodule_export]
    use crate::locks::{Condition, Mutex, Repair, guarding};
    #[pymodule_export]
    use crate::memory::{Memory, described, gc, objects, remove, retire};
    #[pymodule_export]
    use crate::receiver::Receiver;
    #[pymodule_export]
    use crate::sender::Sender;
    #[pymodule_export]
    use crate::service::{Client, Request, Server};
    #[pymodule_export]
    use crate::ticket::Ticket;
    #[pymodule_export]
    use crate::waitset::WaitSet;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::waits::listen_to_signals();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
