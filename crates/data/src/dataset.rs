use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fingerprint::fingerprint;
use crate::image_file::Pixels;
use crate::split::{GivenSplits, Splits};
use crate::{Augment, BadSample, DataError, Preprocessing, Resize, Split};

/// How the samples are held, which decides what can be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Pictures of one small size, all in memory as bytes.
    SmallImages,
    /// Picture files of any size, decoded each time they are used.
    ImageFolder,
    /// Rows of numbers, in memory.
    Vectors,
}

impl Kind {
    /// What a person calls its samples.
    pub fn things(self) -> &'static str {
        match self {
            Self::Vectors => "samples",
            Self::SmallImages | Self::ImageFolder => "images",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SmallImages => "small images",
            Self::ImageFolder => "image folder",
            Self::Vectors => "vectors",
        })
    }
}

/// All samples of a source; the splits are lists of indices into them.
pub(crate) enum Samples {
    /// `data` is `[sample, height, width, channel]`.
    Pixels { shape: PixelShape, data: Vec<u8> },
    /// `data` is `[sample, feature]`.
    Vectors { width: usize, data: Vec<f32> },
    /// One file per sample, with the SHA-256 of its bytes.
    Files { paths: Vec<PathBuf>, digests: Vec<[u8; 32]> },
}

/// Channels, height and width of a picture in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelShape {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl PixelShape {
    pub(crate) fn len(self) -> usize {
        self.channels * self.height * self.width
    }
}

/// Labelled samples in three splits, with the preprocessing that the training split asks for.
///
/// Made by [`open`](crate::open). Batches come from a [`TrainLoader`](crate::TrainLoader) or an
/// [`EvalLoader`](crate::EvalLoader).
pub struct Dataset {
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    pub(crate) samples: Samples,
    pub(crate) labels: Vec<u32>,
    pub(crate) splits: Splits,
    pub(crate) preprocessing: Preprocessing,
    pub(crate) default_augment: Augment,
    pub(crate) skipped: Vec<BadSample>,
    fingerprint: String,
}

/// What a source found, before it is cut into splits.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    pub(crate) samples: Samples,
    pub(crate) labels: Vec<u32>,
    pub(crate) given: GivenSplits,
    pub(crate) augment: Augment,
}

impl Dataset {
    pub(crate) fn new(
        name: String,
        classes: Vec<String>,
        samples: Samples,
        labels: Vec<u32>,
        splits: Splits,
        preprocessing: Preprocessing,
        default_augment: Augment,
    ) -> Result<Self, DataError> {
        if classes.len() < 2 {
            return Err(DataError::invalid(
                name,
                format!("found {} class, expected at least 2", classes.len()),
            ));
        }
        if let Err(problem) = expect_class_names(&classes) {
            return Err(DataError::invalid(name, problem));
        }
        if splits.indices[0].is_empty() {
            return Err(DataError::EmptySplit {
                dataset: name,
                split: Split::Train,
                reason: splits.empty_because[0].clone(),
            });
        }
        preprocessing.validate()?;
        let fingerprint = fingerprint(&classes, &samples, &labels, &splits);
        Ok(Self {
            name,
            classes,
            samples,
            labels,
            splits,
            preprocessing,
            default_augment,
            skipped: Vec::new(),
            fingerprint,
        })
    }

    /// The source's name: the last part of its path, or `synthetic:…`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Class names; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// `[channels, height, width]` of one sample as it is fed to the network. A vector of `n`
    /// features is `[n, 1, 1]`.
    pub fn sample_shape(&self) -> [usize; 3] {
        let p = &self.preprocessing;
        [p.channels, p.height, p.width]
    }

    /// Number of samples in a split.
    pub fn len(&self, split: Split) -> usize {
        self.indices(split).len()
    }

    /// Whether a split has no samples.
    pub fn is_empty(&self, split: Split) -> bool {
        self.indices(split).is_empty()
    }

    /// SHA-256, in hexadecimal, over the class names and, split by split, the labels and the
    /// content of the samples: decoded pixels or values, or the bytes of the files of a folder of
    /// photographs. It changes when a sample, a label, the order or the split changes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How the samples are held.
    pub fn kind(&self) -> Kind {
        match &self.samples {
            Samples::Pixels { .. } => Kind::SmallImages,
            Samples::Files { .. } => Kind::ImageFolder,
            Samples::Vectors { .. } => Kind::Vectors,
        }
    }

