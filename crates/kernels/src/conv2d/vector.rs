//! Multiplication by vector FMAs in f32, whatever activations are stored as: in bf16 they are widened
//! when they are padded, and the weight is rounded.

use super::ahead::Ahead;
use super::backward_weight::{self, PaddedOperands};
use super::geometry::forward_weight;
use super::grid::Grid;
use super::lay_out::lay_out;
use super::multiply::{GradOperands, Multiply, MultiplyGrads, Rows, WindowWeight};
use super::packing::Packing;
use super::sums::Sums;
use super::tile::{Start, TileElement};
use crate::padding::Padding;
use crate::{Conv2dProblem, Isa};
use half::bf16;
use std::marker::PhantomData;

/// One instruction set, one format of activations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector<E> {
    isa: Isa,
    element: PhantomData<E>,
}

impl<E: VectorElement> Vector<E> {
    pub(super) const fn new(isa: Isa) -> Self {
        Self { isa, element: PhantomData }
    }

    fn packing(&self, weight: &WindowWeight) -> Packing {
        let WindowWeight { window_rows, window_len, num_cols, .. } = *weight;
        let lanes = E::tiles_along_k(self.isa).lanes;
        Packing { lanes, num_rows: window_rows * window_len, num_cols }
    }

    fn grad_packing(&self, p: &Conv2dProblem) -> Packing {
        self.packing(&forward_weight(p))
    }
}

/// What differs between formats.
pub(super) trait VectorElement: TileElement {
    fn name(isa: Isa) -> &'static str;
}

impl VectorElement for f32 {
    fn name(isa: Isa) -> &'static str {
        match isa {
            Isa::Avx2 => "avx2_conv2d_f32_direct",
            Isa::Avx512 => "avx512_conv2d_f32_direct",
            _ => "portable_conv2d_f32_direct",
        }
    }
}

impl VectorElement for bf16 {
    fn name(isa: Isa) -> &'static str {
        match isa {
            Isa::Avx2 => "avx2_conv2d_bf16_direct",
            Isa::Avx512 => "avx512_conv2d_bf16_direct",
            _ => "portable_conv2d_bf16_direct",
        }
    }
}

impl<E: VectorElement> Multiply for Vector<E> {
    type Activation = E;
    type Operand = f32;

    fn name(&self) -> &'static str {
        E::name(self.isa)
    }

    fn isa(&self) -> Isa {
        self.isa
    }

    /// The rows of a tile are pixels. At a large power of two from each other, their cache lines all fall
    /// into a few sets of the first-level cache, which has 64, and push each other out.
    fn pixel_pitch(c: usize) -> usize {
        const LINE: usize = 16;
        if c.is_multiple_of(16 * LINE) { c + LINE } else { c }
    }

    const FUSES_SUMS: bool = false;

    fn slack(&self, _grid: &Grid, _weight: &WindowWeight) -> usize {
        0
    }

    fn packed_len(&self, weight: &WindowWeight) -> usize {
        self.packing(weight).len()
    }

    fn pack(
        &self,
        weight: &WindowWeight,
        packed: &mut [f32],
        rows: &Rows<&[f32], impl Fn(usize) -> usize>,
    ) {
        self.packing(weight).pack(packed, rows);
        packed.iter_mut().for_each(|x| *x = E::from_f32(*x).to_f32());
    }

    fn run(
        &self,
        grid: &Grid,
        weight: &WindowWeight,
        start: Start,
        x: &[f32],
        packed: &[f32],
        out: &mut [E],
        _sums: Sums<'_, E>,
        _ahead: &mut Ahead,
    ) {
        grid.run(self.isa, &self.packing(weight), start, x, packed, out);
    }

    fn grads(&self) -> impl MultiplyGrads<E, f32> {
        *self
    }
}

impl<E: VectorElement> MultiplyGrads<E, f32> for Vector<E> {
    fn samples_at_once(&self, p: &Conv2dProblem, x: &Padding, grad: &Padding) -> usize {
        x.samples_at_once(p.weight_len()).min(grad.samples_at_once(p.weight_len()))
    }

    fn slack(&self, p: &Conv2dProblem) -> usize {
        p.oc.next_multiple_of(self.grad_packing(p).lanes) - p.oc
    }

    fn memory_len(&self, _p: &Conv2dProblem, num_samples: usize, x: &Padding) -> usize {
        x.total_len(num_samples)
    }

    fn packed_len(&self, p: &Conv2dProblem) -> usize {
        self.grad_packing(p).len()
    }

    fn run(
        &self,
        p: &Conv2dProblem,
        operands: GradOperands<'_, E, f32>,
        start: Start,
        memory: &mut [f32],
        packed_grad: &mut [f32],
        _ahead: &mut Ahead,
    ) {
        let GradOperands { num_samples, before, x, x_padding, grad, grad_padding } = operands;
        let x = lay_out(self.isa, &x_padding, 0, x, before, memory);
        let operands = PaddedOperands { num_samples, x, x_padding, grad, grad_padding };
        backward_weight::run(self.isa, p, &self.grad_packing(p), &operands, start, packed_grad);
    }

    fn unpack(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        let (ic, taps) = (p.ic, p.kh * p.kw);
        let first_of = |row: usize| row % ic * taps + row / ic;
        let to = Rows { values: grad_weight, first_of, col_stride: ic * taps };
        self.grad_packing(p).unpack(packed_grad, to);
    }
}
