use std::path::PathBuf;

use residua_data::Dataset;
use residua_format::Model;
use residua_resnet::{Architecture, Insertion, insert_blocks};
use residua_train::plot::{Line, LineChart, LineStyle};
use residua_train::{Length, Recipe, Schedule, Start, read_metrics};
use serde::{Deserialize, Serialize};

use crate::compare::Errors;
use crate::run::MODEL_FILE;
use crate::section::{SHOWN, percent_of};
use crate::{Chart, RunState, Section, StudyError, StudyRun, Table, changed_model, start_from};

/// A network that is trained, deepened and trained on until it has its full depth, against one that has it
/// from the start and gets as much computation.
///
/// The computation of the recipe's steps at the full depth is shared equally between the depths, so that
/// a shallow network gets more steps. The learning rate is the recipe's highest until the full depth is
/// reached, and follows the recipe's schedule there.
#[derive(Debug, Clone)]
pub struct Growth {
    /// What all runs have in common; its length is that of the run from scratch.
    pub recipe: Recipe,
    /// The networks, each deeper than the one before by whole blocks.
    pub architectures: Vec<Architecture>,
    /// Where the runs are.
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grown {
    /// Name of the dataset.
    pub dataset: String,
    /// Learning rate.
    pub lr: f64,
    /// The growing network, a stage for each depth.
    pub stages: Vec<GrownStage>,
    /// The network that has its full depth from the start.
    pub scratch: GrownStage,
}

/// A run at one depth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrownStage {
    /// Name of the architecture.
    pub architecture: String,
    /// Steps of the run.
    pub steps: u64,
    /// Multiply-adds of its forward passes, in 10¹².
    pub tera_macs: f64,
    /// Its errors at the end.
    pub errors: Errors,
    /// Share of the run and dev error in percent, where it was evaluated.
    pub dev_curve: Vec<(f64, f64)>,
}

impl Growth {
    /// The run from scratch.
    pub fn scratch(&self) -> Result<StudyRun, StudyError> {
        let architecture = self.last()?.clone();
        let name = format!("scratch-{}-s{}", architecture.name(), self.recipe.seed);
        let recipe = Recipe { architecture, ..self.recipe.clone() };
        Ok(StudyRun::new(self.folder.join(name), recipe))
    }

    /// The run at a depth, from 0; none before the one at the depth before is finished.
    ///
    /// # Errors
    /// A network that is not the one before with more blocks; files that can't be read.
    pub fn run(&self, i: usize, dataset: &Dataset) -> Result<Option<StudyRun>, StudyError> {
        let architecture = self.architectures[i].clone();
        let name = format!("grown-{}-s{}", architecture.name(), self.recipe.seed);
        let folder = self.folder.join(name);
        let is_last = i + 1 == self.architectures.len();
        let steps = self.steps(i, dataset)?;
        let schedule = match is_last {
            true => squeezed(&self.recipe.schedule, self.recipe.total_steps(dataset), steps),
            false => Schedule::Constant,
        };
        let length = Length::Steps(steps);
        // The network before is warm.
        let warmup_steps = if i == 0 { self.recipe.warmup_steps } else { 0 };
        let recipe = Recipe { architecture, schedule, length, warmup_steps, ..self.recipe.clone() };
        if i == 0 {
            return Ok(Some(StudyRun::new(folder, recipe)));
        }
        let Some(before) = self.run(i - 1, dataset)? else { return Ok(None) };
        if !matches!(before.state(dataset)?, RunState::Finished(_)) {
            return Ok(None);
        }
        let model = Model::load(before.folder.join(MODEL_FILE))?;
        let velocity = Start::of_run(&before.folder)?.map(|(_, start)| start.velocity);
        let velocity = velocity.unwrap_or_else(|| vec![0.0; model.weights.params.len()]);
        let (model, velocity) = self.deepen(model, velocity, &self.architectures[i])?;
        start_from(&model, velocity, &recipe, folder).map(Some)
    }

    /// The steps at a depth.
    fn steps(&self, i: usize, dataset: &Dataset) -> Result<u64, StudyError> {
        let macs = |architecture: &Architecture| -> Result<f64, StudyError> {
            Ok(architecture.to_graph()?.total_macs() as f64)
        };
        let all = self.recipe.total_steps(dataset) as f64 * macs(self.last()?)?;
        let share = all / self.architectures.len() as f64;
        Ok((share / macs(&self.architectures[i])?).round().max(1.0) as u64)
    }

    /// Puts in the blocks that `target` has more, in each stage at its end.
    fn deepen(
        &self,
        mut model: Model,
        mut velocity: Vec<f32>,
        target: &Architecture,
    ) -> Result<(Model, Vec<f32>), StudyError> {
        for (stage, spec) in target.stages().iter().enumerate() {
            let there = model.architecture.stages().get(stage).map_or(0, |stage| stage.blocks);
            let Some(num_blocks @ 1..) = spec.blocks.checked_sub(there) else { continue };
            let insertion =
                Insertion { seed: self.recipe.seed, ..Insertion::new(stage + 1, num_blocks) };
            let changed = insert_blocks(&model.architecture, &model.weights, &insertion)?;
            velocity = changed.carry(&velocity);
            model = changed_model(&model, &changed);
        }
        match model.architecture == *target {
            true => Ok((model, velocity)),
            false => Err(StudyError::Unsuitable {
                subject: target.name().to_owned(),
                got: format!("not {} with more blocks", self.architectures[0].name()),
                expected: "networks that differ in the number of blocks alone".to_owned(),
            }),
        }
    }

