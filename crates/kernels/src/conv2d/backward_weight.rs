//! Gradient of a direct convolution's weight: for each row of the kernel, the product of the padded
//! input (its `kw·ic` contiguous elements are the rows) with the output gradient over all pixels.

use super::direct::input_padding;
use super::grid::split;
use super::multiply::Multiply;
use super::packing::Packing;
use super::padding::Padding;
use super::tile::{Run, Start, TileCall, tiles_along_m};
use super::vector::{Vector, VectorElement};
use crate::{Conv2dProblem, Isa, scratch};

/// Runs of one tile call; taller pictures take several calls.
const MAX_RUNS: usize = 128;

/// The output gradient with its channels padded to whole vectors.
fn channel_padding(p: &Conv2dProblem, lanes: usize) -> Padding {
    Padding {
        c: 1,
        h: p.oh() * p.ow(),
        w: p.oc,
        padded_h: p.oh() * p.ow(),
        padded_w: p.oc.next_multiple_of(lanes),
        top: 0,
        left: 0,
    }
}

/// Samples taken at once: as many as fit the runs of one tile call and weigh no more than the
/// gradient, which is read and written for each call.
fn samples_at_once(p: &Conv2dProblem) -> usize {
    input_padding(p).samples_at_once(p.weight_len()).min(MAX_RUNS / p.oh()).max(1)
}

/// Working memory for this many samples, unless they can be read where they lie.
fn padded_len<E: VectorElement>(padding: &Padding, num_samples: usize) -> usize {
    let in_place = padding.is_none() && Vector::<E>::as_operand(&[]).is_some();
    if in_place { 0 } else { num_samples * padding.len() }
}

fn padded<'a, E: VectorElement>(
    padding: &Padding,
    samples: &'a [E],
    scratch: &'a mut [f32],
) -> &'a [f32] {
    match Vector::as_operand(samples) {
        Some(samples) if padding.is_none() => samples,
        _ => padding.pad(samples, scratch),
    }
}

pub(super) fn scratch_len<E: VectorElement>(p: &Conv2dProblem, lanes: usize) -> usize {
    let few = samples_at_once(p);
    padded_len::<E>(&input_padding(p), few) + padded_len::<E>(&channel_padding(p, lanes), few)
}

/// Adds the gradient over all samples to `packed_grad`.
pub(super) fn run<E: VectorElement>(
    isa: Isa,
    p: &Conv2dProblem,
    packing: &Packing,
    input: &[E],
    grad_output: &[E],
    packed_grad: &mut [f32],
) {
    let (padding, channels) = (input_padding(p), channel_padding(p, packing.lanes));
    let few = samples_at_once(p);
    scratch::with(scratch_len::<E>(p, packing.lanes), |scratch| {
        let (inputs_scratch, grads_scratch) = scratch.split_at_mut(padded_len::<E>(&padding, few));
        let inputs = input.chunks(few * p.ih * p.iw * p.ic);
        for (input, grad_output) in inputs.zip(grad_output.chunks(few * p.oh() * p.ow() * p.oc)) {
            let x = padded(&padding, input, inputs_scratch);
            let w = padded(&channels, grad_output, grads_scratch);
            let num_rows = x.len() / padding.len() * p.oh();
            for rows in split(num_rows, MAX_RUNS) {
                add_rows(isa, p, packing, rows, x, w, packed_grad);
            }
        }
    });
}

/// Adds the gradient over `num_rows` rows of output pixels, counted through all samples.
fn add_rows(
    isa: Isa,
    p: &Conv2dProblem,
    packing: &Packing,
    (first_row, num_rows): (usize, usize),
    x: &[f32],
    w: &[f32],
    packed_grad: &mut [f32],
) {
    let padding = input_padding(p);
    let row_len = padding.padded_w * p.ic;
    let w_stride = p.oc.next_multiple_of(packing.lanes);
    let mut runs = [Run { x: 0, w: 0, len: p.ow() }; MAX_RUNS];
    for (i, run) in runs[..num_rows].iter_mut().enumerate() {
        let (sample, row) = ((first_row + i) / p.oh(), (first_row + i) % p.oh());
        run.x = sample * padding.len() + row * p.sh * row_len;
        run.w = (first_row + i) * p.ow() * w_stride;
    }
    let num_samples = (first_row + num_rows).div_ceil(p.oh());
    assert!(x.len() >= num_samples * padding.len());
    assert!(w.len() >= num_samples * p.oh() * p.ow() * w_stride);
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
                    x: x[kh_i * row_len + m..].as_ptr(),
                    x_stride: p.sw * p.ic,
                    w: w[block.col..].as_ptr(),
                    w_stride,
                    out: packed_grad[out..].as_mut_ptr(),
                    out_stride: width,
                    num_cols: width,
                    start: Start::Output,
                };
                // SAFETY: a window of a sample's last output pixel ends with the padded sample, of
                // which there are enough as asserted above, and this tile's rows `m..m + len` lie in
                // such a window. `w` has `w_stride`, whole vectors, for each pixel. The packed gradient has `width`
                // columns for each of its rows. The tile is one of the instruction set
                // asked for, which kernels are registered for only where the machine has it.
                unsafe { tiles.get(len, block.num_vectors)(&call) }
            }
        }
    }
}
