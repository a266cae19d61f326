//! What the library says of processes, messages and objects, as the named tuples of memlane/_types.py.

use crate::python;
use memlane::{Handled, Listed, Outcome, Persistence, ReceiverInfo, SenderInfo, Who};
use pyo3::prelude::*;

type Object<'py> = Bound<'py, PyAny>;

pub(crate) fn who<'py>(py: Python<'py>, who: &Who) -> PyResult<Object<'py>> {
    python::WHO.call(py, (who.pid, &who.name, who.stopped))
}

fn somebody<'py>(py: Python<'py>, who_or_none: Option<&Who>) -> PyResult<Option<Object<'py>>> {
    who_or_none.map(|known| who(py, known)).transpose()
}

pub(crate) fn handled<'py>(py: Python<'py>, all: &[Handled]) -> PyResult<Vec<Object<'py>>> {
    let outcome = |outcome| match outcome {
        Outcome::Processed => "processed",
        Outcome::GaveBack => "gave back",
        Outcome::Skipped => "skipped",
        Outcome::Died => "died",
        Outcome::Unknown => "unknown",
    };
    let one = |one: &Handled| python::HANDLED.call(py, (somebody(py, one.who.as_ref())?, outcome(one.outcome)));
    all.iter().map(one).collect()
}

pub(crate) fn receivers<'py>(py: Python<'py>, all: &[ReceiverInfo]) -> PyResult<Vec<Object<'py>>> {
    let one = |info: &ReceiverInfo| {
        python::RECEIVER_INFO.call(py, (somebody(py, info.who.as_ref())?, info.lag, info.missed, info.claims))
    };
    all.iter().map(one).collect()
}

pub(crate) fn senders<'py>(py: Python<'py>, all: &[SenderInfo]) -> PyResult<Vec<Object<'py>>> {
    let one =
        |info: &SenderInfo| python::SENDER_INFO.call(py, (somebody(py, info.who.as_ref())?, info.lane, info.sent));
    all.iter().map(one).collect()
}

pub(crate) fn listed<'py>(py: Python<'py>, object: &Listed) -> PyResult<Object<'py>> {
    let users = object.users.iter().map(|user| who(py, user)).collect::<PyResult<Vec<_>>>()?;
    let kept = object.persistence == Some(Persistence::Keep);
    python::LISTED.call(py, (&object.name, object.size, object.type_name.as_deref(), kept, object.stale, users))
}
