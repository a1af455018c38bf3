//! The micro-kernel of gradients of weights: some 16×16 tiles of `C (+)= Σ_k A[:, k] · B[k, :]`, bf16
//! products summed in f32 registers.
//!
//! All tiles of A and B are 1 KiB without gaps, so that each row is a cache line. Floor: 16 cycles a
//! product and 8 cycles a tile loaded from the first-level cache; 1×5 tiles of C take 48 cycles of
//! loads against 80 of products, 2×2 tiles 32 against 64.

use crate::amx::Amx;
use crate::conv2d::pairs::grad_blocks::{GradBlocks, GradCall, MAX_COLS};
use crate::conv2d::pairs::pixels::Pixels;
use crate::conv2d::tile::Start;
use std::arch::asm;
use std::mem::offset_of;

/// # Safety
/// `steps` tiles can be read from each `a` and `b` that the block has, and a tile written to each
/// `c`; `steps` is not 0.
type GradBlockFn = unsafe fn(&Amx, &mut GradCall);

macro_rules! grad_block {
    ($name:ident,
     a: [$(($a:literal, $a_at:literal))*],
     b: [$(($b:literal, $b_at:literal, [$(($product_c:literal, $product_a:literal))*]))*],
     c: [$(($c:literal, $c_at:literal))*]) => {
        /// # Safety
        /// As [`GradBlockFn`].
        unsafe fn $name(_amx: &Amx, call: &mut GradCall) {
            // SAFETY: `Amx` proves that the tiles are configured; the caller promises the rest.
            unsafe {
                asm!(
                    "test {t:e}, {t:e}",
                    "jz 3f",
                    $(concat!("mov {p}, [{call} + ", $c_at, "]"),
                      concat!("tileloadd tmm", $c, ", [{p} + {stride}*1]"),)*
                    "xor {t:e}, {t:e}",
                    "jmp 2f",
                    "3:",
                    $(concat!("tilezero tmm", $c),)*
                    "2:",
                    fetch!("p"),
                    $(concat!("mov {p}, [{call} + ", $a_at, "]"),
                      "add {p}, {t}",
                      concat!("tileloadd tmm", $a, ", [{p} + {stride}*1]"),)*
                    $(concat!("mov {p}, [{call} + ", $b_at, "]"),
                      "add {p}, {t}",
                      concat!("tileloadd tmm", $b, ", [{p} + {stride}*1]"),
                      $(concat!("tdpbf16ps tmm", $product_c, ", tmm", $product_a, ", tmm", $b),)*)*
                    "add {t}, 1024",
                    "dec {steps}",
                    "jnz 2b",
                    $(concat!("mov {p}, [{call} + ", $c_at, "]"),
                      concat!("tilestored [{p} + {stride}*1], tmm", $c),)*
                    call = in(reg) call,
                    fetched = const offset_of!(GradCall, fetch.first),
                    num_fetched = const offset_of!(GradCall, fetch.num_lines),
                    p = out(reg) _,
                    t = inout(reg) usize::from(call.start == Start::Output) => _,
                    lines = out(reg) _,
                    steps = inout(reg) call.steps => _,
                    stride = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

grad_block! { block_1x1, a: [(5, 0)], b: [(6, 16, [(0, 5)])], c: [(0, 56)] }
grad_block! { block_1x2,
a: [(5, 0)],
b: [(6, 16, [(0, 5)]) (7, 24, [(1, 5)])],
c: [(0, 56) (1, 64)] }
grad_block! { block_1x3,
a: [(5, 0)],
b: [(6, 16, [(0, 5)]) (7, 24, [(1, 5)]) (6, 32, [(2, 5)])],
c: [(0, 56) (1, 64) (2, 72)] }
grad_block! { block_1x4,
a: [(5, 0)],
b: [(6, 16, [(0, 5)]) (7, 24, [(1, 5)]) (6, 32, [(2, 5)]) (7, 40, [(3, 5)])],
c: [(0, 56) (1, 64) (2, 72) (3, 80)] }
grad_block! { block_1x5,
a: [(5, 0)],
b: [(6, 16, [(0, 5)]) (7, 24, [(1, 5)]) (6, 32, [(2, 5)]) (7, 40, [(3, 5)]) (6, 48, [(4, 5)])],
c: [(0, 56) (1, 64) (2, 72) (3, 80) (4, 88)] }
grad_block! { block_2x1,
a: [(4, 0) (5, 8)],
b: [(6, 16, [(0, 4) (1, 5)])],
c: [(0, 56) (1, 64)] }
grad_block! { block_2x2,
a: [(4, 0) (5, 8)],
b: [(6, 16, [(0, 4) (2, 5)]) (7, 24, [(1, 4) (3, 5)])],
c: [(0, 56) (1, 64) (2, 72) (3, 80)] }

impl GradBlocks for Amx {
    fn start() -> Self {
        Amx::start()
    }

    fn max_cols(num_rows: usize) -> usize {
        if num_rows == 1 { MAX_COLS } else { 2 }
    }

    unsafe fn multiply(&self, num_rows: usize, num_cols: usize, call: &mut GradCall, _: &Pixels) {
        // SAFETY: the caller's promise.
        unsafe { grad_block(num_rows, num_cols)(self, call) }
    }
}

/// The micro-kernel for this many rows and columns of tiles.
fn grad_block(rows: usize, cols: usize) -> GradBlockFn {
    match (rows, cols) {
        (1, 1) => block_1x1,
        (1, 2) => block_1x2,
        (1, 3) => block_1x3,
        (1, 4) => block_1x4,
        (1, 5) => block_1x5,
        (2, 1) => block_2x1,
        (2, 2) => block_2x2,
        _ => unreachable!("no block of {rows}x{cols} tiles"),
    }
}
