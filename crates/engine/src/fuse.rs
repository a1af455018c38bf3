//! Joins steps that follow each other: a zero-padding shortcut and the batch norm that it is added to, a
//! batch norm and the convolution or max pool that reads it, a convolution and the sums over its result, and
//! the last two in the backward as well, where a zero-padding shortcut's gradient is joined to that of the
//! convolution beside it.
//!
//! What only goes from one half of a joined step to the other is not stored. Where a batch norm's
//! output has no other reader than a convolution, the backward makes it again from the batch norm's
//! input, which it reads anyway. A max pool's backward wants no input.

use crate::step::{Addend, GradInput, GradOutput, GradSlot, Input, Mask, Residual, Slot, Step};
use std::collections::{HashMap, HashSet};

/// Joins forward steps; returns the activations that are not stored, with how they are made.
pub(crate) fn forward(steps: &mut Vec<Step>, output: Slot) -> HashMap<Slot, Input> {
    let mut readers: HashMap<Slot, usize> = HashMap::from([(output, 1)]);
    for step in &*steps {
        step.reads().for_each(|slot| *readers.entry(slot).or_default() += 1);
    }
    join_shortcuts(steps, &readers);
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
                Step::MaxPool { input: read @ Input::Stored(_), .. },
                Some(&mut Step::Normalise { norm, input, residual: None, relu, output }),
            ) if *read == Input::Stored(output) && readers[&output] == 1 => {
                *read = Input::Normalised { norm, input, residual: None, relu, output: None };
                unstored.insert(output, *read);
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

/// Joins zero-padding shortcuts to the batch norms that they are added to, where nothing else reads them.
fn join_shortcuts(steps: &mut Vec<Step>, readers: &HashMap<Slot, usize>) {
    let made = steps.iter().filter_map(|step| match *step {
        Step::ZeroPad { problem, input, output } if readers.get(&output) == Some(&1) => {
            Some((output, Residual::ZeroPadded { problem, input }))
        }
        _ => None,
    });
    let made: HashMap<Slot, Residual> = made.collect();
    let mut joined = HashSet::new();
    for step in &mut *steps {
        if let Step::Normalise { residual: Some(residual), .. } = step
            && let Residual::Stored(slot) = *residual
            && let Some(shortcut) = made.get(&slot)
        {
            *residual = *shortcut;
            joined.insert(slot);
        }
    }
    steps.retain(|step| !matches!(step, Step::ZeroPad { output, .. } if joined.contains(output)));
}

/// Joins backward steps, which read nothing that is not stored afterwards. `has_bias` tells of a
/// convolution whether it has a bias, whose gradient is a sum over a stored one.
pub(crate) fn backward(
    steps: &mut Vec<Step>,
    unstored: &HashMap<Slot, Input>,
    has_bias: impl Fn(usize) -> bool,
) {
    join_shortcut_grads(steps);
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
            (
                Step::NormGradSums { sums: of_norm, grad_output },
                Some(Step::MaxPoolGrad { grad_input, sums: sums @ None, .. }),
            ) if grad_input == grad_output => {
                *sums = Some(*of_norm);
                continue;
            }
            _ => {}
        }
        fused.push(step);
    }
    *steps = fused;
}

/// Joins gradients of zero-padding shortcuts to those of the convolutions that are added to them next, where
/// what they are made of is the same until then.
fn join_shortcut_grads(steps: &mut Vec<Step>) {
    let mut i = 0;
    while i < steps.len() {
        let (before, rest) = steps.split_at_mut(i + 1);
        let is_joined = match before[i] {
            Step::ZeroPadGrad { problem, grad_output, grad_input, accumulate: false } => {
                let addend = Addend::ZeroPad { problem, grad_output };
                let is_kept = rest.iter().all(|step| !step.grad_slots().contains(&grad_output));
                is_kept && replace_addend(rest, grad_input, addend)
            }
            _ => false,
        };
        match is_joined {
            true => drop(steps.remove(i)),
            false => i += 1,
        }
    }
}

/// Lets a convolution add its gradient to this instead of to `grad`, if it is the next to touch that.
fn replace_addend(steps: &mut [Step], grad: GradSlot, by: Addend) -> bool {
    let next = steps.iter_mut().find(|step| step.grad_slots().contains(&grad));
    match next {
        Some(Step::ConvGrad { grad_input: Some(GradInput { grad: to, addend, .. }), .. })
            if *to == grad && *addend == Addend::InPlace =>
        {
            *addend = by;
            true
        }
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use crate::{Plan, PlanOptions};
    use residua_graph::{Conv2d, Graph, GraphBuilder, Shape};

    /// A block whose zero-padding shortcut is added to a batch norm's output, once or twice.
    fn block(times: usize) -> Graph {
        let mut b = GraphBuilder::new(Shape::image(3, 6, 6));
        let input = b.conv2d("stem", b.input(), Conv2d::square(4, 1)).unwrap();
        let shortcut = b.zero_pad("downsample", input, 8, 2).unwrap();
        let conv = Conv2d { padding: [1; 2], stride: [2; 2], ..Conv2d::square(8, 3) };
        let conv = b.conv2d("conv", input, conv).unwrap();
        let mut sum = b.batch_norm("bn", conv).unwrap();
        for i in 0..times {
            sum = b.add(&format!("add{i}"), sum, shortcut).unwrap();
        }
        let pooled = b.global_avg_pool("avgpool", sum);
        let logits = b.linear("fc", pooled, 2).unwrap();
        b.finish(logits)
    }

    /// The parts that are about shortcuts, of all steps in one direction.
    fn shortcuts(graph: &Graph, options: &PlanOptions, backward: bool) -> Vec<String> {
        let steps = Plan::new(graph, options).unwrap().report().into_iter();
        let parts = steps.filter(|step| step.backward == backward).flat_map(|step| step.parts);
        parts.filter(|part| part.contains("shortcut")).collect()
    }

    #[test]
    fn a_shortcut_is_joined_where_nothing_else_reads_it() {
        for options in [PlanOptions::train(4).unwrap(), PlanOptions::eval(4).unwrap()] {
            let forward = |times| shortcuts(&block(times), &options, false);
            assert_eq!(forward(1), ["bn + zero-padding shortcut"]);
            assert_eq!(forward(2), ["zero-padding shortcut", "bn + shortcut"]);
        }
    }

    #[test]
    fn a_shortcuts_gradient_is_joined_to_the_convolution_beside_it() {
        let options = PlanOptions::train(4).unwrap();
        let mut b = GraphBuilder::new(Shape::image(3, 6, 6));
        let input = b.conv2d("stem", b.input(), Conv2d::square(4, 1)).unwrap();
        let conv = Conv2d { stride: [2; 2], ..Conv2d::square(8, 1) };
        let conv = b.conv2d("conv", input, conv).unwrap();
        let norm = b.batch_norm("bn", conv).unwrap();
        let shortcut = b.zero_pad("downsample", input, 8, 2).unwrap();
        let sum = b.add("add", norm, shortcut).unwrap();
        let pooled = b.global_avg_pool("avgpool", sum);
        let logits = b.linear("fc", pooled, 2).unwrap();
        let graph = b.finish(logits);
        assert_eq!(shortcuts(&graph, &options, true), ["of zero-padding shortcut"]);
        // In `block` the convolution's gradient comes first.
        let own_step = shortcuts(&block(1), &options, true);
        assert_eq!(own_step, ["gradient of zero-padding shortcut"]);
    }
}
