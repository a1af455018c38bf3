//! Sources of labelled samples, decoding, augmentation and deterministic batches.
//!
//! [`open`] makes a [`Dataset`] from
//!
//! * `synthetic:shapes` or `synthetic:spirals`, with options such as
//!   `synthetic:shapes?train=20000&dev=2000&test=4000&seed=1`;
//! * a CIFAR-10 or CIFAR-100 binary archive (`.tar.gz`).

mod augment;
mod cifar;
mod csv_file;
mod dataset;
mod error;
mod export;
mod fingerprint;
mod idx;
mod image_file;
mod image_folder;
mod jpeg_markers;
mod loader;
mod npy_file;
mod pipeline;
mod preprocessing;
mod random;
mod read_ahead;
mod report;
mod resize;
mod source;
mod split;
mod statistics;
mod synthetic;
mod vectors;

pub use augment::Augment;
pub use dataset::{Dataset, Kind};
pub use error::{BadSample, DataError, Issue};
pub use export::export_image_folder;
pub use image_file::Pixels;
pub use loader::{Batch, EvalLoader, LoaderOptions, TrainLoader, default_workers};
pub use preprocessing::{Preprocessing, Resize};
pub use report::{Finding, Report, SplitReport, Spread, check};
pub use source::{OnProgress, OpenOptions, Progress, open, open_with_progress};
pub use split::Split;
