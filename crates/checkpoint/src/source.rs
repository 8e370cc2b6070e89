//! Where a checkpoint's bytes are: in memory, or in a file that is mapped into it.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::CheckpointError;

/// Bytes that can be read in any order, from any thread.
#[derive(Debug)]
pub(crate) struct Source {
    label: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Cow<'static, [u8]>),
    Mapped { map: Mmap, file: File },
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let label = path.display().to_string();
        let io = |action| {
            let file = label.clone();
            move |source| CheckpointError::Io { file, action, source }
        };
        let file = File::open(path).map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read"))?;
        if metadata.is_dir() {
            return Err(io("read")(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if metadata.len() == 0 {
            return Ok(Self { label, place: Place::Memory(Cow::Borrowed(&[])) });
        }
        let map = map(&file).map_err(io("map"))?;
        Ok(Self { label, place: Place::Mapped { map, file } })
    }

    pub(crate) fn memory(bytes: Cow<'static, [u8]>) -> Self {
        Self { label: "bytes in memory".to_owned(), place: Place::Memory(bytes) }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.place {
            Place::Memory(bytes) => bytes,
            Place::Mapped { map, .. } => map,
        }
    }

    /// Whether a mapped file is still as long as it was: reading past its end is not an error of this process but its end.
    /// This does not help against a file cut while it is read.
    pub(crate) fn check_whole(&self) -> Result<(), CheckpointError> {
        let Place::Mapped { map, file } = &self.place else { return Ok(()) };
        let found = file.metadata().map_or(0, |metadata| metadata.len());
        let expected = map.len() as u64;
        if found < expected {
            return Err(CheckpointError::Truncated { file: self.label.clone(), expected, found });
        }
        Ok(())
    }

    /// The `len` bytes from `start`, if there are so many.
    pub(crate) fn get(&self, start: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(start).ok()?;
        self.bytes().get(start..start.checked_add(len)?)
    }
}

impl Source {
    /// Lets go of the pages with these bytes, which have been copied: else a checkpoint would stand in memory beside its tensors. They are read
    /// from the file again where they are asked for again.
    #[cfg(unix)]
    #[allow(unsafe_code, reason = "what happens to the map's pages is the system's affair")]
    pub(crate) fn release(&self, start: u64, len: usize) {
        let (Place::Mapped { map, .. }, Ok(start)) = (&self.place, usize::try_from(start)) else { return };
        if len < WORTH_RELEASING || start.checked_add(len).is_none_or(|end| end > map.len()) {
            return;
        }
        // SAFETY: the map is of a file and read-only, so a page that goes comes back with the file's bytes when it is next read: slices
        // of the map stay valid and see what they saw. That the system may refuse the advice changes nothing.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
    }

    /// Elsewhere the system decides.
    #[cfg(not(unix))]
    pub(crate) fn release(&self, _start: u64, _len: usize) {}
}

/// Bytes for which the call pays.
#[cfg(unix)]
const WORTH_RELEASING: usize = 1 << 20;

#[allow(unsafe_code, reason = "a memory map is a promise that the file stays, which only its owner can keep")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this process, it is only ever seen as `&[u8]`, and no byte of it is
    // trusted: header, offsets and pickles are copied into checked structures, numbers are copied into tensors, where every
    // bit pattern is a number. What a map can't promise is that no other process writes to the file meanwhile: another
    // value would then be read, and after a truncation the system ends the process (SIGBUS), as the crate's docs say;
    // `check_whole` sees it coming where it can.
    unsafe { Mmap::map(file) }
}
