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
    Ok(with_bar(what, Duration::from_millis(300), f)?)
}

/// Shows how much is done, of how much, and the time left, if it takes longer than two seconds.
pub(crate) fn counting<T>(what: &'static str, f: impl FnOnce(OnProgress<'_>) -> T) -> T {
    with_bar(what, Duration::from_secs(2), f)
}

fn with_bar<T>(what: &'static str, short: Duration, f: impl FnOnce(OnProgress<'_>) -> T) -> T {
    let bar = ProgressBar::new(0).with_message(what);
    let style = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len}, {eta} left");
    bar.set_style(style.expect("the template is well formed"));
    let result = f(&|progress| {
        if bar.elapsed() > short {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    });
    bar.finish_and_clear();
    result
}
