//! The parameter-free shortcut (He et al. 2015, option A), NHWC: every `stride`-th row and column,
//! with zero channels before and after. The reference is [`crate::reference::zero_pad`]. One pass of
//! copies, or none where a batch norm adds it to its output, see [`ZeroPadded`], and a convolution beside it adds
//! its gradient to this one's, see [`ZeroPadGrad`].

use crate::{Element, Isa, ZeroPadProblem, add, convert};
use std::ops::Range;

/// The kept input pixels of some output pixels, in order: their first elements.
fn kept_pixels(p: ZeroPadProblem, pixels: Range<usize>) -> impl Iterator<Item = usize> {
    let (oh, ow) = (p.oh(), p.ow());
    pixels.map(move |pixel| {
        let (row, ow_i) = (pixel / ow, pixel % ow);
        let (n_i, oh_i) = (row / oh, row % oh);
        ((n_i * p.ih + oh_i * p.stride) * p.iw + ow_i * p.stride) * p.ic
    })
}

/// A shortcut that is not stored, or some of its pixels.
#[derive(Debug, Clone, Copy)]
pub struct ZeroPadded<'a, E> {
    problem: ZeroPadProblem,
    input: &'a [E],
    /// Its first element among those of the whole.
    first: usize,
    len: usize,
}

impl<'a, E: Element> ZeroPadded<'a, E> {
    /// The whole shortcut of `input`.
    pub fn new(problem: ZeroPadProblem, input: &'a [E]) -> Self {
        assert_eq!(input.len(), problem.input_len());
        Self { problem, input, first: 0, len: problem.output_len() }
    }

    /// Its elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Some of its elements, whole pixels.
    pub(crate) fn part(self, Range { start, end }: Range<usize>) -> Self {
        let c = self.problem.oc();
        assert!(start <= end && end <= self.len);
        assert!(start.is_multiple_of(c) && end.is_multiple_of(c), "{start}..{end} of {c} channels");
        Self { first: self.first + start, len: end - start, ..self }
    }

    /// Overwrites `output` with the kept pixels and zero channels.
    pub(crate) fn write<B: Element>(self, output: &mut [B]) {
        let Self { problem: p, input, first, len } = self;
        assert_eq!(output.len(), len);
        output.fill(B::zeroed());
        let pixels = first / p.oc()..(first + len) / p.oc();
        for (first, output) in kept_pixels(p, pixels).zip(output.chunks_exact_mut(p.oc())) {
            convert(&input[first..][..p.ic], &mut output[p.pad_before..][..p.ic]);
        }
    }
}

/// The gradient of a shortcut's input that is not stored, or that of some samples.
#[derive(Debug, Clone, Copy)]
pub struct ZeroPadGrad<'a, E> {
    problem: ZeroPadProblem,
    grad_output: &'a [E],
}

impl<'a, E> ZeroPadGrad<'a, E> {
    /// The sizes of the shortcut.
    pub(crate) fn problem(&self) -> ZeroPadProblem {
        self.problem
    }

    /// What it is made of.
    pub(crate) fn grad_output(&self) -> &'a [E] {
        self.grad_output
    }
}

impl<'a, E: Element> ZeroPadGrad<'a, E> {
    /// That of all samples, from the gradient of the shortcut.
    pub fn new(problem: ZeroPadProblem, grad_output: &'a [E]) -> Self {
        assert_eq!(grad_output.len(), problem.output_len());
        Self { problem, grad_output }
    }

    /// Some of its elements, whole samples.
    pub(crate) fn part(self, Range { start, end }: Range<usize>) -> Self {
        let one = ZeroPadProblem { n: 1, ..self.problem };
        let (from, to) = (one.output_len(), one.input_len());
        assert!(start.is_multiple_of(to) && end.is_multiple_of(to), "{start}..{end} of {to}");
        let samples = start / to..end / to;
        let grad_output = &self.grad_output[samples.start * from..samples.end * from];
        Self { problem: ZeroPadProblem { n: samples.len(), ..one }, grad_output }
    }

    /// Overwrites the kept pixels of `grad_input`, and no others.
    pub(crate) fn write_kept(self, grad_input: &mut [E]) {
        let Self { problem: p, grad_output } = self;
        assert_eq!(grad_input.len(), p.input_len());
        let pixels = 0..p.n * p.oh() * p.ow();
        for (first, grad_output) in kept_pixels(p, pixels).zip(grad_output.chunks_exact(p.oc())) {
            grad_input[first..][..p.ic].copy_from_slice(&grad_output[p.pad_before..][..p.ic]);
        }
    }

    /// Overwrites `grad_input`.
    pub(crate) fn write(self, grad_input: &mut [E]) {
        grad_input.fill(E::zeroed());
        self.write_kept(grad_input);
    }
}

/// Overwrites `output` with the kept pixels and zero channels.
pub fn forward<E: Element>(_isa: Isa, p: &ZeroPadProblem, input: &[E], output: &mut [E]) {
    ZeroPadded::new(*p, input).write(output);
}

/// The adjoint of [`forward`], added to `grad_input` if `accumulate`, else it overwrites it.
pub fn backward<E: Element>(
    isa: Isa,
    p: &ZeroPadProblem,
    grad_output: &[E],
    accumulate: bool,
    grad_input: &mut [E],
) {
    if !accumulate {
        return ZeroPadGrad::new(*p, grad_output).write(grad_input);
    }
    assert_eq!((grad_input.len(), grad_output.len()), (p.input_len(), p.output_len()));
    let pixels = 0..p.n * p.oh() * p.ow();
    for (first, grad_output) in kept_pixels(*p, pixels).zip(grad_output.chunks_exact(p.oc())) {
        let kept = &grad_output[p.pad_before..][..p.ic];
        add::add_assign(isa, &mut grad_input[first..first + p.ic], kept);
    }
}
