use std::ops::Range;

/// The elements of some samples of a value that has `len` elements a sample.
pub(crate) fn samples<'a>(buffer: &'a [f32], len: usize, samples: &Range<usize>) -> &'a [f32] {
    &buffer[samples.start * len..samples.end * len]
}

/// As [`samples`], to change them.
pub(crate) fn samples_mut<'a>(
    buffer: &'a mut [f32],
    len: usize,
    samples: &Range<usize>,
) -> &'a mut [f32] {
    &mut buffer[samples.start * len..samples.end * len]
}
