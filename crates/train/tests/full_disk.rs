//! A disk that fills up stops the run with a clear error, and loses nothing: with room again, it
//! resumes from its last checkpoint to the same bytes.

#![cfg(unix)]

mod small_run;

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use residua_train::{Recipe, Trainer};
use small_run::{Task, interrupt, message, model_bytes, resume, train, two_threads};

/// Set for a child: the folder of the run.
const FOLDER: &str = "RESIDUA_TEST_FOLDER";
const TASK: Task = Task::Shapes;

/// Not a test of its own: trains, or goes on training, and prints what became of it.
#[test]
#[ignore = "run as a child process by the tests of this file"]
fn child_trains() {
    let folder = std::env::var_os(FOLDER).expect("set by the parent");
    let folder = Path::new(&folder);
    let result = match folder.join("config.toml").exists() {
        true => resume(folder, &TASK.dataset()),
        false => train(folder, TASK.recipe(), &TASK.dataset()),
    };
    match result {
        Ok(_) => println!("finished"),
        Err(error) => println!("{}", message(&error)),
    }
}

const CHILD: &str = r#""$0" --ignored --exact child_trains --nocapture"#;

fn run(program: &str, options: &[&str], script: &str, folder: &Path) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(options).arg("-c").arg(script);
    command.arg(std::env::current_exe()?).env(FOLDER, folder).output()
}

#[test]
fn a_size_limit_keeps_the_last_checkpoint() {
    let dataset = TASK.dataset();
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(whole.path(), TASK.recipe(), &dataset).unwrap();
    let trainer =
        Trainer::create(folder.path(), false, TASK.recipe(), Arc::clone(&dataset), two_threads());
    interrupt(trainer.unwrap(), 9);
    let checkpoints = || {
        let path = folder.path().join("checkpoints");
        let mut names: Vec<_> =
            path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(checkpoints(), ["step-00000008.ckpt", "step-00000009.ckpt"]);

    // Room for every other file of a run, but not for a checkpoint.
    let script = format!("trap '' XFSZ && ulimit -f 16 && {CHILD}");
    let output = run("sh", &[], &script, folder.path()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "checkpoints/step-00000012.ckpt (the file would be larger than this process may";
    assert!(text.contains(expected), "{output:?}");
    assert_eq!(checkpoints(), ["step-00000008.ckpt", "step-00000009.ckpt"]);

    resume(folder.path(), &dataset).unwrap();
    assert_eq!(model_bytes(folder.path()), model_bytes(whole.path()));
}

/// A disk too small for three checkpoints at once, mounted in a namespace of the child's own, and
/// made larger when the run has failed.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(whole.path(), TASK.recipe(), &TASK.dataset()).unwrap();
    let checkpoint = whole.path().join("checkpoints").join("step-00000030.ckpt");
    let kib = checkpoint.metadata().unwrap().len() * 5 / 2 / 1024 + 24;

    let (disk, saved) = (folder.path().join("disk"), folder.path().join("saved"));
    std::fs::create_dir(&disk).unwrap();
    let (run_folder, disk, saved) = (disk.join("run"), disk.display(), saved.display());
    let mount = format!("mount -t tmpfs -o size={kib}k none {disk} && echo mounted >&2");
    let enlarge = format!("mount -o remount,size=8m {disk}");
    let save = format!("cp {} {saved}", run_folder.join("model.safetensors").display());
    let script = format!("{mount} && {CHILD} && {enlarge} && {CHILD} && {save}");
    let options = ["--map-root-user", "--mount", "sh"];
    let output = match run("unshare", &options, &script, &run_folder) {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("mounted") => output,
        other => return println!("skipped: no disk can be mounted here: {other:?}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(".ckpt (the disk is full: free some space"), "{output:?}");
    assert!(text.contains("finished"), "{output:?}");
    assert_eq!(std::fs::read(saved.to_string()).unwrap(), model_bytes(whole.path()));
}

#[test]
fn a_folder_that_goes_away_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let dataset = Task::Spirals.dataset();
    let recipe = Recipe { checkpoint_every: Some(30), ..Task::Spirals.recipe() };
    let trainer = Trainer::create(&path, false, recipe, dataset, two_threads()).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let error = trainer.run(&mut (), &false.into()).unwrap_err();
    let text = message(&error);
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains("the folder does not exist"), "{text}");
}
