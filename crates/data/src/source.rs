use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dataset::{Found, Samples};
use crate::preprocessing::MAX_SIDE;
use crate::split::{self, Splits};
use crate::statistics::{ChannelHistogram, vector_mean_std};
use crate::{Augment, DataError, Dataset, OnProgress, Preprocessing, Resize};
use crate::{cifar, idx, image_folder, synthetic, vectors};

/// How to open a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenOptions {
    /// Share of the training samples that becomes the dev split, where the source has none
    /// (0.1 by default).
    pub val_fraction: Option<f64>,
    /// Share that becomes the test split, where the source has none (by default 0.1 of a source
    /// without splits, and 0 of one that has a dev split).
    pub test_fraction: Option<f64>,
    /// Decides which samples these are.
    pub seed: u64,
    /// Leave out images that can't be decoded instead of refusing the dataset.
    pub skip_bad: bool,
    /// Height and width fed to the network. By default the size of small images, and 224 for
    /// photographs.
    pub image_size: Option<usize>,
}

impl OpenOptions {
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        match self.image_size {
            Some(size) if !(1..=MAX_SIDE).contains(&size) => {
                let problem = format!("got {size}, expected 1 to {MAX_SIDE}");
                Err(DataError::Option { option: "image_size", problem })
            }
            _ => Ok(()),
        }
    }
}

/// Opens a dataset and checks it; see the [crate's page](crate) for what `source` may be.
///
/// # Errors
/// If the source does not exist, is damaged, or does not fit the options. Images that can't be
/// decoded are listed all at once.
///
/// ```
/// use residua_data::{OpenOptions, Split, open};
///
/// let dataset = open("synthetic:spirals?train=300&dev=50&test=50", &OpenOptions::default())?;
/// assert_eq!(dataset.sample_shape(), [2, 1, 1]);
/// assert_eq!(dataset.len(Split::Dev), 50);
/// # Ok::<(), residua_data::DataError>(())
/// ```
pub fn open(source: &str, options: &OpenOptions) -> Result<Dataset, DataError> {
    open_with_progress(source, options, &|_| {})
}

/// [`open`], telling how many images have been checked.
///
/// # Errors
/// As [`open`].
pub fn open_with_progress(
    source: &str,
    options: &OpenOptions,
    on_progress: OnProgress<'_>,
) -> Result<Dataset, DataError> {
    options.validate()?;
    match find(source)? {
        Source::InMemory(found) => in_memory(found, options),
        Source::ImageFolder(root) => {
            Ok(image_folder::open(&root, options, false, on_progress)?.dataset)
        }
    }
}

/// What lies at a source.
pub(crate) enum Source {
    InMemory(Found),
    ImageFolder(PathBuf),
}

/// Tells by name and content what a source is, and reads all but image folders.
pub(crate) fn find(source: &str) -> Result<Source, DataError> {
    if let Some(name) = source.strip_prefix("synthetic:") {
        return synthetic::generate(name).map(Source::InMemory);
    }
    let path = Path::new(source);
    let found = match path.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(DataError::NotFound { path: source.to_owned() });
        }
        Err(e) => return Err(DataError::read(path)(e)),
        Ok(metadata) if !metadata.is_dir() => {
            if vectors::is_vector_file(path) {
                vectors::read_file(path)?
            } else {
                cifar::read_archive(path)?
            }
        }
        Ok(_) if cifar::is_cifar_folder(path) => cifar::read_folder(path)?,
        Ok(_) if idx::is_idx_folder(path) => idx::read_folder(path)?,
        Ok(_) if vectors::is_vector_folder(path) => vectors::read_folder(path)?,
        Ok(_) => match cifar::folder_inside(path) {
            Some(inside) => cifar::read_folder(&inside)?,
            None => return Ok(Source::ImageFolder(path.to_owned())),
        },
    };
    Ok(Source::InMemory(found))
}

/// Cuts the splits of samples that are in memory and measures the training split.
pub(crate) fn in_memory(found: Found, options: &OpenOptions) -> Result<Dataset, DataError> {
    let Found { name, classes, samples, labels, given, augment } = found;
    let splits = split::cut(given, &labels, options)?;
    measure_and_finish(name, classes, samples, labels, splits, augment, options.image_size)
}

/// Samples in memory, cut into splits, with the statistics of the training split.
pub(crate) fn measure_and_finish(
    name: String,
    classes: Vec<String>,
    samples: Samples,
    labels: Vec<u32>,
    splits: Splits,
    augment: Augment,
    image_size: Option<usize>,
) -> Result<Dataset, DataError> {
    let train = &splits.indices[0];
    let preprocessing = match &samples {
        Samples::Pixels { shape, data } => {
            let (mean, std) = ChannelHistogram::over(*shape, data, train).mean_std();
            let [height, width] = image_size.map_or([shape.height, shape.width], |size| [size; 2]);
            let channels = shape.channels;
            Preprocessing { channels, height, width, resize: Resize::Exact, mean, std }
        }
        Samples::Vectors { width, data } => {
            if let Some(size) = image_size {
                let problem = format!("got {size}, but the source holds vectors");
                return Err(DataError::Option { option: "image_size", problem });
            }
            let (mean, std) = vector_mean_std(*width, data, train);
            let resize = Resize::None;
            Preprocessing { channels: *width, height: 1, width: 1, resize, mean, std }
        }
        Samples::Files { .. } => unreachable!("files are not in memory"),
    };
    Dataset::new(name, classes, samples, labels, splits, preprocessing, augment)
}

/// The last part of a path.
pub(crate) fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into())
}
