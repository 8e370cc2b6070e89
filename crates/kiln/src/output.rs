//! Standard output.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};

use anyhow::{Context, Result};

/// A line on standard output. A reader that has gone away (`kiln info … | head`) has seen enough: that is no error.
pub fn print(line: impl Display) -> Result<()> {
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output can't be written"),
    }
}
