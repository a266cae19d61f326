//! Dies.
mod explore;
mod place;
mod report;
mod victim;
mod watch;

pub use explore::{End, Event, Explore, Point, Problem, Run, Verdict};
pub use place::Frame;
pub use report::{Moment, Report, Violation};
pub use victim::{may_trace, operate};
pub use watch::{Change, Files};
