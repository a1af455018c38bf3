//! `kill -9` at any moment, resume, and the model file has the bytes of the uninterrupted run's.

#![cfg(unix)]

mod small_run;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use residua_train::{Event, Observer, Recipe, Trainer, read_metrics};
use small_run::{Task, model_bytes, train, two_threads};

/// Set for a child: the folder of the run.
const FOLDER: &str = "RESIDUA_TEST_FOLDER";
/// Set for a child: which task to train.
const TASK: &str = "RESIDUA_TEST_TASK";

/// Checkpoints after every other step, so that many kills hit the writing of one.
fn recipe(task: Task) -> Recipe {
    Recipe { checkpoint_every: Some(2), ..task.recipe() }
}

/// A line for every event, to the parent.
struct Lines;

impl Observer for Lines {
    fn on_event(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Step(report) => format!("step {}\n", report.step),
            Event::Warning(warning) => format!("warning {warning}\n"),
            _ => "event\n".to_owned(),
        };
        // The parent stops reading when it kills.
        _ = std::io::stdout().write_all(line.as_bytes());
    }
}

/// Not a test of its own: trains, or goes on training, until it is done or killed.
#[test]
#[ignore = "run as a child process by the tests of this file"]
fn child_trains() {
    let folder = std::env::var_os(FOLDER).expect("set by the parent");
    let folder = Path::new(&folder);
    let task = std::env::var(TASK).expect("set by the parent");
    let task = Task::ALL.into_iter().find(|t| format!("{t:?}") == task).expect("a task");
    let dataset = task.dataset();
    let trainer = match folder.join("config.toml").exists() {
        true => Trainer::resume(folder, dataset, two_threads()),
        false => Trainer::create(folder, false, recipe(task), dataset, two_threads()),
    };
    trainer.unwrap().run(&mut Lines, &AtomicBool::new(false)).unwrap();
}

fn spawn(folder: &Path, task: Task) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child_trains", "--nocapture"]);
    command.env(FOLDER, folder).env(TASK, format!("{task:?}"));
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the child after it has said this many lines and a moment more; tells how it ended and the
/// last line it said.
fn kill_after(mut child: Child, num_lines: usize, moment: Duration) -> (ExitStatus, String) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = lines.by_ref().take(num_lines).map_while(Result::ok).last();
    let start = Instant::now();
    while start.elapsed() < moment {
        std::hint::spin_loop();
    }
    child.kill().unwrap(); // SIGKILL
    (child.wait().unwrap(), last.unwrap_or_default())
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    for task in Task::ALL {
        let whole = tempfile::tempdir().unwrap();
        let uninterrupted = train(whole.path(), recipe(task), &task.dataset()).unwrap();

        let killed = tempfile::tempdir().unwrap();
        let mut kills = Vec::new();
        while kills.len() < 12 {
            // Where it is killed is random on purpose, and told when it goes wrong.
            let random = RandomState::new().build_hasher().finish();
            let (num_lines, micros) = ((random % 24) as usize, random / 24 % 3000);
            let child = spawn(killed.path(), task);
            let (status, last) = kill_after(child, num_lines, Duration::from_micros(micros));
            kills.push(format!("{last} +{micros} µs ({status})"));
        }
        let finished = kill_after(spawn(killed.path(), task), usize::MAX, Duration::ZERO);
        assert!(finished.0.success(), "{finished:?} after {kills:#?}");
        assert!(kills.iter().any(|kill| kill.contains("signal: 9")), "{kills:#?}");

        assert!(model_bytes(killed.path()) == model_bytes(whole.path()), "after {kills:#?}");
        let summary = std::fs::read(killed.path().join("summary.json")).unwrap();
        let summary: residua_train::Summary = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary.test, uninterrupted.test, "after {kills:#?}");
        let records = read_metrics(&killed.path().join("metrics.jsonl")).unwrap();
        let steps: Vec<_> = records.iter().map(|record| record.step).collect();
        assert_eq!(steps, (1..=30).collect::<Vec<_>>(), "after {kills:#?}");
        assert_eq!(temporaries(killed.path()), 0, "after {kills:#?}");
    }
}

/// Files that a killed process left half-written.
fn temporaries(folder: &Path) -> usize {
    let is_temporary = |path: &Path| path.extension().is_some_and(|e| e == "tmp");
    [folder.to_owned(), folder.join("checkpoints")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .filter(|entry| is_temporary(&entry.as_ref().unwrap().path()))
        .count()
}
