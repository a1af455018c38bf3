//! Runs a [`Graph`](residua_graph::Graph) on this machine, forward and backward.
//!
//! A [`Plan`] is made once for a graph, a batch size, a [`Precision`], an [`Isa`] and a [`Mode`].
//! It is a list of *phases*; a phase is a list of *steps* that each worker runs on a few samples at a
//! time, while they are in its cache; a phase ends where a step needs a reduction over the whole
//! batch: batch-norm statistics forward, the sums of their gradients backward.
//!
//! The batch is cut into *groups* that depend on the plan, never on the number of threads. A group
//! owns everything computed for its samples: activations, gradients, partial sums. So groups run in
//! parallel without sharing (but for what lives in one phase only, which is kept in a thread's own
//! buffers), and the partial sums are added in the order of the groups: the same
//! seed gives the same bits on any number of threads. A gradient that is larger than what it is made of
//! has no partial sums: its operands are kept, and in the next phase each group makes that of some output
//! channels over the whole batch.
//!
//! ```
//! use residua_engine::{Mode, Plan, PlanOptions, cross_entropy};
//! use residua_graph::{GraphBuilder, Shape, Weights};
//!
//! let mut b = GraphBuilder::new(Shape::vector(2));
//! let logits = b.linear("fc", b.input(), 3)?;
//! let graph = b.finish(logits);
//! let mut weights = Weights::zeros(&graph);
//!
//! let mut plan = Plan::new(&graph, &PlanOptions::train(4)?)?;
//! let mut logits = [0.0; 4 * 3];
//! plan.forward_train(&mut weights, &[1.0; 4 * 2], &mut logits);
//! let (mut losses, mut grad_logits) = ([0.0; 4], [0.0; 4 * 3]);
//! let loss = cross_entropy(&logits, &[0, 1, 2, 0], 3, 0.0, &mut losses, &mut grad_logits);
//! assert!((loss.mean - 3f32.ln()).abs() < 1e-6);
//! let mut grads = vec![0.0; graph.num_parameters()];
//! plan.backward(&weights, &grad_logits, &mut grads);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backward;
mod bands;
mod buffer;
mod conv;
mod convolve;
mod error;
mod executor;
mod forward;
mod fuse;
mod group;
mod kept;
mod loss;
mod memory;
mod muon;
mod norm;
mod options;
mod plan;
pub mod reference;
mod report;
mod rounds;
mod step;
mod threads;

pub use error::PlanError;
pub use loss::{Loss, cross_entropy};
pub use muon::{Muon, MuonStep};
pub use options::{Mode, PlanOptions, Precision, PrecisionError};
pub use plan::Plan;
use rayon::prelude::*;
pub use report::StepReport;
pub use residua_kernels::sgd::Sgd;
pub use residua_kernels::{Aligned, Isa, IsaError};
pub use threads::ThreadPool;

/// One update of a stretch of parameters; see [`residua_kernels::sgd::step`]. Runs on the threads of the
/// [`ThreadPool`] it is called in, with the same bits on any number of them.
///
/// # Panics
/// The slices are not of one length.
pub fn sgd_step(isa: Isa, sgd: &Sgd, params: &mut [f32], grads: &[f32], velocity: &mut [f32]) {
    /// Elements of a part: whole vectors, and enough of them to be worth a thread.
    const PART: usize = 1 << 16;
    assert_eq!([grads.len(), velocity.len()], [params.len(); 2]);
    let parts = params.par_chunks_mut(PART).zip(grads.par_chunks(PART));
    parts.zip(velocity.par_chunks_mut(PART)).for_each(|((params, grads), velocity)| {
        residua_kernels::sgd::step(isa, sgd, params, grads, velocity);
    });
}
