use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::FormatError;

/// Writes a file so that whoever opens `path` finds the old content or the new one, never a part:
/// a temporary file in the same folder is written, flushed to the disk and renamed, and then the
/// folder's entry is flushed too. When anything fails the old file stays as it was and the
/// temporary one is removed. A link stays a link: the file that it leads to is replaced.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("summary.json");
/// residua_format::write_whole(&path, |file| file.write_all(b"{}"))?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`FormatError::Write`], with a hint when the disk is full or the folder not writable. What
/// exists and is no regular file, such as a device, is refused.
pub fn write_whole(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FormatError> {
    let path = path.as_ref();
    replace(path, write).map_err(|source| FormatError::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = &destination(path)?;
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name")
    })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = temporary_in(folder, &name.to_string_lossy())?;
    {
        let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
        write(&mut writer)?;
        writer.flush()?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// The regular file that is at `path` or will be: renaming something onto a link, a device or a
/// pipe would put a file in its place.
fn destination(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
        Ok(_) if path.is_symlink() => path.canonicalize(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            // Ends: links in a circle are another error.
            let folder = path.parent().unwrap_or(Path::new(""));
            destination(&folder.join(fs::read_link(path)?))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(path.to_owned()),
    }
}

/// `.{name}.XXXXXX.tmp`: hidden, next to the file, recognisable when a killed process left it.
fn temporary_in(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What any new file gets: the process's umask takes its share.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// The rename is on the disk only when the folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
