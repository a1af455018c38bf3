//! The inner step: which parameters decay, clipping, and that it learns.

mod small_run;

use residua_data::{Augment, EvalLoader, OpenOptions, Split};
use residua_engine::Isa;
use residua_graph::{Graph, Role, TensorSpec};
use residua_resnet::{Architecture, InitOptions, Shape, StemKind, init_weights};
use residua_train::{
    Length, MuonMatrix, MuonOptions, Recipe, Schedule, TrainStep, clip_grad_norm, muon_matrices,
    parameter_groups,
};
use small_run::{Task, train};

fn graph(recipe: &Recipe) -> Graph {
    recipe.architecture.to_graph().unwrap()
}

/// The weight decay of each parameter tensor, by the groups.
fn decays(recipe: &Recipe) -> Vec<(TensorSpec, f32)> {
    let graph = graph(recipe);
    let groups = parameter_groups(&graph, recipe);
    // The groups cover all parameters once, in order.
    assert_eq!(groups.first().map(|group| group.range.start), Some(0));
    assert_eq!(groups.last().map(|group| group.range.end), Some(graph.num_parameters()));
    assert!(groups.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
    let decay = |spec: &TensorSpec| {
        let group = groups.iter().find(|group| group.range.contains(&spec.offset)).unwrap();
        assert!(group.range.end >= spec.range().end, "{} is cut", spec.name);
        (spec.clone(), group.weight_decay)
    };
    graph.params().iter().map(decay).collect()
}

#[test]
fn by_default_everything_decays() {
    let recipe = Task::Shapes.recipe();
    assert!(recipe.decay_bias && recipe.decay_norm);
    assert_eq!(parameter_groups(&graph(&recipe), &recipe).len(), 1);
    assert!(decays(&recipe).iter().all(|&(_, decay)| decay == 5e-4));
}

#[test]
fn the_switches_spare_biases_and_norms() {
    for (decay_bias, decay_norm) in [(true, false), (false, true), (false, false)] {
        let recipe = Recipe { decay_bias, decay_norm, ..Task::Shapes.recipe() };
        for (spec, decay) in decays(&recipe) {
            let is_norm = spec.name.contains("bn") || spec.name.contains("downsample.1");
            let expected = match (is_norm, spec.name.ends_with("bias")) {
                (true, _) => decay_norm,
                (false, true) => decay_bias,
                (false, false) => true,
            };
            assert_eq!(decay > 0.0, expected, "{} with {decay_bias}, {decay_norm}", spec.name);
        }
    }
}

#[test]
fn the_head_learns_at_its_own_rate_and_decays_as_fast() {
    let recipe = Recipe { head_lr: 0.25, ..Task::Shapes.recipe() };
    let graph = graph(&recipe);
    let groups = parameter_groups(&graph, &recipe);
    assert_eq!(groups.len(), 2);
    for spec in graph.params() {
        let group = groups.iter().find(|group| group.range.contains(&spec.offset)).unwrap();
        let head = spec.name == "fc.weight" || spec.name == "fc.bias";
        assert_eq!(group.lr_factor, if head { 0.25 } else { 1.0 }, "{}", spec.name);
        assert_eq!(group.lr_factor * group.weight_decay, 5e-4, "{}", spec.name);
    }
}

/// `step` after one update of a single batch, and what it started from.
fn one_step(recipe: &Recipe) -> (TrainStep, Vec<f32>) {
    let (graph, dataset) = (graph(recipe), Task::Shapes.dataset());
    let init = InitOptions { seed: recipe.seed, ..Default::default() };
    let mut weights = init_weights(&recipe.architecture, &graph, &init);
    // So that the decay of biases shows.
    for spec in
        graph.params().iter().filter(|spec| matches!(spec.role, Role::Bias | Role::NormBias))
    {
        weights.params[spec.range()].fill(0.25);
    }
    let before = weights.params.clone();
    let mut step = TrainStep::new(&graph, weights, recipe, Isa::best().unwrap()).unwrap();
    let mut loader = EvalLoader::new(&dataset, Split::Train, recipe.batch_size, 1, None).unwrap();
    let batch = loader.next().unwrap().unwrap();
    step.run(&batch.input, &batch.labels, 0.5);
    (step, before)
}

/// The first parameter that is not `w − lr·(factor·g + weight_decay·w)` with the expected weight
/// decays and the head's factor.
fn first_mismatch(
    step: &TrainStep,
    before: &[f32],
    decays: &[(TensorSpec, f32)],
    head_lr: f64,
) -> Option<String> {
    let wrong = |spec: &TensorSpec, decay: f32| {
        spec.range().any(|i| {
            let (w, g) = (f64::from(before[i]), f64::from(step.grads()[i]));
            let factor = if spec.name.starts_with("fc.") { head_lr } else { 1.0 };
            let expected = w - 0.5 * (factor * g + f64::from(decay) * w);
            (f64::from(step.weights().params[i]) - expected).abs() > 1e-6 * (1.0 + g.abs())
        })
    };
    decays.iter().find(|(spec, decay)| wrong(spec, *decay)).map(|(spec, _)| spec.name.clone())
}

#[test]
fn an_update_decays_what_it_should() {
    let recipe = Recipe {
        decay_bias: false,
        decay_norm: true,
        weight_decay: 0.1,
        momentum: 0.0,
        nesterov: false,
        head_lr: 0.5,
        ..Task::Shapes.recipe()
    };
    let (step, before) = one_step(&recipe);
    let right = decays(&Recipe { head_lr: 1.0, ..recipe });
    assert_eq!(first_mismatch(&step, &before, &right, 0.5), None);
    assert_eq!(first_mismatch(&step, &before, &right, 1.0).as_deref(), Some("fc.weight"));
    // The comparison notices a tensor that decays and should not, or the other way round.
    for i in 0..right.len() {
        let mut wrong = right.clone();
        wrong[i].1 = 0.1 - wrong[i].1;
        assert_eq!(first_mismatch(&step, &before, &wrong, 0.5), Some(right[i].0.name.clone()));
    }
}

#[test]
fn muon_updates_the_weights_between_the_first_and_the_last() {
    let names = |task: Task| {
        let recipe = Recipe { muon: Some(MuonOptions::default()), ..task.recipe() };
        let graph = graph(&recipe);
        let groups = parameter_groups(&graph, &recipe);
        let matrices = muon_matrices(&graph, &recipe);
        let covered = groups.iter().map(|group| &group.range);
        let mut covered: Vec<_> = covered.chain(matrices.iter().map(|m| &m.range)).collect();
        covered.sort_by_key(|range| range.start);
        assert_eq!(covered[0].start, 0);
        assert!(covered.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(covered.last().unwrap().end, graph.num_parameters());
        let spec = |m: &MuonMatrix| graph.params().iter().find(|s| s.range() == m.range).unwrap();
        matrices.iter().map(|m| (spec(m).name.clone(), m.shape)).collect::<Vec<_>>()
    };
    let expected = [
        ("layer1.0.conv1.weight", [5, 45]),
        ("layer1.0.conv2.weight", [5, 45]),
        ("layer1.0.downsample.0.weight", [5, 5]),
        ("layer2.0.conv1.weight", [9, 45]),
        ("layer2.0.conv2.weight", [9, 81]),
        ("layer2.0.downsample.0.weight", [9, 5]),
    ];
    assert_eq!(names(Task::Shapes), expected.map(|(name, shape)| (name.to_owned(), shape)));
    assert_eq!(names(Task::Spirals).len(), 4);
    let recipe = Recipe { muon: None, ..Task::Shapes.recipe() };
    assert_eq!(muon_matrices(&graph(&recipe), &recipe), []);
}

/// With and without Muon, whose first matrix is the one behind the stem.
#[test]
fn a_frozen_stem_stays_as_it_was_and_all_else_moves() {
    for muon in [None, Some(MuonOptions::default())] {
        let recipe = Recipe { freeze_stem: true, muon, ..Task::Shapes.recipe() };
        let (step, before) = one_step(&recipe);
        for spec in graph(&recipe).params() {
            let frozen = spec.name == "conv1.weight";
            let (now, before) = (&step.weights().params[spec.range()], &before[spec.range()]);
            assert_eq!(now == before, frozen, "{} with {muon:?}", spec.name);
            // What has no gradient takes no part in their norm.
            let no_grads = step.grads()[spec.range()].iter().all(|&grad| grad == 0.0);
            assert_eq!(no_grads, frozen, "{} with {muon:?}", spec.name);
        }
    }
}

/// With a learning rate a tenth as high, the weights of Muon move a tenth as far, whatever the gradients.
#[test]
fn muon_steps_go_by_its_own_learning_rate() {
    let muon = MuonOptions { weight_decay: 0.0, ..MuonOptions::default() };
    let moved = |lr: f64| {
        let muon = Some(MuonOptions { lr, ..muon });
        let recipe = Recipe { muon, weight_decay: 0.0, ..Task::Shapes.recipe() };
        let (step, before) = one_step(&recipe);
        let graph = graph(&recipe);
        let moved = step.weights().params.iter().zip(&before).map(|(now, before)| now - before);
        let moved: Vec<f32> = moved.collect();
        let range = muon_matrices(&graph, &recipe)[0].range.clone();
        let of_muon = moved[range.clone()].iter().map(|d| d * d).sum::<f32>().sqrt();
        (of_muon, moved[..range.start].to_vec())
    };
    let ((long, by_sgd), (short, by_sgd_too)) = (moved(1.0), moved(0.1));
    assert!((long / short - 10.0).abs() < 0.1, "{long} and {short}");
    assert_eq!(by_sgd, by_sgd_too);
}

#[test]
fn clipping_scales_long_gradients_down() {
    // As torch.nn.utils.clip_grad_norm_: a norm of 5 becomes 1·5/(5 + 1e-6).
    let mut grads = [3.0, 0.0, -4.0];
    assert_eq!(clip_grad_norm(&mut grads, 1.0), 5.0);
    assert!(grads.iter().zip([0.6, 0.0, -0.8]).all(|(a, b)| (a - b as f32).abs() < 1e-6));
    let mut grads = [3.0, 0.0, -4.0];
    assert_eq!(clip_grad_norm(&mut grads, 5.1), 5.0);
    assert_eq!(grads, [3.0, 0.0, -4.0]);
    // Every position counts, past any multiple of the lanes.
    for len in 0..40_usize {
        let mut grads = vec![2.0; len];
        assert_eq!(clip_grad_norm(&mut grads, 1e9), 2.0 * (len as f64).sqrt());
    }
}

#[test]
fn a_step_applies_the_clipping() {
    let recipe = Recipe { clip_grad_norm: None, ..Task::Shapes.recipe() };
    let norm = |step: &TrainStep| clip_grad_norm(&mut step.grads().to_vec(), f64::MAX);
    let (free, _) = one_step(&recipe);
    let max_norm = norm(&free) / 3.0;
    let (clipped, _) = one_step(&Recipe { clip_grad_norm: Some(max_norm), ..recipe });
    assert!((norm(&clipped) / max_norm - 1.0).abs() < 1e-4, "{} {max_norm}", norm(&clipped));
}

#[test]
fn a_loss_that_is_not_finite_changes_no_parameter() {
    let recipe = Task::Spirals.recipe();
    let graph = graph(&recipe);
    let weights = init_weights(&recipe.architecture, &graph, &InitOptions::default());
    let before = weights.params.clone();
    let mut step = TrainStep::new(&graph, weights, &recipe, Isa::best().unwrap()).unwrap();
    let mut input = vec![0.5; 2 * recipe.batch_size];
    input[3] = f32::NAN;
    assert!(step.run(&input, &vec![0; recipe.batch_size], 0.1).mean.is_nan());
    assert_eq!(step.weights().params, before);
    assert!(step.velocity().iter().all(|&v| v == 0.0));
}

/// 64 samples, seen often enough, are learnt by heart.
#[test]
fn a_small_network_overfits_64_samples() {
    let source = "synthetic:shapes?train=64&dev=0&test=0";
    let dataset = residua_data::open(source, &OpenOptions::default()).unwrap().into();
    let architecture = Architecture::builder(Shape::image(3, 32, 32), 10)
        .stem(StemKind::Conv3x3, 16)
        .stage(1, 16, 2)
        .stage(1, 32, 2)
        .build()
        .unwrap();
    let recipe = Recipe {
        data: source.to_owned(),
        architecture,
        batch_size: 64,
        lr: 0.2,
        clip_grad_norm: None,
        weight_decay: 0.0,
        label_smoothing: 0.0,
        augment: Augment::None,
        schedule: Schedule::OneCycle,
        warmup_steps: 0,
        length: Length::Epochs(80),
        checkpoint_every: Some(80),
        eval_every: Some(80),
        ..Task::Shapes.recipe()
    };
    let folder = tempfile::tempdir().unwrap();
    let summary = train(&folder.path().join("right"), recipe.clone(), &dataset).unwrap();
    assert_eq!(summary.train.top1_error, 0.0);
    assert_eq!((summary.dev, summary.test), (None, None));
    // It is the training that does it.
    let idle = Recipe { lr: 1e-9, ..recipe };
    let summary = train(&folder.path().join("idle"), idle, &dataset).unwrap();
    assert!(summary.train.top1_error > 60.0);
}
