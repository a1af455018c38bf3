//! The micro-kernel: up to four 16×16 tiles of `C = Σ_k A[:, k] · B[k, :]`, bf16 products summed
//! in f32 registers.
//!
//! A step of `k` is 32 deep. An A tile has 16 rows of 32 consecutive elements of `x`, rows at a
//! constant distance: with channels innermost that is 16 pixels, no copy of their window is made. A
//! B tile has 16 rows of 16 pairs, `[k/2][col][k%2]`.
//!
//! Floor: 16 cycles a tile product, and 8 cycles for each tile loaded from the first-level cache.
//! With 2×2 or 4×1 tiles of C that is 32 or 40 cycles of loads against 64 of products, and the four
//! accumulators hide a product's latency of 52 cycles.

use crate::amx::Amx;
use crate::conv2d::ahead::Fetch;
use crate::conv2d::pairs::TILE;
use half::bf16;
use std::arch::asm;
use std::mem::offset_of;

/// Elements of the four tiles of C.
pub(super) const ACC_LEN: usize = 4 * TILE * TILE;

/// The tiles of C, one after another, rows of a column block first: `[m][n][16][16]`.
#[repr(C, align(64))]
pub(super) struct Acc(pub(super) [f32; ACC_LEN]);

impl Acc {
    pub(super) fn new() -> Self {
        Self([0.0; ACC_LEN])
    }
}

/// Operands of one block of tiles. Strides are in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockCall {
    /// The first row of each A tile.
    pub(super) x: [*const bf16; 4],
    /// Steps in a run of `k`, consecutive in `x`.
    pub(super) steps: usize,
    /// From one run to the next in `x`.
    pub(super) run_stride: usize,
    /// From the first column block's B tiles to the second's.
    pub(super) w_col_stride: usize,
    pub(super) runs: usize,
    pub(super) x_stride: usize,
    pub(super) w: *const bf16,
    /// From one B tile to the next.
    pub(super) w_step: usize,
    pub(super) fetch: Fetch,
}

/// Tiles of C: 1 to 4 by 1, or 1 to 2 by 2.
///
/// # Safety
/// For every step, 16 rows of 64 bytes from each A tile's first row on and of each B tile are
/// readable; `runs` and `steps` are not 0.
pub(super) type BlockFn = unsafe fn(&Amx, &mut BlockCall, &mut Acc);

macro_rules! block {
    ($name:ident, zero: [$($zero:literal)*], step: [$($step:expr),*],
     store: [$(($tile:literal, $at:literal))*]) => {
        /// # Safety
        /// As [`BlockFn`].
        unsafe fn $name(_amx: &Amx, call: &mut BlockCall, acc: &mut Acc) {
            // SAFETY: `Amx` proves that the tiles are configured; the caller promises that what is
            // loaded is readable; `acc` has room for four tiles.
            unsafe {
                asm!(
                    $(concat!("tilezero tmm", $zero),)*
                    "xor {row:e}, {row:e}",
                    "2:",
                    "mov {t}, {row}",
                    "mov {left}, [{call} + 32]",
                    "3:",
                    fetch!("a"),
                    $($step,)*
                    "add {t}, 64",
                    "add {w}, {w_step}",
                    "dec {left}",
                    "jnz 3b",
                    "add {row}, [{call} + 40]",
                    "dec {runs}",
                    "jnz 2b",
                    $(concat!("tilestored [{acc} + {line}*1 + ", $at, "], tmm", $tile),)*
                    call = in(reg) call,
                    fetched = const offset_of!(BlockCall, fetch.first),
                    num_fetched = const offset_of!(BlockCall, fetch.num_lines),
                    row = out(reg) _,
                    t = out(reg) _,
                    left = out(reg) _,
                    a = out(reg) _,
                    lines = out(reg) _,
                    runs = inout(reg) call.runs => _,
                    x_stride = in(reg) call.x_stride,
                    w = inout(reg) call.w => _,
                    w_step = in(reg) call.w_step,
                    acc = in(reg) acc,
                    // Between rows of B and C.
                    line = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

/// Loads the B tile of the one column block into tmm7 and multiplies.
macro_rules! one_column {
    ($name:ident, $(($m:literal, $a:literal, $x:literal, $store:literal))*) => {
        block! { $name,
            zero: [$($m)*],
            step: ["tileloadd tmm7, [{w} + {line}*1]" $(,
                concat!("mov {a}, [{call} + ", $x, "]"),
                "add {a}, {t}",
                concat!("tileloadd tmm", $a, ", [{a} + {x_stride}*1]"),
                concat!("tdpbf16ps tmm", $m, ", tmm", $a, ", tmm7")
            )*],
            store: [$(($m, $store))*]
        }
    };
}

/// Loads the B tiles of two column blocks into tmm6 and tmm7 and multiplies.
macro_rules! two_columns {
    ($name:ident, $(($left:literal, $right:literal, $a:literal, $x:literal, $s:literal, $t:literal))*) => {
        block! { $name,
            zero: [$($left $right)*],
            step: [
                "tileloadd tmm6, [{w} + {line}*1]",
                "mov {a}, [{call} + 48]",
                "add {a}, {w}",
                "tileloadd tmm7, [{a} + {line}*1]" $(,
                concat!("mov {a}, [{call} + ", $x, "]"),
                "add {a}, {t}",
                concat!("tileloadd tmm", $a, ", [{a} + {x_stride}*1]"),
                concat!("tdpbf16ps tmm", $left, ", tmm", $a, ", tmm6"),
                concat!("tdpbf16ps tmm", $right, ", tmm", $a, ", tmm7")
            )*],
            store: [$(($left, $s) ($right, $t))*]
        }
    };
}

one_column! { block_1x1, (0, 4, 0, 0) }
one_column! { block_2x1, (0, 4, 0, 0) (1, 5, 8, 1024) }
one_column! { block_3x1, (0, 4, 0, 0) (1, 5, 8, 1024) (2, 6, 16, 2048) }
one_column! { block_4x1, (0, 4, 0, 0) (1, 5, 8, 1024) (2, 6, 16, 2048) (3, 4, 24, 3072) }
two_columns! { block_1x2, (0, 1, 4, 0, 0, 1024) }
two_columns! { block_2x2, (0, 1, 4, 0, 0, 1024) (2, 3, 5, 8, 2048, 3072) }

/// The most tiles of rows beside this many of columns (1 or 2).
pub(super) fn max_row_tiles(col_tiles: usize) -> usize {
    if col_tiles == 1 { 4 } else { 2 }
}

/// The micro-kernel for this many tiles of rows and columns.
pub(super) fn block(row_tiles: usize, col_tiles: usize) -> BlockFn {
    match (row_tiles, col_tiles) {
        (1, 1) => block_1x1,
        (2, 1) => block_2x1,
        (3, 1) => block_3x1,
        (4, 1) => block_4x1,
        (1, 2) => block_1x2,
        (2, 2) => block_2x2,
        _ => unreachable!("no block of {row_tiles}x{col_tiles} tiles"),
    }
}
