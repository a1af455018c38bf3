//! `residua`: plain and residual networks on the command line.
//!
//! Every command writes its answer to stdout and everything else to stderr. It exits with 0, with 1
//! where the answer is no, with 2 where it could not do what it was asked to, and with 130 after
//! Ctrl-C.

mod args;
mod arguments;
mod bench;
mod browser;
mod compare;
mod convert;
mod data;
mod deepen;
mod eval;
mod failure;
mod fine_tune;
mod inspect;
mod interrupt;
mod model_data;
mod model_file;
mod output;
mod picture;
mod predict;
mod present;
mod progress;
mod prune;
mod quickstart;
mod report;
mod study;
mod study_runs;
mod table;
mod train;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse() {
        Ok(cli) => failure::exit_code(cli.command.run()),
        Err(error) => failure::usage(&error),
    }
}
