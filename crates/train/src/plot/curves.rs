use kuva::plot::LegendPosition;

use super::{Figure, Line, LineChart, LineStyle};
use crate::MetricsRecord;

/// The error of one network over the steps of its training.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ErrorCurve {
    /// What the legend calls it.
    pub name: String,
    /// Step and training error in percent.
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
    /// Multiply-adds of a step in billions, and milliseconds.
    pub points: Vec<(f64, f64)>,
}

/// The errors of networks over the steps of their training, in one chart: a colour for each network,
/// the training error thin and dashed, the dev error bold.
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
        let train = Line::new(format!("{} train", curve.name), color, points(&curve.train));
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

/// Draws the time of steps over their multiply-adds, both axes logarithmic: a colour for each curve,
/// dashed what it would be if time grew as multiply-adds do from the curve's first point on.
pub fn cost_curves(title: &str, curves: &[CostCurve]) -> Figure {
    let lines = curves.iter().enumerate().flat_map(|(color, curve)| {
        let mut points = curve.points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let proportional = match (points.first(), points.last()) {
            (Some(&(cost, ms)), Some(&(last, _))) => vec![(cost, ms), (last, ms * last / cost)],
            _ => Vec::new(),
        };
        let dashed = Line::new("", color, proportional).style(LineStyle::Dashed);
        [dashed, Line::new(&curve.name, color, points)]
    });
    let x_label = "multiply-adds of a step (billions); dashed: time in proportion";
    let chart = LineChart {
        lines: lines.collect(),
        log_x: true,
        log_y: true,
        ..LineChart::new(title, x_label, "time of a step (ms)")
    };
    chart.figure_with(LegendPosition::InsideTopLeft)
}
