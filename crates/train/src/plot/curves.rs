use kuva::plot::LegendPosition;

use super::{Figure, Line, LineChart, LineStyle};
use crate::MetricsRecord;

/// The error of one network over the steps of its training.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ErrorCurve {
    /// What the legend calls it.
    pub name: String,
    /// Step, and training error in percent of the batches since the step before.
    pub train: Vec<(u64, f64)>,
    /// Step and dev error in percent.
    pub dev: Vec<(u64, f64)>,
}

impl ErrorCurve {
    /// The errors of a run's records.
    pub fn new(name: impl Into<String>, records: &[MetricsRecord]) -> Self {
        let dev = |record: &MetricsRecord| Some((record.step, record.dev_error?));
        Self {
            name: name.into(),
            train: records.iter().map(|record| (record.step, record.train_error)).collect(),
            dev: records.iter().filter_map(dev).collect(),
        }
    }
}

/// How long steps of growing cost take.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostCurve {
    /// What the legend calls it.
    pub name: String,
    /// What grows.
    pub growth: Growth,
    /// Multiply-adds of a step in billions, and milliseconds.
    pub points: Vec<(f64, f64)>,
}

/// What makes steps cost more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Growth {
    /// The batch, of one network.
    #[default]
    Batch,
    /// The network, at one batch size.
    Network,
}

/// The most points of a training error. It is logged as often as progress is shown, at times for a single
/// batch, whose error says little.
const MAX_TRAIN_POINTS: u64 = 200;

/// The errors of networks over the steps of their training, in one chart: a colour for each network,
/// the training error thin and dashed, the dev error bold. The training error is that of at least a 200th of
/// the steps at each point.
pub fn error_chart(title: &str, curves: &[ErrorCurve]) -> LineChart {
    let steps = curves.iter().flat_map(|curve| curve.train.iter().chain(&curve.dev));
    let last_step = steps.map(|&(step, _)| step).max().unwrap_or(0);
    let (x_label, unit) = match last_step >= 10_000 {
        true => ("step (thousands)", 1e3),
        false => ("step", 1.0),
    };
    let points = |points: &[(u64, f64)]| -> Vec<(f64, f64)> {
        points.iter().map(|&(step, error)| (step as f64 / unit, error)).collect()
    };
    let lines = curves.iter().enumerate().flat_map(|(color, curve)| {
        let train = means(&curve.train, last_step / MAX_TRAIN_POINTS);
        let train = Line::new(format!("{} train", curve.name), color, points(&train));
        let dev = Line::new(format!("{} dev", curve.name), color, points(&curve.dev));
        [train.style(LineStyle::Dashed), dev]
    });
    LineChart { lines: lines.collect(), ..LineChart::new(title, x_label, "error (%)") }
}

/// Draws an [`error_chart`] with its legend inside, where learning curves leave room.
pub fn error_curves(title: &str, curves: &[ErrorCurve]) -> Figure {
    let mut figure = error_chart(title, curves).figure_with(LegendPosition::InsideTopRight);
    figure.layout = figure.layout.with_x_axis_min(0.0).with_clamp_axis();
    figure
}

/// The means over at least so many steps of what is given for the steps since the last.
fn means(points: &[(u64, f64)], at_least: u64) -> Vec<(u64, f64)> {
    let mut means = Vec::new();
    let (mut sum, mut first, mut last) = (0.0, 0, 0);
    for &(step, value) in points {
        sum += value * step.saturating_sub(last) as f64;
        last = step;
        if last - first >= at_least.max(1) {
            means.push((last, sum / (last - first) as f64));
            (sum, first) = (0.0, last);
        }
    }
    means
}

/// Draws the time of steps, for each multiply-add, over their multiply-adds: a line that falls or stays level is
/// of time that grows no faster than they do. Bold where the batch grows, thin and dashed where the network does.
pub fn cost_curves(title: &str, curves: &[CostCurve]) -> Figure {
    let with_growth = |growth: Growth, style: LineStyle| {
        let curves = curves.iter().filter(move |curve| curve.growth == growth);
        curves.enumerate().map(move |(color, curve)| {
            let mut points: Vec<_> =
                curve.points.iter().map(|&(cost, ms)| (cost, ms / cost)).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line::new(&curve.name, color, points).style(style)
        })
    };
    let batches = with_growth(Growth::Batch, LineStyle::Bold);
    let networks = with_growth(Growth::Network, LineStyle::Dashed);
    let chart = LineChart {
        lines: batches.chain(networks).collect(),
        log_x: true,
        ..LineChart::new(
            title,
            "multiply-adds of a step (billions); bold: the batch grows, dashed: the network",
            "time for a billion multiply-adds (ms)",
        )
    };
    chart.figure()
}

#[cfg(test)]
mod tests {
    use super::means;

    #[test]
    fn short_windows_are_taken_together() {
        let points = [(4, 50.0), (5, 100.0), (9, 20.0), (10, 70.0), (12, f64::NAN)];
        assert_eq!(means(&points, 5), [(5, 60.0), (10, 30.0)]);
        assert_eq!(means(&points[..4], 0), points[..4]);
        assert_eq!(means(&points[..1], 5), []);
    }
}
