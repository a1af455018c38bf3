//! What a network computes: typed operations in execution order, with shapes resolved and
//! parameters named as torchvision names them (`layer1.0.conv1.weight`).
//!
//! A [`Graph`] describes one sample; the batch size belongs to the plan that runs it. It is built
//! with a [`GraphBuilder`], which resolves every shape and refuses what does not fit, so a finished
//! graph is consistent: each value is produced once, before it is used.
//!
//! ```
//! use residua_graph::{Conv2d, GraphBuilder, Shape};
//!
//! let mut b = GraphBuilder::new(Shape::image(3, 32, 32));
//! let x = b.input();
//! let x = b.conv2d("conv1", x, Conv2d::square(16, 3).padding(1))?;
//! let x = b.batch_norm("bn1", x)?;
//! let x = b.relu("relu", x);
//! let x = b.global_avg_pool("avgpool", x);
//! let x = b.linear("fc", x, 10)?;
//! let graph = b.finish(x);
//! assert_eq!(graph.shape(graph.output()).len(), 10);
//! assert_eq!(graph.num_parameters(), 3 * 3 * 3 * 16 + 16 + 16 + 16 * 10 + 10);
//! # Ok::<(), residua_graph::GraphError>(())
//! ```

mod builder;
mod error;
mod graph;
mod op;
mod shape;
mod weights;

pub use builder::GraphBuilder;
pub use error::GraphError;
pub use graph::{Graph, Node, ValueId};
pub use op::{BatchNorm, Conv2d, MaxPool, Op, ZeroPad};
pub use shape::Shape;
pub use weights::{BufferId, ParamId, Role, TensorSpec, Weights};
