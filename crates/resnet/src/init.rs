use std::{fmt, str::FromStr};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal, StandardUniform};
use residua_graph::{Graph, Op, ParamId, Role, TensorSpec, Weights};
use serde::{Deserialize, Serialize};

use crate::{Architecture, ArchitectureError};

/// A convolution's initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal, of standard deviation `sqrt(2 / (kh·kw·out_channels))`, which keeps the size of
    /// gradients; torchvision's.
    #[default]
    KaimingFanOut,
    /// Normal, of standard deviation `sqrt(2 / (kh·kw·in_channels))`, which keeps the size of
    /// activations.
    KaimingFanIn,
    /// The first output channels are the input's channels, as by `torch.nn.init.dirac_`; output
    /// channels beyond those, and the first convolution, are [`KaimingFanOut`](Self::KaimingFanOut).
    /// (Jordan 2024, arXiv 2404.00498, section 3.3.)
    Dirac,
}

impl Init {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KaimingFanOut, Self::KaimingFanIn, Self::Dirac];

    /// The word for it in TOML and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KaimingFanOut => "kaiming-fan-out",
            Self::KaimingFanIn => "kaiming-fan-in",
            Self::Dirac => "dirac",
        }
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Init {
    type Err = ArchitectureError;

    fn from_str(word: &str) -> Result<Self, ArchitectureError> {
        Self::ALL.into_iter().find(|init| init.as_str() == word).ok_or_else(|| {
            ArchitectureError::UnknownWord {
                what: "init",
                got: word.to_owned(),
                expected: "kaiming-fan-out, kaiming-fan-in or dirac",
            }
        })
    }
}

/// How [`init_weights`] sets the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InitOptions {
    /// Of convolutions.
    pub init: Init,
    /// Whether each residual block starts as its shortcut; see [`init_weights`].
    pub zero_init_residual: bool,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Initial weights (He et al. 2015, arXiv 1502.01852).
///
/// | tensor | value |
/// |---|---|
/// | convolutions | normal, mean 0, He's standard deviation, or the identity, by [`InitOptions::init`] |
/// | linear layers but the last | normal, `sqrt(2 / in_features)`: fan-in under either setting |
/// | the last one, `fc` | uniform below `1/sqrt(in_features)`, weight and bias, as `torch.nn.Linear` |
/// | other biases | 0 |
/// | batch norms | weight 1, bias 0, running mean 0, running variance 1 |
///
/// Without batch norms, each block would up to triple the second moment of a residual network's
/// activations. There the weights of each branch's last layer are divided by the square root of
/// the number of blocks, which bounds the growth over all blocks by e² (in the manner of Hanin &
/// Rolnick 2018, arXiv 1803.01719).
///
/// With `zero_init_residual` the last batch norm of each branch has weight 0; where a branch ends in
/// a convolution or linear layer (pre-activation, or no batch norms), this layer is 0. Networks
/// without shortcuts, which would be cut through, are left as they are.
///
/// Each tensor depends on nothing but the seed, its own name and shape, and the rules above: twins
/// with and without shortcuts start from the same bits as long as they have batch norms, and a
/// layer that is added leaves the others as they are.
///
/// `graph` is the one of the architecture.
pub fn init_weights(architecture: &Architecture, graph: &Graph, options: &InitOptions) -> Weights {
    let mut weights = Weights::zeros(graph);
    for spec in graph.buffers() {
        if spec.role == Role::RunningVar {
            weights.buffers[spec.range()].fill(1.0);
        }
    }
    for spec in graph.params() {
        fill(spec, options, graph, &mut weights.params[spec.range()]);
    }
    let ends = branch_ends(architecture, graph);
    let scale = 1.0 / (ends.len() as f32).sqrt();
    for weight in ends {
        let values = &mut weights.params[graph.params()[weight.index()].range()];
        if options.zero_init_residual {
            values.fill(0.0);
        } else if !architecture.norm() {
            values.iter_mut().for_each(|value| *value *= scale);
        }
    }
    weights
}

fn fill(spec: &TensorSpec, options: &InitOptions, graph: &Graph, values: &mut [f32]) {
    let fan_in = |weight: &TensorSpec| weight.shape[1..].iter().product::<usize>();
    match spec.role {
        _ if spec.name.starts_with("fc.") => {
            let weight = graph.params().iter().find(|spec| spec.name == "fc.weight");
            let bound = 1.0 / (weight.map_or(1, fan_in) as f64).sqrt();
            fill_uniform(stream(options.seed, &spec.name), bound, values);
        }
        Role::ConvWeight | Role::LinearWeight => {
            let fan = match (spec.role, options.init) {
                (Role::ConvWeight, Init::KaimingFanOut | Init::Dirac) => {
                    spec.shape[0] * spec.shape[2..].iter().product::<usize>()
                }
                _ => fan_in(spec),
            };
            fill_normal(stream(options.seed, &spec.name), (2.0 / fan as f64).sqrt(), values);
            if options.init == Init::Dirac
                && spec.role == Role::ConvWeight
                && spec.name != "conv1.weight"
            {
                fill_dirac(&spec.shape, values);
            }
        }
        Role::NormWeight => values.fill(1.0),
        _ => {}
    }
}

/// Weights of what puts out the branches that have a shortcut around them.
fn branch_ends(architecture: &Architecture, graph: &Graph) -> Vec<ParamId> {
    let blocks = architecture.blocks();
    let branches = blocks.iter().filter(|block| block.shortcut.is_some());
    let ends = branches.filter_map(|block| {
        let mut nodes = graph.nodes()[block.nodes.clone()].iter();
        match &nodes.find(|node| node.output == block.branch)?.op {
            Op::Conv2d { weight, .. } | Op::Linear { weight, .. } => Some(*weight),
            Op::BatchNorm(norm) => Some(norm.weight),
            _ => None,
        }
    });
    ends.collect()
}

/// The random numbers of one tensor: the seed is the key, the name picks the stream.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(fnv1a(name));
    rng
}

/// The 64-bit FNV-1a hash, which will be the same with any version of anything.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

// Numbers are drawn in f64 and rounded once.
fn fill_normal(mut rng: ChaCha8Rng, std: f64, values: &mut [f32]) {
    for value in values {
        let sample: f64 = StandardNormal.sample(&mut rng);
        *value = (std * sample) as f32;
    }
}

/// Filters that put out one input channel each, as far as there are input channels.
fn fill_dirac(shape: &[usize], values: &mut [f32]) {
    let (ic, taps) = (shape[1], shape[2] * shape[3]);
    let centre = shape[2] / 2 * shape[3] + shape[3] / 2;
    for (channel, filter) in values.chunks_exact_mut(ic * taps).take(ic).enumerate() {
        filter.fill(0.0);
        filter[channel * taps + centre] = 1.0;
    }
}

fn fill_uniform(mut rng: ChaCha8Rng, bound: f64, values: &mut [f32]) {
    for value in values {
        let sample: f64 = StandardUniform.sample(&mut rng);
        *value = (bound * (2.0 * sample - 1.0)) as f32;
    }
}
