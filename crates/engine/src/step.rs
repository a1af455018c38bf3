//! What a plan does, one step after another.

use residua_kernels::ZeroPadProblem;

/// An activation: which of a group's buffers holds it, and its length for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) buffer: usize,
    pub(crate) len: usize,
}

/// A gradient: which of a group's gradient buffers holds it, and its length for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GradSlot {
    pub(crate) buffer: usize,
    pub(crate) len: usize,
    /// Only there while a phase runs on a few samples: the buffer is one of the thread's.
    pub(crate) local: bool,
}

/// What a convolution or a max pool reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Input {
    Stored(Slot),
    /// As [`Step::Normalise`] makes it; stored too, if something else reads it.
    Normalised {
        norm: usize,
        input: Slot,
        residual: Option<Residual>,
        relu: bool,
        output: Option<Slot>,
    },
}

/// What a batch norm's output is added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Residual {
    Stored(Slot),
    /// As [`Step::ZeroPad`] makes it.
    ZeroPadded {
        problem: ZeroPadProblem,
        input: Slot,
    },
}

/// What a convolution's backward starts from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum GradOutput {
    Stored(GradSlot),
    /// As [`Step::NormGradInput`] makes it.
    Norm {
        norm: usize,
        input: Slot,
        grad_output: GradSlot,
    },
}

/// What the gradient of a convolution's input is added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Addend {
    None,
    /// What is there.
    InPlace,
    /// As [`Step::ZeroPadGrad`] makes it.
    ZeroPad {
        problem: ZeroPadProblem,
        grad_output: GradSlot,
    },
}

/// The gradient of a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GradInput {
    pub(crate) grad: GradSlot,
    pub(crate) addend: Addend,
    /// What [`Step::NormGradSums`] would do with it.
    pub(crate) sums: Option<GradSums>,
}

/// A ReLU's backward, and sums for a batch norm's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GradSums {
    pub(crate) norm: usize,
    /// The batch norm's input.
    pub(crate) input: Slot,
    pub(crate) mask: Mask,
}

/// Which gradients go through a ReLU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mask {
    /// All: there is none.
    None,
    /// Where its output is above 0.
    Output(Slot),
    /// Where the batch norm's output is above 0, which is not stored.
    Normalised,
}

/// One kernel call on some samples of a group, or on the whole batch. `conv`, `norm` and `pool` are indices into the plan's
/// lists of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Conv {
        conv: usize,
        input: Input,
        output: Slot,
        /// The batch norm whose moments the output is added to.
        moments: Option<usize>,
    },
    /// Adds to the moments of a batch norm.
    Moments {
        norm: usize,
        input: Slot,
    },
    /// A batch norm, the addition of a shortcut and a ReLU, as far as they follow each other.
    Normalise {
        norm: usize,
        input: Slot,
        residual: Option<Residual>,
        relu: bool,
        output: Slot,
    },
    Relu {
        input: Slot,
        output: Slot,
    },
    Add {
        left: Slot,
        right: Slot,
        relu: bool,
        output: Slot,
    },
    MaxPool {
        pool: usize,
        input: Input,
        output: Slot,
    },
    GlobalAvgPool {
        num_pixels: usize,
        c: usize,
        input: Slot,
        output: Slot,
    },
    ZeroPad {
        problem: ZeroPadProblem,
        input: Slot,
        output: Slot,
    },

    /// Takes `grad_output` through a ReLU, and adds to a batch norm's sums.
    NormGradSums {
        sums: GradSums,
        grad_output: GradSlot,
    },
    NormGradInput {
        norm: usize,
        input: Slot,
        grad_output: GradSlot,
        grad_input: GradSlot,
    },
    /// The gradients of a convolution's weight and, if it is wanted, of its input.
    ConvGrad {
        conv: usize,
        input: Input,
        grad_output: GradOutput,
        grad_input: Option<GradInput>,
        /// Where the weight's operands are kept, whose gradient is then a step of the next phase.
        keep: Option<usize>,
    },
    /// A part of the gradient of a convolution's weight over the whole batch, of operands that are kept.
    WeightGrad {
        conv: usize,
        kept: usize,
    },
    ReluGrad {
        output: Slot,
        grad: GradSlot,
    },
    MaxPoolGrad {
        pool: usize,
        grad_output: GradSlot,
        grad_input: GradSlot,
        /// What [`Step::NormGradSums`] would do with it.
        sums: Option<GradSums>,
    },
    GlobalAvgPoolGrad {
        num_pixels: usize,
        c: usize,
        grad_output: GradSlot,
        grad_input: GradSlot,
    },
    ZeroPadGrad {
        problem: ZeroPadProblem,
        grad_output: GradSlot,
        grad_input: GradSlot,
        accumulate: bool,
    },
    AddGrad {
        grad: GradSlot,
        other: GradSlot,
    },
    CopyGrad {
        from: GradSlot,
        to: GradSlot,
    },
}

