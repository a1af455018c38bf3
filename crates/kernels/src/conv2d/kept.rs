//! Operands of gradients of weights that are kept. Where a gradient is larger than its operands, it is less
//! to write and read if it is made once over the whole batch, some of its output channels on each thread,
//! than once for some samples on each thread, to be added up.

use crate::{Aligned, Conv2dProblem, scratch};
use bytemuck::Pod;
use std::ops::Range;

/// Output channels of a part of a gradient begin at a multiple of so many.
pub const PART_CHANNELS: usize = 32;

/// The operands of a gradient of a weight over some samples, as one kernel lays them out; for
/// [`Conv2dKernel::grad_weight_of_kept`](super::Conv2dKernel::grad_weight_of_kept).
#[derive(Debug, Default)]
pub struct KeptOperands {
    memory: Aligned<f32>,
    pieces: Vec<(Conv2dProblem, Range<usize>)>,
}

impl KeptOperands {
    /// With room for so many elements; see [`Conv2dKernel::kept_len`](super::Conv2dKernel::kept_len).
    pub fn with_len(len: usize) -> Self {
        Self { memory: Aligned::zeroed(len), pieces: Vec::new() }
    }

    /// Forgets what there is.
    pub fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Elements that hold so many operands: whole cache lines.
    pub(super) fn room<T>(len: usize) -> usize {
        const LINE_LEN: usize = 16;
        scratch::len_of::<T>(len).next_multiple_of(LINE_LEN)
    }

    /// Memory for some samples behind those that there are.
    ///
    /// # Panics
    /// There is no room for them.
    pub(super) fn add<T: Pod>(&mut self, p: &Conv2dProblem, len: usize) -> &mut [T] {
        let first = self.pieces.last().map_or(0, |(_, last)| last.end);
        let range = first..first + Self::room::<T>(len);
        let (end, room) = (range.end, self.memory.len());
        assert!(end <= room, "operands of {p} take {end} elements, of {room}");
        self.pieces.push((*p, range.clone()));
        &mut bytemuck::cast_slice_mut(&mut self.memory[range])[..len]
    }

    /// What was laid out at once, in order.
    pub(super) fn pieces<T: Pod>(&self) -> impl Iterator<Item = (&Conv2dProblem, &[T])> + Clone {
        let memory = &self.memory;
        self.pieces.iter().map(move |(p, range)| (p, bytemuck::cast_slice(&memory[range.clone()])))
    }
}
