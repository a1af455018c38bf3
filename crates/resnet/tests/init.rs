//! Initial weights: distributions, and what they depend on.

use residua_graph::{Graph, Op, Role, Weights};
use residua_resnet::{Architecture, Init, InitOptions, Shape, Shortcut, init_weights};

fn start(name: &str, options: &InitOptions) -> (Graph, Weights) {
    let input = if name.starts_with("dense") { Shape::vector(50) } else { Shape::image(3, 32, 32) };
    let architecture = Architecture::named(name, input, 10).unwrap();
    let graph = architecture.to_graph().unwrap();
    let weights = init_weights(&architecture, &graph, options);
    (graph, weights)
}

fn seed(seed: u64) -> InitOptions {
    InitOptions { seed, ..InitOptions::default() }
}

/// Whether a sample is plausibly from N(0, std²): mean, second and fourth moment within five of
/// their standard errors, or what does not fit.
fn not_normal(values: &[f32], std: f64) -> Option<String> {
    let n = values.len() as f64;
    let moment = |k: i32| values.iter().map(|&x| (f64::from(x) / std).powi(k)).sum::<f64>() / n;
    // E z = 0, E z² = 1, E z⁴ = 3, with variances 1, 2 and 96.
    [(1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)].into_iter().find_map(|(k, mean, variance)| {
        let (got, error) = (moment(k), (variance / n).sqrt());
        let off = (got - mean).abs() > 5.0 * error;
        off.then(|| format!("moment {k} is {got:.4}, expected {mean} ± {error:.4}"))
    })
}

/// As [`not_normal`], of the uniform distribution below `bound`.
fn not_uniform(values: &[f32], bound: f64) -> Option<String> {
    let n = values.len() as f64;
    let moment = |k: i32| values.iter().map(|&x| (f64::from(x) / bound).powi(k)).sum::<f64>() / n;
    if let Some(x) = values.iter().find(|x| f64::from(x.abs()) > bound * (1.0 + 1e-6)) {
        return Some(format!("{x} is out of bounds"));
    }
    // E u = 0, E u² = 1/3, with variances 1/3 and 4/45.
    [(1, 0.0, 1.0 / 3.0), (2, 1.0 / 3.0, 4.0 / 45.0)].into_iter().find_map(|(k, mean, variance)| {
        let (got, error) = (moment(k), (variance / n).sqrt());
        let off = (got - mean).abs() > 5.0 * error;
        off.then(|| format!("moment {k} is {got:.4}, expected {mean} ± {error:.4}"))
    })
}

#[test]
fn convolutions_have_hes_standard_deviation() {
    for init in [Init::KaimingFanOut, Init::KaimingFanIn] {
        let (graph, weights) = start("resnet20-projection", &InitOptions { init, ..seed(1) });
        let convs = graph.params().iter().filter(|spec| spec.role == Role::ConvWeight);
        let mut told_apart = 0;
        for spec in convs {
            let [oc, ic, kh, kw] = spec.shape[..] else { panic!("{spec:?}") };
            let std = |channels: usize| (2.0 / (channels * kh * kw) as f64).sqrt();
            let (right, wrong) = match init {
                Init::KaimingFanIn => (std(ic), std(oc)),
                Init::KaimingFanOut | Init::Dirac => (std(oc), std(ic)),
            };
            let values = &weights.params[spec.range()];
            assert_eq!(not_normal(values, right), None, "{}", spec.name);
            if right != wrong {
                assert!(not_normal(values, wrong).is_some(), "{}", spec.name);
                told_apart += 1;
            }
        }
        assert_eq!(told_apart, 5, "stem, and convolution and projection of two stages");
    }
}

