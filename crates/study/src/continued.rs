use std::path::{Path, PathBuf};

use residua_data::Dataset;
use residua_format::Model;
use residua_graph::Weights;
use residua_resnet::{BlockIndex, remove_blocks};
use residua_train::{Recipe, Start, Summary, read_metrics};
use serde::{Deserialize, Serialize};

use crate::compare::{CurvePoint, Errors, curves_chart, error_curve, mean_curve, shown_up_to};
use crate::section::{SHOWN, percent_of};
use crate::{Chart, RunState, Section, StudyError, StudyRun, Table, changed_model, grouped};

/// The training of a network that blocks were put into, and as many steps of the network without them.
#[derive(Debug, Clone)]
pub struct Continuation {
    /// The deeper network.
    pub deeper: StudyRun,
    /// The network without the new blocks, from the same weights with the same settings.
    pub original: StudyRun,
    original_model: Model,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Continued {
    /// Name of the dataset.
    pub dataset: String,
    /// Learning rate.
    pub lr: f64,
    /// Steps of each run.
    pub steps: u64,
    /// The new blocks.
    pub new_blocks: Vec<String>,
    /// The network without them, as it was.
    pub before: Trained,
    /// The same after the steps.
    pub original: Trained,
    /// The deeper network after the steps.
    pub deeper: Trained,
}

/// A network and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Name of the architecture.
    pub architecture: String,
    /// Number of trainable parameters.
    pub num_parameters: u64,
    /// Its errors.
    pub errors: Errors,
    /// Errors over the steps of this training, if there are any; not in records of before 2026-11-22.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
}

/// Which network is to be kept: the one with the lowest dev error, of equals the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The network without new blocks, as it was.
    Before,
    /// The same after more steps.
    Original,
    /// The deeper network.
    Deeper,
}

impl Continuation {
    /// The two runs in `folder`. `model` is the deeper network; `velocity` is what momentum has gathered
    /// of its parameters, or nothing.
    ///
    /// # Errors
    /// A model into which no blocks were put after its training, or not those that it says.
    pub fn new(
        model: &Model,
        velocity: Vec<f32>,
        recipe: &Recipe,
        folder: &Path,
    ) -> Result<Self, StudyError> {
        let blocks = inserted_blocks(model)?;
        let original = remove_blocks(&model.architecture, &model.weights, &blocks)?;
        let original_velocity = original.carry(&velocity);
        let original_model = changed_model(model, &original);
        let run =
            |model: &Model, velocity, name| start_from(model, velocity, recipe, folder.join(name));
        Ok(Self {
            deeper: run(model, velocity, "deeper")?,
            original: run(&original_model, original_velocity, "original")?,
            original_model,
        })
    }

    /// The network without the new blocks, as it was.
    pub fn original_model(&self) -> &Model {
        &self.original_model
    }

    /// What came of it, if both runs are over and none diverged. `before` are the errors of
    /// [`original_model`](Self::original_model).
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn result(
        &self,
        model: &Model,
        dataset: &Dataset,
        before: Errors,
    ) -> Result<Option<Continued>, StudyError> {
        let (RunState::Finished(original), RunState::Finished(deeper)) =
            (self.original.state(dataset)?, self.deeper.state(dataset)?)
        else {
            return Ok(None);
        };
        let trained = |run: &StudyRun, summary: &Summary| -> Result<Trained, StudyError> {
            Ok(Trained {
                architecture: summary.architecture.clone(),
                num_parameters: summary.num_parameters,
                errors: Errors::from(summary),
                curve: mean_curve(&[read_metrics(&run.folder.join("metrics.jsonl"))?]),
            })
        };
        let original = trained(&self.original, &original)?;
        Ok(Some(Continued {
            dataset: deeper.dataset.clone(),
            lr: self.deeper.recipe.lr,
            steps: deeper.steps,
            new_blocks: model.provenance.inserted_blocks.clone(),
            before: Trained { errors: before, curve: Vec::new(), ..original.clone() },
            original,
            deeper: trained(&self.deeper, &deeper)?,
        }))
    }
}

/// A run that goes on with a model's training.
///
/// # Errors
/// Weights that are not those of the model's architecture.
pub fn start_from(
    model: &Model,
    velocity: Vec<f32>,
    recipe: &Recipe,
    folder: PathBuf,
) -> Result<StudyRun, StudyError> {
    let recipe = Recipe {
        architecture: model.architecture.clone(),
        start_sha256: Some(model.weights_sha256()?),
        ..recipe.clone()
    };
    let weights: Weights = model.weights.clone();
    let start = Start { weights, velocity, recipe: recipe.clone() };
    Ok(StudyRun { folder, recipe, start: Some(start) })
}

