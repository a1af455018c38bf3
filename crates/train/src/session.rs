use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use residua_data::{Dataset, LoaderOptions, Split, TrainLoader, default_workers};
use residua_engine::Isa;
use residua_format::{Model, write_whole};
use residua_graph::Graph;
use residua_resnet::init_weights;

use crate::checkpoint::{Checkpoint, CheckpointHeader};
use crate::error::write_error;
use crate::evaluation::{Evaluator, Pass, Tally};
use crate::metrics::MetricsLog;
use crate::plot::{ErrorCurve, error_curves};
use crate::progress::Progress;
use crate::run_folder::RunFolder;
use crate::whitening::whiten_stem;
use crate::{
    Event, Observer, Outcome, Recipe, SplitSummary, Started, StepReport, Summary, TrainError,
    TrainStep, Trainer, Warning, branch_norms,
};

/// A trainer at work.
pub(crate) struct Session<'a> {
    folder: RunFolder,
    recipe: Recipe,
    dataset: Arc<Dataset>,
    graph: Graph,
    isa: Isa,
    num_threads: usize,
    workers: usize,
    train_step: TrainStep,
    loader: TrainLoader,
    loader_options: LoaderOptions,
    evaluator: Option<Evaluator>,
    metrics: MetricsLog,
    progress: Progress,
    intervals: Intervals,
    step: u64,
    first_step: u64,
    last_checkpoint: Option<PathBuf>,
    started: Instant,
    /// [`Progress::seconds`] when this session started.
    seconds_before: f64,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
}

/// Steps between what is done now and then.
#[derive(Debug, Clone, Copy)]
struct Intervals {
    total_steps: u64,
    steps_per_epoch: u64,
    /// The first steps, on smaller images, and the part of a later step's time that one takes.
    early_steps: u64,
    early_time: f64,
    record: u64,
    evaluate: u64,
    checkpoint: u64,
    keep: Option<NonZeroU64>,
}

impl Intervals {
    fn new(recipe: &Recipe, steps_per_epoch: u64, keep: Option<NonZeroU64>) -> Self {
        let total_steps = recipe.length.steps(steps_per_epoch);
        // A run has at most about this many of each: an epoch may be a few steps.
        const MOST: u64 = 200;
        let num_epochs = total_steps.div_ceil(steps_per_epoch);
        let epochs = num_epochs.div_ceil(MOST) * steps_per_epoch;
        Self {
            total_steps,
            steps_per_epoch,
            early_steps: recipe.early_steps(total_steps),
            early_time: recipe.early_images.map_or(1.0, |early| {
                let input = recipe.architecture.input();
                (early.size * early.size) as f64 / (input.h * input.w) as f64
            }),
            record: (total_steps / MOST).clamp(1, epochs),
            evaluate: recipe.eval_every.unwrap_or(epochs),
            checkpoint: recipe.checkpoint_every.unwrap_or(epochs),
            keep,
        }
    }

    fn is_due(&self, interval: u64, step: u64) -> bool {
        step.is_multiple_of(interval) || step == self.total_steps
    }

    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch as f64
    }

    /// The time of the steps before this one, in times of a step on images of the full size.
    fn time(&self, step: u64) -> f64 {
        let early_steps = step.min(self.early_steps);
        (step - early_steps) as f64 + early_steps as f64 * self.early_time
    }
}

