//! The zip that `torch.save` writes: entries stored as they are, so that each is a range of the file.
//!
//! ```text
//! for each entry   local header (30 bytes, name, padding), data
//! directory        for each entry 46 bytes, name, extra: sizes, method, where its local header is
//! end              22 bytes: where the directory is; a zip64 record and locator before it in large files
//! ```
//!
//! A compressed entry is refused when it is asked for: `torch.save` writes none, and what it unpacks to is bounded by nothing.
//! An entry that shares bytes with another is refused at once. So a file's contents are no larger than the file.

use std::collections::BTreeMap;
use std::ops::Range;

const END: (&[u8], usize) = (b"PK\x05\x06", 22);
const END_64: (&[u8], usize) = (b"PK\x06\x06", 56);
const LOCATOR_64: (&[u8], usize) = (b"PK\x06\x07", 20);
const DIRECTORY: (&[u8], usize) = (b"PK\x01\x02", 46);
const LOCAL: (&[u8], usize) = (b"PK\x03\x04", 30);
const LONGEST_COMMENT: usize = u16::MAX as usize;
const EXTRA_64: usize = 1;

/// An entry of a zip.
pub(super) struct Packed {
    range: Range<usize>,
    /// Bytes that it claims to unpack to.
    size: u64,
    compressed: bool,
}

impl Packed {
    /// Where its bytes are, if they are stored as they are.
    pub(super) fn plain(&self, name: &str) -> Result<Range<usize>, String> {
        let stored = self.range.len();
        if self.compressed {
            return Err(format!(
                "entry `{name}` is compressed, {stored} bytes that claim to be {}; torch.save stores entries as they are",
                self.size
            ));
        }
        if stored as u64 != self.size {
            return Err(format!("entry `{name}` has {stored} bytes and claims to have {}", self.size));
        }
        Ok(self.range.clone())
    }
}

/// The entries of a zip file by name.
pub(super) fn entries(file: &[u8]) -> Result<BTreeMap<&str, Packed>, String> {
    let (count, directory) = directory(file)?;
    let mut entries = BTreeMap::new();
    let mut at = directory.start;
    for _ in 0..count {
        let (name, packed, next) = entry(file, at, &directory)?;
        at = next;
        // A folder holds nothing.
        if name.ends_with('/') && packed.range.is_empty() {
            continue;
        }
        if entries.insert(name, packed).is_some() {
            return Err(format!("two entries are called `{name}`"));
        }
    }
    let mut ranges: Vec<_> = entries
        .iter()
        .map(|(name, packed)| (name, &packed.range))
        .filter(|(_, range)| !range.is_empty())
        .collect();
    ranges.sort_by_key(|(_, range)| range.start);
    if let Some([(left, _), (right, _)]) =
        ranges.array_windows().find(|[left, right]| left.1.end > right.1.start)
    {
        return Err(format!("entries `{left}` and `{right}` overlap"));
    }
    Ok(entries)
}

/// How many entries the directory has, and where it is.
fn directory(file: &[u8]) -> Result<(u64, Range<usize>), String> {
    let from = file.len().saturating_sub(END.1 + LONGEST_COMMENT);
    let end = (from..=file.len().saturating_sub(END.1))
        .rev()
        .find(|&at| file[at..].starts_with(END.0))
        .ok_or("a zip without a directory: cut short?")?;
    let mut count = number::<2>(file, end + 10)?;
    let mut len = number::<4>(file, end + 12)?;
    let mut start = number::<4>(file, end + 16)?;
    let locator = end.checked_sub(LOCATOR_64.1).filter(|&at| file[at..].starts_with(LOCATOR_64.0));
    if let Some(locator) = locator {
        let record = index(number::<8>(file, locator + 8)?)?;
        record_at(file, record, END_64, "the directory's zip64 record")?;
        count = number::<8>(file, record + 32)?;
        len = number::<8>(file, record + 40)?;
        start = number::<8>(file, record + 48)?;
    }
    let start = index(start)?;
    let stop = start.checked_add(index(len)?).filter(|&stop| stop <= end);
    let stop = stop.ok_or("its directory lies beyond the end of the file")?;
    if count > ((stop - start) / DIRECTORY.1) as u64 {
        return Err(format!("its directory of {} bytes can't have {count} entries", stop - start));
    }
    Ok((count, start..stop))
}

