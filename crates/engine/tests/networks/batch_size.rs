//! What a network says about a sample does not depend on which samples are beside it, or how many.

use crate::{architectures, case::Case};
use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions, Precision, ThreadPool};
use residua_resnet::{Architecture, ArchitectureError, Block, Family, Shape, Shortcut, StemKind};

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

/// Networks with so much to do for one sample that several threads do it.
fn large() -> Result<Vec<Architecture>, ArchitectureError> {
    let photo = Architecture::named("resnet18", Shape::image(3, 90, 70), 10)?;
    let wide = |family| {
        Architecture::builder(Shape::image(3, 30, 34), 10)
            .family(family)
            .stem(StemKind::Conv3x3, 32)
            .stage(1, 32, 1)
            .stage(1, 40, 2)
    };
    let bottleneck = wide(Family::Preact).block(Block::Bottleneck).shortcut(Shortcut::Projection);
    let zero_pad = wide(Family::Residual).name("wide").build()?;
    let biased = wide(Family::Plain).norm(false).name("wide-no-norm").build()?;
    Ok(vec![photo, zero_pad, biased, bottleneck.name("wide-bottleneck").build()?])
}

/// With more threads than samples each makes some rows of a convolution.
#[test]
fn logits_have_the_same_bits_on_any_number_of_threads() -> Result<(), Box<dyn std::error::Error>> {
    const NUM_SAMPLES: usize = 3;
    let pools = [1, 2, 3, 7, 16].map(|threads| ThreadPool::new(Some(threads)).unwrap());
    for architecture in large()? {
        let case = Case::random(&architecture.to_graph()?, NUM_SAMPLES, 1);
        let both = |isa| [Precision::F32, Precision::Bf16].map(|precision| (isa, precision));
        for (isa, precision) in Isa::supported().flat_map(both) {
            for batch_size in [1, 2, NUM_SAMPLES] {
                let options = PlanOptions { batch_size, mode: Mode::Eval, precision, isa };
                let on = |pool: &ThreadPool| pool.install(|| logits(&case, &options));
                let alone = on(&pools[0])?;
                for pool in &pools[1..] {
                    let (name, threads) = (architecture.name(), pool.num_threads());
                    assert_eq!(on(pool)?, alone, "{name}, {isa}, {precision}, {threads} threads");
                }
            }
        }
    }
    Ok(())
}
