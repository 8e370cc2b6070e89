//! From a module, or from named tensors, to a file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::Path;

use burn::module::Module;
use burn::store::burn_pack::Tensor as PackTensor;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, bridge};
use burn::tensor::{DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use crate::{Checkpoint, CheckpointError, write_atomically};

/// The type that floats are saved in; integers and bools stay what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredDType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 11 of them precision; values up to 65,504.
    F16,
    /// 16 bits, 8 of them precision; the range of F32.
    Bf16,
}

impl StoredDType {
    pub(crate) fn bits(self) -> usize {
        8 * self.burn().size()
    }

    fn burn(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// How a module is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Type of the floats.
    pub dtype: StoredDType,
    /// Notes beside the tensors.
    pub metadata: BTreeMap<String, String>,
}

/// Save every parameter of `module` at `path`, whole or not at all.
///
/// # Errors
///
/// If the file can't be written, or a value is finite in memory and not in the type to save it in.
pub fn save<M: Module>(
    module: &M,
    path: impl AsRef<Path>,
    options: &SaveOptions,
) -> Result<(), CheckpointError> {
    to_file(Plan::of_module(module, options), path.as_ref())
}

/// As [`save`], into memory.
///
/// # Errors
///
/// As [`save`].
pub fn to_bytes<M: Module>(module: &M, options: &SaveOptions) -> Result<Vec<u8>, CheckpointError> {
    to_vec(Plan::of_module(module, options))
}

/// The parameters of `module` as [`save`] would write them, each in its own type: to be joined with other tensors (a
/// training's state) in one file.
///
/// # Errors
///
/// If a parameter can't be read from its device.
pub fn module_tensors<M: Module>(module: &M) -> Result<BTreeMap<String, TensorData>, CheckpointError> {
    collect(module)
        .into_iter()
        .map(|tensor| {
            let name = tensor.name.clone();
            Ok((name.clone(), materialise(tensor, &name).map_err(|problem| problem.at(MEMORY))?))
        })
        .collect()
}

/// Save named tensors, each in its own type, at `path`, whole or not at all.
///
/// # Errors
///
/// If the file can't be written, or a tensor's type has no place in a safetensors file.
pub fn save_tensors(
    tensors: BTreeMap<String, TensorData>,
    metadata: &BTreeMap<String, String>,
    path: impl AsRef<Path>,
) -> Result<(), CheckpointError> {
    to_file(Plan::of_tensors(tensors, metadata), path.as_ref())
}

/// Tensors of a checkpoint, floats in `dtype` if one is given, in a file at `path` that errors call `label`. Each is read when
/// its turn comes.
pub(crate) fn copy_tensors(
    checkpoint: &Checkpoint,
    names: &[&str],
    dtype: Option<StoredDType>,
    metadata: &BTreeMap<String, String>,
    path: &Path,
    label: &str,
) -> Result<(), CheckpointError> {
    let tensors = names
        .iter()
        .map(|name| {
            let tensor = checkpoint.deferred(name)?;
            let target = dtype.filter(|_| tensor.dtype.is_float()).map_or(tensor.dtype, StoredDType::burn);
            Ok((tensor, target))
        })
        .collect::<Result<Vec<_>, CheckpointError>>()?;
    let plan = Plan::new(tensors, metadata);
    write_atomically(path, |out| plan.write(out)).map_err(|problem| problem.at(label))
}

/// As [`save_tensors`], into memory.
///
/// # Errors
///
/// As [`save_tensors`].
pub fn tensors_to_bytes(
    tensors: BTreeMap<String, TensorData>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, CheckpointError> {
    to_vec(Plan::of_tensors(tensors, metadata))
}

const MEMORY: &str = "bytes in memory";

fn collect<M: Module>(module: &M) -> Vec<PackTensor> {
    module.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true)
}

fn to_file(plan: Plan, path: &Path) -> Result<(), CheckpointError> {
    write_atomically(path, |out| plan.write(out)).map_err(|problem| problem.at(&path.display().to_string()))
}

fn to_vec(plan: Plan) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    plan.write(&mut bytes).map_err(|problem| problem.at(MEMORY))?;
    Ok(bytes)
}

/// What a file will hold. Tensors are drawn from their device one by one as they are written.
struct Plan {
    tensors: Vec<(PackTensor, DType)>,
    metadata: HashMap<String, String>,
}

