use std::sync::Arc;

use rand::seq::SliceRandom;

use crate::augment::Change;
use crate::pipeline::Pipeline;
use crate::random::{Purpose, stream};
use crate::read_ahead::{ReadAhead, Slot, Work};
use crate::{Augment, DataError, Dataset, Preprocessing, Resize, Split};

/// Samples that go through the network together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Normalised, NHWC: `len * height * width * channels` values.
    pub input: Vec<f32>,
    /// One label per sample.
    pub labels: Vec<u32>,
    /// The number of the batch, from 0; training counts on through the epochs.
    pub step: u64,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples; a loader never gives such a batch.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// How a [`TrainLoader`] makes batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Samples in each batch.
    pub batch_size: usize,
    /// Decides the order and the augmentation.
    pub seed: u64,
    /// Random changes, for pictures of the dataset's own size.
    pub augment: Augment,
    /// Height and width of the pictures, where they are not the dataset's own. Shifts get smaller or
    /// larger with them.
    pub image_size: Option<usize>,
    /// Threads that decode and augment; does not change the batches.
    pub workers: usize,
}

impl LoaderOptions {
    /// Batches in one epoch: as many as the training split fills.
    pub fn steps_per_epoch(&self, dataset: &Dataset) -> u64 {
        dataset.len(Split::Train).checked_div(self.batch_size).unwrap_or(0) as u64
    }
}

/// One thread for each core that this process may use.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Endless shuffled, augmented batches of the training split, made ahead of their use.
///
/// Batch `k` depends on the dataset, the options without `workers`, and `k` alone: an epoch's
/// order is a permutation drawn from (seed, epoch), a sample's augmentation from (seed, epoch,
/// position), whether alternating flips begin with the mirror image from (seed, sample). Starting at
/// any step costs no more than one permutation. The samples that do not fill the last batch of an
/// epoch are left out of that epoch.
///
/// ```
/// use std::sync::Arc;
/// use residua_data::{LoaderOptions, OpenOptions, TrainLoader};
///
/// let source = "synthetic:shapes?train=200&dev=10&test=10";
/// let dataset = Arc::new(residua_data::open(source, &OpenOptions::default())?);
/// let augment = dataset.default_augment();
/// let options =
///     LoaderOptions { batch_size: 32, seed: 1, augment, image_size: None, workers: 2 };
/// let mut loader = TrainLoader::new(&dataset, &options, 0)?;
/// let batch = loader.next()?;
/// assert_eq!(batch.input.len(), 32 * 32 * 32 * 3);
/// loader.recycle(batch);
/// # Ok::<(), residua_data::DataError>(())
/// ```
pub struct TrainLoader {
    ahead: ReadAhead,
}

impl TrainLoader {
    /// Starts making batch `first_step` and the following ones.
    ///
    /// # Errors
    /// If the training split has fewer samples than a batch, or can't be augmented or resized so.
    pub fn new(
        dataset: &Arc<Dataset>,
        options: &LoaderOptions,
        first_step: u64,
    ) -> Result<Self, DataError> {
        let &LoaderOptions { batch_size, seed, augment, image_size, workers } = options;
        dataset.expect_augment(augment)?;
        let own = dataset.preprocessing();
        let (preprocessing, augment) = match image_size {
            Some(_) if own.resize == Resize::None => {
                let problem = "got a size, but vectors have none".to_owned();
                return Err(DataError::Option { option: "image_size", problem });
            }
            Some(side) => (own.at_size(side), augment.at_size(side, own.height.min(own.width))),
            None => (own.clone(), augment),
        };
        let pipeline = Pipeline::new(dataset, preprocessing)?;
        let num_samples = dataset.len(Split::Train);
        if batch_size == 0 || batch_size > num_samples {
            return Err(DataError::Option {
                option: "batch_size",
                problem: format!(
                    "got {batch_size}, expected 1 to {num_samples}, the number of training samples"
                ),
            });
        }
        let steps_per_epoch = options.steps_per_epoch(dataset);

        let mut shuffled = Shuffled { epoch: None, order: Vec::with_capacity(num_samples) };
        let in_order = Arc::clone(dataset);
        let order = move |step: u64, indices: &mut Vec<u32>| {
            let order =
                shuffled.of_epoch(step / steps_per_epoch, seed, in_order.indices(Split::Train));
            let first = (step % steps_per_epoch) as usize * batch_size;
            indices.clear();
            indices.extend_from_slice(&order[first..first + batch_size]);
            true
        };
        let input_len = pipeline.input_len();
        let write = move |slot: Slot<'_>| {
            let epoch = slot.step / steps_per_epoch;
            let position = (slot.step % steps_per_epoch) * batch_size as u64 + slot.position as u64;
            let change = Change::new(augment, seed, epoch, position, slot.index);
            *slot.label = pipeline.dataset.labels[slot.index as usize];
            pipeline.write(slot.index as usize, Some(change), slot.input)
        };
        let work = Work { order, write, input_len, batch_size };
        Ok(Self { ahead: ReadAhead::start(work, first_step, workers)? })
    }

    /// The next batch; waits for it if need be.
    ///
    /// # Errors
    /// If a sample can't be read any more, or a thread panicked. After that the loader has ended.
    #[expect(clippy::should_implement_trait, reason = "it is endless, and a batch comes back")]
    pub fn next(&mut self) -> Result<Batch, DataError> {
        self.ahead.next()?.ok_or_else(|| DataError::Worker("has ended after an error".to_owned()))
    }

    /// Gives a batch's memory back for a later one.
    pub fn recycle(&mut self, batch: Batch) {
        self.ahead.recycle(batch);
    }

    /// Seconds spent in [`next`](Self::next) because no batch was ready.
    pub fn wait_seconds(&self) -> f64 {
        self.ahead.wait_seconds()
    }
}

