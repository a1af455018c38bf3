//! Training in bf16 goes where training in f32 goes.

mod small_run;

use std::sync::Arc;

use residua_data::{Batch, EvalLoader, OpenOptions, Split, open};
use residua_engine::{Isa, Plan, PlanOptions, Precision, cross_entropy};
use residua_graph::{Graph, Weights};
use residua_resnet::{InitOptions, init_weights};
use small_run::Task;

const DATA: &str = "synthetic:shapes?train=100&dev=20&test=30&difficulty=0";
const BATCH: usize = 25;
const NUM_STEPS: usize = 50;
const LR: f32 = 0.2;
/// What the loss in bf16 may be off by at any step, as a share of the loss in f32. Rounding one number
/// costs up to 2⁻⁸; the loss depends on thousands, whose errors mostly cancel, in 50 steps too.
const BAND: f32 = 3.0 / 256.0;

struct Run {
    graph: Graph,
    weights: Weights,
    batches: Vec<Batch>,
}

impl Run {
    fn new() -> Self {
        let architecture = Task::Shapes.architecture();
        let graph = architecture.to_graph().unwrap();
        let weights = init_weights(&architecture, &graph, &InitOptions::default());
        let dataset = Arc::new(open(DATA, &OpenOptions::default()).unwrap());
        let mut loader = EvalLoader::new(&dataset, Split::Train, BATCH, 1, None).unwrap();
        let batches = std::iter::from_fn(|| loader.next().unwrap()).collect();
        Self { graph, weights, batches }
    }

    /// The loss of each step of plain SGD; `store` changes the parameters after each.
    fn losses(&self, precision: Precision, isa: Isa, store: fn(&mut [f32])) -> Vec<f32> {
        let options = PlanOptions { precision, isa, ..PlanOptions::train(BATCH).unwrap() };
        let mut plan = Plan::new(&self.graph, &options).unwrap();
        let mut weights = self.weights.clone();
        let num_classes = plan.num_classes();
        let mut logits = vec![0.0; BATCH * num_classes];
        let (mut each, mut grad_logits) = (vec![0.0; BATCH], logits.clone());
        let mut grads = vec![0.0; weights.params.len()];
        let step = |i: usize| {
            let batch = &self.batches[i % self.batches.len()];
            plan.forward_train(&mut weights, &batch.input, &mut logits);
            let labels = &batch.labels;
            let loss =
                cross_entropy(&logits, labels, num_classes, 0.0, &mut each, &mut grad_logits);
            plan.backward(&weights, &grad_logits, &mut grads);
            weights.params.iter_mut().zip(&grads).for_each(|(w, grad)| *w -= LR * grad);
            store(&mut weights.params);
            loss.mean as f32
        };
        (0..NUM_STEPS).map(step).collect()
    }
}

/// The first step at which `losses` leave the band around `want`.
fn leaves_band(losses: &[f32], want: &[f32]) -> Option<usize> {
    losses.iter().zip(want).position(|(got, want)| (got - want).abs() > BAND * want)
}

#[test]
fn fifty_steps_in_bf16_stay_near_those_in_f32() {
    let run = Run::new();
    let want = run.losses(Precision::F32, Isa::Portable, |_| ());
    assert!(want[NUM_STEPS - 1] < 0.92 * want[0], "it learns: {want:?}");
    for isa in Isa::supported() {
        let losses = run.losses(Precision::Bf16, isa, |_| ());
        assert_eq!(leaves_band(&losses, &want), None, "{isa}: {losses:?} {want:?}");
        assert_ne!(losses, want, "{isa} rounds");
    }
}

#[test]
fn the_band_rejects_wrong_trainings() {
    let run = Run::new();
    let want = run.losses(Precision::F32, Isa::Portable, |_| ());
    let cut: fn(&mut [f32]) = |params| {
        params.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
    };
    // The same bits on every machine: with another instruction set the wrong trainings drift otherwise.
    let isa = Isa::Portable;
    for (what, losses) in [
        ("weights cut to bf16", run.losses(Precision::Bf16, isa, cut)),
        ("nothing learned", vec![want[0]; NUM_STEPS]),
        ("one step behind", [&want[..1], &want[..NUM_STEPS - 1]].concat()),
    ] {
        assert!(leaves_band(&losses, &want).is_some(), "{what}: {losses:?} {want:?}");
    }
}
