use crate::backward::{self, Backward};
use crate::conv::{Conv, ConvGrad};
use crate::forward::{self, Forward};
use crate::fuse;
use crate::group::{Group, GroupSizes, MAX_GROUPS, Shared};
use crate::kept;
use crate::memory::{self, Memory};
use crate::norm::{Norm, NormPartial};
use crate::plan::Run;
use crate::report::{Reporter, StepReport};
use crate::rounds::Rounds;
use crate::step::{Phase, Reduction, Slot, phases};
use crate::threads::{exclusive, lock, read, write};
use crate::{Mode, PlanError, PlanOptions};
use rayon::prelude::*;
use residua_graph::{Graph, Weights};
use residua_kernels::conv2d::{ConvElement, KeptOperands};
use residua_kernels::{Aligned, convert, max_pool, round, scratch};
use std::sync::{Mutex, MutexGuard, RwLock};

/// The fewest samples of a group in training, unless that gives fewer than [`MIN_GROUPS`]: with fewer, its
/// gradient of all weights takes more time than it is worth.
const GROUP_LEN: usize = 16;
/// The fewest, where the batch has so many samples: they bound the threads that can work.
const MIN_GROUPS: usize = 4;
/// Every group has a gradient of all weights but those that are made in parts; if it were of all, they would
/// together get no larger than this, if [`MIN_GROUPS`] allow.
const GROUP_GRADS_BYTES: usize = 256 << 20;

/// A plan for activations stored as `E`; see [`Plan`](crate::Plan).
#[derive(Debug)]
pub(crate) struct Executor<E: 'static> {
    options: PlanOptions,
    input: Slot,
    output: Slot,
    shared: Shared<E>,
    groups: Vec<Mutex<Group<E>>>,
    rounds: Rounds,
    forward_phases: Vec<Phase>,
    backward_phases: Vec<Phase>,
    grad_output: Option<crate::step::GradSlot>,
    num_params: usize,
    scratch_len: usize,
    /// Elements of each of a thread's buffers of what lives in one phase only.
    local_lens: Vec<usize>,
}

impl<E: ConvElement> Executor<E> {
    pub(crate) fn new(graph: &Graph, options: &PlanOptions) -> Result<Self, PlanError> {
        let mut forward = forward::compile(graph, options)?;
        let train = options.mode == Mode::Train;
        let mut backward =
            train.then(|| backward::compile(&forward.steps, forward.input, forward.output));
        let unstored = fuse::forward(&mut forward.steps, forward.output);
        match &mut backward {
            Some(backward) => {
                let has_bias = |conv: usize| forward.convs[conv].bias.is_some();
                fuse::backward(&mut backward.steps, &unstored, has_bias);
            }
            None => forward::share_buffers(&mut forward),
        }
        Self::assemble(graph, *options, forward, backward)
    }

