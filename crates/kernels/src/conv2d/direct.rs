//! Direct convolution: no im2col, the window of a padded sample is read where it lies.
//!
//! A row of a `kh×kw` window is `kw·ic` contiguous elements in NHWC, so a window is `kh` runs. With
//! stride 1 the adjoint in the input is the same walk over the padded output gradient with the
//! weight flipped and transposed. With stride `s` the input's pixels fall into `s·s` phases, each
//! such a walk with every `s`-th tap of the kernel; no multiplication with an inserted zero is done.

use super::Conv2dKernel;
use super::grid::Grid;
use super::multiply::{Multiply, Rows, WindowWeight};
use super::padding::Padding;
use super::tile::Start;
use crate::{Conv2dProblem, Isa, convert, scratch};

/// Direct convolution with one way to multiply.
#[derive(Debug)]
pub(super) struct Direct<M>(pub(super) M);

/// A 1×1 convolution without stride or padding doesn't know where rows and samples end.
fn flattened(p: &Conv2dProblem) -> Conv2dProblem {
    if p.n > 0 && (p.kh, p.kw, p.sh, p.sw, p.ph, p.pw) == (1, 1, 1, 1, 0, 0) {
        Conv2dProblem { n: 1, ih: 1, iw: p.n * p.ih * p.iw, ..*p }
    } else {
        *p
    }
}

/// The padded input: as many rows and columns as windows reach.
pub(super) fn input_padding(p: &Conv2dProblem) -> Padding {
    Padding {
        c: p.ic,
        h: p.ih,
        w: p.iw,
        padded_h: (p.oh() - 1) * p.sh + p.kh,
        padded_w: (p.ow() - 1) * p.sw + p.kw,
        top: p.ph as isize,
        left: p.pw as isize,
    }
}

/// One axis of one stride phase of backward data: input positions `first, first + s, …`, each the
/// product of `taps` consecutive positions of the padded output gradient from `x0` on.
#[derive(Debug, Clone, Copy)]
struct Phase {
    first: usize,
    count: usize,
    taps: usize,
    x0: usize,
    /// The kernel position that meets the first of those: `last_tap, last_tap − s, …`
    last_tap: usize,
}

/// Zeros before and after the output gradient that the phases of one axis need.
#[derive(Debug, Clone, Copy)]
struct PhaseAxis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl PhaseAxis {
    fn vertical(p: &Conv2dProblem) -> Self {
        Self { input: p.ih, output: p.oh(), kernel: p.kh, stride: p.sh, padding: p.ph }
    }

    fn horizontal(p: &Conv2dProblem) -> Self {
        Self { input: p.iw, output: p.ow(), kernel: p.kw, stride: p.sw, padding: p.pw }
    }

    /// Zeros before the output gradient: the most taps of a phase, less one.
    fn before(&self) -> usize {
        self.kernel.div_ceil(self.stride) - 1
    }

    /// Positions of the padded output gradient.
    fn padded(&self) -> usize {
        let last = (self.input - 1 + self.padding) / self.stride;
        self.before() + self.output.max(last + 1)
    }

    /// Input position `i` meets output `q, q − 1, …` at kernel positions `r, r + s, …`, where
    /// `i + padding = q·s + r`.
    fn phase(&self, residue: usize) -> Phase {
        let s = self.stride;
        let first = (residue + s - self.padding % s) % s;
        let taps = (self.kernel.saturating_sub(residue)).div_ceil(s);
        let q = (first + self.padding) / s;
        Phase {
            first,
            count: self.input.saturating_sub(first).div_ceil(s),
            taps,
            x0: q + self.before() + 1 - taps.max(1),
            last_tap: residue + taps.saturating_sub(1) * s,
        }
    }
}

fn grad_output_padding(p: &Conv2dProblem) -> Padding {
    let (vertical, horizontal) = (PhaseAxis::vertical(p), PhaseAxis::horizontal(p));
    Padding {
        c: p.oc,
        h: p.oh(),
        w: p.ow(),
        padded_h: vertical.padded(),
        padded_w: horizontal.padded(),
        top: vertical.before() as isize,
        left: horizontal.before() as isize,
    }
}

/// The vertical and horizontal phases, in the order in which they are packed.
fn phases(p: &Conv2dProblem) -> impl Iterator<Item = (Phase, Phase)> {
    let (vertical, horizontal) = (PhaseAxis::vertical(p), PhaseAxis::horizontal(p));
    (0..p.sh).flat_map(move |y| {
        (0..horizontal.stride).map(move |x| (vertical.phase(y), horizontal.phase(x)))
    })
}

