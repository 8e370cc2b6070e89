//! Which backends this build has, and a device of one by its name.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, FloatDType};
use thiserror::Error;

use crate::FusedOps;

/// The executor of every backend that CubeCL runs, as fused kernels are implemented for it.
#[cfg(wgpu)]
pub type CubeBackend = burn_wgpu::CubeBackend;
/// The executor of every backend that CubeCL runs, as fused kernels are implemented for it.
#[cfg(all(cube, not(wgpu)))]
pub type CubeBackend = burn_cubecl::CubeBackend;

/// A backend that Kiln's models run on: one marker type each.
pub trait TensorBackend: 'static {
    /// Burn's executor. The bound means that no backend is listed without its fused operations being decided.
    type Burn: FusedOps;
    /// What `--backend` and [`open`] call it.
    const NAME: &'static str;
    /// What it runs on, in a few words.
    const DESCRIPTION: &'static str;

    /// The device with this index: 0 is the best, further ones count the machine's other adapters.
    ///
    /// # Errors
    /// [`BackendError::NoAdapter`] where there is none: never a panic.
    fn open(index: usize) -> Result<Device, BackendError>;

    /// Whether tensors of this float type can be computed with on `device`.
    fn supports(device: &Device, dtype: FloatDType) -> bool {
        device.supports_dtype(dtype)
    }
}

/// Why no device could be had.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum BackendError {
    /// The name is no backend's.
    #[error("there is no backend `{name}`; this build has {available}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names compiled in.
        available: String,
    },
    /// The backend exists, but not in this build.
    #[error(
        "the backend `{name}` is not in this build, which has {available}; build with `--features {name}`"
    )]
    NotCompiled {
        /// What was asked for.
        name: String,
        /// The names compiled in.
        available: String,
    },
    /// The machine has no device that the backend could run on.
    #[error("the backend `{backend}` found no adapter {index} on this machine: {reason}")]
    NoAdapter {
        /// The backend.
        backend: &'static str,
        /// The index asked for.
        index: usize,
        /// What the driver or its loader said.
        reason: String,
    },
    /// The device can't compute in the type asked for.
    #[error("the backend `{backend}` can't compute in {dtype:?}: {reason}")]
    DType {
        /// The backend.
        backend: &'static str,
        /// The type asked for.
        dtype: FloatDType,
        /// Why not.
        reason: String,
    },
}

/// A row of [`BACKENDS`]: a [`TensorBackend`] as a value.
#[derive(Debug, Clone, Copy)]
pub struct BackendEntry {
    /// [`TensorBackend::NAME`], which is also the feature that compiles it in.
    pub name: &'static str,
    /// [`TensorBackend::DESCRIPTION`].
    pub description: &'static str,
    /// [`TensorBackend::open`].
    pub open: fn(usize) -> Result<Device, BackendError>,
    /// [`TensorBackend::supports`].
    pub supports: fn(&Device, FloatDType) -> bool,
}

impl BackendEntry {
    /// The row of the backend `T`.
    pub const fn of<T: TensorBackend>() -> Self {
        Self { name: T::NAME, description: T::DESCRIPTION, open: T::open, supports: T::supports }
    }
}

/// The backends compiled in, best first. Help texts, tests and the README's table are made from it.
pub const BACKENDS: &[BackendEntry] = &[
    #[cfg(feature = "cuda")]
    BackendEntry::of::<Cuda>(),
    #[cfg(feature = "rocm")]
    BackendEntry::of::<Rocm>(),
    #[cfg(feature = "metal")]
    BackendEntry::of::<Metal>(),
    #[cfg(feature = "vulkan")]
    BackendEntry::of::<Vulkan>(),
    #[cfg(feature = "webgpu")]
    BackendEntry::of::<WebGpu>(),
    #[cfg(feature = "wgpu")]
    BackendEntry::of::<Wgpu>(),
    #[cfg(feature = "flex")]
    BackendEntry::of::<Flex>(),
    #[cfg(feature = "ndarray")]
    BackendEntry::of::<NdArray>(),
];

/// Every backend there is, compiled in or not.
const NAMES: [&str; 8] = ["cuda", "rocm", "metal", "vulkan", "webgpu", "wgpu", "flex", "ndarray"];

/// Opens a backend by name, `name` or `name:index` (`vulkan`, `cuda:1`). Without a name: the first of [`BACKENDS`]
/// that has an adapter. An adapter that is a program (lavapipe) is no gain over a CPU backend, and is taken only
/// where there is nothing else.
///
/// # Errors
/// [`BackendError`] when the name is unknown, the backend is not compiled in, or there is no adapter.
///
/// ```
/// let device = kiln_backend::open(Some("flex"))?;
/// assert!(kiln_backend::open(Some("abacus")).is_err());
/// # Ok::<(), kiln_backend::BackendError>(())
/// ```
pub fn open(name: Option<&str>) -> Result<Device, BackendError> {
    find(name).map(|(_, device)| device)
}

