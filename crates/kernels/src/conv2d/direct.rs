//! Direct convolution: no im2col, the window of a padded sample is read where it lies.
//!
//! A row of a `kh×kw` window is `kw·ic` contiguous elements in NHWC, so a window is `kh` runs. With
//! stride 1 the adjoint in the input is the same walk over the padded output gradient with the
//! weight flipped and transposed. With stride `s` the input's pixels fall into `s·s` phases, each
//! such a walk with every `s`-th tap of the kernel; no multiplication with an inserted zero is done.
//!
//! Samples are laid out a few at a time; the backward lays out the output gradient once for both of
//! its products.

use super::ahead::Ahead;
use super::geometry::{
    self, forward_grid, forward_weight, is_pointwise, longest_part, parts, phase_grid,
    phase_weight, phases,
};
use super::grid::{Grid, split};
use super::lay_out::lay_out;
use super::multiply::{GradOperands, Multiply, MultiplyGrads, Rows};
use super::sums::Sums;
use super::tile::Start;
use super::{
    Addend, Backward, Conv2dKernel, Forward, GradInput, GradWeight, KeptOperands, PART_CHANNELS,
    begin_grad, check_problem,
};
use crate::padding::Padding;
use crate::{Conv2dProblem, Element, Isa, Source, scratch};
use std::ops::Range;

/// Direct convolution with one way to multiply.
#[derive(Debug)]
pub(super) struct Direct<M>(pub(super) M);

/// Elements of working memory of the parts of a pass.
#[derive(Debug, Clone, Copy)]
struct Memory {
    input: usize,
    grad_output: usize,
    grad_weight: usize,
}

impl Memory {
    fn total(&self) -> usize {
        self.input + self.grad_output + self.grad_weight
    }
}

