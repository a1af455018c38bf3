//! Which values a training step keeps for all its samples, and which only while a phase runs on a few.
//!
//! Gradients that a phase makes and uses up stay in the cache of a thread, in buffers that are used again
//! for the next samples.

use crate::PlanError;
use crate::step::{GradSlot, Phase, Slot, Step};
use std::collections::HashMap;

/// Sizes of buffers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Elements of each activation and each gradient that a group keeps, for one sample.
    pub(crate) activations: Vec<usize>,
    pub(crate) grads: Vec<usize>,
    /// Elements of each of a thread's buffers.
    pub(crate) local: Vec<usize>,
}

/// Gives every value of a training step its buffer. `group_len` is the most samples of a group.
pub(crate) fn plan(
    forward: &[Phase],
    backward: &mut [Phase],
    input: Slot,
    grad_output: &mut GradSlot,
    group_len: usize,
) -> Memory {
    let grads = place_grads(backward, grad_output);
    let local = number_local(backward, group_len);
    let activations = kept_lens(steps(forward).chain(steps(backward)), input);
    Memory { activations, grads, local }
}

impl Memory {
    /// That of an evaluation, whose slots share buffers already.
    pub(crate) fn of_eval(forward: &[Phase], input: Slot) -> Self {
        Self { activations: kept_lens(steps(forward), input), ..Self::default() }
    }
}

/// Asks the system for so much at once, which it refuses where there is not as much.
pub(crate) fn expect(bytes: usize, batch_size: usize) -> Result<(), PlanError> {
    let mut all = Vec::<u8>::new();
    let result = all.try_reserve_exact(bytes);
    // Else the compiler may leave out memory that nobody uses.
    std::hint::black_box(&mut all);
    result.map_err(|_| PlanError::TooLarge { bytes, batch_size })
}

/// Elements each buffer needs for one sample: its largest value's.
fn kept_lens<'a>(steps: impl Iterator<Item = &'a Step>, input: Slot) -> Vec<usize> {
    let mut lens = Vec::new();
    for slot in steps.flat_map(Step::slots).chain([input]) {
        lens.resize(lens.len().max(slot.buffer + 1), 0);
        lens[slot.buffer] = slot.len.max(lens[slot.buffer]);
    }
    lens
}

fn steps(phases: &[Phase]) -> impl Iterator<Item = &Step> {
    phases.iter().flat_map(|phase| &phase.steps)
}

/// Finds the gradients that live in one phase, and lets others that are not needed at the same time
/// share a buffer; returns the elements of each for one sample.
fn place_grads(backward: &mut [Phase], grad_output: &mut GradSlot) -> Vec<usize> {
    // The phases and steps of first and last use.
    let mut lives: HashMap<usize, [(usize, usize); 2]> = HashMap::new();
    for (i, phase) in backward.iter().enumerate() {
        for (j, step) in phase.steps.iter().enumerate() {
            for slot in step.grad_slots() {
                lives.entry(slot.buffer).or_insert([(i, j); 2])[1] = (i, j);
            }
        }
    }
    let fed = grad_output.buffer;
    let kept = |lives: &HashMap<usize, [(usize, usize); 2]>, buffer: usize| {
        let [first, last] = lives[&buffer];
        buffer == fed || first.0 != last.0
    };
    let mut lens = vec![grad_output.len];
    let mut places = HashMap::from([(fed, 0)]);
    let mut free: Vec<usize> = Vec::new();
    grad_output.buffer = 0;
    for (i, phase) in backward.iter_mut().enumerate() {
        for (j, step) in phase.steps.iter_mut().enumerate() {
            let mut done = Vec::new();
            let place = |slot: &mut GradSlot| {
                let value = slot.buffer;
                slot.local = !kept(&lives, value);
                if slot.local {
                    return;
                }
                slot.buffer = *places.entry(value).or_insert_with(|| {
                    match free.iter().position(|place| lens[*place] == slot.len) {
                        Some(found) => free.swap_remove(found),
                        None => {
                            lens.push(slot.len);
                            lens.len() - 1
                        }
                    }
                });
                // A gradient that is read twice is freed once.
                if lives[&value][1] == (i, j) && !done.contains(&slot.buffer) {
                    done.push(slot.buffer);
                }
            };
            step.visit(|_| (), place);
            free.extend(done);
        }
    }
    lens
}

/// Numbers the local gradients of each phase; returns the elements of each buffer.
fn number_local(phases: &mut [Phase], group_len: usize) -> Vec<usize> {
    let mut lens: Vec<usize> = Vec::new();
    for phase in phases {
        let at_once = phase.samples_at_once.min(group_len);
        let mut numbered: Vec<usize> = Vec::new();
        let mut number = |slot: &mut GradSlot| {
            if !slot.local {
                return;
            }
            let found = numbered.iter().position(|known| *known == slot.buffer);
            let number = found.unwrap_or_else(|| {
                numbered.push(slot.buffer);
                numbered.len() - 1
            });
            lens.resize(lens.len().max(number + 1), 0);
            lens[number] = lens[number].max(slot.len * at_once);
            slot.buffer = number;
        };
        phase.steps.iter_mut().for_each(|step| step.visit(|_| (), &mut number));
    }
    lens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, PlanOptions, backward, forward, fuse, step::phases};
    use residua_graph::{Conv2d, GraphBuilder, Shape};

    #[test]
    fn what_one_phase_uses_up_is_not_kept() {
        // conv, bn, relu, conv, bn, relu, fc: the first ReLU's output has one reader, a convolution.
        let mut b = GraphBuilder::new(Shape::image(3, 4, 4));
        let mut value = b.input();
        for i in 0..2 {
            let conv = Conv2d { padding: [1; 2], ..Conv2d::square(8, 3) };
            value = b.conv2d(&format!("conv{i}"), value, conv).unwrap();
            value = b.batch_norm(&format!("bn{i}"), value).unwrap();
            value = b.relu(&format!("relu{i}"), value);
        }
        let pooled = b.global_avg_pool("avgpool", value);
        let logits = b.linear("fc", pooled, 2).unwrap();
        let graph = b.finish(logits);
        let options = PlanOptions { mode: Mode::Train, ..PlanOptions::train(4).unwrap() };
        let compiled = forward::compile::<f32>(&graph, &options).unwrap();
        let (input, output) = (compiled.input, compiled.output);
        let conv_lens: Vec<_> = compiled.convs.iter().map(|c| c.problem.weight_len()).collect();
        let mut back = backward::compile(&compiled.steps, input, output);
        let mut steps = compiled.steps;
        let unstored = fuse::forward(&mut steps, output);
        fuse::backward(&mut back.steps, &unstored, |conv| compiled.convs[conv].bias.is_some());
        let forward = phases(steps, 0, &conv_lens, 4);
        let mut backward = phases(back.steps, 0, &conv_lens, 4);
        let memory = plan(&forward, &mut backward, input, &mut back.grad_output, 2);

        // Kept: the input, both convolutions' outputs, the last ReLU's, the mean and the logits.
        let kept: usize = memory.activations.iter().sum();
        assert_eq!(kept, 3 * 16 + 3 * 8 * 16 + 8 + 2);
        // What goes from one phase to the next: two convolutions' gradients at a time.
        assert_eq!(memory.grads.iter().filter(|len| **len == 8 * 16).count(), 2);
        // Two samples of the gradients that a phase uses up.
        assert!(memory.local.iter().all(|len| *len <= 2 * 8));
    }
}
