//! Buffers that start at a cache line, so that whole vectors and tile rows don't cross one, in large pages where
//! there are such: a step walks through more pages than a core remembers the places of.

use crate::Element;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

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
pub struct Aligned<E> {
    /// What its lines are part of; nothing, if it has none.
    memory: Option<Arc<Memory>>,
    /// Its first line in there.
    first: usize,
    len: usize,
    element: PhantomData<E>,
}

const TOO_LARGE: &str = "a buffer is larger than the address space";

impl<E: Element> Aligned<E> {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Self {
        Self::parts(len, 1).next().expect("one part")
    }

    /// `num` buffers of `len` zeros, each behind the one before in memory.
    ///
    /// ```
    /// # use residua_kernels::Aligned;
    /// let parts: Vec<_> = Aligned::<f32>::parts(16, 2).collect();
    /// assert_eq!(parts[0].as_ptr_range().end, parts[1].as_ptr());
    /// ```
    pub fn parts(len: usize, num: usize) -> impl Iterator<Item = Self> {
        let bytes = len.checked_mul(size_of::<E>()).expect(TOO_LARGE);
        let num_lines = bytes.div_ceil(size_of::<Line>());
        let all_lines = num_lines.checked_mul(num).expect(TOO_LARGE);
        let memory = (num_lines > 0).then(|| Arc::new(Memory::zeroed(all_lines)));
        (0..num).map(move |i| Self {
            memory: memory.clone(),
            first: i * num_lines,
            len,
            element: PhantomData,
        })
    }

    fn first(&self) -> NonNull<E> {
        match &self.memory {
            // SAFETY: the buffer's lines are among the memory's.
            Some(memory) => unsafe { memory.first.add(self.first) }.cast(),
            None => NonNull::<Line>::dangling().cast(),
        }
    }
}

impl<E> Default for Aligned<E> {
    fn default() -> Self {
        Self { memory: None, first: 0, len: 0, element: PhantomData }
    }
}

impl<E: Element> Clone for Aligned<E> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<E> fmt::Debug for Aligned<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aligned").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<E: Element> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        // SAFETY: the buffer's lines hold `len` elements, which any bits are, and start at a cache line;
        // they belong to no other buffer, and the memory lives as long as the buffer.
        unsafe { std::slice::from_raw_parts(self.first().as_ptr(), self.len) }
    }
}

impl<E: Element> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.first().as_ptr(), self.len) }
    }
}

/// Lines that some buffers share, none of which has another's.
#[derive(Debug)]
struct Memory {
    first: NonNull<Line>,
    /// What they lie in until the last buffer is gone.
    _pages: MmapMut,
}

impl Memory {
    fn zeroed(num_lines: usize) -> Self {
        let bytes = num_lines * size_of::<Line>();
        let mut pages = MmapMut::map_anon(bytes)
            .unwrap_or_else(|error| panic!("{bytes} bytes of memory: {error}"));
        // A system without large pages gives small ones.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(Advice::HugePage);
        let first = NonNull::from(&mut pages[..]).cast();
        Self { first, _pages: pages }
    }
}

// SAFETY: it owns its lines, as a box does.
unsafe impl Send for Memory {}
// SAFETY: it gives no access to them; buffers do, each to its own lines, as a slice does.
unsafe impl Sync for Memory {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "larger than the address space")]
    fn a_length_that_overflows_is_refused() {
        let _ = Aligned::<f32>::zeroed(1 << 62);
    }

    #[test]
    fn parts_share_no_element_and_outlive_each_other() {
        let mut parts: Vec<Aligned<f32>> = Aligned::parts(17, 3).collect();
        for (i, part) in parts.iter_mut().enumerate() {
            assert_eq!((part.len(), part.as_ptr() as usize % 64), (17, 0));
            part.fill(i as f32);
        }
        let last = parts.pop().unwrap();
        let copy = parts[1].clone();
        drop(parts);
        assert_eq!((&last[..], &copy[..]), (&[2.0; 17][..], &[1.0; 17][..]));
        assert_eq!(Aligned::<f32>::parts(0, 2).map(|part| part.len()).sum::<usize>(), 0);
    }
}
