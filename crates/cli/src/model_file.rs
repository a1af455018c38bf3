//! Model files as people name them.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use residua_format::{FormatError, Model};

use crate::failure::hinted;

/// What a run folder calls its model.
pub(crate) const MODEL_FILE: &str = "model.safetensors";

/// The model file of a path: the file itself, or the one in a run folder.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.join(MODEL_FILE),
        false => path.to_owned(),
    }
}

/// Reads a model from a file or a run folder.
pub(crate) fn load(path: &Path) -> Result<Model> {
    Model::load(resolve(path)).map_err(|error| missing(path, &error).unwrap_or(error.into()))
}

/// What to say where there is no model.
fn missing(path: &Path, error: &FormatError) -> Option<Error> {
    let FormatError::Read { source, .. } = error else { return None };
    if source.kind() != std::io::ErrorKind::NotFound {
        return None;
    }
    Some(match path.is_dir() {
        true => hinted(
            format!("{}: this folder has no {MODEL_FILE}", path.display()),
            format!(
                "a run writes it at its end; `residua train --resume {}` goes on with a run",
                path.display()
            ),
        ),
        false => hinted(
            format!("{}: no such file", path.display()),
            "`residua train DATA` makes a model; its last lines say where the file is",
        ),
    })
}
