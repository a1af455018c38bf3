use std::{fmt, str::FromStr};

use residua_graph::{Graph, Shape};
use serde::{Deserialize, Serialize};

use crate::{ArchitectureBuilder, ArchitectureError, BlockSpan, assemble, names};

/// Where activations stand, and whether there are shortcuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Weight, batch norm, ReLU, one after another, without shortcuts.
    Plain,
    /// `relu(F(x) + shortcut(x))` (He et al. 2015).
    Residual,
    /// `F(x) + shortcut(x)` with batch norm and ReLU before each weight (He et al. 2016). Without
    /// shortcuts it is the plain network with that order.
    Preact,
}

/// The branch `F` of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// Two 3×3 convolutions, the first one strided.
    Basic,
    /// 1×1, 3×3 (strided) and 1×1 convolution, the last to four times the width.
    Bottleneck,
    /// Two linear layers.
    Dense,
}

impl Block {
    /// Channels a block puts out, in units of its stage's width.
    pub const fn expansion(self) -> usize {
        match self {
            Self::Bottleneck => 4,
            Self::Basic | Self::Dense => 1,
        }
    }

    /// Layers with weights in the branch.
    pub const fn depth(self) -> usize {
        match self {
            Self::Bottleneck => 3,
            Self::Basic | Self::Dense => 2,
        }
    }
}

/// What goes around a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// Nothing.
    None,
    /// The input; where shapes differ, subsampled and padded with zero channels (option A).
    ZeroPad,
    /// The input; where shapes differ, times a learned matrix (option B).
    Projection,
    /// The input times a learned matrix, around every block (option C).
    ProjectionAll,
}

impl Shortcut {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::ZeroPad, Self::Projection, Self::ProjectionAll];

    /// The word for it in names and in TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ZeroPad => "zero-pad",
            Self::Projection => "projection",
            Self::ProjectionAll => "projection-all",
        }
    }
}

impl fmt::Display for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Shortcut {
    type Err = ArchitectureError;

    fn from_str(word: &str) -> Result<Self, ArchitectureError> {
        Self::ALL.into_iter().find(|shortcut| shortcut.as_str() == word).ok_or_else(|| {
            ArchitectureError::UnknownWord {
                what: "shortcut",
                got: word.to_owned(),
                expected: "none, zero-pad, projection or projection-all",
            }
        })
    }
}

/// What comes before the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// A 3×3 convolution of stride 1, for small images.
    Conv3x3,
    /// A 7×7 convolution of stride 2 and a 3×3 max pool of stride 2, for photographs.
    Conv7x7Pool,
    /// A linear layer, for vectors.
    Linear,
}

/// The first layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stem {
    /// Its operations.
    pub kind: StemKind,
    /// Its output channels.
    pub width: usize,
}

/// What leads into a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transition {
    /// Nothing: its first block changes the width and has the stride.
    #[default]
    None,
    /// A 3×3 convolution to the channels that the stage puts out, a 2×2 max pool of stride 2, batch norm
    /// and ReLU, without a shortcut. The blocks behind are all alike. (Page 2019, "How to Train Your
    /// ResNet 8: Bag of Tricks".)
    Conv3x3Pool,
}

/// What makes a vector of the last stage's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The mean over all positions.
    #[default]
    Avg,
    /// The maximum over all positions, of which there are at most 15×15, in a square.
    Max,
}

/// Blocks of the same width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// How many.
    pub blocks: usize,
    /// Channels within each block; [`Block::expansion`] times as many come out.
    pub width: usize,
    /// Stride of the first block.
    #[serde(default = "one")]
    pub stride: usize,
    /// What leads into it.
    #[serde(default, skip_serializing_if = "Transition::is_none")]
    pub transition: Transition,
}

impl Pool {
    pub(crate) fn is_avg(&self) -> bool {
        *self == Self::Avg
    }
}

impl Transition {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

fn one() -> usize {
    1
}

/// A plain or residual network as data: what a person writes and a model file stores.
///
/// Every value of this type is valid: it comes from [`named`](Self::named), from
/// [`builder`](Self::builder), or from its data form, and each of them checks it whole.
///
/// ```
/// use residua_resnet::{Architecture, Shape};
///
/// let resnet = Architecture::named("resnet20", Shape::image(3, 32, 32), 10)?;
/// assert_eq!(resnet.to_graph()?.num_parameters(), 269_722);
/// let plain = resnet.plain_twin();
/// assert_eq!(plain.name(), "plain20");
/// assert_eq!(plain.to_graph()?.num_parameters(), 269_722);
/// # Ok::<(), residua_resnet::ArchitectureError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ArchitectureBuilder")]
pub struct Architecture(pub(crate) ArchitectureBuilder);

impl Architecture {
    /// Starts a description for samples of this shape and this many classes.
    pub fn builder(input: Shape, classes: usize) -> ArchitectureBuilder {
        ArchitectureBuilder::new(input, classes)
    }

