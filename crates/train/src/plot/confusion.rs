use std::sync::Arc;

use kuva::plot::{ColorMap, Heatmap};
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::{Figure, theme};

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
