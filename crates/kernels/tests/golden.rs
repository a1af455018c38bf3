//! The reference in `f64` against PyTorch's results in `float64`, which
//! `tools/golden/operations.py` wrote. The fast kernels are tested against the reference.

use residua_kernels::reference::batch_norm::{Params, Statistics};
use residua_kernels::reference::{
    batch_norm, conv2d, cross_entropy, global_avg_pool, linear, max_pool, muon, sgd,
};
use residua_kernels::{Conv2dProblem, MaxPoolProblem};
use residua_testkit::{Case, Check, EPS64, Failure, Golden, all, assert_rejected, widen};

/// One operation's golden file; what is missing in it ends the test.
struct File {
    operation: &'static str,
    golden: Golden,
}

impl File {
    fn open(operation: &'static str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let golden = Golden::load(format!("{folder}/{operation}.safetensors")).unwrap();
        Self { operation, golden }
    }

    /// What comes before `.input` or another tensor, once for each case.
    fn cases(&self, tensor: &str) -> Vec<String> {
        let suffix = format!(".{tensor}");
        let names = self.golden.names();
        let cases: Vec<_> =
            names.iter().filter_map(|name| name.strip_suffix(&suffix)).map(str::to_owned).collect();
        assert!(!cases.is_empty(), "{} has no case with `{tensor}`", self.operation);
        cases
    }

    /// An input, kept in `f32`.
    fn input(&self, name: &str) -> Vec<f64> {
        widen(&self.golden.f32(name).unwrap())
    }

    /// That a result is PyTorch's, to the rounding of `f64` in the tensor's largest value.
    fn check(&self, name: &str, got: &[f64]) -> Check {
        let want = self.golden.f64(name).unwrap();
        let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let shape = self.golden.shape(name).unwrap();
        let (pass, problem, shape) = (self.operation, &name, &shape[..]);
        let case = Case { pass, problem, kernel: "the reference", seed: 0, shape };
        case.within(got, &want, &vec![largest; want.len()], 256.0 * EPS64)
    }
}

/// A result of `len` elements.
fn made(len: usize, make: impl FnOnce(&mut [f64])) -> Vec<f64> {
    let mut result = vec![f64::NAN; len];
    make(&mut result);
    result
}

/// `change` spoils the problem that the reference is given.
fn check_conv2d(change: fn(Conv2dProblem) -> Conv2dProblem) -> Check {
    let file = File::open("conv2d");
    all(file.cases("input").iter().map(|case| {
        let p = change(case.parse().expect("the case is a descriptor"));
        let tensor = |name: &str| file.input(&format!("{case}.{name}"));
        let (input, weight, bias) = (tensor("input"), tensor("weight"), tensor("bias"));
        let grad = tensor("grad_output");
        let check = |name: &str, got: &[f64]| file.check(&format!("{case}.{name}"), got);
        check(
            "output",
            &made(p.output_len(), |output| {
                conv2d::forward(&p, &input, &weight, Some(&bias), output);
            }),
        )?;
        check(
            "grad_input",
            &made(p.input_len(), |grad_input| {
                conv2d::backward_data(&p, &grad, &weight, grad_input);
            }),
        )?;
        check(
            "grad_weight",
            &made(p.weight_len(), |grad_weight| {
                conv2d::backward_weight(&p, &input, &grad, grad_weight);
            }),
        )?;
        check(
            "grad_bias",
            &made(p.oc, |grad_bias| {
                conv2d::backward_bias(&p, &grad, grad_bias);
            }),
        )
    }))
}

#[test]
fn conv2d_is_pytorchs() -> Check {
    check_conv2d(|p| p)?;
    // Images and kernels transposed, where all lengths stay the same.
    assert_rejected(
        "rows and columns swapped",
        check_conv2d(|p| Conv2dProblem {
            ih: p.iw,
            iw: p.ih,
            kh: p.kw,
            kw: p.kh,
            sh: p.sw,
            sw: p.sh,
            ph: p.pw,
            pw: p.ph,
            ..p
        }),
    );
    Ok(())
}

