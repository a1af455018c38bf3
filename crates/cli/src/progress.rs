//! What a person sees while waiting, on stderr.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use residua_data::{DataError, Dataset, OnProgress, OpenOptions, open_with_progress};

/// Opens a dataset.
pub(crate) fn open(source: &str, options: &OpenOptions) -> Result<Dataset> {
    while_checking(|on_progress| open_with_progress(source, options, on_progress))
}

/// Shows how many images have been looked at.
pub(crate) fn while_checking<T>(
    f: impl FnOnce(OnProgress<'_>) -> Result<T, DataError>,
) -> Result<T> {
    while_doing("checking", f)
}

/// Shows a bar if it takes a while and stderr is a terminal.
pub(crate) fn while_doing<T>(
    what: &'static str,
    f: impl FnOnce(OnProgress<'_>) -> Result<T, DataError>,
) -> Result<T> {
    const SHORT: Duration = Duration::from_millis(300);
    let bar = ProgressBar::new(0).with_message(what);
    let style = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len}, {eta} left");
    bar.set_style(style.expect("the template is well formed"));
    let result = f(&|progress| {
        if bar.elapsed() > SHORT {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    });
    bar.finish_and_clear();
    Ok(result?)
}
