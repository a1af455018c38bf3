//! What a network says about a sample does not depend on which samples are beside it, or how many.

use crate::{architectures, case::Case};
use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions, Precision};

/// Logits of all samples, evaluated so many at a time.
fn logits(case: &Case, options: &PlanOptions) -> Result<Vec<u32>, PlanError> {
    let batch_size = options.batch_size;
    let mut plan = Plan::new(&case.graph, options)?;
    plan.load(&case.weights);
    let sample = case.input.len() / case.num_samples;
    let num_classes = case.grad_logits.len() / case.num_samples;
    let mut logits = vec![f32::NAN; case.grad_logits.len()];
    let batches = case.input.chunks(batch_size * sample);
    for (input, logits) in batches.zip(logits.chunks_mut(batch_size * num_classes)) {
        plan.forward(input, logits);
    }
    Ok(logits.iter().map(|logit| logit.to_bits()).collect())
}

#[test]
fn logits_have_the_same_bits_at_any_batch_size() -> Result<(), Box<dyn std::error::Error>> {
    const NUM_SAMPLES: usize = 19;
    for architecture in architectures::all() {
        let case = Case::random(&architecture.to_graph()?, NUM_SAMPLES, 1);
        let both = |isa| [Precision::F32, Precision::Bf16].map(|precision| (isa, precision));
        for (isa, precision) in Isa::supported().flat_map(both) {
            let options = PlanOptions { batch_size: 1, mode: Mode::Eval, precision, isa };
            let alone = logits(&case, &options)?;
            for batch_size in [2, 3, 8, NUM_SAMPLES] {
                let together = logits(&case, &PlanOptions { batch_size, ..options })?;
                let name = architecture.name();
                assert_eq!(together, alone, "{name}, {isa}, {precision}, batch {batch_size}");
            }
        }
    }
    Ok(())
}
