use std::ops::Range;

/// The elements of some samples of a value that has `len` elements a sample.
pub(crate) fn samples<'a, E>(buffer: &'a [E], len: usize, samples: &Range<usize>) -> &'a [E] {
    &buffer[samples.start * len..samples.end * len]
}

/// As [`samples`], to change them.
pub(crate) fn samples_mut<'a, E>(
    buffer: &'a mut [E],
    len: usize,
    samples: &Range<usize>,
) -> &'a mut [E] {
    &mut buffer[samples.start * len..samples.end * len]
}
