use residua_train::SplitSummary;
use residua_train::plot::LineChart;

/// What a study found, as a person reads it: in the terminal and in a report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// What was studied.
    pub title: String,
    /// What it was to tell.
    pub question: String,
    /// What it was done with: names and values.
    pub setting: Vec<(String, String)>,
    /// Its plots.
    pub charts: Vec<Chart>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// What follows from them, a sentence or two each.
    pub findings: Vec<String>,
    /// Command lines that repeat it.
    pub commands: Vec<String>,
}

/// A plot of a section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// What its file is called, without an ending: letters, digits and hyphens.
    pub name: String,
    /// What is to be seen in it.
    pub caption: String,
    /// What is drawn.
    pub lines: LineChart,
}

/// A table of a section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Names of its columns. Those that start with `>` are aligned to the right, as numbers are.
    pub header: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<'a>(caption: impl Into<String>, header: impl IntoIterator<Item = &'a str>) -> Self {
        let header = header.into_iter().map(str::to_owned).collect();
        Self { caption: caption.into(), header, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not as many cells as there are columns.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.header.len(), "cells of a row of `{}`", self.caption);
        self.rows.push(cells);
    }
}

/// Points of error that are seen where two decimals are shown.
pub(crate) const SHOWN: f64 = 0.005;

/// `12.34 %`
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.2} %")
}

/// `+1.50 points`, of an error in percent that changes
pub(crate) fn points(change: f64) -> String {
    // No minus before a zero.
    format!("{:+.2} points", change + 0.0)
}

/// The error on a split, if there is one.
pub(crate) fn percent_of(split: Option<SplitSummary>) -> String {
    split.map_or("-".to_owned(), |split| percent(split.top1_error))
}

/// Mean and standard deviation over seeds, `8.63 ± 0.21 %`; of one value, that value.
pub(crate) fn percent_spread(values: &[f64]) -> String {
    match values {
        [] => "-".to_owned(),
        [value] => percent(*value),
        _ => format!("{:.2} ± {:.2} %", mean(values), standard_deviation(values)),
    }
}

/// Mean and standard deviation over seeds, `0.123 ± 0.004`; of one value, that value.
pub(crate) fn spread(values: &[f64]) -> String {
    match values {
        [] => "-".to_owned(),
        [value] => figures(*value),
        _ => match (mean(values), standard_deviation(values)) {
            (mean, std) if mean.abs() < 0.01 => format!("{} ± {}", figures(mean), figures(std)),
            (mean, std) => format!("{mean:.3} ± {std:.3}"),
        },
    }
}

/// `0.123`, or `1.23e-5` of what is much smaller or larger.
pub(crate) fn figures(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (0.01..10_000.0).contains(&size) => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// That of a sample, over `n - 1`; 0 of a single value.
pub(crate) fn standard_deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len().max(2) - 1) as f64).sqrt()
}

/// The mean of the two in the middle where their number is even.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => mean(&sorted[middle - 1..=middle]),
        _ => sorted[middle],
    }
}