#[test]
fn dirac_filters_put_out_their_input() {
    let (graph, dirac) =
        start("resnet20-projection", &InitOptions { init: Init::Dirac, ..seed(1) });
    let (_, random) = start("resnet20-projection", &seed(1));
    let mut identities = 0;
    for spec in graph.params() {
        let [dirac, random] = [&dirac, &random].map(|weights| &weights.params[spec.range()]);
        if spec.role != Role::ConvWeight || spec.name == "conv1.weight" {
            assert_eq!(dirac, random, "{}", spec.name);
            continue;
        }
        let [oc, ic, kh, kw] = spec.shape[..] else { panic!("{spec:?}") };
        let (filters, rest) = dirac.split_at(oc.min(ic) * ic * kh * kw);
        assert_eq!(rest, &random[filters.len()..], "{}", spec.name);
        for (i, &weight) in filters.iter().enumerate() {
            let (filter, channel, tap) = (i / (ic * kh * kw), i / (kh * kw) % ic, i % (kh * kw));
            let is_one = filter == channel && [tap / kw, tap % kw] == [kh / 2, kw / 2];
            assert_eq!(weight, f32::from(u8::from(is_one)), "{} at {i}", spec.name);
        }
        identities += 1;
    }
    assert_eq!(identities, 18 + 2, "all but the stem");
}

#[test]
fn linear_layers_are_fan_in_and_the_last_one_is_pytorchs() {
    let (graph, weights) = start("dense-resnet10-w200", &seed(2));
    for spec in graph.params().iter().filter(|spec| spec.role == Role::LinearWeight) {
        let values = &weights.params[spec.range()];
        let fan_in = spec.shape[1] as f64;
        let (normal, uniform) =
            (not_normal(values, (2.0 / fan_in).sqrt()), not_uniform(values, 1.0 / fan_in.sqrt()));
        let head = spec.name == "fc.weight";
        assert_eq!((normal.is_none(), uniform.is_none()), (!head, head), "{}", spec.name);
    }
    let bias = weights.get(&graph, "fc.bias").unwrap();
    assert_eq!(not_uniform(bias, 1.0 / 200f64.sqrt()), None);
    assert!(bias.iter().all(|&b| b != 0.0));
}

#[test]
fn the_moment_checks_reject_other_distributions() {
    let (graph, weights) = start("dense-resnet4-w400", &seed(3));
    let normal = weights.get(&graph, "layer1.0.fc1.weight").unwrap();
    let uniform = weights.get(&graph, "fc.weight").unwrap();
    let std = (2.0 / 400f64).sqrt();
    assert_eq!(not_normal(normal, std), None);
    for (mutant, values) in [
        ("two percent too large", normal.iter().map(|x| 1.02 * x).collect::<Vec<_>>()),
        ("shifted", normal.iter().map(|x| x + 0.02 * std as f32).collect()),
        ("cut off at two deviations", {
            let bound = 2.0 * std as f32;
            normal.iter().map(|x| x.clamp(-bound, bound)).collect()
        }),
        ("all positive", normal.iter().map(|x| x.abs()).collect()),
        ("zero", vec![0.0; normal.len()]),
        ("uniform of the same variance", {
            let scale = (std * 3f64.sqrt() * 400f64.sqrt()) as f32;
            uniform.iter().map(|u| u * scale).collect()
        }),
    ] {
        assert!(not_normal(&values, std).is_some(), "{mutant} passes for normal");
    }
    assert_eq!(not_uniform(uniform, 0.05), None);
    for (mutant, values) in [
        ("a tenth too small", uniform.iter().map(|u| 0.9 * u).collect::<Vec<_>>()),
        ("positive", uniform.iter().map(|u| u.abs()).collect()),
        ("out of bounds", uniform.iter().map(|u| 1.1 * u).collect()),
    ] {
        assert!(not_uniform(&values, 0.05).is_some(), "{mutant} passes for uniform");
    }
}

#[test]
fn everything_else_starts_at_zero_or_one() {
    for name in ["resnet20", "preact-resnet20", "dense-resnet-no-norm", "resnet8-no-norm"] {
        let (graph, weights) = start(name, &seed(4));
        for spec in graph.params() {
            let values = &weights.params[spec.range()];
            let all = |x: f32| values.iter().all(|&value| value == x);
            match spec.role {
                Role::NormWeight => assert!(all(1.0), "{}", spec.name),
                Role::NormBias => assert!(all(0.0), "{}", spec.name),
                Role::Bias if spec.name != "fc.bias" => assert!(all(0.0), "{}", spec.name),
                _ => assert!(values.iter().all(|&x| x != 0.0 && x.is_finite()), "{}", spec.name),
            }
        }
        for spec in graph.buffers() {
            let expected = if spec.role == Role::RunningVar { 1.0 } else { 0.0 };
            assert!(weights.buffers[spec.range()].iter().all(|&x| x == expected), "{}", spec.name);
        }
    }
}

