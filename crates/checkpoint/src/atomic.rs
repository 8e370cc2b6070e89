//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Write a file through `write`, then put it at `path` in one step.
///
/// It is written under another name in the same folder, flushed to the disk and renamed, so that a crash, a full disk or a
/// signal leaves what was at `path` before, or nothing. The folder must exist.
///
/// # Errors
///
/// What the system says, or what `write` returns; the unfinished file is removed.
pub fn write_atomically<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".unfinished");
    #[cfg(unix)]
    {
        // Temporary files are private by default; a model is as public as the user's umask says.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut unfinished = builder.tempfile_in(folder)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, unfinished.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    unfinished.as_file().sync_all()?;
    unfinished.persist(path).map_err(|error| error.error)?;
    // The rename itself is on the disk once the folder is; not every file system lets one flush a folder.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}
