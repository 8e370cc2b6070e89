//! Every case of `tests/cases` through `kiln verify`, and any folder of such cases that a variable names.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use kiln::backend::BACKENDS;

/// Cases of classes that the program does not verify.
const LATER: [&str; 4] = ["scheduler_", "pipeline_", "detr", "train_detr"];

/// The program: beside this test's own folder, as cargo builds both for the workspace.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let program = folder.join(format!("kiln{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is not built: run this with `cargo test --workspace`", program.display());
    program
}

/// The cases in a folder, by name.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    cases.retain(|path| path.join("reference.safetensors").is_file());
    cases.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !LATER.iter().any(|prefix| name.starts_with(prefix))
    });
    cases.sort();
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    cases
}

/// Runs cases on a backend; a line for each, and those that do not hold.
fn run(cases: &[PathBuf], backend: &str) -> (String, Vec<String>) {
    let (mut table, mut failures) = (String::new(), Vec::new());
    for case in cases {
        let begun = Instant::now();
        let output = Command::new(program())
            .arg("verify")
            .arg(case.join("checkpoint"))
            .arg(case.join("reference.safetensors"))
            .args(["--backend", backend])
            .output()
            .expect("the program starts");
        let told = String::from_utf8_lossy(&output.stdout);
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        let seconds = begun.elapsed().as_secs_f64();
        // The columns of a row: name, shape, absolute and relative error, verdict.
        let relative = |line: &str| line.split_whitespace().rev().nth(1)?.parse::<f64>().ok();
        let worst =
            told.lines().filter(|line| line.ends_with("  ok")).filter_map(relative).fold(0.0, f64::max);
        let _ = writeln!(table, "{backend:8} {name:40} {worst:10.3e} {seconds:6.1} s");
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            failures.push(format!("{name} on {backend}: {}\n{told}{complaint}", output.status));
        }
    }
    (table, failures)
}

#[test]
fn every_case_of_this_repository() {
    let cases = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"));
    let (table, failures) = run(&cases, "flex");
    assert!(failures.is_empty(), "{table}\n{}", failures.join("\n"));
}

/// `KILN_REFERENCE_CASES=FOLDER cargo test --workspace --test kiln_tests -- --ignored --nocapture cases_elsewhere`
#[test]
#[ignore = "asks for a folder of cases in KILN_REFERENCE_CASES"]
#[allow(clippy::print_stdout)] // the table is what it is run for
fn cases_elsewhere_on_every_backend() {
    let folder =
        std::env::var_os("KILN_REFERENCE_CASES").expect("KILN_REFERENCE_CASES names a folder of cases");
    let cases = cases(Path::new(&folder));
    let only = std::env::var(kiln::backend::testing::ONLY).ok();
    let mut failures = Vec::new();
    for backend in BACKENDS {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|name| name.trim() == backend.name)) {
            continue;
        }
        let (table, failed) = run(&cases, backend.name);
        print!("{table}");
        failures.extend(failed);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