    fn assemble(
        graph: &Graph,
        options: PlanOptions,
        forward: Forward<E>,
        backward: Option<Backward>,
    ) -> Result<Self, PlanError> {
        let Forward { steps, mut convs, norms, pools, input, output } = forward;
        let conv_lens: Vec<_> = convs.iter().map(|conv| conv.problem.weight_len()).collect();
        let forward_phases = phases(steps, 0, &conv_lens, size_of::<E>());
        let num_params = graph.num_parameters();
        let num_groups = num_groups(&options, num_params);
        let group_len = options.batch_size.div_ceil(num_groups);
        let mut kept_lens = Vec::new();
        let (memory, grad_output, backward_phases) = match backward {
            Some(Backward { steps, mut grad_output }) => {
                let first = num_steps(&forward_phases);
                let mut phases = phases(steps, first, &conv_lens, size_of::<E>());
                let memory =
                    memory::plan(&forward_phases, &mut phases, input, &mut grad_output, group_len);
                kept_lens = kept::plan(&mut phases, &mut convs, num_groups, group_len);
                (memory, Some(grad_output), phases)
            }
            None => (Memory::of_eval(&forward_phases, input), None, Vec::new()),
        };
        let samples_at_once = forward_phases[0].samples_at_once;
        let sizes = GroupSizes {
            num_kept: match options.mode {
                Mode::Train => group_len,
                Mode::Eval => group_len.min(samples_at_once),
            },
            activations: &memory.activations,
            grads: &memory.grads,
            train: options.mode == Mode::Train,
            num_steps: num_steps(&forward_phases) + num_steps(&backward_phases),
            num_groups,
        };
        let most_at_once = forward_phases.iter().chain(&backward_phases);
        let most_at_once = most_at_once.map(|phase| phase.samples_at_once).max().unwrap_or(1);
        let scratch_len = convs.iter().map(|conv| {
            let problem = conv.problem.with_n(most_at_once.min(group_len));
            conv.kernel.scratch_len(&problem)
        });
        let for_pools = pools.iter().map(max_pool::scratch_len::<E>);
        let scratch_len = scratch_len.chain(for_pools).max().unwrap_or(0);
        let mut shared =
            Shared { isa: options.isa, convs, norms, pools, local: Vec::new(), kept: Vec::new() };
        let kept_len = kept_lens.iter().fold(0_usize, |sum, &len| sum.saturating_add(len));
        let kept_bytes = kept_len.saturating_mul(num_groups * size_of::<f32>());
        memory::expect(sizes.bytes(&shared).saturating_add(kept_bytes), options.batch_size)?;
        let groups = Group::all_of(&shared, &sizes).into_iter().map(Mutex::new).collect();
        let operands = |len| RwLock::new(KeptOperands::with_len(len));
        let of_groups = |len: usize| (0..num_groups).map(|_| operands(len)).collect();
        shared.kept = kept_lens.into_iter().map(of_groups).collect();
        Ok(Self {
            options,
            input,
            output,
            shared,
            groups,
            rounds: Rounds::new(num_groups),
            forward_phases,
            backward_phases,
            grad_output,
            num_params,
            scratch_len,
            local_lens: memory.local,
        })
    }

    /// Lets every thread have its working memory now rather than in some later step.
    fn reserve_scratch(&mut self) {
        if self.shared.local.is_empty() {
            rayon::broadcast(|_| scratch::reserve(self.scratch_len));
            let buffers = || self.local_lens.iter().map(|len| Aligned::zeroed(*len)).collect();
            let threads = 0..rayon::current_num_threads();
            self.shared.local = threads.map(|_| Mutex::new(buffers())).collect();
        }
    }
}

/// Groups that a batch is cut into, whatever the number of threads.
fn num_groups(options: &PlanOptions, num_params: usize) -> usize {
    let for_grads = GROUP_GRADS_BYTES / (4 * num_params).max(1);
    let most = match options.mode {
        Mode::Train => for_grads.min(options.batch_size / GROUP_LEN),
        Mode::Eval => for_grads,
    };
    let num_groups = most.clamp(MIN_GROUPS, MAX_GROUPS);
    (1 << num_groups.ilog2()).min(options.batch_size)
}

fn num_steps(phases: &[Phase]) -> usize {
    phases.iter().map(|phase| phase.steps.len()).sum()
}

impl<E: ConvElement> Run for Executor<E> {
    fn report(&self) -> Vec<StepReport> {
        let Shared { convs, norms, .. } = &self.shared;
        let reporter = Reporter { convs, norms, batch_size: self.options.batch_size };
        let num_forward = self.forward_phases.len();
        let phases = self.forward_phases.iter().chain(&self.backward_phases).enumerate();
        let steps = phases.flat_map(|(number, phase)| {
            phase
                .steps
                .iter()
                .enumerate()
                .map(move |(i, step)| (number, phase.first_step + i, step))
        });
        let report = |(phase, i, step)| {
            let spent = self.groups.iter().map(|group| lock(group).spent[i]).sum();
            reporter.report(step, (phase >= num_forward, phase), spent)
        };
        steps.map(report).collect()
    }

    fn options(&self) -> &PlanOptions {
        &self.options
    }

    fn input_len(&self) -> usize {
        self.input.len
    }

    fn num_classes(&self) -> usize {
        self.output.len
    }

    fn load(&mut self, weights: &Weights) {
        assert_eq!(weights.params.len(), self.num_params, "parameters are another graph's");
        let Shared { convs, norms, .. } = &mut self.shared;
        convs.par_iter_mut().with_max_len(1).for_each(|conv| conv.pack(&weights.params));
        norms.iter_mut().for_each(|norm| norm.take_running(weights));
    }