/// The order of the current epoch.
struct Shuffled {
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl Shuffled {
    fn of_epoch(&mut self, epoch: u64, seed: u64, samples: &[u32]) -> &[u32] {
        if self.epoch != Some(epoch) {
            self.order.clear();
            self.order.extend_from_slice(samples);
            self.order.shuffle(&mut stream(seed, Purpose::EpochOrder, epoch, 0));
            self.epoch = Some(epoch);
        }
        &self.order
    }
}

/// One pass over a split, in order and without augmentation, made ahead of its use; the last batch
/// is short.
pub struct EvalLoader {
    ahead: ReadAhead,
    num_samples: usize,
}

impl EvalLoader {
    /// Starts the pass. `preprocessing` replaces the dataset's own: a model brings the one that it
    /// was trained with.
    ///
    /// # Errors
    /// If the split is empty, or the preprocessing does not fit the samples.
    pub fn new(
        dataset: &Arc<Dataset>,
        split: Split,
        batch_size: usize,
        workers: usize,
        preprocessing: Option<&Preprocessing>,
    ) -> Result<Self, DataError> {
        dataset.expect_samples(split)?;
        if batch_size == 0 {
            let problem = "got 0, expected at least 1".to_owned();
            return Err(DataError::Option { option: "batch_size", problem });
        }
        let preprocessing = preprocessing.unwrap_or(dataset.preprocessing()).clone();
        let pipeline = Pipeline::new(dataset, preprocessing)?;
        let num_samples = dataset.len(split);

        let in_order = Arc::clone(dataset);
        let order = move |step: u64, indices: &mut Vec<u32>| {
            indices.clear();
            let batch = in_order.indices(split).chunks(batch_size).nth(step as usize);
            indices.extend_from_slice(batch.unwrap_or_default());
            !indices.is_empty()
        };
        let input_len = pipeline.input_len();
        let write = move |slot: Slot<'_>| {
            *slot.label = pipeline.dataset.labels[slot.index as usize];
            pipeline.write(slot.index as usize, None, slot.input)
        };
        let work = Work { order, write, input_len, batch_size };
        Ok(Self { ahead: ReadAhead::start(work, 0, workers)?, num_samples })
    }

    /// Samples in the whole pass.
    pub fn num_samples(&self) -> usize {
        self.num_samples
    }

    /// The next batch, `None` after the last.
    ///
    /// # Errors
    /// If a sample can't be read any more, or a thread panicked. After that the pass has ended.
    #[expect(clippy::should_implement_trait, reason = "an error ends it, and a batch comes back")]
    pub fn next(&mut self) -> Result<Option<Batch>, DataError> {
        self.ahead.next()
    }

    /// Gives a batch's memory back for a later one.
    pub fn recycle(&mut self, batch: Batch) {
        self.ahead.recycle(batch);
    }

    /// Seconds spent in [`next`](Self::next) because no batch was ready.
    pub fn wait_seconds(&self) -> f64 {
        self.ahead.wait_seconds()
    }
}
