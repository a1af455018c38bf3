//! 2-D convolution (cross-correlation, as `torch.nn.Conv2d`), all three passes, NHWC.
//!
//! Kernels are registered in [`kernels`] and picked by problem and instruction set with [`choose`].
//! A linear operation over `n` samples is the 1×1 convolution of a picture of `1×n` pixels.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod backward_weight;
mod direct;
#[cfg(target_arch = "x86_64")]
mod dot;
mod geometry;
mod grad_input;
mod grid;
mod kept;
mod lay_out;
mod multiply;
mod packing;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod sums;
mod tile;
mod vector;
mod winograd;

use crate::{Conv2dProblem, Element, Isa, Source, convert};
#[cfg(target_arch = "x86_64")]
use amx::Tiled;
#[cfg(target_arch = "x86_64")]
pub(crate) use amx::multiply_tiles;
use direct::Direct;
#[cfg(target_arch = "x86_64")]
use dot::Dot;
pub use grad_input::{Addend, GradInput};
use half::bf16;
pub use kept::{KeptOperands, PART_CHANNELS};
use std::ops::Range;
pub use sums::{Moments, NormGradSums, Sums};
use tile::Start;
use vector::Vector;
use winograd::Winograd;

/// Operands of a forward.
#[derive(Debug)]
pub struct Forward<'a, E> {
    /// `[n, ih, iw, ic]`
    pub input: Source<'a, E>,
    /// By [`Conv2dKernel::pack_weight`].
    pub packed: &'a [f32],
    /// `[oc]`
    pub bias: Option<&'a [f32]>,
    /// `[n, oh, ow, oc]`, or some rows of it
    pub output: &'a mut [E],
    /// What is added up over the output.
    pub sums: Sums<'a, E>,
}

/// Operands of a backward.
#[derive(Debug)]
pub struct Backward<'a, E> {
    /// `[n, ih, iw, ic]`; only read for the gradient of the weight.
    pub input: Source<'a, E>,
    /// `[n, oh, ow, oc]`
    pub grad_output: Source<'a, E>,
    /// By [`Conv2dKernel::pack_weight_backward`]; only read for the gradient of the input.
    pub packed_backward: &'a [f32],
    /// `[n, ih, iw, ic]`, if it is wanted.
    pub grad_input: Option<GradInput<'a, E>>,
    /// The gradient of the weight, if it is wanted.
    pub grad_weight: Option<GradWeight<'a>>,
}

impl<E: Element> Forward<'_, E> {
    /// Checks sizes, and writes the bias, if there is one, to all pixels: what products are added to.
    fn begin(
        &mut self,
        p: &Conv2dProblem,
        oh: &Range<usize>,
        kernel: &impl Conv2dKernel<E>,
    ) -> Start {
        check_problem(p, kernel);
        let all = *oh == (0..p.oh());
        assert!(all || p.n == 1 && !oh.is_empty() && oh.end <= p.oh(), "{p} has no rows {oh:?}");
        assert_eq!(self.input.len(), p.input_len());
        assert_eq!(self.output.len(), p.n * oh.len() * p.ow() * p.oc);
        assert_eq!(self.packed.len(), kernel.packed_weight_len(p));
        let Some(bias) = self.bias else { return Start::Zero };
        assert_eq!(bias.len(), p.oc);
        self.output.chunks_exact_mut(p.oc).for_each(|pixel| convert(bias, pixel));
        Start::Output
    }
}

impl<E: Element> Backward<'_, E> {
    /// Checks the sizes of what is read or written.
    fn check(&self, p: &Conv2dProblem, kernel: &impl Conv2dKernel<E>) {
        check_problem(p, kernel);
        assert_eq!(self.grad_output.len(), p.output_len());
        if self.grad_weight.is_some() {
            assert_eq!(self.input.len(), p.input_len());
        }
        if let Some(GradWeight::Packed { packed_grad, .. }) = &self.grad_weight {
            assert_eq!(packed_grad.len(), kernel.packed_grad_len(p));
        }
        if let Some(grad_input) = &self.grad_input {
            grad_input.check(p);
            assert_eq!(self.packed_backward.len(), kernel.packed_weight_backward_len(p));
        }
    }
}