impl<'a> Session<'a> {
    pub(crate) fn start(
        trainer: Trainer,
        num_threads: usize,
        observer: &'a mut dyn Observer,
        stop: &'a AtomicBool,
    ) -> Result<Self, TrainError> {
        let Trainer { folder, recipe, dataset, options, resumed, last_checkpoint, mut warnings } =
            trainer;
        let isa = options.isa()?;
        let workers = options.workers.unwrap_or_else(default_workers);
        let graph = recipe.architecture.to_graph()?;
        let mut weights = init_weights(&recipe.architecture, &graph, &recipe.init_options());
        if recipe.whiten_stem && resumed.is_none() {
            whiten_stem(&graph, &mut weights, &dataset, recipe.seed, workers)?;
        }
        let (batch_size, seed, augment) = (recipe.batch_size, recipe.seed, recipe.augment);
        let mut loader_options =
            LoaderOptions { batch_size, seed, augment, image_size: None, workers };
        let intervals =
            Intervals::new(&recipe, loader_options.steps_per_epoch(&dataset), options.keep_every);
        let first_step = resumed.as_ref().map_or(0, |checkpoint| checkpoint.header.step);
        let early = match first_step < intervals.early_steps {
            true => recipe.early_architecture()?,
            false => None,
        };
        let train_graph = match &early {
            Some(early) => &early.to_graph()?,
            None => &graph,
        };
        loader_options.image_size = early.map(|early| early.input().h);
        let mut train_step = TrainStep::new(train_graph, weights, &recipe, isa)?;
        let (mut step, mut progress) = (0, Progress::default());
        if let Some(Checkpoint { header, weights, velocity }) = resumed {
            if header.isa != isa.to_string() {
                warnings.push(Warning::OtherIsa { got: header.isa, expected: isa.to_string() });
            }
            (step, progress) = (header.step, header.progress);
            train_step.restore(weights, &velocity);
        }
        let loader = TrainLoader::new(&dataset, &loader_options, step)?;
        let metrics = MetricsLog::open(&folder.file("metrics.jsonl"), step)?;
        observer.on_event(&Event::Started(Started {
            folder: folder.path(),
            recipe: &recipe,
            first_step: step,
            total_steps: intervals.total_steps,
            steps_per_epoch: intervals.steps_per_epoch,
            num_parameters: graph.num_parameters(),
            num_threads,
        }));
        warnings.iter().for_each(|warning| observer.on_event(&Event::Warning(warning)));
        Ok(Self {
            folder,
            recipe,
            dataset,
            graph,
            isa,
            num_threads,
            workers,
            train_step,
            loader,
            loader_options,
            evaluator: None,
            metrics,
            intervals,
            step,
            first_step: step,
            last_checkpoint,
            started: Instant::now(),
            seconds_before: progress.seconds,
            progress,
            observer,
            stop,
        })
    }

    pub(crate) fn run(mut self) -> Result<Outcome, TrainError> {
        let intervals = self.intervals;
        // A run that was killed while it finished has all its steps behind it.
        let mut checkpointed = self.step;
        while self.step < intervals.total_steps {
            if intervals.keep.is_some_and(|interval| self.step.is_multiple_of(interval.get())) {
                self.keep_model()?;
            }
            if self.stop.load(Ordering::Relaxed) {
                if checkpointed != self.step {
                    self.checkpoint()?;
                }
                return Ok(Outcome::Interrupted { step: self.step });
            }
            let lr = match self.make_step() {
                // Nothing is wrong with the steps before a sample that can't be read.
                Err(error @ TrainError::Data(_)) if checkpointed != self.step => {
                    self.checkpoint()?;
                    return Err(error);
                }
                lr => lr?,
            };
            let evaluate = intervals.is_due(intervals.evaluate, self.step);
            if evaluate || intervals.is_due(intervals.record, self.step) {
                self.record(lr, evaluate)?;
            }
            if intervals.is_due(intervals.checkpoint, self.step) {
                self.checkpoint()?;
                checkpointed = self.step;
            }
        }
        self.finish()
    }

    /// Makes a step and gives its learning rate.
    fn make_step(&mut self) -> Result<f64, TrainError> {
        let start = Instant::now();
        if self.step == self.intervals.early_steps && self.loader_options.image_size.is_some() {
            self.take_full_images()?;
        }
        let waited = self.loader.wait_seconds();
        let batch = self.loader.next()?;
        let lr = self.recipe.lr_at(self.step, self.intervals.total_steps);
        let loss = self.train_step.run(&batch.input, &batch.labels, lr as f32);
        self.step += 1;
        if !loss.mean.is_finite() {
            return Err(self.not_finite("loss"));
        }
        self.loader.recycle(batch);
        let wait_seconds = self.loader.wait_seconds() - waited;
        self.progress.add(
            &loss,
            self.recipe.batch_size,
            start.elapsed().as_secs_f64(),
            wait_seconds,
        );
        self.progress.seconds = self.seconds();
        self.report(lr);
        Ok(lr)
    }

