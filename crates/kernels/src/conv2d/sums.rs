//! What is added up over a convolution's result while it is written.

use crate::batch_norm::{self, Mask};
use crate::{Element, Isa};
use std::ops::Range;

/// Sums over all pixels of a result, for each channel.
#[derive(Debug)]
pub enum Sums<'a, E> {
    /// Nothing is.
    None,
    /// As [`batch_norm::moments`].
    Moments(Moments<'a>),
    /// As [`batch_norm::backward_sums`], which masks the result too.
    NormGrad(NormGradSums<'a, E>),
}

/// Moments of an output, merged into those of `count` pixels already seen.
#[derive(Debug)]
pub struct Moments<'a> {
    /// Pixels already seen.
    pub count: usize,
    /// Their mean.
    pub mean: &'a mut [f64],
    /// `Σ (x − mean)²` over them.
    pub m2: &'a mut [f64],
}

/// Sums over the gradient of a batch norm's output, added to what is there.
#[derive(Debug)]
pub struct NormGradSums<'a, E> {
    /// Which gradients are set to 0.
    pub mask: Mask<'a, E>,
    /// The batch norm's input.
    pub input: &'a [E],
    /// Its mean.
    pub mean: &'a [f32],
    /// `Σ grad`
    pub sum_grad: &'a mut [f64],
    /// `Σ grad · (input − mean)`
    pub sum_grad_centred: &'a mut [f64],
}

impl<E: Element> Sums<'_, E> {
    /// Those over some elements of the result, whole pixels; parts come in order.
    pub(crate) fn part(&mut self, range: Range<usize>) -> Sums<'_, E> {
        match self {
            Self::None => Sums::None,
            Self::Moments(Moments { count, mean, m2 }) => {
                let count = *count + range.start / mean.len();
                Sums::Moments(Moments { count, mean, m2 })
            }
            Self::NormGrad(sums) => Sums::NormGrad(NormGradSums {
                mask: match sums.mask {
                    Mask::Output(output) => Mask::Output(&output[range.clone()]),
                    mask => mask,
                },
                input: &sums.input[range],
                mean: sums.mean,
                sum_grad: sums.sum_grad,
                sum_grad_centred: sums.sum_grad_centred,
            }),
        }
    }

    /// Adds a result up in a pass of its own.
    pub fn add(self, isa: Isa, result: &mut [E]) {
        match self {
            Self::None => {}
            Self::Moments(Moments { count, mean, m2 }) => {
                batch_norm::moments(isa, result, count, mean, m2);
            }
            Self::NormGrad(NormGradSums { mask, input, mean, sum_grad, sum_grad_centred }) => {
                batch_norm::backward_sums(
                    isa,
                    mask,
                    result,
                    input,
                    mean,
                    sum_grad,
                    sum_grad_centred,
                );
            }
        }
    }
}
