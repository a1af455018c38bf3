//! Multiplication in bf16 by AMX tiles, accumulated in f32.

/// The instructions that fetch a step's cache lines; they change the registers `lines` and `$pointer` and the
/// flags, and have the labels 4 and 5.
macro_rules! fetch {
    ($pointer:literal) => {
        concat!(
            "mov {lines}, [{call} + {num_fetched}]\n",
            "test {lines}, {lines}\n",
            "jz 5f\n",
            "mov {",
            $pointer,
            "}, [{call} + {fetched}]\n",
            "4:\n",
            "prefetcht1 [{",
            $pointer,
            "}]\n",
            "add {",
            $pointer,
            "}, 64\n",
            "dec {lines}\n",
            "jnz 4b\n",
            "mov [{call} + {fetched}], {",
            $pointer,
            "}\n",
            "5:\n"
        )
    };
}

mod block;
mod epilogue;
mod grad_block;
mod store;
mod walk;

use super::ahead::{Ahead, Fetch};
use super::grid::Grid;
use super::multiply::{Multiply, MultiplyGrads, Rows, WindowWeight};
use super::pairs::B_TILE;
use super::pairs::backward_weight::PairGrads;
use super::pairs::packing::TilePacking;
use super::sums::Sums;
use super::tile::Start;
use crate::Isa;
use crate::amx::Amx;
use half::bf16;
use walk::Walk;

/// `rounds` rounds of the widest block's products, on operands in the first-level cache. These are as different
/// from each other as a network's: on zeros the tile unit takes less power and runs up to a fifth faster.
pub(crate) fn multiply_tiles(rounds: usize) {
    if rounds == 0 {
        return;
    }
    let mut operands = crate::Aligned::<bf16>::zeroed(4 * B_TILE);
    for (i, operand) in (1_u32..).zip(operands.iter_mut()) {
        // The golden ratio's multiples are spread evenly.
        let share = i.wrapping_mul(0x9e37_79b9) as f32 / u32::MAX as f32;
        *operand = bf16::from_f32(share - 0.5);
    }
    let tile = |i: usize| operands[i * B_TILE..].as_ptr();
    let mut call = block::BlockCall {
        x: [tile(0), tile(1), tile(0), tile(1)],
        steps: 1,
        run_stride: 0,
        w_col_stride: 2 * B_TILE,
        runs: rounds,
        x_stride: 64,
        w: tile(2),
        w_step: 0,
        fetch: Fetch::NONE,
    };
    // SAFETY: no stride moves a tile from where it starts but the second column's to the last one, and there
    // are four tiles' elements.
    unsafe { block::block(2, 2)(&Amx::start(), &mut call, &mut block::Acc::new()) }
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

    const FUSES_SUMS: bool = true;

    fn slack(&self, grid: &Grid, weight: &WindowWeight) -> usize {
        walk::slack(&TilePacking::of_pairs(weight).grid(grid))
    }

    fn packed_len(&self, weight: &WindowWeight) -> usize {
        TilePacking::of_pairs(weight).len() / 2
    }

    fn pack(
        &self,
        weight: &WindowWeight,
        packed: &mut [f32],
        rows: &Rows<&[f32], impl Fn(usize) -> usize>,
    ) {
        TilePacking::of_pairs(weight).pack(bytemuck::cast_slice_mut(packed), rows);
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
        ahead: &mut Ahead,
    ) {
        let (packing, w) = (&TilePacking::of_pairs(weight), bytemuck::cast_slice(packed));
        Walk { grid: &packing.grid(grid), packing, start, x, w }.run(out, sums, ahead);
    }

    fn grads(&self) -> impl MultiplyGrads<bf16, bf16> {
        PairGrads::<Amx>::new(Isa::Amx)
    }
}
