//! What is called in Python, looked for once.

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Something in a module of Python.
pub(crate) struct Named {
    module: &'static str,
    name: &'static str,
    found: PyOnceLock<Py<PyAny>>,
}

impl Named {
    const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name, found: PyOnceLock::new() }
    }

    pub(crate) fn call<'py>(&self, py: Python<'py>, arguments: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.found.import(py, self.module, self.name)?.call1(arguments)
    }
}

/// Something as text. To format it as Rust does would lose what a signal handler raises meanwhile.
pub(crate) fn text(of: &Bound<'_, PyAny>) -> PyResult<String> {
    of.str()?.extract()
}

macro_rules! named {
    ($($name:ident = $module:literal, $attribute:literal;)*) => {$(
        pub(crate) static $name: Named = Named::new($module, $attribute);
    )*};
}

named! {
    AS_ARRAY = "numpy", "asarray";
    AS_RECORD = "memlane._arrays", "as_record";
    COPY_TO = "memlane._arrays", "copy_to";
    DTYPE = "numpy", "dtype";
    DTYPE_OF = "memlane._schemas", "dtype_of";
    FIELDS_OF = "memlane._schemas", "fields_of";
    FLAT = "memlane._arrays", "flat";
    HANDLED = "memlane._types", "Handled";
    LEND = "memlane._arrays", "lend";
    LISTED = "memlane._types", "Listed";
    OVER = "memlane._arrays", "over";
    RECEIVER_INFO = "memlane._types", "ReceiverInfo";
    RECORD = "memlane._arrays", "record";
    REVOKE = "memlane._arrays", "revoke";
    SENDER_INFO = "memlane._types", "SenderInfo";
    WHO = "memlane._types", "Who";
}
