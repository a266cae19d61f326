//! Locks and conditions that lie in shared memory.
//!
//! All that happens between taking a lock and having it in hand is in here, where no signal handler of Python can come between.
#![allow(unsafe_code)]

use crate::errors::{self, Failure};
use crate::memory::Memory;
use crate::{python, waits};
use memlane::{Condvar, LockError, Locked, MutexGuard, OwnerDied, RegionMut, Until, WaitError, Who};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex as Private, MutexGuard as PrivateGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// The word of a mutex, with what it guards left to Python.
type Word = memlane::Mutex<[u8; 0]>;

/// A mutex that this process holds.
enum Guard {
    Clean(MutexGuard<'static, [u8; 0]>),
    Died(OwnerDied<MutexGuard<'static, [u8; 0]>>),
}

impl Guard {
    /// Unlocks; if what is guarded is not complete, as if this holder had died.
    fn release(self, complete: bool) {
        match self {
            Self::Clean(guard) if complete => guard.unlock(),
            Self::Clean(guard) => guard.abandon(),
            Self::Died(died) if complete => died.mark_consistent().unlock(),
            Self::Died(died) => drop(died),
        }
    }
}

/// A guard, which stays with its thread, where any thread may find it.
struct Held {
    thread: ThreadId,
    guard: ManuallyDrop<Guard>,
    /// What the guard refers to: dropped after it.
    region: Arc<RegionMut>,
    /// The array of what is guarded, to be made read-only.
    lent: Option<Py<PyAny>>,
}

// SAFETY: the guard is touched only by `into_guard`, in the thread that locked; dropped elsewhere, it stays as it is.
unsafe impl Send for Held {}

impl Held {
    fn new(guard: Guard, region: Arc<RegionMut>) -> Self {
        Self { thread: thread::current().id(), guard: ManuallyDrop::new(guard), region, lent: None }
    }

    fn is_of_this_thread(&self) -> bool {
        self.thread == thread::current().id()
    }

    /// The guard, and what it refers to, if this thread locked.
    fn into_guard(self) -> Result<(Guard, Arc<RegionMut>), Self> {
        if self.is_of_this_thread() { Ok((ManuallyDrop::into_inner(self.guard), self.region)) } else { Err(self) }
    }
}

/// What came of waiting in the very thread that asked for it.
struct InThisThread<T>(T);

// SAFETY: `Python::detach` calls what it is given in the calling thread; it asks for `Send` because of the interpreter's
// own objects, which these are not.
unsafe impl<T> Send for InThisThread<T> {}

enum Failed {
    Lock(LockError),
    Wait(WaitError),
    /// The last holder of a lock in the object of that name died.
    Died(String),
}

impl Failure for Failed {
    fn class(&self) -> (&'static str, Vec<&Who>) {
        match self {
            Self::Lock(error) => error.class(),
            Self::Wait(error) => error.class(),
            Self::Died(_) => ("OwnerDied", vec![]),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Lock(error) => error.message(),
            Self::Wait(error) => error.message(),
            Self::Died(object) => format!(
                "the last holder of a mutex in '{object}' died, or left it by an exception: what it guards may be half-changed; \
                 repair that in `with mutex.repair():`"
            ),
        }
    }
}

/// A mutex at an offset of some memory; see `__init__.pyi`.
#[pyclass(frozen, module = "memlane")]
pub(crate) struct Mutex {
    memory: Py<Memory>,
    offset: usize,
    /// Makes the array of what is guarded, out of the memory.
    guarded: Option<Py<PyAny>>,
    held: Private<Option<Held>>,
}

/// Makes an array read-only; also if a signal handler raises something meanwhile, which is raised then.
fn revoke(py: Python<'_>, lent: &Py<PyAny>) -> PyResult<()> {
    let revoked = python::REVOKE.call(py, (lent,));
    revoked.or_else(|raised| python::REVOKE.call(py, (lent,)).and(Err(raised))).map(drop)
}

/// A mutex of a segment: `guarded` makes the array of what it guards, out of the memory.
#[pyfunction]
pub(crate) fn guarding(py: Python<'_>, memory: Py<Memory>, offset: usize, guarded: Py<PyAny>) -> PyResult<Mutex> {
    Mutex::at(py, memory, offset, Some(guarded))
}

impl Mutex {
    fn at(py: Python<'_>, memory: Py<Memory>, offset: usize, guarded: Option<Py<PyAny>>) -> PyResult<Self> {
        let mutex = Self { memory, offset, guarded, held: Private::default() };
        mutex.word(py)?;
        Ok(mutex)
    }

    fn held(&self) -> PrivateGuard<'_, Option<Held>> {
        // Nothing in here panics half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The word, and the region it lies in, which is to be kept as long as either is used.
    fn word(&self, py: Python<'_>) -> PyResult<(&'static Word, &'static RegionMut, Arc<RegionMut>)> {
        let region = self.memory.get().region(py)?;
        // SAFETY: whoever makes a mutex at an offset says that there is one; zeroed bytes are an unlocked one, and any bytes
        // are a value.
        let word: *const Word =
            unsafe { region.at::<Word>(self.offset, ()) }.map_err(|error| errors::raise(py, &error))?;
        // SAFETY: it lies in the mapping of the region; the caller keeps that, and so does what is held.
        Ok((unsafe { &*word }, unsafe { &*Arc::as_ptr(&region) }, region))
    }

    /// Locks it; one whose last holder died only if that is to be repaired.
    fn lock(&self, py: Python<'_>, timeout: Option<Duration>, repair: bool) -> PyResult<()> {
        let (word, by, region) = self.word(py)?;
        let refers = InThisThread((word, by));
        let name = region.name().to_string();
        let locked = waits::waiting(py, || {
            let (word, by) = { refers }.0;
            let locked = match timeout {
                None => word.lock(by),
                Some(timeout) => word.lock_timeout(by, timeout),
            };
            match locked.map_err(Failed::Lock)? {
                Locked::Clean(guard) => Ok(InThisThread(Guard::Clean(guard))),
                Locked::OwnerDied(died) if repair => Ok(InThisThread(Guard::Died(died))),
                Locked::OwnerDied(_) => Err(Failed::Died(name)),
            }
        })?;
        *self.held() = Some(Held::new(locked.0, region));
        Ok(())
    }

    /// What was lent with it, if this thread has it.
    fn take_lent(&self) -> Option<Py<PyAny>> {
        self.held().as_mut().filter(|held| held.is_of_this_thread()).and_then(|held| held.lent.take())
    }

    /// The guard, if this thread has it.
    fn take(&self) -> PyResult<(Guard, Arc<RegionMut>)> {
        let mut held = self.held();
        let name = &self.memory.get().name;
        let nobody = || PyRuntimeError::new_err(format!("the mutex in '{name}' is not locked by this object"));
        held.take().ok_or_else(nobody)?.into_guard().map_err(|theirs| {
            *held = Some(theirs);
            PyRuntimeError::new_err(format!(
                "the mutex in '{name}' was locked by another thread, which has to unlock it"
            ))
        })
    }

    /// Locks it, and lends what it guards.
    fn enter<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Duration>,
        repair: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.lock(py, timeout, repair)?;
        let Some(guarded) = &self.guarded else { return Ok(None) };
        let lent = guarded.bind(py).call1((&self.memory,)).and_then(|plain| python::LEND.call(py, (plain,)));
        match lent {
            Ok(lent) => {
                if let Some(held) = &mut *self.held() {
                    held.lent = Some(lent.clone().unbind());
                }
                Ok(Some(lent))
            }
            Err(error) => {
                self.take()?.0.release(!repair);
                Err(error)
            }
        }
    }

    /// Unlocks it at the end of a block. A wait for a condition that was interrupted has done so before.
    fn exit(&self, py: Python<'_>, complete: bool) -> PyResult<()> {
        let held = self.held().is_some();
        if held { self.release(py, complete) } else { Ok(()) }
    }
}

#[pymethods]
impl Mutex {
    #[new]
    #[pyo3(signature = (memory, offset = 0))]
    fn new(py: Python<'_>, memory: &Bound<'_, PyAny>, offset: usize) -> PyResult<Self> {
        Self::at(py, Memory::of(memory)?, offset, None)
    }

