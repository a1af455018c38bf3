//! Multiplication in bf16 by AVX512-BF16's products of pairs, accumulated in f32.
//!
//! Floor: a `vdpbf16ps` is 64 floating-point operations, twice an FMA's. Where a core starts as many of
//! them as FMAs, these kernels can be twice as fast as those in f32. Cores like Sapphire Rapids' start one
//! in two cycles beside two FMAs a cycle, 86 GFLOP/s against 157: there these gain only by what they
//! don't do, which is to widen and to copy; see [`Isa::is_fast`]. `residua bench hardware` measures it.

mod block;
mod grad_block;

use super::ahead::Ahead;
use super::grid::{Grid, split};
use super::multiply::{Multiply, MultiplyGrads, Rows, WindowWeight};
use super::pairs::backward_weight::PairGrads;
use super::pairs::packing::TilePacking;
use super::pairs::{B_TILE, TILE};
use super::sums::Sums;
use super::tile::Start;
use crate::Isa;
use block::{BlockCall, block, max_rows};
use grad_block::Pairs;
use half::bf16;

/// Products of pairs.
#[derive(Debug)]
pub(super) struct Dot;

impl Multiply for Dot {
    type Activation = bf16;
    type Operand = bf16;

    fn name(&self) -> &'static str {
        "avx512bf16_conv2d_bf16_direct"
    }

    fn isa(&self) -> Isa {
        Isa::Avx512Bf16
    }

    const FUSES_SUMS: bool = false;

    fn slack(&self, _grid: &Grid, _weight: &WindowWeight) -> usize {
        0
    }

    fn packed_len(&self, weight: &WindowWeight) -> usize {
        TilePacking::of_pixels(weight).len() / 2
    }

    fn pack(
        &self,
        weight: &WindowWeight,
        packed: &mut [f32],
        rows: &Rows<&[f32], impl Fn(usize) -> usize>,
    ) {
        TilePacking::of_pixels(weight).pack(bytemuck::cast_slice_mut(packed), rows);
    }

    fn run(
        &self,
        grid: &Grid,
        weight: &WindowWeight,
        start: Start,
        x: &[bf16],
        packed: &[f32],
        out: &mut [bf16],
        _sums: Sums<'_, bf16>,
        _ahead: &mut Ahead,
    ) {
        run(grid, &TilePacking::of_pixels(weight), start, x, bytemuck::cast_slice(packed), out);
    }

    fn grads(&self) -> impl MultiplyGrads<bf16, bf16> {
        PairGrads::<Pairs>::new(Isa::Avx512Bf16)
    }
}

/// `out[sample, row, col, :] = start + Σ_k window(sample, row, col)[k] · w[k, :]`, rounded once.
///
/// Columns of the weight go outermost: what does not fit the cache is read once for all samples.
fn run(grid: &Grid, packing: &TilePacking, start: Start, x: &[bf16], w: &[bf16], out: &mut [bf16]) {
    if grid.num_samples == 0 || grid.num_rows == 0 || grid.num_cols == 0 {
        return;
    }
    let weight = packing.weight;
    grid.check(x.len(), weight.num_cols, out.len());
    assert_eq!((grid.window_rows, grid.window_len), (weight.window_rows, weight.window_len));
    assert_eq!(w.len(), packing.len());
    Isa::Avx512Bf16.assert_supported();
    for first_block in (0..packing.num_blocks()).step_by(2) {
        let num_vectors = (packing.num_blocks() - first_block).min(2);
        let first_col = first_block * TILE;
        for line in 0..grid.num_samples * grid.num_rows {
            let (sample, row) = (line / grid.num_rows, line % grid.num_rows);
            let x_line = grid.x_first + sample * grid.x_sample_stride + row * grid.x_row_stride;
            let out_line =
                grid.out_first + sample * grid.out_sample_stride + row * grid.out_row_stride;
            for (col, len) in split(grid.num_cols, max_rows(num_vectors)) {
                let call = BlockCall {
                    x: x[x_line + col * grid.x_col_stride..].as_ptr(),
                    x_stride: grid.x_col_stride,
                    window_rows: grid.window_rows,
                    window_len: grid.window_len,
                    window_stride: grid.window_stride,
                    w: w[first_block * packing.block_len()..].as_ptr(),
                    w_row_stride: packing.steps() * B_TILE,
                    w_col_stride: packing.block_len(),
                    out: out[out_line + col * grid.out_col_stride + first_col..].as_mut_ptr(),
                    out_stride: grid.out_col_stride,
                    num_cols: (weight.num_cols - first_col).min(num_vectors * TILE),
                    start,
                };
                // SAFETY: the machine has the instructions. `check` has shown that the last window
                // and the last output pixel lie within their slices; all others lie before them. The
                // packed weight has whole tiles for each block of columns.
                unsafe { block(len, num_vectors)(&call) }
            }
        }
    }
}
