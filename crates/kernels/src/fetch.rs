//! Fetching what a walk comes to next.

/// How far ahead, in bytes: some 30 lines, about as many as a core has under way at once.
const AHEAD: usize = 2048;

/// Fetches the cache line 2 KiB after `place`, which is read or written soon: the cache's own fetching stops at each
/// page, and a line that is written is read before. Nothing happens where nothing lies.
#[inline(always)]
pub(crate) fn fetch_ahead<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: fetching has no effect but on the cache, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast::<i8>().wrapping_add(AHEAD));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
