use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use residua_data::{
    Dataset, EvalLoader, Kind, OnProgress, Preprocessing, Progress, Split, default_workers,
};
use residua_engine::{Isa, Plan, PlanError, PlanOptions, Precision};
use residua_format::Model;
use residua_graph::{Graph, Weights};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How well a model does on a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples in the split.
    pub num_samples: u64,
    /// Share of the samples whose highest output is not their class's, in percent.
    pub top1_error: f64,
    /// Share of the samples whose class is not among the five highest outputs, in percent. None
    /// with five classes or fewer, where it says nothing.
    pub top5_error: Option<f64>,
    /// Mean cross-entropy, without label smoothing.
    pub mean_loss: f64,
    /// One entry for each class, in the model's order.
    pub per_class: Vec<ClassScores>,
    /// `confusion[true][predicted]`, in samples; classes in the model's order.
    pub confusion: Vec<Vec<u64>>,
}

/// How well a model does on one class. Shares are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The class.
    pub name: String,
    /// Of the samples taken for this class, the share that is of it. None if there are none.
    pub precision: Option<f64>,
    /// Of the samples of this class, the share taken for it. None if there are none.
    pub recall: Option<f64>,
    /// Samples of this class.
    pub support: u64,
}

/// How a split is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalOptions {
    /// Samples that go through the network together; does not change the result.
    pub batch_size: usize,
    /// Precision of the computation.
    pub precision: Precision,
    /// Whether outputs are means over an image and its mirror image.
    pub test_time_flips: bool,
    /// Whether they are means over the image as it is and shifted by a pixel up and left, and down and
    /// right, each mirrored too with flips; the pixels of the border are repeated. (Page 2019 with one
    /// shift, Jordan 2024, arXiv 2404.00498, section 3.5, with these.)
    pub test_time_shifts: bool,
}

impl EvalOptions {
    /// In f32, each image as it is.
    pub fn new(batch_size: usize) -> Self {
        Self {
            batch_size,
            precision: Precision::F32,
            test_time_flips: false,
            test_time_shifts: false,
        }
    }

    /// Refuses other views of vectors.
    pub(crate) fn check_views(&self, dataset: &Dataset) -> Result<(), TrainError> {
        if dataset.kind() != Kind::Vectors {
            return Ok(());
        }
        let refused =
            |field, expected| Err(TrainError::Recipe { field, got: "true".to_owned(), expected });
        match (self.test_time_flips, self.test_time_shifts) {
            (true, _) => refused("test_time_flips", "false, as vectors have no mirror image"),
            (_, true) => refused("test_time_shifts", "false, as vectors can't be shifted"),
            _ => Ok(()),
        }
    }

    /// The image as it is, then the others.
    fn views(&self) -> Vec<View> {
        let shifts: &[[isize; 2]] =
            if self.test_time_shifts { &[[0, 0], [-1, -1], [1, 1]] } else { &[[0, 0]] };
        let mirrored: &[bool] = if self.test_time_flips { &[false, true] } else { &[false] };
        let views = shifts
            .iter()
            .flat_map(|&shift| mirrored.iter().map(move |&mirrored| View { shift, mirrored }));
        views.collect()
    }
}

/// What a network may be shown of an image.
#[derive(Debug, Clone, Copy)]
struct View {
    /// Rows down and columns to the right.
    shift: [isize; 2],
    mirrored: bool,
}

impl View {
    /// Writes this view of images, NHWC.
    fn write(self, images: &[f32], [h, w, c]: [usize; 3], views: &mut [f32]) {
        let place =
            |i: usize, shift: isize, len: usize| i.saturating_add_signed(-shift).min(len - 1);
        let sample_len = h * w * c;
        for (image, view) in images.chunks_exact(sample_len).zip(views.chunks_exact_mut(sample_len))
        {
            for (i, pixel) in view.chunks_exact_mut(c).enumerate() {
                let column = if self.mirrored { w - 1 - i % w } else { i % w };
                let [row, column] =
                    [place(i / w, self.shift[0], h), place(column, self.shift[1], w)];
                pixel.copy_from_slice(&image[(row * w + column) * c..][..c]);
            }
        }
    }
}

/// Evaluates a model on a split, with the model's own preprocessing. Runs on the threads of the
/// pool it is called in.
///
/// The dataset's classes must be the model's; in another order they are matched by name.
///
/// # Errors
/// Other classes, samples that the model can't take, other views of vectors, outputs that are not finite.
pub fn evaluate(
    model: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    options: &EvalOptions,
) -> Result<Evaluation, TrainError> {
    evaluate_with_progress(model, dataset, split, options, &|_| ())
}

