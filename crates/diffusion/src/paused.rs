//! A run that was put aside, as plain numbers and tensors and as one file of safetensors.
//!
//! ```text
//! sample            the sample, in its own float type
//! solver.0, ...     what the solver remembers
//! metadata          run: steps taken, then the solver's numbers as the bits of each f64 in hexadecimal
//! ```
//!
//! Noise is asked for by its place, so a run's key and this file are all that it takes to go on with the same bits. The file appears whole or not at
//! all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use thiserror::Error;

use crate::SavedState;

/// A run that was put aside: plain numbers and tensors, to keep or to write to a file.
///
/// ```
/// use burn::tensor::Device;
/// use kiln_backend::noise::NoiseKey;
/// use kiln_diffusion::{GaussianMixture, Paused, RectifiedFlow, Sampler, SolverConfig, grid, keyed_noise};
///
/// let (process, device, key) = (RectifiedFlow, Device::flex(), NoiseKey::new(3));
/// let data = GaussianMixture::single(&process, 0.5, 0.2)?;
/// let sampler = Sampler::new(SolverConfig::dpmpp_2m(), grid::uniform(&process, 8)?)?;
/// let mut run = sampler.start_keyed(&process, &data, [2, 3], key, &device)?;
/// run.by_ref().take(5).for_each(drop);
/// let bytes = run.pause().to_bytes();
///
/// // Another day:
/// let paused = Paused::<2>::from_bytes(&bytes, &device)?;
/// let samples = sampler.resume(&process, &data, paused, keyed_noise([2, 3], key, &device))?.finish();
/// assert_eq!(samples.into_data(), run.finish().into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Paused<const D: usize> {
    /// Steps taken.
    pub index: usize,
    /// The sample after them.
    pub sample: Tensor<D>,
    /// What the solver remembers.
    pub solver: SavedState<D>,
}

/// What can go wrong with the file of a run.
#[derive(Debug, Error)]
pub enum PausedError {
    /// It can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what [`Paused::write`] writes.
    #[error("not the file of a run that was put aside: {0}")]
    Content(String),
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn content(problem: impl ToString) -> PausedError {
    PausedError::Content(problem.to_string())
}

const SAMPLE: &str = "sample";
/// One entry holds all: the order of several is not fixed, and the same run shall be the same bytes.
const RUN: &str = "run";

/// Float types, here and in safetensors.
const TYPES: [(DType, Dtype); 4] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
];

impl<const D: usize> Paused<D> {
    /// The bytes of a file of safetensors.
    ///
    /// # Panics
    /// If a tensor is of no float type that a file can hold.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let named = std::iter::once((SAMPLE.to_owned(), &self.sample))
            .chain(self.solver.tensors.iter().enumerate().map(|(i, tensor)| (format!("solver.{i}"), tensor)));
        let stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = named
            .map(|(name, tensor)| {
                let data = tensor.clone().into_data();
                let (_, kind) = TYPES
                    .into_iter()
                    .find(|(kind, _)| *kind == data.dtype())
                    .unwrap_or_else(|| panic!("a sample of {:?} can't be written", data.dtype()));
                (name, kind, tensor.dims().to_vec(), data.bytes().to_vec())
            })
            .collect();
        let views = stored.iter().map(|(name, kind, shape, bytes)| {
            let view = TensorView::new(*kind, shape.clone(), bytes);
            (name.as_str(), view.expect("as many bytes as the shape asks for"))
        });
        let numbers = self.solver.times.iter().map(|number| format!("{:016x}", number.to_bits()));
        let run = std::iter::once(self.index.to_string()).chain(numbers).collect::<Vec<_>>().join(" ");
        let metadata = [(RUN.to_owned(), run)].into_iter().collect();
        safetensors::serialize(views, Some(metadata)).expect("tensors of known types")
    }

    /// From what [`Paused::to_bytes`] gave.
    ///
    /// # Errors
    /// [`PausedError::Content`] if it is something else.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self, PausedError> {
        let file = SafeTensors::deserialize(bytes).map_err(content)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(content)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let run = metadata.get(RUN).ok_or_else(|| content(format!("it has no `{RUN}`")))?;
        let mut words = run.split_whitespace();
        let index = words.next().unwrap_or_default().parse().map_err(content)?;
        let number = |text: &str| u64::from_str_radix(text, 16).map(f64::from_bits).map_err(content);
        let times = words.map(number).collect::<Result<_, _>>()?;
        let tensor = |name: &str| {
            let view = file.tensor(name).map_err(content)?;
            let kind = TYPES.into_iter().find(|(_, kind)| *kind == view.dtype());
            let (kind, _) = kind.ok_or_else(|| content(format!("`{name}` is of type {:?}", view.dtype())))?;
            let shape: [usize; D] = view.shape().try_into().map_err(|_| {
                content(format!("`{name}` has shape {:?}, expected {D} dimensions", view.shape()))
            })?;
            let data = TensorData::from_bytes(Bytes::from_bytes_vec(view.data().to_vec()), shape, kind);
            Ok(Tensor::from_data(data, (device, kind)))
        };
        let sample = tensor(SAMPLE)?;
        let tensors =
            (0..file.len() - 1).map(|i| tensor(&format!("solver.{i}"))).collect::<Result<_, _>>()?;
        Ok(Self { index, sample, solver: SavedState { times, tensors } })
    }

    /// Writes the run beside `path`, and renames it when it is whole.
    ///
    /// # Errors
    /// [`PausedError::File`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PausedError> {
        let path = path.as_ref();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".").suffix(".unfinished").tempfile_in(folder)?;
            file.write_all(&self.to_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|source| PausedError::File { path: path.to_owned(), source })
    }

    /// Reads what [`Paused::write`] wrote.
    ///
    /// # Errors
    /// If the file can't be read, or is something else.
    pub fn read(path: impl AsRef<Path>, device: &Device) -> Result<Self, PausedError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| PausedError::File { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes, device)
    }
}
