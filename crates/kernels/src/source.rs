//! What a convolution reads: stored, or made by a batch norm while it is laid out for the convolution,
//! so that it need not be written as such.

use crate::batch_norm::{norm_grad_rows, normalise, normalise_rows};
use crate::padding::Padding;
use crate::zero_pad::ZeroPadded;
use crate::{Element, Isa, convert};
use std::ops::Range;

/// A convolution's input or the gradient of its output, NHWC.
#[derive(Debug)]
pub enum Source<'a, E> {
    /// In memory.
    Stored(&'a [E]),
    /// A batch norm's output.
    Normalised(Normalised<'a, E>),
    /// The gradient of a batch norm's input.
    NormGrad(NormGrad<'a, E>),
}

/// `input · scale + shift (+ residual)`, then `max(·, 0)` if `relu`, rounded to `E`; `scale` and `shift`
/// have one element for each channel.
#[derive(Debug)]
pub struct Normalised<'a, E> {
    /// The batch norm's input.
    pub input: &'a [E],
    /// `weight / √(var + eps)`
    pub scale: &'a [f32],
    /// `bias − mean · scale`
    pub shift: &'a [f32],
    /// What is added before the ReLU.
    pub residual: Option<Residual<'a, E>>,
    /// Whether there is a ReLU.
    pub relu: bool,
    /// Where the result is stored too.
    pub output: Option<&'a mut [E]>,
}

/// What a residual block adds to a batch norm's output.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a, E> {
    /// In memory.
    Stored(&'a [E]),
    /// A zero-padding shortcut, which is not.
    ZeroPadded(ZeroPadded<'a, E>),
}

impl<E: Element> Residual<'_, E> {
    /// Its elements.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Stored(samples) => samples.len(),
            Self::ZeroPadded(samples) => samples.len(),
        }
    }

    /// Some of its elements, whole pixels.
    pub fn part(self, part: Range<usize>) -> Self {
        match self {
            Self::Stored(samples) => Self::Stored(&samples[part]),
            Self::ZeroPadded(samples) => Self::ZeroPadded(samples.part(part)),
        }
    }
}

/// `a · grad_output + b · (input − mean) + c`, rounded to `E`, with one `mean`, `a`, `b` and `c` for each
/// channel: the gradient of a batch norm's input (Ioffe & Szegedy 2015).
#[derive(Debug, Clone, Copy)]
pub struct NormGrad<'a, E> {
    /// The gradient of the batch norm's output.
    pub grad_output: &'a [E],
    /// The batch norm's input.
    pub input: &'a [E],
    /// The batch's mean.
    pub mean: &'a [f32],
    /// Factor of the gradient.
    pub a: &'a [f32],
    /// Factor of the deviation from the mean.
    pub b: &'a [f32],
    /// What is added.
    pub c: &'a [f32],
}

fn take_front<'a, E>(samples: &mut &'a [E], len: usize) -> &'a [E] {
    let (front, rest) = samples.split_at(len);
    *samples = rest;
    front
}

impl<E: Element> Source<'_, E> {
    /// Elements of all samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Stored(samples) => samples.len(),
            Self::Normalised(from) => from.input.len(),
            Self::NormGrad(from) => from.input.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts off the first `len` elements, or all if there are fewer.
    pub(crate) fn take_front(&mut self, len: usize) -> Self {
        let len = len.min(self.len());
        match self {
            Self::Stored(samples) => Self::Stored(take_front(samples, len)),
            Self::Normalised(from) => Self::Normalised(Normalised {
                input: take_front(&mut from.input, len),
                residual: from.residual.as_mut().map(|residual| {
                    let all = residual.len();
                    let front = residual.part(0..len);
                    *residual = residual.part(len..all);
                    front
                }),
                output: from.output.take().map(|output| {
                    let (front, rest) = output.split_at_mut(len);
                    from.output = Some(rest);
                    front
                }),
                ..*from
            }),
            Self::NormGrad(from) => Self::NormGrad(NormGrad {
                input: take_front(&mut from.input, len),
                grad_output: take_front(&mut from.grad_output, len),
                ..*from
            }),
        }
    }

    /// Some elements, whole pixels, to be read once more, with nothing stored.
    pub(crate) fn part(&self, part: Range<usize>) -> Source<'_, E> {
        match self.reread() {
            Source::Stored(samples) => Source::Stored(&samples[part]),
            Source::Normalised(from) => Source::Normalised(Normalised {
                input: &from.input[part.clone()],
                residual: from.residual.map(|residual| residual.part(part)),
                ..from
            }),
            Source::NormGrad(from) => Source::NormGrad(NormGrad {
                input: &from.input[part.clone()],
                grad_output: &from.grad_output[part],
                ..from
            }),
        }
    }

    /// The same to be read once more, with nothing stored.
    pub fn reread(&self) -> Source<'_, E> {
        match self {
            Self::Stored(samples) => Source::Stored(samples),
            Self::Normalised(from) => Source::Normalised(Normalised {
                input: from.input,
                scale: from.scale,
                shift: from.shift,
                residual: from.residual,
                relu: from.relu,
                output: None,
            }),
            Self::NormGrad(from) => Source::NormGrad(*from),
        }
    }

    /// The same, with what is to be stored too already stored, and then read there.
    pub(crate) fn stored_first(self, isa: Isa) -> Self {
        match self {
            Self::Normalised(mut from) => match from.output.take() {
                Some(output) => {
                    normalise(isa, from, output);
                    Self::Stored(output)
                }
                None => Self::Normalised(from),
            },
            other => other,
        }
    }

    /// Writes all samples to their places in `padded`.
    pub(crate) fn fill<B: Element>(self, isa: Isa, padding: &Padding, padded: &mut [B]) {
        match self {
            Self::Stored(samples) => {
                let len = padding.stretch_len();
                for (from, to) in padding.stretches(samples.len() / padding.sample_len()) {
                    convert(&samples[from..][..len], &mut padded[to..][..len]);
                }
            }
            Self::Normalised(from) => normalise_rows(isa, padding, from, padded),
            Self::NormGrad(from) => norm_grad_rows(isa, padding, from, padded),
        }
    }
}
