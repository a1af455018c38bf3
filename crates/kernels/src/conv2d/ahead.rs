//! What is wanted next, to be fetched while tiles multiply: they leave the memory alone for most of their
//! time, and what an earlier phase wrote comes from the third-level cache or from memory. What is written next
//! is fetched too, as a line that isn't there is read before it is written.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AMX fetches"))]

use super::grad_input::{Addend, GradInput};
use super::sums::Sums;
use crate::batch_norm::Mask;
use crate::{Residual, Source};

/// A cache line.
const LINE: usize = 64;
/// The most lines that are worth fetching: a megabyte, half of the second-level cache.
const MAX_LINES: usize = (1 << 20) / LINE;

/// Memory that is read or written next.
#[derive(Debug, Clone, Copy)]
struct Region {
    /// Never dereferenced: fetching what isn't there does nothing.
    first: *const u8,
    num_lines: usize,
}

/// Cache lines that are fetched beside products, so many in each step, from `first` on.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetch {
    pub(super) first: *const u8,
    pub(super) num_lines: usize,
}

impl Fetch {
    pub(super) const NONE: Self = Self { first: std::ptr::null(), num_lines: 0 };
}

impl Region {
    const NONE: Self = Self { first: std::ptr::null(), num_lines: 0 };

    /// As much as `elements`, after these.
    fn after<E>(elements: &[E]) -> Self {
        let first = elements.as_ptr_range().end.cast();
        Self { first, num_lines: size_of_val(elements).div_ceil(LINE) }
    }
}

/// What the samples after some others are read from and written to, if they follow them in memory.
#[derive(Debug)]
pub(super) struct Ahead {
    regions: [Region; 7],
}

impl Ahead {
    const NONE: Self = Self { regions: [Region::NONE; 7] };

    /// After some samples of a forward.
    pub(super) fn of_forward<E>(input: &Source<'_, E>, output: &[E]) -> Self {
        Self::NONE.source(input).after(output).capped()
    }

    /// After some samples of a backward, which has an input if the gradient of the weight is wanted.
    pub(super) fn of_backward<E>(
        grad_output: &Source<'_, E>,
        input: Option<&Source<'_, E>>,
        grad_input: Option<&GradInput<'_, E>>,
    ) -> Self {
        let mut ahead = Self::NONE.source(grad_output);
        if let Some(input) = input {
            ahead = ahead.source(input);
        }
        if let Some(call) = grad_input {
            ahead = ahead.after(call.grad_input);
            if let Addend::ZeroPad(shortcut) = &call.addend {
                ahead = ahead.after(shortcut.grad_output());
            }
            if let Sums::NormGrad(sums) = &call.sums {
                ahead = ahead.after(sums.input);
                if let Mask::Output(output) = sums.mask {
                    ahead = ahead.after(output);
                }
            }
        }
        ahead.capped()
    }

    /// What follows `source`, and its result where that is stored.
    fn source<E>(self, source: &Source<'_, E>) -> Self {
        match source {
            Source::Stored(samples) => self.after(samples),
            Source::Normalised(from) => {
                let mut all = self.after(from.input);
                if let Some(Residual::Stored(residual)) = from.residual {
                    all = all.after(residual);
                }
                match &from.output {
                    Some(output) => all.after(output),
                    None => all,
                }
            }
            Source::NormGrad(from) => self.after(from.grad_output).after(from.input),
        }
    }

    /// What follows `elements`, unless it is known.
    fn after<E>(mut self, elements: &[E]) -> Self {
        let region = Region::after(elements);
        let known = self.regions.iter().any(|known| known.first == region.first);
        if !known && let Some(free) = self.regions.iter_mut().find(|region| region.num_lines == 0) {
            *free = region;
        }
        self
    }

    /// Forgets what the second-level cache would not keep.
    fn capped(self) -> Self {
        if self.num_lines() > MAX_LINES { Self::NONE } else { self }
    }

    /// Lines that are left.
    pub(super) fn num_lines(&self) -> usize {
        self.regions.iter().map(|region| region.num_lines).sum()
    }

    /// What the next steps, of which there are some, fetch: at most so many lines in each, of one region.
    pub(super) fn fetch(&mut self, most: usize, num_steps: usize) -> Fetch {
        let Some(region) = self.regions.iter_mut().find(|region| region.num_lines > 0) else {
            return Fetch::NONE;
        };
        let num_lines = most.min(region.num_lines.div_ceil(num_steps));
        let (first, taken) = (region.first, num_lines * num_steps);
        region.first = first.wrapping_add(LINE * taken);
        region.num_lines = region.num_lines.saturating_sub(taken);
        Fetch { first, num_lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_fetched_once_and_evenly() {
        let elements = [0.0_f32; 16 * 12];
        let (input, output) = (&elements[..32], &elements[64..128]);
        let mut ahead = Ahead::of_forward(&Source::Stored(input), output);
        assert_eq!(ahead.num_lines(), 2 + 4);
        let after = |part: &[f32]| part.as_ptr_range().end.cast::<u8>();
        let mut lines = Vec::new();
        loop {
            let Fetch { first, num_lines } = ahead.fetch(1, 2);
            if num_lines == 0 {
                break;
            }
            lines.push(first);
        }
        assert_eq!(lines, [after(input), after(output), after(output).wrapping_add(128)]);
        // The input that is read and the gradient that is made of it are one region.
        let ahead = Ahead::NONE.after(input).after(input);
        assert_eq!(ahead.num_lines(), 2);
    }

    #[test]
    fn what_the_cache_would_not_keep_is_left() {
        let samples = vec![0.0_f32; 1 << 18];
        let input = Source::Stored(&samples[..]);
        assert_eq!(Ahead::of_forward(&input, &samples[..1]).num_lines(), 0);
        assert!(Ahead::of_forward(&input, &samples[..0]).num_lines() > 0);
    }
}
