//! Arguments that several commands take, and their parsers.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use residua_data::OpenOptions;
use residua_graph::Shape;
use residua_resnet::{ArchitectureOptions, Shortcut};

/// A parser of one of some words, which help and errors then list.
pub(crate) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: fmt::Display> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| {
        word.parse::<T>().map_err(|error| std::io::Error::other(error.to_string()))
    })
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
    /// Height and width fed to the network [default: the images' own if small, else 224]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image_size: Option<usize>,
    /// Leave out images that can't be decoded, and count them
    #[arg(long)]
    pub(crate) skip_bad: bool,
}

impl OpenArgs {
    pub(crate) fn options(&self, seed: u64) -> OpenOptions {
        let Self { val_fraction, test_fraction, image_size, skip_bad } = *self;
        OpenOptions { val_fraction, test_fraction, seed, skip_bad, image_size }
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
