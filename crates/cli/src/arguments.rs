//! Arguments that several commands take, and their parsers.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use residua_data::{Augment, Kind, OpenOptions};
use residua_engine::{Isa, Precision, PrecisionError, ThreadPool};
use residua_graph::Shape;
use residua_resnet::{Architecture, ArchitectureError, ArchitectureOptions, Shortcut, StemKind};
use residua_train::RunOptions;

/// A parser of one of some words, which help and errors then list.
pub(crate) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: fmt::Display> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words)
        .try_map(|word| word.parse::<T>().map_err(|error| std::io::Error::other(error.to_string())))
}

/// A number format of activations, or the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrecisionArg {
    Auto,
    Given(Precision),
}

impl PrecisionArg {
    /// A parser of one.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        one_of(&["auto", "f32", "bf16"])
    }

    /// What `auto` means here, or what was given.
    pub(crate) fn resolve(self) -> Result<Precision> {
        Ok(match self {
            Self::Auto => Precision::fastest(Isa::best()?),
            Self::Given(precision) => precision,
        })
    }
}

impl FromStr for PrecisionArg {
    type Err = PrecisionError;

    fn from_str(name: &str) -> Result<Self, PrecisionError> {
        if name == "auto" { Ok(Self::Auto) } else { name.parse().map(Self::Given) }
    }
}

/// The number format that is trained in unless another one is asked for. Coordinates of points have more
/// digits than bf16; pixels don't.
pub(crate) fn default_precision(kind: Kind) -> Result<Precision> {
    match kind {
        Kind::Vectors => Ok(Precision::F32),
        Kind::SmallImages | Kind::ImageFolder => PrecisionArg::Auto.resolve(),
    }
}

/// A parser of a switch with a value.
pub(crate) fn on_or_off() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|word| word == "on")
}

/// What a name leaves open about a network.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct ArchitectureArgs {
    /// Layers with weights, the number in `resnet20`
    #[arg(long, value_name = "LAYERS")]
    pub(crate) depth: Option<usize>,
    /// Channels of the first stage; features of a fully connected network; factor of a wide one
    #[arg(long, value_name = "CHANNELS")]
    pub(crate) width: Option<usize>,
    /// What goes around the blocks; `none` makes the network plain
    #[arg(long, value_name = "KIND",
          value_parser = one_of::<Shortcut>(&["none", "zero-pad", "projection", "projection-all"]))]
    pub(crate) shortcut: Option<Shortcut>,
    /// Leave out batch normalisation; layers have biases instead
    #[arg(long)]
    pub(crate) no_norm: bool,
}

impl ArchitectureArgs {
    pub(crate) fn options(&self) -> ArchitectureOptions {
        let Self { depth, width, shortcut, no_norm } = *self;
        ArchitectureOptions { depth, width, shortcut, norm: no_norm.then_some(false) }
    }

    /// Whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.options() == ArchitectureOptions::default()
    }
}

/// The architecture of a name, for the input and classes it is made for if no others are given.
pub(crate) fn named_architecture(
    name: &str,
    options: &ArchitectureOptions,
    input: Option<Shape>,
    classes: Option<usize>,
) -> Result<Architecture, ArchitectureError> {
    let small = (Shape::image(3, 32, 32), 10);
    let photograph = (Shape::image(3, 224, 224), 1000);
    // Only the name's own stem tells; any architecture takes the larger input.
    let stem = Architecture::named_with(name, photograph.0, photograph.1, options)?.stem().kind;
    let made_for = match stem {
        StemKind::Conv7x7Pool => photograph,
        StemKind::Conv3x3 => small,
        StemKind::Linear => (Shape::vector(784), 10),
    };
    let (input, classes) = (input.unwrap_or(made_for.0), classes.unwrap_or(made_for.1));
    Architecture::named_with(name, input, classes, options)
}

/// How to read DATA.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct OpenArgs {
    /// Share of the training data that becomes the dev set, where DATA has none [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub(crate) val_fraction: Option<f64>,
    /// Share that becomes the test set, where DATA has none [default: 0.1, or 0 beside a dev set]
    #[arg(long, value_name = "SHARE")]
    pub(crate) test_fraction: Option<f64>,
    /// Decides which samples these are [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) split_seed: Option<u64>,
    /// Leave out images that can't be decoded, and count them
    #[arg(long)]
    pub(crate) skip_bad: bool,
}

impl OpenArgs {
    /// Changes what is set.
    pub(crate) fn apply(&self, options: &mut OpenOptions) {
        options.val_fraction = self.val_fraction.or(options.val_fraction);
        options.test_fraction = self.test_fraction.or(options.test_fraction);
        options.seed = self.split_seed.unwrap_or(options.seed);
        options.skip_bad |= self.skip_bad;
    }

    pub(crate) fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::default();
        self.apply(&mut options);
        options
    }
}

/// How training reads DATA and changes its images.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct InputArgs {
    #[command(flatten)]
    open: OpenArgs,
    /// Height and width fed to the network [default: the images' own if small, else 224]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Random changes to training images [default: pad-crop-flip for small images,
    /// random-resized-crop-flip for photographs]
    #[arg(long, value_name = "KIND", value_parser = one_of::<Augment>(&[
        "none", "pad-crop", "pad-crop-flip", "pad-crop-alternating-flip", "random-resized-crop",
        "random-resized-crop-flip", "random-resized-crop-alternating-flip"]))]
    pub(crate) augment: Option<Augment>,
}

impl InputArgs {
    /// Changes how the dataset is opened where something is set.
    pub(crate) fn apply_open(&self, options: &mut OpenOptions) {
        self.open.apply(options);
        options.image_size = self.image_size.or(options.image_size);
    }
}

/// More than the processors of any machine: a batch has fewer parts that could run at once.
const MAX_THREADS: i64 = 1024;

/// How much of the machine to take.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ThreadArgs {
    /// Threads that compute; the result is the same with any number [default: one for each core]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    pub(crate) threads: Option<u16>,
}

impl ThreadArgs {
    pub(crate) fn number(self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// A run of training on so many threads.
    pub(crate) fn run_options(self) -> RunOptions {
        let threads = self.number();
        RunOptions { threads, workers: threads, ..RunOptions::default() }
    }

    /// Runs `f` on so many threads.
    pub(crate) fn install<R: Send>(self, f: impl FnOnce() -> R + Send) -> Result<R> {
        Ok(ThreadPool::new(self.number())?.install(f))
    }
}

/// `3x224x224`, or `784` of a vector.
pub(crate) fn shape(text: &str) -> Result<Shape, String> {
    let expected = "expected CHANNELSxHEIGHTxWIDTH as in 3x224x224, or the length of a vector";
    let numbers: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[len]) => Ok(Shape::vector(len)),
        Ok(&[c, h, w]) => Ok(Shape::image(c, h, w)),
        _ => Err(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_images_or_vectors() {
        assert_eq!(shape("3x224x192"), Ok(Shape::image(3, 224, 192)));
        assert_eq!(shape("784"), Ok(Shape::vector(784)));
        for wrong in ["", "3x32", "3x32x32x1", "axbxc", "3X32X32", "-1"] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
    }
}
