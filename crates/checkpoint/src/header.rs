//! The header of a safetensors file, read with suspicion.
//!
//! ```text
//! 8 bytes   n, little-endian
//! n bytes   {"__metadata__": {..}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..}
//! the rest  the tensors, end to end, offsets counted from here
//! ```
//!
//! The safetensors crate's own reader checks the same, but its errors don't name the tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use crate::CheckpointError;
use crate::entry::Entry;
use crate::source::Source;

/// Longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// A file has no more tensors than this, nor notes beside them: each costs some hundred bytes of memory, more than its place
/// in the header. The largest models published have a thousand or two in a file.
pub(crate) const MAX_TENSORS: usize = 1 << 16;
/// A tensor has no more dimensions than this: a list of a million of them is an attack on memory, not a shape.
const MAX_RANK: usize = 16;
const LENGTH_BYTES: u64 = 8;
const METADATA: &str = "__metadata__";

/// A header whose every entry lies in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) entries: BTreeMap<String, Entry>,
}

impl Header {
    pub(crate) fn read(source: &Arc<Source>) -> Result<Self, CheckpointError> {
        let file = || source.label().to_owned();
        let truncated = |expected| CheckpointError::Truncated { file: file(), expected, found: source.len() };
        let Some(length) = source.bytes().first_chunk().copied().map(u64::from_le_bytes) else {
            return Err(truncated(LENGTH_BYTES));
        };
        if length > MAX_HEADER {
            let reason = format!("its header would be {length} bytes long, the format allows {MAX_HEADER}");
            return Err(CheckpointError::Header { file: file(), reason });
        }
        let data_start = LENGTH_BYTES + length;
        if data_start > source.len() {
            return Err(truncated(data_start));
        }
        let text = source.get(LENGTH_BYTES, length as usize).ok_or_else(|| truncated(data_start))?;
        let raw = parse(text).map_err(|Refused { tensor, reason }| match tensor {
            Some(tensor) => CheckpointError::Entry { file: file(), tensor, reason },
            None => CheckpointError::Header { file: file(), reason },
        })?;
        let entries = place(raw.tensors, data_start, source)?;
        Ok(Self { metadata: raw.metadata, entries })
    }
}

/// Check that the tensors lie end to end from the header's end to the file's.
fn place(
    tensors: BTreeMap<String, RawEntry>,
    data_start: u64,
    source: &Arc<Source>,
) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    let mut by_offset: Vec<_> = tensors.into_iter().collect();
    by_offset.sort_by(|(left_name, left), (right_name, right)| {
        left.data_offsets.cmp(&right.data_offsets).then_with(|| left_name.cmp(right_name))
    });
    let mut position = 0;
    let mut entries = BTreeMap::new();
    for (tensor, raw) in by_offset {
        let fail = |reason| {
            Err(CheckpointError::Entry { file: source.label().to_owned(), tensor: tensor.clone(), reason })
        };
        let (begin, end) = raw.data_offsets;
        if begin > end {
            return fail(format!("its data ends at {end}, before its start at {begin}"));
        }
        if begin < position {
            return fail(format!(
                "its data, {begin}..{end}, overlaps that of another tensor, up to {position}"
            ));
        }
        if begin > position {
            return fail(format!("its data, {begin}..{end}, leaves a gap after {position}"));
        }
        let Some(len) = byte_len(raw.dtype, &raw.shape.0) else {
            return fail(format!("shape {:?} of {} is no number of bytes", raw.shape.0, raw.dtype));
        };
        if len != end - begin {
            return fail(format!(
                "shape {:?} of {} takes {len} bytes, its data has {}",
                raw.shape.0,
                raw.dtype,
                end - begin
            ));
        }
        let Some(file_end) = data_start.checked_add(end).filter(|&file_end| file_end <= source.len()) else {
            return fail(format!(
                "its data, {begin}..{end}, lies beyond the end of the file, which has {} bytes of data",
                source.len() - data_start
            ));
        };
        let Ok(len) = usize::try_from(len) else {
            return fail(format!("{len} bytes are more than this machine can address"));
        };
        let start = file_end - len as u64;
        entries.insert(tensor, Entry::stored(raw.dtype, raw.shape.0, source, start, len));
        position = end;
    }
    let surplus = source.len() - data_start - position;
    if surplus > 0 {
        let reason = format!("{surplus} bytes at its end belong to no tensor");
        return Err(CheckpointError::Header { file: source.label().to_owned(), reason });
    }
    Ok(entries)
}

/// Bytes that a tensor takes, or `None` past `u64` or for a part of a byte.
fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side as u64))?;
    let bits = u128::from(elements) * dtype.bitsize() as u128;
    bits.is_multiple_of(8).then(|| u64::try_from(bits / 8).ok()).flatten()
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: Dtype,
    shape: RawShape,
    data_offsets: (u64, u64),
}

struct RawShape(Vec<usize>);

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = RawShape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a list of at most {MAX_RANK} sides")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<RawShape, A::Error> {
                let mut shape = Vec::new();
                while let Some(side) = sides.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(A::Error::custom(format!("more than {MAX_RANK} dimensions")));
                    }
                    shape.push(side);
                }
                Ok(RawShape(shape))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

/// The notes beside the tensors.
struct Notes(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Notes;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "an object of texts under {METADATA}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notes, A::Error> {
                let mut notes = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    if notes.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} notes")));
                    }
                    notes.insert(key, value);
                }
                Ok(Notes(notes))
            }
        }
        deserializer.deserialize_map(Texts)
    }
}

#[derive(Default)]
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawEntry>,
}

/// Why a header was refused, and at which tensor.
struct Refused {
    tensor: Option<String>,
    reason: String,
}

fn parse(text: &[u8]) -> Result<RawHeader, Refused> {
    let mut at = None;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = HeaderSeed { at: &mut at }.deserialize(&mut deserializer);
    let parsed = parsed.and_then(|header| deserializer.end().map(|()| header));
    parsed.map_err(|error| Refused { tensor: at, reason: error.to_string() })
}

/// Reads the map entry by entry, so that an error can say which tensor it was in.
struct HeaderSeed<'a> {
    at: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = RawHeader;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<RawHeader, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                header.metadata = map.next_value::<Notes>()?.0;
                continue;
            }
            *self.at = Some(name.clone());
            let entry = map.next_value()?;
            if header.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            if header.tensors.insert(name, entry).is_some() {
                return Err(A::Error::custom("named twice"));
            }
            *self.at = None;
        }
        Ok(header)
    }
}
