use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use npyz::{NpyFile, Order};

use crate::DataError;
use crate::vectors::{MAX_VALUES, Table};

/// Reads `X.npy`, a 2-D array of numbers. The labels are the 1-D array `X.labels.npy` beside it
/// or, if there is none, the last column.
pub(crate) fn read(path: &Path) -> Result<Table, DataError> {
    let invalid = |problem: String| DataError::invalid(path.display().to_string(), problem);
    let array = read_array(path)?;
    let [rows, columns] = array.shape[..] else {
        return Err(invalid(format!("shape {:?}, expected [samples, features]", array.shape)));
    };
    if let Some(at) = array.values.iter().position(|&v| !(v as f32).is_finite()) {
        let value = array.values[at];
        let (row, column) = (at / columns, at % columns);
        return Err(invalid(format!(
            "row {row}, column {column}: got {value}, expected a finite number of f32's range"
        )));
    }
    let labels_path = path.with_extension("labels.npy");
    if labels_path.exists() {
        let labels = read_array(&labels_path)?;
        if labels.values.len() != rows || labels.shape.first() != Some(&rows) {
            let problem = format!("shape {:?}, expected [{rows}] as {path:?}", labels.shape);
            return Err(DataError::invalid(labels_path.display().to_string(), problem));
        }
        return Ok(Table {
            width: columns,
            data: array.values.iter().map(|&v| v as f32).collect(),
            labels: labels.values.iter().map(f64::to_string).collect(),
            label_column: labels_path.display().to_string(),
        });
    }
    let Some(width) = columns.checked_sub(1) else {
        return Err(invalid(format!("shape {:?} has no column for the label", array.shape)));
    };
    let rows = || array.values.chunks_exact(columns);
    Ok(Table {
        width,
        data: rows().flat_map(|row| row[..width].iter().map(|&v| v as f32)).collect(),
        labels: rows().map(|row| row[width].to_string()).collect(),
        label_column: format!("column {width}, the last (there is no {})", labels_path.display()),
    })
}

struct Array {
    shape: Vec<usize>,
    /// Row-major.
    values: Vec<f64>,
}

fn read_array(path: &Path) -> Result<Array, DataError> {
    let invalid = |problem: String| DataError::invalid(path.display().to_string(), problem);
    let mut file = BufReader::new(File::open(path).map_err(DataError::read(path))?);
    let file_len = file.get_ref().metadata().map_err(DataError::read(path))?.len();
    expect_plain_header(&mut file).map_err(&invalid)?;
    let npy = NpyFile::new(file).map_err(|e| invalid(e.to_string()))?;

    let shape: Vec<_> = npy.shape().iter().map(|&dim| dim as usize).collect();
    let len = npy.len();
    if len > MAX_VALUES as u64 || len > file_len {
        let problem = format!("shape {shape:?} in a file of {file_len} bytes");
        return Err(invalid(problem));
    }
    let dtype = npy.dtype().descr();
    let is_fortran = npy.order() == Order::Fortran;
    let mut values = read_values(npy)
        .ok_or_else(|| invalid(format!("dtype {dtype}, expected real numbers")))?
        .map_err(|e| invalid(format!("{e} (shape {shape:?}, {file_len} bytes)")))?;
    if let (true, &[rows, columns]) = (is_fortran, shape.as_slice()) {
        let at = |i: usize| values[(i % columns) * rows + i / columns];
        values = (0..values.len()).map(at).collect();
    }
    Ok(Array { shape, values })
}

/// The header of a plain array is short, flat and has a shape whose product fits 64 bits. The
/// parser behind this neither bounds its recursion nor checks that product.
fn expect_plain_header(file: &mut BufReader<File>) -> Result<(), String> {
    const MAX_HEADER_BYTES: u64 = 4096;
    let mut start = Vec::new();
    file.take(MAX_HEADER_BYTES).read_to_end(&mut start).map_err(|e| e.to_string())?;
    file.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let (header_start, header_len) = match start[..] {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => {
            (10, usize::from(u16::from_le_bytes([a, b])))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', _, _, a, b, c, d, ..] => {
            (12, u32::from_le_bytes([a, b, c, d]) as usize)
        }
        _ => return Err("not a .npy file".to_owned()),
    };
    let header = start
        .get(header_start..)
        .and_then(|rest| rest.get(..header_len))
        .ok_or_else(|| format!("a header of {header_len} bytes, expected a plain array's"))?;
    let brackets = header.iter().filter(|b| b"([{".contains(b)).count();
    let digits = header.iter().filter(|b| b.is_ascii_digit()).count();
    if brackets > 4 || digits > 18 {
        let header = String::from_utf8_lossy(&header[..header.len().min(100)]);
        return Err(format!("header `{}`, expected a plain array's", header.trim()));
    }
    Ok(())
}

/// `None` if the elements are not real numbers.
fn read_values(mut npy: NpyFile<BufReader<File>>) -> Option<std::io::Result<Vec<f64>>> {
    macro_rules! read_as {
        ($($number:ty)*) => {
            $(npy = match npy.try_data::<$number>() {
                Ok(data) => return Some(data.map(|value| Ok(value? as f64)).collect()),
                Err(npy) => npy,
            };)*
        };
    }
    read_as!(f32 f64 i64 i32 i16 i8 u64 u32 u16 u8);
    let data = npy.try_data::<bool>().ok()?;
    Some(data.map(|value| Ok(f64::from(u8::from(value?)))).collect())
}
