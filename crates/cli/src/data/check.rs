//! `residua data check`: what is wrong with a dataset.

use anyhow::Result;
use clap::Args;
use residua_data::Report;
use serde::Serialize;

use super::{SourceArgs, info};
use crate::failure::Outcome;
use crate::output;

/// Decode every image and report what is wrong; exits with 1 if something is
///
/// Reports every unreadable, truncated or zero-sized image and everything that is in two splits at
/// once; these are faults. CMYK, 16-bit, greyscale and alpha images are reported too, but are
/// converted and no fault.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  residua data check photographs/
  residua data check cifar-10-binary.tar.gz --json";

/// A report for machines.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &CheckArgs) -> Result<Outcome> {
    let report = args.source.check()?;
    let ok = !report.has_faults();
    if args.json {
        output::json(&Checked { ok, report: &report })?;
    } else {
        output::line(info::text(&report))?;
        for finding in &report.findings {
            output::line(format_args!("  {finding}"))?;
        }
    }
    match ok {
        true => Ok(Outcome::Done),
        false => {
            output::note(
                "hint: repair or remove what is listed; training with --skip-bad leaves out what can't be decoded",
            );
            Ok(Outcome::No)
        }
    }
}
