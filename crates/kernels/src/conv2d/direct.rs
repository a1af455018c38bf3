//! Direct convolution in f32: no im2col, the window of a padded sample is read where it lies.
//!
//! A row of a `kh×kw` window is `kw·ic` contiguous elements in NHWC, so a window is `kh` runs. With
//! stride 1 the adjoint in the input is the same walk over the padded output gradient with the
//! weight flipped and transposed. With stride `s` the input's pixels fall into `s·s` phases, each
//! such a walk with every `s`-th tap of the kernel; no multiplication with an inserted zero is done.

use super::Conv2dKernel;
use super::backward_weight;
use super::grid::Grid;
use super::packing::Packing;
use super::padding::Padding;
use super::tile::{ALONG_K, Start, Tiles};
use crate::{Conv2dProblem, Isa, scratch};

/// Direct convolution for one instruction set.
#[derive(Debug)]
pub(super) struct Direct {
    isa: Isa,
}

impl Direct {
    pub(super) const fn new(isa: Isa) -> Self {
        Self { isa }
    }

    fn lanes(&self) -> usize {
        Tiles::of(self.isa, ALONG_K).lanes
    }

    fn forward_packing(&self, p: &Conv2dProblem) -> Packing {
        Packing { lanes: self.lanes(), num_rows: p.kh * p.kw * p.ic, num_cols: p.oc }
    }
}

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

fn phase_packing(p: &Conv2dProblem, lanes: usize, (y, x): (Phase, Phase)) -> Packing {
    Packing { lanes, num_rows: y.taps * x.taps * p.oc, num_cols: p.ic }
}

