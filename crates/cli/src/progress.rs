//! What a person sees while waiting.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use residua_data::{Dataset, OpenOptions, Progress, open_with_progress};

/// Opens a dataset, showing how many images have been checked where that takes a while.
pub(crate) fn open(source: &str, options: &OpenOptions) -> Result<Dataset> {
    let bar = bar("checking", "images");
    let result = open_with_progress(source, options, &|progress| show(&bar, progress));
    bar.finish_and_clear();
    Ok(result?)
}

/// A bar on stderr that shows a rate and the time left; nothing where stderr is no terminal.
pub(crate) fn bar(doing: &'static str, things: &str) -> ProgressBar {
    let template =
        format!("{{msg}} {{bar:30}} {{human_pos}}/{{human_len}} {things}, {{eta}} left");
    let bar = ProgressBar::new(0).with_message(doing);
    bar.set_style(ProgressStyle::with_template(&template).expect("the template is well formed"));
    bar
}

/// Moves a bar, from any thread.
pub(crate) fn show(bar: &ProgressBar, progress: Progress) {
    // Short waits need no bar.
    if bar.elapsed() > Duration::from_millis(300) {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    }
}
