//! Names of objects, and the directory they are looked up in.

use super::handover::Opening;
use crate::error::Error;
use crate::sys;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of a shared object: 1 to 200 of the characters `A-Z a-z 0-9 _ . -`.
///
/// A name is looked up in the directory that `MEMLANE_DIR` names, or else in the user's own directory in shared
/// memory; [`Name::in_directory`] chooses another.
///
/// ```
/// let name = memlane::Name::new("cam0")?;
/// assert_eq!(name.as_str(), "cam0");
/// assert!(memlane::Name::new("../etc").is_err());
/// # Ok::<(), memlane::Error>(())
/// ```
///
/// It can also stand for an object in no directory, which goes from process to process as a descriptor: see
/// [`Name::anonymous`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Where the object is that a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// It is looked up there.
    Directory(PathBuf),
    /// Nowhere yet: to create it makes one in no directory.
    Anonymous,
    /// Behind a descriptor, whatever its name is.
    Opening(Opening),
}

impl Name {
    /// Checks `text` and takes the directory from the environment.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`] if `text` is no name.
    pub fn new(text: &str) -> Result<Self, Error> {
        Self::at(text, Place::Directory(default_directory().0))
    }

    /// Stands for an object that lies in no directory, to be created: nothing but [descriptors](crate::Sender::send_over)
    /// leads to it, so it needs no directory in common, and is gone, whatever happens, with the last of them and the last
    /// mapping. `label` is what it is called in errors, and what `/proc` shows.
    ///
    /// Each create with this name makes another object. To open one is for who has got it, by
    /// [`Name::receive_from`] or [`Name::from_fd`]; in this process, by the name that its handle has.
    ///
    /// ```
    /// use memlane::{ChannelOptions, Name, Receiver, Sender};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?; // one for each process
    /// let sender = Sender::<[u8]>::create(Name::anonymous("cam")?, &ChannelOptions::new().max_message(100))?;
    /// sender.send_over(&ours)?;
    ///
    /// let mut receiver = Receiver::<[u8]>::open(Name::receive_from(&theirs)?)?; // in the other process
    /// sender.send_copy(b"hello")?;
    /// assert_eq!(&receiver.recv()?[..], b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`] if `label` is not as names are.
    pub fn anonymous(label: &str) -> Result<Self, Error> {
        Self::at(label, Place::Anonymous)
    }

    pub(super) fn at(text: &str, place: Place) -> Result<Self, Error> {
        let character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let valid = (1..=200).contains(&text.len()) && text.bytes().all(character) && text != "." && text != "..";
        if !valid {
            return Err(Error::InvalidName { name: text.to_owned() });
        }
        Ok(Self { text: text.to_owned(), place })
    }

    /// A name that no object has or will have: `prefix`, a hyphen and 32 random digits.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`] if `prefix` does not make a name, [`Error::Os`] if the system has no random numbers.
    pub fn unique(prefix: &str) -> Result<Self, Error> {
        let random = sys::random().map_err(Error::os("draw a random name for", prefix))?;
        Self::new(&format!("{prefix}-{random:032x}"))
    }

    /// The same name in another directory, which must be on a file system in memory to be fast. What stood for a descriptor
    /// stands for what has its name there.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.place = Place::Directory(directory.into());
        self
    }

    /// The name, without its directory.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The directory it is looked up in; `None` if it stands for an object in no directory, or for a descriptor.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(directory),
            Place::Anonymous | Place::Opening(_) => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The directory objects are in unless a name says otherwise, and whether it is the user's own (made when missing).
pub(crate) fn default_directory() -> (PathBuf, bool) {
    match std::env::var_os("MEMLANE_DIR").filter(|path: &OsString| !path.is_empty()) {
        Some(path) => (path.into(), false),
        None => (sys::default_directory(), true),
    }
}

/// What can be used as the name of an object: a [`Name`], or text that is checked when it is used.
pub trait ToName {
    /// The name.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`] if it is no name.
    fn to_name(&self) -> Result<Name, Error>;
}

impl ToName for str {
    fn to_name(&self) -> Result<Name, Error> {
        Name::new(self)
    }
}

impl ToName for String {
    fn to_name(&self) -> Result<Name, Error> {
        Name::new(self)
    }
}

impl ToName for Name {
    fn to_name(&self) -> Result<Name, Error> {
        Ok(self.clone())
    }
}

impl<N: ToName + ?Sized> ToName for &N {
    fn to_name(&self) -> Result<Name, Error> {
        (**self).to_name()
    }
}