#[test]
fn the_seed_and_the_name_decide_every_tensor() {
    let (graph, weights) = start("resnet20", &seed(5));
    assert_eq!(start("resnet20", &seed(5)).1, weights);
    let (_, other) = start("resnet20", &seed(6));
    for spec in graph.params().iter().filter(|spec| spec.role == Role::ConvWeight) {
        let range = spec.range();
        assert_ne!(weights.params[range.clone()], other.params[range], "{}", spec.name);
    }
    // Two tensors of one shape differ.
    let tensor = |name| weights.get(&graph, name).unwrap();
    assert_ne!(tensor("layer1.0.conv1.weight"), tensor("layer1.0.conv2.weight"));
    // A deeper network, with learned shortcuts, starts with the same bits where names agree.
    let (deep_graph, deep) = start("resnet32-projection", &seed(5));
    for spec in graph.params() {
        let same = deep.get(&deep_graph, &spec.name).unwrap();
        assert_eq!(&weights.params[spec.range()], same, "{}", spec.name);
    }
}

/// The very numbers: a change here changes what every seed means.
#[test]
fn the_numbers_of_a_seed_stay() {
    let (graph, weights) = start("resnet8", &seed(0));
    let first = |name: &str| weights.get(&graph, name).unwrap()[..3].to_vec();
    assert_eq!(first("conv1.weight"), PINNED_CONV1);
    assert_eq!(first("fc.bias"), PINNED_FC_BIAS);
}

const PINNED_CONV1: [f32; 3] = [-0.056672677, -0.11072591, -0.2991753];
const PINNED_FC_BIAS: [f32; 3] = [-0.06177756, -0.005587237, 0.10403369];

#[test]
fn twins_start_from_the_same_bits() {
    for (residual, plain) in [
        ("resnet20", "plain20"),
        ("preact-resnet20", "preact-plain20"),
        ("resnet164-zero-pad", "plain164"),
        ("dense-resnet", "dense-plain"),
    ] {
        for init in Init::ALL {
            let options = InitOptions { init, ..seed(7) };
            assert_eq!(start(residual, &options).1, start(plain, &options).1, "{residual}");
        }
    }
}

#[test]
fn without_batch_norms_residual_branches_start_smaller() {
    for (residual, plain, blocks, end) in [
        ("dense-resnet10-no-norm", "dense-plain10-no-norm", 4.0, ".fc2.weight"),
        ("resnet20-no-norm", "plain20-no-norm", 9.0, ".conv2.weight"),
    ] {
        let (graph, residual) = start(residual, &seed(8));
        let (_, plain) = start(plain, &seed(8));
        for spec in graph.params() {
            let scale = if spec.name.ends_with(end) { 1.0 / f32::sqrt(blocks) } else { 1.0 };
            let expected: Vec<f32> = plain.params[spec.range()].iter().map(|x| x * scale).collect();
            assert_eq!(residual.params[spec.range()], expected, "{}", spec.name);
        }
    }
}

/// Second moment of the last block's output over that of the first block's input, for a fully
/// connected network without batch norms and 64 random vectors.
fn growth(architecture: &Architecture, graph: &Graph, weights: &Weights) -> f64 {
    let blocks = architecture.blocks();
    let mut moments = [0.0; 2];
    for sample in 0..64u32 {
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); graph.num_values()];
        values[0] = (0..50u32).map(|i| f64::from(sample * 50 + i).sin()).collect();
        for node in graph.nodes() {
            let input = &values[node.inputs[0].index()];
            let output = match node.op {
                Op::Linear { weight, .. } => {
                    let rows = weights.params[graph.params()[weight.index()].range()]
                        .chunks_exact(input.len());
                    let dot =
                        |row: &[f32]| row.iter().zip(input).map(|(&w, x)| f64::from(w) * x).sum();
                    rows.map(dot).collect()
                }
                Op::Relu => input.iter().map(|x| x.max(0.0)).collect(),
                Op::Add => {
                    input.iter().zip(&values[node.inputs[1].index()]).map(|(x, y)| x + y).collect()
                }
                _ => panic!("{}: not in a fully connected network", node.name),
            };
            values[node.output.index()] = output;
        }
        let ends = [blocks[0].input, blocks[blocks.len() - 1].output];
        for (moment, value) in moments.iter_mut().zip(ends) {
            *moment += values[value.index()].iter().map(|x| x * x).sum::<f64>();
        }
    }
    moments[1] / moments[0]
}

