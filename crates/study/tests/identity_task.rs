//! Stacks of layers that learn to put out their input.

use std::sync::atomic::{AtomicUsize, Ordering};

use residua_data::Progress;
use residua_engine::ThreadPool;
use residua_resnet::Family;
use residua_study::{
    IdentityTask, IdentityTaskOptions, LayerKind, Record, Study, TaskResult, identity_task,
};

fn options() -> IdentityTaskOptions {
    IdentityTaskOptions {
        depths: vec![2, 8],
        kinds: vec![LayerKind::Dense, LayerKind::Conv],
        steps: 150,
        width: 4,
        num_seeds: 2,
        lrs: vec![0.1, 1e9, 0.03],
    }
}

fn found(threads: usize) -> IdentityTask {
    let told = AtomicUsize::new(0);
    let on_progress = |Progress { done, total }: Progress| {
        assert!((1..=total).contains(&done));
        assert_eq!(total, 8 * (3 + 1), "the grid and the other seeds of each stack");
        told.fetch_add(1, Ordering::Relaxed);
    };
    let pool = ThreadPool::new(Some(threads)).unwrap();
    let found = pool.install(|| identity_task(&options(), &on_progress)).unwrap();
    assert_eq!(told.into_inner(), 8 * (3 + 1));
    found
}

fn result(found: &IdentityTask, kind: LayerKind, family: Family, depth: usize) -> &TaskResult {
    let is_it = |it: &&TaskResult| (it.kind, it.family, it.depth) == (kind, family, depth);
    found.results.iter().find(is_it).unwrap()
}

#[test]
fn residual_stacks_learn_what_plain_ones_do_not() {
    let found = found(2);
    assert_eq!(found.results.len(), 2 * 2 * 2);
    for kind in [LayerKind::Dense, LayerKind::Conv] {
        let error = |family| {
            let errors = result(&found, kind, family, 8).errors();
            assert_eq!(errors.len(), 2);
            errors.into_iter().fold(0.0, f64::max)
        };
        let (plain, residual) = (error(Family::Plain), error(Family::Residual));
        assert!(residual < 0.1 && plain > 2.0 * residual, "{kind}: {plain} and {residual}");
    }
    let findings = found.section().findings;
    assert_eq!(findings.len(), 6 + 1);
    assert!(findings[6].contains("The best learning rate is the grid's first or last"));
    assert_eq!(found.section().charts.len(), 4);
}

#[test]
fn the_best_learning_rate_of_the_grid_is_taken() {
    let found = found(2);
    for result in &found.results {
        let [first, diverged, third] = &result.grid[..] else { panic!("three") };
        // Not a number, or 1: no ReLU lets anything through any more.
        assert!(
            diverged.lr == 1e9 && diverged.error.is_none_or(|error| error == 1.0),
            "{result:?}"
        );
        let (first_error, third_error) = (first.error.unwrap(), third.error.unwrap());
        let best = if third_error < first_error { third } else { first };
        assert_eq!(result.lr, best.lr);
        assert_eq!(result.is_at_end_of_grid(), best.lr == 0.03);
        assert_eq!(result.curves[0].last().unwrap().error, best.error);
        assert_eq!(result.curves[0].last().unwrap().step, 150);
        assert_eq!(result.curves[0][0].step, 0);
        assert!(result.curves[0] != result.curves[1], "seeds differ");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    assert_eq!(found(1), found(3));
}

#[test]
fn runs_that_diverge_are_kept_and_told() {
    let options = IdentityTaskOptions {
        depths: vec![4],
        kinds: vec![LayerKind::Dense],
        lrs: vec![1e9],
        ..options()
    };
    let found = identity_task(&options, &|_| {}).unwrap();
    assert_eq!(found.section().tables[0].rows[1][4], "diverged");
    let folder = tempfile::tempdir().unwrap();
    let record = Record::new("residua study identity-task", Study::IdentityTask(found));
    record.save(folder.path()).unwrap();
    assert_eq!(Record::load(folder.path()).unwrap(), record);
}

#[test]
fn settings_out_of_range_are_refused() {
    let error =
        |options: &IdentityTaskOptions| identity_task(options, &|_| {}).unwrap_err().to_string();
    let odd = IdentityTaskOptions { depths: vec![2, 3], ..options() };
    let expected = "depth: 3, expected an even number from 2 on: residual blocks have two layers";
    assert_eq!(error(&odd), expected);
    let still = IdentityTaskOptions { lrs: vec![0.0], ..options() };
    assert_eq!(error(&still), "lr: 0, expected a number above 0");
    let none = IdentityTaskOptions { kinds: Vec::new(), ..options() };
    assert_eq!(error(&none), "kinds of layers: 0, expected at least 1");
}
