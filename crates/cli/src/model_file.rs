//! Model files as people name them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, ensure};
use residua_format::{FormatError, Model};

use crate::failure::hinted;
use crate::train::resume_command;

/// What a run folder calls its model.
pub(crate) const MODEL_FILE: &str = "model.safetensors";

/// The model file of a path: the file itself, or the one in a run folder.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.join(MODEL_FILE),
        false => path.to_owned(),
    }
}

/// Refuses a path that no model can be written to, before there is one, and makes its folder.
pub(crate) fn prepare_out(path: &Path) -> Result<()> {
    let shown = path.display();
    ensure!(!path.is_dir(), "{shown}: is a folder, expected a file to write the model to");
    // What lies beside a model file has these endings.
    let is_taken = path.extension().is_some_and(|ending| ending == "state" || ending == "run");
    ensure!(!is_taken, "{shown}: expected another ending, as in model.safetensors");
    refuse_to_replace(path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(())
}

/// A model may be made again, but that of a run, and files of other kinds, stay.
fn refuse_to_replace(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let shown = path.display();
    let is_of_run = path.ends_with(MODEL_FILE) && path.with_file_name("config.toml").exists();
    ensure!(!is_of_run, "{shown}: is the model of a run, expected another file to write to");
    ensure!(
        Model::load(path).is_ok(),
        "{shown}: is there and no model, expected another file to write to"
    );
    Ok(())
}

/// Reads a model from a file or a run folder.
pub(crate) fn load(path: &Path) -> Result<Model> {
    let is_checkpoint = path.extension().is_some_and(|ending| ending == "ckpt");
    ensure!(
        !is_checkpoint,
        "{}: is a checkpoint of a run, expected a model file or run folder",
        path.display()
    );
    Model::load(resolve(path)).map_err(|error| missing(path, &error).unwrap_or(error.into()))
}

/// Whether a path is a run's folder, and the run has not come to its end.
pub(crate) fn is_run_without_model(path: &Path) -> bool {
    path.join("config.toml").exists() && !path.join(MODEL_FILE).exists()
}

/// What to say where there is no model.
fn missing(path: &Path, error: &FormatError) -> Option<Error> {
    let FormatError::Read { source, .. } = error else { return None };
    if source.kind() != std::io::ErrorKind::NotFound {
        return None;
    }
    let shown = path.display();
    Some(match path.is_dir() {
        true if is_run_without_model(path) => hinted(
            format!("{shown}: this run has no {MODEL_FILE}, which it writes at its end"),
            format!(
                "`{}` goes on with it, `residua train --from` goes on from its newest checkpoint with other settings",
                resume_command(path)
            ),
        ),
        true => hinted(
            format!("{shown}: this folder has no {MODEL_FILE}"),
            "a run of training has one: expected its folder, or a model file",
        ),
        false => hinted(
            format!("{shown}: no such file"),
            "`residua train DATA` makes a model; its last lines say where the file is",
        ),
    })
}