/// [`evaluate`], telling `on_progress` after each sample.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_with_progress(
    model: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    options: &EvalOptions,
    on_progress: OnProgress<'_>,
) -> Result<Evaluation, TrainError> {
    // First, as the table of classes against classes could be large.
    let labels = match_classes(&model.classes, dataset)?;
    let mut tally = Tally::new();
    let on_sample = |logits: &[f32], label| tally.add(logits, label);
    on_split(model, dataset, split, labels, options, on_sample, on_progress)?;
    Ok(tally.evaluation(&model.classes))
}

/// Shows `on_sample` what a model puts out for each sample of a split, and its class: that of `labels` for
/// each of the dataset.
fn on_split(
    model: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    labels: Vec<u32>,
    options: &EvalOptions,
    mut on_sample: impl FnMut(&[f32], usize),
    on_progress: OnProgress<'_>,
) -> Result<(), TrainError> {
    options.check_views(dataset)?;
    let graph = model.architecture.to_graph()?;
    let isa = Isa::best().map_err(PlanError::from)?;
    let mut evaluator = Evaluator::new(&graph, options, isa, default_workers())?;
    let pass = Pass { dataset, split, preprocessing: &model.preprocessing, labels, stop: None };
    let mut progress = Progress { done: 0, total: dataset.len(split) };
    let counted = |logits: &[f32], label| {
        on_sample(logits, label);
        progress.done += 1;
        on_progress(progress);
    };
    evaluator.on_samples(&model.weights, &pass, counted).map(drop)
}

/// What a model puts out for the samples of a split, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// `[num_samples, num_classes]`.
    pub logits: Vec<f32>,
    /// The class of each sample, in the model's order.
    pub labels: Vec<u32>,
    /// Number of classes.
    pub num_classes: usize,
}

impl Outputs {
    /// Top-1 error in percent, as of [`evaluate`].
    pub fn top1_error(&self) -> f64 {
        let mut tally = Tally::new();
        for (logits, &label) in self.logits.chunks_exact(self.num_classes).zip(&self.labels) {
            tally.add(logits, label as usize);
        }
        tally.top1_error()
    }
}

/// The outputs of a model on a split, under the conditions of [`evaluate`]. Tells `on_progress` after each
/// sample.
///
/// # Errors
/// As [`evaluate`].
pub fn outputs(
    model: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    options: &EvalOptions,
    on_progress: OnProgress<'_>,
) -> Result<Outputs, TrainError> {
    let num_classes = model.classes.len();
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    let on_sample = |sample: &[f32], label| {
        logits.extend_from_slice(sample);
        labels.push(label as u32);
    };
    let classes = match_classes(&model.classes, dataset)?;
    on_split(model, dataset, split, classes, options, on_sample, on_progress)?;
    Ok(Outputs { logits, labels, num_classes })
}

/// For each class of the dataset, the model's class of the same name.
///
/// # Errors
/// Classes that only one of them has.
pub fn match_classes(classes: &[String], dataset: &Dataset) -> Result<Vec<u32>, TrainError> {
    let indices: HashMap<&String, u32> = classes.iter().zip(0..).collect();
    let matched: Vec<Option<u32>> =
        dataset.classes().iter().map(|name| indices.get(name).copied()).collect();
    let missing = |all: &[String], there: &[String]| {
        all.iter().filter(|name| !there.contains(name)).cloned().collect::<Vec<_>>()
    };
    let only_dataset = missing(dataset.classes(), classes);
    let only_model = missing(classes, dataset.classes());
    if only_dataset.is_empty() && only_model.is_empty() {
        return Ok(matched.into_iter().flatten().collect());
    }
    Err(TrainError::Classes { dataset: dataset.name().to_owned(), only_dataset, only_model })
}

/// What is to be evaluated.
pub(crate) struct Pass<'a> {
    pub(crate) dataset: &'a Arc<Dataset>,
    pub(crate) split: Split,
    pub(crate) preprocessing: &'a Preprocessing,
    /// For each class of the dataset, the model's.
    pub(crate) labels: Vec<u32>,
    /// Ends the pass early.
    pub(crate) stop: Option<&'a AtomicBool>,
}

/// A plan for evaluation with its outputs.
pub(crate) struct Evaluator {
    plan: Plan,
    logits: Vec<f32>,
    /// All but the image as it is.
    other_views: Vec<View>,
    /// A batch seen so, and its outputs; empty without other views.
    view: Vec<f32>,
    view_logits: Vec<f32>,
    workers: usize,
}

