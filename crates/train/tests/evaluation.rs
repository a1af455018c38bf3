//! Evaluation against a count by hand, classes by name, and what is refused.

mod small_run;

use std::sync::Arc;

use residua_data::{Dataset, EvalLoader, Split};
use residua_format::Model;
use residua_train::{EvalOptions, Predictor, evaluate, predict};
use small_run::{Task, message, model, train};

fn trained(task: Task) -> (Model, Arc<Dataset>) {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), task.dataset());
    train(folder.path(), task.recipe(), &dataset).unwrap();
    (model(folder.path()), dataset)
}

/// The whole split: inputs and labels.
fn samples(dataset: &Arc<Dataset>, split: Split) -> (Vec<f32>, Vec<u32>) {
    let mut loader = EvalLoader::new(dataset, split, dataset.len(split), 1, None).unwrap();
    let batch = loader.next().unwrap().unwrap();
    (batch.input, batch.labels)
}

#[test]
fn an_evaluation_is_what_counting_gives() {
    let (model, dataset) = trained(Task::Shapes);
    let (input, labels) = samples(&dataset, Split::Train);
    let probabilities = predict(&model, &input).unwrap();
    let mut confusion = vec![vec![0; 10]; 10];
    let (mut top1, mut top5, mut loss) = (0, 0, 0.0);
    for (row, &label) in probabilities.chunks(10).zip(&labels) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let mut order: Vec<usize> = (0..10).collect();
        order.sort_by(|&i, &j| row[j].total_cmp(&row[i]));
        confusion[label as usize][order[0]] += 1;
        top1 += usize::from(order[0] != label as usize);
        top5 += usize::from(!order[..5].contains(&(label as usize)));
        loss -= f64::from(row[label as usize]).ln();
    }
    let n = labels.len() as f64;
    // Any batch size, whole or cut, gives the same.
    for batch_size in [1, 3, 64, 500] {
        let found =
            evaluate(&model, &dataset, Split::Train, &EvalOptions::new(batch_size)).unwrap();
        assert_eq!(found.num_samples, 100);
        assert_eq!(found.confusion, confusion);
        assert_eq!(found.top1_error, top1 as f64 / n * 100.0);
        assert_eq!(found.top5_error, Some(top5 as f64 / n * 100.0));
        assert!((found.mean_loss - loss / n).abs() < 1e-4, "{} {}", found.mean_loss, loss / n);
        for (i, scores) in found.per_class.iter().enumerate() {
            let column: u64 = confusion.iter().map(|row| row[i]).sum();
            let row: u64 = confusion[i].iter().sum();
            let share = |whole: u64| (whole > 0).then(|| confusion[i][i] as f64 / whole as f64);
            assert_eq!(scores.name, model.classes[i]);
            assert_eq!((scores.precision, scores.recall), (share(column), share(row)));
            assert_eq!(scores.support, row);
        }
        let json = serde_json::to_value(&found).unwrap();
        for key in ["top1_error", "top5_error", "confusion", "per_class"] {
            assert!(json.get(key).is_some(), "{key}");
        }
    }
}

#[test]
fn five_classes_or_fewer_have_no_top5_error() {
    let (model, dataset) = trained(Task::Spirals);
    assert_eq!(
        evaluate(&model, &dataset, Split::Dev, &EvalOptions::new(8)).unwrap().top5_error,
        None
    );
}

/// The same network with its outputs in another order.
fn reordered(model: &Model, order: [usize; 3], with_weights: bool) -> Model {
    let mut other = model.clone();
    other.classes = order.map(|i| model.classes[i].clone()).into();
    if with_weights {
        let graph = model.architecture.to_graph().unwrap();
        for name in ["fc.weight", "fc.bias"] {
            let from = model.weights.get(&graph, name).unwrap();
            let row_len = from.len() / 3;
            let to = other.weights.get_mut(&graph, name).unwrap();
            for (row, i) in to.chunks_mut(row_len).zip(order) {
                row.copy_from_slice(&from[i * row_len..][..row_len]);
            }
        }
    }
    other
}

#[test]
fn classes_in_another_order_are_matched_by_name() {
    let (model, dataset) = trained(Task::Spirals);
    let order = [2, 0, 1];
    let original = evaluate(&model, &dataset, Split::Test, &EvalOptions::new(16)).unwrap();
    assert!(original.top1_error < 60.0, "it has learnt: {original:?}");
    let found =
        evaluate(&reordered(&model, order, true), &dataset, Split::Test, &EvalOptions::new(16))
            .unwrap();
    assert_eq!(found.top1_error, original.top1_error);
    for (i, &i_was) in order.iter().enumerate() {
        assert_eq!(found.per_class[i], original.per_class[i_was]);
        for (j, &j_was) in order.iter().enumerate() {
            assert_eq!(found.confusion[i][j], original.confusion[i_was][j_was]);
        }
    }
    // Names that were swapped alone are taken at their word.
    let swapped =
        evaluate(&reordered(&model, order, false), &dataset, Split::Test, &EvalOptions::new(16))
            .unwrap();
    assert!(swapped.top1_error > original.top1_error);
}

#[test]
fn other_classes_are_refused() {
    let (mut model, dataset) = trained(Task::Spirals);
    model.classes[1] = "wing".into();
    let text =
        message(&evaluate(&model, &dataset, Split::Test, &EvalOptions::new(16)).unwrap_err());
    assert!(text.contains("(only in the dataset: arm1; only in the model: wing)"), "{text}");

    let (model, _) = trained(Task::Shapes);
    let text =
        message(&evaluate(&model, &dataset, Split::Test, &EvalOptions::new(16)).unwrap_err());
    assert!(text.contains("arm0, arm1, arm2; only in the model: ") && text.contains(" more)"));
}

