//! Sources of labelled samples, decoding, augmentation and deterministic batches.
//!
//! [`open`] makes a [`Dataset`] from any of these:
//!
//! * a CIFAR-10 or CIFAR-100 binary archive (`.tar.gz`, `.tar`), or the folder it extracts to; the
//!   labels of CIFAR-100 are the fine ones;
//! * an image folder: `train/`, `val/` (or `valid`, `validation`, `dev`) and `test/` with class
//!   folders, or class folders alone; JPEG, PNG, BMP, WebP, GIF and TIFF. Images that all have one
//!   size of at most 64×64 are kept in memory, others are decoded each time they are used;
//! * a folder of IDX files named as those of MNIST, with or without gzip;
//! * a `.csv` with a label column (`label`, `class`, `target`, or the last), or a `.npy` with its
//!   labels in `NAME.labels.npy` beside it or in its last column; also a folder of `train`, `dev`
//!   and `test` files of this kind;
//! * `synthetic:shapes` or `synthetic:spirals`, with options such as
//!   `synthetic:shapes?train=20000&dev=2000&test=4000&seed=1&difficulty=1`.
//!
//! The three sets are always called [train, dev and test](Split). A source that lacks a dev split
//! gets one cut from its training samples, and one without any splits a test split too.
//!
//! Batches come from a [`TrainLoader`] or an [`EvalLoader`]: prepared ahead in threads, normalised
//! f32 in NHWC, the same bits whatever the number of threads. [`check`] reports what a source holds
//! and what is wrong with it; [`export_image_folder`] writes PNGs.
//!
//! Sources are not trusted: sizes that a header claims are checked against limits and against what
//! is there, and nothing is written when an archive is read.

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
mod progress;
mod random;
mod read_ahead;
mod report;
mod resize;
mod source;
mod split;
mod statistics;
mod synthetic;
mod vectors;

pub use augment::{Augment, Flip, PaddingMode};
pub use dataset::{Dataset, Kind};
pub use error::{BadSample, DataError, Issue};
pub use export::export_image_folder;
pub use image_file::Pixels;
pub use image_folder::ImageFiles;
pub use loader::{Batch, EvalLoader, LoaderOptions, TrainLoader, default_workers};
pub use preprocessing::{Preprocessing, Resize};
pub use progress::{OnProgress, Progress, ProgressCount};
pub use report::{Finding, Report, SplitReport, Spread, check};
pub use source::{OpenOptions, open, open_with_progress};
pub use split::Split;
