//! What AMX and AVX512-BF16 share: operands of bf16 in pairs, as both multiply them.

pub(super) mod backward_weight;
mod columns;
pub(super) mod grad_blocks;
mod input;
mod interleave;
mod kept;
mod layout;
pub(super) mod packing;
pub(super) mod pixels;
mod transpose;
mod unpack;

/// Rows and columns of a tile of C.
pub(super) const TILE: usize = 16;
/// Elements of `k` in a step.
pub(super) const STEP: usize = 32;
/// Elements of a B tile.
pub(super) const B_TILE: usize = STEP * TILE;
