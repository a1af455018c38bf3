//! Why residual networks work, measured on trained networks and on data.
//!
//! A study is a library function whose result says itself what was found: as data, and as a
//! [`Section`] that a terminal or a [`report`] shows. [`Record`] keeps it in a folder.
//! [`difference`] tells whether two models put out the same, bit for bit.

pub mod compare;
mod continued;
mod difference;
mod error;
mod record;
mod report;
mod run;
mod section;
mod training;

pub use compare::Compare;
pub use continued::{Continuation, Continued, Kept, Trained, start_from};
pub use difference::{Difference, difference};
pub use error::StudyError;
pub use record::{RECORD_FILE, Record, Study};
pub use report::report;
pub use run::{Diverged, RunState, StudyRun};
pub use section::{Chart, Section, Table};
pub use training::section_of_folder;
