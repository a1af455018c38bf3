//! Working memory of a kernel: one buffer for each thread, which grows to the largest size asked
//! for and is never given back, so that a training step allocates nothing.

use crate::Aligned;
use bytemuck::Pod;
use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Aligned<f32>> = RefCell::default();
}

/// Calls `f` with `len` elements of unspecified value. Not to be nested.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            *scratch = Aligned::zeroed(len);
        }
        f(&mut scratch[..len])
    })
}

/// As [`with`], for other elements.
pub(crate) fn with_operands<T: Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    with(len_of::<T>(len), |scratch| f(&mut bytemuck::cast_slice_mut(scratch)[..len]))
}

/// Elements of f32 that hold `len` elements of another format.
pub(crate) fn len_of<T>(len: usize) -> usize {
    (len * size_of::<T>()).div_ceil(size_of::<f32>())
}

/// Makes the calling thread's buffer at least `len` elements long, ahead of its first use.
pub fn reserve(len: usize) {
    with(len, |_| ());
}
