//! Pairs of noise and sample on disk: a folder of safetensors files that appear whole or not at all.
//!
//! ```text
//! pairs.json              what was planned, and for which flow
//! 00000.safetensors       noise [n, ...] and data [n, ...], pairs 0 to n - 1, in f32
//! 00001.safetensors       the next n, ...
//! ```
//!
//! A shard is written under another name and renamed, so that one that exists is whole; a run that was killed goes on with the first that is missing. The noise of
//! pair i is that of sample i of the plan's seed, so the pairs do not depend on how often the run was stopped.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Estimate;

/// Which pairs are to be made. Written beside them, so that a folder is not filled from two plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairPlan {
    /// Whose pairs: the flow's name or checksum, and how it is followed.
    pub flow: String,
    /// The seed of the noise; pair i has that of sample i.
    pub seed: u64,
    /// How many pairs.
    pub pairs: usize,
    /// How many a file.
    pub per_shard: usize,
    /// The shape of one sample, without the batch.
    pub shape: Vec<usize>,
}

/// What can go wrong with a cache of pairs.
#[derive(Debug, Error)]
pub enum PairCacheError {
    /// The folder or a file in it can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder holds other pairs.
    #[error("{path} was begun for other pairs ({found:?}): take another folder, or empty it to make these")]
    Plan {
        /// The plan in the folder.
        path: PathBuf,
        /// What it says.
        found: Box<PairPlan>,
    },
    /// A plan for nothing.
    #[error("a cache of pairs needs at least one pair, one a shard and a shape without zeros, not {0:?}")]
    Nothing(Box<PairPlan>),
    /// A file is not what this cache writes.
    #[error("{path}: {problem}; remove it to have it made again")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Samples of another shape than planned.
    #[error("the flow gave samples of shape {found:?} for noise of shape {expected:?}")]
    Shape {
        /// What it gave.
        found: Vec<usize>,
        /// What it was given.
        expected: Vec<usize>,
    },
}

/// A folder of pairs, whole or in the making.
#[derive(Clone, Debug)]
pub struct PairCache {
    folder: PathBuf,
    plan: PairPlan,
}

const PLAN: &str = "pairs.json";
const UNFINISHED: &str = ".unfinished";

impl PairCache {
    /// A new folder, or one that was begun with the same plan. What a killed run left unfinished is removed.
    ///
    /// # Errors
    /// If the plan is for nothing, the folder can't be used, or it was begun with another plan.
    pub fn open(folder: impl Into<PathBuf>, plan: PairPlan) -> Result<Self, PairCacheError> {
        if plan.pairs == 0 || plan.per_shard == 0 || plan.shape.contains(&0) {
            return Err(PairCacheError::Nothing(Box::new(plan)));
        }
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join(PLAN);
        match fs::read(&path) {
            Ok(text) => {
                let found: PairPlan = serde_json::from_slice(&text).map_err(|error| {
                    PairCacheError::Content { path: path.clone(), problem: error.to_string() }
                })?;
                if found != plan {
                    return Err(PairCacheError::Plan { path, found: Box::new(found) });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = serde_json::to_vec_pretty(&plan).map_err(io::Error::from).map_err(at(&path))?;
                write_whole(&path, &text)?;
            }
            Err(source) => return Err(PairCacheError::File { path, source }),
        }
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let path = entry.map_err(at(&folder))?.path();
            if path.to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(Self { folder, plan })
    }

    /// What is in it, or is to be.
    #[must_use]
    pub const fn plan(&self) -> &PairPlan {
        &self.plan
    }

    /// How many files there are when it is whole.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.plan.pairs.div_ceil(self.plan.per_shard)
    }

