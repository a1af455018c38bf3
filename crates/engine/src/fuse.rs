//! Joins steps that follow each other: a batch norm and the convolution that reads it, a convolution and
//! the sums over its result, and the same in the backward.
//!
//! What only goes from one half of a joined step to the other is not stored. Where a batch norm's
//! output has no other reader than a convolution, the backward makes it again from the batch norm's
//! input, which it reads anyway.

use crate::step::{GradOutput, GradSlot, Input, Mask, Slot, Step};
use std::collections::HashMap;

/// Joins forward steps; returns the activations that are not stored, with how they are made.
pub(crate) fn forward(steps: &mut Vec<Step>, output: Slot) -> HashMap<Slot, Input> {
    let mut readers: HashMap<Slot, usize> = HashMap::from([(output, 1)]);
    for step in &*steps {
        step.reads().for_each(|slot| *readers.entry(slot).or_default() += 1);
    }
    let mut unstored = HashMap::new();
    let mut fused: Vec<Step> = Vec::with_capacity(steps.len());
    for mut step in steps.drain(..) {
        match (&mut step, fused.last_mut()) {
            (
                Step::Conv { input: read @ Input::Stored(_), .. },
                Some(&mut Step::Normalise { norm, input, residual, relu, output }),
            ) if *read == Input::Stored(output) => {
                let alone = readers[&output] == 1 && residual.is_none();
                let kept = (!alone).then_some(output);
                *read = Input::Normalised { norm, input, residual, relu, output: kept };
                if alone {
                    unstored.insert(output, *read);
                }
                fused.pop();
            }
            (
                Step::Moments { norm, input },
                Some(Step::Conv { output, moments: moments @ None, .. }),
            ) if input == output => {
                *moments = Some(*norm);
                continue;
            }
            _ => {}
        }
        fused.push(step);
    }
    *steps = fused;
    unstored
}

/// Joins backward steps, which read nothing that is not stored afterwards. `has_bias` tells of a
/// convolution whether it has a bias, whose gradient is a sum over a stored one.
pub(crate) fn backward(
    steps: &mut Vec<Step>,
    unstored: &HashMap<Slot, Input>,
    has_bias: impl Fn(usize) -> bool,
) {
    let mut users: HashMap<GradSlot, usize> = HashMap::new();
    for step in &*steps {
        step.grad_slots().into_iter().for_each(|slot| *users.entry(slot).or_default() += 1);
    }
    let mut fused: Vec<Step> = Vec::with_capacity(steps.len());
    for mut step in steps.drain(..) {
        read_unstored(&mut step, unstored);
        match (&mut step, fused.last_mut()) {
            (
                Step::ConvGrad {
                    conv,
                    grad_output: read @ GradOutput::Stored(_),
                    grad_input: made,
                    ..
                },
                Some(&mut Step::NormGradInput { norm, input, grad_output, grad_input }),
            ) if *read == GradOutput::Stored(grad_input)
                && users[&grad_input] == 2
                && !has_bias(*conv)
                // One step can't read a gradient that it adds to.
                && made.is_none_or(|made| made.grad != grad_output) =>
            {
                *read = GradOutput::Norm { norm, input, grad_output };
                fused.pop();
            }
            (
                Step::NormGradSums { sums, grad_output },
                Some(Step::ConvGrad { grad_input: Some(made), .. }),
            ) if made.grad == *grad_output && made.sums.is_none() => {
                made.sums = Some(*sums);
                continue;
            }
            _ => {}
        }
        fused.push(step);
    }
    *steps = fused;
}

/// Lets a step make again what it reads, if that is not stored.
fn read_unstored(step: &mut Step, unstored: &HashMap<Slot, Input>) {
    match step {
        Step::ConvGrad { input, .. } => {
            if let Input::Stored(slot) = *input {
                *input = *unstored.get(&slot).unwrap_or(input);
            }
        }
        Step::NormGradSums { sums, .. } => {
            if let Mask::Output(slot) = sums.mask
                && unstored.contains_key(&slot)
            {
                sums.mask = Mask::Normalised;
            }
        }
        _ => {}
    }
}
