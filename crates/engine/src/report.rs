//! What a plan runs, told step by step.

use crate::conv::Conv;
use crate::norm::Norm;
use crate::step::{Addend, GradOutput, GradSums, Input, Mask, Residual, Step};
use std::time::Duration;

/// One step of a plan: what is done to a few samples at a time, on their way from memory to memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Whether it belongs to the backward.
    pub backward: bool,
    /// Its phase, counted from 0 through forward and backward: between two phases lies a reduction
    /// over the batch.
    pub phase: usize,
    /// What is joined in it, in order, with the names of layers.
    pub parts: Vec<String>,
    /// The convolution kernel, if it has one.
    pub kernel: Option<&'static str>,
    /// Floating-point operations of its convolutions for a batch, two for a multiply-add.
    pub operations: u64,
    /// Bytes of activations, gradients and packed weights that it touches for a batch, each once; without
    /// operands that are kept for a later step.
    pub bytes: u64,
    /// What all threads together have spent on it since the plan was made.
    pub spent: Duration,
}

/// What reports are made of.
#[derive(Debug)]
pub(crate) struct Reporter<'a, E: 'static> {
    pub(crate) convs: &'a [Conv<E>],
    pub(crate) norms: &'a [Norm],
    pub(crate) batch_size: usize,
}

impl<E> Reporter<'_, E> {
    pub(crate) fn report(
        &self,
        step: &Step,
        (backward, phase): (bool, usize),
        spent: Duration,
    ) -> StepReport {
        let conv = step.conv().map(|conv| &self.convs[conv]);
        let products = match step {
            Step::ConvGrad { grad_input, keep, .. } => {
                u64::from(grad_input.is_some()) + u64::from(keep.is_none())
            }
            _ => 1,
        };
        StepReport {
            backward,
            phase,
            parts: self.parts(step),
            kernel: conv.map(|conv| conv.kernel.name()),
            operations: conv
                .map_or(0, |conv| 2 * products * conv.problem.with_n(self.batch_size).macs()),
            bytes: self.bytes(step),
            spent,
        }
    }

    fn bytes(&self, step: &Step) -> u64 {
        let slots = step.slots();
        let grads = step.grad_slots();
        let elements: usize = slots.iter().map(|slot| slot.len).sum::<usize>()
            + grads.iter().map(|slot| slot.len).sum::<usize>();
        let weights = match (step, step.conv()) {
            (Step::Conv { .. }, Some(conv)) => self.convs[conv].packed.len(),
            (Step::ConvGrad { grad_input, keep, .. }, Some(conv)) => {
                let conv = &self.convs[conv];
                let read = grad_input.map_or(0, |_| conv.packed_backward.len());
                let made = if keep.is_some() { 0 } else { conv.packed_grad_len() };
                read + made
            }
            (Step::WeightGrad { .. }, Some(conv)) => self.convs[conv].packed_grad_len(),
            _ => 0,
        };
        (self.batch_size * elements * size_of::<E>() + 4 * weights) as u64
    }

    fn parts(&self, step: &Step) -> Vec<String> {
        let norm = |norm: usize| &self.norms[norm].name;
        match *step {
            Step::Conv { conv, input, moments, .. } => {
                let mut parts = self.made(input);
                parts.push(self.convs[conv].name.clone());
                parts.extend(moments.map(|moments| format!("moments for {}", norm(moments))));
                parts
            }
            Step::Moments { norm: of, .. } => vec![format!("moments for {}", norm(of))],
            Step::Normalise { norm: by, residual, relu, .. } => {
                vec![normalise(norm(by), residual, relu)]
            }
            Step::NormGradSums { sums, .. } => self.sums(sums),
            Step::NormGradInput { norm: of, .. } => vec![format!("gradient of {}", norm(of))],
            Step::ConvGrad { conv, input, grad_output, grad_input, keep } => {
                let mut parts = Vec::new();
                if let GradOutput::Norm { norm: of, .. } = grad_output {
                    parts.push(format!("gradient of {}", norm(of)));
                }
                parts.extend(self.made(input).into_iter().map(|made| format!("{made} again")));
                let what = match (keep, grad_input) {
                    (None, None) => "weight",
                    (None, Some(_)) => "weight, input",
                    (Some(_), None) => "operands of weight",
                    (Some(_), Some(_)) => "operands of weight, input",
                };
                parts.push(format!("gradient of {} ({what})", self.convs[conv].name));
                if grad_input.is_some_and(|made| matches!(made.addend, Addend::ZeroPad { .. })) {
                    parts.push("of zero-padding shortcut".to_owned());
                }
                let sums = grad_input.and_then(|made| made.sums);
                parts.extend(sums.into_iter().flat_map(|sums| self.sums(sums)));
                parts
            }
            Step::WeightGrad { conv, .. } => {
                vec![format!("gradient of {} (weight, of what is kept)", self.convs[conv].name)]
            }
            Step::Relu { .. } => vec!["ReLU".to_owned()],
            Step::Add { relu, .. } => vec![if relu { "add + ReLU" } else { "add" }.to_owned()],
            Step::MaxPool { input, .. } => {
                self.made(input).into_iter().chain(["max pool".to_owned()]).collect()
            }
            Step::GlobalAvgPool { .. } => vec!["average pool".to_owned()],
            Step::ZeroPad { .. } => vec!["zero-padding shortcut".to_owned()],
            Step::ReluGrad { .. } => vec!["gradient of ReLU".to_owned()],
            Step::MaxPoolGrad { sums, .. } => {
                let sums = sums.into_iter().flat_map(|sums| self.sums(sums));
                ["gradient of max pool".to_owned()].into_iter().chain(sums).collect()
            }
            Step::GlobalAvgPoolGrad { .. } => vec!["gradient of average pool".to_owned()],
            Step::ZeroPadGrad { .. } => vec!["gradient of zero-padding shortcut".to_owned()],
            Step::AddGrad { .. } => vec!["add gradients".to_owned()],
            Step::CopyGrad { .. } => vec!["copy a gradient".to_owned()],
        }
    }

    /// What makes a step's input on its way.
    fn made(&self, input: Input) -> Vec<String> {
        match input {
            Input::Stored(_) => Vec::new(),
            Input::Normalised { norm, residual, relu, .. } => {
                vec![normalise(&self.norms[norm].name, residual, relu)]
            }
        }
    }

    fn sums(&self, sums: GradSums) -> Vec<String> {
        let relu = (sums.mask != Mask::None).then(|| "of ReLU".to_owned());
        let name = &self.norms[sums.norm].name;
        relu.into_iter().chain([format!("sums for {name}")]).collect()
    }
}

/// `layer1.0.bn2 + shortcut + ReLU`
fn normalise(name: &str, residual: Option<Residual>, relu: bool) -> String {
    let shortcut = match residual {
        None => "",
        Some(Residual::Stored(_)) => " + shortcut",
        Some(Residual::ZeroPadded { .. }) => " + zero-padding shortcut",
    };
    let relu = if relu { " + ReLU" } else { "" };
    format!("{name}{shortcut}{relu}")
}