    fn last(&self) -> Result<&Architecture, StudyError> {
        self.architectures.last().ok_or_else(|| StudyError::Unsuitable {
            subject: "depths".to_owned(),
            got: "none".to_owned(),
            expected: "two or more".to_owned(),
        })
    }

    /// What came of it, once all runs are finished; none before, or if one diverged.
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn result(&self, dataset: &Dataset) -> Result<Option<Grown>, StudyError> {
        let mut stages = Vec::new();
        for i in 0..self.architectures.len() {
            let Some(run) = self.run(i, dataset)? else { return Ok(None) };
            let Some(stage) = stage(&run, dataset)? else { return Ok(None) };
            stages.push(stage);
        }
        let Some(scratch) = stage(&self.scratch()?, dataset)? else { return Ok(None) };
        let (dataset, lr) = (dataset.name().to_owned(), self.recipe.lr);
        Ok(Some(Grown { dataset, lr, stages, scratch }))
    }
}

/// A schedule for so many steps in place of all.
fn squeezed(schedule: &Schedule, all_steps: u64, steps: u64) -> Schedule {
    let mut schedule = schedule.clone();
    if let Schedule::Step { milestones, .. } = &mut schedule {
        for milestone in milestones {
            *milestone = (*milestone as f64 * steps as f64 / all_steps as f64).round() as u64;
        }
    }
    schedule
}

fn stage(run: &StudyRun, dataset: &Dataset) -> Result<Option<GrownStage>, StudyError> {
    let RunState::Finished(summary) = run.state(dataset)? else { return Ok(None) };
    let records = read_metrics(&run.folder.join("metrics.jsonl"))?;
    let share = |step: u64| step as f64 / summary.steps as f64;
    let point = |r: &residua_train::MetricsRecord| Some((share(r.step), r.dev_error?));
    Ok(Some(GrownStage {
        steps: summary.steps,
        tera_macs: run.macs(dataset) / 1e12,
        errors: Errors::from(&*summary),
        dev_curve: records.iter().filter_map(point).collect(),
        architecture: summary.architecture,
    }))
}

impl Grown {
    /// What came of it, as a person reads it.
    pub fn section(&self) -> Section {
        let last = self.stages.last().unwrap_or(&self.scratch);
        let mut table = Table::new(
            "Errors at the end of each stage",
            [
                "",
                "Network",
                ">steps",
                ">multiply-adds (10^12)",
                ">lr",
                ">train error",
                ">dev error",
                ">test error",
            ],
        );
        let grown = self.stages.iter().map(|stage| ("growing", stage));
        for (name, stage) in grown.chain([("from scratch", &self.scratch)]) {
            table.row([
                name.to_owned(),
                stage.architecture.clone(),
                stage.steps.to_string(),
                format!("{:.1}", stage.tera_macs),
                self.lr.to_string(),
                percent_of(Some(stage.errors.train)),
                percent_of(stage.errors.dev),
                percent_of(stage.errors.test),
            ]);
        }
        Section {
            title: format!("{}, grown or from scratch", last.architecture),
            question: "With the same computation: is it better to train a shallow network and deepen it, or \
                       to train the deep one from the start?"
                .to_owned(),
            setting: vec![
                ("data".to_owned(), self.dataset.clone()),
                ("learning rate".to_owned(), self.lr.to_string()),
            ],
            charts: vec![self.chart()],
            tables: vec![table],
            findings: self.findings(last),
            commands: Vec::new(),
        }
    }

    fn chart(&self) -> Chart {
        let mut spent = 0.0;
        let mut grown = Vec::new();
        for stage in &self.stages {
            let point = |&(share, error): &(f64, f64)| (spent + share * stage.tera_macs, error);
            grown.extend(stage.dev_curve.iter().map(point));
            spent += stage.tera_macs;
        }
        let scratch = self.scratch.dev_curve.iter();
        let scratch = scratch.map(|&(share, error)| (share * self.scratch.tera_macs, error));
        Chart {
            name: "growth".to_owned(),
            caption:
                "Dev error over the computation that was spent, as multiply-adds of forward passes."
                    .to_owned(),
            lines: LineChart {
                lines: vec![
                    Line::new("growing", 0, grown).style(LineStyle::Marked),
                    Line::new("from scratch", 1, scratch.collect()).style(LineStyle::Marked),
                ],
                ..LineChart::new(
                    "Growing and starting deep",
                    "multiply-adds (10^12)",
                    "dev error (%)",
                )
            },
        }
    }

    fn findings(&self, last: &GrownStage) -> Vec<String> {
        let finding = |split: &str, grown: f64, scratch: f64| match scratch - grown {
            gain if gain >= SHOWN => {
                format!("On the {split} set growing ends {gain:.2} points lower than from scratch.")
            }
            gain if gain <= -SHOWN => {
                format!(
                    "On the {split} set growing ends {:.2} points higher than from scratch.",
                    -gain
                )
            }
            _ => format!("On the {split} set both end with the same error, as far as it is shown."),
        };
        let (grown, scratch) = (&last.errors, &self.scratch.errors);
        let mut findings =
            vec![finding("training", grown.train.top1_error, scratch.train.top1_error)];
        for (split, grown, scratch) in
            [("dev", grown.dev, scratch.dev), ("test", grown.test, scratch.test)]
        {
            if let (Some(grown), Some(scratch)) = (grown, scratch) {
                findings.push(finding(split, grown.top1_error, scratch.top1_error));
            }
        }
        findings
    }
}