/// Without an overflow in the problem there is none in what is computed from it, and lengths can be
/// relied on. Kernels are there for machines that can't run them, too.
fn check_problem<E>(p: &Conv2dProblem, kernel: &impl Conv2dKernel<E>) {
    p.assert_valid();
    assert!(kernel.supports(p), "{} can't do {p}", kernel.name());
    kernel.isa().assert_supported();
}

/// What becomes of the gradient of a convolution's weight.
#[derive(Debug)]
pub enum GradWeight<'a> {
    /// It is made, packed as the kernel has it.
    Packed {
        /// Where it goes.
        packed_grad: &'a mut [f32],
        /// Whether it is added to what is there.
        accumulate: bool,
    },
    /// Its operands are kept, behind those that are there. The backward panics if there is no room for them or
    /// the kernel keeps none; see [`Conv2dKernel::kept_len`].
    Kept(&'a mut KeptOperands),
}

/// A packed gradient, and what the product over `n` samples starts from.
fn begin_grad(packed_grad: &mut [f32], accumulate: bool, n: usize) -> (&mut [f32], Start) {
    if n == 0 && !accumulate {
        packed_grad.fill(0.0);
    }
    (packed_grad, Start::accumulating(accumulate))
}

/// One implementation of the three passes of a convolution.
///
/// All slices must have exactly the lengths of the problem, which must be a
/// [valid](Conv2dProblem::validate) one that the kernel supports, on a machine that has its instruction
/// set; kernels panic otherwise. Activations are NHWC and stored as `E`, weights are `[oc, ic, kh, kw]`.
/// The packed forms are private to a kernel, their lengths in f32 whatever they hold.
pub trait Conv2dKernel<E>: Sync + std::fmt::Debug {
    /// `{isa}_conv2d_{dtype}_{method}`
    fn name(&self) -> &'static str;
    /// The instruction set it needs.
    fn isa(&self) -> Isa;
    /// Whether it can do this problem.
    fn supports(&self, p: &Conv2dProblem) -> bool;
    /// Elements of working memory a thread needs for any pass; see [`crate::scratch::reserve`].
    fn scratch_len(&self, p: &Conv2dProblem) -> usize;

    /// Elements of the weight packed for [`forward`](Self::forward).
    fn packed_weight_len(&self, p: &Conv2dProblem) -> usize;
    /// Packs the weight for [`forward`](Self::forward).
    fn pack_weight(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]);
    /// Elements of the weight packed for [`backward_data`](Self::backward_data).
    fn packed_weight_backward_len(&self, p: &Conv2dProblem) -> usize;
    /// Packs the weight for [`backward_data`](Self::backward_data).
    fn pack_weight_backward(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]);

    /// `output[n, oh, ow, oc] = bias[oc] + Σ input[n, oh·sh + kh − ph, ow·sw + kw − pw, ic] ·
    /// weight[oc, ic, kh, kw]`
    fn run_forward(&self, p: &Conv2dProblem, call: Forward<'_, E>) {
        p.assert_valid();
        self.run_forward_rows(p, 0..p.oh(), call);
    }
    /// [`run_forward`](Self::run_forward) of some output rows of one sample, or of all rows of all samples;
    /// `output` has no others. From a multiple of [`row_step`](Self::row_step) on it makes the same bits.
    fn run_forward_rows(&self, p: &Conv2dProblem, oh: Range<usize>, call: Forward<'_, E>);
    /// Rows that are made together.
    fn row_step(&self) -> usize {
        1
    }
    /// The adjoints of the forward in the input and in the weight, those that are asked for.
    fn run_backward(&self, p: &Conv2dProblem, call: Backward<'_, E>);

    /// [`run_forward`](Self::run_forward) of what is stored.
    fn forward(
        &self,
        p: &Conv2dProblem,
        input: &[E],
        packed: &[f32],
        bias: Option<&[f32]>,
        output: &mut [E],
    ) {
        let input = Source::Stored(input);
        self.run_forward(p, Forward { input, packed, bias, output, sums: Sums::None });
    }

    /// The adjoint of [`forward`](Self::forward) in the input; added to `grad_input` if
    /// `accumulate`, else it overwrites it.
    fn backward_data(
        &self,
        p: &Conv2dProblem,
        grad_output: &[E],
        packed_backward: &[f32],
        accumulate: bool,
        grad_input: &mut [E],
    ) {
        let addend = if accumulate { Addend::InPlace } else { Addend::None };
        let grad_input = GradInput { grad_input, addend, sums: Sums::None };
        self.run_backward(
            p,
            Backward {
                input: Source::Stored(&[]),
                grad_output: Source::Stored(grad_output),
                packed_backward,
                grad_input: Some(grad_input),
                grad_weight: None,
            },
        );
    }

    /// The adjoint of [`forward`](Self::forward) in the weight, *added* to `packed_grad`.
    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[E],
        grad_output: &[E],
        packed_grad: &mut [f32],
    ) {
        self.run_backward(
            p,
            Backward {
                input: Source::Stored(input),
                grad_output: Source::Stored(grad_output),
                packed_backward: &[],
                grad_input: None,
                grad_weight: Some(GradWeight::Packed { packed_grad, accumulate: true }),
            },
        );
    }

    /// Elements of the packed gradient of the weight.
    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize;
    /// Writes a packed gradient in the weight's layout.
    fn unpack_grad(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]);

    /// The most elements of [`KeptOperands`] that a backward of these samples adds, if this kernel can keep them.
    fn kept_len(&self, _p: &Conv2dProblem) -> Option<usize> {
        None
    }
    /// The gradient of the weights of some output channels over all samples whose operands are kept, packed as
    /// that of a convolution with no others; it overwrites `packed_grad`. Samples are added up in order.
    ///
    /// # Panics
    /// The channels don't begin at a multiple of [`PART_CHANNELS`] or are not all there, `packed_grad` has another
    /// length, the operands are another convolution's, or this kernel keeps nothing.
    fn grad_weight_of_kept(
        &self,
        p: &Conv2dProblem,
        _oc: Range<usize>,
        _kept: &[&KeptOperands],
        _packed_grad: &mut [f32],
    ) {
        panic!("{} keeps no operands of {p}", self.name())
    }
}

