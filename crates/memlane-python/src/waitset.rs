//! Waiting for several receivers together.

use crate::receiver::Receiver;
use crate::waits;
use memlane::Key;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Receivers to be waited for together; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane")]
pub(crate) struct WaitSet {
    set: memlane::WaitSet,
    keys: Mutex<Keys>,
}

/// What Python calls the members of the set.
#[derive(Debug, Default)]
struct Keys {
    last: u64,
    all: HashMap<u64, Key>,
}

impl WaitSet {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        // Nothing in here panics half-way.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl WaitSet {
    #[new]
    fn new() -> Self {
        Self { set: memlane::WaitSet::new(), keys: Mutex::default() }
    }

    fn add(&self, py: Python<'_>, receiver: &Receiver) -> PyResult<u64> {
        receiver.with(py, |receiver| {
            let mut keys = self.keys();
            keys.last += 1;
            let name = keys.last;
            keys.all.insert(name, self.set.add(receiver));
            Ok(name)
        })
    }

    fn remove(&self, key: u64) -> bool {
        let known = self.keys().all.remove(&key);
        known.is_some_and(|key| self.set.remove(key))
    }

    fn wake(&self) {
        self.set.wake();
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<u64>> {
        let timeout = waits::timeout(timeout)?;
        let ready = py.detach(|| self.set.wait(timeout));
        waits::raised().map_or(Ok(()), Err)?;
        let keys = self.keys();
        Ok(keys.all.iter().filter(|(_, key)| ready.contains(key)).map(|(name, _)| *name).collect())
    }

    fn __len__(&self) -> usize {
        self.set.len()
    }
}
