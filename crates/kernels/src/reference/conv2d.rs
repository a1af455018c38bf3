//! 2-D cross-correlation, as `torch.nn.Conv2d`:
//!
//! ```text
//! output[n, oh, ow, oc] = bias[oc] + Σ input[n, oh·sh + kh − ph, ow·sw + kw − pw, ic] · weight[oc, ic, kh, kw]
//! ```
//!
//! summed over `ic kh kw`, the input being 0 outside its bounds. `input` is NHWC `[n, ih, iw, ic]`,
//! `output` NHWC `[n, oh, ow, oc]`, `weight` OIHW `[oc, ic, kh, kw]`, `bias` `[oc]`.

use super::Real;
use crate::Conv2dProblem;

/// Calls `visit` with the input pixel, the output pixel and the tap `kh·kw` of every product that
/// the sum above has, pixels counted through the whole batch.
fn for_each_tap(p: &Conv2dProblem, mut visit: impl FnMut(usize, usize, usize)) {
    for n_i in 0..p.n {
        for oh_i in 0..p.oh() {
            for ow_i in 0..p.ow() {
                for kh_i in 0..p.kh {
                    for kw_i in 0..p.kw {
                        let (padded_h, padded_w) = (oh_i * p.sh + kh_i, ow_i * p.sw + kw_i);
                        let in_h = p.ph..p.ph + p.ih;
                        let in_w = p.pw..p.pw + p.iw;
                        if in_h.contains(&padded_h) && in_w.contains(&padded_w) {
                            let input_pixel =
                                (n_i * p.ih + padded_h - p.ph) * p.iw + padded_w - p.pw;
                            let output_pixel = (n_i * p.oh() + oh_i) * p.ow() + ow_i;
                            visit(input_pixel, output_pixel, kh_i * p.kw + kw_i);
                        }
                    }
                }
            }
        }
    }
}

/// Overwrites `output`.
pub fn forward<T: Real>(
    p: &Conv2dProblem,
    input: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    output: &mut [T],
) {
    assert_eq!(input.len(), p.input_len(), "{p}: input length");
    assert_eq!(weight.len(), p.weight_len(), "{p}: weight length");
    assert_eq!(output.len(), p.output_len(), "{p}: output length");
    match bias {
        Some(bias) => {
            assert_eq!(bias.len(), p.oc, "{p}: bias length");
            output.chunks_exact_mut(p.oc).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        None => output.fill(T::ZERO),
    }
    for_each_tap(p, |input_pixel, output_pixel, tap| {
        let input = &input[input_pixel * p.ic..][..p.ic];
        let output = &mut output[output_pixel * p.oc..][..p.oc];
        for (oc_i, output) in output.iter_mut().enumerate() {
            for (ic_i, &input) in input.iter().enumerate() {
                *output += input * weight[(oc_i * p.ic + ic_i) * p.kh * p.kw + tap];
            }
        }
    });
}

/// Overwrites `grad_input[n, ih, iw, ic]` with the sum of `grad_output · weight` over all products
/// that this input is in.
pub fn backward_data<T: Real>(
    p: &Conv2dProblem,
    grad_output: &[T],
    weight: &[T],
    grad_input: &mut [T],
) {
    assert_eq!(grad_output.len(), p.output_len(), "{p}: grad_output length");
    assert_eq!(weight.len(), p.weight_len(), "{p}: weight length");
    assert_eq!(grad_input.len(), p.input_len(), "{p}: grad_input length");
    grad_input.fill(T::ZERO);
    for_each_tap(p, |input_pixel, output_pixel, tap| {
        let grad_output = &grad_output[output_pixel * p.oc..][..p.oc];
        let grad_input = &mut grad_input[input_pixel * p.ic..][..p.ic];
        for (oc_i, &grad_output) in grad_output.iter().enumerate() {
            for (ic_i, grad_input) in grad_input.iter_mut().enumerate() {
                *grad_input += grad_output * weight[(oc_i * p.ic + ic_i) * p.kh * p.kw + tap];
            }
        }
    });
}

/// Overwrites `grad_weight[oc, ic, kh, kw]` with the sum of `input · grad_output` over all products
/// that this weight is in.
pub fn backward_weight<T: Real>(
    p: &Conv2dProblem,
    input: &[T],
    grad_output: &[T],
    grad_weight: &mut [T],
) {
    assert_eq!(input.len(), p.input_len(), "{p}: input length");
    assert_eq!(grad_output.len(), p.output_len(), "{p}: grad_output length");
    assert_eq!(grad_weight.len(), p.weight_len(), "{p}: grad_weight length");
    grad_weight.fill(T::ZERO);
    for_each_tap(p, |input_pixel, output_pixel, tap| {
        let input = &input[input_pixel * p.ic..][..p.ic];
        let grad_output = &grad_output[output_pixel * p.oc..][..p.oc];
        for (oc_i, &grad_output) in grad_output.iter().enumerate() {
            for (ic_i, &input) in input.iter().enumerate() {
                grad_weight[(oc_i * p.ic + ic_i) * p.kh * p.kw + tap] += input * grad_output;
            }
        }
    });
}

/// Overwrites `grad_bias[oc]` with the sum of `grad_output` over the batch and its pixels.
pub fn backward_bias<T: Real>(p: &Conv2dProblem, grad_output: &[T], grad_bias: &mut [T]) {
    assert_eq!(grad_output.len(), p.output_len(), "{p}: grad_output length");
    assert_eq!(grad_bias.len(), p.oc, "{p}: grad_bias length");
    grad_bias.fill(T::ZERO);
    for pixel in grad_output.chunks_exact(p.oc) {
        for (grad_bias, &grad_output) in grad_bias.iter_mut().zip(pixel) {
            *grad_bias += grad_output;
        }
    }
}