static F32: [&dyn Conv2dKernel<f32>; 6] = [
    &Direct(Vector::<f32>::new(Isa::Portable)),
    &Direct(Vector::<f32>::new(Isa::Avx2)),
    &Direct(Vector::<f32>::new(Isa::Avx512)),
    &Winograd(Isa::Portable),
    &Winograd(Isa::Avx2),
    &Winograd(Isa::Avx512),
];

static BF16: &[&dyn Conv2dKernel<bf16>] = &[
    &Direct(Vector::<bf16>::new(Isa::Portable)),
    &Direct(Vector::<bf16>::new(Isa::Avx2)),
    &Direct(Vector::<bf16>::new(Isa::Avx512)),
    #[cfg(target_arch = "x86_64")]
    &Direct(Dot),
    #[cfg(target_arch = "x86_64")]
    &Direct(Tiled),
];

/// Formats of activations that there are kernels for.
pub trait ConvElement: Element {
    /// Every kernel there is, whether or not this machine can run it, the best last.
    fn all_kernels() -> &'static [&'static dyn Conv2dKernel<Self>];
}

impl ConvElement for f32 {
    fn all_kernels() -> &'static [&'static dyn Conv2dKernel<Self>] {
        &F32
    }
}

impl ConvElement for bf16 {
    fn all_kernels() -> &'static [&'static dyn Conv2dKernel<Self>] {
        BF16
    }
}

/// Every kernel that this machine can run: what tests go through.
pub fn kernels<E: ConvElement>() -> impl Iterator<Item = &'static dyn Conv2dKernel<E>> {
    E::all_kernels().iter().copied().filter(|kernel| kernel.isa().is_supported())
}

/// The kernel for a problem: the last registered of those that support it and need no more than
/// `isa`.
pub fn choose<E: ConvElement>(p: &Conv2dProblem, isa: Isa) -> &'static dyn Conv2dKernel<E> {
    kernels()
        .filter(|kernel| kernel.isa() <= isa && kernel.supports(p))
        .last()
        .expect("the portable direct kernel does every problem")
}

/// Gradient of the bias: adds the sum of `grad_output` over all pixels to `grad_bias`.
pub fn backward_bias<E: Element>(grad_output: &[E], grad_bias: &mut [f32]) {
    for pixel in grad_output.chunks_exact(grad_bias.len()) {
        for (sum, grad) in grad_bias.iter_mut().zip(pixel) {
            *sum += grad.to_f32();
        }
    }
}