/// A reduction over the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// A batch norm's statistics.
    Moments { norm: usize },
    /// The gradients of its weight and bias, and what its input's gradient needs of them.
    NormGrads { norm: usize },
}

impl Step {
    /// The reduction that what this step adds to goes into.
    pub(crate) fn feeds(&self) -> Option<Reduction> {
        match *self {
            Self::Moments { norm, .. } | Self::Conv { moments: Some(norm), .. } => {
                Some(Reduction::Moments { norm })
            }
            Self::NormGradSums { sums, .. }
            | Self::MaxPoolGrad { sums: Some(sums), .. }
            | Self::ConvGrad { grad_input: Some(GradInput { sums: Some(sums), .. }), .. } => {
                Some(Reduction::NormGrads { norm: sums.norm })
            }
            _ => None,
        }
    }

    /// The reduction that must be done before this step.
    fn needs(&self) -> Option<Reduction> {
        match *self {
            Self::Normalise { norm, .. }
            | Self::Conv { input: Input::Normalised { norm, .. }, .. }
            | Self::MaxPool { input: Input::Normalised { norm, .. }, .. } => {
                Some(Reduction::Moments { norm })
            }
            Self::NormGradInput { norm, .. }
            | Self::ConvGrad { grad_output: GradOutput::Norm { norm, .. }, .. } => {
                Some(Reduction::NormGrads { norm })
            }
            _ => None,
        }
    }

    /// Changes each activation and each gradient it touches.
    pub(crate) fn visit(
        &mut self,
        mut on_slot: impl FnMut(&mut Slot),
        mut on_grad: impl FnMut(&mut GradSlot),
    ) {
        match self {
            Self::Conv { input, output, .. } | Self::MaxPool { input, output, .. } => {
                input.visit(&mut on_slot);
                on_slot(output);
            }
            Self::Relu { input, output }
            | Self::GlobalAvgPool { input, output, .. }
            | Self::ZeroPad { input, output, .. } => [input, output].into_iter().for_each(on_slot),
            Self::Normalise { input, residual, output, .. } => {
                let residual = residual.as_mut().map(Residual::slot);
                [input, output].into_iter().chain(residual).for_each(on_slot);
            }
            Self::Add { left, right, output, .. } => {
                [left, right, output].into_iter().for_each(on_slot);
            }
            Self::Moments { input, .. } => on_slot(input),
            Self::NormGradSums { sums, grad_output } => {
                sums.visit(on_slot);
                on_grad(grad_output);
            }
            Self::NormGradInput { input, grad_output, grad_input, .. } => {
                on_slot(input);
                [grad_output, grad_input].into_iter().for_each(on_grad);
            }
            Self::ConvGrad { input, grad_output, grad_input, .. } => {
                input.visit(&mut on_slot);
                match grad_output {
                    GradOutput::Stored(grad) => on_grad(grad),
                    GradOutput::Norm { input, grad_output, .. } => {
                        on_slot(input);
                        on_grad(grad_output);
                    }
                }
                if let Some(GradInput { grad, addend, sums }) = grad_input {
                    on_grad(grad);
                    if let Addend::ZeroPad { grad_output, .. } = addend {
                        on_grad(grad_output);
                    }
                    sums.iter_mut().for_each(|sums| sums.visit(&mut on_slot));
                }
            }
            Self::ReluGrad { output, grad } => {
                on_slot(output);
                on_grad(grad);
            }
            Self::MaxPoolGrad { grad_output, grad_input, sums, .. } => {
                [grad_output, grad_input].into_iter().for_each(on_grad);
                sums.iter_mut().for_each(|sums| sums.visit(&mut on_slot));
            }
            Self::GlobalAvgPoolGrad { grad_output, grad_input, .. }
            | Self::ZeroPadGrad { grad_output, grad_input, .. } => {
                [grad_output, grad_input].into_iter().for_each(on_grad);
            }
            Self::WeightGrad { .. } => {}
            Self::AddGrad { grad, other } => [grad, other].into_iter().for_each(on_grad),
            Self::CopyGrad { from, to } => [from, to].into_iter().for_each(on_grad),
        }
    }

