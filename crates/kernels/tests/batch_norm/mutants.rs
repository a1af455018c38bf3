//! Parts of batch norm that are nearly right.

use residua_kernels::batch_norm::{
    Mask, backward_apply, backward_sums, merge_moments, moments, normalise,
};
use residua_kernels::{Isa, NormGrad, Normalised, Residual, relu};

use crate::check::{BackwardApply, BackwardSums, Merge, Moments, Normalise};
use crate::with_relu;

pub(crate) const MOMENTS: [(&str, Moments); 7] = [
    ("mean of squares less square of mean, in f32", |_, input, count, mean, m2| {
        let c = mean.len();
        for c_i in 0..c {
            let seen = count as f32;
            let (mut sum, mut squares) = (mean[c_i] as f32 * seen, m2[c_i] as f32);
            squares += mean[c_i] as f32 * sum;
            for x in input.iter().skip(c_i).step_by(c) {
                sum += x;
                squares += x * x;
            }
            let n = (seen + (input.len() / c) as f32).max(1.0);
            mean[c_i] = (sum / n).into();
            m2[c_i] = (squares - sum * (sum / n)).into();
        }
    }),
    ("rows seen before forgotten", |isa, input, _, mean, m2| moments(isa, input, 0, mean, m2)),
    ("unbiased", |isa, input, count, mean, m2| {
        moments(isa, input, count, mean, m2);
        let n = (count + input.len() / mean.len()) as f64;
        m2.iter_mut().filter(|_| n > 1.0).for_each(|m2| *m2 *= n / (n - 1.0));
    }),
    ("variance instead of m2", |isa, input, count, mean, m2| {
        moments(isa, input, count, mean, m2);
        let n = (count + input.len() / mean.len()).max(1) as f64;
        m2.iter_mut().for_each(|m2| *m2 /= n);
    }),
    ("last row lost", |isa, input, count, mean, m2| {
        moments(isa, &input[..input.len().saturating_sub(mean.len())], count, mean, m2);
    }),
    ("channels of the neighbour", |isa, input, count, mean, m2| {
        moments(isa, input, count, mean, m2);
        mean.rotate_left(1);
        m2.rotate_left(1);
    }),
    ("mean rounded to f32", |isa, input, count, mean, m2| {
        moments(isa, input, count, mean, m2);
        mean.iter_mut().for_each(|mean| *mean = (*mean as f32).into());
    }),
];

pub(crate) const MERGE: [(&str, Merge); 3] = [
    ("distance of the means forgotten", |n, mean, m2, other_n, other_mean, other_m2| {
        let sum: Vec<f64> = m2.iter().zip(other_m2).map(|(m2, other)| m2 + other).collect();
        merge_moments(n, mean, m2, other_n, other_mean, other_m2);
        m2.copy_from_slice(&sum);
    }),
    ("means not weighted", |n, mean, m2, other_n, other_mean, other_m2| {
        let middle = mean.iter().zip(other_mean).map(|(mean, other)| (mean + other) / 2.0);
        let middle: Vec<f64> = middle.collect();
        merge_moments(n, mean, m2, other_n, other_mean, other_m2);
        mean.copy_from_slice(&middle);
    }),
    ("second part dropped", |_, _, _, _, _, _| ()),
];

