use residua_graph::Shape;
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, ArchitectureError, Block, Family, Pool, Shortcut, Stage, Stem, StemKind,
    Transition, assemble, shape,
};

// Far above any network of the literature; they keep sizes from overflowing when a description
// comes from a file someone else made.
pub(crate) const MAX_NAME_LEN: usize = 100;
const MAX_BLOCKS: usize = 1 << 12;
const MAX_WIDTH: usize = 1 << 14;
const MAX_SIDE: usize = 1 << 13;
const MAX_FEATURES: usize = 1 << 26;
const MAX_CLASSES: usize = 1 << 20;
const MAX_STRIDE: usize = 8;
const MAX_POOL_SIDE: usize = 15;
const MAX_PARAMETERS: usize = 1 << 32;

/// An [`Architecture`] in the making, made by [`Architecture::builder`]; also its data form.
///
/// It starts as a residual network of basic blocks with batch norm, zero-padding shortcuts and a
/// 3×3 stem of 16 channels, and has no stage yet.
///
/// ```
/// use residua_resnet::{Architecture, Block, Shape, Shortcut, StemKind};
///
/// let wide_last_block = Architecture::builder(Shape::vector(784), 10)
///     .name("mlp")
///     .block(Block::Dense)
///     .shortcut(Shortcut::Projection)
///     .stem(StemKind::Linear, 128)
///     .stage(2, 128, 1)
///     .stage(1, 256, 1)
///     .build()?;
/// let graph = wide_last_block.to_graph()?;
/// assert!(graph.params().iter().any(|spec| spec.name == "layer2.0.downsample.0.weight"));
/// # Ok::<(), residua_resnet::ArchitectureError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchitectureBuilder {
    #[serde(default = "custom")]
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) block: Block,
    pub(crate) shortcut: Shortcut,
    #[serde(default = "yes")]
    pub(crate) norm: bool,
    #[serde(default, skip_serializing_if = "Pool::is_avg")]
    pub(crate) pool: Pool,
    pub(crate) classes: usize,
    #[serde(with = "shape")]
    pub(crate) input: Shape,
    pub(crate) stem: Stem,
    pub(crate) stages: Vec<Stage>,
}

fn custom() -> String {
    "custom".to_owned()
}

fn yes() -> bool {
    true
}

impl ArchitectureBuilder {
    pub(crate) fn new(input: Shape, classes: usize) -> Self {
        Self {
            name: custom(),
            family: Family::Residual,
            block: Block::Basic,
            shortcut: Shortcut::ZeroPad,
            norm: true,
            pool: Pool::Avg,
            classes,
            input,
            stem: Stem { kind: StemKind::Conv3x3, width: 16 },
            stages: Vec::new(),
        }
    }

