//! From an architecture to its graph.
//!
//! Order of the tensors and their names are torchvision's, `layer{stage}.{block}` from stage 1 and
//! block 0. In fully connected networks `fc` stands for `conv`.

use std::ops::Range;

use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, MaxPool, Shape, ValueId};

use crate::{
    ArchitectureBuilder, ArchitectureError, Block, BlockIndex, Family, Pool, Shortcut, StemKind,
    Transition,
};

/// Where a block is in its graph: it computes `output` from `input`, as
/// `relu(branch + shortcut)`, or `branch + shortcut` in the pre-activation family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSpan {
    /// Module name, `layer1.0`; the names of its nodes start with it.
    pub name: String,
    /// Its stage, from 0 (`layer1`).
    pub stage: usize,
    /// Its place in the stage, from 0.
    pub index: usize,
    /// Its nodes, as a range of [`Graph::nodes`].
    pub nodes: Range<usize>,
    /// What it reads; no node of it reads anything else from outside.
    pub input: ValueId,
    /// `F(x)`, before the addition.
    pub branch: ValueId,
    /// What is added to the branch.
    pub shortcut: Option<ValueId>,
    /// What it puts out.
    pub output: ValueId,
}

impl BlockSpan {
    /// Which block it is.
    pub fn block(&self) -> BlockIndex {
        BlockIndex { stage: self.stage, block: self.index }
    }

    /// Whether the input itself is added, so that the block could be left out.
    pub fn has_identity_shortcut(&self) -> bool {
        self.shortcut == Some(self.input)
    }
}

/// The graph, and its blocks in order.
pub(crate) fn assemble(
    architecture: &ArchitectureBuilder,
) -> Result<(Graph, Vec<BlockSpan>), ArchitectureError> {
    // Images are read as vectors by fully connected networks: the memory is the same.
    let input = match architecture.block {
        Block::Dense => Shape::vector(architecture.input.len()),
        Block::Basic | Block::Bottleneck => architecture.input,
    };
    let assembler =
        Assembler { architecture, builder: GraphBuilder::new(input), blocks: Vec::new() };
    assembler.run().map_err(|source| ArchitectureError::Graph {
        architecture: architecture.name.clone(),
        source,
    })
}

/// A convolution of a branch, or a linear layer with a kernel of 1.
struct Layer {
    width: usize,
    kernel_size: usize,
    stride: usize,
}

struct Assembler<'a> {
    architecture: &'a ArchitectureBuilder,
    builder: GraphBuilder,
    blocks: Vec<BlockSpan>,
}

