//! PyTorch's own files, `.bin`, `.pt`, `.pth` and `.ckpt`: tensors are found, and nothing is run.
//!
//! ```text
//! zip      ROOT/data.pkl, ROOT/data/KEY for each storage            since PyTorch 1.6
//! legacy   pickles: magic number, version, system, the value, keys; then for each key its length and its bytes
//! ```
//!
//! A pickle is a program, and unpickling one in Python runs whatever it names. Here it drives a machine that knows how
//! tensors are made and refuses every other call, by name ([`CheckpointError::Executes`]). The tensors it describes are
//! ranges of the mapped file, read like those of any other format: a view with strides, or one of several of a storage, is
//! gathered when it is read.
//!
//! burn-store has a reader of these files too. It is not used, since it turns down dicts with a class as a key (checkpoints of
//! Stable Diffusion that Lightning wrote have them), takes compressed entries of any size, keeps calls that it does not know
//! as values, and copies what a pickle recalls, so that a small file can take much memory.

mod archive;
mod calls;
mod input;
mod machine;
mod state_dict;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::CheckpointError;
use crate::entry::Entry;
use crate::source::Source;
use calls::Tensor;
use machine::{Machine, Node, Refused, Value};

/// 0x1950a86a20f9469cfc6c, which opens a legacy file, as a pickle has it.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_VERSION: i64 = 1001;
/// How far into a legacy file its magic number is: each protocol frames it otherwise.
const LEGACY_OPENING: usize = 64;

/// The kinds of file that `torch.save` and `pickle.dump` write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Zip,
    Legacy,
    /// A pickle by itself: PyTorch writes none, but what else is behind `.bin` should be told.
    Pickle,
    /// Of PyTorch before 0.2.
    Tar,
}

/// Which of them a file is, by how it begins.
pub(crate) fn format(file: &[u8]) -> Option<Format> {
    let opening = &file[..file.len().min(LEGACY_OPENING)];
    if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
        return Some(Format::Zip);
    }
    if opening.windows(LEGACY_MAGIC.len()).any(|bytes| bytes == LEGACY_MAGIC) {
        return Some(Format::Legacy);
    }
    if file.get(257..262) == Some(b"ustar") {
        return Some(Format::Tar);
    }
    // A safetensors file may begin with the same byte, if its header has that length: its ninth byte opens the header.
    if file.get(8) == Some(&b'{') {
        return None;
    }
    let pickled = match file {
        [0x80, protocol, ..] => *protocol <= 5,
        [b'(' | b'c' | b'}' | b']', ..] => true,
        _ => false,
    };
    pickled.then_some(Format::Pickle)
}

/// The tensors of a file of this format.
pub(crate) fn read(source: &Arc<Source>, format: Format) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    let tensors = match format {
        Format::Zip => zip(source),
        Format::Legacy => legacy(source),
        Format::Pickle => pickle(source),
        Format::Tar => {
            Err("a tar archive, as PyTorch wrote before 0.2; save it again with a later one".into())
        }
    };
    tensors.map_err(|refused| {
        let file = source.label().to_owned();
        match refused {
            Refusal::Executes(asks) => CheckpointError::Executes { file, asks },
            Refusal::Malformed(reason) => CheckpointError::PyTorch { file, reason },
            Refusal::Tensor { tensor, reason } => CheckpointError::Entry { file, tensor, reason },
        }
    })
}

enum Refusal {
    Executes(String),
    Malformed(String),
    Tensor { tensor: String, reason: String },
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Executes(asks) => Self::Executes(asks),
            Refused::Malformed(reason) => Self::Malformed(format!("its pickle: {reason}")),
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Malformed(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }
}

fn zip(source: &Arc<Source>) -> Result<BTreeMap<String, Entry>, Refusal> {
    let file = source.bytes();
    let entries = archive::entries(file)?;
    let folder = entries
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'))
        .min_by_key(|folder| folder.len())
        .ok_or("a zip without data.pkl")?;
    let entry = |name: &str| {
        let name = format!("{folder}{name}");
        entries.get(name.as_str()).map(|packed| packed.plain(&name)).transpose()
    };
    if let Some(order) = entry("byteorder")?
        && file[order].trim_ascii() != b"little"
    {
        return Err("its numbers are big-endian".into());
    }
    let pickle = entry("data.pkl")?.ok_or("a zip without data.pkl")?;
    let (machine, root, _) = Machine::run(&file[pickle], file.len())?;
    named(source, &machine, root, |key| entry(&format!("data/{key}")))
}

