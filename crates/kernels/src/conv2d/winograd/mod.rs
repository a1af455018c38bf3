//! 3×3 convolution in f32 with fewer multiplications: F(2×2, 3×3) takes 16 for four outputs where a direct one
//! takes 36 (Winograd 1980; Lavin & Gray 2016).
//!
//! Patches of the padded input are transformed, multiplied with the transformed weight at each of 16
//! points, and transformed back. The gradient of the input is the same with the weight flipped and
//! transposed. The gradient of the weight is the adjoint: transformed patches times transformed gradients,
//! turned back when all are added up.
//!
//! Floor, a core, AVX-512, for each 2×2 outputs of `ic` and `oc` channels: `ic · oc / 2` cycles of products
//! against `9/8 · ic · oc` of a direct convolution's, and in transforms 16 loads, 32 additions and 16 stores
//! for each 16 channels of input and 16, 24 and 4 of output.
//!
//! Rounding: an output adds up what its neighbours in the tile read too, so that its error is relative to
//! the absolute values in a 4×4 patch, see `docs/numerics.md`.

mod transform;
mod weight;

use super::backward_weight::{self, PaddedOperands};
use super::geometry::forward_grid;
use super::grid::split;
use super::packing::Packing;
use super::tile::{Start, TileElement};
use super::{Addend, Backward, Conv2dKernel, Forward, GradWeight, begin_grad};
use crate::padding::Padding;
use crate::{Conv2dProblem, Isa, scratch};
use std::ops::Range;
use transform::{POINTS, Patches, point_len};

/// F(2×2, 3×3) with one instruction set.
#[derive(Debug)]
pub(super) struct Winograd(pub(super) Isa);

/// Elements of transformed inputs and outputs that are multiplied at once, at least: half a megabyte.
const TRANSFORMED_LEN: usize = 1 << 17;

/// The most elements of a weight: a larger one, nearly twice as large at its points, takes as long to pack and
/// to unpack as its few tiles save.
const MAX_WEIGHT_LEN: usize = 9 * 256 * 256;

/// A convolution as [`multiply`](Winograd::multiply) does it: the forward, or the gradient of the input.
#[derive(Debug, Clone, Copy)]
struct Walk {
    padding: Padding,
    patches: Patches,
    /// Channels, rows and columns of the result.
    channels: usize,
    size: (usize, usize),
}

impl Walk {
    /// Of the rows `oh` and all columns of the result of `c` channels of `h×w` pixels with so many zeros
    /// above and left.
    fn new(
        (c, h, w): (usize, usize, usize),
        (top, left): (usize, usize),
        oh: &Range<usize>,
        channels: usize,
    ) -> Self {
        let size = (oh.len(), w + 2 * left - 2);
        let (rows, cols) = (size.0.div_ceil(2), size.1.div_ceil(2));
        let (padded_h, padded_w) = (2 * rows + 2, 2 * cols + 2);
        let (top, left) = (top as isize - oh.start as isize, left as isize);
        let padding = Padding { c, pitch: c, h, w, padded_h, padded_w, top, left, tail: 0 };
        let (sample_len, row_len) = (padding.len(), padding.row_pitch());
        let patches = Patches { channels: c, rows, cols, sample_len, row_len, first: 0 };
        Self { padding, patches, channels, size }
    }

    fn forward(p: &Conv2dProblem) -> Self {
        Self::forward_rows(p, &(0..p.oh()))
    }

    fn forward_rows(p: &Conv2dProblem, oh: &Range<usize>) -> Self {
        Self::new((p.ic, p.ih, p.iw), (p.ph, p.pw), oh, p.oc)
    }

    fn backward_data(p: &Conv2dProblem) -> Self {
        Self::new((p.oc, p.oh(), p.ow()), (2 - p.ph, 2 - p.pw), &(0..p.ih), p.ic)
    }

    /// The tiles of the result.
    fn results(&self) -> Patches {
        Patches { channels: self.channels, ..self.patches }
    }

    /// Tiles that are multiplied at once: more, if the weight is larger than they are.
    fn tiles_at_once(&self) -> usize {
        let (ic, oc) = (self.patches.channels, self.channels);
        (TRANSFORMED_LEN / POINTS).max(ic * oc) / (ic + oc)
    }

    /// Samples that are laid out at once.
    fn samples_at_once(&self, n: usize) -> usize {
        (self.tiles_at_once() / self.patches.per_sample()).clamp(1, n.max(1))
    }

    /// Elements of each side at all points.
    fn transformed_len(&self) -> usize {
        POINTS * point_len(self.tiles_at_once(), self.patches.channels.max(self.channels))
    }
}

impl Winograd {
    fn packing(&self, num_rows: usize, num_cols: usize) -> Packing {
        Packing { lanes: f32::tiles_along_k(self.0).lanes, num_rows, num_cols }
    }

