//! Plain and residual architectures: as data, by name, as graphs, with their initial weights.
//!
//! An [`Architecture`] is what a person writes and a model file stores. It comes from a name
//! ([`Architecture::named`]), from Rust ([`Architecture::builder`]) or from TOML
//! ([`Architecture::from_toml`]), and is valid from then on. [`Architecture::to_graph`] says what it
//! computes, [`Architecture::blocks`] where its blocks are in there, [`init_weights`] where it
//! starts, and [`summary`] how large it is.
//!
//! ```
//! use residua_resnet::{Architecture, InitOptions, Shape, init_weights};
//!
//! let architecture = Architecture::named("resnet20", Shape::image(3, 32, 32), 10)?;
//! let graph = architecture.to_graph()?;
//! let weights = init_weights(&architecture, &graph, &InitOptions { seed: 1, ..Default::default() });
//! assert_eq!(weights.get(&graph, "layer1.0.bn1.weight"), Some(&[1.0; 16][..]));
//! # Ok::<(), residua_resnet::ArchitectureError>(())
//! ```
//!
//! # Names of parameters
//! They are torchvision's. Blocks are `layer{stage}.{block}`, from `layer1.0`; what leads into a stage,
//! which torchvision has not, is `layer{stage}.transition`.
//!
//! | | convolutional | pre-activation | fully connected |
//! |---|---|---|---|
//! | stem | `conv1`, `bn1` | `conv1` | `fc1`, `bn1` |
//! | transition | `transition.conv`, `transition.bn` | `transition.bn`, `transition.conv` | |
//! | block | `conv1`, `bn1`, `conv2`, `bn2` | `bn1`, `conv1`, `bn2`, `conv2` | `fc1`, `bn1`, `fc2`, `bn2` |
//! | learned shortcut | `downsample.0`, `downsample.1` (batch norm) | `downsample.0` | `downsample.0`, `downsample.1` |
//! | head | `fc` | `norm`, `fc` | `fc` |
//!
//! Bottleneck blocks have `conv3` and `bn3` as well, and their stride on the 3×3 convolution. In the
//! pre-activation family a learned shortcut starts from the block's first ReLU (He et al. 2016),
//! any other from the block's input. Nodes without parameters are `relu`, `maxpool`, `avgpool`
//! (or `maxpool_head` and `flatten`), and in a block `relu1`…, `downsample` (zero padding) and `add`.

mod architecture;
mod assemble;
mod builder;
mod error;
mod init;
mod names;
mod shape;
mod suggest;
mod summary;
mod surgery;

pub use architecture::{
    Architecture, Block, Family, Pool, Shortcut, Stage, Stem, StemKind, Transition,
};
pub use assemble::BlockSpan;
pub use builder::ArchitectureBuilder;
pub use error::ArchitectureError;
pub use init::{Init, InitOptions, init_weights};
pub use names::{ArchitectureOptions, NamedArchitecture};
pub use residua_graph::Shape;
pub use summary::{Summary, SummaryRow, summary};
pub use surgery::{
    BlockIndex, ChangedNetwork, Insertion, NewBlocks, Place, SurgeryError, add_shortcuts,
    insert_blocks, layers_in_blocks, pass_through, remove_blocks, silence_block, strip_shortcuts,
    swap_blocks, swap_layers, swappable_blocks, swappable_layers,
};
