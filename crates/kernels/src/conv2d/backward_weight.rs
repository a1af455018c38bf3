//! Gradient of a direct convolution's weight: for each row of the kernel, the product of the padded
//! input (its `kw·ic` contiguous elements are the rows) with the output gradient over all pixels.

use super::grid::split;
use super::packing::Packing;
use super::tile::{Run, Start, TileCall, tiles_along_m};
use crate::padding::Padding;
use crate::{Conv2dProblem, Isa};

/// Runs of one tile call; taller pictures take several calls.
const MAX_RUNS: usize = 128;

/// Some samples of the padded input and of the padded output gradient.
#[derive(Debug)]
pub(super) struct PaddedOperands<'a> {
    pub(super) num_samples: usize,
    pub(super) x: &'a [f32],
    pub(super) x_padding: Padding,
    pub(super) grad: &'a [f32],
    pub(super) grad_padding: Padding,
}

/// The gradient over all samples, into `packed_grad`. Where the last columns are no whole vector, the
/// sums of those that don't exist are of the next pixel.
pub(super) fn run(
    isa: Isa,
    p: &Conv2dProblem,
    packing: &Packing,
    operands: &PaddedOperands<'_>,
    start: Start,
    packed_grad: &mut [f32],
) {
    isa.assert_supported();
    let num_rows = operands.num_samples * p.oh();
    for rows in split(num_rows, MAX_RUNS) {
        let start = if rows.0 == 0 { start } else { Start::Output };
        add_rows(isa, p, packing, rows, operands, start, packed_grad);
    }
}

/// The gradient over `num_rows` rows of output pixels, counted through all samples.
fn add_rows(
    isa: Isa,
    p: &Conv2dProblem,
    packing: &Packing,
    (first_row, num_rows): (usize, usize),
    operands: &PaddedOperands<'_>,
    start: Start,
    packed_grad: &mut [f32],
) {
    let PaddedOperands { num_samples, x, x_padding, grad, grad_padding, .. } = operands;
    let (x_row, grad_row) = (x_padding.row_pitch(), grad_padding.row_pitch());
    let grad_first = grad_padding.first();
    let mut runs = [Run { x: 0, w: 0, len: p.ow() }; MAX_RUNS];
    for (i, run) in runs[..num_rows].iter_mut().enumerate() {
        let (sample, row) = ((first_row + i) / p.oh(), (first_row + i) % p.oh());
        run.x = sample * x_padding.len() + row * p.sh * x_row;
        run.w = grad_first + sample * grad_padding.len() + row * grad_row;
    }
    let filler = p.oc.next_multiple_of(packing.lanes) - p.oc;
    assert!(x.len() >= x_padding.total_len(*num_samples));
    assert!(grad.len() >= grad_padding.total_len(*num_samples) + filler);
    assert!(!grad_padding.crops());
    assert_eq!(packed_grad.len(), packing.len());
    assert_eq!(packing.num_rows, p.kh * p.kw * p.ic);
    let tiles = tiles_along_m(isa);
    for block in packing.blocks() {
        let width = block.num_vectors * packing.lanes;
        for kh_i in 0..p.kh {
            for (m, len) in split(p.kw * p.ic, tiles.max_rows(block.num_vectors)) {
                let out = block.offset + (kh_i * p.kw * p.ic + m) * width;
                let call = TileCall {
                    runs: &runs[..num_rows],
                    x: x[kh_i * x_row + m..].as_ptr(),
                    x_stride: p.sw * x_padding.pitch,
                    w: grad[block.col..].as_ptr(),
                    w_stride: grad_padding.pitch,
                    out: packed_grad[out..].as_mut_ptr(),
                    out_stride: width,
                    num_cols: width,
                    start,
                };
                // SAFETY: a window of a sample's last output pixel ends with the padded samples, of
                // which there are enough as asserted above, and this tile's rows `m..m + len` lie in
                // such a window. The output gradient holds all pixels, and enough elements after the
                // last one to fill its last vector. The packed gradient has `width` columns for
                // each of its rows. The tile is one of the instruction set asked for, which `run`
                // has found on this machine.
                unsafe { tiles.get(len, block.num_vectors)(&call) }
            }
        }
    }
}
