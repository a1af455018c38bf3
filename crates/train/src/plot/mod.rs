//! Plots, as SVG or PNG: learning curves in the manner of Figure 6 of He et al. 2015, confusion
//! matrices, the time of steps, and any lines over a common axis.

mod confusion;
mod curves;
mod line_chart;

use std::fmt;

use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;

pub use confusion::confusion_matrix;
pub use curves::{CostCurve, ErrorCurve, Growth, cost_curves, error_chart, error_curves};
pub use line_chart::{Line, LineChart, LineStyle};

use crate::TrainError;

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
        with_view_box(kuva::render_to_svg(self.plots, self.layout))
    }

    /// The bytes of a PNG, with two pixels for each unit of the SVG.
    ///
    /// # Errors
    /// A picture that can't be encoded.
    pub fn png(self) -> Result<Vec<u8>, TrainError> {
        kuva::render_to_raster(self.plots, self.layout, 2.0).map_err(TrainError::Picture)
    }
}

/// The library gives a size alone; with a view box the picture is scaled, not cut, where a page makes it
/// smaller.
fn with_view_box(svg: String) -> String {
    let size = |name: &str| {
        let (_, rest) = svg.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    match (size("width"), size("height")) {
        (Some(width), Some(height)) => {
            svg.replacen("<svg ", &format!("<svg viewBox=\"0 0 {width} {height}\" "), 1)
        }
        _ => svg,
    }
}

/// Colours of lines, after which they come again.
pub const NUM_COLORS: usize = COLORS.len();

/// Okabe and Ito's colours, which stay apart for colour-blind readers; yellow left out, black last.
const COLORS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

fn theme() -> Theme {
    Theme { grid_color: "#e4e4e4".into(), legend_border: "#bbbbbb".into(), ..Theme::light() }
}