impl Evaluator {
    pub(crate) fn new(
        graph: &Graph,
        options: &EvalOptions,
        isa: Isa,
        workers: usize,
    ) -> Result<Self, TrainError> {
        let mut other_views = options.views();
        other_views.remove(0);
        let &EvalOptions { batch_size, precision, .. } = options;
        let options = PlanOptions { precision, isa, ..PlanOptions::eval(batch_size)? };
        let plan = Plan::new(graph, &options)?;
        let logits = vec![0.0; batch_size * plan.num_classes()];
        let (view, view_logits) = match other_views[..] {
            [] => (Vec::new(), Vec::new()),
            _ => (vec![0.0; batch_size * plan.input_len()], logits.clone()),
        };
        Ok(Self { plan, logits, other_views, view, view_logits, workers })
    }

    /// Counts over a whole split; none if it was stopped.
    pub(crate) fn run(
        &mut self,
        weights: &Weights,
        pass: &Pass<'_>,
    ) -> Result<Option<Tally>, TrainError> {
        let mut tally = Tally::new();
        let whole = self.on_samples(weights, pass, |logits, label| tally.add(logits, label))?;
        Ok(whole.then_some(tally))
    }

    /// Shows `on_sample` the outputs for each sample of a split, and its class, and tells whether it came to
    /// the end.
    fn on_samples(
        &mut self,
        weights: &Weights,
        pass: &Pass<'_>,
        mut on_sample: impl FnMut(&[f32], usize),
    ) -> Result<bool, TrainError> {
        let Pass { dataset, split, preprocessing, labels, stop } = pass;
        let image_size = [preprocessing.height, preprocessing.width, preprocessing.channels];
        let batch_size = self.plan.batch_size();
        let mut loader =
            EvalLoader::new(dataset, *split, batch_size, self.workers, Some(preprocessing))?;
        let num_classes = self.plan.num_classes();
        self.plan.load(weights);
        while let Some(batch) = loader.next()? {
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(false);
            }
            expect_multiple(batch.input.len() / batch.len(), self.plan.input_len())?;
            let logits = self.mean_logits(&batch.input, image_size);
            for (logits, &label) in logits.chunks_exact(num_classes).zip(&batch.labels) {
                if !logits.iter().all(|logit| logit.is_finite()) {
                    return Err(not_finite_output(weights));
                }
                on_sample(logits, labels[label as usize] as usize);
            }
            loader.recycle(batch);
        }
        Ok(true)
    }

    /// Outputs for at most a batch of images, NHWC, each the mean over its views.
    fn mean_logits(&mut self, images: &[f32], image_size: [usize; 3]) -> &[f32] {
        let num_samples = images.len() / self.plan.input_len();
        let logits = &mut self.logits[..num_samples * self.plan.num_classes()];
        self.plan.forward(images, logits);
        if self.other_views.is_empty() {
            return logits;
        }
        let (view, view_logits) =
            (&mut self.view[..images.len()], &mut self.view_logits[..logits.len()]);
        for other in &self.other_views {
            other.write(images, image_size, view);
            self.plan.forward(view, view_logits);
            logits.iter_mut().zip(&*view_logits).for_each(|(sum, logit)| *sum += logit);
        }
        let num_views = (1 + self.other_views.len()) as f32;
        logits.iter_mut().for_each(|sum| *sum /= num_views);
        logits
    }
}

fn expect_multiple(got: usize, expected: usize) -> Result<(), TrainError> {
    match got.is_multiple_of(expected) {
        true => Ok(()),
        false => Err(TrainError::InputLen { got, expected }),
    }
}

fn not_finite_output(weights: &Weights) -> TrainError {
    let values = weights.params.iter().chain(&weights.buffers);
    TrainError::NotFiniteOutput { num_weights: values.filter(|v| !v.is_finite()).count() }
}

/// Counts over the samples of a split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tally {
    /// How often for each class, and what it was taken for; most of many classes' pairs never occur.
    confusion: BTreeMap<(usize, usize), u64>,
    num_samples: u64,
    num_right: u64,
    num_top5_errors: u64,
    loss_sum: f64,
}

impl Tally {
    fn new() -> Self {
        let confusion = BTreeMap::new();
        Self { confusion, num_samples: 0, num_right: 0, num_top5_errors: 0, loss_sum: 0.0 }
    }

