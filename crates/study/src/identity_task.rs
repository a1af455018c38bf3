mod section;
mod stack;
mod training;

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use residua_data::{OnProgress, ProgressCount};
use residua_engine::ThreadPool;
use residua_resnet::Family;
use serde::{Deserialize, Serialize};

use self::training::Training;
use crate::StudyError;

/// What the stacks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// Fully connected layers on vectors.
    Dense,
    /// 3×3 convolutions on images of 8×8.
    Conv,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dense => "dense",
            Self::Conv => "conv",
        })
    }
}

impl FromStr for LayerKind {
    type Err = StudyError;

    fn from_str(word: &str) -> Result<Self, StudyError> {
        match word {
            "dense" => Ok(Self::Dense),
            "conv" => Ok(Self::Conv),
            _ => Err(unsuitable("kind of layers", word, "dense or conv")),
        }
    }
}

/// How [`identity_task`] trains.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityTaskOptions {
    /// Numbers of layers, each even: residual blocks have two.
    pub depths: Vec<usize>,
    /// What the stacks are made of.
    pub kinds: Vec<LayerKind>,
    /// Updates of the weights in each run.
    pub steps: u64,
    /// Features of a vector, channels of an image.
    pub width: usize,
    /// Repetitions: with other initial weights and inputs.
    pub num_seeds: u64,
    /// Learning rates to choose from.
    pub lrs: Vec<f64>,
}

impl Default for IdentityTaskOptions {
    fn default() -> Self {
        Self {
            depths: vec![2, 4, 8, 16, 32],
            kinds: vec![LayerKind::Dense, LayerKind::Conv],
            steps: 2000,
            width: 16,
            num_seeds: 3,
            lrs: vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
        }
    }
}

/// How well stacks of layers learn to put out their input, without shortcuts and with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdentityTask {
    /// Updates of the weights in each run.
    pub steps: u64,
    /// Features of a vector, channels of an image.
    pub width: usize,
    /// Repetitions.
    pub num_seeds: u64,
    /// By kind, family and depth.
    pub results: Vec<TaskResult>,
}

/// What stacks of one kind, family and depth came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// What they are made of.
    pub kind: LayerKind,
    /// Plain or residual.
    pub family: Family,
    /// Layers.
    pub depth: usize,
    /// Every learning rate that was tried, with the first seed.
    pub grid: Vec<GridPoint>,
    /// The one that came to the lowest error, with which all seeds are run.
    pub lr: f64,
    /// For each seed the errors over the steps, the final one last.
    pub curves: Vec<Vec<TaskPoint>>,
}

/// What a learning rate came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GridPoint {
    /// The learning rate.
    pub lr: f64,
    /// The final relative error; none if it was not finite.
    pub error: Option<f64>,
}

/// An error in the course of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskPoint {
    /// Updates so far.
    pub step: u64,
    /// `‖output − input‖² / ‖input‖²` on inputs that are not trained on; none if it is not finite.
    pub error: Option<f64>,
}

impl TaskResult {
    /// Whether a rate beyond those of the grid might have done better.
    pub fn is_at_end_of_grid(&self) -> bool {
        let rates = || self.grid.iter().map(|point| point.lr);
        self.lr == rates().fold(f64::MAX, f64::min) || self.lr == rates().fold(0.0, f64::max)
    }

    /// The final relative errors of the seeds that came to one.
    pub fn errors(&self) -> Vec<f64> {
        self.curves.iter().filter_map(|curve| final_error(curve)).collect()
    }
}

fn final_error(curve: &[TaskPoint]) -> Option<f64> {
    curve.last()?.error
}

