//! Rounds of tasks on all threads, with something that one thread does after each. A thread that has no task
//! left waits for the next round without sleeping: in small networks a round takes less than a millisecond, and
//! the system takes a tenth of that to wake a thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How often a waiting thread looks before it lets others run, some 10 µs.
const LOOKS: usize = 256;

/// Rounds of as many tasks as there are claims.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Of each task, the rounds in which a thread has taken it.
    claims: Vec<AtomicUsize>,
    /// Rounds that have begun.
    begun: AtomicUsize,
    /// Tasks of all rounds that are done.
    done: AtomicUsize,
    over: AtomicBool,
}

impl Rounds {
    pub(crate) fn new(num_tasks: usize) -> Self {
        Self {
            claims: (0..num_tasks).map(|_| AtomicUsize::new(0)).collect(),
            begun: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Calls `work(round, task)` once for each task of each round, on the threads of the current pool, and
    /// `after(round)` when all tasks of a round are done. Which thread does a task is left to chance, but
    /// mostly the same in every round, so that its memory stays in that core's cache. Neither may use the pool:
    /// waiting there, a thread could begin to help with what only it can end.
    pub(crate) fn run(
        &mut self,
        num_rounds: usize,
        work: impl Fn(usize, usize) + Sync,
        mut after: impl FnMut(usize) + Send,
    ) {
        self.claims.iter_mut().for_each(|claim| *claim.get_mut() = 0);
        (*self.begun.get_mut(), *self.done.get_mut()) = (0, 0);
        *self.over.get_mut() = false;
        let rounds = &*self;
        let mut lead = || {
            let _over = OnDrop(|| rounds.over.store(true, Ordering::Release));
            for round in 0..num_rounds {
                rounds.begun.store(round + 1, Ordering::Release);
                rounds.take_tasks(round, &work);
                let all = (round + 1) * rounds.claims.len();
                wait_until(|| rounds.done.load(Ordering::Acquire) == all);
                // A task has panicked: so will the thread that it was on.
                if rounds.is_over() {
                    return;
                }
                after(round);
            }
        };
        let help = || {
            for round in 0.. {
                wait_until(|| rounds.begun.load(Ordering::Acquire) > round || rounds.is_over());
                if rounds.is_over() {
                    return;
                }
                rounds.take_tasks(round, &work);
            }
        };
        let num_helpers = rayon::current_num_threads().min(rounds.claims.len()).saturating_sub(1);
        with_helpers(num_helpers, &mut lead, &help);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Does tasks of a round that no other thread has taken: this thread's own, then from the last of the
    /// others' on.
    fn take_tasks(&self, round: usize, work: &impl Fn(usize, usize)) {
        let num_tasks = self.claims.len();
        let thread = rayon::current_thread_index().unwrap_or(0);
        let place = |thread: usize| thread * num_tasks / rayon::current_num_threads();
        let (own, next) = (place(thread), place(thread + 1));
        let others = (0..own).rev().chain((next..num_tasks).rev());
        for task in (own..next).chain(others) {
            let claim = &self.claims[task];
            let take =
                || claim.compare_exchange(round, round + 1, Ordering::AcqRel, Ordering::Relaxed);
            if claim.load(Ordering::Relaxed) == round && take().is_ok() {
                // Counted even if it panics, so that nobody waits for it.
                let _done = OnDrop(|| {
                    if std::thread::panicking() {
                        self.over.store(true, Ordering::Release);
                    }
                    self.done.fetch_add(1, Ordering::AcqRel);
                });
                work(round, task);
            }
        }
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let mut looks = 0;
    while !is_so() {
        looks += 1;
        match looks < LOOKS {
            true => std::hint::spin_loop(),
            false => std::thread::yield_now(),
        }
    }
}

/// Runs `lead`, and `help` on so many other threads, or fewer if those are busy. Allocates nothing.
fn with_helpers(num_helpers: usize, lead: &mut (dyn FnMut() + Send), help: &(dyn Fn() + Sync)) {
    match num_helpers {
        0 => lead(),
        _ => {
            rayon::join(|| with_helpers(num_helpers - 1, lead, help), help);
        }
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_task_of_a_round_is_done_once_and_before_the_next() {
        for threads in [1, 2, 3, 7, 20] {
            for num_tasks in [1, 4, 16] {
                let seen = Mutex::new(Vec::new());
                let mut rounds = Rounds::new(num_tasks);
                // Twice, as what it counts starts anew.
                for _ in 0..2 {
                    pool(threads).install(|| {
                        rounds.run(
                            50,
                            |round, task| seen.lock().unwrap().push((round, task)),
                            |round| {
                                let mut seen = seen.lock().unwrap();
                                seen.sort_unstable();
                                let all: Vec<_> =
                                    (0..num_tasks).map(|task| (round, task)).collect();
                                assert_eq!(*seen, all, "{threads} threads");
                                seen.clear();
                            },
                        );
                    });
                }
            }
        }
    }

    #[test]
    fn other_threads_help() {
        let threads = Mutex::new(std::collections::HashSet::new());
        // Each task waits until as many threads have one as there are.
        let work = |_, _| {
            threads.lock().unwrap().insert(rayon::current_thread_index());
            wait_until(|| threads.lock().unwrap().len() == 3);
        };
        pool(3).install(|| Rounds::new(3).run(1, work, |_| ()));
    }

    #[test]
    fn a_busy_thread_is_not_waited_for() {
        let pool = pool(2);
        let over = AtomicBool::new(false);
        pool.scope(|scope| {
            scope.spawn(|_| wait_until(|| over.load(Ordering::Acquire)));
            Rounds::new(4).run(3, |_, _| (), |_| ());
            over.store(true, Ordering::Release);
        });
    }

    #[test]
    fn a_panic_ends_the_run_with_its_message() {
        for task in 0..4 {
            let last = AtomicUsize::new(0);
            let work = |round, i| {
                last.fetch_max(round, Ordering::Relaxed);
                assert!((round, i) != (1, task), "task {task}");
            };
            let run = || pool(2).install(|| Rounds::new(4).run(3, work, |_| ()));
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(*panic.downcast_ref::<String>().unwrap(), format!("task {task}"));
            assert_eq!(last.into_inner(), 1);
        }
    }
}