    /// `start + Σ` over the windows of padded samples.
    fn multiply(
        &self,
        walk: &Walk,
        x: &[f32],
        packed: &[f32],
        (start, out): (Start, &mut [f32]),
        transformed: &mut [f32],
    ) {
        let Walk { patches, channels, size, .. } = *walk;
        let packing = self.packing(patches.channels, channels);
        let (inputs, outputs) = transformed.split_at_mut(walk.transformed_len());
        let num_tiles = x.len() / patches.sample_len * patches.per_sample();
        for (first, len) in split(num_tiles, walk.tiles_at_once()) {
            let tiles = first..first + len;
            let (input_len, output_len) =
                (point_len(len, patches.channels), point_len(len, channels));
            let inputs = &mut inputs[..POINTS * input_len];
            let outputs = &mut outputs[..POINTS * output_len];
            transform::input(self.0, &patches, x, tiles.clone(), inputs);
            let point = at_point(len, patches.channels, channels);
            let grid = forward_grid(&point, &(0..1), &Padding::none(len, patches.channels));
            for ((input, w), output) in inputs
                .chunks_exact(input_len)
                .zip(packed.chunks_exact(packing.len()))
                .zip(outputs.chunks_exact_mut(output_len))
            {
                grid.run(self.0, &packing, Start::Zero, input, w, output);
            }
            let add = start == Start::Output;
            transform::output(self.0, &walk.results(), outputs, tiles, size, add, out);
        }
    }

    /// The gradient of the weight at each point, over some samples.
    fn multiply_grads(
        &self,
        p: &Conv2dProblem,
        (x, grad): (&[f32], &[f32]),
        (packed_grad, start): (&mut [f32], &mut Start),
        transformed: &mut [f32],
    ) {
        let (walk, grads) = (Walk::forward(p), Walk::backward_data(p).patches);
        let patches = walk.patches;
        // Tiles of the forward's output, where the padded gradient has them.
        let first = (2 - p.ph) * grads.row_len + (2 - p.pw) * p.oc;
        let grads = Patches { rows: patches.rows, cols: patches.cols, first, ..grads };
        let packing = self.packing(p.ic, p.oc);
        let (inputs, outputs) = transformed.split_at_mut(walk.transformed_len());
        let num_tiles = x.len() / patches.sample_len * patches.per_sample();
        for (first, len) in split(num_tiles, walk.tiles_at_once()) {
            let tiles = first..first + len;
            let (input_len, output_len) = (point_len(len, p.ic), point_len(len, p.oc));
            let (inputs, outputs) =
                (&mut inputs[..POINTS * input_len], &mut outputs[..POINTS * output_len]);
            transform::input(self.0, &patches, x, tiles.clone(), inputs);
            transform::grad_output(self.0, &grads, grad, tiles, outputs);
            let start = std::mem::replace(start, Start::Output);
            let point = at_point(len, p.ic, p.oc);
            for ((x, grad), packed_grad) in inputs
                .chunks_exact(input_len)
                .zip(outputs.chunks_exact(output_len))
                .zip(packed_grad.chunks_exact_mut(packing.len()))
            {
                let (x_padding, grad_padding) =
                    (Padding::none(len, p.ic), Padding::none(len, p.oc));
                let operands = PaddedOperands { num_samples: 1, x, x_padding, grad, grad_padding };
                backward_weight::run(self.0, &point, &packing, &operands, start, packed_grad);
            }
        }
    }
}

/// The product at a point: a 1×1 convolution of tiles.
fn at_point(num_tiles: usize, ic: usize, oc: usize) -> Conv2dProblem {
    let (n, ih, iw) = (1, 1, num_tiles);
    Conv2dProblem { n, ic, ih, iw, oc, kh: 1, kw: 1, sh: 1, sw: 1, ph: 0, pw: 0 }
}

/// The taps of a kernel of a weight in PyTorch's layout.
fn kernel_of(p: &Conv2dProblem, weight: &[f32], oc_i: usize, ic_i: usize) -> [f32; 9] {
    let first = (oc_i * p.ic + ic_i) * 9;
    std::array::from_fn(|tap| weight[first + tap])
}

