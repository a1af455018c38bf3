//! Muon at every instruction set against the reference in `f64`, over several steps.

use residua_engine::{Isa, Muon, MuonStep, PlanError, ThreadPool};
use residua_kernels::reference::muon as reference;
use residua_testkit::{Check, EPS32, Failure, Generator, all, assert_rejected, widen};
use std::panic::catch_unwind;

const MUON: Muon = Muon { lr: 0.125, momentum: 0.75, weight_decay: 0.5 };
const NUM_STEPS: usize = 3;
/// Wide, tall and square; smaller than a vector, and more rows than a thread takes at a time.
const SHAPES: [[usize; 2]; 9] =
    [[1, 1], [1, 9], [5, 2], [16, 16], [16, 144], [64, 27], [65, 65], [72, 648], [130, 20]];

type Step = fn(&mut MuonStep, &Muon, [usize; 2], &mut [f32], &[f32], &mut [f32]);

/// How far a matrix whose singular values are near 1 may be off in the Euclidean norm: the products that
/// its iteration starts from are rounded as sums of `long` terms, and each of the four iterations before the
/// last multiplies what is off by at most `a²`.
fn bound([rows, columns]: [usize; 2]) -> f64 {
    let (short, long) = (rows.min(columns) as f64, rows.max(columns) as f64);
    let growth = reference::COEFFICIENTS[0].powi(2 * (reference::NUM_ITERATIONS as i32 - 1));
    EPS32 * long.sqrt() * growth * short.sqrt()
}

fn check_one(step: Step, isa: Isa, shape: [usize; 2]) -> Check {
    let [rows, columns] = shape;
    let mut generator = Generator::new((rows * columns) as u64);
    let mut params = generator.signed(rows * columns);
    let mut velocity = vec![0.0; params.len()];
    let (mut wide_params, mut wide_velocity) = (widen(&params), widen(&velocity));
    let wide = reference::Muon {
        lr: MUON.lr.into(),
        momentum: MUON.momentum.into(),
        weight_decay: MUON.weight_decay.into(),
    };
    // Room for a larger one, too.
    let mut muon_step = MuonStep::new(isa, [shape, [columns, rows + 1]]);
    for i in 1..=NUM_STEPS {
        let grads = generator.signed(params.len());
        step(&mut muon_step, &MUON, shape, &mut params, &grads, &mut velocity);
        reference::step(&wide, columns, &mut wide_params, &widen(&grads), &mut wide_velocity);
        let scale = wide.lr * (rows as f64 / columns as f64).max(1.0).sqrt();
        let bound = i as f64 * (scale * bound(shape) + EPS32 * norm(&wide_params));
        let off = params.iter().zip(&wide_params).map(|(&got, want)| f64::from(got) - want);
        let off = norm(&off.collect::<Vec<_>>());
        if off.is_nan() || off > bound {
            let what = format!("{isa}, {shape:?}, step {i}: {off:.1e} off, expected {bound:.1e}");
            return Err(Failure::new(what));
        }
    }
    Ok(())
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn check(step: Step) -> Check {
    let trials = SHAPES.into_iter().flat_map(|shape| Isa::supported().map(move |isa| (isa, shape)));
    all(trials.map(|(isa, shape)| check_one(step, isa, shape)))
}

#[test]
fn steps_match_the_reference() -> Check {
    check(MuonStep::run)
}

#[test]
fn the_check_rejects_wrong_variants() {
    let mutants: [(&str, Step); 7] = [
        ("missing momentum", |step, muon, shape, params, grads, velocity| {
            step.run(&Muon { momentum: 0.0, ..*muon }, shape, params, grads, velocity);
        }),
        ("missing weight decay", |step, muon, shape, params, grads, velocity| {
            step.run(&Muon { weight_decay: 0.0, ..*muon }, shape, params, grads, velocity);
        }),
        ("weight decay inside the gradient", |step, muon, shape, params, grads, velocity| {
            let grads = params.iter().zip(grads).map(|(p, g)| g + muon.weight_decay * p);
            let muon = Muon { weight_decay: 0.0, ..*muon };
            step.run(&muon, shape, params, &grads.collect::<Vec<_>>(), velocity);
        }),
        ("columns for rows", |step, muon, [rows, columns], params, grads, velocity| {
            step.run(muon, [columns, rows], params, grads, velocity);
        }),
        ("no longer steps of tall matrices", |step, muon, shape, params, grads, velocity| {
            let scale = (shape[0] as f32 / shape[1] as f32).max(1.0).sqrt();
            let (lr, weight_decay) = (muon.lr / scale, muon.weight_decay * scale);
            step.run(&Muon { lr, weight_decay, ..*muon }, shape, params, grads, velocity);
        }),
        ("the velocity before", |step, muon, shape, params, grads, velocity| {
            let before = velocity.to_vec();
            step.run(muon, shape, params, grads, velocity);
            velocity.copy_from_slice(&before);
        }),
        ("uphill", |step, muon, shape, params, grads, velocity| {
            let grads: Vec<f32> = grads.iter().map(|grad| -grad).collect();
            step.run(muon, shape, params, &grads, velocity);
        }),
    ];
    for (mutant, step) in mutants {
        assert_rejected(mutant, check(step));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<(), PlanError> {
    let shape = [200, 333];
    for isa in Isa::supported() {
        let mut generator = Generator::new(1);
        let [params, grads, velocity] = [(); 3].map(|()| generator.signed(200 * 333));
        let mut results = Vec::new();
        for threads in [1, 2, 7] {
            let (mut params, mut velocity) = (params.clone(), velocity.clone());
            let mut step = MuonStep::new(isa, [shape]);
            ThreadPool::new(Some(threads))?
                .install(|| step.run(&MUON, shape, &mut params, &grads, &mut velocity));
            results.push((params, velocity));
        }
        assert!(results.iter().all(|result| *result == results[0]), "{isa}");
        assert_ne!(results[0].0, params);
    }
    Ok(())
}

#[test]
fn a_gradient_of_zero_leaves_the_direction_zero() {
    let mut params = [1.0; 6];
    let muon = Muon { weight_decay: 0.0, ..MUON };
    MuonStep::new(Isa::Portable, [[2, 3]]).run(
        &muon,
        [2, 3],
        &mut params,
        &[0.0; 6],
        &mut [0.0; 6],
    );
    assert_eq!(params, [1.0; 6]);
}

#[test]
fn another_shape_is_refused() {
    for (shape, len) in [([2, 3], 5), ([4, 4], 16)] {
        let run = || {
            let (mut params, mut velocity) = (vec![0.0; len], vec![0.0; len]);
            let grads = vec![1.0; len];
            MuonStep::new(Isa::Portable, [[2, 3]]).run(
                &MUON,
                shape,
                &mut params,
                &grads,
                &mut velocity,
            );
        };
        assert!(catch_unwind(run).is_err(), "{shape:?}");
    }
}
