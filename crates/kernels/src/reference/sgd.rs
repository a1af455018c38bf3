//! Stochastic gradient descent with momentum, as `torch.optim.SGD` with `dampening=0`:
//!
//! ```text
//! g ← grad + weight_decay · param
//! v ← momentum · v + g
//! param ← param − lr · v                    or with Nesterov's momentum
//! param ← param − lr · (g + momentum · v)
//! ```
//!
//! `v` starts at 0, so that after the first step it is `g`, as PyTorch's.

use super::Real;

/// The hyper-parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd<T> {
    /// Learning rate.
    pub lr: T,
    /// Share of the velocity that is kept; 0 for none.
    pub momentum: T,
    /// Whether to look ahead along the velocity.
    pub nesterov: bool,
    /// Multiple of the parameters that is added to their gradients.
    pub weight_decay: T,
}

/// One step: updates `params` and `velocity`.
pub fn step<T: Real>(sgd: &Sgd<T>, params: &mut [T], grads: &[T], velocity: &mut [T]) {
    assert_eq!(params.len(), grads.len(), "params and grads lengths");
    assert_eq!(params.len(), velocity.len(), "params and velocity lengths");
    for ((param, &grad), velocity) in params.iter_mut().zip(grads).zip(velocity) {
        let grad = grad + sgd.weight_decay * *param;
        *velocity = sgd.momentum * *velocity + grad;
        let update = if sgd.nesterov { grad + sgd.momentum * *velocity } else { *velocity };
        *param = *param - sgd.lr * update;
    }
}
