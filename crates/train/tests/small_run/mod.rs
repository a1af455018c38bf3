//! Runs of a second or less, shared by the tests of this folder.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::{Augment, Dataset, OpenOptions};
use residua_format::Model;
use residua_resnet::{Architecture, Block, Shape, Shortcut, StemKind};
use residua_train::{
    EarlyImages, Event, Length, MuonOptions, Observer, Outcome, Recipe, RunOptions, Schedule,
    Summary, TrainError, Trainer,
};

/// What a small run trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// A convolutional residual network with learned shortcuts on drawn shapes, augmented.
    Shapes,
    /// A fully connected residual network on points.
    Spirals,
}

impl Task {
    pub(crate) const ALL: [Self; 2] = [Self::Shapes, Self::Spirals];

    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::Shapes => "synthetic:shapes?train=100&dev=20&test=30",
            Self::Spirals => "synthetic:spirals?train=200&dev=50&test=60",
        }
    }

    pub(crate) fn dataset(self) -> Arc<Dataset> {
        Arc::new(residua_data::open(self.source(), &OpenOptions::default()).expect("synthetic"))
    }

    pub(crate) fn architecture(self) -> Architecture {
        match self {
            Self::Shapes => Architecture::builder(Shape::image(3, 32, 32), 10)
                .name("tiny")
                .shortcut(Shortcut::Projection)
                .stem(StemKind::Conv3x3, 5)
                .stage(1, 5, 2)
                .stage(1, 9, 2),
            Self::Spirals => Architecture::builder(Shape::vector(2), 3)
                .name("points")
                .block(Block::Dense)
                .stem(StemKind::Linear, 16)
                .stage(2, 16, 1),
        }
        .build()
        .expect("a valid architecture")
    }

    /// 30 steps with everything on that has a state: momentum, running statistics, augmentation,
    /// smaller images for the first 13 steps; Muon for the points.
    pub(crate) fn recipe(self) -> Recipe {
        let recipe = Recipe::new(
            self.source(),
            OpenOptions::default(),
            &self.dataset(),
            self.architecture(),
        );
        Recipe {
            seed: 5,
            batch_size: 16,
            lr: 0.05,
            nesterov: true,
            label_smoothing: 0.1,
            clip_grad_norm: Some(2.0),
            schedule: Schedule::Cosine,
            warmup_steps: 3,
            length: Length::Steps(30),
            checkpoint_every: Some(4),
            eval_every: Some(5),
            whiten_stem: self == Self::Shapes,
            muon: (self == Self::Spirals).then(MuonOptions::default),
            early_images: (self == Self::Shapes).then_some(EarlyImages { size: 24, share: 0.43 }),
            augment: if self == Self::Shapes { Augment::PAD_CROP_FLIP } else { Augment::None },
            ..recipe
        }
    }
}

pub(crate) fn two_threads() -> RunOptions {
    RunOptions { threads: Some(2), workers: Some(2), ..RunOptions::default() }
}

/// A new run to its end.
pub(crate) fn train(
    folder: &Path,
    recipe: Recipe,
    dataset: &Arc<Dataset>,
) -> Result<Summary, TrainError> {
    train_watched(folder, recipe, dataset, two_threads(), &mut ())
}

pub(crate) fn train_watched(
    folder: &Path,
    recipe: Recipe,
    dataset: &Arc<Dataset>,
    options: RunOptions,
    observer: &mut dyn Observer,
) -> Result<Summary, TrainError> {
    let trainer = Trainer::create(folder, false, recipe, Arc::clone(dataset), options)?;
    finished(trainer.run(observer, &AtomicBool::new(false))?)
}

/// A run that was started before, to its end.
pub(crate) fn resume(folder: &Path, dataset: &Arc<Dataset>) -> Result<Summary, TrainError> {
    resume_watched(folder, dataset, &mut ())
}

pub(crate) fn resume_watched(
    folder: &Path,
    dataset: &Arc<Dataset>,
    observer: &mut dyn Observer,
) -> Result<Summary, TrainError> {
    let trainer = Trainer::resume(folder, Arc::clone(dataset), two_threads())?;
    finished(trainer.run(observer, &AtomicBool::new(false))?)
}

fn finished(outcome: Outcome) -> Result<Summary, TrainError> {
    match outcome {
        Outcome::Finished(summary) => Ok(*summary),
        Outcome::Interrupted { step } => panic!("interrupted after step {step}"),
    }
}

/// The bytes of a run's model file.
pub(crate) fn model_bytes(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model.safetensors")).expect("the run has written its model")
}

pub(crate) fn model(folder: &Path) -> Model {
    Model::load(folder.join("model.safetensors")).expect("the run has written its model")
}

/// The error with everything that led to it.
pub(crate) fn message(error: &TrainError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Stops a run after a step.
pub(crate) struct StopAt<'a> {
    pub(crate) step: u64,
    pub(crate) stop: &'a AtomicBool,
}

impl Observer for StopAt<'_> {
    fn on_event(&mut self, event: &Event<'_>) {
        if let Event::Step(report) = event
            && report.step == self.step
        {
            self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Runs until after `step`, as if somebody had pressed Ctrl-C.
pub(crate) fn interrupt(trainer: Trainer, step: u64) -> Outcome {
    let stop = AtomicBool::new(false);
    trainer.run(&mut StopAt { step, stop: &stop }, &stop).expect("an interrupted run is fine")
}
