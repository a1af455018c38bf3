use std::path::Path;
use std::sync::Arc;

use residua_data::{Dataset, Split};
use residua_format::Model;
use residua_train::plot::{Line, LineChart, LineStyle, NUM_COLORS};
use residua_train::{TrainError, kept_models};

use super::{BranchRatio, Compare, Network};
use crate::run::MODEL_FILE;
use crate::section::{figures, mean, percent_spread};
use crate::{Chart, IdentityOptions, StudyError, identity};

/// Samples that blocks are measured on.
const NUM_SAMPLES: usize = 16;

/// How large branches are in the models that a run kept on its way, and at its end; not in those whose outputs
/// are no numbers, as early running statistics of very deep networks make them. Nothing if it kept none.
pub(super) fn branch_ratios(
    run: &Path,
    dataset: &Arc<Dataset>,
) -> Result<Vec<BranchRatio>, StudyError> {
    let mut paths: Vec<_> = kept_models(run)?.into_iter().map(|(_, path)| path).collect();
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    paths.push(run.join(MODEL_FILE));
    let split = if dataset.is_empty(Split::Dev) { Split::Train } else { Split::Dev };
    let options = IdentityOptions { split, num_samples: NUM_SAMPLES };
    let mut found = Vec::new();
    for path in paths {
        let model = Model::load(path)?;
        let blocks = match identity(&model, dataset, &options) {
            Ok(identity) => identity.blocks,
            Err(StudyError::Train(TrainError::NotFiniteOutput { .. })) => continue,
            Err(error) => return Err(error),
        };
        let ratios: Vec<f64> = blocks.iter().filter_map(|block| block.ratio).collect();
        if !ratios.is_empty() {
            found.push(BranchRatio { step: model.provenance.steps, ratio: mean(&ratios) });
        }
    }
    Ok(found)
}

impl Network {
    /// Norms of `W[l+2]` over the steps.
    fn weight_norms(&self) -> Vec<(f64, f64)> {
        let points = self.curve.iter();
        points.filter_map(|point| Some((point.step as f64, point.branch_norms?.weight))).collect()
    }

    /// Norms of the bias behind it, that of a batch norm if there is one.
    fn bias_norms(&self) -> Vec<(f64, f64)> {
        let points = self.curve.iter();
        points.filter_map(|point| Some((point.step as f64, point.branch_norms?.bias?))).collect()
    }

    /// `‖F(x)‖/‖x‖` over the steps.
    fn ratios(&self) -> Vec<(f64, f64)> {
        self.branch_ratios.iter().map(|point| (point.step as f64, point.ratio)).collect()
    }
}

impl Compare {
    pub(super) fn has_several_decays(&self) -> bool {
        self.networks.windows(2).any(|pair| pair[0].weight_decay != pair[1].weight_decay)
    }

    /// The branches of blocks over training, where weight decays are compared.
    pub(super) fn decay_charts(&self) -> Vec<Chart> {
        if !self.has_several_decays() {
            return Vec::new();
        }
        let lines = |points: fn(&Network) -> Vec<(f64, f64)>, style| -> Vec<Line> {
            let line = |(i, it): (usize, &Network)| {
                // Colours come again.
                let style = if i < NUM_COLORS { style } else { LineStyle::Dashed };
                Line::new(&it.name, i, points(it)).style(style)
            };
            self.networks.iter().enumerate().map(line).collect()
        };
        let charts = [
            Chart {
                name: "weight-norms".to_owned(),
                caption:
                    "Norm of the last weight of a block's branch, W[l+2], the mean over blocks, of \
                          the first seed that came to its end."
                        .to_owned(),
                lines: LineChart {
                    lines: lines(Network::weight_norms, LineStyle::default()),
                    ..LineChart::new(
                        "How decay draws weights toward zero",
                        "step",
                        "norm of W[l+2]",
                    )
                },
            },
            Chart {
                name: "bias-norms".to_owned(),
                caption: "Norm of the bias that a block's branch ends with, that of the last batch norm if \
                          there is one, the mean over blocks, of the first seed that came to its end. It decays unless --decay-norm off \
                          (of a layer's bias --decay-bias off) says otherwise."
                    .to_owned(),
                lines: LineChart {
                    lines: lines(Network::bias_norms, LineStyle::default()),
                    ..LineChart::new("The bias at the end of branches", "step", "norm of the bias")
                },
            },
            Chart {
                name: "branch-ratios".to_owned(),
                caption: format!(
                    "‖F(x)‖/‖x‖, the mean over blocks and the first {NUM_SAMPLES} samples of the dev set (the \
                     training set if there is none), with running statistics, of the first seed that came to its end: 0 where \
                     residual blocks are the identity."
                ),
                lines: LineChart {
                    lines: lines(Network::ratios, LineStyle::Marked),
                    ..LineChart::new(
                        "How near decay brings blocks to the identity",
                        "step",
                        "‖F(x)‖/‖x‖",
                    )
                },
            },
        ];
        let is_drawn = |chart: &Chart| chart.lines.lines.iter().any(|line| !line.points.is_empty());
        charts.into_iter().filter(is_drawn).collect()
    }

    /// What more decay does to a network.
    pub(super) fn decay_findings(&self) -> Vec<String> {
        let same = |a: &Network, b: &Network| {
            (a.family, a.shortcut, a.norm, a.depth) == (b.family, b.shortcut, b.norm, b.depth)
        };
        let pairs = self.networks.iter().zip(self.networks.iter().skip(1));
        let finding = |(less, more): (&Network, &Network)| {
            if !same(less, more) || less.train_errors().is_empty() || more.train_errors().is_empty()
            {
                return None;
            }
            let [(_, less_norm), (_, more_norm)] =
                [less.weight_norms().last().copied()?, more.weight_norms().last().copied()?];
            let ratio = match (less.branch_ratios.last(), more.branch_ratios.last()) {
                (Some(less), Some(more)) => {
                    let [less, more] = [less.ratio, more.ratio].map(figures);
                    format!(" and ‖F(x)‖/‖x‖ {more}, not {less}")
                }
                _ => String::new(),
            };
            let of_first = if less.runs.len() > 1 { " (first seed)" } else { "" };
            let [train, dev] =
                [Network::train_errors, Network::dev_errors].map(|errors: fn(&Network) -> _| {
                    let [more, less]: [Vec<f64>; 2] = [errors(more), errors(less)];
                    format!("{}, not {}", percent_spread(&more), percent_spread(&less))
                });
            let dev = match more.dev_errors().is_empty() {
                true => String::new(),
                false => format!("; dev error {dev}"),
            };
            Some(format!(
                "{}, {} layers: with decay {} in place of {} the mean norm of W[l+2] is {more_norm:.2} at the \
                 end, not {less_norm:.2}{ratio}{of_first}; training error {train}{dev}.",
                self.series_name(more),
                more.depth,
                more.weight_decay,
                less.weight_decay,
            ))
        };
        pairs.filter_map(finding).collect()
    }
}