/// The entry whose record is at `at`: its name, its bytes, and where the next record is.
fn entry<'a>(
    file: &'a [u8],
    at: usize,
    directory: &Range<usize>,
) -> Result<(&'a str, Packed, usize), String> {
    record_at(file, at, DIRECTORY, "a record of the directory")?;
    let name_len = index(number::<2>(file, at + 28)?)?;
    let extra_len = index(number::<2>(file, at + 30)?)?;
    let comment_len = index(number::<2>(file, at + 32)?)?;
    let name_at = at + DIRECTORY.1;
    let next = name_at + name_len + extra_len + comment_len;
    if next > directory.end {
        return Err("its directory is longer than it says".to_owned());
    }
    let name = std::str::from_utf8(&file[name_at..name_at + name_len])
        .map_err(|_| "an entry's name is not UTF-8".to_owned())?;
    let (encrypted, method) = (number::<2>(file, at + 8)? & 1 != 0, number::<2>(file, at + 10)?);
    let mut stored = number::<4>(file, at + 20)?;
    let mut size = number::<4>(file, at + 24)?;
    let mut offset = number::<4>(file, at + 42)?;
    let extra = &file[name_at + name_len..name_at + name_len + extra_len];
    wide(extra, [&mut size, &mut stored, &mut offset])?;
    if encrypted {
        return Err(format!("entry `{name}` is encrypted"));
    }
    let local = index(offset)?;
    record_at(file, local, LOCAL, "an entry's header")?;
    let names = index(number::<2>(file, local + 26)?)? + index(number::<2>(file, local + 28)?)?;
    let start = local + LOCAL.1 + names;
    let stop = start.checked_add(index(stored)?).filter(|&stop| stop <= directory.start);
    let stop =
        stop.ok_or_else(|| format!("entry `{name}` of {stored} bytes lies beyond the end of the data"))?;
    Ok((name, Packed { range: start..stop, size, compressed: method != 0 }, next))
}

/// Put the 64-bit values of an extra field in place of those that are too small for them, in the format's order.
fn wide(mut extra: &[u8], values: [&mut u64; 3]) -> Result<(), String> {
    while extra.len() >= 4 {
        let (id, len) = (index(number::<2>(extra, 0)?)?, index(number::<2>(extra, 2)?)?);
        let field = extra.get(4..4 + len).ok_or("an entry's extra field is cut short")?;
        if id == EXTRA_64 {
            let mut at = 0;
            for value in values {
                if *value == u64::from(u32::MAX) {
                    *value = number::<8>(field, at)?;
                    at += 8;
                }
            }
            return Ok(());
        }
        extra = &extra[4 + len..];
    }
    Ok(())
}

fn record_at(file: &[u8], at: usize, (signature, len): (&[u8], usize), what: &str) -> Result<(), String> {
    match file.get(at..).and_then(|rest| rest.get(..len)) {
        Some(record) if record.starts_with(signature) => Ok(()),
        _ => Err(format!("{what} is not where it should be, at {at}")),
    }
}

/// The little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, String> {
    let bytes = bytes.get(at..).and_then(|rest| rest.get(..N)).ok_or("its directory is cut short")?;
    Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

fn index(number: u64) -> Result<usize, String> {
    // Half of what can be addressed, so that sums of two don't overflow.
    usize::try_from(number)
        .ok()
        .filter(|&index| index <= isize::MAX as usize)
        .ok_or_else(|| format!("{number} bytes are more than this machine can address"))
}
