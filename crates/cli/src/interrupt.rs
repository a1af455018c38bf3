//! Ctrl-C asks a run to stop; a second one makes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::failure::INTERRUPTED;
use crate::output;

/// From now on Ctrl-C (or SIGTERM, or the terminal going away) sets the flag.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let on_signal = move || {
        if flag.swap(true, Ordering::Relaxed) {
            // Every file is written whole: nothing is lost but the steps since the last checkpoint.
            std::process::exit(INTERRUPTED.into());
        }
        output::note("\nstopping after this step; Ctrl-C again stops at once");
    };
    ctrlc::set_handler(on_signal).context("can't watch for Ctrl-C")?;
    Ok(stop)
}
