use crate::PlanError;
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The persistent threads that plans run on.
#[derive(Debug)]
pub struct ThreadPool(rayon::ThreadPool);

impl ThreadPool {
    /// Starts this many threads, or one for each core.
    ///
    /// # Errors
    /// The system refuses to start them.
    pub fn new(threads: Option<usize>) -> Result<Self, PlanError> {
        let threads = threads.unwrap_or(0);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("residua-{i}"))
            .build()
            .map(Self)
            .map_err(|error| PlanError::Threads { threads, reason: error.to_string() })
    }

    /// Runs `f` on one of the threads; plans used in it run on all of them. Wrap a whole training
    /// loop, not each step.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.0.install(f)
    }

    /// How many there are.
    pub fn num_threads(&self) -> usize {
        self.0.current_num_threads()
    }
}

const PANICKED: &str = "a thread that panicked ends the run";

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(PANICKED)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect(PANICKED)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect(PANICKED)
}

/// What a mutex holds that no other thread can see.
pub(crate) fn exclusive<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().expect(PANICKED)
}