fn inserted_blocks(model: &Model) -> Result<Vec<BlockIndex>, StudyError> {
    let names = &model.provenance.inserted_blocks;
    let blocks: Result<Vec<BlockIndex>, String> = names.iter().map(|name| name.parse()).collect();
    match blocks {
        Ok(blocks) if !blocks.is_empty() => Ok(blocks),
        other => Err(StudyError::Unsuitable {
            subject: model.architecture.name().to_owned(),
            got: other
                .err()
                .unwrap_or_else(|| "no blocks were put in after its training".to_owned()),
            expected: "a model that `deepen` has written".to_owned(),
        }),
    }
}

impl Continued {
    /// Which network is to be kept.
    pub fn kept(&self) -> Kept {
        let error =
            |trained: &Trained| trained.errors.dev.unwrap_or(trained.errors.train).top1_error;
        let candidates = [
            (Kept::Before, &self.before),
            (Kept::Original, &self.original),
            (Kept::Deeper, &self.deeper),
        ];
        let best = candidates.into_iter().min_by(|a, b| error(a.1).total_cmp(&error(b.1)));
        best.map_or(Kept::Before, |(kept, _)| kept)
    }

    /// What came of it, as a person reads it.
    pub fn section(&self) -> Section {
        let rows = [
            ("before", &self.before),
            ("trained on without new blocks", &self.original),
            ("deepened and trained on", &self.deeper),
        ];
        let caption =
            format!("Errors before and after {} more steps at lr {}", self.steps, self.lr);
        let header = ["", "Network", ">parameters", ">train error", ">dev error", ">test error"];
        let mut table = Table::new(caption, header);
        for (name, Trained { architecture, num_parameters, errors, .. }) in rows {
            table.row([
                name.to_owned(),
                architecture.clone(),
                grouped(*num_parameters),
                percent_of(Some(errors.train)),
                percent_of(errors.dev),
                percent_of(errors.test),
            ]);
        }
        Section {
            title: format!("Was {} worth its new blocks?", self.deeper.architecture),
            question:
                "A deeper network that starts as the shallower one can only gain: does it, on the \
                       training and dev sets, and more than by training on?"
                    .to_owned(),
            setting: vec![
                ("data".to_owned(), self.dataset.clone()),
                ("new blocks".to_owned(), self.new_blocks.join(", ")),
                ("learning rate".to_owned(), self.lr.to_string()),
                ("steps".to_owned(), self.steps.to_string()),
            ],
            charts: self.chart().into_iter().collect(),
            tables: vec![table],
            findings: self.findings(),
            ..Section::default()
        }
    }

    /// Both trainings, where their course is known.
    fn chart(&self) -> Option<Chart> {
        let curve = |name: &str, trained: &Trained| {
            error_curve(format!("{}, {name},", trained.architecture), &trained.curve)
        };
        let curves = [curve("not deepened", &self.original), curve("deepened", &self.deeper)];
        let title = "Trained on, with new blocks and without".to_owned();
        let is_known = !self.deeper.curve.is_empty();
        let y_max = shown_up_to(&curves);
        is_known.then(|| curves_chart("curves".to_owned(), title, curves.into(), y_max))
    }

    fn findings(&self) -> Vec<String> {
        let gain = |split: &str, original: f64, deeper: f64| match original - deeper {
            gain if gain >= SHOWN => format!(
                "On the {split} set the deeper network helped: {gain:.2} points less error than as many \
                 steps without the new blocks."
            ),
            gain if gain <= -SHOWN => format!(
                "On the {split} set the deeper network did not help: {:.2} points more error than as \
                 many steps without the new blocks.",
                -gain
            ),
            _ => format!("On the {split} set both have the same error, as far as it is shown."),
        };
        let (original, deeper) = (&self.original.errors, &self.deeper.errors);
        let mut findings =
            vec![gain("training", original.train.top1_error, deeper.train.top1_error)];
        if let (Some(original), Some(deeper)) = (original.dev, deeper.dev) {
            findings.push(gain("dev", original.top1_error, deeper.top1_error));
        }
        let kept = match self.kept() {
            Kept::Before => "the network as it was",
            Kept::Original => "the network without new blocks, trained on",
            Kept::Deeper => "the deeper network",
        };
        let split = if self.deeper.errors.dev.is_some() { "dev" } else { "training" };
        findings.push(format!("Kept is {kept}, which has the lowest {split} error."));
        findings
    }
}
