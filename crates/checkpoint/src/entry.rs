//! One tensor of a checkpoint: where its numbers are, and how they are to be seen.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::Dtype;

use crate::source::Source;
use crate::{Arrangement, CheckpointError, View, elements};

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

/// How a matrix is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orientation {
    AsStored,
    /// Rows as columns: Burn's linear weights are `[in, out]`, PyTorch's `[out, in]`.
    Transposed,
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
                elements::gather(source, *start, &self.shape, strides, self.dtype.bitsize() / 8)
                    .map(Cow::Owned)
            }
            Origin::View { of, rows, arrangement } => {
                let bytes = elements::chosen(of.bytes()?, rows, of.shape.first().copied().unwrap_or(1))?;
                match arrangement {
                    Arrangement::AsIs | Arrangement::Reshaped(_) => Some(bytes),
                    Arrangement::Transposed => {
                        let columns = self.shape[0];
                        Some(Cow::Owned(elements::transposed(&bytes, columns, self.dtype.bitsize() / 8)))
                    }
                }
            }
        }
    }

    /// Its numbers as they are stored; `name` is for errors.
    pub(crate) fn read(&self, name: &str) -> Result<TensorData, CheckpointError> {
        self.read_as(name, self.burn_dtype(name)?, Orientation::AsStored)
    }

    /// Its numbers as `dtype`. Beside what is given, no more than one copy in the stored type is made.
    pub(crate) fn read_as(
        &self,
        name: &str,
        dtype: DType,
        orientation: Orientation,
    ) -> Result<TensorData, CheckpointError> {
        let stored = self.burn_dtype(name)?;
        let fail = |reason: &str| CheckpointError::Entry {
            file: self.file().to_owned(),
            tensor: name.to_owned(),
            reason: reason.to_owned(),
        };
        self.source().check_whole()?;
        let mut bytes = self.bytes().ok_or_else(|| fail("its data lies beyond the end of the file"))?;
        // Rust's bool has two values; any other byte in its place is not to be looked at as one.
        if stored.is_bool() && bytes.iter().any(|&byte| byte > 1) {
            return Err(fail("a BOOL is neither 0 nor 1"));
        }
        let mut shape = self.shape.clone();
        if orientation == Orientation::Transposed
            && let [rows, columns] = shape[..]
        {
            bytes = Cow::Owned(elements::transposed(&bytes, columns, stored.size()));
            shape = vec![columns, rows];
        }
        let bytes = if stored == dtype {
            bytes.into_owned()
        } else {
            elements::cast(&bytes, stored, dtype).map_err(|error| fail(&error))?
        };
        self.release();
        TensorData::try_from_bytes_vec(bytes, shape, dtype).map_err(|error| fail(&error.to_string()))
    }

    /// Lets go of the file's pages, once they have been copied.
    fn release(&self) {
        match &self.origin {
            Origin::Stored { source, start, len } => source.release(*start, *len),
            Origin::View { of, .. } => of.release(),
            // Where its elements end is not known.
            Origin::Strided { .. } => {}
        }
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
