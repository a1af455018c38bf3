//! An image that is gone while a run goes on.

mod small_run;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::{OpenOptions, open};
use residua_resnet::Architecture;
use residua_train::{Event, Length, Observer, Recipe, TrainError, Trainer};
use small_run::two_threads;

/// An uncompressed picture, larger than those that are kept in memory.
fn write_bmp(path: &Path, shade: u8) {
    const SIDE: u32 = 68;
    let len = 54 + 3 * SIDE * SIDE;
    let mut bytes = b"BM".to_vec();
    for word in [len, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, 0, 0, 0, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(len as usize, shade);
    fs::write(path, bytes).unwrap();
}

/// Takes the images away after some step.
struct Thief<'a> {
    folder: &'a Path,
    after: u64,
}

impl Observer for Thief<'_> {
    fn on_event(&mut self, event: &Event<'_>) {
        if let Event::Step(report) = event
            && report.step == self.after
        {
            fs::remove_dir_all(self.folder).unwrap();
        }
    }
}

#[test]
fn the_steps_before_it_are_kept() {
    let [images, run] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for class in ["a", "b"] {
        let folder = images.path().join(class);
        fs::create_dir(&folder).unwrap();
        (0..40).for_each(|i| write_bmp(&folder.join(format!("{i}.bmp")), 5 * i));
    }
    let options = OpenOptions { image_size: Some(8), ..OpenOptions::default() };
    let source = images.path().display().to_string();
    let dataset = Arc::new(open(&source, &options).unwrap());
    let [c, h, w] = dataset.sample_shape();
    let shape = residua_resnet::Shape::image(c, h, w);
    let architecture = Architecture::named("resnet8-w4", shape, 2).unwrap();
    let recipe = Recipe::new(source, options, &dataset, architecture);
    let recipe = Recipe {
        batch_size: 4,
        length: Length::Steps(1000),
        eval_every: Some(1000),
        checkpoint_every: Some(1000),
        ..recipe
    };
    let trainer = Trainer::create(run.path(), false, recipe, dataset, two_threads()).unwrap();
    let mut thief = Thief { folder: images.path(), after: 3 };
    let error = trainer.run(&mut thief, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::Data(_)), "{error:?}");
    let checkpoints: Vec<_> = fs::read_dir(run.path().join("checkpoints")).unwrap().collect();
    assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
    let name = checkpoints[0].as_ref().unwrap().file_name().into_string().unwrap();
    let step: u64 = name["step-".len()..].trim_end_matches(".ckpt").parse().unwrap();
    assert!((3..1000).contains(&step), "{name}");
}