#[test]
fn outputs_that_are_not_finite_are_refused() {
    let (mut model, dataset) = trained(Task::Spirals);
    model.weights.params[0] = f32::NAN;
    model.weights.buffers[0] = f32::INFINITY;
    let text =
        message(&evaluate(&model, &dataset, Split::Test, &EvalOptions::new(16)).unwrap_err());
    assert_eq!(text, "the model's outputs are not finite; 2 of its weights are not");
    predict(&model, &[0.0, 1.0]).unwrap_err();
}

#[test]
fn predictions_do_not_depend_on_the_batch() {
    let (model, dataset) = trained(Task::Shapes);
    let (input, _) = samples(&dataset, Split::Dev);
    let all = predict(&model, &input).unwrap();
    let mut one_by_one = Predictor::new(&model, 1).unwrap();
    assert_eq!(one_by_one.probabilities(&input).unwrap(), all);
    let sample_len = input.len() / 20;
    assert_eq!(one_by_one.probabilities(&input[..sample_len]).unwrap(), all[..10]);
    assert!(one_by_one.probabilities(&[]).unwrap().is_empty());
    let text = message(&one_by_one.probabilities(&input[1..]).unwrap_err());
    assert!(text.contains("expected a multiple of 3072"), "{text}");
}

#[test]
fn a_split_without_samples_is_refused() {
    let (model, _) = trained(Task::Spirals);
    let open = Default::default();
    let dataset = residua_data::open("synthetic:spirals?train=50&dev=9&test=0", &open).unwrap();
    let text = message(
        &evaluate(&model, &Arc::new(dataset), Split::Test, &EvalOptions::new(16)).unwrap_err(),
    );
    assert!(text.contains("the test split is empty"), "{text}");
}

/// Images of 32×32 pixels, mirrored.
fn mirror(images: &[f32]) -> Vec<f32> {
    let rows = images.chunks_exact(32 * 3);
    rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect()
}

/// Images of 32×32 pixels, moved down and to the right by `by` pixels, 1 or -1.
fn shift(images: &[f32], by: isize) -> Vec<f32> {
    let from = |i: usize| (i as isize - by).clamp(0, 31) as usize;
    let mut shifted = Vec::new();
    for image in images.chunks_exact(32 * 32 * 3) {
        for (row, column) in (0..32).flat_map(|row| (0..32).map(move |column| (row, column))) {
            shifted.extend(&image[(from(row) * 32 + from(column)) * 3..][..3]);
        }
    }
    shifted
}

/// The mean of the outputs for the views of an image, which the model sees as they are.
#[test]
fn other_views_of_an_image_are_averaged() {
    let (model, dataset) = trained(Task::Shapes);
    let (input, labels) = samples(&dataset, Split::Train);
    let logits = |input: &[f32]| -> Vec<f64> {
        let probabilities = predict(&model, input).unwrap();
        // Logits up to a constant for each image, which the mean keeps.
        probabilities.iter().map(|&p| f64::from(p).ln()).collect()
    };
    let [up, down] = [-1, 1].map(|by| shift(&input, by));
    let mirrored = [&input, &up, &down].map(|images| mirror(images));
    // The least that the loss must change by, three times what its comparison lets pass or more.
    for (test_time_flips, test_time_shifts, views, least_change) in [
        (true, false, vec![&input, &mirrored[0]], 1e-3),
        (false, true, vec![&input, &up, &down], 3e-4),
        (true, true, [&input, &up, &down].into_iter().chain(&mirrored).collect(), 3e-4),
    ] {
        let outputs: Vec<Vec<f64>> = views.into_iter().map(|images| logits(images)).collect();
        let mean = |i: usize| outputs.iter().map(|o| o[i]).sum::<f64>() / outputs.len() as f64;
        let means: Vec<f64> = (0..outputs[0].len()).map(mean).collect();
        let mut confusion = vec![vec![0; 10]; 10];
        let mut loss = 0.0;
        for (row, &label) in means.chunks(10).zip(&labels) {
            let best = (0..10).max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap();
            confusion[label as usize][best] += 1;
            loss += row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[label as usize];
        }
        let options = EvalOptions { test_time_flips, test_time_shifts, ..EvalOptions::new(7) };
        let found = evaluate(&model, &dataset, Split::Train, &options).unwrap();
        assert_eq!(found.confusion, confusion);
        assert!((found.mean_loss - loss / labels.len() as f64).abs() < 1e-4);
        let one = evaluate(&model, &dataset, Split::Train, &EvalOptions::new(7)).unwrap();
        let change = (found.mean_loss - one.mean_loss).abs();
        assert!(change > least_change, "other views change the loss by {change:.1e}");
    }

    let (model, dataset) = trained(Task::Spirals);
    for (test_time_flips, test_time_shifts, expected) in
        [(true, true, "vectors have no mirror image"), (false, true, "vectors can't be shifted")]
    {
        let options = EvalOptions { test_time_flips, test_time_shifts, ..EvalOptions::new(7) };
        let text = message(&evaluate(&model, &dataset, Split::Test, &options).unwrap_err());
        assert!(text.contains(expected), "{text}");
    }
}
