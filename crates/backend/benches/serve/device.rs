//! Kiln's devices, as a bench's command line names them.

use burn::tensor::Device;

/// The device of a backend that computes in the type of this name, and what it calls itself.
pub fn open(backend: &str, dtype: &str) -> Result<(Device, String), String> {
    let dtype = serde_json::from_value(dtype.to_uppercase().into()).map_err(|error| error.to_string())?;
    let device = kiln_backend::open_with(Some(backend), dtype).map_err(|error| error.to_string())?;
    let name = kiln_backend::adapter(&device).unwrap_or_else(|| "CPU".into());
    Ok((device, name))
}

/// Waits until it has done all that it was given.
pub fn sync(device: &Device) -> Result<(), String> {
    device.sync().map_err(|error| error.to_string())
}
