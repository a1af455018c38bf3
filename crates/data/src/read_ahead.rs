use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::{Batch, DataError};

/// Batches made ahead of their use: one job walks through the steps in order, the threads of its
/// pool share the samples of each batch, and bounded queues hold it back. Which thread makes a
/// sample can't matter, so neither does their number.
pub(crate) struct ReadAhead {
    batches: Receiver<Result<Batch, DataError>>,
    used: SyncSender<Batch>,
    stop: Arc<AtomicBool>,
    waited: Duration,
    /// Owns the threads; they end after the job does.
    _pool: rayon::ThreadPool,
}

/// What the batches hold.
pub(crate) struct Work<O, W> {
    /// Overwrites the list with the samples of a step; `false` after the last step.
    pub(crate) order: O,
    /// Writes one sample and its label.
    pub(crate) write: W,
    /// Values in one sample.
    pub(crate) input_len: usize,
    /// Samples in one batch, at most.
    pub(crate) batch_size: usize,
}

/// Where one sample of a batch goes.
pub(crate) struct Slot<'a> {
    pub(crate) step: u64,
    pub(crate) position: usize,
    /// Of all samples of the dataset.
    pub(crate) index: u32,
    pub(crate) input: &'a mut [f32],
    pub(crate) label: &'a mut u32,
}

/// Large batches are not queued: this much is ready at most, or one batch.
const QUEUE_BYTES: usize = 16 << 20;

impl ReadAhead {
    pub(crate) fn start<O, W>(
        work: Work<O, W>,
        first_step: u64,
        workers: usize,
    ) -> Result<Self, DataError>
    where
        O: FnMut(u64, &mut Vec<u32>) -> bool + Send + 'static,
        W: Fn(Slot<'_>) -> Result<(), DataError> + Send + Sync + 'static,
    {
        let batch_bytes = work.batch_size * work.input_len * size_of::<f32>();
        let depth = (QUEUE_BYTES / batch_bytes.max(1)).clamp(1, 4);
        let (sender, batches) = sync_channel(depth);
        let (used, empty) = sync_channel(depth + 2);
        let stop = Arc::new(AtomicBool::new(false));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers.max(1))
            .thread_name(|i| format!("data-{i}"))
            .build()
            .map_err(|e| DataError::Worker(e.to_string()))?;
        let stopped = Arc::clone(&stop);
        pool.spawn(move || run(work, first_step, &sender, &empty, &stopped));
        Ok(Self { batches, used, stop, waited: Duration::ZERO, _pool: pool })
    }

    /// `None` after the last batch, and after an error.
    pub(crate) fn next(&mut self) -> Result<Option<Batch>, DataError> {
        let ready = match self.batches.try_recv() {
            Err(TryRecvError::Empty) => {
                let start = Instant::now();
                let ready = self.batches.recv();
                self.waited += start.elapsed();
                ready.ok()
            }
            ready => ready.ok(),
        };
        ready.transpose()
    }

    /// Gives a batch's memory back.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        // A full or closed queue only means that the memory is not needed again.
        let _ = self.used.try_send(batch);
    }

    pub(crate) fn wait_seconds(&self) -> f64 {
        self.waited.as_secs_f64()
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The job may be blocked on a full queue; it is gone when the queue is closed.
        while self.batches.recv().is_ok() {}
    }
}

fn run<O, W>(
    mut work: Work<O, W>,
    first_step: u64,
    batches: &SyncSender<Result<Batch, DataError>>,
    empty: &Receiver<Batch>,
    stop: &AtomicBool,
) where
    O: FnMut(u64, &mut Vec<u32>) -> bool,
    W: Fn(Slot<'_>) -> Result<(), DataError> + Sync,
{
    let mut indices = Vec::new();
    for step in first_step.. {
        let mut batch = empty.try_recv().unwrap_or_default();
        let made = catch_unwind(AssertUnwindSafe(|| {
            if !(work.order)(step, &mut indices) {
                return Ok(false);
            }
            make(&work.write, work.input_len, step, &indices, &mut batch, stop).map(|()| true)
        }));
        let message = match made {
            Ok(Ok(true)) => Ok(batch),
            Ok(Ok(false)) => return,
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(DataError::Worker(format!("a thread panicked: {}", text(&*panic)))),
        };
        let failed = message.is_err();
        if stop.load(Ordering::Relaxed) || batches.send(message).is_err() || failed {
            return;
        }
    }
}

/// Fills a batch; leaves it unfinished if told to stop.
fn make(
    write: &(impl Fn(Slot<'_>) -> Result<(), DataError> + Sync),
    input_len: usize,
    step: u64,
    indices: &[u32],
    batch: &mut Batch,
    stop: &AtomicBool,
) -> Result<(), DataError> {
    batch.step = step;
    batch.labels.resize(indices.len(), 0);
    batch.input.resize(indices.len() * input_len, 0.0);
    let inputs = batch.input.par_chunks_exact_mut(input_len);
    let slots = inputs.zip(&mut batch.labels).zip(indices).enumerate();
    slots.try_for_each(|(position, ((input, label), &index))| {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        write(Slot { step, position, index, input, label })
    })
}

fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(fail_at: u64, fail: fn() -> DataError) -> ReadAhead {
        let work = Work {
            order: |_, indices: &mut Vec<u32>| {
                *indices = vec![0, 1];
                true
            },
            write: move |slot: Slot<'_>| {
                slot.input.fill(slot.step as f32);
                if slot.step == fail_at && slot.position == 1 { Err(fail()) } else { Ok(()) }
            },
            input_len: 3,
            batch_size: 2,
        };
        ReadAhead::start(work, 0, 2).unwrap()
    }

    fn error_after(ahead: &mut ReadAhead, good: u64) -> String {
        for step in 0..good {
            let batch = ahead.next().unwrap().unwrap();
            assert_eq!((batch.step, batch.input[5]), (step, step as f32));
        }
        ahead.next().unwrap_err().to_string()
    }

    #[test]
    fn a_panic_comes_out_as_an_error_in_its_turn() {
        let mut ahead = start(3, || panic!("broken on purpose"));
        let error = error_after(&mut ahead, 3);
        assert_eq!(error, "data loader: a thread panicked: broken on purpose");
        assert!(ahead.next().unwrap().is_none());
    }

    #[test]
    fn an_error_comes_out_in_its_turn() {
        let mut ahead = start(7, || DataError::invalid("sample", "broken on purpose"));
        assert_eq!(error_after(&mut ahead, 7), "sample: broken on purpose");
        assert!(ahead.next().unwrap().is_none());
    }

    #[test]
    fn the_queue_is_bounded() {
        let made = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = Arc::clone(&made);
        let work = Work {
            order: |_, indices: &mut Vec<u32>| {
                *indices = vec![0];
                true
            },
            write: move |slot: Slot<'_>| {
                counter.store(slot.step + 1, Ordering::SeqCst);
                Ok(())
            },
            input_len: 1,
            batch_size: 1,
        };
        let mut ahead = ReadAhead::start(work, 0, 1).unwrap();
        for used in 1..=20 {
            ahead.next().unwrap();
            // Four are queued and one is being made, at most.
            assert!(made.load(Ordering::SeqCst) <= used + 5);
        }
    }
}