    /// The name it goes by; `custom` if not set.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Where activations stand, and whether there are shortcuts. [`Family::Plain`] also sets
    /// [`Shortcut::None`].
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        if family == Family::Plain {
            self.shortcut = Shortcut::None;
        }
        self
    }

    /// The branch of every block.
    pub fn block(mut self, block: Block) -> Self {
        self.block = block;
        self
    }

    /// What goes around every block.
    pub fn shortcut(mut self, shortcut: Shortcut) -> Self {
        self.shortcut = shortcut;
        self
    }

    /// With batch norms, or without them and with biases.
    pub fn norm(mut self, norm: bool) -> Self {
        self.norm = norm;
        self
    }

    /// What makes a vector of the last stage's channels; the mean if not set.
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// The first layer.
    pub fn stem(mut self, kind: StemKind, width: usize) -> Self {
        self.stem = Stem { kind, width };
        self
    }

    /// Adds a stage of `blocks` blocks, the first with this stride.
    pub fn stage(mut self, blocks: usize, width: usize, stride: usize) -> Self {
        self.stages.push(Stage { blocks, width, stride, transition: Transition::None });
        self
    }

    /// Adds a stage of `blocks` blocks after a [`Transition::Conv3x3Pool`].
    pub fn pooled_stage(mut self, blocks: usize, width: usize) -> Self {
        self.stages.push(Stage { blocks, width, stride: 1, transition: Transition::Conv3x3Pool });
        self
    }

    /// The architecture.
    ///
    /// # Errors
    /// A value out of range; a family, block, shortcut and stem that do not go together; an input
    /// too small for the strides; a zero-padding shortcut to fewer channels.
    pub fn build(self) -> Result<Architecture, ArchitectureError> {
        self.check_name()?;
        self.check_sizes()?;
        self.check_kinds()?;
        self.check_input()?;
        let (graph, blocks) = assemble::assemble(&self)?;
        if let (Pool::Max, Some(last)) = (self.pool, blocks.last()) {
            self.check_max_pool(graph.shape(last.output))?;
        }
        let parameters = graph.num_parameters();
        self.check(parameters <= MAX_PARAMETERS, "number of parameters", parameters, || {
            format!("at most {MAX_PARAMETERS}")
        })?;
        Ok(Architecture(self))
    }

    pub(crate) fn check_num_stages(&self, got: usize) -> Result<(), ArchitectureError> {
        let expected = self.stages.len();
        self.check(got == expected, "number of stages", got, || expected.to_string())
    }

    fn check_name(&self) -> Result<(), ArchitectureError> {
        let fine = !self.name.trim().is_empty()
            && self.name.len() <= MAX_NAME_LEN
            && !self.name.chars().any(char::is_control);
        self.check(fine, "name", format!("{:?}", self.name), || {
            format!("1 to {MAX_NAME_LEN} bytes without control characters")
        })
    }

    fn check_sizes(&self) -> Result<(), ArchitectureError> {
        self.in_range("classes", self.classes, 2, MAX_CLASSES)?;
        self.in_range("stem width", self.stem.width, 1, MAX_WIDTH)?;
        // A fully connected network may be a hidden layer and a head, where a study of depth begins.
        let may_be_empty = self.block == Block::Dense;
        self.check(may_be_empty || !self.stages.is_empty(), "number of stages", 0, || {
            "at least 1".to_owned()
        })?;
        let mut blocks = 0usize;
        for (i, stage) in self.stages.iter().enumerate() {
            let subject = |what| format!("{what} of stage {}", i + 1);
            self.in_range(&subject("number of blocks"), stage.blocks, 1, MAX_BLOCKS)?;
            self.in_range(&subject("width"), stage.width, 1, MAX_WIDTH)?;
            self.in_range(&subject("stride"), stage.stride, 1, MAX_STRIDE)?;
            let conv_pool = stage.transition == Transition::Conv3x3Pool;
            self.check(!conv_pool || stage.stride == 1, &subject("stride"), stage.stride, || {
                "1 after a transition".to_owned()
            })?;
            self.check(
                !conv_pool || self.block != Block::Dense,
                &subject("transition"),
                "conv3x3-pool",
                || "none in a fully connected network".to_owned(),
            )?;
            blocks = blocks.saturating_add(stage.blocks);
        }
        self.in_range("number of blocks", blocks, 0, MAX_BLOCKS)
    }

    fn check_kinds(&self) -> Result<(), ArchitectureError> {
        let shortcut = self.shortcut.as_str();
        match (self.family, self.shortcut) {
            (Family::Plain, Shortcut::None) | (Family::Preact, _) => {}
            (Family::Plain, _) => {
                let expected = "none in a plain network".to_owned();
                self.check(false, "shortcut", shortcut, || expected)?;
            }
            (Family::Residual, got) => {
                let expected = || "zero-pad, projection or projection-all".to_owned();
                self.check(got != Shortcut::None, "shortcut", shortcut, expected)?;
            }
        }
        let linear = self.stem.kind == StemKind::Linear;
        let (got, expected) = match linear {
            true => ("linear", "a convolution before convolutional blocks"),
            false => ("a convolution", "linear before dense blocks"),
        };
        let same = linear == (self.block == Block::Dense);
        self.check(same, "stem", got, || expected.to_owned())
    }

    fn check_input(&self) -> Result<(), ArchitectureError> {
        let Shape { c, h, w } = self.input;
        if self.block == Block::Dense {
            for (i, stage) in self.stages.iter().enumerate() {
                let subject = format!("stride of stage {}", i + 1);
                self.check(stage.stride == 1, &subject, stage.stride, || {
                    "1 in a fully connected network".to_owned()
                })?;
            }
            let len = c.saturating_mul(h).saturating_mul(w);
            return self.in_range("number of input features", len, 1, MAX_FEATURES);
        }
        self.in_range("number of input channels", c, 1, MAX_WIDTH)?;
        self.in_range("input height", h, 1, MAX_SIDE)?;
        self.in_range("input width", w, 1, MAX_SIDE)?;
        let least = self.least_side();
        self.check(h.min(w) >= least, "input", self.input, || match (h, w) {
            (1, 1) => format!(
                "an image of at least {least}x{least} (fully connected networks take vectors)"
            ),
            _ => format!("at least {c}x{least}x{least}, so that no stride skips all there is"),
        })
    }

    /// One window takes all that the last stage puts out.
    fn check_max_pool(&self, Shape { h, w, .. }: Shape) -> Result<(), ArchitectureError> {
        let fits = self.block != Block::Dense && h == w && h <= MAX_POOL_SIDE;
        self.check(fits, "pool", format!("max of {h}x{w} positions"), || {
            format!("a square of up to {MAX_POOL_SIDE}x{MAX_POOL_SIDE} positions, or avg")
        })
    }

    /// The least height and width that leave two rows and columns to the last stride or pool.
    fn least_side(&self) -> usize {
        let stem: &[usize] = match self.stem.kind {
            StemKind::Conv7x7Pool => &[2, 2],
            StemKind::Conv3x3 | StemKind::Linear => &[],
        };
        let stem = stem.iter().map(|&stride| (Transition::None, stride));
        let stages = self.stages.iter().map(|stage| (stage.transition, stage.stride));
        let mut smaller: Vec<_> = stem.chain(stages).collect();
        smaller.retain(|&(transition, stride)| stride > 1 || transition != Transition::None);
        let least_of_last = smaller.pop().map_or(1, |_| 2);
        // Of a side, a stride s makes ceil(side / s), a transition's pool floor(side / 2).
        smaller.iter().rev().fold(least_of_last, |side: usize, &(transition, stride)| {
            match transition {
                Transition::None => (side - 1).saturating_mul(stride).saturating_add(1),
                Transition::Conv3x3Pool => side.saturating_mul(2),
            }
        })
    }

    fn in_range(
        &self,
        what: &str,
        got: usize,
        least: usize,
        most: usize,
    ) -> Result<(), ArchitectureError> {
        self.check((least..=most).contains(&got), what, got, || format!("{least} to {most}"))
    }

    fn check(
        &self,
        fine: bool,
        what: &str,
        got: impl ToString,
        expected: impl FnOnce() -> String,
    ) -> Result<(), ArchitectureError> {
        match fine {
            true => Ok(()),
            false => Err(ArchitectureError::Invalid {
                architecture: self.name.clone(),
                what: what.to_owned(),
                got: got.to_string(),
                expected: expected(),
            }),
        }
    }
}

impl TryFrom<ArchitectureBuilder> for Architecture {
    type Error = ArchitectureError;

    fn try_from(builder: ArchitectureBuilder) -> Result<Self, ArchitectureError> {
        builder.build()
    }
}