    /// Ends the part on smaller images.
    fn take_full_images(&mut self) -> Result<(), TrainError> {
        self.loader_options.image_size = None;
        self.loader = TrainLoader::new(&self.dataset, &self.loader_options, self.step)?;
        self.train_step.take_graph(&self.graph)
    }

    fn report(&mut self, lr: f64) {
        let (step, total_steps) = (self.step, self.intervals.total_steps);
        let record = self.progress.record(step, self.intervals.epoch(step), lr);
        let [before, now, end] =
            [self.first_step, step, total_steps].map(|step| self.intervals.time(step));
        let seconds_left = self.started.elapsed().as_secs_f64() * (end - now) / (now - before);
        self.observer.on_event(&Event::Step(StepReport {
            step,
            total_steps,
            epoch: record.epoch,
            lr,
            loss: record.loss,
            train_error: record.train_error,
            dev_error: self.progress.dev_error,
            images_per_s: record.images_per_s,
            data_wait_share: record.data_wait_share,
            seconds: record.seconds,
            seconds_left,
        }));
    }

    /// Adds a record, after an evaluation on the dev set if one is due.
    fn record(&mut self, lr: f64, evaluate: bool) -> Result<(), TrainError> {
        let mut record = self.progress.record(self.step, self.intervals.epoch(self.step), lr);
        if evaluate {
            self.expect_finite_state()?;
            let weights = self.train_step.weights();
            record.branch_norms = branch_norms(&self.recipe.architecture, &self.graph, weights);
        }
        if evaluate && !self.dataset.is_empty(Split::Dev) {
            let tally = self.evaluate(Split::Dev, None)?.expect("nothing stops it");
            record.dev_error = Some(tally.top1_error());
            self.progress.dev_error = record.dev_error;
        }
        self.progress.start_window();
        self.observer.on_event(&Event::Recorded(&record));
        self.metrics.append(record)?;
        if evaluate { self.draw_curves() } else { Ok(()) }
    }

    /// Evaluates a split that has samples; none if it was stopped.
    fn evaluate(
        &mut self,
        split: Split,
        stop: Option<&AtomicBool>,
    ) -> Result<Option<Tally>, TrainError> {
        let evaluator = match &mut self.evaluator {
            Some(evaluator) => evaluator,
            none => {
                let options = self.recipe.eval_options();
                none.insert(Evaluator::new(&self.graph, &options, self.isa, self.workers)?)
            }
        };
        let labels = (0..self.recipe.architecture.classes() as u32).collect();
        let preprocessing = self.dataset.preprocessing();
        let pass = Pass { dataset: &self.dataset, split, preprocessing, labels, stop };
        let tally = match evaluator.run(self.train_step.weights(), &pass) {
            Err(TrainError::NotFiniteOutput { .. }) => return Err(self.not_finite("output")),
            tally => tally?,
        };
        if let Some(tally) = &tally {
            self.observer.on_event(&Event::Evaluated {
                step: self.step,
                split,
                top1_error: tally.top1_error(),
                mean_loss: tally.mean_loss(),
            });
        }
        Ok(tally)
    }

    /// Writes a checkpoint, but never one that could not be trained on.
    fn checkpoint(&mut self) -> Result<(), TrainError> {
        self.expect_finite_state()?;
        self.metrics.sync()?;
        self.progress.seconds = self.seconds();
        let header = CheckpointHeader {
            step: self.step,
            recipe: self.recipe.clone(),
            dataset_fingerprint: self.dataset.fingerprint().to_owned(),
            isa: self.isa.to_string(),
            progress: self.progress.clone(),
        };
        let (weights, velocity) = (self.train_step.weights(), self.train_step.velocity());
        let path = self.folder.checkpoints().write(&header, weights, velocity)?;
        self.observer.on_event(&Event::Checkpointed { step: self.step, path: &path });
        self.last_checkpoint = Some(path);
        Ok(())
    }

