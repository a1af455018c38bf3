//! Recipes as TOML, their defaults, and what makes no sense.

mod small_run;

use std::path::Path;

use residua_data::OpenOptions;
use residua_resnet::{Architecture, Init, Shape};
use residua_train::{EarlyImages, Length, MuonOptions, Recipe, Schedule};
use small_run::{Task, message};

#[test]
fn a_recipe_survives_its_toml_form() {
    let step = Schedule::Step { milestones: vec![3, 1_000_000_007], gamma: 0.3 };
    for schedule in [Schedule::Constant, Schedule::Paper, step, Schedule::Linear, Schedule::Cosine]
    {
        for task in Task::ALL {
            let recipe = Recipe {
                schedule: schedule.clone(),
                seed: i64::MAX as u64,
                lr: 0.1 + 0.2,
                init: Init::KaimingFanIn,
                zero_init_residual: true,
                whiten_stem: task == Task::Shapes,
                freeze_stem: true,
                muon: Some(MuonOptions { lr: 0.3, ..Default::default() }),
                open: OpenOptions { val_fraction: Some(0.2), seed: 3, ..Default::default() },
                ..task.recipe()
            };
            let text = recipe.to_toml().unwrap();
            assert_eq!(Recipe::from_toml(&text).unwrap(), recipe, "{text}");
        }
    }
}

#[test]
fn the_config_of_the_race_is_that_of_its_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let config = Recipe::load(root.join("configs/cifar10-94.toml")).unwrap();
    assert_eq!(config, Recipe::load(root.join("results/cifar10-94/seed0/config.toml")).unwrap());
}

#[test]
fn what_is_left_out_has_a_default() {
    let text = r#"
        data = "synthetic:shapes"
        batch_size = 64
        lr = 0.1
        schedule = "one-cycle"
        length = { epochs = 3 }
        augment = { kind = "none" }

        [architecture]
        family = "residual"
        block = "basic"
        shortcut = "zero-pad"
        classes = 10
        input = [3, 32, 32]
        stem = { kind = "conv3x3", width = 16 }
        stages = [{ blocks = 1, width = 16 }]
    "#;
    let recipe = Recipe::from_toml(text).unwrap();
    assert_eq!((recipe.momentum, recipe.weight_decay, recipe.nesterov), (0.9, 1e-4, false));
    assert!(recipe.decay_bias && recipe.decay_norm);
    assert_eq!((recipe.seed, recipe.length), (0, Length::Epochs(3)));
    assert_eq!(recipe.length.steps(100), 300);

    let text = message(&Recipe::from_toml(&text.replace("lr =", "learning_rate =")).unwrap_err());
    assert!(text.contains("learning_rate") && text.contains('4'), "{text}");
    let text = message(&Recipe::from_toml("data = 3").unwrap_err());
    assert!(text.starts_with("not a recipe: ") && text.contains("line 1"), "{text}");
}

