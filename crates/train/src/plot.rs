//! Plots, as SVG or PNG: learning curves in the manner of Figure 6 of He et al. 2015, confusion
//! matrices, and the time of steps.

use std::fmt;
use std::sync::Arc;

use kuva::plot::{ColorMap, Heatmap, LegendPosition, LinePlot, ScatterPlot};
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;

use crate::{MetricsRecord, TrainError};

/// A plot that is to be drawn.
pub struct Figure {
    plots: Vec<Plot>,
    layout: Layout,
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figure").field("plots", &self.plots.len()).finish_non_exhaustive()
    }
}

impl Figure {
    /// The text of an SVG.
    pub fn svg(self) -> String {
        kuva::render_to_svg(self.plots, self.layout)
    }

    /// The bytes of a PNG, with two pixels for each unit of the SVG.
    ///
    /// # Errors
    /// A picture that can't be encoded.
    pub fn png(self) -> Result<Vec<u8>, TrainError> {
        kuva::render_to_raster(self.plots, self.layout, 2.0).map_err(TrainError::Picture)
    }
}

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

/// Okabe and Ito's colours, which stay apart for colour-blind readers; yellow left out, black last.
const COLORS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// Draws the curves in one plot: a colour for each network, the training error thin and dashed,
/// the dev error bold. Points that are not finite are left out.
pub fn error_curves(title: &str, curves: &[ErrorCurve]) -> Figure {
    let steps = curves.iter().flat_map(|curve| curve.train.iter().chain(&curve.dev));
    let last_step = steps.map(|&(step, _)| step).max().unwrap_or(0);
    let (x_label, unit) = match last_step >= 10_000 {
        true => ("step (thousands)", 1e3),
        false => ("step", 1.0),
    };
    let finite = |points: &[(u64, f64)]| -> Vec<(f64, f64)> {
        let points = points.iter().filter(|(_, error)| error.is_finite());
        points.map(|&(step, error)| (step as f64 / unit, error)).collect()
    };
    let mut plots: Vec<Plot> = Vec::new();
    for (curve, color) in curves.iter().zip(COLORS.iter().cycle()) {
        let label = format!("{} train", curve.name);
        let train = |line: LinePlot| line.with_stroke_width(1.0).with_dashed();
        plots.extend(error_curve(finite(&curve.train), color, label, train));
        let label = format!("{} dev", curve.name);
        let dev = |line: LinePlot| line.with_stroke_width(2.5);
        plots.extend(error_curve(finite(&curve.dev), color, label, dev));
    }
    let layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_title_size(16)
        .with_x_label(x_label)
        .with_y_label("error (%)")
        .with_x_axis_min(0.0)
        .with_y_axis_min(0.0)
        .with_clamp_axis()
        .with_legend_position(LegendPosition::InsideTopRight)
        .with_theme(theme())
        .with_width(720.0)
        .with_height(460.0);
    Figure { plots, layout }
}

