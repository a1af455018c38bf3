//! `max(x, 0)`; NaN propagates. The reference is [`crate::reference::relu`].

use crate::simd::simd_fn;

simd_fn! {
    /// `output = max(input, 0)`. 8 bytes an element in f32: bound by memory.
    pub fn forward<S, E>(simd, input: &[E], output: &mut [E]) {
        assert_eq!(input.len(), output.len());
        let (inputs, outputs) = (input.chunks_exact(S::LANES), output.chunks_exact_mut(S::LANES));
        let tail = inputs.remainder();
        for (input, output) in inputs.zip(outputs) {
            simd.store(output, simd.relu(simd.load(input)));
        }
        let start = input.len() - tail.len();
        for (input, output) in tail.iter().zip(&mut output[start..]) {
            *output = if input.to_f32() < 0.0 { E::from_f32(0.0) } else { *input };
        }
    }
}

simd_fn! {
    /// Sets `grad` to 0 in place where `output ≤ 0`; a NaN output lets it through, as in PyTorch.
    pub fn backward<S, E>(simd, output: &[E], grad: &mut [E]) {
        assert_eq!(output.len(), grad.len());
        let (outputs, grads) = (output.chunks_exact(S::LANES), grad.chunks_exact_mut(S::LANES));
        let tail = outputs.remainder();
        for (output, grad) in outputs.zip(grads) {
            let masked = simd.relu_mask(simd.load(output), simd.load(grad));
            simd.store(grad, masked);
        }
        let start = output.len() - tail.len();
        for (output, grad) in tail.iter().zip(&mut grad[start..]) {
            if output.to_f32() <= 0.0 {
                *grad = E::from_f32(0.0);
            }
        }
    }
}
