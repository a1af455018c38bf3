//! `residua data info`: splits, classes, sizes and statistics.

use anyhow::Result;
use clap::Args;
use residua_data::{Kind, Report};
use residua_study::shell_line;

use super::SourceArgs;
use crate::failure::Outcome;
use crate::{output, table};

/// Show the splits, class counts, sizes and channel statistics of a dataset
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  residua data info cifar-10-binary.tar.gz
  residua data info photographs/ --val-fraction 0.2
  residua data info 'synthetic:shapes?train=5000' --json";

pub(crate) fn run(args: &InfoArgs) -> Result<Outcome> {
    let report = args.source.check()?;
    if args.json {
        output::json(&report)?;
        return Ok(Outcome::Done);
    }
    output::line(text(&report))?;
    if !report.findings.is_empty() {
        let check = shell_line(["residua", "data", "check", &args.source.data]);
        output::note(format_args!("`{check}` tells more"));
    }
    Ok(Outcome::Done)
}

/// What a dataset holds, and how often there is something to tell about it.
pub(super) fn text(report: &Report) -> String {
    let [c, h, w] = report.sample_shape;
    let fed = match report.kind {
        Kind::Vectors => format!("{c} features"),
        Kind::SmallImages | Kind::ImageFolder => format!("fed to the network as {c}x{h}x{w}"),
    };
    let mut text = format!("{}: {}, {fed}\n\n", report.name, report.kind);
    text += &table::text(&counts(report));
    text += "\n";
    let mut line = |what: &str, value: String| text += &format!("{what:<14} {value}\n");
    if let (Some(width), Some(height)) = (report.image_width, report.image_height) {
        line("image width", width.to_string());
        line("image height", height.to_string());
    }
    line("mean", table::figures(&report.mean));
    line("std", table::figures(&report.std));
    line("fingerprint", report.fingerprint.clone());
    if report.ignored_files > 0 {
        let left_out = table::grouped(report.ignored_files as u64);
        line("left out", left_out + " files and folders that are no images");
    }
    let findings = report.issue_counts();
    let findings =
        findings.iter().map(|(issue, n)| format!("{} {issue}", table::grouped(*n as u64)));
    line(
        "findings",
        match findings.len() {
            0 => "none".to_owned(),
            _ => findings.collect::<Vec<_>>().join(", "),
        },
    );
    text.trim_end().to_owned()
}

/// Samples of each class in each split.
fn counts(report: &Report) -> comfy_table::Table {
    let splits = report.splits.iter().map(|split| format!(">{}", split.split));
    let header: Vec<String> = std::iter::once("Class".to_owned()).chain(splits).collect();
    let mut rows = table::new(header.iter().map(String::as_str));
    let number = |count: usize| table::grouped(count as u64);
    for (i, class) in report.classes.iter().enumerate() {
        let counts = report.splits.iter().map(|split| number(split.class_counts[i]));
        rows.add_row(std::iter::once(class.clone()).chain(counts));
    }
    let totals = report.splits.iter().map(|split| number(split.samples));
    rows.add_row(std::iter::once("all".to_owned()).chain(totals));
    rows
}
