//! Buffers that start at a cache line, so that whole vectors and tile rows don't cross one.

use crate::Element;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: 16 numbers of 4 bytes fill the 64 bytes; all of their bit patterns are valid, zero too.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above, without padding, pointers or interior mutability.
unsafe impl bytemuck::Pod for Line {}

/// A slice of fixed length that starts at a cache line.
///
/// ```
/// let mut buffer = residua_kernels::Aligned::<f32>::zeroed(5);
/// buffer[4] = 1.0;
/// assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (5, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Aligned<E> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element> Aligned<E> {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Self {
        let num_lines = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        Self { lines: bytemuck::zeroed_vec(num_lines), len, element: PhantomData }
    }
}

impl<E> Default for Aligned<E> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, element: PhantomData }
    }
}

impl<E: Element> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<E: Element> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
