//! A file appears whole or not at all: written beside its place, flushed to the disk, then renamed over it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by `bytes`. When this fails, what stood at `path` before still does, and nothing else is left behind.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Through a symbolic link, the file that it names is replaced, not the link.
    let target = fs::canonicalize(path);
    let target = target.as_deref().unwrap_or(path);
    // A rename would also replace a device (/dev/null) by a plain file.
    if fs::metadata(target).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "something that is no plain file has this name",
        ));
    }
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };

    let mut builder = tempfile::Builder::new();
    builder.prefix(".kiln-").suffix(".partial");
    #[cfg(unix)]
    {
        // Temporary files are private by default; this one becomes an ordinary file, with what the umask leaves.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut partial = builder.tempfile_in(folder)?;
    partial.write_all(bytes)?;
    partial.as_file().sync_all()?;
    partial.persist(target).map_err(|error| error.error)?;

    // The rename lasts once the folder is on the disk too. Some file systems can't flush a folder; the file is whole
    // either way.
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}
