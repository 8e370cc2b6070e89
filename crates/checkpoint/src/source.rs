//! Where a checkpoint's bytes are: in memory, or in an open file that is read range by range.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::CheckpointError;

/// Bytes that can be read in any order, from any thread.
#[derive(Debug)]
pub(crate) struct Source {
    label: String,
    len: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Cow<'static, [u8]>),
    // Positioned reads in place of a memory map: a file that shrinks under us is an error here, and a signal there.
    File(Mutex<File>),
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
        Ok(Self { label, len: metadata.len(), place: Place::File(Mutex::new(file)) })
    }

    pub(crate) fn memory(bytes: Cow<'static, [u8]>) -> Self {
        Self { label: "bytes in memory".to_owned(), len: bytes.len() as u64, place: Place::Memory(bytes) }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The `len` bytes from `start`, which the caller has checked to lie within the source.
    pub(crate) fn read(&self, start: u64, len: usize) -> Result<Vec<u8>, CheckpointError> {
        self.try_read(start, len).map_err(|source| CheckpointError::Io {
            file: self.label.clone(),
            action: "read",
            source,
        })
    }

    fn try_read(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        match &self.place {
            Place::Memory(bytes) => usize::try_from(start)
                .ok()
                .and_then(|start| bytes.get(start..start.checked_add(len)?))
                .map(<[u8]>::to_vec)
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
            Place::File(file) => {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                (&mut *file).take(len as u64).read_to_end(&mut bytes)?;
                if bytes.len() == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
        }
    }
}
