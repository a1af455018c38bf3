//! `residua report`: studies and trainings as one page.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use residua_format::write_whole;
use residua_study::{Section, report, section_of_folder};

use crate::failure::Outcome;
use crate::{browser, output};

/// Make one page of studies and runs: question, setting, plots, tables, what follows, command lines
///
/// The page is one HTML file that needs nothing beside itself and has no scripts. The plots are beside
/// it as SVG, too.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// Folders of studies (`--out` of their commands) or of runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Title of the page
    #[arg(long, value_name = "TEXT", default_value = "Why residual networks work")]
    title: String,
    /// Open the page, if this is a terminal with a screen
    #[arg(long)]
    open: bool,
}

const EXAMPLES: &str = "\
Examples:
  residua report runs/depth
  residua report runs/depth runs/lesion runs/first --title 'Shortcuts' --out shortcuts.html";

pub(crate) fn run(args: &ReportArgs) -> Result<Outcome> {
    ensure!(
        !args.out.is_dir(),
        "{}: is a folder, expected a file to write the page to",
        args.out.display()
    );
    refuse_to_replace(&args.out)?;
    let mut sections: Vec<Section> =
        args.runs.iter().map(|run| section_of_folder(run)).collect::<Result<_, _>>()?;
    tell_apart(&args.runs, &mut sections);
    let plots = write_page(&args.out, &args.title, &sections)?;
    let out = args.out.display();
    match plots {
        0 => output::line(out)?,
        _ => output::line(format_args!("{out}, and {plots} plots beside it as SVG"))?,
    }
    if args.open {
        browser::show(&args.out);
    }
    Ok(Outcome::Done)
}

/// A page may be made again, but files of other kinds stay.
fn refuse_to_replace(path: &Path) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut start = Vec::new();
    file.take(DOCTYPE.len() as u64).read_to_end(&mut start)?;
    ensure!(
        start.eq_ignore_ascii_case(DOCTYPE),
        "{}: is there and no page, expected another file to write to",
        path.display()
    );
    Ok(())
}

/// What pages begin with.
const DOCTYPE: &[u8] = b"<!doctype html>";

/// Puts the folder behind titles that several sections have.
fn tell_apart(runs: &[PathBuf], sections: &mut [Section]) {
    let titles: Vec<String> = sections.iter().map(|section| section.title.clone()).collect();
    for (section, run) in sections.iter_mut().zip(runs) {
        if titles.iter().filter(|title| **title == section.title).count() > 1 {
            section.title += &format!(" ({})", run.display());
        }
    }
}

/// Writes a page and its plots, and tells how many there are.
pub(crate) fn write_page(path: &Path, title: &str, sections: &[Section]) -> Result<usize> {
    let html = report(title, sections);
    write_whole(path, |file| file.write_all(html.as_bytes()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut num_plots = 0;
    for (i, section) in sections.iter().enumerate() {
        for chart in &section.charts {
            let svg = chart.lines.figure().svg();
            let name = format!("{stem}-{}-{}.svg", i + 1, chart.name);
            write_whole(path.with_file_name(name), |file| file.write_all(svg.as_bytes()))?;
            num_plots += 1;
        }
    }
    Ok(num_plots)
}
