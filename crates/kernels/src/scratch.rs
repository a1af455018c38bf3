//! Working memory of a kernel: one buffer for each thread, which grows to the largest size asked
//! for and is never given back, so that a training step allocates nothing.

use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of unspecified value. Not to be nested.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        f(&mut scratch[..len])
    })
}

/// Makes the calling thread's buffer at least `len` elements long, ahead of its first use.
pub fn reserve(len: usize) {
    with(len, |_| ());
}
