//! From forward steps to backward steps.

use crate::step::{
    Addend, GradInput, GradOutput, GradSlot, GradSums, Input, Mask, Residual, Slot, Step,
};
use std::collections::HashMap;

/// What the backward of some forward steps needs.
#[derive(Debug)]
pub(crate) struct Backward {
    pub(crate) steps: Vec<Step>,
    /// The gradient that is fed in.
    pub(crate) grad_output: GradSlot,
}

/// Walks the forward steps from the last to the first; every gradient gets a buffer of its own.
pub(crate) fn compile(forward: &[Step], input: Slot, output: Slot) -> Backward {
    let mut compiler =
        Compiler { input, grads: HashMap::new(), holders: Vec::new(), steps: Vec::new() };
    let grad_output = compiler.allocate(output.len);
    compiler.grads.insert(output, grad_output);
    for step in forward.iter().rev() {
        compiler.step(step);
    }
    Backward { steps: compiler.steps, grad_output }
}

struct Compiler {
    input: Slot,
    /// The gradient of each activation that has one so far. Two may hold the same buffer.
    grads: HashMap<Slot, GradSlot>,
    /// How many hold each buffer.
    holders: Vec<usize>,
    steps: Vec<Step>,
}

impl Compiler {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Moments { .. } => {}
            Step::Normalise { norm, input, residual, relu, output } => {
                let Some(mut grad_output) = self.grads.remove(&output) else { return };
                if relu {
                    grad_output = self.own(grad_output);
                }
                let mask = if relu { Mask::Output(output) } else { Mask::None };
                let sums = GradSums { norm, input, mask };
                self.steps.push(Step::NormGradSums { sums, grad_output });
                self.give_new(input, |grad_input| Step::NormGradInput {
                    norm,
                    input,
                    grad_output,
                    grad_input,
                });
                match residual {
                    Some(Residual::Stored(residual)) => self.give(residual, grad_output),
                    Some(joined) => unreachable!("{joined:?} is of a joined step"),
                    None => self.release(grad_output),
                }
            }
            Step::Conv { conv, input: Input::Stored(slot), output, .. } => {
                let Some(grad_output) = self.grads.remove(&output) else { return };
                let grad_input = self.accumulating(slot).map(|(grad, accumulate)| GradInput {
                    grad,
                    addend: if accumulate { Addend::InPlace } else { Addend::None },
                    sums: None,
                });
                let (input, grad) = (Input::Stored(slot), GradOutput::Stored(grad_output));
                self.steps.push(Step::ConvGrad {
                    conv,
                    input,
                    grad_output: grad,
                    grad_input,
                    keep: None,
                });
                self.release(grad_output);
            }
            Step::Relu { input, output } => {
                let Some(grad) = self.grads.remove(&output) else { return };
                let grad = self.own(grad);
                self.steps.push(Step::ReluGrad { output, grad });
                self.give(input, grad);
            }
            Step::Add { left, right, relu, output } => {
                let Some(mut grad) = self.grads.remove(&output) else { return };
                if relu {
                    grad = self.own(grad);
                    self.steps.push(Step::ReluGrad { output, grad });
                }
                self.holders[grad.buffer] += 1;
                self.give(left, grad);
                self.give(right, grad);
            }
            Step::MaxPool { pool, input: Input::Stored(input), output } => {
                let Some(grad_output) = self.grads.remove(&output) else { return };
                self.give_new(input, |grad_input| Step::MaxPoolGrad {
                    pool,
                    grad_output,
                    grad_input,
                    sums: None,
                });
                self.release(grad_output);
            }
            Step::GlobalAvgPool { num_pixels, c, input, output } => {
                let Some(grad_output) = self.grads.remove(&output) else { return };
                self.give_new(input, |grad_input| Step::GlobalAvgPoolGrad {
                    num_pixels,
                    c,
                    grad_output,
                    grad_input,
                });
                self.release(grad_output);
            }
            Step::ZeroPad { problem, input, output } => {
                let Some(grad_output) = self.grads.remove(&output) else { return };
                if let Some((grad_input, accumulate)) = self.accumulating(input) {
                    let step = Step::ZeroPadGrad { problem, grad_output, grad_input, accumulate };
                    self.steps.push(step);
                }
                self.release(grad_output);
            }
            _ => unreachable!("{step:?} is no forward step"),
        }
    }

    /// A gradient that is complete goes to an activation: as its gradient, or added to it.
    fn give(&mut self, to: Slot, grad: GradSlot) {
        if to == self.input {
            self.release(grad);
        } else if let Some(sum) = self.owned_grad(to) {
            self.steps.push(Step::AddGrad { grad: sum, other: grad });
            self.release(grad);
        } else {
            self.grads.insert(to, grad);
        }
    }

    /// As [`give`](Self::give), for a step that makes the gradient in a buffer of its own.
    fn give_new(&mut self, to: Slot, step: impl FnOnce(GradSlot) -> Step) {
        if to != self.input {
            let grad = self.allocate(to.len);
            self.steps.push(step(grad));
            self.give(to, grad);
        }
    }

    /// For a step that can add to what is there: where an activation's gradient is, if it is wanted, and
    /// whether there is something.
    fn accumulating(&mut self, to: Slot) -> Option<(GradSlot, bool)> {
        if to == self.input {
            return None;
        }
        let sum = self.owned_grad(to);
        let grad = sum.unwrap_or_else(|| self.allocate(to.len));
        self.grads.insert(to, grad);
        Some((grad, sum.is_some()))
    }

    /// The gradient an activation has so far, in a buffer that nobody else holds.
    fn owned_grad(&mut self, slot: Slot) -> Option<GradSlot> {
        let grad = *self.grads.get(&slot)?;
        let owned = self.own(grad);
        self.grads.insert(slot, owned);
        Some(owned)
    }

    /// The same gradient in a buffer that nobody else holds.
    fn own(&mut self, grad: GradSlot) -> GradSlot {
        if self.holders[grad.buffer] == 1 {
            return grad;
        }
        let own = self.allocate(grad.len);
        self.steps.push(Step::CopyGrad { from: grad, to: own });
        self.release(grad);
        own
    }

    fn allocate(&mut self, len: usize) -> GradSlot {
        self.holders.push(1);
        GradSlot { buffer: self.holders.len() - 1, len, local: false }
    }

    fn release(&mut self, grad: GradSlot) {
        self.holders[grad.buffer] -= 1;
    }
}