    #[pyo3(signature = (timeout = None))]
    fn acquire(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.lock(py, waits::timeout(timeout)?, false)
    }

    #[pyo3(signature = (complete = true))]
    fn release(&self, py: Python<'_>, complete: bool) -> PyResult<()> {
        let revoked = self.take_lent().map_or(Ok(()), |lent| revoke(py, &lent));
        // Also if a signal handler has raised something meanwhile.
        let (guard, _region) = self.take()?;
        guard.release(complete);
        revoked
    }

    /// For the collector: what leads from here to the memory may lead back.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.memory)?;
        self.guarded.as_ref().map_or(Ok(()), |guarded| visit.call(guarded))
    }

    #[pyo3(signature = (timeout = None))]
    fn repair(slf: Py<Self>, timeout: Option<f64>) -> PyResult<Repair> {
        Ok(Repair { mutex: slf, timeout: waits::timeout(timeout)? })
    }

    #[getter]
    fn locked(&self) -> bool {
        self.held().as_ref().is_some_and(Held::is_of_this_thread)
    }

    fn __repr__(&self) -> String {
        format!("<memlane.Mutex at {} of '{}'>", self.offset, self.memory.get().name)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.enter(py, None, false)
    }

    #[pyo3(signature = (kind, _error, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.exit(py, kind.is_none())
    }
}