    fn forward(&mut self, input: &[f32], logits: &mut [f32]) {
        assert_eq!(self.options.mode, Mode::Eval, "a training plan can't evaluate");
        let n = input.len() / self.input.len;
        assert!((1..=self.options.batch_size).contains(&n), "input has {n} samples");
        assert_eq!(input.len(), n * self.input.len);
        assert_eq!(logits.len(), n * self.output.len);
        self.reserve_scratch();
        let Self { shared, groups, forward_phases, input: x, output: y, .. } = self;
        let [phase] = &forward_phases[..] else { unreachable!("evaluation reduces nothing") };
        let (num_groups, num_threads) = (groups.len(), rayon::current_num_threads());
        let threads_per_sample = if n < num_threads { num_threads.div_ceil(n) } else { 1 };
        groups
            .par_iter_mut()
            .map(exclusive)
            .zip(cut(input, x.len, num_groups))
            .zip(cut_mut(logits, y.len, num_groups))
            .with_max_len(1)
            .for_each(|((group, input), logits)| {
                group.threads_per_sample = threads_per_sample;
                let chunks = input.chunks(phase.samples_at_once.saturating_mul(x.len));
                for (input, logits) in
                    chunks.zip(logits.chunks_mut(phase.samples_at_once.saturating_mul(y.len)))
                {
                    let which = 0..input.len() / x.len;
                    group.write(*x, &which, |_, x| round(shared.isa, input, x));
                    group.run_steps(shared, phase, &which);
                    convert(group.activation(*y, &which), logits);
                }
            });
    }

    fn forward_train(&mut self, weights: &mut Weights, input: &[f32], logits: &mut [f32]) {
        let n = self.options.batch_size;
        assert_eq!(self.options.mode, Mode::Train, "an evaluation plan can't train");
        assert_eq!(input.len(), n * self.input.len);
        assert_eq!(logits.len(), n * self.output.len);
        assert_eq!(weights.params.len(), self.num_params, "parameters are another graph's");
        self.reserve_scratch();
        let Self { shared, groups, rounds, forward_phases, input: x, output: y, .. } = self;
        let (params, num_groups) = (&weights.params, groups.len());
        shared.convs.par_iter_mut().with_max_len(1).for_each(|conv| conv.pack(params));
        let inputs = cut(input, x.len, num_groups);
        let each = groups.par_iter_mut().map(exclusive).zip(inputs).with_max_len(1);
        each.for_each(|(group, input)| {
            group.num_samples = input.len() / x.len;
            let which = group.all();
            group.write(*x, &which, |_, x| round(shared.isa, input, x));
            group.norm_partials.iter_mut().for_each(NormPartial::reset_moments);
        });
        run_phases(groups, rounds, shared, forward_phases, |norms, reduction, groups| {
            if let Reduction::Moments { norm } = reduction {
                let partials = groups.iter().flatten().map(|group| &group.norm_partials[norm]);
                norms[norm].take_moments(partials, weights);
            }
        });
        let each = groups.par_iter_mut().map(exclusive).zip(cut_mut(logits, y.len, num_groups));
        each.for_each(|(group, logits)| {
            convert(group.activation(*y, &group.all()), logits);
        });
    }

    fn backward(&mut self, weights: &Weights, grad_logits: &[f32], grads: &mut [f32]) {
        let Self { shared, groups, rounds, backward_phases, output: y, grad_output, .. } = self;
        let grad_output = grad_output.expect("an evaluation plan has no backward");
        assert_eq!(grad_logits.len(), self.options.batch_size * y.len);
        assert_eq!((grads.len(), weights.params.len()), (self.num_params, self.num_params));
        // Norms that the output does not depend on get no sums.
        shared.norms.iter().for_each(|norm| norm.zero_grads(grads));
        let grad_logits = cut(grad_logits, y.len, groups.len());
        let each = groups.par_iter_mut().map(exclusive).zip(grad_logits).with_max_len(1);
        each.for_each(|(group, grad_logits)| {
            let which = group.all();
            group.write_grad(grad_output, &which, |_, grad| convert(grad_logits, grad));
            group.norm_partials.iter_mut().for_each(NormPartial::reset_grad_sums);
        });
        run_phases(groups, rounds, shared, backward_phases, |norms, reduction, groups| {
            if let Reduction::NormGrads { norm } = reduction {
                let partials = groups.iter().flatten().map(|group| &group.norm_partials[norm]);
                norms[norm].take_grad_sums(partials, &weights.params, grads);
            }
        });
        let mut groups = groups.iter_mut().map(exclusive);
        let first = groups.next().expect("a batch has samples");
        let others: [_; MAX_GROUPS] = std::array::from_fn(|_| groups.next().map(|group| &*group));
        write_conv_grads(&shared.convs, &mut first.conv_grads, &others, 0, 0, grads);
    }
}