impl Conv2dKernel<f32> for Winograd {
    fn name(&self) -> &'static str {
        match self.0 {
            Isa::Avx2 => "avx2_conv2d_f32_winograd",
            Isa::Avx512 => "avx512_conv2d_f32_winograd",
            _ => "portable_conv2d_f32_winograd",
        }
    }

    fn isa(&self) -> Isa {
        self.0
    }

    fn supports(&self, p: &Conv2dProblem) -> bool {
        let is_3x3 = (p.kh, p.kw, p.sh, p.sw) == (3, 3, 1, 1) && p.ph <= 1 && p.pw <= 1;
        let whole_vectors = p.ic.is_multiple_of(16) && p.oc.is_multiple_of(16);
        // Of few channels the transforms take longer than the products that they save; of small pictures
        // too much of a patch is padding.
        let pays = p.ic.min(p.oc) >= 32 && p.oh().min(p.ow()) >= 4;
        is_3x3 && whole_vectors && pays && p.weight_len() <= MAX_WEIGHT_LEN
    }

    fn scratch_len(&self, p: &Conv2dProblem) -> usize {
        let (x, grad) = (Walk::forward(p), Walk::backward_data(p));
        let forward = x.padding.total_len(x.samples_at_once(p.n));
        let n = x.samples_at_once(p.n).max(grad.samples_at_once(p.n));
        let backward = x.padding.total_len(n) + grad.padding.total_len(n);
        forward.max(backward) + 2 * x.transformed_len().max(grad.transformed_len())
    }

    fn packed_weight_len(&self, p: &Conv2dProblem) -> usize {
        POINTS * self.packing(p.ic, p.oc).len()
    }

    fn pack_weight(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), p.weight_len());
        let kernel = |ic_i, oc_i| kernel_of(p, weight, oc_i, ic_i);
        weight::pack(&self.packing(p.ic, p.oc), packed, kernel);
    }

    fn packed_weight_backward_len(&self, p: &Conv2dProblem) -> usize {
        POINTS * self.packing(p.oc, p.ic).len()
    }

    fn pack_weight_backward(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), p.weight_len());
        weight::pack(&self.packing(p.oc, p.ic), packed, |oc_i, ic_i| {
            let mut kernel = kernel_of(p, weight, oc_i, ic_i);
            kernel.reverse();
            kernel
        });
    }

    fn row_step(&self) -> usize {
        2
    }

    fn run_forward_rows(&self, p: &Conv2dProblem, oh: Range<usize>, mut call: Forward<'_, f32>) {
        let start = call.begin(p, &oh, self);
        let Forward { mut input, packed, output, mut sums, .. } = call;
        let walk = Walk::forward_rows(p, &oh);
        let few = walk.samples_at_once(p.n);
        let padded_len = walk.padding.total_len(few);
        scratch::with(padded_len + 2 * walk.transformed_len(), |memory| {
            let (padded, transformed) = memory.split_at_mut(padded_len);
            let mut first = 0;
            for output in output.chunks_mut(few * oh.len() * p.ow() * p.oc) {
                let samples = input.take_front(few * walk.padding.sample_len());
                let x = walk.padding.pad(self.0, samples, 0, padded);
                self.multiply(&walk, x, packed, (start, output), transformed);
                sums.part(first..first + output.len()).add(self.0, output);
                first += output.len();
            }
        });
    }

    fn run_backward(&self, p: &Conv2dProblem, call: Backward<'_, f32>) {
        call.check(p, self);
        let Backward { mut input, mut grad_output, packed_backward, mut grad_input, grad_weight } =
            call;
        let mut grad_weight = grad_weight.map(|grad_weight| match grad_weight {
            GradWeight::Packed { packed_grad, accumulate } => {
                begin_grad(packed_grad, accumulate, p.n)
            }
            GradWeight::Kept(_) => panic!("{} keeps no operands", self.name()),
        });
        let (x_walk, walk) = (Walk::forward(p), Walk::backward_data(p));
        let few = x_walk.samples_at_once(p.n).max(walk.samples_at_once(p.n));
        let (x_len, grad_len) = (x_walk.padding.total_len(few), walk.padding.total_len(few));
        let transformed_len = 2 * x_walk.transformed_len().max(walk.transformed_len());
        scratch::with(x_len + grad_len + transformed_len, |memory| {
            let (x_memory, rest) = memory.split_at_mut(x_len);
            let (grad_memory, transformed) = rest.split_at_mut(grad_len);
            let mut first = 0;
            while !grad_output.is_empty() {
                let samples = grad_output.take_front(few * walk.padding.sample_len());
                let grad = walk.padding.pad(self.0, samples, 0, grad_memory);
                if let Some((packed_grad, start)) = &mut grad_weight {
                    let samples = input.take_front(few * x_walk.padding.sample_len());
                    let x = x_walk.padding.pad(self.0, samples, 0, x_memory);
                    self.multiply_grads(p, (x, grad), (packed_grad, start), transformed);
                }
                let num_samples = grad.len() / walk.padding.len();
                let made = first..first + num_samples * x_walk.padding.sample_len();
                first = made.end;
                if let Some(call) = &mut grad_input {
                    let mut part = call.part(made);
                    part.write_addend();
                    let start = Start::accumulating(matches!(part.addend, Addend::InPlace));
                    let out = (start, &mut *part.grad_input);
                    self.multiply(&walk, grad, packed_backward, out, transformed);
                    part.sums.add(self.0, part.grad_input);
                }
            }
        });
    }

    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize {
        POINTS * self.packing(p.ic, p.oc).len()
    }

    fn unpack_grad(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        assert_eq!(grad_weight.len(), p.weight_len());
        weight::unpack(&self.packing(p.ic, p.oc), packed_grad, |ic_i, oc_i, kernel| {
            grad_weight[(oc_i * p.ic + ic_i) * 9..][..9].copy_from_slice(&kernel);
        });
    }
}