    /// Reads the TOML form. Only `name`, `norm`, `pool`, `stride` and `transition` may be left out; a
    /// key it does not know is refused.
    ///
    /// ```
    /// use residua_resnet::Architecture;
    ///
    /// let text = r#"
    ///     name = "narrow"
    ///     family = "residual"
    ///     block = "basic"
    ///     shortcut = "projection"
    ///     classes = 10
    ///     input = [1, 28, 28]
    ///     stem = { kind = "conv3x3", width = 8 }
    ///
    ///     [[stages]]
    ///     blocks = 2
    ///     width = 8
    ///
    ///     [[stages]]
    ///     blocks = 2
    ///     width = 16
    ///     stride = 2
    /// "#;
    /// let architecture = Architecture::from_toml(text)?;
    /// assert_eq!(architecture.depth(), 10);
    /// assert_eq!(Architecture::from_toml(&architecture.to_toml())?, architecture);
    /// # Ok::<(), residua_resnet::ArchitectureError>(())
    /// ```
    ///
    /// # Errors
    /// A text that is not TOML or not an architecture, with the line; or one that is not valid.
    pub fn from_toml(text: &str) -> Result<Self, ArchitectureError> {
        toml::from_str::<ArchitectureBuilder>(text)?.build()
    }

    /// Its TOML form, which [`from_toml`](Self::from_toml) reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers below 2^31, strings and tables have a TOML form")
    }

    /// The name it goes by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where activations stand, and whether there are shortcuts.
    pub fn family(&self) -> Family {
        self.0.family
    }

    /// The branch of its blocks.
    pub fn block(&self) -> Block {
        self.0.block
    }

    /// What goes around its blocks.
    pub fn shortcut(&self) -> Shortcut {
        self.0.shortcut
    }

    /// Whether it has batch norms. Without them every convolution and linear layer of stem and
    /// branches has a bias.
    pub fn norm(&self) -> bool {
        self.0.norm
    }

    /// The first layer.
    pub fn stem(&self) -> Stem {
        self.0.stem
    }

    /// Its stages.
    pub fn stages(&self) -> &[Stage] {
        &self.0.stages
    }

    /// What makes a vector of the last stage's channels.
    pub fn pool(&self) -> Pool {
        self.0.pool
    }

    /// Shape of one sample. A fully connected network reads an image as one vector in memory order
    /// (rows, columns, channels), so that its graph's input is a vector of the same length.
    pub fn input(&self) -> Shape {
        self.0.input
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.0.classes
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.0.stages.iter().map(|stage| stage.blocks).sum()
    }

    /// Layers with weights on the way through all branches, the number in `resnet20`. (That of
    /// `wide-resnet28-10` is two more: its authors count three learned shortcuts and not the head.)
    pub fn depth(&self) -> usize {
        let transitions = self.0.stages.iter().filter(|stage| !stage.transition.is_none()).count();
        2 + transitions + self.num_blocks() * self.block().depth()
    }

    /// What it computes.
    ///
    /// # Errors
    /// None for a value of this type: it was checked when it was made.
    pub fn to_graph(&self) -> Result<Graph, ArchitectureError> {
        assemble::assemble(&self.0).map(|(graph, _)| graph)
    }

    /// Where its blocks are in the graph, in order.
    pub fn blocks(&self) -> Vec<BlockSpan> {
        let (_, blocks) = assemble::assemble(&self.0).expect("checked when it was made");
        blocks
    }

    /// The same for samples of another shape. A convolutional network keeps its parameters.
    ///
    /// # Errors
    /// A shape that its layers don't fit.
    pub fn with_input(&self, input: Shape) -> Result<Self, ArchitectureError> {
        ArchitectureBuilder { input, ..self.0.clone() }.build()
    }

    /// The same with another kind of shortcut, and its name and family changed accordingly.
    ///
    /// # Errors
    /// [`Shortcut::ZeroPad`] around a block with fewer output than input channels.
    pub fn with_shortcut(&self, shortcut: Shortcut) -> Result<Self, ArchitectureError> {
        let family = match (self.family(), shortcut) {
            (Family::Preact, _) => Family::Preact,
            (_, Shortcut::None) => Family::Plain,
            (_, _) => Family::Residual,
        };
        let name = names::with_shortcut(self.name(), shortcut);
        self.0.clone().name(&name).family(family).shortcut(shortcut).build()
    }

    /// The same with another number of blocks in each stage, and its name changed accordingly:
    /// `resnet32` for five each in `resnet20`, `resnet20-blocks-3-3-5` for what has no name.
    ///
    /// # Errors
    /// A stage without blocks, too many of them, or another number of stages.
    pub fn with_blocks(&self, blocks: &[usize]) -> Result<Self, ArchitectureError> {
        let mut builder = self.0.clone().name(&names::with_blocks(self.name(), blocks));
        builder.check_num_stages(blocks.len())?;
        for (stage, &blocks) in builder.stages.iter_mut().zip(blocks) {
            stage.blocks = blocks;
        }
        builder.build()
    }

    /// The same without shortcuts. Where they were [`Shortcut::ZeroPad`], the parameters' names,
    /// shapes and initial values stay.
    pub fn plain_twin(&self) -> Self {
        self.with_shortcut(Shortcut::None).expect("without shortcuts every branch still fits")
    }

    /// The same with parameter-free shortcuts ([`Shortcut::ZeroPad`]): names, shapes and initial
    /// values of the parameters of a plain network stay.
    ///
    /// # Errors
    /// A block with fewer output than input channels.
    pub fn residual_twin(&self) -> Result<Self, ArchitectureError> {
        self.with_shortcut(Shortcut::ZeroPad)
    }
}
