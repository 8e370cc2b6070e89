//! The bytes of a tensor's elements, chosen, arranged and converted.

use std::borrow::Cow;
use std::ops::Range;

use burn::tensor::{DType, TensorData};

use crate::source::Source;

/// The rows of these ranges, one after the other; all of them where there is no range.
pub(crate) fn chosen<'a>(bytes: Cow<'a, [u8]>, rows: &[Range<usize>], of: usize) -> Option<Cow<'a, [u8]>> {
    if rows.is_empty() {
        return Some(bytes);
    }
    let row = bytes.len().checked_div(of).unwrap_or(0);
    let part = |rows: &Range<usize>| rows.start * row..rows.end * row;
    if let ([rows], Cow::Borrowed(bytes)) = (rows, &bytes) {
        return bytes.get(part(rows)).map(Cow::Borrowed);
    }
    let mut chosen = Vec::with_capacity(rows.iter().map(|rows| rows.len() * row).sum());
    for rows in rows {
        chosen.extend_from_slice(bytes.get(part(rows))?);
    }
    Some(Cow::Owned(chosen))
}

/// A matrix of `columns` columns with rows and columns exchanged.
pub(crate) fn transposed(bytes: &[u8], columns: usize, element: usize) -> Vec<u8> {
    match element {
        1 => transposed_of::<1>(bytes, columns),
        2 => transposed_of::<2>(bytes, columns),
        4 => transposed_of::<4>(bytes, columns),
        _ => transposed_of::<8>(bytes, columns),
    }
}

fn transposed_of<const SIZE: usize>(bytes: &[u8], columns: usize) -> Vec<u8> {
    // Columns of a cache line each, so that a line that is written to is soon full.
    const TILE: usize = 16;
    let (from, _) = bytes.as_chunks::<SIZE>();
    let rows = from.len().checked_div(columns).unwrap_or(0);
    let mut to = vec![[0; SIZE]; from.len()];
    for first in (0..columns).step_by(TILE) {
        let last = columns.min(first + TILE);
        for (row, values) in from.chunks_exact(columns.max(1)).enumerate() {
            for (column, value) in (first..).zip(&values[first..last]) {
                to[column * rows + row] = *value;
            }
        }
    }
    to.into_flattened()
}

/// Numbers of one type as another, piece by piece, so that no second copy of all of them is made.
pub(crate) fn cast(bytes: &[u8], from: DType, to: DType) -> Result<Vec<u8>, String> {
    const PIECE: usize = 1 << 18;
    let mut cast = Vec::with_capacity(bytes.len() / from.size() * to.size());
    for piece in bytes.chunks(PIECE * from.size()) {
        let len = piece.len() / from.size();
        let piece =
            TensorData::try_from_bytes_vec(piece.to_vec(), [len], from).map_err(|error| error.to_string())?;
        let piece = piece.try_cast(to).map_err(|error| error.to_string())?;
        cast.extend_from_slice(piece.as_bytes());
    }
    Ok(cast)
}

/// The elements that lie `strides` apart from `start` on.
pub(crate) fn gather(
    source: &Source,
    start: u64,
    shape: &[usize],
    strides: &[usize],
    element: usize,
) -> Option<Vec<u8>> {
    let start = usize::try_from(start).ok()?;
    let bytes = source.bytes();
    let elements: usize = shape.iter().product();
    let mut gathered = Vec::with_capacity(elements.checked_mul(element)?);
    let mut index = vec![0; shape.len()];
    for _ in 0..elements {
        let at: usize = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        let at = start + at * element;
        gathered.extend_from_slice(bytes.get(at..at + element)?);
        for side in (0..shape.len()).rev() {
            index[side] += 1;
            if index[side] < shape[side] {
                break;
            }
            index[side] = 0;
        }
    }
    Some(gathered)
}