/// As [`open`], and has the device compute in `dtype` where no other type is asked for. A device takes one such type,
/// before its first tensor, for as long as the program runs.
///
/// # Errors
/// As [`open`]; [`BackendError::DType`] when the device can't compute in this type, or computes in another one by now.
///
/// ```
/// use burn::tensor::{FloatDType, Tensor};
///
/// let device = kiln_backend::open_with(Some("flex"), FloatDType::F16)?;
/// assert_eq!(Tensor::<1>::zeros([3], &device).dtype(), FloatDType::F16.into());
/// assert!(kiln_backend::open_with(Some("flex"), FloatDType::F32).is_err());
/// # Ok::<(), kiln_backend::BackendError>(())
/// ```
pub fn open_with(name: Option<&str>, dtype: FloatDType) -> Result<Device, BackendError> {
    let (backend, device) = find(name)?;
    computing_in(backend.name, device, backend.supports, dtype)
}

/// `device` as one that computes in `dtype`.
pub(crate) fn computing_in(
    backend: &'static str,
    mut device: Device,
    supports: fn(&Device, FloatDType) -> bool,
    dtype: FloatDType,
) -> Result<Device, BackendError> {
    let refused = |reason: String| Err(BackendError::DType { backend, dtype, reason });
    if !supports(&device, dtype) {
        return refused("the device has no such type".into());
    }
    match device.configure(dtype) {
        Ok(()) => Ok(device),
        // Configured before, by whoever opened it first.
        Err(_) if device.settings().float_dtype == dtype => Ok(device),
        Err(error) => refused(error.to_string()),
    }
}

fn find(name: Option<&str>) -> Result<(&'static BackendEntry, Device), BackendError> {
    let available = || match BACKENDS {
        [] => "none".to_string(),
        some => some.iter().map(|backend| backend.name).collect::<Vec<_>>().join(", "),
    };
    let Some(wanted) = name else {
        let mut failure = BackendError::Unknown { name: "any".into(), available: available() };
        let mut software = None;
        for backend in BACKENDS {
            match (backend.open)(0) {
                Ok(device) if is_software(&device) => software = software.or(Some((backend, device))),
                Ok(device) => return Ok((backend, device)),
                Err(error) => {
                    tracing::debug!(%error, "passing over a backend");
                    failure = error;
                }
            }
        }
        return software.ok_or(failure);
    };
    let (name, index) = match wanted.split_once(':') {
        None => (wanted, 0),
        Some((name, index)) => match index.parse() {
            Ok(index) => (name, index),
            Err(_) => return Err(BackendError::Unknown { name: wanted.into(), available: available() }),
        },
    };
    match BACKENDS.iter().find(|backend| backend.name == name) {
        Some(backend) => Ok((backend, (backend.open)(index)?)),
        None if NAMES.contains(&name) => {
            Err(BackendError::NotCompiled { name: name.into(), available: available() })
        }
        None => Err(BackendError::Unknown { name: wanted.into(), available: available() }),
    }
}

/// What a GPU backend's device calls itself, as in `NVIDIA H100 PCIe`; `None` for a CPU backend.
#[must_use]
pub fn adapter(device: &Device) -> Option<String> {
    #[cfg(cube)]
    return device.identity().map(|identity| identity.name);
    #[cfg(not(cube))]
    {
        let _ = device;
        None
    }
}

/// Whether a GPU backend's device is no card, but a program that stands in for one.
fn is_software(device: &Device) -> bool {
    #[cfg(cube)]
    return device.identity().is_some_and(|identity| identity.physical.is_none());
    #[cfg(not(cube))]
    {
        let _ = device;
        false
    }
}

/// Opens a device once: runtimes of GPUs can be set up a single time in a process.
#[allow(dead_code)] // a build with CPU backends alone has nothing to remember
fn open_once(
    backend: &'static str,
    index: usize,
    open: impl FnOnce() -> Result<Device, String>,
) -> Result<Device, BackendError> {
    type Opened = HashMap<(&'static str, usize), Result<Device, BackendError>>;
    static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = opened.get_or_insert_default();
    if let Some(result) = opened.get(&(backend, index)) {
        return result.clone();
    }
    // Drivers' loaders panic where a library is missing; that is an answer like any other.
    let result = panic::catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            Err(text.or(cause.downcast_ref::<&str>().copied()).unwrap_or("its driver panicked").to_string())
        })
        .map_err(|reason| {
            let reason = reason.lines().next().unwrap_or_default().trim().to_string();
            BackendError::NoAdapter { backend, index, reason }
        });
    opened.insert((backend, index), result.clone());
    result
}