/// A line, or a mark for a single point, through which there is none; nothing of nothing.
fn error_curve(
    points: Vec<(f64, f64)>,
    color: &str,
    label: String,
    style: impl FnOnce(LinePlot) -> LinePlot,
) -> Option<Plot> {
    match points.len() {
        0 => None,
        1 => {
            let mark = ScatterPlot::new().with_data(points).with_color(color).with_legend(label);
            Some(mark.with_size(4.0).into())
        }
        _ => {
            let line = LinePlot::new().with_data(points).with_color(color).with_legend(label);
            Some(style(line).into())
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

/// Draws the time of steps over their multiply-adds, both axes logarithmic: a colour for each curve,
/// dashed what it would be if time grew as multiply-adds do from the curve's first point on.
pub fn cost_curves(title: &str, curves: &[CostCurve]) -> Figure {
    let mut plots: Vec<Plot> = Vec::new();
    for (curve, color) in curves.iter().zip(COLORS.iter().cycle()) {
        let line = |points: Vec<(f64, f64)>| LinePlot::new().with_data(points).with_color(*color);
        let mut points = curve.points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let (Some(&(cost, ms)), Some(&(last, _))) = (points.first(), points.last()) {
            let proportional = vec![(cost, ms), (last, ms * last / cost)];
            plots.push(line(proportional).with_stroke_width(1.0).with_dashed().into());
        }
        plots.push(line(points).with_stroke_width(2.5).with_legend(curve.name.clone()).into());
    }
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_title_size(16)
        .with_x_label("multiply-adds of a step (billions); dashed: time in proportion")
        .with_y_label("time of a step (ms)")
        .with_legend_position(LegendPosition::InsideTopLeft)
        .with_theme(theme())
        .with_width(720.0)
        .with_height(460.0);
    // Without anything to draw there are no powers of ten.
    if !plots.is_empty() {
        layout = layout.with_log_scale();
    }
    Figure { plots, layout }
}

/// Draws a confusion matrix, `confusion[true][predicted]` in samples: the shade is the share of
/// the row, so that classes of different sizes compare; up to 20 classes the counts are written in.
pub fn confusion_matrix(title: &str, classes: &[String], confusion: &[Vec<u64>]) -> Figure {
    // The library counts rows from the bottom; the first class belongs at the top.
    let rows: Vec<Vec<(u64, f64)>> = confusion.iter().rev().map(|row| with_shares(row)).collect();
    let shares = rows.iter().map(|row| row.iter().map(|&(_, share)| share));
    let plots: Vec<Plot> = vec![Heatmap::new().with_data(shares).with_color_map(shades()).into()];
    let side = side(classes.len());
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_title_size(16)
        .with_x_label("predicted class")
        .with_y_label("true class")
        .with_x_categories(classes.to_vec())
        .with_y_categories(classes.iter().rev().cloned().collect())
        .with_x_tick_rotate(-45.0)
        .with_colorbar_tick_format(TickFormat::Custom(Arc::new(|share| format!("{share:.0} %"))))
        .with_theme(theme())
        .with_width(side + 120.0)
        .with_height(side);
    if classes.len() <= 20 {
        layout.annotations = cell_counts(&rows);
    }
    Figure { plots, layout }
}

/// From near white to a blue light enough for black figures: the library has one colour of text.
fn shades() -> ColorMap {
    let mix = |from: f64, to: f64, share: f64| from + (to - from) * share;
    ColorMap::Custom(Arc::new(move |share| {
        let [r, g, b] = [(250.0, 107.0), (252.0, 174.0), (255.0, 214.0)]
            .map(|(from, to)| mix(from, to, share).round());
        format!("rgb({r},{g},{b})")
    }))
}

/// The counts of a row with their shares in percent.
fn with_shares(row: &[u64]) -> Vec<(u64, f64)> {
    let total = row.iter().sum::<u64>().max(1) as f64;
    row.iter().map(|&count| (count, count as f64 / total * 100.0)).collect()
}

/// Height of the whole figure.
fn side(num_classes: usize) -> f64 {
    (34.0 * num_classes as f64).clamp(360.0, 1200.0)
}

/// Each count in the middle of its cell: cells are 1×1, their centres at 1, 2, ….
fn cell_counts(rows: &[Vec<(u64, f64)>]) -> Vec<TextAnnotation> {
    // The library writes 6 units above the point; figures of this size want 4 below the middle.
    let margins = 134.0;
    let baseline = 10.0 * rows.len() as f64 / (side(rows.len()) - margins);
    let cell = |y: usize, x: usize, count: u64| {
        TextAnnotation::new(count.to_string(), (x + 1) as f64, (y + 1) as f64 - baseline)
            .with_font_size(11)
    };
    let cells = rows.iter().enumerate();
    cells.flat_map(|(y, row)| row.iter().enumerate().map(move |(x, &c)| cell(y, x, c.0))).collect()
}

fn theme() -> Theme {
    Theme { grid_color: "#e4e4e4".into(), legend_border: "#bbbbbb".into(), ..Theme::light() }
}
