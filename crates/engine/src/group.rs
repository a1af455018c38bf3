//! A group: some samples of the batch and everything computed for them.

use crate::bands;
use crate::buffer::{samples, samples_mut};
use crate::conv::{Conv, ConvGrad};
use crate::norm::{Norm, NormPartial};
use crate::step::{
    Addend, GradInput, GradOutput, GradSlot, GradSums, Input, Mask, Phase, Residual, Slot, Step,
};
use crate::threads::{lock, read, write};
use residua_kernels::conv2d::{
    Backward, ConvElement, Forward, GradWeight, KeptOperands, Moments, NormGradSums, Sums,
};
use residua_kernels::{
    self as kernels, Aligned, Isa, MaxPoolProblem, NormGrad, Normalised, Source, ZeroPadProblem,
    add, batch_norm, conv2d, global_avg_pool, max_pool, relu,
    zero_pad::{self, ZeroPadGrad, ZeroPadded},
};
use std::mem::{swap, take};
use std::ops::Range;
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

/// The most groups a batch is cut into. There is always a power of two of them, so that the usual
/// numbers of threads get as much work each.
pub(crate) const MAX_GROUPS: usize = 16;

/// What all groups read.
#[derive(Debug)]
pub(crate) struct Shared<E: 'static> {
    pub(crate) isa: Isa,
    pub(crate) convs: Vec<Conv<E>>,
    pub(crate) norms: Vec<Norm>,
    /// Sizes for one sample.
    pub(crate) pools: Vec<MaxPoolProblem>,
    /// For each thread, buffers of what lives in one phase only.
    pub(crate) local: Vec<Mutex<Vec<Aligned<E>>>>,
    /// For each buffer of operands that are kept until the next phase, one for each group.
    pub(crate) kept: Vec<Vec<RwLock<KeptOperands>>>,
}

/// Sizes of a group's buffers.
pub(crate) struct GroupSizes<'a> {
    /// Samples that activations and gradients are kept of.
    pub(crate) num_kept: usize,
    /// Elements of each activation buffer for one sample.
    pub(crate) activations: &'a [usize],
    /// Elements of each gradient buffer for one sample.
    pub(crate) grads: &'a [usize],
    /// Whether gradients of weights are made.
    pub(crate) train: bool,
    /// Steps of the plan.
    pub(crate) num_steps: usize,
    pub(crate) num_groups: usize,
}

impl GroupSizes<'_> {
    /// Bytes of activations, gradients and gradients of weights that all groups keep.
    pub(crate) fn bytes<E>(&self, shared: &Shared<E>) -> usize {
        let values = self.activations.iter().chain(self.grads);
        let values = values.fold(0_usize, |sum, &len| sum.saturating_add(len));
        let weights = shared.convs.iter().filter(|_| self.train);
        let weights = weights.flat_map(|conv| {
            (0..self.num_groups).map(|group| conv.group_grad_len(group, self.num_groups))
        });
        let weights = weights.fold(0_usize, usize::saturating_add);
        let samples = self.num_kept.saturating_mul(self.num_groups);
        let bytes = values.saturating_mul(samples).saturating_mul(size_of::<E>());
        bytes.saturating_add(weights.saturating_mul(size_of::<f32>()))
    }
}

/// Some samples of the batch. No other group touches what it owns.
#[derive(Debug)]
pub(crate) struct Group<E> {
    /// Its place among the groups.
    index: usize,
    /// Samples of the current batch that are its own.
    pub(crate) num_samples: usize,
    /// Threads for each of them; one, where there are as many samples.
    pub(crate) threads_per_sample: usize,
    activations: Vec<Aligned<E>>,
    grads: Vec<Aligned<E>>,
    /// The thread's buffers while it runs a phase.
    local: Vec<Aligned<E>>,
    /// For each pool, which input won.
    pool_indices: Vec<Vec<u8>>,
    pub(crate) conv_grads: Vec<ConvGrad>,
    pub(crate) norm_partials: Vec<NormPartial>,
    /// Time spent on each step.
    pub(crate) spent: Vec<Duration>,
}

