//! How much memory it takes to load a module, and to refuse a file. Each is measured in a process of its own: this test binary
//! again, with one of the ignored tests below.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a process tells the one that started it what it has measured")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;
use kiln_checkpoint::{Checkpoint, Contents, Dtype, parameters};
use rstest::rstest;

use crate::hostile;

const PATH: &str = "KILN_TEST_PATH";
/// What refusing a file may take beside its size.
const ALLOWANCE: u64 = 32 << 20;

/// 52 million parameters, 209 MB in f32; the largest tensor is a quarter of them.
#[derive(Module, Debug)]
struct Large {
    convolutions: Vec<Conv2d>,
    projections: Vec<Linear>,
}

fn large(device: &Device) -> Large {
    let convolution = || Conv2dConfig::new([1280, 1152], [3, 3]).init(device);
    let projection = || LinearConfig::new(2048, 2048).init(device);
    Large {
        convolutions: (0..3).map(|_| convolution()).collect(),
        projections: vec![projection(), projection()],
    }
}

/// This binary with the ignored test `name` alone, under a limit of `data` bytes on what it may allocate.
fn run(name: &str, path: &Path, data: Option<u64>) -> Output {
    let limit = data.map_or_else(|| "unlimited".to_owned(), |bytes| (bytes / 1024).to_string());
    Command::new("sh")
        .args(["-c", &format!("ulimit -d {limit} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .output()
        .unwrap()
}

fn said(output: &Output, key: &str) -> u64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.lines().find_map(|line| line.split_once(key)).map(|(_, value)| value.trim());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {output:?}"))
}

/// A field of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(key)).expect("on Linux");
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn path() -> PathBuf {
    std::env::var_os(PATH).expect("run by another test").into()
}

/// Peak anonymous memory stays under 1.25 times the parameters, in whatever type they are stored. The same with Stable
/// Diffusion 1.5's own U-Net is `tests/examples/memory.rs`.
#[rstest]
#[case::f32(Dtype::F32)]
#[case::f16(Dtype::F16)]
#[case::bf16(Dtype::BF16)]
fn loading_takes_the_memory_of_the_parameters(#[case] stored: Dtype) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let parameters = parameters(&large(&Device::flex()));
    let (mut offset, mut count) = (0, 0);
    let entries: Vec<_> = parameters
        .iter()
        .map(|parameter| {
            let elements: usize = parameter.shape.iter().product();
            let start = offset;
            offset += elements * stored.bitsize() / 8;
            count += elements as u64;
            format!(
                r#""{}":{{"dtype":"{stored}","shape":{:?},"data_offsets":[{start},{offset}]}}"#,
                parameter.name, parameter.shape
            )
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    std::fs::write(&path, &file).unwrap();
    // All zeros, which the disk need not store.
    let all = (file.len() + offset) as u64;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(all).unwrap();

    let output = run("memory::in_a_process_of_its_own_loads", &path, None);
    assert!(output.status.success(), "{output:?}");
    let (size, peak) = (4 * count, said(&output, "peak: "));
    assert!(peak > size, "{peak} of {size} bytes: nothing was measured");
    assert!(peak < size * 5 / 4, "{peak} bytes for {size} of parameters");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn in_a_process_of_its_own_loads() {
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(status("RssAnon:"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let loaded = Checkpoint::open(path()).unwrap().load_into(large(&Device::flex())).unwrap();
        assert!(loaded.surplus.is_empty());
        done.store(true, Ordering::Relaxed);
    });
    println!("peak: {}", peak.into_inner());
}

/// A file that lies is refused with no more memory than it has bytes: the system gives no more than that and a fixed
/// allowance, and the process ends where it asks for more.
#[test]
fn refusing_takes_no_more_memory_than_the_file_has_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing");
    std::fs::write(&nothing, "").unwrap();
    let before = said(&run("memory::in_a_process_of_its_own_refuses", &nothing, None), "before: ");
    for (name, path) in hostile::files(folder.path()) {
        let len: u64 = if path.is_dir() {
            path.read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
        } else {
            path.metadata().unwrap().len()
        };
        let output = run("memory::in_a_process_of_its_own_refuses", &path, Some(before + len + ALLOWANCE));
        assert!(output.status.success(), "{name} of {len} bytes: {output:?}");
    }
}

/// The limit is one: a process that asks for more than it may have is ended.
#[test]
fn the_limit_is_enforced() {
    let nothing = tempfile::NamedTempFile::new().unwrap();
    let before = said(&run("memory::in_a_process_of_its_own_refuses", nothing.path(), None), "before: ");
    assert!(
        !run("memory::in_a_process_of_its_own_wastes", nothing.path(), Some(before + ALLOWANCE))
            .status
            .success()
    );
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn in_a_process_of_its_own_refuses() {
    println!("before: {}", status("VmData:"));
    let error = Contents::open(path()).expect_err("a file that lies");
    println!("{error}");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn in_a_process_of_its_own_wastes() {
    std::hint::black_box(vec![1u8; ALLOWANCE as usize + (1 << 20)]);
}