/// A CPU backend has one device.
#[allow(dead_code)] // a build with GPU backends alone does not ask
fn only_device(backend: &'static str, index: usize, device: Device) -> Result<Device, BackendError> {
    if index == 0 {
        return Ok(device);
    }
    Err(BackendError::NoAdapter { backend, index, reason: "a CPU backend has the device 0 alone".into() })
}

/// The CPU, by Burn's Flex backend: SIMD and threads, AVX2 or AVX-512 chosen at run time.
#[cfg(feature = "flex")]
#[derive(Debug)]
pub enum Flex {}

#[cfg(feature = "flex")]
impl TensorBackend for Flex {
    type Burn = burn::backend::Flex;
    const NAME: &'static str = "flex";
    const DESCRIPTION: &'static str = "CPU, with SIMD and threads";

    fn open(index: usize) -> Result<Device, BackendError> {
        only_device(Self::NAME, index, Device::flex())
    }
}

/// The CPU, by Burn's older ndarray backend: slow, kept to check the others against.
#[cfg(feature = "ndarray")]
#[derive(Debug)]
pub enum NdArray {}

#[cfg(feature = "ndarray")]
#[allow(deprecated)]
impl TensorBackend for NdArray {
    type Burn = burn::backend::NdArray;
    const NAME: &'static str = "ndarray";
    const DESCRIPTION: &'static str = "CPU, by ndarray: slow, for checking";

    fn open(index: usize) -> Result<Device, BackendError> {
        only_device(Self::NAME, index, Device::ndarray())
    }
}

#[cfg(wgpu)]
fn open_wgpu(
    name: &'static str,
    index: usize,
    api: burn::tensor::wgpu::WgpuBackend,
) -> Result<Device, BackendError> {
    use burn::tensor::DeviceKind;
    // 0 is the adapter that wgpu holds for the best, be it discrete, integrated or a CPU's.
    let kind = match index {
        0 => DeviceKind::DefaultDevice,
        _ => DeviceKind::DiscreteGpu(index - 1),
    };
    open_once(name, index, || {
        Device::wgpu_options().device_kind(kind).graphics_api(api).init().map_err(|error| error.to_string())
    })
}

#[cfg(wgpu)]
macro_rules! wgpu_backend {
    ($feature:literal, $marker:ident, $api:ident, $description:literal) => {
        #[doc = concat!($description, ", by wgpu.")]
        #[cfg(feature = $feature)]
        #[derive(Debug)]
        pub enum $marker {}

        #[cfg(feature = $feature)]
        impl TensorBackend for $marker {
            type Burn = burn::backend::Wgpu;
            const NAME: &'static str = $feature;
            const DESCRIPTION: &'static str = $description;

            fn open(index: usize) -> Result<Device, BackendError> {
                open_wgpu(Self::NAME, index, burn::tensor::wgpu::WgpuBackend::$api)
            }
        }
    };
}

#[cfg(wgpu)]
wgpu_backend!("wgpu", Wgpu, Auto, "GPU, with the graphics API that the machine has");
#[cfg(wgpu)]
wgpu_backend!("vulkan", Vulkan, Vulkan, "GPU, with Vulkan");
#[cfg(wgpu)]
wgpu_backend!("metal", Metal, Metal, "GPU, with Metal");
#[cfg(wgpu)]
wgpu_backend!("webgpu", WebGpu, WebGpu, "GPU, with WebGPU");

/// NVIDIA GPUs, by CUDA.
#[cfg(feature = "cuda")]
#[derive(Debug)]
pub enum Cuda {}

#[cfg(feature = "cuda")]
impl TensorBackend for Cuda {
    type Burn = burn::backend::Cuda;
    const NAME: &'static str = "cuda";
    const DESCRIPTION: &'static str = "NVIDIA GPU, with CUDA";

    fn open(index: usize) -> Result<Device, BackendError> {
        open_once(Self::NAME, index, || opened(Device::cuda(index)))
    }
}

/// AMD GPUs, by ROCm.
#[cfg(feature = "rocm")]
#[derive(Debug)]
pub enum Rocm {}

#[cfg(feature = "rocm")]
impl TensorBackend for Rocm {
    type Burn = burn::backend::Rocm;
    const NAME: &'static str = "rocm";
    const DESCRIPTION: &'static str = "AMD GPU, with ROCm";

    fn open(index: usize) -> Result<Device, BackendError> {
        open_once(Self::NAME, index, || opened(Device::rocm(index)))
    }
}

/// A lazy device is known to be there once it has done something.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn opened(device: Device) -> Result<Device, String> {
    device.sync().map_err(|error| error.to_string())?;
    Ok(device)
}