impl Assembler<'_> {
    fn run(mut self) -> Result<(Graph, Vec<BlockSpan>), GraphError> {
        let mut x = self.stem()?;
        for (stage, &spec) in self.architecture.stages.iter().enumerate() {
            if spec.transition == Transition::Conv3x3Pool {
                let width = spec.width * self.architecture.block.expansion();
                x = self.conv_pool(&format!("layer{}.transition", stage + 1), x, width)?;
            }
            for index in 0..spec.blocks {
                let stride = if index == 0 { spec.stride } else { 1 };
                x = self.block(stage, index, x, &self.branch_layers(spec.width, stride))?;
            }
        }
        let output = self.head(x)?;
        Ok((self.builder.finish(output), self.blocks))
    }

    fn stem(&mut self) -> Result<ValueId, GraphError> {
        let stem = self.architecture.stem;
        let (kernel_size, stride) = match stem.kind {
            StemKind::Conv3x3 => (3, 1),
            StemKind::Conv7x7Pool => (7, 2),
            StemKind::Linear => (1, 1),
        };
        let layer = Layer { width: stem.width, kernel_size, stride };
        let name = format!("{}1", self.layer_word());
        let mut x = self.layer(&name, self.builder.input(), &layer)?;
        if self.architecture.family != Family::Preact {
            x = self.norm("bn1", x)?;
            x = self.builder.relu("relu", x);
        }
        match stem.kind {
            StemKind::Conv7x7Pool => {
                let pool = MaxPool { kernel_size: 3, stride: 2, padding: 1 };
                self.builder.max_pool("maxpool", x, pool)
            }
            StemKind::Conv3x3 | StemKind::Linear => Ok(x),
        }
    }

    /// [`Transition::Conv3x3Pool`]. The pool stands before the batch norm, which has a quarter of the work so;
    /// in the pre-activation family batch norm and ReLU stand before the convolution.
    fn conv_pool(
        &mut self,
        name: &str,
        mut x: ValueId,
        width: usize,
    ) -> Result<ValueId, GraphError> {
        let preact = self.architecture.family == Family::Preact;
        if preact {
            x = self.norm(&format!("{name}.bn"), x)?;
            x = self.builder.relu(&format!("{name}.relu"), x);
        }
        x = self.layer(&format!("{name}.conv"), x, &Layer { width, kernel_size: 3, stride: 1 })?;
        let pool = MaxPool { kernel_size: 2, stride: 2, padding: 0 };
        x = self.builder.max_pool(&format!("{name}.maxpool"), x, pool)?;
        if !preact {
            x = self.norm(&format!("{name}.bn"), x)?;
            x = self.builder.relu(&format!("{name}.relu"), x);
        }
        Ok(x)
    }

    fn head(&mut self, mut x: ValueId) -> Result<ValueId, GraphError> {
        if self.architecture.family == Family::Preact {
            x = self.norm("norm", x)?;
            x = self.builder.relu("relu", x);
        }
        if self.architecture.block != Block::Dense {
            x = match self.architecture.pool {
                Pool::Avg => self.builder.global_avg_pool("avgpool", x),
                Pool::Max => self.global_max_pool(x)?,
            };
        }
        self.builder.linear("fc", x, self.architecture.classes)
    }

    /// One window over all there is, and the vector of what comes out.
    fn global_max_pool(&mut self, x: ValueId) -> Result<ValueId, GraphError> {
        let shape = self.builder.shape(x);
        let side = shape.h.min(shape.w);
        let pool = MaxPool { kernel_size: side, stride: side, padding: 0 };
        let x = self.builder.max_pool("maxpool_head", x, pool)?;
        Ok(self.builder.global_avg_pool("flatten", x))
    }

    fn branch_layers(&self, width: usize, stride: usize) -> Vec<Layer> {
        let block = self.architecture.block;
        let layer = |kernel_size, stride| Layer { width, kernel_size, stride };
        match block {
            Block::Basic => vec![layer(3, stride), layer(3, 1)],
            Block::Dense => vec![layer(1, 1), layer(1, 1)],
            // Stride on the 3×3 (torchvision; "v1.5"), not on the first 1×1 as in the paper.
            Block::Bottleneck => {
                let last = Layer { width: width * block.expansion(), kernel_size: 1, stride: 1 };
                vec![layer(1, 1), layer(3, stride), last]
            }
        }
    }

    fn block(
        &mut self,
        stage: usize,
        index: usize,
        input: ValueId,
        layers: &[Layer],
    ) -> Result<ValueId, GraphError> {
        let name = format!("layer{}.{index}", stage + 1);
        let first = self.builder.num_nodes();
        let (branch, shortcut, output) = match self.architecture.family {
            Family::Plain | Family::Residual => self.postact_block(&name, input, layers)?,
            Family::Preact => self.preact_block(&name, input, layers)?,
        };
        let nodes = first..self.builder.num_nodes();
        self.blocks.push(BlockSpan { name, stage, index, nodes, input, branch, shortcut, output });
        Ok(output)
    }

    /// `relu(F(x) + shortcut(x))`.
    fn postact_block(
        &mut self,
        name: &str,
        input: ValueId,
        layers: &[Layer],
    ) -> Result<(ValueId, Option<ValueId>, ValueId), GraphError> {
        let word = self.layer_word();
        let mut branch = input;
        for (i, layer) in layers.iter().enumerate() {
            if i > 0 {
                branch = self.builder.relu(&format!("{name}.relu{i}"), branch);
            }
            branch = self.layer(&format!("{name}.{word}{}", i + 1), branch, layer)?;
            branch = self.norm(&format!("{name}.bn{}", i + 1), branch)?;
        }
        let shortcut = self.shortcut(name, input, input, layers)?;
        let sum = self.add_shortcut(name, branch, shortcut)?;
        let output = self.builder.relu(&format!("{name}.relu{}", layers.len()), sum);
        Ok((branch, shortcut, output))
    }

    /// `F(x) + shortcut(x)`, with batch norm and ReLU before each layer of `F`.
    fn preact_block(
        &mut self,
        name: &str,
        input: ValueId,
        layers: &[Layer],
    ) -> Result<(ValueId, Option<ValueId>, ValueId), GraphError> {
        let word = self.layer_word();
        let mut branch = input;
        let mut activated = input;
        for (i, layer) in layers.iter().enumerate() {
            branch = self.norm(&format!("{name}.bn{}", i + 1), branch)?;
            branch = self.builder.relu(&format!("{name}.relu{}", i + 1), branch);
            if i == 0 {
                activated = branch;
            }
            branch = self.layer(&format!("{name}.{word}{}", i + 1), branch, layer)?;
        }
        let shortcut = self.shortcut(name, input, activated, layers)?;
        let output = self.add_shortcut(name, branch, shortcut)?;
        Ok((branch, shortcut, output))
    }

    /// The shortcut of a block, if it has one: of `input` where it has no parameters, and of
    /// `projected` where it has.
    fn shortcut(
        &mut self,
        name: &str,
        input: ValueId,
        projected: ValueId,
        layers: &[Layer],
    ) -> Result<Option<ValueId>, GraphError> {
        let stride: usize = layers.iter().map(|layer| layer.stride).product();
        let width = layers.last().map_or(0, |layer| layer.width);
        let fits = stride == 1 && self.builder.shape(input).c == width;
        let name = format!("{name}.downsample");
        let value = match self.architecture.shortcut {
            Shortcut::None => return Ok(None),
            Shortcut::ZeroPad | Shortcut::Projection if fits => input,
            Shortcut::ZeroPad => self.builder.zero_pad(&name, input, width, stride)?,
            Shortcut::Projection | Shortcut::ProjectionAll => {
                self.projection(&name, projected, width, stride)?
            }
        };
        Ok(Some(value))
    }

    /// A learned matrix at each position. After it a batch norm, as after each other layer, but for
    /// the pre-activation family, whose batch norms come before.
    fn projection(
        &mut self,
        name: &str,
        input: ValueId,
        width: usize,
        stride: usize,
    ) -> Result<ValueId, GraphError> {
        let weight = format!("{name}.0");
        let x = match self.architecture.block {
            Block::Dense => self.builder.linear_without_bias(&weight, input, width)?,
            Block::Basic | Block::Bottleneck => {
                self.builder.conv2d(&weight, input, Conv2d::square(width, 1).stride(stride))?
            }
        };
        match self.architecture.family {
            Family::Preact => Ok(x),
            Family::Plain | Family::Residual => self.norm(&format!("{name}.1"), x),
        }
    }

    fn add_shortcut(
        &mut self,
        name: &str,
        branch: ValueId,
        shortcut: Option<ValueId>,
    ) -> Result<ValueId, GraphError> {
        match shortcut {
            Some(shortcut) => self.builder.add(&format!("{name}.add"), branch, shortcut),
            None => Ok(branch),
        }
    }

    /// A convolution or linear layer; with a bias only where no batch norm takes it away again.
    fn layer(&mut self, name: &str, input: ValueId, layer: &Layer) -> Result<ValueId, GraphError> {
        let bias = !self.architecture.norm;
        match (self.architecture.block, bias) {
            (Block::Dense, true) => self.builder.linear(name, input, layer.width),
            (Block::Dense, false) => self.builder.linear_without_bias(name, input, layer.width),
            (Block::Basic | Block::Bottleneck, _) => {
                let conv = Conv2d::square(layer.width, layer.kernel_size)
                    .stride(layer.stride)
                    .padding(layer.kernel_size / 2)
                    .bias(bias);
                self.builder.conv2d(name, input, conv)
            }
        }
    }

    fn norm(&mut self, name: &str, input: ValueId) -> Result<ValueId, GraphError> {
        match self.architecture.norm {
            true => self.builder.batch_norm(name, input),
            false => Ok(input),
        }
    }

    fn layer_word(&self) -> &'static str {
        match self.architecture.block {
            Block::Dense => "fc",
            Block::Basic | Block::Bottleneck => "conv",
        }
    }
}
