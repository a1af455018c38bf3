//! Where the gradient of a convolution's input goes.

use super::sums::Sums;
use crate::zero_pad::ZeroPadGrad;
use crate::{Conv2dProblem, Element};
use std::ops::Range;

/// The gradient of a convolution's input.
#[derive(Debug)]
pub struct GradInput<'a, E> {
    /// Where it goes.
    pub grad_input: &'a mut [E],
    /// What it is added to.
    pub addend: Addend<'a, E>,
    /// What is added up over it.
    pub sums: Sums<'a, E>,
}

/// What the gradient of a convolution's input is added to.
#[derive(Debug, Clone, Copy)]
pub enum Addend<'a, E> {
    /// Nothing: it overwrites what is there.
    None,
    /// What is there.
    InPlace,
    /// The gradient from a zero-padding shortcut of the same input; their sum overwrites what is there.
    ZeroPad(ZeroPadGrad<'a, E>),
}

impl<E: Element> GradInput<'_, E> {
    /// That of some elements; of whole samples, where a shortcut's gradient is added.
    pub(super) fn part(&mut self, range: Range<usize>) -> GradInput<'_, E> {
        GradInput {
            grad_input: &mut self.grad_input[range.clone()],
            addend: match self.addend {
                Addend::ZeroPad(shortcut) => Addend::ZeroPad(shortcut.part(range.clone())),
                addend => addend,
            },
            sums: self.sums.part(range),
        }
    }

    /// Checks sizes.
    pub(super) fn check(&self, p: &Conv2dProblem) {
        assert_eq!(self.grad_input.len(), p.input_len());
        if let Addend::ZeroPad(shortcut) = &self.addend {
            let of = shortcut.problem();
            assert_eq!((of.n, of.ic, of.ih, of.iw), (p.n, p.ic, p.ih, p.iw));
        }
    }

    /// Writes a shortcut's gradient, so that it is what is there.
    pub(super) fn write_addend(&mut self) {
        if let Addend::ZeroPad(shortcut) = self.addend {
            shortcut.write(self.grad_input);
            self.addend = Addend::InPlace;
        }
    }
}