    /// Keeps the model as it is before the next step.
    fn keep_model(&self) -> Result<(), TrainError> {
        let files = self.folder.models();
        fs::create_dir_all(files.folder()).map_err(|source| write_error(files.folder(), source))?;
        Ok(self.model().save(files.path(self.step))?)
    }

    /// Writes the model, then measures and sums up. Only here is the test split touched.
    fn finish(mut self) -> Result<Outcome, TrainError> {
        let model = self.model();
        model.save(self.folder.file("model.safetensors"))?;
        let mut summaries = [None; 3];
        for (split, summary) in Split::ALL.into_iter().zip(&mut summaries) {
            if self.dataset.is_empty(split) {
                continue;
            }
            let Some(tally) = self.evaluate(split, Some(self.stop))? else {
                return Ok(Outcome::Interrupted { step: self.step });
            };
            *summary = Some(SplitSummary {
                num_samples: self.dataset.len(split) as u64,
                top1_error: tally.top1_error(),
                mean_loss: tally.mean_loss(),
            });
        }
        self.draw_curves()?;
        let summary = self.summary(&model, summaries)?;
        let json = serde_json::to_vec_pretty(&summary).expect("a summary is valid JSON");
        write_whole(self.folder.file("summary.json"), |file| file.write_all(&json))?;
        self.observer.on_event(&Event::Finished(&summary));
        Ok(Outcome::Finished(Box::new(summary)))
    }

    /// The network as it is now.
    fn model(&self) -> Model {
        let weights = self.train_step.weights().clone();
        self.recipe.model(&self.dataset, weights, self.step)
    }

    fn summary(
        &self,
        model: &Model,
        [train, dev, test]: [Option<SplitSummary>; 3],
    ) -> Result<Summary, TrainError> {
        let num_images = (self.step * self.recipe.batch_size as u64) as f64;
        Ok(Summary {
            architecture: self.recipe.architecture.name().to_owned(),
            num_parameters: self.graph.num_parameters() as u64,
            dataset: self.dataset.name().to_owned(),
            dataset_fingerprint: self.dataset.fingerprint().to_owned(),
            seed: self.recipe.seed,
            steps: self.step,
            epochs: self.intervals.epoch(self.step),
            train: train.expect("a dataset has training samples"),
            dev,
            test,
            weights_sha256: model.weights_sha256()?,
            precision: self.recipe.precision.to_string(),
            isa: self.isa.to_string(),
            num_threads: self.num_threads as u64,
            seconds: self.seconds(),
            images_per_s: num_images / self.progress.train_seconds,
            residua_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn draw_curves(&self) -> Result<(), TrainError> {
        let name = self.recipe.architecture.name();
        let title = format!("{name} on {}", self.dataset.name());
        let curve = ErrorCurve::new(name, self.metrics.records());
        let svg = error_curves(&title, &[curve]).svg();
        Ok(write_whole(self.folder.file("curves.svg"), |file| file.write_all(svg.as_bytes()))?)
    }

    /// Seconds the run has taken, over all its sessions.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn expect_finite_state(&self) -> Result<(), TrainError> {
        match self.train_step.is_finite() {
            true => Ok(()),
            false => Err(self.not_finite("state of the weights")),
        }
    }

    /// What is not finite after the last step.
    fn not_finite(&self, what: &'static str) -> TrainError {
        TrainError::NotFinite {
            what,
            step: self.step,
            lr: self.recipe.lr_at(self.step - 1, self.intervals.total_steps),
            last_loss: self.progress.last_loss,
            checkpoint: self.last_checkpoint.clone(),
        }
    }
}
