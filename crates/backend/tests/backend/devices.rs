//! Opening devices by name.

use kiln_backend::{BACKENDS, BackendError, open};
use rstest::rstest;

#[test]
fn without_a_name_the_best_that_is_no_program() {
    let device = open(None).expect("Flex needs no adapter");
    let found = BACKENDS.iter().find(|backend| (backend.open)(0) == Ok(device.clone()));
    let found = found.expect("a device of one of the backends").name;
    // Whatever this machine has, the slow backend that is there for checking is never chosen over Flex.
    assert_ne!(found, "ndarray");
    #[cfg(all(feature = "flex", feature = "vulkan"))]
    if let Ok(vulkan) = open(Some("vulkan")) {
        let card = vulkan.identity().is_some_and(|identity| identity.physical.is_some());
        assert_eq!(found == "flex", !card, "{found}");
    }
}

#[test]
fn a_device_opened_twice_is_the_same() {
    for backend in BACKENDS {
        if let Ok(first) = (backend.open)(0) {
            assert_eq!(Ok(first), open(Some(backend.name)), "{}", backend.name);
        }
    }
}

#[rstest]
#[case::unknown("abacus", "there is no backend `abacus`")]
#[case::index_is_no_number("flex:one", "there is no backend `flex:one`")]
#[case::index_of_a_cpu("flex:7", "no adapter 7")]
#[case::empty("", "there is no backend ``")]
fn mistakes_are_told(#[case] name: &str, #[case] message: &str) {
    let error = open(Some(name)).expect_err("no such device");
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[test]
fn a_backend_that_is_not_compiled_in_says_how_to_get_it() {
    let missing = ["cuda", "rocm", "metal", "vulkan", "webgpu", "wgpu", "ndarray"];
    for name in missing.into_iter().filter(|name| BACKENDS.iter().all(|backend| backend.name != *name)) {
        let error = open(Some(name)).expect_err("not compiled in");
        assert!(matches!(error, BackendError::NotCompiled { .. }), "{error}");
        assert!(error.to_string().contains(&format!("--features {name}")), "{error}");
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_and_no_panic() {
    for backend in BACKENDS {
        let error = (backend.open)(99).expect_err("no machine has a hundred adapters");
        assert!(matches!(error, BackendError::NoAdapter { index: 99, .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