    /// Images left out because they can't be decoded ([`OpenOptions::skip_bad`]).
    ///
    /// [`OpenOptions::skip_bad`]: crate::OpenOptions::skip_bad
    pub fn skipped(&self) -> &[BadSample] {
        &self.skipped
    }

    /// How a sample becomes the network's input, from the statistics of the training split.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The augmentation that suits the source.
    pub fn default_augment(&self) -> Augment {
        self.default_augment
    }

    /// The label of sample `i` of a split.
    ///
    /// # Panics
    /// If `i` is not less than [`len`](Self::len).
    pub fn label(&self, split: Split, i: usize) -> u32 {
        self.labels[self.indices(split)[i] as usize]
    }

    /// Number of samples of each class in a split.
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &i in self.indices(split) {
            counts[self.labels[i as usize] as usize] += 1;
        }
        counts
    }

    /// The file of sample `i` of a split, for a folder of photographs.
    ///
    /// # Panics
    /// If `i` is not less than [`len`](Self::len).
    pub fn path(&self, split: Split, i: usize) -> Option<&Path> {
        let i = self.indices(split)[i] as usize;
        match &self.samples {
            Samples::Files { paths, .. } => Some(&paths[i]),
            _ => None,
        }
    }

    /// Sample `i` of a split as a picture, before augmentation and normalisation.
    ///
    /// # Errors
    /// If the samples are vectors, or the file has become unreadable.
    ///
    /// # Panics
    /// If `i` is not less than [`len`](Self::len).
    pub fn pixels(&self, split: Split, i: usize) -> Result<Pixels, DataError> {
        let i = self.indices(split)[i] as usize;
        match &self.samples {
            Samples::Pixels { shape, data } => Ok(Pixels {
                channels: shape.channels,
                height: shape.height,
                width: shape.width,
                data: data[i * shape.len()..][..shape.len()].to_vec(),
            }),
            Samples::Files { paths, .. } => Pixels::load(&paths[i]),
            Samples::Vectors { .. } => {
                Err(DataError::invalid(&self.name, "holds vectors, expected pictures"))
            }
        }
    }

    /// Why an augmentation can't be applied to these samples, if it can't.
    ///
    /// # Errors
    /// Any augmentation of vectors, or padding as large as the picture.
    pub fn expect_augment(&self, augment: Augment) -> Result<(), DataError> {
        let Preprocessing { resize, height, width, .. } = self.preprocessing();
        let refuse = |problem| Err(DataError::Option { option: "augment", problem });
        match augment {
            Augment::None => Ok(()),
            _ if *resize == Resize::None => {
                refuse(format!("got {augment}, but vectors can only take none"))
            }
            Augment::PadCrop { padding, .. } if padding >= *height.min(width) => {
                let side = height.min(width);
                refuse(format!("padding {padding}, expected less than {side} pixels"))
            }
            Augment::PadCrop { .. } | Augment::RandomResizedCrop { .. } => Ok(()),
        }
    }

    /// Why a split can't be used, if it has no samples.
    pub fn expect_samples(&self, split: Split) -> Result<(), DataError> {
        if !self.is_empty(split) {
            return Ok(());
        }
        Err(DataError::EmptySplit {
            dataset: self.name.clone(),
            split,
            reason: self.splits.empty_because[split.index()].clone(),
        })
    }

    pub(crate) fn indices(&self, split: Split) -> &[u32] {
        &self.splits.indices[split.index()]
    }
}

/// Names that a model can be saved with: they are told apart, and printed as they are.
fn expect_class_names(classes: &[String]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for class in classes {
        if class.is_empty() || class.contains(char::is_control) {
            let expected = "expected one that is not empty and has no control characters";
            return Err(format!("class name {class:?}, {expected}"));
        }
        if !seen.insert(class) {
            return Err(format!("two classes are called `{class}`, expected different names"));
        }
    }
    Ok(())
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("kind", &self.kind())
            .field("classes", &self.classes.len())
            .field("lens", &Split::ALL.map(|split| self.len(split)))
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