    /// Counts a sample. Of equal outputs the first is higher.
    fn add(&mut self, logits: &[f32], label: usize) {
        let higher =
            |i: usize, j: usize| logits[i] > logits[j] || (logits[i] == logits[j] && i < j);
        let rank = (0..logits.len()).filter(|&i| higher(i, label)).count();
        let predicted = (0..logits.len()).reduce(|best, i| if higher(i, best) { i } else { best });
        let predicted = predicted.expect("at least one class");
        *self.confusion.entry((label, predicted)).or_default() += 1;
        self.num_samples += 1;
        self.num_right += u64::from(predicted == label);
        self.num_top5_errors += u64::from(rank >= 5);
        self.loss_sum += log_sum_exp(logits) - f64::from(logits[label]);
    }

    /// Top-1 error in percent.
    pub(crate) fn top1_error(&self) -> f64 {
        (self.num_samples - self.num_right) as f64 / self.num_samples as f64 * 100.0
    }

    /// Mean cross-entropy.
    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss_sum / self.num_samples as f64
    }

    fn evaluation(self, classes: &[String]) -> Evaluation {
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        self.confusion.iter().for_each(|(&(label, predicted), &n)| confusion[label][predicted] = n);
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let scores = |(i, name): (usize, &String)| {
            let num_predicted = confusion.iter().map(|row: &Vec<u64>| row[i]).sum();
            let support = confusion[i].iter().sum();
            ClassScores {
                name: name.clone(),
                precision: share(confusion[i][i], num_predicted),
                recall: share(confusion[i][i], support),
                support,
            }
        };
        let top5_error = self.num_top5_errors as f64 / self.num_samples as f64 * 100.0;
        Evaluation {
            num_samples: self.num_samples,
            top1_error: self.top1_error(),
            top5_error: (classes.len() > 5).then_some(top5_error),
            mean_loss: self.mean_loss(),
            per_class: classes.iter().enumerate().map(scores).collect(),
            confusion,
        }
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    max + sum.ln()
}

/// Gives the probabilities of a model's classes for inputs that come bit by bit.
pub struct Predictor {
    evaluator: Evaluator,
    /// Weights that are no finite numbers.
    num_non_finite: usize,
}

impl Predictor {
    /// Makes the plan for batches of up to `batch_size` samples and loads the weights.
    ///
    /// # Errors
    /// A model that the engine can't run.
    pub fn new(model: &Model, batch_size: usize) -> Result<Self, TrainError> {
        let graph = model.architecture.to_graph()?;
        let isa = Isa::best().map_err(PlanError::from)?;
        let mut evaluator = Evaluator::new(&graph, &EvalOptions::new(batch_size), isa, 1)?;
        evaluator.plan.load(&model.weights);
        Ok(Self { evaluator, num_non_finite: model.num_non_finite() })
    }

    /// Probabilities of the classes for any number of samples, preprocessed, NHWC:
    /// `[n, num_classes]`, each row adding up to 1. Samples do not influence each other.
    ///
    /// # Errors
    /// An input that is not a whole number of samples, or outputs that are not finite.
    pub fn probabilities(&mut self, input: &[f32]) -> Result<Vec<f32>, TrainError> {
        let Evaluator { plan, logits, .. } = &mut self.evaluator;
        expect_multiple(input.len(), plan.input_len())?;
        let num_classes = plan.num_classes();
        let mut probabilities = Vec::with_capacity(input.len() / plan.input_len() * num_classes);
        for input in input.chunks(plan.batch_size() * plan.input_len()) {
            let logits = &mut logits[..input.len() / plan.input_len() * num_classes];
            plan.forward(input, logits);
            for logits in logits.chunks_exact(num_classes) {
                if !logits.iter().all(|logit| logit.is_finite()) {
                    return Err(TrainError::NotFiniteOutput { num_weights: self.num_non_finite });
                }
                let shift = log_sum_exp(logits);
                let probability = |&logit: &f32| (f64::from(logit) - shift).exp() as f32;
                probabilities.extend(logits.iter().map(probability));
            }
        }
        Ok(probabilities)
    }
}

/// Probabilities of a model's classes for samples that are preprocessed, NHWC; see
/// [`Predictor::probabilities`].
///
/// # Errors
/// As [`Predictor`].
pub fn predict(model: &Model, input: &[f32]) -> Result<Vec<f32>, TrainError> {
    const BATCH_SIZE: usize = 64;
    Predictor::new(model, BATCH_SIZE)?.probabilities(input)
}
