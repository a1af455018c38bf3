//! Blocks that a network can do without.

use residua_data::Split;
use residua_format::Model;
use residua_resnet::{BlockIndex, remove_blocks};
use residua_study::{Limit, Prune, PruneOptions, Record, Score, Study, StudyError, prune};
use residua_train::{EvalOptions, evaluate};

use crate::models::{changed, shapes, untrained};

fn pruned(name: &str, limit: Limit) -> Result<(Model, Model, Prune), StudyError> {
    let dataset = shapes();
    let model = untrained(name);
    let (split, eval) = (Split::Dev, EvalOptions::new(30));
    let options = PruneOptions { split, eval, limit, batch_sizes: vec![1] };
    let (smaller, found) = prune(&model, &dataset, &options, &|_| {})?;
    Ok((model, smaller, found))
}

fn without(model: &Model, blocks: &[&str]) -> Model {
    let blocks: Vec<BlockIndex> = blocks.iter().map(|block| block.parse().unwrap()).collect();
    changed(model, remove_blocks(&model.architecture, &model.weights, &blocks).unwrap())
}

fn score(model: &Model, split: Split) -> Score {
    let evaluation = evaluate(model, &shapes(), split, &EvalOptions::new(30)).unwrap();
    Score { top1_error: evaluation.top1_error, mean_loss: evaluation.mean_loss }
}

#[test]
fn each_round_removes_the_block_without_which_the_error_is_lowest() {
    let (model, smaller, found) = pruned("resnet20-w4", Limit::NumBlocks(3)).unwrap();
    let mut gone: Vec<&str> = Vec::new();
    let mut removable =
        vec!["layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2"];
    for round in &found.rounds {
        let scores = removable.iter().map(|&block| {
            let all: Vec<&str> = gone.iter().copied().chain([block]).collect();
            (score(&without(&model, &all), Split::Dev), block)
        });
        let order = |(a, _): &(Score, &str), (b, _): &(Score, &str)| {
            a.top1_error.total_cmp(&b.top1_error).then(a.mean_loss.total_cmp(&b.mean_loss))
        };
        let (best, block) = scores.min_by(order).unwrap();
        assert_eq!(round.removed.as_deref(), Some(block), "after {gone:?}");
        assert_eq!(round.tried[0].score, best);
        assert_eq!(round.tried.len(), removable.len());
        gone.push(block);
        removable.retain(|&other| other != block);
        let in_first = |block: &&str| block.starts_with("layer1");
        if gone.iter().filter(|block| in_first(block)).count() == 2 {
            removable.retain(|block| !in_first(block));
        }
    }
    assert_eq!(found.removed().collect::<Vec<_>>(), gone);
    assert_eq!(smaller, without(&model, &gone));
    assert_eq!((found.before.num_blocks, found.after.num_blocks), (9, 6));
    assert_eq!(found.after.num_parameters, smaller.weights.params.len() as u64);
    assert_eq!(found.after.score, score(&smaller, Split::Dev));
    assert_eq!(found.after.test, Some(score(&smaller, Split::Test)));
    assert_eq!(found.before.test, Some(score(&model, Split::Test)));
    assert_eq!(found.latencies.len(), 1);
}

#[test]
fn the_error_stays_within_the_limit() {
    for increase in [0.0, 5.0, 100.0] {
        let limit = Limit::ErrorIncrease(increase);
        let (model, smaller, found) = pruned("resnet14-w4", limit).unwrap();
        let bound = score(&model, Split::Dev).top1_error + increase;
        assert!(found.after.score.top1_error <= bound);
        match found.rounds.last().unwrap() {
            round if round.removed.is_none() => assert!(round.tried[0].score.top1_error > bound),
            // A stage keeps a block.
            _ => assert_eq!(smaller.architecture.num_blocks(), 3),
        }
        if increase == 100.0 {
            assert_eq!(smaller.architecture.name(), "resnet8-w4");
        }
    }
}

#[test]
fn networks_without_such_blocks_are_refused() {
    let refusal = |name, limit| pruned(name, limit).unwrap_err().to_string();
    for name in ["plain14-w4", "resnet8-w4", "resnet14-w4-projection-all"] {
        let expected = format!(
            "{name}: no block can be removed, expected identity shortcuts in a stage of two blocks or more"
        );
        assert_eq!(refusal(name, Limit::NumBlocks(1)), expected);
        assert_eq!(refusal(name, Limit::ErrorIncrease(1.0)), expected);
    }
    let error = refusal("resnet14-w4", Limit::NumBlocks(4));
    assert!(error.starts_with("resnet14-w4: 4 blocks to remove, expected at most 3"), "{error}");
}

#[test]
fn a_record_of_it_can_be_read_again_and_shown() {
    let (_, _, found) = pruned("resnet14-w4", Limit::ErrorIncrease(100.0)).unwrap();
    let section = found.section();
    assert_eq!(section.charts[0].lines.lines[0].points.len(), 4);
    assert_eq!(section.tables.len(), 3 + 2);
    assert!(section.findings[0].starts_with("Without 3 of 6 blocks ("), "{:?}", section.findings);
    let record = Record::new("residua prune", Study::Prune(Box::new(found)));
    let folder = tempfile::tempdir().unwrap();
    record.save(folder.path()).unwrap();
    assert_eq!(Record::load(folder.path()).unwrap(), record);
}