impl Conv2dKernel for Direct {
    fn name(&self) -> &'static str {
        match self.isa {
            Isa::Portable => "portable_conv2d_f32_direct",
            Isa::Avx2 => "avx2_conv2d_f32_direct",
            Isa::Avx512 => "avx512_conv2d_f32_direct",
        }
    }

    fn isa(&self) -> Isa {
        self.isa
    }

    fn supports(&self, _p: &Conv2dProblem) -> bool {
        true
    }

    fn scratch_len(&self, p: &Conv2dProblem) -> usize {
        let p = &flattened(p);
        let data = [input_padding(p), grad_output_padding(p)]
            .map(|padding| padding.scratch_len(padding.samples_at_once(p.weight_len())));
        data[0].max(data[1]).max(backward_weight::scratch_len(p, self.lanes()))
    }

    fn packed_weight_len(&self, p: &Conv2dProblem) -> usize {
        self.forward_packing(p).len()
    }

    fn pack_weight(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), p.weight_len());
        let (ic, taps) = (p.ic, p.kh * p.kw);
        self.forward_packing(p).pack(packed, |row, oc| {
            let (tap, ic_i) = (row / ic, row % ic);
            weight[(oc * ic + ic_i) * taps + tap]
        });
    }

    fn packed_weight_backward_len(&self, p: &Conv2dProblem) -> usize {
        phases(p).map(|phase| phase_packing(p, self.lanes(), phase).len()).sum()
    }

    fn pack_weight_backward(&self, p: &Conv2dProblem, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), p.weight_len());
        let mut rest = packed;
        for (y, x) in phases(p) {
            let packing = phase_packing(p, self.lanes(), (y, x));
            let (packed, tail) = rest.split_at_mut(packing.len());
            rest = tail;
            packing.pack(packed, |row, ic_i| {
                let (tap, oc_i) = (row / p.oc, row % p.oc);
                let kh_i = y.last_tap - tap / x.taps * p.sh;
                let kw_i = x.last_tap - tap % x.taps * p.sw;
                weight[((oc_i * p.ic + ic_i) * p.kh + kh_i) * p.kw + kw_i]
            });
        }
        assert!(rest.is_empty(), "packed weight is {} elements too long", rest.len());
    }

    fn forward(
        &self,
        p: &Conv2dProblem,
        input: &[f32],
        packed: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        assert_eq!(input.len(), p.input_len());
        assert_eq!(output.len(), p.output_len());
        let start = match bias {
            Some(bias) => {
                assert_eq!(bias.len(), p.oc);
                output.chunks_exact_mut(p.oc).for_each(|pixel| pixel.copy_from_slice(bias));
                Start::Output
            }
            None => Start::Zero,
        };
        let p = &flattened(p);
        let padding = input_padding(p);
        let row_len = padding.padded_w * p.ic;
        let grid = Grid {
            num_samples: 0,
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
        };
        let packing = self.forward_packing(p);
        let (input_len, output_len) = (p.ih * p.iw * p.ic, p.oh() * p.ow() * p.oc);
        for_each_few(&padding, p, (input, input_len), (output, output_len), |x, output| {
            let grid = Grid { num_samples: output.len() / output_len, ..grid };
            grid.run(self.isa, &packing, start, x, packed, output);
        });
    }

    fn backward_data(
        &self,
        p: &Conv2dProblem,
        grad_output: &[f32],
        packed_backward: &[f32],
        accumulate: bool,
        grad_input: &mut [f32],
    ) {
        assert_eq!(grad_output.len(), p.output_len());
        assert_eq!(grad_input.len(), p.input_len());
        assert_eq!(packed_backward.len(), self.packed_weight_backward_len(p));
        let p = &flattened(p);
        let padding = grad_output_padding(p);
        let start = if accumulate { Start::Output } else { Start::Zero };
        let (input_len, output_len) = (p.ih * p.iw * p.ic, p.oh() * p.ow() * p.oc);
        let (from, to) = ((grad_output, output_len), (grad_input, input_len));
        for_each_few(&padding, p, from, to, |x, grad_input| {
            let mut packed = packed_backward;
            for phase in phases(p) {
                let packing = phase_packing(p, self.lanes(), phase);
                let (w, rest) = packed.split_at(packing.len());
                packed = rest;
                self.run_phase(p, phase, &packing, start, &padding, x, w, grad_input);
            }
        });
    }

    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize {
        self.forward_packing(p).len()
    }

    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[f32],
        grad_output: &[f32],
        packed_grad: &mut [f32],
    ) {
        assert_eq!(input.len(), p.input_len());
        assert_eq!(grad_output.len(), p.output_len());
        let packing = self.forward_packing(p);
        assert_eq!(packed_grad.len(), packing.len());
        let p = &flattened(p);
        backward_weight::run(self.isa, p, &packing, input, grad_output, packed_grad);
    }

    fn unpack_grad(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        assert_eq!(grad_weight.len(), p.weight_len());
        let (ic, taps) = (p.ic, p.kh * p.kw);
        self.forward_packing(p).unpack(packed_grad, |row, oc, grad| {
            let (tap, ic_i) = (row / ic, row % ic);
            grad_weight[(oc * ic + ic_i) * taps + tap] = grad;
        });
    }
}

impl Direct {
    #[allow(clippy::too_many_arguments, reason = "operands of one walk")]
    fn run_phase(
        &self,
        p: &Conv2dProblem,
        (y, x): (Phase, Phase),
        packing: &Packing,
        start: Start,
        padding: &Padding,
        grad_output: &[f32],
        w: &[f32],
        grad_input: &mut [f32],
    ) {
        if y.count == 0 || x.count == 0 {
            return;
        }
        let row_len = padding.padded_w * p.oc;
        let grid = Grid {
            num_samples: grad_input.len() / (p.ih * p.iw * p.ic),
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
        };
        let grad_output = &grad_output[y.x0 * row_len + x.x0 * p.oc..];
        let grad_input = &mut grad_input[(y.first * p.iw + x.first) * p.ic..];
        grid.run(self.isa, packing, start, grad_output, w, grad_input);
    }
}

/// Calls `f` with a few padded samples of `from` at a time and their part of `to`; each comes with
/// the length of one sample.
fn for_each_few(
    padding: &Padding,
    p: &Conv2dProblem,
    (from, from_len): (&[f32], usize),
    (to, to_len): (&mut [f32], usize),
    mut f: impl FnMut(&[f32], &mut [f32]),
) {
    let few = padding.samples_at_once(p.weight_len());
    scratch::with(padding.scratch_len(few), |scratch| {
        for (from, to) in from.chunks(few * from_len).zip(to.chunks_mut(few * to_len)) {
            f(padding.pad(from, scratch), to);
        }
    });
}
