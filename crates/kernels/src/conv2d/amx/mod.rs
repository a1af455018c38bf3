//! Multiplication in bf16 by AMX tiles, accumulated in f32.

mod block;
mod epilogue;
mod grad_block;
mod packing;
mod store;
mod walk;

use super::grid::Grid;
use super::multiply::{GradOperands, Multiply, Rows, WindowWeight};
use super::pairs::{B_TILE, backward_weight};
use super::sums::Sums;
use super::tile::Start;
use crate::amx::Amx;
use crate::padding::Padding;
use crate::{Conv2dProblem, Isa};
use half::bf16;
use packing::TilePacking;
use walk::Walk;

/// `rounds` rounds of the widest block's products, on operands in the first-level cache.
pub(crate) fn multiply_tiles(rounds: usize) {
    if rounds == 0 {
        return;
    }
    let operands = crate::Aligned::<bf16>::zeroed(4 * B_TILE);
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

    const FUSES_SUMS: bool = true;

    fn slack(&self, grid: &Grid, weight: &WindowWeight) -> usize {
        walk::slack(&TilePacking::new(weight).grid(grid))
    }

    fn packed_len(&self, weight: &WindowWeight) -> usize {
        TilePacking::new(weight).len() / 2
    }

    fn pack(
        &self,
        weight: &WindowWeight,
        packed: &mut [f32],
        rows: &Rows<&[f32], impl Fn(usize) -> usize>,
    ) {
        TilePacking::new(weight).pack(bytemuck::cast_slice_mut(packed), rows);
    }

    fn run(
        &self,
        grid: &Grid,
        weight: &WindowWeight,
        start: Start,
        x: &[bf16],
        packed: &[f32],
        out: &mut [bf16],
        sums: Sums<'_, bf16>,
    ) {
        let (packing, w) = (&TilePacking::new(weight), bytemuck::cast_slice(packed));
        Walk { grid: &packing.grid(grid), packing, start, x, w }.run(out, sums);
    }

    fn samples_at_once(&self, p: &Conv2dProblem, x: &Padding, grad: &Padding) -> usize {
        backward_weight::samples_at_once(p, x, grad)
    }

    fn grad_slack(&self, _p: &Conv2dProblem) -> usize {
        0
    }

    fn grad_weight_memory(&self, p: &Conv2dProblem, num_samples: usize) -> usize {
        backward_weight::memory_len(p, num_samples)
    }

    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize {
        backward_weight::packed_len(p)
    }

    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        operands: &GradOperands<'_, bf16>,
        memory: &mut [bf16],
        packed_grad: &mut [f32],
    ) {
        backward_weight::run(&Amx::start(), p, operands, memory, packed_grad);
    }

    fn unpack_grad(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        backward_weight::unpack(p, packed_grad, grad_weight);
    }
}
