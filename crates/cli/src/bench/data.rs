//! `residua bench data`: the input of training, with no network behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use residua_data::{DataError, Dataset, Kind, LoaderOptions, TrainLoader, default_workers};
use residua_train::Recipe;
use serde::Serialize;

use super::step::NUM_WARM_UP;
use super::times::Times;
use super::{PEAK_HEADER, peak_bytes, peak_cell};
use crate::arguments::{InputArgs, ThreadArgs};
use crate::failure::Outcome;
use crate::{output, progress, table};

/// Time the input of training alone: read, decode, augment, normalise into batches
///
/// The batches are those of `residua train DATA` with the same flags, made by the same threads; no
/// network takes them. The images a second of `residua bench train`, divided by those a second and
/// core here, are the share of a core that the input takes beside training.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  residua bench data cifar-10-binary.tar.gz
  residua bench data photographs/ --image-size 224 --threads 1
  residua bench data synthetic:shapes --augment none --batch-size 256 --steps 100 --json")]
pub(crate) struct DataBench {
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Samples in each batch [default: 128, or 32 for photographs; at most a quarter of the training set]
    #[arg(long, value_name = "NUMBER")]
    batch_size: Option<usize>,
    /// Batches to time, after three to warm up [default: 3 seconds of them, at least 20]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Print JSON, one object in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    input: InputArgs,
}

/// Where no number of batches is given: at least so many, and for at least so long.
const MIN_STEPS: usize = 20;
const MEASURED: Duration = Duration::from_secs(3);

/// What was measured of one dataset.
#[derive(Debug, Serialize)]
#[serde(tag = "task", rename = "data")]
struct Measured<'a> {
    data: &'a str,
    /// Channels, height and width of a sample.
    input: String,
    augment: String,
    batch: usize,
    threads: usize,
    steps: usize,
    #[serde(flatten)]
    times: Times,
    images_per_s: f64,
    images_per_s_per_core: f64,
    /// The most memory the process has had so far; unknown where the system doesn't tell.
    peak_bytes: Option<u64>,
}

impl DataBench {
    pub(super) fn run(&self) -> Result<Outcome> {
        let mut open = Default::default();
        self.input.apply_open(&mut open);
        let dataset = Arc::new(progress::open(&self.data, &open)?);
        let options = LoaderOptions {
            batch_size: self.batch_size.unwrap_or_else(|| Recipe::default_batch_size(&dataset)),
            seed: 0,
            augment: self.input.augment.unwrap_or(dataset.default_augment()),
            image_size: None,
            workers: self.threads.number().unwrap_or_else(default_workers),
        };
        let ms = batch_times(&dataset, &options, self.steps.map(|steps| steps as usize))?;
        let measured = Measured::of(&dataset, &options, ms);
        match self.json {
            true => output::json_line(&measured)?,
            false => measured.print(dataset.kind())?,
        }
        Ok(Outcome::Done)
    }
}

/// Milliseconds from batch to batch. Each is taken as soon as it is made, so that the threads that
/// make them never wait.
fn batch_times(
    dataset: &Arc<Dataset>,
    options: &LoaderOptions,
    steps: Option<usize>,
) -> Result<Vec<f64>, DataError> {
    let mut loader = TrainLoader::new(dataset, options, 0)?;
    let mut time_batch = || {
        let start = Instant::now();
        let batch = loader.next()?;
        loader.recycle(batch);
        Ok::<_, DataError>(start.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..NUM_WARM_UP {
        time_batch()?;
    }
    let (begin, mut ms) = (Instant::now(), Vec::new());
    let is_enough = |num_steps| match steps {
        Some(steps) => num_steps >= steps,
        None => num_steps >= MIN_STEPS && begin.elapsed() >= MEASURED,
    };
    while !is_enough(ms.len()) {
        ms.push(time_batch()?);
    }
    Ok(ms)
}

impl<'a> Measured<'a> {
    fn of(dataset: &'a Dataset, options: &LoaderOptions, ms: Vec<f64>) -> Self {
        let [c, h, w] = dataset.sample_shape();
        let &LoaderOptions { batch_size, augment, workers, .. } = options;
        let (steps, times) = (ms.len(), Times::of(ms));
        let images_per_s = times.per_s(batch_size as f64);
        // More threads than there are cores share them.
        let cores = workers.min(default_workers());
        Self {
            data: dataset.name(),
            input: format!("{c}x{h}x{w}"),
            augment: augment.to_string(),
            batch: batch_size,
            threads: workers,
            steps,
            times,
            images_per_s,
            images_per_s_per_core: images_per_s / cores as f64,
            peak_bytes: peak_bytes(),
        }
    }

    fn print(&self, kind: Kind) -> Result<()> {
        let things = kind.things();
        let [rate, rate_per_core] = [format!(">{things}/s"), format!(">{things}/s a core")];
        let header = ["Data", ">ms a batch", ">10–90 %", &rate, &rate_per_core, PEAK_HEADER];
        let mut rows = table::new(header);
        let [median, spread] = self.times.cells();
        let [rate, rate_per_core] = [self.images_per_s, self.images_per_s_per_core]
            .map(|rate| table::grouped(rate.round() as u64));
        let peak = peak_cell(self.peak_bytes);
        rows.add_row([self.data, &median, &spread, &rate, &rate_per_core, &peak]);
        output::line(table::text(&rows))?;
        output::line(format_args!(
            "{}, {}, batch {}, {}, median of {} batches",
            self.input,
            self.augment,
            self.batch,
            table::count(self.threads, "thread"),
            table::grouped(self.steps as u64),
        ))?;
        Ok(())
    }
}