#[test]
fn deep_residual_networks_without_batch_norms_keep_their_size() {
    let name = "dense-resnet202-w32-no-norm";
    let architecture = Architecture::named(name, Shape::vector(50), 10).unwrap();
    let (graph, mut weights) = start(name, &seed(10));
    let kept = growth(&architecture, &graph, &weights);
    assert!((1.0..20.0).contains(&kept), "grows {kept} times; e² = 7.4 is expected at most");
    // Without the smaller start it would not.
    for spec in graph.params().iter().filter(|spec| spec.name.ends_with(".fc2.weight")) {
        weights.params[spec.range()].iter_mut().for_each(|x| *x *= 10.0);
    }
    let exploded = growth(&architecture, &graph, &weights);
    assert!(exploded > 1e20, "grows {exploded} times");
}

#[test]
fn zero_init_makes_every_branch_end_in_zero() {
    let zeroed = |name| -> Vec<String> {
        let options = InitOptions { zero_init_residual: true, ..seed(9) };
        let ((graph, usual), (_, zeroed)) = (start(name, &seed(9)), start(name, &options));
        let changed = graph.params().iter().filter(|spec| {
            let zeroed = &zeroed.params[spec.range()];
            let changed = usual.params[spec.range()] != *zeroed;
            assert!(!changed || zeroed.iter().all(|&x| x == 0.0), "{}", spec.name);
            changed
        });
        changed.map(|spec| spec.name.clone()).collect()
    };
    let each = |tensor: &str| ["1", "2", "3"].map(|stage| format!("layer{stage}.0.{tensor}"));
    assert_eq!(zeroed("resnet8"), each("bn2.weight"));
    assert_eq!(zeroed("resnet11"), each("bn3.weight"));
    assert_eq!(zeroed("preact-resnet8"), each("conv2.weight"));
    assert_eq!(zeroed("preact-resnet11"), each("conv3.weight"));
    assert_eq!(zeroed("resnet8-no-norm"), each("conv2.weight"));
    assert_eq!(zeroed("dense-resnet4"), ["layer1.0.bn2.weight"]);
    assert_eq!(zeroed("dense-resnet4-no-norm"), ["layer1.0.fc2.weight"]);
    // Nothing goes around these: zeros would cut them through.
    assert_eq!(zeroed("plain8"), [""; 0]);
    assert_eq!(zeroed("preact-plain8"), [""; 0]);
    assert_eq!(zeroed("dense-plain4-no-norm"), [""; 0]);
}

#[test]
fn words_and_defaults() {
    assert_eq!(InitOptions::default().init, Init::KaimingFanOut);
    assert!(!InitOptions::default().zero_init_residual);
    for init in Init::ALL {
        assert_eq!(init.to_string().parse::<Init>().unwrap(), init);
        assert_eq!(serde_json::to_value(init).unwrap(), init.as_str());
    }
    for shortcut in Shortcut::ALL {
        assert_eq!(shortcut.to_string().parse::<Shortcut>().unwrap(), shortcut);
        assert_eq!(serde_json::to_value(shortcut).unwrap(), shortcut.as_str());
    }
    assert_eq!(
        "option-a".parse::<Shortcut>().unwrap_err().to_string(),
        "shortcut is `option-a`, expected none, zero-pad, projection or projection-all"
    );
    assert_eq!(
        "he".parse::<Init>().unwrap_err().to_string(),
        "init is `he`, expected kaiming-fan-out, kaiming-fan-in or dirac"
    );
}
