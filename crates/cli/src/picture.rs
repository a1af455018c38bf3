//! Plots as files.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;
use residua_format::write_whole;
use residua_train::plot::Figure;

/// A file for a plot, `.svg` or `.png`.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Svg,
    Png,
}

impl FromStr for Picture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let format = match ending.as_deref() {
            Some("svg") => Format::Svg,
            Some("png") => Format::Png,
            _ => return Err("expected a name that ends in .svg or .png".to_owned()),
        };
        Ok(Self { path, format })
    }
}

impl Picture {
    pub(crate) fn draw(&self, figure: Figure) -> Result<()> {
        match self.format {
            Format::Svg => write(&self.path, figure.svg().as_bytes()),
            Format::Png => write(&self.path, &figure.png()?),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(write_whole(path, |file| file.write_all(bytes))?)
}