#[test]
fn linear_is_pytorchs() -> Check {
    let file = File::open("linear");
    let (input, weight, bias) = (file.input("input"), file.input("weight"), file.input("bias"));
    let grad = file.input("grad_output");
    let features = input.len() / (grad.len() / bias.len());
    file.check(
        "output",
        &made(grad.len(), |output| {
            linear::forward(features, &input, &weight, Some(&bias), output);
        }),
    )?;
    file.check(
        "grad_input",
        &made(input.len(), |grad_input| {
            linear::backward_data(features, &grad, &weight, grad_input);
        }),
    )?;
    file.check(
        "grad_weight",
        &made(weight.len(), |grad_weight| {
            linear::backward_weight(features, &input, &grad, grad_weight);
        }),
    )?;
    file.check("grad_bias", &made(bias.len(), |grad_bias| linear::backward_bias(&grad, grad_bias)))
}

/// How the running statistics take in those of a batch of `count` values a channel.
type Update = fn(&mut Statistics<f64>, &Statistics<f64>, count: usize, momentum: f64);

/// Three training steps, the gradients of the last, then evaluation.
fn check_batch_norm(update: Update) -> Check {
    let file = File::open("batch_norm");
    let hyper = |key: &str| -> f64 { file.golden.metadata(key).unwrap().parse().unwrap() };
    let (eps, momentum) = (hyper("eps"), hyper("momentum"));
    all(file.cases("weight").iter().map(|case| {
        let tensor = |name: &str| file.input(&format!("{case}.{name}"));
        let check = |name: &str, got: &[f64]| file.check(&format!("{case}.{name}"), got);
        let (weight, bias) = (tensor("weight"), tensor("bias"));
        let c = weight.len();
        let params = Params { weight: &weight, bias: &bias, eps };
        let mut running = Statistics { mean: tensor("running_mean"), var: tensor("running_var") };
        let mut last = None;
        for step in 0..3 {
            let input = tensor(&format!("train{step}.input"));
            let mut output = vec![f64::NAN; input.len()];
            let batch = batch_norm::forward_train(params, &input, &mut output);
            update(&mut running, &batch, input.len() / c, momentum);
            check(&format!("train{step}.output"), &output)?;
            check(&format!("train{step}.running_mean"), &running.mean)?;
            check(&format!("train{step}.running_var"), &running.var)?;
            last = Some((input, batch));
        }
        let (input, batch) = last.expect("three steps");
        let grad = tensor("train2.grad_output");
        let mut grad_input = vec![f64::NAN; input.len()];
        let (mut grad_weight, mut grad_bias) = (vec![f64::NAN; c], vec![f64::NAN; c]);
        batch_norm::backward(
            params,
            &batch,
            &input,
            &grad,
            &mut grad_input,
            &mut grad_weight,
            &mut grad_bias,
        );
        check("train2.grad_input", &grad_input)?;
        check("train2.grad_weight", &grad_weight)?;
        check("train2.grad_bias", &grad_bias)?;
        let input = tensor("eval.input");
        check(
            "eval.output",
            &made(input.len(), |output| {
                batch_norm::forward_eval(params, &running, &input, output);
            }),
        )
    }))
}

#[test]
fn batch_norm_is_pytorchs() -> Check {
    check_batch_norm(Statistics::update_running)?;
    let mutants: [(&str, Update); 3] = [
        ("biased running variance", |running, batch, _, momentum| {
            running.update_running(batch, usize::MAX, momentum);
        }),
        ("momentum of the old statistics", |running, batch, count, momentum| {
            running.update_running(batch, count, 1.0 - momentum);
        }),
        ("no update", |_, _, _, _| ()),
    ];
    for (mutant, update) in mutants {
        assert_rejected(mutant, check_batch_norm(update));
    }
    Ok(())
}

/// From `n2c3ih7iw6k3s2p1`, which may end in `ties`.
fn max_pool_problem(case: &str) -> MaxPoolProblem {
    let numbers = case.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
    let sizes: Vec<usize> = numbers.map(|number| number.parse().expect("digits")).collect();
    let [n, c, ih, iw, k, s, p] = sizes[..] else { panic!("`{case}` has {} sizes", sizes.len()) };
    MaxPoolProblem { n, c, ih, iw, k, s, p }
}

