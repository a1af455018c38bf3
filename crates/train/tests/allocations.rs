//! A training step takes no memory from the heap after the first one: forward, loss, backward,
//! clipping and update, on two threads.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]

mod small_run;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use residua_engine::{Isa, Precision, ThreadPool};
use residua_resnet::{InitOptions, init_weights};
use residua_train::{MuonOptions, Recipe, TrainStep};
use small_run::Task;

struct Counting;

static NUM_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NUM_ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        NUM_ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The least number in five calls: the test's own threads may take memory during one, and a thread
/// that finds work for the first time takes some once.
fn allocations_in(mut f: impl FnMut()) -> usize {
    let one_call = || {
        let before = NUM_ALLOCATIONS.load(Ordering::SeqCst);
        f();
        NUM_ALLOCATIONS.load(Ordering::SeqCst) - before
    };
    std::iter::repeat_with(one_call).take(5).min().expect("five calls")
}

#[test]
fn a_step_after_the_first_allocates_nothing() {
    // The counter counts.
    assert_eq!(allocations_in(|| drop(std::hint::black_box(vec![0_u8; 100]))), 1);

    let settings = [
        (Precision::F32, None),
        (Precision::Bf16, None),
        (Precision::F32, Some(MuonOptions::default())),
    ];
    let tasks = Task::ALL.into_iter().flat_map(|task| settings.map(|setting| (task, setting)));
    for (task, (precision, muon)) in tasks {
        let recipe = Recipe { precision, muon, ..task.recipe() };
        let graph = recipe.architecture.to_graph().unwrap();
        let weights = init_weights(&recipe.architecture, &graph, &InitOptions::default());
        let mut step = TrainStep::new(&graph, weights, &recipe, Isa::best().unwrap()).unwrap();
        let num_values = recipe.batch_size * recipe.architecture.input().len();
        let input: Vec<f32> = (0..num_values).map(|i| (i as f32 * 0.7).sin()).collect();
        let labels: Vec<u32> = (0..recipe.batch_size as u32).map(|i| i % 3).collect();
        let pool = ThreadPool::new(Some(2)).unwrap();
        pool.install(|| {
            step.run(&input, &labels, 0.1);
            let num_allocations = allocations_in(|| {
                step.run(&input, &labels, 0.1);
            });
            assert_eq!(num_allocations, 0, "{task:?} in {precision}, {muon:?}");
        });
    }
}
