//! Multiplication in bf16 by AMX tiles, accumulated in f32.

pub(super) mod backward_weight;
mod block;
mod grad_block;
mod interleave;
mod packing;
mod transpose;
mod walk;

use super::grid::Grid;
use super::multiply::{Multiply, Rows, WindowWeight};
use super::tile::Start;
use crate::amx::Amx;
use crate::{Conv2dProblem, Isa};
use half::bf16;
use packing::TilePacking;

/// `rounds` rounds of the widest block's products, on operands in the first-level cache.
pub(crate) fn multiply_tiles(rounds: usize) {
    if rounds == 0 {
        return;
    }
    let operands = crate::Aligned::<bf16>::zeroed(4 * block::B_TILE);
    let first = operands.as_ptr();
    let call = block::BlockCall {
        x: [first; 4],
        steps: 1,
        run_stride: 0,
        w_col_stride: 0,
        runs: rounds,
        x_stride: 64,
        w: first,
        w_stride: 64,
        w_step: 0,
    };
    // SAFETY: no stride moves a tile from where it starts, and there are four tiles' elements.
    unsafe { block::block(2, 2)(&Amx::start(), &call, &mut block::Acc::new()) }
}

/// The tile unit.
#[derive(Debug)]
pub(super) struct Tiled;

impl Multiply for Tiled {
    type Activation = bf16;
    type Operand = bf16;

    fn name(&self) -> &'static str {
        "amx_conv2d_bf16_direct"
    }

    fn isa(&self) -> Isa {
        Isa::Amx
    }

    fn as_operand(samples: &[bf16]) -> Option<&[bf16]> {
        Some(samples)
    }

    fn slack(&self, grid: &Grid) -> usize {
        walk::slack(grid)
    }

    fn packed_len(&self, weight: &WindowWeight) -> usize {
        TilePacking(*weight).len() / 2
    }

    fn pack(
        &self,
        weight: &WindowWeight,
        packed: &mut [f32],
        rows: &Rows<'_, impl Fn(usize) -> usize>,
    ) {
        TilePacking(*weight).pack(bytemuck::cast_slice_mut(packed), rows);
    }

    fn run(
        &self,
        grid: &Grid,
        weight: &WindowWeight,
        start: Start,
        x: &[bf16],
        packed: &[f32],
        out: &mut [bf16],
    ) {
        walk::run(grid, &TilePacking(*weight), start, x, bytemuck::cast_slice(packed), out);
    }

    fn backward_weight_scratch_len(&self, p: &Conv2dProblem) -> usize {
        backward_weight::scratch_len(p)
    }

    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize {
        backward_weight::packed_len(p)
    }

    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[bf16],
        grad_output: &[bf16],
        packed_grad: &mut [f32],
    ) {
        backward_weight::run(&Amx::start(), p, input, grad_output, packed_grad);
    }

    fn unpack_grad(
        &self,
        p: &Conv2dProblem,
        packed_grad: &[f32],
        element: impl FnMut(usize, usize, f32),
    ) {
        backward_weight::unpack(p, packed_grad, element);
    }
}