/// `change` spoils the winners.
fn check_max_pool(change: fn(&MaxPoolProblem, &[f64], &mut [u8])) -> Check {
    let file = File::open("max_pool");
    all(file.cases("input").iter().map(|case| {
        let p = max_pool_problem(case);
        let (input, grad) =
            (file.input(&format!("{case}.input")), file.input(&format!("{case}.grad_output")));
        let mut index = vec![0; p.output_len()];
        let output = made(p.output_len(), |output| {
            max_pool::forward(&p, &input, output, &mut index);
        });
        file.check(&format!("{case}.output"), &output)?;
        change(&p, &input, &mut index);
        let grad_input = made(p.input_len(), |grad_input| {
            max_pool::backward(&p, &grad, &index, grad_input);
        });
        file.check(&format!("{case}.grad_input"), &grad_input)
    }))
}

#[test]
fn max_pool_is_pytorchs() -> Check {
    check_max_pool(|_, _, _| ())?;
    let of_the_neighbour = |p: &MaxPoolProblem, _: &[f64], index: &mut [u8]| {
        index.chunks_exact_mut(p.c).for_each(|pixel| pixel.rotate_left(1));
    };
    assert_rejected("winner of the neighbouring channel", check_max_pool(of_the_neighbour));
    // Turned around, the reference's first maximum is the last one.
    let last_wins = |p: &MaxPoolProblem, input: &[f64], index: &mut [u8]| {
        for (i, place) in index.iter_mut().enumerate() {
            let at = |place: usize| {
                let (pixel, c_i) = (i / p.c, i % p.c);
                let (n_i, oh_i, ow_i) =
                    (pixel / p.ow() / p.oh(), pixel / p.ow() % p.oh(), pixel % p.ow());
                let row = (oh_i * p.s + place / p.k).checked_sub(p.p).filter(|i| *i < p.ih)?;
                let column = (ow_i * p.s + place % p.k).checked_sub(p.p).filter(|i| *i < p.iw)?;
                Some(input[((n_i * p.ih + row) * p.iw + column) * p.c + c_i])
            };
            let best = at(usize::from(*place));
            let last = (0..p.k * p.k).rev().find(|place| at(*place) == best);
            *place = last.map_or(*place, |last| last as u8);
        }
    };
    assert_rejected("the last maximum wins", check_max_pool(last_wins));
    Ok(())
}

#[test]
fn global_avg_pool_is_pytorchs() -> Check {
    let file = File::open("global_avg_pool");
    let (input, grad) = (file.input("input"), file.input("grad_output"));
    let c = *file.golden.shape("grad_output").unwrap().last().unwrap();
    let num_pixels = input.len() / grad.len();
    file.check(
        "output",
        &made(grad.len(), |output| {
            global_avg_pool::forward(num_pixels, c, &input, output);
        }),
    )?;
    file.check(
        "grad_input",
        &made(input.len(), |grad_input| {
            global_avg_pool::backward(num_pixels, c, &grad, grad_input);
        }),
    )
}

/// `change` spoils the label smoothing.
fn check_cross_entropy(change: fn(f64) -> f64) -> Check {
    let file = File::open("cross_entropy");
    all(file.cases("logits").iter().map(|case| {
        let logits = file.input(&format!("{case}.logits"));
        let labels = file.golden.labels(&format!("{case}.labels")).unwrap();
        let smoothing = change(file.input(&format!("{case}.label_smoothing"))[0]);
        let (n, classes) = (labels.len(), logits.len() / labels.len());
        let losses = made(n, |losses| {
            cross_entropy::forward(&logits, &labels, classes, smoothing, losses);
        });
        file.check(&format!("{case}.losses"), &losses)?;
        file.check(&format!("{case}.loss"), &[losses.iter().sum::<f64>() / n as f64])?;
        let grad = made(logits.len(), |grad| {
            cross_entropy::backward(&logits, &labels, classes, smoothing, grad);
        });
        file.check(&format!("{case}.grad_logits"), &grad)
    }))
}

