use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Split;

/// Why data can't be opened, read, checked or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing lies at the given path.
    #[error("{path}: no such file or folder")]
    NotFound {
        /// The source as given.
        path: String,
    },
    /// The operating system refused to read.
    #[error("{}: can't be read", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The operating system refused to write.
    #[error("{}: can't be written", path.display())]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The content is not what its format, or this dataset, asks for.
    #[error("{subject}: {problem}")]
    Invalid {
        /// File, folder, archive member or model field.
        subject: String,
        /// Found and expected.
        problem: String,
    },
    /// Images that can't be decoded, all of them at once.
    #[error("{} of {checked} images can't be used:{}", bad.len(), list(bad))]
    BadImages {
        /// Every unusable image.
        bad: Vec<BadSample>,
        /// How many images were decoded.
        checked: usize,
    },
    /// An option that does not fit the source.
    #[error("{option}: {problem}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Found and expected.
        problem: String,
    },
    /// A split without samples was asked for.
    #[error("{dataset}: the {split} split is empty ({reason})")]
    EmptySplit {
        /// The dataset's name.
        dataset: String,
        /// The split asked for.
        split: Split,
        /// Where its samples would come from.
        reason: String,
    },
    /// The threads that prepare batches have stopped.
    #[error("data loader: {0}")]
    Worker(String),
}

impl DataError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some(DATA_HINT),
            Self::BadImages { .. } => {
                Some("repair or remove these files, or leave them out with --skip-bad")
            }
            _ => None,
        }
    }

    pub(crate) fn invalid(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { subject: subject.into(), problem: problem.into() }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write { path: path.to_owned(), source }
    }
}

/// What a source may be, for messages.
pub(crate) const DATA_HINT: &str = "DATA is one of: a CIFAR-10/100 binary archive (.tar.gz) or its \
     extracted folder; a folder of images with class subfolders, alone or under train/ val/ test/; \
     a folder of MNIST-style IDX files; a .csv or .npy of vectors with labels; synthetic:shapes; \
     synthetic:spirals";

/// An image that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadSample {
    /// The file.
    pub path: PathBuf,
    /// The split it would have belonged to.
    pub split: Split,
    /// The kind of defect.
    pub issue: Issue,
    /// What the decoder said.
    pub reason: String,
}

/// What is worth telling about a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Issue {
    /// Can't be opened or decoded.
    Unreadable,
    /// The file ends before the picture does.
    Truncated,
    /// A file of no bytes, or a picture of no pixels.
    ZeroSized,
    /// More pixels than the decoder is allowed to allocate for.
    TooLarge,
    /// Stored as cyan, magenta, yellow and black; converted to RGB.
    Cmyk,
    /// Stored with more than 8 bits in a channel; reduced to 8.
    SixteenBit,
    /// One channel of grey; repeated to RGB.
    Greyscale,
    /// An alpha channel; dropped.
    Alpha,
    /// The same pixels (or values) occur in another split.
    DuplicateAcrossSplits,
}

impl Issue {
    /// Whether the sample can't be used, or makes a measurement wrong; the others are converted.
    pub fn is_fault(self) -> bool {
        match self {
            Self::Unreadable | Self::Truncated | Self::ZeroSized | Self::TooLarge => true,
            Self::DuplicateAcrossSplits => true,
            Self::Cmyk | Self::SixteenBit | Self::Greyscale | Self::Alpha => false,
        }
    }
}

impl std::fmt::Display for Issue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::Truncated => "truncated",
            Self::ZeroSized => "zero-sized",
            Self::TooLarge => "too large",
            Self::Cmyk => "CMYK",
            Self::SixteenBit => "16-bit",
            Self::Greyscale => "greyscale",
            Self::Alpha => "alpha",
            Self::DuplicateAcrossSplits => "duplicate across splits",
        })
    }
}

fn list(bad: &[BadSample]) -> String {
    bad.iter().map(|b| format!("\n  {}: {}", b.path.display(), b.reason)).collect()
}
