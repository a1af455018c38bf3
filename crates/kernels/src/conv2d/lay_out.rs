//! Samples as a direct convolution reads them.

use crate::padding::Padding;
use crate::{Element, Isa, Source};
use std::any::TypeId;

/// Lays samples out in `memory` with `slack` zeros behind them, unless they can be read where they lie. So many
/// were laid out there `before`, with zeros around them that are still there.
pub(super) fn lay_out<'a, A: Element, T: Element>(
    isa: Isa,
    padding: &Padding,
    slack: usize,
    samples: Source<'a, A>,
    before: usize,
    memory: &'a mut [T],
) -> &'a [T] {
    let same = TypeId::of::<A>() == TypeId::of::<T>();
    let in_place = same && padding.is_none() && slack == 0;
    let samples = if padding.crops() || in_place { samples.stored_first(isa) } else { samples };
    if let Source::Stored(stored) = samples
        && in_place
    {
        return bytemuck::cast_slice(stored);
    }
    let len = padding.pad(isa, samples, before, memory).len();
    memory[len..][..slack].fill(bytemuck::Zeroable::zeroed());
    &memory[..len + slack]
}