fn legacy(source: &Arc<Source>) -> Result<BTreeMap<String, Entry>, Refusal> {
    let file = source.bytes();
    let mut at = 0;
    let mut next = || -> Result<_, Refusal> {
        let (machine, value, read) = Machine::run(&file[at..], file.len())?;
        at += read;
        Ok((machine, value, at))
    };
    // The magic number, by which it was recognised.
    next()?;
    let (_, version, _) = next()?;
    if !matches!(version, Value::Int(LEGACY_VERSION)) {
        return Err(format!("a legacy file of version {version:?}, not {LEGACY_VERSION}").into());
    }
    // Sizes of integers and the byte order of the machine, little-endian on every one that is left.
    next()?;
    let (machine, root, _) = next()?;
    let (keys_machine, keys, mut at) = next()?;
    let declared: BTreeMap<_, _> = machine
        .nodes
        .iter()
        .filter_map(|node| match node {
            Node::Storage(storage) => Some((storage.key, *storage)),
            _ => None,
        })
        .collect();
    let mut ranges = BTreeMap::new();
    for &key in keys_machine.sequence(keys).ok_or("a legacy file without the keys of its storages")? {
        let key = keys_machine.text_of(key).ok_or("the key of a storage is no text")?;
        let storage = declared.get(key).ok_or_else(|| format!("storage `{key}` belongs to no tensor"))?;
        let cut = || format!("storage `{key}` lies beyond the end of the file");
        let count =
            file.get(at..).and_then(<[u8]>::first_chunk).copied().map(u64::from_le_bytes).ok_or_else(cut)?;
        let start = at + size_of::<u64>();
        let len =
            count.checked_mul(storage.element()).and_then(|len| usize::try_from(len).ok()).ok_or_else(cut)?;
        let stop = start.checked_add(len).filter(|&stop| stop <= file.len()).ok_or_else(cut)?;
        ranges.insert(key, start..stop);
        at = stop;
    }
    named(source, &machine, root, |key| Ok(ranges.get(key).cloned()))
}

fn pickle(source: &Arc<Source>) -> Result<BTreeMap<String, Entry>, Refusal> {
    let file = source.bytes();
    let (machine, root, _) = Machine::run(file, file.len())?;
    named(source, &machine, root, |_| Ok(None))
}

/// The tensors by name, each in its place.
fn named<'a>(
    source: &Arc<Source>,
    machine: &Machine<'a>,
    root: Value<'a>,
    place: impl Fn(&str) -> Result<Option<Range<usize>>, String>,
) -> Result<BTreeMap<String, Entry>, Refusal> {
    let tensors = state_dict::tensors(machine, root)?;
    if tensors.is_empty() {
        return Err("its pickle holds no tensors".into());
    }
    let entry = |(name, tensor): (String, &Tensor)| match entry(source, tensor, &place) {
        Ok(entry) => Ok((name, entry)),
        Err(reason) => Err(Refusal::Tensor { tensor: name, reason }),
    };
    tensors.into_iter().map(entry).collect()
}

fn entry(
    source: &Arc<Source>,
    tensor: &Tensor,
    place: impl Fn(&str) -> Result<Option<Range<usize>>, String>,
) -> Result<Entry, String> {
    let key = tensor.storage.key;
    let range = place(key)?.ok_or_else(|| format!("its storage `{key}` is not in the file"))?;
    if tensor.storage.len().is_none_or(|len| len > range.len() as u64) {
        return Err(format!(
            "its storage `{key}` has {} bytes, fewer than the {} elements that it claims",
            range.len(),
            tensor.storage.len().map_or(u64::MAX, |len| len / tensor.storage.element()),
        ));
    }
    let element = tensor.dtype.bitsize() / 8;
    let (shape, strides) = (&tensor.shape, &tensor.strides);
    let beyond = || {
        format!(
            "shape {shape:?} with strides {strides:?} reaches beyond its storage `{key}` of {} bytes",
            range.len()
        )
    };
    let len = shape.iter().try_fold(element, |len, &side| len.checked_mul(side)).ok_or_else(beyond)?;
    // One past the last element that it touches.
    let reach = shape.iter().zip(strides).try_fold(0usize, |reach, (&side, &stride)| {
        reach.checked_add(side.checked_sub(1)?.checked_mul(stride)?)
    });
    let reach = if len == 0 { Some(0) } else { reach.and_then(|reach| reach.checked_add(1)) };
    let start = usize::try_from(tensor.offset).ok().and_then(|offset| offset.checked_mul(element));
    let end = reach
        .and_then(|reach| reach.checked_mul(element))
        .zip(start)
        .and_then(|(reach, start)| reach.checked_add(start));
    let (Some(start), Some(_)) = (start, end.filter(|&end| end <= range.len())) else {
        return Err(beyond());
    };
    let start = (range.start + start) as u64;
    if contiguous(shape, strides) {
        return Ok(Entry::stored(tensor.dtype, shape.clone(), source, start, len));
    }
    // One element seen a million times: of all formats, only this one can hold more than it has bytes.
    if len as u64 > source.len() {
        return Err(format!("shape {shape:?} has more elements than the file has bytes"));
    }
    Ok(Entry::strided(tensor.dtype, shape.clone(), source, start, strides.clone()))
}

/// Whether the elements lie one after the other, the last side innermost. The stride of a side of one is never taken.
fn contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&side, &stride)| {
        let fits = side <= 1 || stride == expected;
        expected *= side.max(1);
        fits
    })
}
