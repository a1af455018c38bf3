//! The data that a model is measured on.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use residua_data::{Dataset, OpenOptions, Split};
use residua_format::Model;
use residua_train::{Recipe, Start};

use crate::arguments::OpenArgs;
use crate::model_file::MODEL_FILE;
use crate::train::from::state_file;
use crate::{output, progress};

/// Opens data with the splits that the model's training had of it, where its run is there to say them, but
/// for what is set here.
pub(crate) fn open(
    path: &Path,
    model: &Model,
    data: &str,
    args: &OpenArgs,
    split: Split,
) -> Result<(Arc<Dataset>, OpenOptions)> {
    let of_same_name =
        |recipe: &Recipe| Path::new(&recipe.data).file_name() == Path::new(data).file_name();
    let recipe = recipe(path)?.filter(of_same_name);
    let mut options = recipe.map_or_else(OpenOptions::default, |recipe| recipe.open);
    args.apply(&mut options);
    let dataset = Arc::new(progress::open(data, &options)?);
    dataset.expect_samples(split)?;
    note_other_data(model, &dataset);
    Ok((dataset, options))
}

/// Whether these are the data and the splits that a model was trained on.
pub(crate) fn is_trained_on(model: &Model, dataset: &Dataset) -> bool {
    dataset.fingerprint() == model.provenance.dataset_fingerprint
}

/// Says where these seem to be the data that a model was trained on, and are not, or have other splits.
pub(crate) fn note_other_data(model: &Model, dataset: &Dataset) {
    if !is_trained_on(model, dataset) && dataset.name() == model.provenance.dataset {
        output::note(
            "note: these are not the data, or not the splits, that the model was trained on, so that it \
             may be\nmeasured on what it has learned; if its run had --val-fraction, --test-fraction, \
             --split-seed or\n--skip-bad, set the same here",
        );
    }
}

/// What a model was trained with, where its run or its state is there.
fn recipe(path: &Path) -> Result<Option<Recipe>> {
    let folder = match path.is_dir() {
        true => Some(path),
        false => path.parent().filter(|_| path.ends_with(MODEL_FILE)),
    };
    if let Some(config) = folder.map(|folder| folder.join("config.toml")).filter(|it| it.exists()) {
        return Ok(Some(Recipe::load(config)?));
    }
    let state = state_file(path);
    Ok(match state.exists() {
        true => Some(Start::load(&state)?.recipe),
        false => None,
    })
}