impl<E: ConvElement> Group<E> {
    /// All groups. What lives as long as the batch lies in memory in the order of the batch: kernels fetch
    /// what comes next before it is asked for.
    pub(crate) fn all_of(shared: &Shared<E>, sizes: &GroupSizes<'_>) -> Vec<Self> {
        let num = sizes.num_groups;
        let parts = |lens: &[usize]| -> Vec<Vec<_>> {
            lens.iter().map(|len| Aligned::parts(len * sizes.num_kept, num).collect()).collect()
        };
        let (mut activations, mut grads) = (parts(sizes.activations), parts(sizes.grads));
        let take = |buffers: &mut [Vec<Aligned<E>>], i: usize| -> Vec<_> {
            buffers.iter_mut().map(|parts| std::mem::take(&mut parts[i])).collect()
        };
        let buffers = (0..num).map(|i| (take(&mut activations, i), take(&mut grads, i)));
        let groups = buffers.enumerate();
        groups.map(|(index, buffers)| Self::new(shared, sizes, index, buffers)).collect()
    }

    fn new(
        shared: &Shared<E>,
        sizes: &GroupSizes<'_>,
        index: usize,
        (activations, grads): (Vec<Aligned<E>>, Vec<Aligned<E>>),
    ) -> Self {
        let kept = sizes.num_kept;
        let conv_grads = shared.convs.iter().filter(|_| sizes.train).map(|conv| ConvGrad {
            packed: Aligned::zeroed(conv.group_grad_len(index, sizes.num_groups)),
            bias: vec![0.0; conv.bias.as_ref().map_or(0, Range::len)],
        });
        let partials = shared.norms.iter().filter(|_| sizes.train);
        Self {
            index,
            num_samples: 0,
            threads_per_sample: 1,
            activations,
            grads,
            local: Vec::new(),
            pool_indices: shared.pools.iter().map(|p| vec![0; p.output_len() * kept]).collect(),
            conv_grads: conv_grads.collect(),
            norm_partials: partials.map(|norm| NormPartial::new(norm.weight.len())).collect(),
            spent: vec![Duration::ZERO; sizes.num_steps],
        }
    }