/// A block in which what a mutex guards is repaired.
#[pyclass(frozen, module = "memlane._memlane")]
pub(crate) struct Repair {
    mutex: Py<Mutex>,
    timeout: Option<Duration>,
}

#[pymethods]
impl Repair {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.mutex)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.mutex.get().enter(py, self.timeout, true)
    }

    #[pyo3(signature = (kind, _error, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.mutex.get().exit(py, kind.is_none())
    }
}

/// A condition at an offset of some memory; see `__init__.pyi`.
#[pyclass(frozen, module = "memlane")]
pub(crate) struct Condition {
    memory: Py<Memory>,
    offset: usize,
    mutex: Py<Mutex>,
}

impl Condition {
    /// What `act` makes of the word.
    fn with<R>(&self, py: Python<'_>, act: impl FnOnce(&Condvar) -> PyResult<R>) -> PyResult<R> {
        let region = self.memory.get().region(py)?;
        // SAFETY: whoever makes a condition at an offset says that there is one; any bytes are one.
        act(unsafe { region.at::<Condvar>(self.offset, ()) }.map_err(|error| errors::raise(py, &error))?)
    }

    /// Unlocks, sleeps, locks; false if the time is over. To wait in a repair says that it is done: others get the lock.
    fn sleep(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let mutex = self.mutex.get();
        let (word, by, region) = mutex.word(py)?;
        self.with(py, |condition| {
            let lent = mutex.take_lent();
            let (guard, _) = mutex.take()?;
            let guard = match guard {
                Guard::Clean(guard) => guard,
                Guard::Died(died) => died.mark_consistent(),
            };
            let refers = InThisThread((guard, word, by));
            let until = timeout.map_or_else(Until::forever, Until::timeout);
            let name = region.name().to_string();
            let slept = waits::waiting(py, || {
                let (guard, word, by) = { refers }.0;
                let (locked, notified) = match condition.wait(guard, until) {
                    Ok(locked) => (locked, true),
                    Err(WaitError::TimedOut { .. }) => (word.lock(by).map_err(Failed::Lock)?, false),
                    Err(error) => return Err(Failed::Wait(error)),
                };
                match locked {
                    Locked::Clean(guard) => Ok((InThisThread(Guard::Clean(guard)), notified)),
                    Locked::OwnerDied(_) => Err(Failed::Died(name)),
                }
            });
            match slept {
                Ok((guard, notified)) => {
                    *mutex.held() = Some(Held { lent, ..Held::new(guard.0, Arc::clone(&region)) });
                    Ok(notified)
                }
                Err(error) => {
                    // It is not locked any more.
                    lent.map_or(Ok(()), |lent| revoke(py, &lent))?;
                    Err(error)
                }
            }
        })
    }
}

#[pymethods]
impl Condition {
    #[new]
    fn new(py: Python<'_>, memory: &Bound<'_, PyAny>, offset: usize, mutex: Py<Mutex>) -> PyResult<Self> {
        let condition = Self { memory: Memory::of(memory)?, offset, mutex };
        condition.with(py, |_| Ok(condition.offset))?;
        Ok(condition)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.memory)?;
        visit.call(&self.mutex)
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.sleep(py, waits::timeout(timeout)?)
    }

    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for<'py>(
        &self,
        py: Python<'py>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (start, timeout) = (Instant::now(), waits::timeout(timeout)?);
        loop {
            let result = predicate.call0()?;
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            if result.is_truthy()? || left == Some(Duration::ZERO) {
                return Ok(result);
            }
            self.sleep(py, left)?;
        }
    }

    fn notify(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |condition| {
            condition.notify_one();
            Ok(())
        })
    }

    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |condition| {
            condition.notify_all();
            Ok(())
        })
    }

    fn __repr__(&self) -> String {
        format!("<memlane.Condition at {} of '{}'>", self.offset, self.memory.get().name)
    }
}
