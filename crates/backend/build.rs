//! Two names, `wgpu` and `cube` (any backend that CubeCL runs), so that the lists of features stand in one place.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(cube)");
    println!("cargo::rustc-check-cfg=cfg(wgpu)");
    println!("cargo::rerun-if-changed=build.rs");
    let on =
        |features: &[&str]| features.iter().any(|f| std::env::var_os(format!("CARGO_FEATURE_{f}")).is_some());
    let wgpu = on(&["WGPU", "VULKAN", "METAL", "WEBGPU"]);
    if wgpu {
        println!("cargo::rustc-cfg=wgpu");
    }
    if wgpu || on(&["CUDA", "ROCM"]) {
        println!("cargo::rustc-cfg=cube");
    }
}