    /// The activations that a forward step reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = Slot> {
        let written = match *self {
            Self::Conv { output, .. }
            | Self::Normalise { output, .. }
            | Self::Relu { output, .. }
            | Self::Add { output, .. }
            | Self::MaxPool { output, .. }
            | Self::GlobalAvgPool { output, .. }
            | Self::ZeroPad { output, .. } => Some(output),
            _ => None,
        };
        self.slots().into_iter().filter(move |slot| Some(*slot) != written)
    }

    /// Activations it touches.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        { *self }.visit(|slot| slots.push(*slot), |_| ());
        slots
    }

    /// Gradients it touches.
    pub(crate) fn grad_slots(&self) -> Vec<GradSlot> {
        let mut slots = Vec::new();
        { *self }.visit(|_| (), |slot| slots.push(*slot));
        slots
    }

    /// The convolution whose weight it reads or whose gradient it adds to.
    pub(crate) fn conv(&self) -> Option<usize> {
        match *self {
            Self::Conv { conv, .. }
            | Self::ConvGrad { conv, .. }
            | Self::WeightGrad { conv, .. } => Some(conv),
            _ => None,
        }
    }
}

impl Input {
    fn visit(&mut self, mut on_slot: impl FnMut(&mut Slot)) {
        match self {
            Self::Stored(slot) => on_slot(slot),
            Self::Normalised { input, residual, output, .. } => {
                let residual = residual.as_mut().map(Residual::slot);
                [input].into_iter().chain(residual).chain(output).for_each(on_slot);
            }
        }
    }
}

impl Residual {
    /// The activation that is read.
    fn slot(&mut self) -> &mut Slot {
        match self {
            Self::Stored(slot) | Self::ZeroPadded { input: slot, .. } => slot,
        }
    }
}

impl GradSums {
    fn visit(&mut self, mut on_slot: impl FnMut(&mut Slot)) {
        on_slot(&mut self.input);
        if let Mask::Output(output) = &mut self.mask {
            on_slot(output);
        }
    }
}

/// Steps that run one after another on a few samples at a time, then the reductions over the batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Phase {
    /// The number of its first step among all of a plan's.
    pub(crate) first_step: usize,
    pub(crate) steps: Vec<Step>,
    /// How many of these, the first, are not of samples but run once.
    pub(crate) num_once: usize,
    pub(crate) samples_at_once: usize,
    pub(crate) reductions: Vec<Reduction>,
}

/// Bytes of activations and gradients that a few samples may take in a phase: half a core's second
/// level cache of the common server processors.
const CACHE_BYTES: usize = 1 << 20;

/// As many samples as fit the cache, or as balance the traffic of the weights, which are read once
/// for so many samples. `conv_lens` are the elements of each convolution's weight. A step alone leaves
/// nothing in the cache for another: it gets all samples, of which its kernel takes a few at a time.
fn samples_at_once(steps: &[Step], conv_lens: &[usize], element_bytes: usize) -> usize {
    if steps.len() == 1 {
        return usize::MAX;
    }
    let mut slots: Vec<_> = steps.iter().flat_map(Step::slots).collect();
    let mut grad_slots: Vec<_> = steps.iter().flat_map(Step::grad_slots).collect();
    slots.sort_unstable();
    slots.dedup();
    grad_slots.sort_unstable();
    grad_slots.dedup();
    let activations: usize = slots.iter().map(|slot| slot.len).sum();
    let grads: usize = grad_slots.iter().map(|slot| slot.len).sum();
    let weights: usize = steps.iter().filter_map(Step::conv).map(|conv| conv_lens[conv]).sum();
    let sample_bytes = element_bytes * (activations + grads);
    ((CACHE_BYTES + element_bytes * weights) / sample_bytes.max(1)).max(1)
}

/// Cuts steps into phases, each as long as no step needs a reduction that is not done; `first_step` is
/// the number of the first.
pub(crate) fn phases(
    steps: Vec<Step>,
    mut first_step: usize,
    conv_lens: &[usize],
    element_bytes: usize,
) -> Vec<Phase> {
    let mut phases = Vec::new();
    let mut current: Vec<Step> = Vec::new();
    let mut pending: Vec<Reduction> = Vec::new();
    let mut close = |steps: Vec<Step>, reductions: Vec<Reduction>| {
        let (samples_at_once, num_steps) =
            (samples_at_once(&steps, conv_lens, element_bytes), steps.len());
        phases.push(Phase { first_step, steps, num_once: 0, samples_at_once, reductions });
        first_step += num_steps;
    };
    for step in steps {
        if step.needs().is_some_and(|needed| pending.contains(&needed)) {
            close(std::mem::take(&mut current), std::mem::take(&mut pending));
        }
        pending.extend(step.feeds());
        current.push(step);
    }
    close(current, pending);
    phases
}
