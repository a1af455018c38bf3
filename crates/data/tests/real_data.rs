//! The real CIFAR-10 archive and real photographs, where they are at hand: in `$RESIDUA_DATA`, or
//! in `shared/data` beside the workspace.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_data::{
    EvalLoader, Issue, Kind, LoaderOptions, OpenOptions, Split, TrainLoader, check, open,
};

fn shared_data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RESIDUA_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let path = root.join(name);
    if !path.exists() {
        println!("skipped: no shared data");
        return None;
    }
    Some(path)
}

#[test]
fn cifar_10_has_its_known_statistics() {
    let Some(path) = shared_data("cifar-10-binary.tar.gz") else { return };
    let source = path.to_str().unwrap();
    let whole = OpenOptions { val_fraction: Some(0.0), ..Default::default() };
    let dataset = open(source, &whole).unwrap();
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [50_000, 0, 10_000]);
    assert_eq!(dataset.class_counts(Split::Train), [5000; 10]);
    assert_eq!(dataset.class_counts(Split::Test), [1000; 10]);
    assert_eq!(dataset.classes()[0], "airplane");
    // As everyone quotes them, to four digits.
    let p = dataset.preprocessing();
    for (got, known) in p.mean.iter().zip([0.4914, 0.4822, 0.4465]) {
        assert!((got - known).abs() < 6e-5, "{got} {known}");
    }
    for (got, known) in p.std.iter().zip([0.2470, 0.2435, 0.2616]) {
        assert!((got - known).abs() < 6e-5, "{got} {known}");
    }

    let dataset = Arc::new(open(source, &OpenOptions::default()).unwrap());
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [45_000, 5_000, 10_000]);
    assert_eq!(dataset.class_counts(Split::Dev), [500; 10]);

    let options = LoaderOptions {
        batch_size: 128,
        seed: 0,
        augment: dataset.default_augment(),
        image_size: None,
        workers: 2,
    };
    let mut loader = TrainLoader::new(&dataset, &options, 0).unwrap();
    assert_eq!(options.steps_per_epoch(&dataset), 351);
    let (mut sum, mut count) = (0.0_f64, 0);
    for _ in 0..50 {
        let batch = loader.next().unwrap();
        sum += batch.input.iter().map(|&x| f64::from(x)).sum::<f64>();
        count += batch.input.len();
        loader.recycle(batch);
    }
    // Near zero, shifted down by the black borders that the shifts uncover.
    let mean = sum / count as f64;
    assert!((-0.4..0.0).contains(&mean), "{mean}");
}

#[test]
fn photographs_of_ants_and_bees() {
    let Some(path) = shared_data("ants-bees") else { return };
    let source = path.to_str().unwrap();
    let options = OpenOptions { image_size: Some(64), ..Default::default() };
    let report = check(source, &options, &|_| {}).unwrap();
    println!("{report}");
    assert_eq!(report.kind, Kind::ImageFolder);
    assert_eq!(report.classes, ["ants", "bees"]);
    let counts: Vec<_> = report.splits.iter().map(|split| split.class_counts.clone()).collect();
    assert_eq!(counts, [[60, 60], [30, 30], [0, 0]]);
    assert!(report.findings.iter().all(|f| f.issue != Issue::Unreadable), "{report}");
    assert_eq!(report.issue_counts(), [], "{report}");

    let dataset = Arc::new(open(source, &options).unwrap());
    assert_eq!(dataset.fingerprint(), report.fingerprint);
    let mut loader = EvalLoader::new(&dataset, Split::Dev, 16, 2, None).unwrap();
    let mut seen = 0;
    while let Some(batch) = loader.next().unwrap() {
        assert!(batch.input.iter().all(|x| x.abs() < 4.0));
        seen += batch.len();
    }
    assert_eq!(seen, 60);
}
