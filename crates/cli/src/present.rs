//! Studies as a person or a machine gets them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use residua_study::{Record, Section, Study, shell_line};

use crate::{output, table};

/// Where a study goes.
#[derive(Debug, Clone, Args)]
pub(crate) struct PresentArgs {
    /// Folder for the record and the plots, which `residua report` takes
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Keeps a study where it is to be kept, and prints it.
pub(crate) fn present(study: Study, args: &PresentArgs) -> Result<()> {
    keep(study, args.out.as_deref(), args.json, "--out")
}

/// Makes the folder that a study of this kind is to be kept in, if there is to be one, before anything is
/// measured.
pub(crate) fn prepare(folder: Option<&Path>, kind: &str) -> Result<()> {
    Ok(folder.map_or(Ok(()), |folder| Record::prepare(folder, kind))?)
}

/// A study with this command line.
pub(crate) fn record(study: Study) -> Record {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let command = shell_line(std::iter::once("residua".to_owned()).chain(words));
    Record::new(command, study)
}

/// Keeps a study in a folder, if one is given by that flag, and prints it.
pub(crate) fn keep(study: Study, folder: Option<&Path>, json: bool, flag: &str) -> Result<()> {
    let record = record(study);
    if let Some(folder) = folder {
        record.save(folder)?;
    }
    if json {
        return Ok(output::json(&record)?);
    }
    print(&record.section())?;
    match folder {
        Some(folder) => {
            let folder = folder.display();
            output::line(format_args!(
                "\nin {folder}; `residua report {folder}` makes a page of it"
            ))?;
        }
        None => output::note(format_args!("\nhint: {flag} DIR keeps this, with plots")),
    }
    Ok(())
}

/// Prints tables and what follows from them.
pub(crate) fn print(section: &Section) -> Result<()> {
    for shown in &section.tables {
        let mut rows = table::new(shown.header.iter().map(String::as_str));
        for row in &shown.rows {
            rows.add_row(row);
        }
        output::line(&shown.caption)?;
        output::line(table::text(&rows))?;
    }
    for finding in &section.findings {
        output::line(finding)?;
    }
    Ok(())
}