    /// The first shard that is missing; `None` if it is whole.
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        (0..self.shards()).find(|&shard| !self.path(shard).exists())
    }

    /// The number of pairs in a shard; the last may have fewer.
    #[must_use]
    pub fn pairs_of(&self, shard: usize) -> usize {
        self.plan.per_shard.min(self.plan.pairs.saturating_sub(shard * self.plan.per_shard))
    }

    fn path(&self, shard: usize) -> PathBuf {
        self.folder.join(format!("{shard:05}.safetensors"))
    }

    /// Makes what is missing: `flow` takes noise `[n, ...]` to samples `[n, ...]`, shard by shard. Stopped anywhere, the next call goes on; an error of
    /// the flow ends it.
    ///
    /// # Errors
    /// If a file can't be written, the samples have another shape, or the flow fails.
    ///
    /// # Panics
    /// If D is not the plan's rank and 1.
    pub fn fill<const D: usize, E: From<PairCacheError>>(
        &self,
        device: &Device,
        mut flow: impl FnMut(Tensor<D>) -> Result<Tensor<D>, E>,
    ) -> Result<(), E> {
        for shard in 0..self.shards() {
            let path = self.path(shard);
            if path.exists() {
                continue;
            }
            let shape = self.shape(shard);
            let key = NoiseKey::new(self.plan.seed).at_sample((shard * self.plan.per_shard) as u64);
            let noise: Tensor<D> = normal(shape, key, device);
            let data = flow(noise.clone())?;
            if data.dims() != shape {
                let (found, expected) = (data.dims().to_vec(), shape.to_vec());
                return Err(PairCacheError::Shape { found, expected }.into());
            }
            let [noise, data] = [noise, data].map(|tensor| {
                tensor.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
            });
            let tensors = [("noise", view(&noise, &shape, &path)?), ("data", view(&data, &shape, &path)?)];
            let bytes = safetensors::serialize(tensors, None).map_err(|error| malformed(&path, &error))?;
            write_whole(&path, &bytes)?;
        }
        Ok(())
    }

    /// The pairs of one shard: sample as data, its noise as noise.
    ///
    /// # Errors
    /// If it is missing, or is not what this cache writes.
    ///
    /// # Panics
    /// If D is not the plan's rank and 1.
    pub fn read<const D: usize>(&self, shard: usize, device: &Device) -> Result<Estimate<D>, PairCacheError> {
        let path = self.path(shard);
        let bytes = fs::read(&path).map_err(at(&path))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(&path, &error))?;
        let shape: [usize; D] = self.shape(shard);
        let tensor = |name: &str| {
            let view = file.tensor(name).map_err(|error| malformed(&path, &error))?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                let problem = format!("`{name}` is {:?} {:?}, not F32 {shape:?}", view.dtype(), view.shape());
                return Err(PairCacheError::Content { path: path.clone(), problem });
            }
            let (chunks, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Ok(Tensor::from_data(TensorData::new(values, shape), device))
        };
        Ok(Estimate { data: tensor("data")?, noise: tensor("noise")? })
    }

    fn shape<const D: usize>(&self, shard: usize) -> [usize; D] {
        let rank = self.plan.shape.len() + 1;
        assert_eq!(D, rank, "the plan's samples with their batch have rank {rank}, not {D}");
        std::array::from_fn(|dim| if dim == 0 { self.pairs_of(shard) } else { self.plan.shape[dim - 1] })
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> PairCacheError + '_ {
    |source| PairCacheError::File { path: path.to_owned(), source }
}

fn view<'a>(bytes: &'a [u8], shape: &[usize], path: &Path) -> Result<TensorView<'a>, PairCacheError> {
    TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(|error| malformed(path, &error))
}

fn malformed(path: &Path, error: &safetensors::SafeTensorError) -> PairCacheError {
    PairCacheError::Content { path: path.to_owned(), problem: error.to_string() }
}

/// Writes beside the path, flushes to the disk and renames.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PairCacheError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<fs::File> {
        let mut file = tempfile::Builder::new().prefix(".").suffix(UNFINISHED).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(at(path))
}
