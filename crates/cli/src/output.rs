//! Answers on stdout, remarks on stderr.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// Prints a line of the answer. Styles are dropped where they can't be shown.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Prints the answer for machines.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Prints one object of an answer that has one in each line.
pub(crate) fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Tells something that is not part of the answer. Nobody to tell it to is no reason to stop.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
