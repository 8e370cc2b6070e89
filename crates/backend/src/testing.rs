//! For tests that run on every backend compiled in: a device, or a word that the machine has none.

use burn::tensor::Device;

use crate::BACKENDS;

/// The variable that names backends which must have an adapter, separated by commas: a test run that sets it fails
/// where another one would skip.
pub const REQUIRED: &str = "KILN_REQUIRE_BACKENDS";

/// The variable that narrows tests down to the backends it names, separated by commas: for quick turns on one of them.
pub const ONLY: &str = "KILN_ONLY_BACKENDS";

fn named_in(variable: &str, name: &str) -> Option<bool> {
    std::env::var(variable).ok().map(|names| names.split(',').any(|listed| listed.trim() == name))
}

/// The device of a backend that is compiled in, for a test. Where the machine has no adapter for it, `None`, and a
/// line on standard error that says so; `None` too where [`ONLY`] leaves it out.
///
/// # Panics
/// If the backend is not compiled in, or has no adapter although [`REQUIRED`] names it.
#[allow(clippy::print_stderr)] // it speaks to who runs the tests
pub fn device(name: &str) -> Option<Device> {
    let Some(backend) = BACKENDS.iter().find(|backend| backend.name == name) else {
        panic!("a test asks for the backend `{name}`, which is not compiled in");
    };
    if named_in(ONLY, name) == Some(false) {
        return None;
    }
    match (backend.open)(0) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(named_in(REQUIRED, name) != Some(true), "{REQUIRED} names `{name}`, but {error}");
            eprintln!("skipped on `{name}`: {error}");
            None
        }
    }
}

/// The devices of all backends compiled in that have an adapter, each with its name: for tests that loop over them.
pub fn devices() -> impl Iterator<Item = (&'static str, Device)> {
    BACKENDS.iter().filter_map(|backend| Some((backend.name, device(backend.name)?)))
}
