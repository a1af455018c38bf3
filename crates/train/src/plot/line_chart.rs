use kuva::plot::{LegendPosition, LinePlot, ScatterPlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::{COLORS, Figure, theme};

/// Lines over a common axis, as data. Points that are not finite, or can't be shown on a logarithmic
/// axis, are left out.
///
/// ```
/// use residua_train::plot::{Line, LineChart};
///
/// let depth = Line::new("plain", 0, vec![(20.0, 9.1), (56.0, 12.4)]);
/// let chart = LineChart { lines: vec![depth], ..LineChart::new("Depth", "layers", "error (%)") };
/// assert!(chart.figure().svg().contains("error (%)"));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineChart {
    /// What stands above it.
    pub title: String,
    /// What the horizontal axis shows, with its unit.
    pub x_label: String,
    /// What the vertical axis shows, with its unit.
    pub y_label: String,
    /// What is drawn, in order.
    pub lines: Vec<Line>,
    /// Names of the places 1, 2, … of the horizontal axis, where those are no numbers.
    pub x_names: Vec<String>,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic. One that is not begins at 0 if nothing is below.
    pub log_y: bool,
    /// Where a vertical axis that begins at 0 ends: what is above is cut off. Above all points, if it is not set.
    pub y_max: Option<f64>,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// What the legend calls it; none with an empty name.
    pub name: String,
    /// Its colour: lines with the same number have the same.
    pub color: usize,
    /// How it is drawn.
    pub style: LineStyle,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
    /// For each point, how far a bar goes up and down from it. Empty if there are none.
    pub spread: Vec<f64>,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineStyle {
    /// Bold.
    #[default]
    Bold,
    /// Thin and dashed.
    Dashed,
    /// Bold, with a mark at each point.
    Marked,
    /// Marks alone.
    Marks,
}

impl Line {
    /// A bold line.
    pub fn new(name: impl Into<String>, color: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), color, points, ..Self::default() }
    }

    /// The same in another style.
    pub fn style(self, style: LineStyle) -> Self {
        Self { style, ..self }
    }

    /// A line, or a mark for a single point, through which there is none; nothing of nothing.
    fn plots(&self, is_shown: impl Fn(&(f64, f64)) -> bool) -> Vec<Plot> {
        let spread = self.spread.iter().copied().chain(std::iter::repeat(0.0));
        let shown = self.points.iter().copied().zip(spread).filter(|(point, _)| is_shown(point));
        let (points, spread): (Vec<_>, Vec<_>) = shown.unzip();
        let style = if points.len() == 1 { LineStyle::Marks } else { self.style };
        let color = COLORS[self.color % COLORS.len()];
        if points.is_empty() {
            return Vec::new();
        }
        let mut line = LinePlot::new().with_data(points.clone()).with_color(color);
        let mut marks = ScatterPlot::new().with_data(points).with_color(color).with_size(4.0);
        if spread.iter().any(|&height| height > 0.0) {
            marks = marks.with_y_err(spread);
        }
        let named = !self.name.is_empty();
        match style {
            LineStyle::Marks if named => marks = marks.with_legend(&self.name),
            _ if named => line = line.with_legend(&self.name),
            _ => {}
        }
        let bold = |line: LinePlot| line.with_stroke_width(2.5);
        match style {
            LineStyle::Bold => vec![bold(line).into()],
            LineStyle::Dashed => vec![line.with_stroke_width(1.0).with_dashed().into()],
            LineStyle::Marked => vec![bold(line).into(), marks.into()],
            LineStyle::Marks => vec![marks.into()],
        }
    }
}

impl LineChart {
    /// A chart without lines.
    pub fn new(
        title: impl Into<String>,
        x_label: impl Into<String>,
        y_label: impl Into<String>,
    ) -> Self {
        Self {
            title: title.into(),
            x_label: x_label.into(),
            y_label: y_label.into(),
            ..Self::default()
        }
    }

    /// The plot of it.
    pub fn figure(&self) -> Figure {
        self.figure_with(LegendPosition::OutsideRightTop)
    }

    /// The plot with its legend inside.
    pub(super) fn figure_with(&self, legend: LegendPosition) -> Figure {
        let fits = |value: f64, log: bool| value.is_finite() && (!log || value > 0.0);
        let is_shown = |&(x, y): &(f64, f64)| fits(x, self.log_x) && fits(y, self.log_y);
        let plots: Vec<Plot> = self.lines.iter().flat_map(|line| line.plots(is_shown)).collect();
        let is_outside = matches!(legend, LegendPosition::OutsideRightTop);
        let mut layout = Layout::auto_from_plots(&plots)
            .with_title(&self.title)
            .with_title_size(16)
            .with_x_label(&self.x_label)
            .with_y_label(&self.y_label)
            .with_legend_position(legend)
            .with_theme(theme())
            .with_width(if is_outside { 860.0 } else { 720.0 })
            .with_height(460.0);
        if !self.x_names.is_empty() {
            layout = layout
                .with_x_categories(self.x_names.clone())
                .with_x_tick_rotate(-60.0)
                .with_x_axis_min(0.5)
                .with_x_axis_max(self.x_names.len() as f64 + 0.5);
        }
        // Without anything to draw there are no powers of ten.
        if plots.is_empty() {
            return Figure { plots, layout };
        }
        if self.log_x {
            layout = layout.with_log_x();
        }
        if self.log_y {
            layout = layout.with_log_y();
        } else if let Some(highest) = self.highest() {
            // Marks at the very top would be cut in half.
            let y_max = self.y_max.unwrap_or(highest * 1.04);
            layout = layout.with_y_axis_min(0.0).with_y_axis_max(y_max);
        }
        Figure { plots, layout }
    }

    /// The highest point, bars included, if all are above 0.
    fn highest(&self) -> Option<f64> {
        let mut highest = 0.0_f64;
        for line in &self.lines {
            let spread = line.spread.iter().copied().chain(std::iter::repeat(0.0));
            for (&(_, y), spread) in
                line.points.iter().zip(spread).filter(|((_, y), _)| y.is_finite())
            {
                if y < 0.0 {
                    return None;
                }
                highest = highest.max(y + spread);
            }
        }
        (highest > 0.0).then_some(highest)
    }
}