#[test]
fn cross_entropy_is_pytorchs() -> Check {
    check_cross_entropy(|smoothing| smoothing)?;
    let over_the_others = |smoothing: f64| smoothing * 5.0 / 4.0;
    assert_rejected("smoothing over the other classes", check_cross_entropy(over_the_others));
    assert_rejected("label smoothing ignored", check_cross_entropy(|_| 0.0));
    Ok(())
}

type Hyper = sgd::Sgd<f64>;
type Change = fn(Hyper) -> Hyper;

/// `change` spoils the hyper-parameters.
fn check_sgd(change: Change) -> Check {
    let file = File::open("sgd");
    all(file.cases("hyper").iter().map(|case| {
        let hyper = file.input(&format!("{case}.hyper"));
        let [lr, momentum, nesterov, weight_decay] = hyper[..] else {
            return Err(Failure::new(format!("{case}.hyper has {} elements", hyper.len())));
        };
        let sgd = change(Hyper { lr, momentum, nesterov: nesterov == 1.0, weight_decay });
        let mut params = file.input(&format!("{case}.params"));
        let grads = file.input(&format!("{case}.grads"));
        let mut velocity = vec![0.0; params.len()];
        let mut after = Vec::new();
        for grads in grads.chunks_exact(velocity.len()) {
            sgd::step(&sgd, &mut params, grads, &mut velocity);
            after.extend_from_slice(&params);
        }
        file.check(&format!("{case}.params_after"), &after)?;
        // PyTorch keeps no velocity where it has no momentum.
        if momentum > 0.0 { file.check(&format!("{case}.velocity"), &velocity) } else { Ok(()) }
    }))
}

#[test]
fn sgd_is_pytorchs() -> Check {
    check_sgd(|sgd| sgd)?;
    let mutants: [(&str, Change); 4] = [
        ("missing momentum", |sgd| Hyper { momentum: 0.0, ..sgd }),
        ("never Nesterov", |sgd| Hyper { nesterov: false, ..sgd }),
        ("always Nesterov", |sgd| Hyper { nesterov: true, ..sgd }),
        ("missing weight decay", |sgd| Hyper { weight_decay: 0.0, ..sgd }),
    ];
    for (mutant, change) in mutants {
        assert_rejected(mutant, check_sgd(change));
    }
    Ok(())
}

type Muon = muon::Muon<f64>;
type MuonChange = fn(Muon) -> Muon;

/// `change` spoils the hyper-parameters, `turned` takes a matrix's columns for its rows.
fn check_muon(change: MuonChange, turned: bool) -> Check {
    let file = File::open("muon");
    all(file.cases("hyper").iter().map(|case| {
        let hyper = file.input(&format!("{case}.hyper"));
        let [lr, momentum, weight_decay] = hyper[..] else {
            return Err(Failure::new(format!("{case}.hyper has {} elements", hyper.len())));
        };
        let muon = change(Muon { lr, momentum, weight_decay });
        let name = format!("{case}.params");
        let columns = file.golden.shape(&name).unwrap()[usize::from(!turned)];
        let mut params = file.input(&name);
        let grads = file.input(&format!("{case}.grads"));
        let mut velocity = vec![0.0; params.len()];
        let mut after = Vec::new();
        for grads in grads.chunks_exact(velocity.len()) {
            muon::step(&muon, columns, &mut params, grads, &mut velocity);
            after.extend_from_slice(&params);
        }
        file.check(&format!("{case}.params_after"), &after)
    }))
}

#[test]
fn muon_is_pytorchs() -> Check {
    check_muon(|muon| muon, false)?;
    let mutants: [(&str, MuonChange); 3] = [
        ("missing momentum", |muon| Muon { momentum: 0.0, ..muon }),
        ("missing weight decay", |muon| Muon { weight_decay: 0.0, ..muon }),
        ("half the learning rate", |muon| Muon { lr: muon.lr / 2.0, ..muon }),
    ];
    for (mutant, change) in mutants {
        assert_rejected(mutant, check_muon(change, false));
    }
    assert_rejected("columns for rows", check_muon(|muon| muon, true));
    Ok(())
}
