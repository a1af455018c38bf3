use std::sync::atomic::{AtomicUsize, Ordering};

/// How far a long operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Samples, or what else it takes one by one, done.
    pub done: usize,
    /// How many there are.
    pub total: usize,
}

/// Receives progress, from several threads.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

/// Counts what several threads have done.
pub struct ProgressCount<'a> {
    done: AtomicUsize,
    total: usize,
    on_progress: OnProgress<'a>,
}

impl<'a> ProgressCount<'a> {
    /// Nothing yet, of so many.
    pub fn new(total: usize, on_progress: OnProgress<'a>) -> Self {
        Self { done: AtomicUsize::new(0), total, on_progress }
    }

    /// Tells that there is one more.
    pub fn add_one(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (self.on_progress)(Progress { done, total: self.total });
    }
}

impl std::fmt::Debug for ProgressCount<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = self.done.load(Ordering::Relaxed);
        f.debug_struct("ProgressCount").field("done", &done).field("total", &self.total).finish()
    }
}