fn forward_weight(p: &Conv2dProblem) -> WindowWeight {
    WindowWeight { window_rows: p.kh, window_len: p.kw * p.ic, num_cols: p.oc }
}

fn phase_weight(p: &Conv2dProblem, (y, x): (Phase, Phase)) -> WindowWeight {
    WindowWeight { window_rows: y.taps, window_len: x.taps * p.oc, num_cols: p.ic }
}

/// All output pixels of one sample.
fn forward_grid(p: &Conv2dProblem, padding: &Padding) -> Grid {
    let row_len = padding.padded_w * p.ic;
    Grid {
        num_samples: 1,
        x_sample_stride: padding.len(),
        out_sample_stride: p.oh() * p.ow() * p.oc,
        num_rows: p.oh(),
        num_cols: p.ow(),
        x_row_stride: p.sh * row_len,
        x_col_stride: p.sw * p.ic,
        out_row_stride: p.ow() * p.oc,
        out_col_stride: p.oc,
        window_rows: p.kh,
        window_len: p.kw * p.ic,
        window_stride: row_len,
    }
}

/// The input pixels of a phase of one sample.
fn phase_grid(p: &Conv2dProblem, (y, x): (Phase, Phase), padding: &Padding) -> Grid {
    let row_len = padding.padded_w * p.oc;
    Grid {
        num_samples: 1,
        x_sample_stride: padding.len(),
        out_sample_stride: p.ih * p.iw * p.ic,
        num_rows: y.count,
        num_cols: x.count,
        x_row_stride: row_len,
        x_col_stride: p.oc,
        out_row_stride: p.sh * p.iw * p.ic,
        out_col_stride: p.sw * p.ic,
        window_rows: y.taps,
        window_len: x.taps * p.oc,
        window_stride: row_len,
    }
}

impl<M: Multiply> Direct<M> {
    /// Calls `f` with a few padded samples of `from` at a time, their part of `to`, and how many
    /// they are.
    fn for_each_few(
        &self,
        p: &Conv2dProblem,
        padding: &Padding,
        slack: usize,
        (from, from_len): (&[M::Activation], usize),
        (to, to_len): (&mut [M::Activation], usize),
        mut f: impl FnMut(&[M::Operand], &mut [M::Activation], usize),
    ) {
        let few = padding.samples_at_once(p.weight_len());
        let chunks = from.chunks(few * from_len).zip(to.chunks_mut(few * to_len));
        if padding.is_none() && slack == 0 && M::as_operand(from).is_some() {
            for (from, to) in chunks {
                f(M::as_operand(from).expect("as it was"), to, from.len() / from_len);
            }
            return;
        }
        scratch::with_operands(few * padding.len() + slack, |padded| {
            for (from, to) in chunks {
                let num_samples = from.len() / from_len;
                let len = padding.pad(from, padded).len();
                padded[len..][..slack].fill(bytemuck::Zeroable::zeroed());
                f(&padded[..len + slack], to, num_samples);
            }
        });
    }

    /// Working memory for padded samples, in f32.
    fn padded_scratch_len(&self, p: &Conv2dProblem, padding: &Padding, slack: usize) -> usize {
        let few = padding.samples_at_once(p.weight_len());
        scratch::len_of::<M::Operand>(few * padding.len() + slack)
    }

    fn backward_slack(&self, p: &Conv2dProblem, padding: &Padding) -> usize {
        let slacks = phases(p).map(|phase| self.0.slack(&phase_grid(p, phase, padding)));
        slacks.max().unwrap_or(0)
    }
}

