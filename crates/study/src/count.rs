use std::sync::atomic::{AtomicUsize, Ordering};

use residua_data::{OnProgress, Progress};

/// Counts what several threads have done.
pub(crate) struct Count<'a> {
    done: AtomicUsize,
    total: usize,
    on_progress: OnProgress<'a>,
}

impl<'a> Count<'a> {
    pub(crate) fn new(total: usize, on_progress: OnProgress<'a>) -> Self {
        Self { done: AtomicUsize::new(0), total, on_progress }
    }

    /// Passes a result on, and tells that there is one more.
    pub(crate) fn with<T>(&self, result: T) -> T {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (self.on_progress)(Progress { done, total: self.total });
        result
    }
}