pub(crate) const NORMALISE: [(&str, Normalise); 7] = [
    ("dropped bias", |isa, from, output| {
        normalise(isa, Normalised { shift: &vec![0.0; from.shift.len()], ..from }, output);
    }),
    ("scale of the neighbour", |isa, from, output| {
        let mut scale = from.scale.to_vec();
        scale.rotate_left(1);
        normalise(isa, Normalised { scale: &scale, ..from }, output);
    }),
    ("ReLU before the residual", |isa, from, output| {
        let residual = from.residual;
        normalise(isa, Normalised { residual: None, ..from }, output);
        if let Some(Residual::Stored(residual)) = residual {
            output.iter_mut().zip(residual).for_each(|(output, residual)| *output += residual);
        }
    }),
    ("no ReLU", |isa, from, output| {
        normalise(isa, Normalised { relu: false, ..from }, output);
    }),
    ("residual dropped", |isa, from, output| {
        normalise(isa, Normalised { residual: None, ..from }, output);
    }),
    ("residual scaled too", |isa, from, output| {
        let mut sum = from.input.to_vec();
        if let Some(Residual::Stored(residual)) = from.residual {
            sum.iter_mut().zip(residual).for_each(|(x, residual)| *x += residual);
        }
        normalise(isa, Normalised { input: &sum, residual: None, ..from }, output);
    }),
    ("zero-padding shortcut that begins anew in the second half", |isa, from, output| {
        let Normalised { input, scale, shift, residual, relu, .. } = from;
        let len = input.len() / scale.len() / 2 * scale.len();
        for half in [0..len, len..input.len()] {
            let residual = residual.map(|residual| match residual {
                Residual::Stored(_) => residual.part(half.clone()),
                Residual::ZeroPadded(_) => residual.part(0..half.len()),
            });
            let input = &input[half.clone()];
            let from = Normalised { input, scale, shift, residual, relu, output: None };
            normalise(isa, from, &mut output[half]);
        }
    }),
];

pub(crate) const BACKWARD_SUMS: [(&str, BackwardSums); 7] = [
    ("sums overwritten", |isa, mask, grad, input, mean, sum, centred| {
        sum.fill(0.0);
        centred.fill(0.0);
        backward_sums(isa, mask, grad, input, mean, sum, centred);
    }),
    ("mask not stored", |isa, mask, grad, input, mean, sum, centred| {
        backward_sums(isa, mask, &mut grad.to_vec(), input, mean, sum, centred);
    }),
    ("no mask", |isa, _, grad, input, mean, sum, centred| {
        backward_sums(isa, Mask::None, grad, input, mean, sum, centred);
    }),
    ("mask after the sums", |isa, mask, grad, input, mean, sum, centred| {
        backward_sums(isa, Mask::None, grad, input, mean, sum, centred);
        close(isa, mask, grad, input);
    }),
    ("mask without the shift", |isa, mask, grad, input, mean, sum, centred| {
        let zeros = vec![0.0; mean.len()];
        let mask = match mask {
            Mask::Normalised { scale, .. } => Mask::Normalised { scale, shift: &zeros },
            mask => mask,
        };
        backward_sums(isa, mask, grad, input, mean, sum, centred);
    }),
    ("not centred", |isa, mask, grad, input, mean, sum, centred| {
        backward_sums(isa, mask, grad, input, &vec![0.0; mean.len()], sum, centred);
    }),
    ("gradient rounded to bf16", |isa, mask, grad, input, mean, sum, centred| {
        let mut rounded: Vec<f32> =
            grad.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect();
        backward_sums(isa, mask, &mut rounded, input, mean, sum, centred);
        close(isa, mask, grad, input);
    }),
];

/// The ReLU's backward.
fn close(isa: Isa, mask: Mask<'_, f32>, grad: &mut [f32], input: &[f32]) {
    match mask {
        Mask::None => {}
        Mask::Output(output) => relu::backward(isa, output, grad),
        Mask::Normalised { scale, shift } => {
            let mut output = vec![0.0; input.len()];
            normalise(isa, with_relu(input, scale, shift), &mut output);
            relu::backward(isa, &output, grad);
        }
    }
}

pub(crate) const BACKWARD_APPLY: [(&str, BackwardApply); 4] = [
    ("no gradient through the mean", |isa, from, grad_input| {
        backward_apply(isa, NormGrad { c: &vec![0.0; from.c.len()], ..from }, grad_input);
    }),
    ("no gradient through the variance", |isa, from, grad_input| {
        backward_apply(isa, NormGrad { b: &vec![0.0; from.b.len()], ..from }, grad_input);
    }),
    ("not centred", |isa, from, grad_input| {
        backward_apply(isa, NormGrad { mean: &vec![0.0; from.mean.len()], ..from }, grad_input);
    }),
    ("channels of the neighbour", |isa, from, grad_input| {
        let mut a = from.a.to_vec();
        a.rotate_left(1);
        backward_apply(isa, NormGrad { a: &a, ..from }, grad_input);
    }),
];