    /// The samples' places among those kept.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.num_samples
    }

    pub(crate) fn activation(&self, slot: Slot, which: &Range<usize>) -> &[E] {
        samples(&self.activations[slot.buffer], slot.len, which)
    }

    fn grad(&self, slot: GradSlot, which: &Range<usize>) -> &[E] {
        match slot.local {
            true => samples(&self.local[slot.buffer], slot.len, &(0..which.len())),
            false => samples(&self.grads[slot.buffer], slot.len, which),
        }
    }

    /// Runs a phase on all samples, a few at a time.
    pub(crate) fn run(&mut self, shared: &Shared<E>, phase: &Phase) {
        let thread = rayon::current_thread_index().unwrap_or(0) % shared.local.len();
        let mut local = lock(&shared.local[thread]);
        swap(&mut self.local, &mut local);
        for (i, step) in phase.steps[..phase.num_once].iter().enumerate() {
            let start = Instant::now();
            self.step(shared, step, &self.all());
            self.spent[phase.first_step + i] += start.elapsed();
        }
        for first in (0..self.num_samples).step_by(phase.samples_at_once) {
            let end = first.saturating_add(phase.samples_at_once);
            let which = first..self.num_samples.min(end);
            self.run_steps(shared, phase, &which);
        }
        swap(&mut self.local, &mut local);
    }

    /// Runs a phase's steps on some samples.
    pub(crate) fn run_steps(&mut self, shared: &Shared<E>, phase: &Phase, which: &Range<usize>) {
        for (i, step) in phase.steps.iter().enumerate().skip(phase.num_once) {
            let start = Instant::now();
            self.step(shared, step, which);
            let num_threads = step.conv().map_or(1, |conv| self.num_bands(shared, conv, which));
            self.spent[phase.first_step + i] += start.elapsed() * num_threads as u32;
        }
    }

    /// On how many threads a convolution of these samples is done.
    fn num_bands(&self, shared: &Shared<E>, conv: usize, which: &Range<usize>) -> usize {
        let Conv { problem, kernel, .. } = &shared.convs[conv];
        match which.len() {
            1 => bands::number(*kernel, problem, self.threads_per_sample),
            _ => 1,
        }
    }

    /// Calls `f` with an activation's samples to be written, and the group to read others from.
    pub(crate) fn write(
        &mut self,
        slot: Slot,
        which: &Range<usize>,
        f: impl FnOnce(&Self, &mut [E]),
    ) {
        let Slot { buffer, len } = slot;
        self.write_in(|group| &mut group.activations[buffer], len, which, f);
    }

    /// As [`write`](Self::write), for a gradient.
    pub(crate) fn write_grad(
        &mut self,
        slot: GradSlot,
        which: &Range<usize>,
        f: impl FnOnce(&Self, &mut [E]),
    ) {
        let GradSlot { buffer, len, local } = slot;
        match local {
            true => self.write_in(|group| &mut group.local[buffer], len, &(0..which.len()), f),
            false => self.write_in(|group| &mut group.grads[buffer], len, which, f),
        }
    }

    /// Takes a buffer out of the group while `f` writes to it.
    fn write_in(
        &mut self,
        buffer: impl Fn(&mut Self) -> &mut Aligned<E>,
        len: usize,
        which: &Range<usize>,
        f: impl FnOnce(&Self, &mut [E]),
    ) {
        let mut taken = take(buffer(self));
        f(self, samples_mut(&mut taken, len, which));
        *buffer(self) = taken;
    }

    fn step(&mut self, shared: &Shared<E>, step: &Step, which: &Range<usize>) {
        let (isa, n) = (shared.isa, which.len());
        match *step {
            Step::Conv { conv, input, output, moments } => {
                self.conv(shared, conv, input, (output, moments), which);
            }
            Step::Moments { norm, input } => self.add_moments(shared, norm, input, which),
            Step::Normalise { norm, input, residual, relu, output } => {
                self.write(output, which, |group, output| {
                    let from = group.normalised(shared, norm, (input, residual, relu), which);
                    batch_norm::normalise(isa, from, output);
                });
            }
            Step::Relu { input, output } => self.write(output, which, |group, output| {
                relu::forward(isa, group.activation(input, which), output);
            }),
            Step::Add { left, right, relu, output } => {
                self.write(output, which, |group, output| {
                    let (left, right) =
                        (group.activation(left, which), group.activation(right, which));
                    add::add_relu(isa, left, right, relu, output);
                })
            }
            Step::MaxPool { pool, input, output } => {
                let mut index = take(&mut self.pool_indices[pool]);
                self.write(output, which, |group, output| {
                    let index = &mut index[which.start * output.len() / n..][..output.len()];
                    let problem = MaxPoolProblem { n, ..shared.pools[pool] };
                    let input = group.source(shared, input, None, which);
                    max_pool::forward_of(isa, &problem, input, output, index);
                });
                self.pool_indices[pool] = index;
            }
            Step::GlobalAvgPool { num_pixels, c, input, output } => {
                self.write(output, which, |group, output| {
                    let input = group.activation(input, which);
                    global_avg_pool::forward(isa, num_pixels, c, input, output);
                });
            }
            Step::ZeroPad { mut problem, input, output } => {
                problem.n = n;
                self.write(output, which, |group, output| {
                    zero_pad::forward(isa, &problem, group.activation(input, which), output);
                });
            }
            _ => self.backward_step(shared, step, which),
        }
    }

    fn backward_step(&mut self, shared: &Shared<E>, step: &Step, which: &Range<usize>) {
        let (isa, n) = (shared.isa, which.len());
        match *step {
            Step::NormGradSums { sums, grad_output } => {
                let mut partial = take(&mut self.norm_partials[sums.norm]);
                self.write_grad(grad_output, which, |group, grad_output| {
                    group.grad_sums(shared, sums, &mut partial, which).add(isa, grad_output);
                });
                self.norm_partials[sums.norm] = partial;
            }
            Step::NormGradInput { norm, input, grad_output, grad_input } => {
                self.write_grad(grad_input, which, |group, grad_input| {
                    let from = group.norm_grad(shared, norm, input, grad_output, which);
                    batch_norm::backward_apply(isa, from, grad_input);
                });
            }
            Step::ConvGrad { conv, input, grad_output, grad_input, keep } => {
                self.conv_grad(shared, (conv, keep), input, grad_output, grad_input, which);
            }
            Step::WeightGrad { conv, kept } => self.weight_grad(shared, conv, kept),
            Step::ReluGrad { output, grad } => self.write_grad(grad, which, |group, grad| {
                relu::backward(isa, group.activation(output, which), grad);
            }),
            Step::MaxPoolGrad { pool, grad_output, grad_input, sums } => {
                let mut partial = sums.map(|sums| take(&mut self.norm_partials[sums.norm]));
                self.write_grad(grad_input, which, |group, grad_input| {
                    let problem = MaxPoolProblem { n, ..shared.pools[pool] };
                    let grad_output = group.grad(grad_output, which);
                    let first = which.start * grad_output.len() / n;
                    let index = &group.pool_indices[pool][first..][..grad_output.len()];
                    let sums = group.sums(shared, sums, &mut partial, which);
                    max_pool::backward_with_sums(
                        isa,
                        &problem,
                        grad_output,
                        index,
                        grad_input,
                        sums,
                    );
                });
                if let (Some(sums), Some(partial)) = (sums, partial) {
                    self.norm_partials[sums.norm] = partial;
                }
            }
            Step::GlobalAvgPoolGrad { num_pixels, c, grad_output, grad_input } => {
                self.write_grad(grad_input, which, |group, grad_input| {
                    let grad_output = group.grad(grad_output, which);
                    global_avg_pool::backward(isa, num_pixels, c, grad_output, grad_input);
                });
            }
            Step::ZeroPadGrad { mut problem, grad_output, grad_input, accumulate } => {
                problem.n = n;
                self.write_grad(grad_input, which, |group, grad_input| {
                    let grad_output = group.grad(grad_output, which);
                    zero_pad::backward(isa, &problem, grad_output, accumulate, grad_input);
                });
            }
            Step::AddGrad { grad, other } => self.write_grad(grad, which, |group, grad| {
                add::add_assign(isa, grad, group.grad(other, which));
            }),
            Step::CopyGrad { from, to } => self.write_grad(to, which, |group, to| {
                to.copy_from_slice(group.grad(from, which));
            }),
            _ => unreachable!("{step:?} is no backward step"),
        }
    }

    fn add_moments(&mut self, shared: &Shared<E>, norm: usize, input: Slot, which: &Range<usize>) {
        let mut partial = take(&mut self.norm_partials[norm]);
        let NormPartial { count, mean, m2, .. } = &mut partial;
        batch_norm::moments(shared.isa, self.activation(input, which), *count, mean, m2);
        *count += which.len() * shared.norms[norm].num_pixels;
        self.norm_partials[norm] = partial;
    }

    /// A convolution, from what it reads to the moments of its output.
    fn conv(
        &mut self,
        shared: &Shared<E>,
        conv: usize,
        input: Input,
        (output, moments): (Slot, Option<usize>),
        which: &Range<usize>,
    ) {
        let Conv { problem, kernel, packed, packed_bias, .. } = &shared.convs[conv];
        let num_bands = self.num_bands(shared, conv, which);
        let mut partial = moments.map(|norm| take(&mut self.norm_partials[norm]));
        let mut kept = match input {
            Input::Normalised { output: Some(slot), .. } => {
                Some((slot, take(&mut self.activations[slot.buffer])))
            }
            _ => None,
        };
        self.write(output, which, |group, output| {
            let kept = kept.as_mut().map(|(slot, kept)| samples_mut(kept, slot.len, which));
            let sums = match &mut partial {
                Some(NormPartial { count, mean, m2, .. }) => {
                    Sums::Moments(Moments { count: *count, mean, m2 })
                }
                None => Sums::None,
            };
            let (input, bias) = (group.source(shared, input, kept, which), packed_bias.as_deref());
            let call = Forward { input, packed, bias, output, sums };
            let problem = problem.with_n(which.len());
            match num_bands {
                1 => kernel.run_forward(&problem, call),
                _ => bands::run_forward(*kernel, &problem, call, num_bands),
            }
        });
        if let Some((slot, kept)) = kept {
            self.activations[slot.buffer] = kept;
        }
        if let (Some(norm), Some(mut partial)) = (moments, partial) {
            partial.count += which.len() * shared.norms[norm].num_pixels;
            self.norm_partials[norm] = partial;
        }
    }

    /// What a convolution or a max pool reads, which is stored in `kept` too.
    fn source<'a>(
        &'a self,
        shared: &'a Shared<E>,
        input: Input,
        kept: Option<&'a mut [E]>,
        which: &Range<usize>,
    ) -> Source<'a, E> {
        match input {
            Input::Stored(slot) => Source::Stored(self.activation(slot, which)),
            Input::Normalised { norm, input, residual, relu, .. } => {
                let from = self.normalised(shared, norm, (input, residual, relu), which);
                Source::Normalised(Normalised { output: kept, ..from })
            }
        }
    }

    /// A batch norm of an activation, with what is added to it and whether a ReLU follows.
    fn normalised<'a>(
        &'a self,
        shared: &'a Shared<E>,
        norm: usize,
        (input, residual, relu): (Slot, Option<Residual>, bool),
        which: &Range<usize>,
    ) -> Normalised<'a, E> {
        let Norm { scale, shift, .. } = &shared.norms[norm];
        let residual = residual.map(|residual| match residual {
            Residual::Stored(slot) => kernels::Residual::Stored(self.activation(slot, which)),
            Residual::ZeroPadded { problem, input } => {
                let problem = ZeroPadProblem { n: which.len(), ..problem };
                let input = self.activation(input, which);
                kernels::Residual::ZeroPadded(ZeroPadded::new(problem, input))
            }
        });
        let input = self.activation(input, which);
        Normalised { input, scale, shift, residual, relu, output: None }
    }

    /// A convolution's backward, from the gradient it reads to the sums over the one it makes.
    fn conv_grad(
        &mut self,
        shared: &Shared<E>,
        (conv, keep): (usize, Option<usize>),
        input: Input,
        grad_output: GradOutput,
        grad_input: Option<GradInput>,
        which: &Range<usize>,
    ) {
        let mut kept = keep.map(|kept| write(&shared.kept[kept][self.index]));
        let mut made = take(&mut self.conv_grads[conv]);
        // The first samples' gradient replaces that of the batch before.
        let accumulate = which.start > 0;
        if !accumulate {
            made.bias.fill(0.0);
            kept.iter_mut().for_each(|kept| kept.clear());
        }
        let Conv { problem, kernel, packed_backward, .. } = &shared.convs[conv];
        let sums = grad_input.and_then(|made| made.sums);
        let mut partial = sums.map(|sums| take(&mut self.norm_partials[sums.norm]));
        let mut run = |group: &Self, written: Option<(&mut [E], Addend)>| {
            let grad_output = match grad_output {
                GradOutput::Stored(slot) => {
                    let grad = group.grad(slot, which);
                    if !made.bias.is_empty() {
                        conv2d::backward_bias(grad, &mut made.bias);
                    }
                    Source::Stored(grad)
                }
                GradOutput::Norm { norm, input, grad_output } => {
                    Source::NormGrad(group.norm_grad(shared, norm, input, grad_output, which))
                }
            };
            let sums = group.sums(shared, sums, &mut partial, which);
            let call = Backward {
                input: group.source(shared, input, None, which),
                grad_output,
                packed_backward,
                grad_input: written.map(|(grad_input, addend)| conv2d::GradInput {
                    grad_input,
                    addend: group.addend(addend, which),
                    sums,
                }),
                grad_weight: Some(match &mut kept {
                    Some(kept) => GradWeight::Kept(kept),
                    None => GradWeight::Packed { packed_grad: &mut made.packed, accumulate },
                }),
            };
            kernel.run_backward(&problem.with_n(which.len()), call);
        };
        match grad_input {
            Some(GradInput { grad, addend, .. }) => {
                self.write_grad(grad, which, |group, written| run(group, Some((written, addend))));
            }
            None => run(self, None),
        }
        self.conv_grads[conv] = made;
        if let (Some(sums), Some(partial)) = (sums, partial) {
            self.norm_partials[sums.norm] = partial;
        }
    }

    /// This group's part of the gradient of a convolution's weight, of what all groups have kept.
    fn weight_grad(&mut self, shared: &Shared<E>, conv: usize, kept: usize) {
        let conv_grad = &mut self.conv_grads[conv];
        let (conv, groups) = (&shared.convs[conv], &shared.kept[kept]);
        let (channels, _) = conv.part(self.index, groups.len());
        if channels.is_empty() {
            return;
        }
        let guards: [_; MAX_GROUPS] = std::array::from_fn(|i| groups.get(i).map(read));
        let none = KeptOperands::default();
        let kept = guards.each_ref().map(|guard| guard.as_deref().unwrap_or(&none));
        conv.kernel.grad_weight_of_kept(&conv.problem, channels, &kept, &mut conv_grad.packed);
    }

    fn addend(&self, addend: Addend, which: &Range<usize>) -> conv2d::Addend<'_, E> {
        match addend {
            Addend::None => conv2d::Addend::None,
            Addend::InPlace => conv2d::Addend::InPlace,
            Addend::ZeroPad { problem, grad_output } => {
                let problem = ZeroPadProblem { n: which.len(), ..problem };
                let grad_output = self.grad(grad_output, which);
                conv2d::Addend::ZeroPad(ZeroPadGrad::new(problem, grad_output))
            }
        }
    }

    fn norm_grad<'a>(
        &'a self,
        shared: &'a Shared<E>,
        norm: usize,
        input: Slot,
        grad_output: GradSlot,
        which: &Range<usize>,
    ) -> NormGrad<'a, E> {
        let Norm { mean, a, b, c, .. } = &shared.norms[norm];
        let (input, grad_output) = (self.activation(input, which), self.grad(grad_output, which));
        NormGrad { grad_output, input, mean, a, b, c }
    }

    /// Those that a gradient is added to, if there are.
    fn sums<'a>(
        &'a self,
        shared: &'a Shared<E>,
        sums: Option<GradSums>,
        partial: &'a mut Option<NormPartial>,
        which: &Range<usize>,
    ) -> Sums<'a, E> {
        match (sums, partial) {
            (Some(sums), Some(partial)) => self.grad_sums(shared, sums, partial, which),
            _ => Sums::None,
        }
    }

    /// The sums that a gradient is added to.
    fn grad_sums<'a>(
        &'a self,
        shared: &'a Shared<E>,
        sums: GradSums,
        partial: &'a mut NormPartial,
        which: &Range<usize>,
    ) -> Sums<'a, E> {
        let Norm { mean, scale, shift, .. } = &shared.norms[sums.norm];
        let NormPartial { sum_grad, sum_grad_centred, .. } = partial;
        let mask = match sums.mask {
            Mask::None => batch_norm::Mask::None,
            Mask::Output(slot) => batch_norm::Mask::Output(self.activation(slot, which)),
            Mask::Normalised => batch_norm::Mask::Normalised { scale, shift },
        };
        let input = self.activation(sums.input, which);
        Sums::NormGrad(NormGradSums { mask, input, mean, sum_grad, sum_grad_centred })
    }
}