/// The samples of each group, `len` elements each: all groups have as many, the first perhaps one more.
fn cut(
    samples: &[f32],
    len: usize,
    num_groups: usize,
) -> impl IndexedParallelIterator<Item = &[f32]> {
    let [longer, shorter, middle] = group_lens(samples.len(), len, num_groups);
    let (first, rest) = samples.split_at(middle);
    first.par_chunks(longer).chain(rest.par_chunks(shorter))
}

/// As [`cut`].
fn cut_mut(
    samples: &mut [f32],
    len: usize,
    num_groups: usize,
) -> impl IndexedParallelIterator<Item = &mut [f32]> {
    let [longer, shorter, middle] = group_lens(samples.len(), len, num_groups);
    let (first, rest) = samples.split_at_mut(middle);
    first.par_chunks_mut(longer).chain(rest.par_chunks_mut(shorter))
}

/// Elements of a longer and a shorter group, and of all longer ones.
fn group_lens(all: usize, len: usize, num_groups: usize) -> [usize; 3] {
    let n = all / len;
    let longer = (n / num_groups + 1) * len;
    // Without samples there is no shorter group.
    let shorter = (n / num_groups).max(1) * len;
    [longer, shorter, n % num_groups * longer]
}

/// All groups, while no thread works on one.
type AllGroups<'a, E> = [Option<MutexGuard<'a, Group<E>>>; MAX_GROUPS];

/// Runs the phases one after another, each on all groups, then its reductions.
fn run_phases<E: ConvElement>(
    groups: &[Mutex<Group<E>>],
    rounds: &mut Rounds,
    shared: &mut Shared<E>,
    phases: &[Phase],
    mut reduce: impl FnMut(&mut [Norm], Reduction, &AllGroups<'_, E>) + Send,
) {
    let shared = RwLock::new(shared);
    let work = |phase: usize, group: usize| {
        lock(&groups[group]).run(&read(&shared), &phases[phase]);
    };
    let after = |phase: usize| {
        let all = std::array::from_fn(|i| groups.get(i).map(lock));
        let norms = &mut write(&shared).norms;
        phases[phase].reductions.iter().for_each(|reduction| reduce(norms, *reduction, &all));
    };
    rounds.run(phases.len(), work, after);
}

/// Adds the other groups' gradients of `convs` (the plan's from `first_conv` on) to the first group's,
/// `sums`, and writes each into its place in `grads`, which starts at the parameter `first_param`.
/// Convolutions come in parameter order, so halves of the list have halves of `grads`.
fn write_conv_grads<E: ConvElement>(
    convs: &[Conv<E>],
    sums: &mut [ConvGrad],
    others: &[Option<&Group<E>>],
    first_conv: usize,
    first_param: usize,
    grads: &mut [f32],
) {
    match convs {
        [] => {}
        [conv] => {
            let others = others.iter().flatten().map(|group| &group.conv_grads[first_conv]);
            conv.write_grads(&mut sums[0], others, first_param, grads);
        }
        _ => {
            let middle = convs.len() / 2;
            let (left, right) = convs.split_at(middle);
            let (left_sums, right_sums) = sums.split_at_mut(middle);
            let (right_conv, split) = (first_conv + middle, right[0].weight.start);
            let (left_grads, right_grads) = grads.split_at_mut(split - first_param);
            rayon::join(
                || write_conv_grads(left, left_sums, others, first_conv, first_param, left_grads),
                || write_conv_grads(right, right_sums, others, right_conv, split, right_grads),
            );
        }
    }
}
