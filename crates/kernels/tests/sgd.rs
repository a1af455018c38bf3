//! The update at every instruction set against the reference in `f64`, over several steps with a
//! learning rate that changes.

use residua_kernels::Isa;
use residua_kernels::reference::sgd as reference;
use residua_kernels::sgd::{Sgd, step};
use residua_testkit::{
    Case, Check, Data, EPS32, Expected, Generator, Guarded, absolute, all, assert_rejected, widen,
};

type Step = fn(Isa, &Sgd, &mut [f32], &[f32], &mut [f32]);

/// Hyper-parameters whose products with integers stay exact for three steps.
fn exact() -> impl Iterator<Item = Sgd> {
    let plain = Sgd { lr: 0.5, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let with_momentum = Sgd { momentum: 0.5, ..plain };
    let nesterov = Sgd { nesterov: true, ..with_momentum };
    [plain, with_momentum, nesterov]
        .into_iter()
        .flat_map(|sgd| [0.0, 0.25].map(|weight_decay| Sgd { weight_decay, ..sgd }))
}

/// Those of training.
fn usual() -> impl Iterator<Item = Sgd> {
    let rounded = |sgd: Sgd| Sgd {
        lr: 0.1,
        momentum: if sgd.momentum > 0.0 { 0.9 } else { 0.0 },
        weight_decay: if sgd.weight_decay > 0.0 { 5e-4 } else { 0.0 },
        ..sgd
    };
    exact().map(rounded)
}

fn wide(sgd: &Sgd) -> reference::Sgd<f64> {
    let Sgd { lr, momentum, nesterov, weight_decay } = *sgd;
    let (lr, momentum, weight_decay) = (lr.into(), momentum.into(), weight_decay.into());
    reference::Sgd { lr, momentum, nesterov, weight_decay }
}

/// Parameters and velocity after some steps, the learning rate halved after each. On absolute
/// values and with a negated learning rate all terms add up.
fn expected(sgd: &Sgd, data: Data, params: &[f32], grads: &[Vec<f32>]) -> [Expected; 2] {
    let run = |magnitude: bool| {
        let wide_or_absolute = |values: &[f32]| {
            let wide = widen(values);
            if magnitude { absolute(&wide) } else { wide }
        };
        let mut params = wide_or_absolute(params);
        let mut velocity = vec![0.0; params.len()];
        let mut sgd = wide(sgd);
        if magnitude {
            sgd.lr = -sgd.lr;
        }
        for grads in grads {
            reference::step(&sgd, &mut params, &wide_or_absolute(grads), &mut velocity);
            sgd.lr /= 2.0;
        }
        [params, velocity]
    };
    let [params, velocity] = run(false);
    let [of_params, of_velocity] = run(true);
    let magnitude = |magnitude| (data == Data::Signed).then_some(magnitude);
    [
        Expected { values: params, magnitude: magnitude(of_params) },
        Expected { values: velocity, magnitude: magnitude(of_velocity) },
    ]
}

fn check_one(step: Step, isa: Isa, sgd: &Sgd, data: Data, len: usize) -> Check {
    let num_steps = if data == Data::Integers { 3 } else { 5 };
    let seed = len as u64;
    let mut generator = Generator::new(seed);
    let before = generator.values(data, len);
    let grads: Vec<_> = (0..num_steps).map(|_| generator.values(data, len)).collect();
    let want = expected(sgd, data, &before, &grads);

    let mut params = Guarded::holding(&before);
    let mut velocity = Guarded::holding(&vec![0.0; len]);
    let mut sgd = *sgd;
    for grads in &grads {
        step(isa, &sgd, &mut params, &Guarded::holding(grads), &mut velocity);
        sgd.lr /= 2.0;
    }
    let (problem, kernel) = (format!("{len} parameters, {sgd:?}"), isa.to_string());
    for (pass, got, want) in [("params", &params, &want[0]), ("velocity", &velocity, &want[1])] {
        let case = Case { pass, problem: &problem, kernel: &kernel, seed, shape: &[len] };
        case.written(got.check())?;
        case.matches(got, want, 4.0 * EPS32)?;
    }
    Ok(())
}

fn check(step: Step) -> Check {
    let lens = || (0..=40).chain([63, 64, 65, 1025]);
    let exact = exact().map(|sgd| (sgd, Data::Integers));
    let trials = exact.chain(usual().map(|sgd| (sgd, Data::Signed)));
    all(trials.flat_map(|(sgd, data)| lens().map(move |len| (sgd, data, len))).flat_map(
        |(sgd, data, len)| Isa::supported().map(move |isa| check_one(step, isa, &sgd, data, len)),
    ))
}

#[test]
fn steps_match_the_reference() -> Check {
    check(step)
}

#[test]
fn the_check_rejects_wrong_variants() {
    let mutants: [(&str, Step); 11] = [
        ("missing momentum", |isa, sgd, params, grads, velocity| {
            step(isa, &Sgd { momentum: 0.0, ..*sgd }, params, grads, velocity);
        }),
        ("never Nesterov", |isa, sgd, params, grads, velocity| {
            step(isa, &Sgd { nesterov: false, ..*sgd }, params, grads, velocity);
        }),
        ("always Nesterov", |isa, sgd, params, grads, velocity| {
            step(isa, &Sgd { nesterov: true, ..*sgd }, params, grads, velocity);
        }),
        ("Nesterov with the velocity before", |isa, sgd, params, grads, velocity| {
            if !sgd.nesterov {
                return step(isa, sgd, params, grads, velocity);
            }
            for ((param, &grad), velocity) in params.iter_mut().zip(grads).zip(velocity) {
                let grad = grad + sgd.weight_decay * *param;
                *param -= sgd.lr * (grad + sgd.momentum * *velocity);
                *velocity = sgd.momentum * *velocity + grad;
            }
        }),
        ("missing weight decay", |isa, sgd, params, grads, velocity| {
            step(isa, &Sgd { weight_decay: 0.0, ..*sgd }, params, grads, velocity);
        }),
        ("weight decay of the wrong sign", |isa, sgd, params, grads, velocity| {
            let weight_decay = -sgd.weight_decay;
            step(isa, &Sgd { weight_decay, ..*sgd }, params, grads, velocity);
        }),
        ("decoupled weight decay", |isa, sgd, params, grads, velocity| {
            params.iter_mut().for_each(|param| *param *= 1.0 - sgd.lr * sgd.weight_decay);
            step(isa, &Sgd { weight_decay: 0.0, ..*sgd }, params, grads, velocity);
        }),
        ("dampening as large as the momentum", |isa, sgd, params, grads, velocity| {
            let damped: Vec<f32> = grads.iter().map(|grad| grad * (1.0 - sgd.momentum)).collect();
            step(isa, sgd, params, &damped, velocity);
        }),
        // The same while the learning rate stays.
        ("learning rate inside the velocity", |_, sgd, params, grads, velocity| {
            for ((param, &grad), velocity) in params.iter_mut().zip(grads).zip(velocity) {
                let step = sgd.lr * (grad + sgd.weight_decay * *param);
                *velocity = sgd.momentum * *velocity + step;
                *param -= if sgd.nesterov { step + sgd.momentum * *velocity } else { *velocity };
            }
        }),
        ("velocity not kept", |isa, sgd, params, grads, velocity| {
            step(isa, sgd, params, grads, &mut velocity.to_vec());
        }),
        ("uphill", |isa, sgd, params, grads, velocity| {
            step(isa, &Sgd { lr: -sgd.lr, ..*sgd }, params, grads, velocity);
        }),
    ];
    for (mutant, step) in mutants {
        assert_rejected(mutant, check(step));
    }
}
