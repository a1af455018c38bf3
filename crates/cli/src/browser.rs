//! Pages in the browser of whoever sits before the terminal.

use std::env;
use std::io::{IsTerminal, stdout};
use std::path::Path;

/// Opens a page, if stdout is a terminal and there is a screen. Where that fails its path, which is printed
/// anyway, has to do.
pub(crate) fn show(page: &Path) {
    // Without a screen Linux would take a browser that draws into this terminal.
    let needs_display = cfg!(all(unix, not(target_os = "macos")));
    let has_display =
        ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| env::var_os(name).is_some());
    if stdout().is_terminal() && (has_display || !needs_display) {
        open::that_detached(page).ok();
    }
}
