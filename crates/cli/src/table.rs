//! Tables and numbers for people.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

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

/// `25,557,032`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 h 05 min`, `3 min 20 s`, `12.3 s`
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes} min {seconds:02} s"),
        _ => format!("{hours} h {minutes:02} min"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (25_557_032, "25,557,032")]
        {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (12.34, "12.3 s"),
            (59.96, "1 min 00 s"),
            (200.2, "3 min 20 s"),
            (3_900.0, "1 h 05 min"),
            (f64::INFINITY, "?"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