/// Trains stacks of layers to put out their input, which is random and not negative, with the mean squared
/// error: plain ones of layers `relu(W·x + b)`, and residual ones of blocks `relu(x + W₂·relu(W₁·x + b₁) +
/// b₂)` of two layers. They start fan-in with biases of 0, the last layer of each branch divided by the square
/// root of the number of blocks, as [`residua_resnet::init_weights`] does without batch norms; SGD with
/// momentum 0.9 and a constant learning rate, the one of the grid with the lowest final error on the first
/// seed, for each kind, family and depth. Runs are spread over as many threads as the pool it is called in
/// has; the result is the same with any number. Tells `on_progress` after each run.
///
/// # Errors
/// Settings out of range.
pub fn identity_task(
    options: &IdentityTaskOptions,
    on_progress: OnProgress<'_>,
) -> Result<IdentityTask, StudyError> {
    check(options)?;
    let IdentityTaskOptions { steps, width, num_seeds, .. } = *options;
    let mut stacks = Vec::new();
    for &kind in &options.kinds {
        for family in [Family::Plain, Family::Residual] {
            stacks.extend(options.depths.iter().map(|&depth| (kind, family, depth)));
        }
    }
    let training = |&(kind, family, depth): &(LayerKind, Family, usize), lr, seed| Training {
        kind,
        family,
        depth,
        width,
        steps,
        lr,
        seed,
    };
    let runs_of_each = options.lrs.len() + num_seeds as usize - 1;
    let count = ProgressCount::new(stacks.len() * runs_of_each, on_progress);
    let of_grid = |stack| options.lrs.iter().map(move |&lr| training(stack, lr, 0));
    let searched = run_all(&stacks.iter().flat_map(of_grid).collect::<Vec<_>>(), &count)?;
    let mut results: Vec<TaskResult> = stacks
        .iter()
        .zip(searched.chunks_exact(options.lrs.len()))
        .map(|(&(kind, family, depth), curves)| {
            let grid = options.lrs.iter().zip(curves);
            let grid: Vec<GridPoint> =
                grid.map(|(&lr, curve)| GridPoint { lr, error: final_error(curve) }).collect();
            let best = best(&grid);
            let curves = vec![curves[best].clone()];
            TaskResult { kind, family, depth, lr: grid[best].lr, grid, curves }
        })
        .collect();
    let of_seeds = |(stack, result): (_, &TaskResult)| {
        let lr = result.lr;
        (1..num_seeds).map(move |seed| training(stack, lr, seed))
    };
    let others: Vec<Training> = stacks.iter().zip(&results).flat_map(of_seeds).collect();
    let mut others = run_all(&others, &count)?.into_iter();
    for result in &mut results {
        result.curves.extend(others.by_ref().take(num_seeds as usize - 1));
    }
    Ok(IdentityTask { steps, width, num_seeds, results })
}

/// The place of the lowest error, the first of equal ones.
fn best(grid: &[GridPoint]) -> usize {
    let error = |i: usize| grid[i].error.unwrap_or(f64::INFINITY);
    (0..grid.len()).reduce(|best, i| if error(i) < error(best) { i } else { best }).unwrap_or(0)
}

fn check(options: &IdentityTaskOptions) -> Result<(), StudyError> {
    let IdentityTaskOptions { depths, kinds, steps, width, num_seeds, lrs } = options;
    if let Some(depth) = depths.iter().find(|depth| **depth == 0 || **depth % 2 == 1) {
        return Err(unsuitable(
            "depth",
            depth,
            "an even number from 2 on: residual blocks have two layers",
        ));
    }
    if let Some(lr) = lrs.iter().find(|lr| !(lr.is_finite() && **lr > 0.0)) {
        return Err(unsuitable("lr", lr, "a number above 0"));
    }
    let counts = [
        ("depths", depths.len() as u64),
        ("kinds of layers", kinds.len() as u64),
        ("learning rates", lrs.len() as u64),
        ("steps", *steps),
        ("width", *width as u64),
        ("seeds", *num_seeds),
    ];
    match counts.into_iter().find(|&(_, count)| count == 0) {
        Some((subject, _)) => Err(unsuitable(subject, "0", "at least 1")),
        None => Ok(()),
    }
}

fn unsuitable(subject: &str, got: impl fmt::Display, expected: &str) -> StudyError {
    StudyError::Unsuitable {
        subject: subject.to_owned(),
        got: got.to_string(),
        expected: expected.to_owned(),
    }
}

/// The errors of each run over its steps. Small networks do not fill several threads, so that each run has
/// one of its own.
fn run_all(
    trainings: &[Training],
    count: &ProgressCount<'_>,
) -> Result<Vec<Vec<TaskPoint>>, StudyError> {
    let next = AtomicUsize::new(0);
    let curves = Mutex::new(vec![Vec::new(); trainings.len()]);
    let work = || -> Result<(), StudyError> {
        let pool = ThreadPool::new(Some(1))?;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(training) = trainings.get(i) else { return Ok(()) };
            let curve = pool.install(|| training.run())?;
            count.add_one();
            curves.lock().expect("no run panics while it holds this")[i] = curve;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..rayon::current_num_threads()).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().expect("no run panics"));
        joined.collect::<Result<Vec<()>, StudyError>>()
    })?;
    Ok(curves.into_inner().expect("no run panics while it holds this"))
}
