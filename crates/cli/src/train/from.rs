//! `residua train --from`: goes on from a model's weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use residua_data::{Dataset, OpenOptions, Split};
use residua_format::Model;
use residua_resnet::Architecture;
use residua_study::compare::Errors;
use residua_study::{Continuation, Kept, Study, start_from};
use residua_train::{EvalOptions, Recipe, SplitSummary, Start, evaluate};

use super::{TrainArgs, default_folder, report};
use crate::failure::Outcome;
use crate::model_file::{self, MODEL_FILE};
use crate::present::{PresentArgs, present};
use crate::{interrupt, output, progress, study_runs};

/// The learning rate becomes so much smaller (Chen et al. 2016, "Net2Net", arXiv 1511.05641, section 3.1).
pub(crate) const LR_DIVISOR: f64 = 10.0;
/// What the better of two networks is called in the folder of both.
const KEPT_FILE: &str = "kept.safetensors";

/// Where a model's momentum is: beside it.
pub(crate) fn state_file(model: &Path) -> PathBuf {
    model.with_extension("state")
}

/// What the training of a model has left: in its run folder, or beside the file. Nothing if that belongs to
/// other weights.
pub(crate) fn start_of(path: &Path, model: &Model) -> Result<Option<Start>> {
    let state = state_file(path);
    let start = match path.is_dir() {
        true => Start::of_run(path)?.map(|(_, start)| start),
        false if state.exists() => Some(Start::load(&state)?),
        false => None,
    };
    Ok(start.filter(|start| start.weights == model.weights))
}

pub(super) fn run(args: &TrainArgs, from: &Path) -> Result<Outcome> {
    if model_file::is_run_without_model(from)
        && let Some((steps, start)) = Start::of_run(from)?
    {
        return go_on_from_checkpoint(args, steps, start);
    }
    let model = model_file::load(from)?;
    let bad = model.weights.params.iter().filter(|value| !value.is_finite()).count();
    ensure!(bad == 0, "{}: {bad} of its weights are no numbers", from.display());
    let start = start_of(from, &model)?;
    match &start {
        Some(_) => {
            output::note("goes on with the momentum and the settings of the training before")
        }
        None => {
            output::note("goes on without momentum: the run of the training before is not there")
        }
    }
    let (recipe, dataset) =
        recipe(args, &model.architecture, &model.provenance.dataset, start.as_ref())?;
    let velocity = start.map_or_else(|| vec![0.0; model.weights.params.len()], |s| s.velocity);
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&recipe, &dataset));
    match model.provenance.inserted_blocks.is_empty() {
        true => go_on(args, &model, velocity, &recipe, &dataset, &folder),
        false => go_on_deeper(args, &model, velocity, &recipe, &dataset, &folder),
    }
}

/// A run that has diverged or was stopped.
fn go_on_from_checkpoint(args: &TrainArgs, steps: u64, start: Start) -> Result<Outcome> {
    output::note(format_args!(
        "this run has no model yet: goes on from its newest checkpoint, of step {steps}, with its momentum and settings"
    ));
    let Start { recipe: Recipe { architecture, data, .. }, .. } = &start;
    let (recipe, dataset) = recipe(args, architecture, data, Some(&start))?;
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&recipe, &dataset));
    let model = recipe.model(&dataset, start.weights, steps);
    go_on(args, &model, start.velocity, &recipe, &dataset, &folder)
}

/// The settings of the training before, or what suits the data, that of the training unless there is other; with a
/// smaller learning rate, and with what is set here.
fn recipe(
    args: &TrainArgs,
    architecture: &Architecture,
    trained_on: &str,
    start: Option<&Start>,
) -> Result<(Recipe, Arc<Dataset>)> {
    let data = args.data.clone().unwrap_or_else(|| match start {
        Some(start) => start.recipe.data.clone(),
        None => trained_on.to_owned(),
    });
    let mut open = start.map_or_else(OpenOptions::default, |start| start.recipe.open.clone());
    args.recipe.apply_open(&mut open);
    let dataset = Arc::new(progress::open(&data, &open)?);
    let architecture = architecture.clone();
    let recipe = match start {
        Some(start) => Recipe { data, open, architecture, ..start.recipe.clone() },
        None => args.recipe.of_architecture(data, open, &dataset, architecture)?,
    };
    let recipe = Recipe { lr: recipe.lr / LR_DIVISOR, warmup_steps: 0, ..recipe };
    Ok((args.recipe.apply(recipe, &dataset)?, dataset))
}

/// A network that has been trained whole.
fn go_on(
    args: &TrainArgs,
    model: &Model,
    velocity: Vec<f32>,
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    folder: &Path,
) -> Result<Outcome> {
    let run = start_from(model, velocity, recipe, folder.to_owned())?;
    let stop = interrupt::stop_flag()?;
    if !study_runs::carry_out(std::slice::from_ref(&run), dataset, super::options(args), &stop)? {
        return Ok(Outcome::Interrupted);
    }
    let summary = study_runs::summary(&run, dataset)?;
    report(&summary, dataset.kind().things(), folder, args.json)?;
    Ok(Outcome::Done)
}

/// A network with new blocks, against itself without them.
fn go_on_deeper(
    args: &TrainArgs,
    model: &Model,
    velocity: Vec<f32>,
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    folder: &Path,
) -> Result<Outcome> {
    let continuation = Continuation::new(model, velocity, recipe, folder)?;
    let runs = [continuation.original.clone(), continuation.deeper.clone()];
    let stop = interrupt::stop_flag()?;
    if !study_runs::carry_out(&runs, dataset, super::options(args), &stop)? {
        return Ok(Outcome::Interrupted);
    }
    for run in &runs {
        study_runs::summary(run, dataset)?;
    }
    let options = recipe.eval_options();
    let before =
        args.threads.install(|| errors(continuation.original_model(), dataset, &options))??;
    let continued = continuation.result(model, dataset, before)?.context("both runs are over")?;
    let kept = match continued.kept() {
        Kept::Before => continuation.original_model().clone(),
        Kept::Original => Model::load(continuation.original.folder.join(MODEL_FILE))?,
        Kept::Deeper => Model::load(continuation.deeper.folder.join(MODEL_FILE))?,
    };
    let kept_file = folder.join(KEPT_FILE);
    kept.save(&kept_file)?;
    let presented = PresentArgs { out: Some(folder.to_owned()), json: args.json };
    present(Study::Continued(Box::new(continued)), &presented)?;
    output::note(format_args!("model    {}", kept_file.display()));
    Ok(Outcome::Done)
}

fn errors(model: &Model, dataset: &Arc<Dataset>, options: &EvalOptions) -> Result<Errors> {
    let of_split = |split: Split| -> Result<Option<SplitSummary>> {
        if dataset.is_empty(split) {
            return Ok(None);
        }
        let evaluation = evaluate(model, dataset, split, options)?;
        Ok(Some(SplitSummary {
            num_samples: evaluation.num_samples,
            top1_error: evaluation.top1_error,
            mean_loss: evaluation.mean_loss,
        }))
    };
    let train = of_split(Split::Train)?.context("a dataset has training samples")?;
    Ok(Errors { train, dev: of_split(Split::Dev)?, test: of_split(Split::Test)? })
}
