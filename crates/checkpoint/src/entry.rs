//! One tensor of a checkpoint: where its numbers are, and how they are to be seen.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::Dtype;

use crate::source::Source;
use crate::{Arrangement, CheckpointError, View};

/// A tensor as it is seen, and how it comes about.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    /// Bytes of a file, in rows, as many as the shape takes: whoever makes it has checked that.
    Stored { source: Arc<Source>, start: u64, len: usize },
    /// Elements of a file at these distances from each other.
    Strided { source: Arc<Source>, start: u64, strides: Vec<usize> },
    /// Rows of another tensor, laid out otherwise.
    View { of: Arc<Entry>, rows: Vec<Range<usize>>, arrangement: Arrangement },
}

impl Entry {
    pub(crate) fn stored(
        dtype: Dtype,
        shape: Vec<usize>,
        source: &Arc<Source>,
        start: u64,
        len: usize,
    ) -> Self {
        Self { dtype, shape, origin: Origin::Stored { source: Arc::clone(source), start, len } }
    }

    /// A tensor whose elements lie `strides` apart from `start` on, all of them within the source.
    pub(crate) fn strided(
        dtype: Dtype,
        shape: Vec<usize>,
        source: &Arc<Source>,
        start: u64,
        strides: Vec<usize>,
    ) -> Self {
        Self { dtype, shape, origin: Origin::Strided { source: Arc::clone(source), start, strides } }
    }

    /// The tensor that `view` shows of this one; an error says why there is none.
    pub(crate) fn seen_through(self: &Arc<Self>, view: &View) -> Result<Self, String> {
        let mut shape = self.shape.clone();
        if !view.rows.is_empty() {
            let Some(sides) = shape.first_mut() else {
                return Err(format!("rows of `{}`, which is a scalar", view.source));
            };
            if let Some(rows) = view.rows.iter().find(|rows| rows.start > rows.end || rows.end > *sides) {
                return Err(format!("rows {rows:?} of `{}`, which has {sides}", view.source));
            }
            *sides = view.rows.iter().map(Range::len).sum();
        }
        match &view.arrangement {
            Arrangement::AsIs => {}
            Arrangement::Reshaped(to) => {
                let elements =
                    |shape: &[usize]| shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
                if elements(to).is_none() || elements(to) != elements(&shape) {
                    return Err(format!("shape {to:?} of `{}`, which is {shape:?}", view.source));
                }
                shape.clone_from(to);
            }
            Arrangement::Transposed => {
                let [rows, columns] = shape[..] else {
                    return Err(format!("transposed `{}`, which is {shape:?}, no matrix", view.source));
                };
                shape = vec![columns, rows];
            }
        }
        let whole = view.rows.is_empty() && view.arrangement != Arrangement::Transposed;
        if !whole && !self.dtype.bitsize().is_multiple_of(8) {
            return Err(format!("parts of `{}`, whose elements are parts of bytes", view.source));
        }
        let origin = Origin::View {
            of: Arc::clone(self),
            rows: view.rows.clone(),
            arrangement: view.arrangement.clone(),
        };
        Ok(Self { dtype: self.dtype, shape, origin })
    }

    /// The file that its numbers are in.
    pub(crate) fn file(&self) -> &str {
        self.source().label()
    }

    fn source(&self) -> &Source {
        match &self.origin {
            Origin::Stored { source, .. } | Origin::Strided { source, .. } => source,
            Origin::View { of, .. } => of.source(),
        }
    }

    /// Its bytes, row by row; borrowed from the file where they lie there like that.
    pub(crate) fn bytes(&self) -> Option<Cow<'_, [u8]>> {
        match &self.origin {
            Origin::Stored { source, start, len } => source.get(*start, *len).map(Cow::Borrowed),
            Origin::Strided { source, start, strides } => {
                gather(source, *start, &self.shape, strides, self.dtype.bitsize() / 8).map(Cow::Owned)
            }
            Origin::View { of, rows, arrangement } => {
                let bytes = chosen(of.bytes()?, rows, of.shape.first().copied().unwrap_or(1))?;
                match arrangement {
                    Arrangement::AsIs | Arrangement::Reshaped(_) => Some(bytes),
                    Arrangement::Transposed => {
                        transposed(&bytes, self.shape[0], self.dtype.bitsize() / 8).map(Cow::Owned)
                    }
                }
            }
        }
    }

    /// Its numbers as Burn has them; `name` is for errors.
    pub(crate) fn read(&self, name: &str) -> Result<TensorData, CheckpointError> {
        let dtype = self.burn_dtype(name)?;
        let fail = |reason: &str| CheckpointError::Entry {
            file: self.file().to_owned(),
            tensor: name.to_owned(),
            reason: reason.to_owned(),
        };
        self.source().check_whole()?;
        let bytes = self.bytes().ok_or_else(|| fail("its data lies beyond the end of the file"))?;
        // Rust's bool has two values; any other byte in its place is not to be looked at as one.
        if dtype.is_bool() && bytes.iter().any(|&byte| byte > 1) {
            return Err(fail("a BOOL is neither 0 nor 1"));
        }
        TensorData::try_from_bytes_vec(bytes.into_owned(), self.shape.clone(), dtype)
            .map_err(|error| fail(&error.to_string()))
    }

    pub(crate) fn burn_dtype(&self, name: &str) -> Result<DType, CheckpointError> {
        burn_dtype(self.dtype).ok_or_else(|| CheckpointError::DType {
            file: self.file().to_owned(),
            tensor: name.to_owned(),
            expected: "a float of 16 bits or more, an integer or a bool",
            found: self.dtype,
        })
    }
}

/// The rows of these ranges, one after the other; all of them where there is no range.
fn chosen<'a>(bytes: Cow<'a, [u8]>, rows: &[Range<usize>], of: usize) -> Option<Cow<'a, [u8]>> {
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
fn transposed(bytes: &[u8], columns: usize, element: usize) -> Option<Vec<u8>> {
    let rows = (bytes.len() / element.max(1)).checked_div(columns).unwrap_or(0);
    let mut turned = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * element;
            turned.extend_from_slice(bytes.get(at..at + element)?);
        }
    }
    Some(turned)
}

/// The elements that lie `strides` apart from `start` on.
fn gather(
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

/// Burn's name for a stored type, where it has one.
fn burn_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}