#[test]
fn every_kind_of_dataset_has_a_recipe() {
    let open = OpenOptions::default();
    let small = residua_data::open("synthetic:shapes?train=100&dev=10&test=10", &open).unwrap();
    let architecture = Architecture::named("resnet20", Shape::image(3, 32, 32), 10).unwrap();
    let recipe = Recipe::new("synthetic:shapes", open, &small, architecture);
    recipe.validate().unwrap();
    recipe.check_dataset(&small).unwrap();
    assert_eq!(recipe.batch_size, 25, "a quarter of the training set");
    assert_eq!(recipe.augment, small.default_augment());

    let points = Task::Spirals.dataset();
    let recipe =
        Recipe::new("spirals", OpenOptions::default(), &points, Task::Spirals.architecture());
    recipe.validate().unwrap();
    assert_eq!(recipe.schedule, Schedule::OneCycle);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    type Change = fn(&mut Recipe);
    let cases: [(Change, &str); 33] = [
        (|r| r.batch_size = 0, "batch_size is 0, expected at least 1"),
        (|r| r.lr = 0.0, "lr is 0, expected a number above 0"),
        (|r| r.lr = f64::NAN, "lr is NaN"),
        (|r| r.lr = 1e39, "lr is 1"),
        (|r| r.head_lr = 0.0, "head_lr is 0, expected 1e-6 to 1e6"),
        (|r| r.head_lr = f64::NAN, "head_lr is NaN"),
        (|r| r.momentum = 1.0, "momentum is 1, expected 0 or more and below 1"),
        (|r| r.momentum = 0.0, "momentum is 0, expected above 0 with nesterov"),
        (|r| r.weight_decay = -1e-4, "weight_decay is -0.0001, expected 0 or more"),
        (|r| r.weight_decay = f64::INFINITY, "weight_decay is inf"),
        (|r| r.label_smoothing = 1.0, "label_smoothing is 1, expected 0 or more, below 1"),
        (|r| r.clip_grad_norm = Some(0.0), "clip_grad_norm is 0, expected a number above 0"),
        (|r| r.seed = u64::MAX, "seed is 18446744073709551615, expected at most"),
        // More than config.toml can hold.
        (|r| r.open.seed = u64::MAX, "open.seed is 18446744073709551615, expected at most"),
        (|r| r.length = Length::Steps(u64::MAX), "length is 18446744073709551615"),
        (|r| r.eval_every = Some(u64::MAX), "eval_every is 18446744073709551615"),
        (|r| r.checkpoint_every = Some(u64::MAX), "checkpoint_every is 18446744073709551615"),
        (|r| r.warmup_steps = u64::MAX, "warmup_steps is 18446744073709551615"),
        (
            |r| r.schedule = Schedule::Step { milestones: vec![1, u64::MAX], gamma: 0.1 },
            "schedule.step.milestones is 18446744073709551615",
        ),
        (|r| r.length = Length::Epochs(0), "length is 0, expected at least 1"),
        (|r| r.eval_every = Some(0), "eval_every is 0, expected at least 1"),
        (|r| r.checkpoint_every = Some(0), "checkpoint_every is 0, expected at least 1"),
        (
            |r| r.muon = Some(MuonOptions { lr: 0.0, ..Default::default() }),
            "muon.lr is 0, expected 1e-6 to 1e6",
        ),
        (
            |r| r.muon = Some(MuonOptions { momentum: 1.0, ..Default::default() }),
            "muon.momentum is 1, expected 0 or more and below 1",
        ),
        (
            |r| r.muon = Some(MuonOptions { weight_decay: -0.1, ..Default::default() }),
            "muon.weight_decay is -0.1, expected 0 or more",
        ),
        (
            |r| (r.whiten_stem, r.architecture) = (true, Task::Spirals.architecture()),
            "whiten_stem is true, expected false, as no window of a first convolution fits",
        ),
        (
            |r| r.early_images = Some(EarlyImages { size: 32, share: 0.5 }),
            "early_images.size is 32, expected smaller than the network's images",
        ),
        (|r| r.early_images = Some(EarlyImages { size: 0, share: 0.5 }), "early_images.size is 0"),
        (
            |r| r.early_images = Some(EarlyImages { size: 24, share: 1.0 }),
            "early_images.share is 1, expected above 0 and below 1",
        ),
        (
            |r| {
                r.whiten_stem = false;
                r.early_images = Some(EarlyImages { size: 1, share: 0.5 });
                r.architecture = Task::Spirals.architecture();
            },
            "early_images is 1, expected no such part, as its network has no images",
        ),
        (|r| r.schedule = Schedule::OneCycle, "warmup_steps is 3, expected 0, as one-cycle"),
        (
            |r| r.schedule = Schedule::Step { milestones: vec![5, 3], gamma: 0.1 },
            "schedule.step.milestones is [5, 3], expected rising steps",
        ),
        (
            |r| r.schedule = Schedule::Step { milestones: vec![], gamma: 0.0 },
            "schedule.step.gamma is 0, expected a number above 0",
        ),
    ];
    Task::Shapes.recipe().validate().unwrap();
    for (change, expected) in cases {
        let mut recipe = Task::Shapes.recipe();
        change(&mut recipe);
        let text = message(&recipe.validate().unwrap_err());
        assert!(text.starts_with(expected), "{text}, not {expected}");
        assert_eq!(message(&recipe.to_toml().unwrap_err()), text);
    }
}

#[test]
fn errors_of_files_start_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let text = message(&Recipe::load(&path).unwrap_err());
    assert!(text.starts_with(&format!("cannot read {}: ", path.display())), "{text}");
    std::fs::write(&path, "batch_size = []").unwrap();
    let text = message(&Recipe::load(&path).unwrap_err());
    assert!(text.starts_with(&format!("{}: not a recipe: ", path.display())), "{text}");
}