impl Plan {
    fn of_module<M: Module>(module: &M, options: &SaveOptions) -> Self {
        let target = |dtype: DType| if dtype.is_float() { options.dtype.burn() } else { dtype };
        let tensors = collect(module).into_iter().map(|tensor| {
            let dtype = target(tensor.dtype);
            (tensor, dtype)
        });
        Self::new(tensors.collect(), &options.metadata)
    }

    fn of_tensors(tensors: BTreeMap<String, TensorData>, metadata: &BTreeMap<String, String>) -> Self {
        let tensors = tensors.into_iter().map(|(name, data)| {
            let dtype = data.dtype();
            (bridge::from_data(data, name, None), dtype)
        });
        Self::new(tensors.collect(), metadata)
    }

    fn new(mut tensors: Vec<(PackTensor, DType)>, metadata: &BTreeMap<String, String>) -> Self {
        // Wide types first, so that every tensor is aligned to its own width; then by name.
        tensors.sort_by(|(left, left_dtype), (right, right_dtype)| {
            right_dtype.size().cmp(&left_dtype.size()).then_with(|| left.name.cmp(&right.name))
        });
        let metadata = metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { tensors, metadata }
    }

    fn write(self, out: &mut dyn Write) -> Result<(), Problem> {
        let mut offset = 0;
        let mut names = BTreeSet::new();
        let mut infos = Vec::new();
        for (tensor, dtype) in &self.tensors {
            let unsaveable =
                |reason: &str| Problem::Unsaveable { tensor: tensor.name.clone(), reason: reason.to_owned() };
            let stored =
                stored_dtype(*dtype).ok_or_else(|| unsaveable("its type has no place in this format"))?;
            if !names.insert(tensor.name.as_str()) || tensor.name == "__metadata__" {
                return Err(unsaveable("its name is taken"));
            }
            let len = tensor.shape.num_elements() * dtype.size();
            let info = TensorInfo {
                dtype: stored,
                shape: tensor.shape.to_vec(),
                data_offsets: (offset, offset + len),
            };
            infos.push((tensor.name.clone(), info));
            offset += len;
        }
        let metadata = (!self.metadata.is_empty()).then_some(self.metadata);
        let header = Metadata::new(metadata, infos).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&header).map_err(io::Error::other)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (tensor, dtype) in self.tensors {
            let name = tensor.name.clone();
            let data = convert(materialise(tensor, &name)?, dtype, &name)?;
            out.write_all(data.as_bytes())?;
        }
        Ok(())
    }
}

fn materialise(tensor: PackTensor, name: &str) -> Result<TensorData, Problem> {
    bridge::into_data(tensor)
        .map_err(|error| Problem::Unsaveable { tensor: name.to_owned(), reason: error.to_string() })
}

fn convert(data: TensorData, dtype: DType, name: &str) -> Result<TensorData, Problem> {
    if data.dtype() == dtype {
        return Ok(data);
    }
    let infinities = |data: &TensorData| data.iter::<f64>().filter(|value| value.is_infinite()).count();
    let before = infinities(&data);
    let data = data.convert_dtype(dtype);
    if infinities(&data) > before {
        return Err(Problem::Overflow { tensor: name.to_owned(), dtype: stored_dtype(dtype) });
    }
    Ok(data)
}

/// The format's name for one of Burn's types, where it has one.
fn stored_dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool(_) if dtype.size() == 1 => Dtype::BOOL,
        _ => return None,
    })
}

/// What went wrong, before it is known for which file.
#[derive(Debug)]
enum Problem {
    Io(io::Error),
    Overflow { tensor: String, dtype: Option<Dtype> },
    Unsaveable { tensor: String, reason: String },
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Problem {
    fn at(self, file: &str) -> CheckpointError {
        let file = file.to_owned();
        match self {
            Self::Io(source) => CheckpointError::Io { file, action: "write", source },
            Self::Overflow { tensor, dtype } => {
                CheckpointError::Overflow { file, tensor, dtype: dtype.unwrap_or(Dtype::F16) }
            }
            Self::Unsaveable { tensor, reason } => CheckpointError::Unsaveable { file, tensor, reason },
        }
    }
}