impl<M: Multiply> Conv2dKernel<M::Activation> for Direct<M> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn isa(&self) -> Isa {
        self.0.isa()
    }

    fn supports(&self, _p: &Conv2dProblem) -> bool {
        true
    }

    fn scratch_len(&self, p: &Conv2dProblem) -> usize {
        let p = &flattened(p);
        let (input, grad_output) = (input_padding(p), grad_output_padding(p));
        let forward_slack = self.0.slack(&forward_grid(p, &input));
        let forward = self.padded_scratch_len(p, &input, forward_slack);
        let backward_slack = self.backward_slack(p, &grad_output);
        let backward = self.padded_scratch_len(p, &grad_output, backward_slack);
        forward.max(backward).max(self.0.backward_weight_scratch_len(p))
    }

    fn packed_weight_len(&self, p: &Conv2dProblem) -> usize {
        self.0.packed_len(&forward_weight(p))
    }

    fn pack_weight(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), p.weight_len());
        let (ic, taps) = (p.ic, p.kh * p.kw);
        let first_of = |row: usize| row % ic * taps + row / ic;
        let rows = Rows { values: weight, first_of, col_stride: ic * taps };
        self.0.pack(&forward_weight(p), packed, &rows);
    }

    fn packed_weight_backward_len(&self, p: &Conv2dProblem) -> usize {
        phases(p).map(|phase| self.0.packed_len(&phase_weight(p, phase))).sum()
    }

    fn pack_weight_backward(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), p.weight_len());
        let mut rest = packed;
        for (y, x) in phases(p) {
            let phase_weight = phase_weight(p, (y, x));
            let (packed, tail) = rest.split_at_mut(self.0.packed_len(&phase_weight));
            rest = tail;
            let first_of = |row: usize| {
                let (tap, oc_i) = (row / p.oc, row % p.oc);
                let kh_i = y.last_tap - tap / x.taps * p.sh;
                let kw_i = x.last_tap - tap % x.taps * p.sw;
                (oc_i * p.ic * p.kh + kh_i) * p.kw + kw_i
            };
            let rows = Rows { values: weight, first_of, col_stride: p.kh * p.kw };
            self.0.pack(&phase_weight, packed, &rows);
        }
        assert!(rest.is_empty(), "packed weight is {} elements too long", rest.len());
    }

    fn forward(
        &self,
        p: &Conv2dProblem,
        input: &[M::Activation],
        packed: &[f32],
        bias: Option<&[f32]>,
        output: &mut [M::Activation],
    ) {
        assert_eq!(input.len(), p.input_len());
        assert_eq!(output.len(), p.output_len());
        let start = match bias {
            Some(bias) => {
                assert_eq!(bias.len(), p.oc);
                output.chunks_exact_mut(p.oc).for_each(|pixel| convert(bias, pixel));
                Start::Output
            }
            None => Start::Zero,
        };
        let p = &flattened(p);
        let (padding, weight) = (input_padding(p), forward_weight(p));
        let grid = forward_grid(p, &padding);
        let (from, to) = ((input, p.ih * p.iw * p.ic), (output, grid.out_sample_stride));
        let slack = self.0.slack(&grid);
        self.for_each_few(p, &padding, slack, from, to, |x, output, num_samples| {
            let grid = Grid { num_samples, ..grid };
            self.0.run(&grid, &weight, start, x, packed, output);
        });
    }

    fn backward_data(
        &self,
        p: &Conv2dProblem,
        grad_output: &[M::Activation],
        packed_backward: &[f32],
        accumulate: bool,
        grad_input: &mut [M::Activation],
    ) {
        assert_eq!(grad_output.len(), p.output_len());
        assert_eq!(grad_input.len(), p.input_len());
        assert_eq!(packed_backward.len(), self.packed_weight_backward_len(p));
        let p = &flattened(p);
        let padding = grad_output_padding(p);
        let start = if accumulate { Start::Output } else { Start::Zero };
        let (input_len, output_len) = (p.ih * p.iw * p.ic, p.oh() * p.ow() * p.oc);
        let (from, to) = ((grad_output, output_len), (grad_input, input_len));
        let slack = self.backward_slack(p, &padding);
        self.for_each_few(p, &padding, slack, from, to, |grad_output, grad_input, num_samples| {
            let mut packed = packed_backward;
            for (y, x) in phases(p) {
                let weight = phase_weight(p, (y, x));
                let (w, rest) = packed.split_at(self.0.packed_len(&weight));
                packed = rest;
                let grid = Grid { num_samples, ..phase_grid(p, (y, x), &padding) };
                if grid.num_rows > 0 && grid.num_cols > 0 {
                    let first = (y.x0 * padding.padded_w + x.x0) * p.oc;
                    let out_first = (y.first * p.iw + x.first) * p.ic;
                    let (from, to) = (&grad_output[first..], &mut grad_input[out_first..]);
                    self.0.run(&grid, &weight, start, from, w, to);
                }
            }
        });
    }

    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize {
        self.0.packed_grad_len(p)
    }

    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[M::Activation],
        grad_output: &[M::Activation],
        packed_grad: &mut [f32],
    ) {
        assert_eq!(input.len(), p.input_len());
        assert_eq!(grad_output.len(), p.output_len());
        assert_eq!(packed_grad.len(), self.packed_grad_len(p));
        self.0.backward_weight(&flattened(p), input, grad_output, packed_grad);
    }

    fn unpack_grad(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        assert_eq!(grad_weight.len(), p.weight_len());
        let (ic, taps) = (p.ic, p.kh * p.kw);
        self.0.unpack_grad(p, packed_grad, |row, oc, grad| {
            let (tap, ic_i) = (row / ic, row % ic);
            grad_weight[(oc * ic + ic_i) * taps + tap] = grad;
        });
    }
}