/// What becomes of the gradient of the weight.
enum WeightGrad<'a> {
    None,
    /// It starts from what is said, then from itself.
    Packed(&'a mut [f32], Start),
    Kept(&'a mut KeptOperands),
}

impl<M: Multiply> Direct<M> {
    fn input_padding(p: &Conv2dProblem, oh: &Range<usize>) -> Padding {
        Self::spread(p, geometry::input_padding(p, oh))
    }

    fn grad_output_padding(p: &Conv2dProblem) -> Padding {
        Self::spread(p, geometry::grad_output_padding(p))
    }

    /// With pixels as far from each other as they are multiplied best.
    fn spread(p: &Conv2dProblem, padding: Padding) -> Padding {
        match (p.kh, p.kw) {
            (1, 1) => Padding { pitch: M::pixel_pitch(padding.c), ..padding },
            _ => padding,
        }
    }

    /// Samples that a forward of the output rows `oh` lays out at once, and the memory for them.
    fn forward_memory(&self, p: &Conv2dProblem, oh: &Range<usize>) -> (usize, Memory) {
        let padding = Self::input_padding(p, oh);
        let few = padding.samples_at_once(p.weight_len()).min(p.n.max(1));
        let slack = self.0.slack(&forward_grid(p, oh, &padding), &forward_weight(p));
        let input = padding.total_len(few) + slack;
        (few, Memory { input, grad_output: 0, grad_weight: 0 })
    }

    /// The most samples that a backward lays out at once.
    fn most_in_backward(&self, p: &Conv2dProblem) -> usize {
        let (x, grad) = (Self::input_padding(p, &(0..p.oh())), Self::grad_output_padding(p));
        self.0.grads().samples_at_once(p, &x, &grad).min(p.n.max(1))
    }

    /// Samples that a backward lays out at once: even pieces, whose borders are the same.
    fn few_in_backward(&self, p: &Conv2dProblem) -> usize {
        let (_, few) = split(p.n.max(1), self.most_in_backward(p)).next().expect("one piece");
        few
    }

    /// The memory that a backward takes for samples that are laid out at once.
    fn backward_memory(&self, p: &Conv2dProblem, few: usize) -> Memory {
        let (x, grad) = (Self::input_padding(p, &(0..p.oh())), Self::grad_output_padding(p));
        let grad_output = grad.total_len(few) + self.backward_slack(p, &grad);
        Memory {
            input: 0,
            // What follows begins at a cache line.
            grad_output: grad_output.next_multiple_of(32),
            grad_weight: self.0.grads().memory_len(p, few, &x),
        }
    }

    /// Elements that either product may read after the padded output gradient.
    fn backward_slack(&self, p: &Conv2dProblem, padding: &Padding) -> usize {
        let slacks = phases(p)
            .map(|phase| self.0.slack(&phase_grid(p, phase, padding), &phase_weight(p, phase)));
        slacks.max().unwrap_or(0).max(self.0.grads().slack(p))
    }

    /// A part of a forward, which is added to the output or not.
    fn forward_part(
        &self,
        p: &Conv2dProblem,
        oh: &Range<usize>,
        start: Start,
        call: Forward<'_, M::Activation>,
    ) {
        let Forward { mut input, packed, output, mut sums, .. } = call;
        let (padding, weight) = (Self::input_padding(p, oh), forward_weight(p));
        let grid = forward_grid(p, oh, &padding);
        let (few, memory) = self.forward_memory(p, oh);
        let slack = self.0.slack(&grid, &weight);
        // Without a bias only, the first product is near the mean, as moments want it.
        let fused = M::FUSES_SUMS && start == Start::Zero;
        scratch::with_operands(memory.total(), |memory| {
            let (mut first, mut before) = (0, 0);
            for output in output.chunks_mut(few * grid.out_sample_stride) {
                let samples = input.take_front(few * padding.sample_len());
                let num_samples = samples.len() / padding.sample_len();
                let mut ahead = Ahead::of_forward(&samples, output);
                let x = lay_out(self.isa(), &padding, slack, samples, before, memory);
                before = num_samples;
                let part = sums.part(first..first + output.len());
                first += output.len();
                let grid = Grid { num_samples, ..grid };
                let (on_the_way, after) =
                    if fused { (part, Sums::None) } else { (Sums::None, part) };
                self.0.run(&grid, &weight, start, x, packed, output, on_the_way, &mut ahead);
                after.add(self.isa(), output);
            }
        });
    }

    /// A part of a backward.
    fn backward_part(
        &self,
        p: &Conv2dProblem,
        mut input: Source<'_, M::Activation>,
        mut grad_output: Source<'_, M::Activation>,
        packed_backward: &[f32],
        mut grad_input: Option<GradInput<'_, M::Activation>>,
        weight: &mut WeightGrad<'_>,
    ) {
        let x_padding = Self::input_padding(p, &(0..p.oh()));
        let grad_padding = Self::grad_output_padding(p);
        let few = self.few_in_backward(p);
        let memory = self.backward_memory(p, few);
        let slack = self.backward_slack(p, &grad_padding);
        scratch::with_operands(memory.total(), |all| {
            let (grad_memory, rest) = all.split_at_mut(memory.grad_output);
            let (mut first, mut before, input_len) = (0, 0, p.ih * p.iw * p.ic);
            while !grad_output.is_empty() {
                let samples = grad_output.take_front(few * grad_padding.sample_len());
                let num_samples = samples.len() / grad_padding.sample_len();
                let wanted = !matches!(weight, WeightGrad::None);
                let x_samples = wanted.then(|| input.take_front(few * x_padding.sample_len()));
                let made = first..first + num_samples * input_len;
                first = made.end;
                let grad_input = grad_input.as_mut().map(|call| call.part(made));
                let mut ahead =
                    Ahead::of_backward(&samples, x_samples.as_ref(), grad_input.as_ref());
                let grad = lay_out(self.isa(), &grad_padding, slack, samples, before, grad_memory);
                if let Some(x) = x_samples {
                    let operands =
                        GradOperands { num_samples, before, x, x_padding, grad, grad_padding };
                    self.grad_weight(p, operands, rest, weight, &mut ahead);
                }
                before = num_samples;
                if let Some(call) = grad_input {
                    self.grad_input(p, &grad_padding, grad, packed_backward, call, &mut ahead);
                }
            }
        });
    }

    /// The gradient of the weight over some samples, or its operands.
    fn grad_weight(
        &self,
        p: &Conv2dProblem,
        operands: GradOperands<'_, M::Activation, M::Operand>,
        memory: &mut [M::Operand],
        weight: &mut WeightGrad<'_>,
        ahead: &mut Ahead,
    ) {
        let grads = self.0.grads();
        match weight {
            WeightGrad::None => {}
            WeightGrad::Packed(packed_grad, start) => {
                let start = std::mem::replace(start, Start::Output);
                grads.run(p, operands, start, memory, packed_grad, ahead);
            }
            WeightGrad::Kept(kept) => {
                let p = p.with_n(operands.num_samples);
                let Some(len) = grads.kept_len(&p, p.n) else {
                    panic!("{} keeps no operands", self.0.name())
                };
                grads.keep(&p, operands, memory, kept.add(&p, len));
            }
        }
    }

    /// The gradient of the input of some samples.
    fn grad_input(
        &self,
        p: &Conv2dProblem,
        padding: &Padding,
        grad_output: &[M::Operand],
        mut packed: &[f32],
        call: GradInput<'_, M::Activation>,
        ahead: &mut Ahead,
    ) {
        let GradInput { grad_input, addend, mut sums } = call;
        let num_samples = grad_input.len() / (p.ih * p.iw * p.ic);
        if let Addend::ZeroPad(shortcut) = addend {
            shortcut.write_kept(grad_input);
        }
        // A phase without taps makes no products that could be added up on their way.
        let fused = M::FUSES_SUMS && phases(p).all(|(y, x)| y.taps * x.taps > 0);
        for phase in phases(p) {
            let weight = phase_weight(p, phase);
            let (w, rest) = packed.split_at(self.0.packed_len(&weight));
            packed = rest;
            let start = match addend {
                Addend::None => Start::Zero,
                Addend::InPlace => Start::Output,
                Addend::ZeroPad(_) => Start::accumulating((phase.0.first, phase.1.first) == (0, 0)),
            };
            let grid = Grid { num_samples, ..phase_grid(p, phase, padding) };
            if grid.num_rows > 0 && grid.num_cols > 0 {
                let sums = if fused { sums.part(0..grad_input.len()) } else { Sums::None };
                self.0.run(&grid, &weight, start, grad_output, w, grad_input, sums, ahead);
            }
        }
        if !fused {
            sums.add(self.isa(), grad_input);
        }
    }
}

/// Whether the pixels that a shortcut's gradient goes to are those of the first phase of each sample.
fn has_phase_of_addend<E: Element>(p: &Conv2dProblem, addend: &Addend<'_, E>) -> bool {
    let Addend::ZeroPad(shortcut) = addend else { return false };
    !is_pointwise(p) && [p.sh, p.sw] == [shortcut.problem().stride; 2]
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
        let (p, _) = &longest_part(p);
        let forward = self.forward_memory(p, &(0..p.oh())).1;
        let backward = self.backward_memory(p, self.most_in_backward(p));
        scratch::len_of::<M::Operand>(forward.total().max(backward.total()))
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

    fn run_forward_rows(
        &self,
        p: &Conv2dProblem,
        oh: Range<usize>,
        mut call: Forward<'_, M::Activation>,
    ) {
        let start = call.begin(p, &oh, self);
        if !is_pointwise(p) {
            return self.forward_part(p, &oh, start, call);
        }
        let Forward { mut input, packed, output, mut sums, .. } = call;
        input.take_front(oh.start * p.iw * p.ic);
        let mut first = 0;
        for p in parts(&Conv2dProblem { ih: oh.len(), ..*p }) {
            let made = first..first + p.output_len();
            first = made.end;
            let (input, sums) = (input.take_front(p.input_len()), sums.part(made.clone()));
            let call = Forward { input, packed, bias: None, output: &mut output[made], sums };
            self.forward_part(&p, &(0..p.oh()), start, call);
        }
    }

    fn run_backward(&self, p: &Conv2dProblem, call: Backward<'_, M::Activation>) {
        call.check(p, self);
        let Backward { mut input, mut grad_output, packed_backward, mut grad_input, grad_weight } =
            call;
        if let Some(call) = &mut grad_input
            && !has_phase_of_addend(p, &call.addend)
        {
            call.write_addend();
        }
        let mut weight = match grad_weight {
            None => WeightGrad::None,
            Some(GradWeight::Packed { packed_grad, accumulate }) => {
                let (packed_grad, start) = begin_grad(packed_grad, accumulate, p.n);
                WeightGrad::Packed(packed_grad, start)
            }
            Some(GradWeight::Kept(kept)) => WeightGrad::Kept(kept),
        };
        let mut first = 0;
        for p in parts(p) {
            let made = first..first + p.input_len();
            first = made.end;
            let (input, grad_output) =
                (input.take_front(p.input_len()), grad_output.take_front(p.output_len()));
            let grad_input = grad_input.as_mut().map(|call| call.part(made));
            self.backward_part(&p, input, grad_output, packed_backward, grad_input, &mut weight);
        }
    }

    fn packed_grad_len(&self, p: &Conv2dProblem) -> usize {
        self.0.grads().packed_len(p)
    }

    fn unpack_grad(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        assert_eq!(grad_weight.len(), p.weight_len());
        self.0.grads().unpack(p, packed_grad, grad_weight);
    }

    fn kept_len(&self, p: &Conv2dProblem) -> Option<usize> {
        let grads = self.0.grads();
        // Of no samples, too, only what can be kept.
        grads.kept_len(p, 1)?;
        let (part, num_parts) = longest_part(p);
        let few = self.few_in_backward(&part);
        let room = |num_samples| match num_samples {
            0 => Some(0),
            _ => grads.kept_len(&part, num_samples).map(KeptOperands::room::<M::Operand>),
        };
        let whole = room(few.min(part.n))?.saturating_mul(part.n / few);
        Some(whole.saturating_add(room(part.n % few)?).saturating_mul(num_parts))
    }

    fn grad_weight_of_kept(
        &self,
        p: &Conv2dProblem,
        oc: Range<usize>,
        kept: &[&KeptOperands],
        packed_grad: &mut [f32],
    ) {
        check_problem(p, self);
        assert!(oc.start.is_multiple_of(PART_CHANNELS) && oc.end <= p.oc, "{p} has no {oc:?}");
        let part = Conv2dProblem { oc: oc.len(), ..*p };
        assert_eq!(packed_grad.len(), self.packed_grad_len(&part));
        let pieces = kept.iter().flat_map(|kept| kept.pieces());
        let weights = |p: &Conv2dProblem| (p.ic, p.oc, p.kh, p.kw, p.sh, p.sw);
        let are_of_weight = pieces.clone().all(|(piece, _)| weights(piece) == weights(p));
        assert!(are_of_weight, "operands that are kept are of another convolution than {p}");
        self.0.grads().run_kept(p, oc, pieces, packed_grad);
    }
}
