//! What multiplies blocks of tiles of a gradient of a weight.

use super::layout::{Columns, Layout};
use super::pixels::Pixels;
use super::{B_TILE, TILE};
use crate::conv2d::ahead::Fetch;
use crate::conv2d::tile::Start;
use half::bf16;
use std::ops::Range;

/// The most tiles of B beside one of A.
pub(in crate::conv2d) const MAX_COLS: usize = 5;

/// Operands of one block of tiles.
// AMX's assembly has the places of its fields.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(in crate::conv2d) struct GradCall {
    /// The first step's tile of each row of tiles: 16 rows of 32 consecutive `k`.
    pub(in crate::conv2d) a: [*const bf16; 2],
    /// The first step's tile of each column of tiles: 16 rows of 16 pairs `[k/2][col][k%2]`.
    pub(in crate::conv2d) b: [*const bf16; MAX_COLS],
    /// Tiles of C, rows first.
    pub(in crate::conv2d) c: [*mut f32; MAX_COLS],
    /// Steps of 32 `k`; the tiles of a row or column lie one after another.
    pub(in crate::conv2d) steps: usize,
    /// What is fetched meanwhile, if the blocks do that.
    pub(in crate::conv2d) fetch: Fetch,
    /// Whether the products are added to C.
    pub(in crate::conv2d) start: Start,
}

/// The tiles of C of one block: rows, and columns in the order in which they are multiplied.
pub(super) struct Block<'a> {
    pub(super) layout: &'a Layout<'a>,
    pub(super) columns: &'a Columns,
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

impl Block<'_> {
    /// Multiplies into these tiles of a packed gradient.
    #[inline]
    pub(super) fn write_to(&self, packed_grad: &mut [f32], call: &mut GradCall) {
        let num_cols = self.layout.num_cols();
        for (row, c) in self.rows.clone().zip(call.c.chunks_mut(self.cols.len())) {
            for (i, c) in self.cols.clone().zip(c) {
                let (col, _) = self.columns.get(self.layout, i);
                let tile = (row * num_cols + col) * TILE * TILE;
                *c = packed_grad[tile..][..TILE * TILE].as_mut_ptr();
            }
        }
    }

    /// Multiplies the rows from `first_row` on with pairs, so many steps of both.
    #[inline]
    pub(super) fn read(
        &self,
        num_steps: usize,
        (rows, first_row): (&[bf16], usize),
        pairs: &[bf16],
        call: &mut GradCall,
    ) {
        call.steps = num_steps;
        let len = num_steps * B_TILE;
        for (row, a) in self.rows.clone().zip(&mut call.a) {
            *a = rows[(first_row + row) * len..][..len].as_ptr();
        }
        for (i, b) in self.cols.clone().zip(&mut call.b) {
            let (_, first) = self.columns.get(self.layout, i);
            *b = pairs[first..][..len].as_ptr();
        }
    }
}

impl GradCall {
    /// No operands yet.
    pub(super) fn new(start: Start) -> Self {
        Self {
            a: [std::ptr::null(); 2],
            b: [std::ptr::null(); MAX_COLS],
            c: [std::ptr::null_mut(); MAX_COLS],
            steps: 0,
            fetch: Fetch::NONE,
            start,
        }
    }
}

/// Tiles of AMX, or products of pairs, which want the same operands.
pub(in crate::conv2d) trait GradBlocks: Sized {
    /// Ready to multiply on this thread.
    ///
    /// # Panics
    /// The machine lacks the instructions.
    fn start() -> Self;
    /// The most columns of tiles beside this many rows of them (1 or 2).
    fn max_cols(num_rows: usize) -> usize;
    /// Writes the products to `num_rows · num_cols` tiles of C, or adds them. Those of pairs outside of
    /// `pixels` are zeros and may be left out.
    ///
    /// # Safety
    /// `steps` tiles can be read from each `a` and `b` that the block has, and a tile written to each
    /// `c`; `steps` is not 0, and all `pixels` are within them.
    unsafe fn multiply(
        &self,
        num_rows: usize,
        num_cols: usize,
        call: &mut GradCall,
        pixels: &Pixels,
    );
}
