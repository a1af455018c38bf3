//! Tables and numbers for people.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
pub(crate) use residua_study::{duration, grouped};

const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table: a rule under the header, nothing else. Columns whose header starts with `>` are
/// aligned to the right.
pub(crate) fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    let header: Vec<&str> = header.into_iter().collect();
    table.set_header(header.iter().map(|text| text.trim_start_matches('>')));
    for (i, text) in header.iter().enumerate() {
        if text.starts_with('>')
            && let Some(column) = table.column_mut(i)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table as text, without blanks at the ends of its lines.
pub(crate) fn text(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Four decimals of each of the first few.
pub(crate) fn figures(values: &[f32]) -> String {
    const NUM_SHOWN: usize = 6;
    let shown = values.iter().take(NUM_SHOWN).map(|value| format!("{value:.4}"));
    let more = if values.len() > NUM_SHOWN { " …" } else { "" };
    shown.collect::<Vec<_>>().join(" ") + more
}

/// `12.34 %`
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.2} %")
}

/// `1 image`, `20 images`
pub(crate) fn count(number: usize, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {what}{ending}", grouped(number as u64))
}
