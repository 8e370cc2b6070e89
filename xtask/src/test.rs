//! `cargo xtask test`: all that must hold before a change lands, the cheapest first.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{process, tidy};

/// The options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Backends to compile in beside flex, as in `vulkan,ndarray`.
    #[arg(long, value_delimiter = ',')]
    backends: Vec<String>,
    /// A file to write the test runner's own summary to.
    #[arg(long, value_name = "PATH")]
    summary: Option<std::path::PathBuf>,
}

/// The README's main-job command; here it gets an `--out` too.
const MAIN_JOB: &str = "cargo run --release -- generate --class 7 --count 16";
const MAIN_JOB_COUNT: u32 = 16;
/// The edge of a digit of the embedded model.
const DIGIT: u32 = 28;

/// Does every step and stops at the first that fails.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    // One feature set and one profile for all steps but the last: nothing is built twice.
    let features = workspace.feature_arguments(&options.backends)?;
    let cargo = || process::cargo(&workspace.root);
    let mut steps = Steps::default();
    let mut summary = Vec::new();

    steps.step("format", || {
        process::run(cargo().args(["fmt", "--all", "--", "--check"]))?;
        ["tests/standalone/Cargo.toml", "tests/candle/Cargo.toml"].into_iter().try_for_each(|alone| {
            process::run(cargo().args(["fmt", "--manifest-path", alone, "--", "--check"]))
        })
    })?;
    steps.step("tidy", || tidy::check(workspace))?;
    steps.step("clippy", || {
        let mut command = cargo();
        command.args(["clippy", "--locked", "--workspace", "--all-targets"]).args(&features);
        process::run(command.args(["--", "-D", "warnings"]))
    })?;
    summary.extend(steps.step("tests", || {
        let nextest = process::works(cargo().args(["nextest", "--version"]));
        let runner: &[&str] =
            if nextest { &["nextest", "run"] } else { &["test", "--no-fail-fast", "--tests"] };
        let mut command = cargo();
        command.args(runner).args(["--locked", "--workspace"]).args(&features);
        process::run_and_keep(&mut command, is_summary)
    })?);
    summary.extend(steps.step("doc tests", || {
        let mut command = cargo();
        command.args(["test", "--locked", "--doc", "--workspace"]).args(&features);
        process::run_and_keep(&mut command, is_summary)
    })?);
    steps.step("rustdoc", || {
        let mut command = cargo();
        command.args(["doc", "--locked", "--workspace", "--no-deps"]).args(&features);
        process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("main job (release)", || {
        let readme = workspace.root.join("README.md");
        let text = std::fs::read_to_string(&readme).context("cannot read README.md")?;
        if !text.contains(MAIN_JOB) {
            bail!("README.md does not give the main job as `{MAIN_JOB}`");
        }
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let picture = folder.path().join("digits.png");
        let mut command = cargo();
        command.args(MAIN_JOB.split_whitespace().skip(1)).arg("--out").arg(&picture);
        process::run(&mut command)?;
        check_picture(&picture)
    })?;

    steps.print();
    println!();
    summary.iter().for_each(|line| println!("{line}"));
    if let Some(path) = &options.summary {
        let text: String = summary.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("cargo xtask test: all steps passed");
    Ok(())
}

/// Whether a line is a test runner's own summary: nextest's, or cargo test's.
fn is_summary(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("Summary [") || line.starts_with("test result:")
}

/// Holds the main job's picture to what the README promises: a PNG of sixteen digits, and not a blank one.
fn check_picture(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("the main job wrote no {}", path.display()))?;
    let mut reader = png::Decoder::new(BufReader::new(file))
        .read_info()
        .with_context(|| format!("{} is no PNG", path.display()))?;
    let size = reader.output_buffer_size().context("the picture is too large for memory")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).with_context(|| format!("{} is cut short", path.display()))?;
    if frame.width * frame.height < MAIN_JOB_COUNT * DIGIT * DIGIT {
        let (width, height) = (frame.width, frame.height);
        bail!(
            "the picture of {width} x {height} is too small for {MAIN_JOB_COUNT} digits of {DIGIT} x {DIGIT}"
        );
    }
    let (darkest, brightest) = pixels[..frame.buffer_size()]
        .iter()
        .fold((u8::MAX, u8::MIN), |(low, high), &pixel| (low.min(pixel), high.max(pixel)));
    if brightest.saturating_sub(darkest) < 128 {
        bail!("the picture is blank: its values run from {darkest} to {brightest}");
    }
    println!("    {} x {}, values from {darkest} to {brightest}", frame.width, frame.height);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_png(path: &Path, edge: u32, pixel: impl Fn(u32) -> u8) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), edge, edge);
        encoder.set_color(png::ColorType::Grayscale);
        let pixels: Vec<u8> = (0..edge * edge).map(pixel).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    }

    #[test]
    fn a_picture_must_be_whole_large_and_not_blank() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digits.png");
        assert!(check_picture(&path).unwrap_err().to_string().contains("wrote no"));
        write_png(&path, 112, |i| (i % 256) as u8);
        check_picture(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(check_picture(&path).unwrap_err().to_string().contains("cut short"));
        write_png(&path, 112, |_| 9);
        assert!(check_picture(&path).unwrap_err().to_string().contains("blank"));
        write_png(&path, 28, |i| (i % 256) as u8);
        assert!(check_picture(&path).unwrap_err().to_string().contains("too small"));
    }

    #[test]
    fn summaries_of_both_runners_are_known() {
        assert!(is_summary("     Summary [   1.234s] 100 tests run: 100 passed, 0 skipped"));
        assert!(is_summary("test result: ok. 3 passed; 0 failed; 0 ignored"));
        assert!(!is_summary("test summaries ... ok"));
    }
}
