//! The program, run as a user runs it, and the model that is in it.

#[path = "kiln/annotate.rs"]
mod annotate;
#[path = "kiln/cases.rs"]
mod cases;
#[path = "kiln/convert.rs"]
mod convert;
#[path = "kiln/detect.rs"]
mod detect;
#[path = "kiln/generate.rs"]
mod generate;
#[path = "kiln/hub.rs"]
mod hub;
#[path = "../../checkpoint/tests/checkpoint/hub_server.rs"]
mod hub_server;
#[path = "kiln/info.rs"]
mod info;
#[path = "kiln/mistakes.rs"]
mod mistakes;
#[path = "kiln/pipelines.rs"]
mod pipelines;
#[path = "kiln/quadratic.rs"]
mod quadratic;
// With the feature `remote`, which is off by default: docs/src/backends.md tells how.
#[cfg(feature = "remote")]
#[path = "kiln/remote.rs"]
mod remote;
#[path = "kiln/train.rs"]
mod train;
#[path = "kiln/train_autoregressive.rs"]
mod train_autoregressive;
#[path = "kiln/train_control.rs"]
mod train_control;
#[path = "kiln/train_detector.rs"]
mod train_detector;
#[path = "kiln/upscale.rs"]
mod upscale;
#[path = "kiln/verify.rs"]
mod verify;

use std::path::Path;
use std::process::{Command, Output};

/// The program with these arguments, on the CPU, in `dir`.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.current_dir(dir).args(arguments).args(["--backend", "flex"]);
    command
}

fn kiln(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().expect("the program starts")
}

/// The program with these arguments and no other, for commands that compute nothing.
fn bare(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.current_dir(dir).args(arguments).output().expect("the program starts")
}

/// The program succeeds; what it printed.
#[track_caller]
fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = kiln(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The program ends with status 2 and one line that contains `message`.
#[track_caller]
fn fails(dir: &Path, arguments: &[&str], message: &str) {
    let output = kiln(dir, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(told.contains(message), "{arguments:?}: {told}");
    let lines: Vec<_> = told.lines().filter(|line| line.starts_with("kiln: ")).collect();
    assert_eq!(lines.len(), 1, "{arguments:?}: {told}");
    assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
}

/// A small IDX data set of squares (class 1) and dots (class 0), 8 x 8.
fn idx(dir: &Path, count: u32) {
    let mut images = [0x0000_0803_u32, count, 8, 8].map(u32::to_be_bytes).concat();
    let mut labels = [0x0000_0801_u32, count].map(u32::to_be_bytes).concat();
    for i in 0..count {
        let side = if i % 2 == 0 { 1 } else { 4 };
        images.extend((0..64).map(|p| if p / 8 < side && p % 8 < side { 255 } else { (i % 7) as u8 }));
        labels.push((i % 2) as u8);
    }
    std::fs::create_dir_all(dir).expect("a temporary folder");
    std::fs::write(dir.join("train-images-idx3-ubyte"), images).expect("written");
    std::fs::write(dir.join("train-labels-idx1-ubyte"), labels).expect("written");
}
