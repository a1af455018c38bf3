use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use crate::DataError;
use crate::vectors::{MAX_VALUES, Table};

/// Names of the label column, in any case; without one it is the last.
const LABEL_NAMES: [&str; 3] = ["label", "class", "target"];

/// Reads comma-, semicolon- or tab-separated numbers with one label column. The first line is a
/// header if its last cell is a name of the label column, or another one is not a number: any other
/// last cell may be a class. Columns that are numbered from 0 or 1 beside a word that no other line ends with
/// are refused: both readings are likely.
pub(crate) fn read(path: &Path) -> Result<Table, DataError> {
    let invalid = |problem: String| DataError::invalid(path.display().to_string(), problem);
    let mut file = BufReader::new(File::open(path).map_err(DataError::read(path))?);
    let delimiter = delimiter(file.fill_buf().map_err(DataError::read(path))?);
    file.rewind().map_err(DataError::read(path))?;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(file);

    let mut columns: Option<Columns> = None;
    let mut table =
        Table { width: 0, data: Vec::new(), labels: Vec::new(), label_column: String::new() };
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|e| invalid(e.to_string()))? {
        let row = record.position().map_or(0, csv::Position::line);
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let found = Columns::of(&record).map_err(&invalid)?;
                table.width = found.len - 1;
                table.label_column = found.name(found.label);
                let is_header = found.names.is_some();
                columns = Some(found);
                if is_header {
                    continue;
                }
                columns.as_ref().expect("it was set two lines above")
            }
        };
        columns.append(&record, &mut table).map_err(|p| invalid(format!("row {row}{p}")))?;
        if table.data.len() > MAX_VALUES {
            return Err(invalid(format!("more than {MAX_VALUES} values")));
        }
    }
    match columns.is_some_and(|columns| columns.names.is_none()) && begins_with_numbers(&table) {
        true => Err(invalid(format!(
            "row 1 may be a header, or the only sample of class `{}`; expected a header that calls the \
             label column `label`, or another sample of that class",
            table.labels[0]
        ))),
        false => Ok(table),
    }
}

/// Whether the first sample looks like the numbers of columns and the name of the label's.
fn begins_with_numbers(table: &Table) -> bool {
    let Some((label, others)) = table.labels.split_first() else { return false };
    let first = &table.data[..table.width];
    [0, 1].contains(&(first[0] as usize))
        && first.iter().enumerate().all(|(i, &value)| value == first[0].trunc() + i as f32)
        && label.parse::<f32>().is_err()
        && !others.contains(label)
}

/// The one of `,` `;` and tab that the first line has most of.
fn delimiter(start: &[u8]) -> u8 {
    let line = start.split(|&b| b == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| line.iter().filter(|&&b| b == delimiter).count();
    let mut best = b',';
    for delimiter in [b';', b'\t'] {
        if count(delimiter) > count(best) {
            best = delimiter;
        }
    }
    best
}

struct Columns {
    len: usize,
    label: usize,
    names: Option<Vec<String>>,
}

impl Columns {
    /// From the first line.
    fn of(first: &StringRecord) -> Result<Self, String> {
        let len = first.len();
        if len < 2 {
            return Err(format!("{len} column, expected features and a label"));
        }
        let is_label =
            |column: &usize| LABEL_NAMES.contains(&first[*column].to_lowercase().as_str());
        let is_header = is_label(&(len - 1))
            || first.iter().take(len - 1).any(|c| !c.is_empty() && c.parse::<f32>().is_err());
        if !is_header {
            return Ok(Self { len, label: len - 1, names: None });
        }
        // An unnamed column is a row number that was saved along: it would be learned from.
        if let Some(column) = first.iter().position(str::is_empty) {
            return Err(format!("column {} has no name in the header", column + 1));
        }
        let named: Vec<_> = (0..len).filter(is_label).collect();
        if let [one, other, ..] = named[..] {
            let [one, other] = [&first[one], &first[other]];
            return Err(format!("columns `{one}` and `{other}` could both be the label"));
        }
        let label = named.first().copied().unwrap_or(len - 1);
        Ok(Self { len, label, names: Some(first.iter().map(str::to_owned).collect()) })
    }

    fn name(&self, column: usize) -> String {
        match &self.names {
            Some(names) => format!("column `{}`", names[column]),
            None => format!("column {}", column + 1),
        }
    }

    /// The message continues "row 3".
    fn append(&self, record: &StringRecord, table: &mut Table) -> Result<(), String> {
        if record.len() != self.len {
            return Err(format!(" has {} cells, expected {}", record.len(), self.len));
        }
        for (column, cell) in record.iter().enumerate() {
            let expected = |what| format!(", {}: got `{cell}`, expected {what}", self.name(column));
            if column == self.label {
                if cell.is_empty() {
                    return Err(expected("a class"));
                }
                table.labels.push(cell.to_owned());
            } else {
                let value = cell.parse::<f32>().map_err(|_| expected("a number"))?;
                if !value.is_finite() {
                    return Err(expected("a finite number"));
                }
                table.data.push(value);
            }
        }
        Ok(())
    }
}
