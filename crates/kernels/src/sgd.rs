//! Stochastic gradient descent with momentum, as `torch.optim.SGD` with zero dampening. The
//! reference is [`crate::reference::sgd`].

use crate::simd::simd_fn;

/// Hyper-parameters of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Share of the velocity that is kept.
    pub momentum: f32,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient as `weight_decay · param`.
    pub weight_decay: f32,
}

simd_fn! {
    /// `g = grad + weight_decay·param; v ← momentum·v + g; param ← param − lr·v`, or with Nesterov
    /// `param ← param − lr·(g + momentum·v)`. 20 bytes an element: bound by memory.
    pub fn step<S>(simd, sgd: &Sgd, params: &mut [f32], grads: &[f32], velocity: &mut [f32]) {
        let len = params.len();
        assert_eq!((grads.len(), velocity.len()), (len, len));
        let whole = len - len % S::LANES;
        let (lr, momentum) = (simd.splat(-sgd.lr), simd.splat(sgd.momentum));
        let decay = simd.splat(sgd.weight_decay);
        for i in (0..whole).step_by(S::LANES) {
            let param = simd.load(&params[i..]);
            let grad = simd.fma(decay, param, simd.load(&grads[i..]));
            let v = simd.fma(momentum, simd.load(&velocity[i..]), grad);
            simd.store(&mut velocity[i..], v);
            let direction = if sgd.nesterov { simd.fma(momentum, v, grad) } else { v };
            simd.store(&mut params[i..], simd.fma(lr, direction, param));
        }
        for i in whole..len {
            let grad = simd.fma_scalar(sgd.weight_decay, params[i], grads[i]);
            velocity[i] = simd.fma_scalar(sgd.momentum, velocity[i], grad);
            let direction = match sgd.nesterov {
                true => simd.fma_scalar(sgd.momentum, velocity[i], grad),
                false => velocity[i],
            };
            params[i] = simd.fma_scalar(-sgd.lr, direction, params[i]);
        }
    }
}
