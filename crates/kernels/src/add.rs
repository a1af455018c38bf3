//! Sums of two activations: the end of a residual block, and gradients that meet.

use crate::simd::simd_fn;

simd_fn! {
    /// `output = left + right`, then `max(·, 0)` if `relu`. 12 bytes an element in f32: bound by memory.
    pub fn add_relu<S, E>(simd, left: &[E], right: &[E], relu: bool, output: &mut [E]) {
        let len = output.len();
        assert_eq!((left.len(), right.len()), (len, len));
        let whole = len - len % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            let sum = simd.add(simd.load(&left[i..]), simd.load(&right[i..]));
            simd.store(&mut output[i..], if relu { simd.relu(sum) } else { sum });
        }
        for i in whole..len {
            let sum = left[i].to_f32() + right[i].to_f32();
            output[i] = E::from_f32(if relu && sum < 0.0 { 0.0 } else { sum });
        }
    }
}

simd_fn! {
    /// `output += other`
    pub fn add_assign<S, E>(simd, output: &mut [E], other: &[E]) {
        let len = output.len();
        assert_eq!(other.len(), len);
        let whole = len - len % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            let sum = simd.add(simd.load(&output[i..]), simd.load(&other[i..]));
            simd.store(&mut output[i..], sum);
        }
        for i in whole..len {
            output[i] = E::from_f32(output[i].to_f32() + other[i].to_f32());
        }
    }
}
