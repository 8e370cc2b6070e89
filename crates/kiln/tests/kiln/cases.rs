//! Every case of `tests/cases` through `kiln verify`, and any folder of such cases that a variable names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use burn::tensor::TensorData;
use kiln::backend::BACKENDS;
use kiln::checkpoint::{Checkpoint, save_tensors};
use rstest::rstest;

/// The cases of this repository.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases");

/// The cases in a folder, by name.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    cases.retain(|path| path.join("reference.safetensors").is_file());
    cases.sort();
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    cases
}

fn verify(case: &Path, reference: &Path, backend: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kiln"))
        .arg("verify")
        .arg(case.join("checkpoint"))
        .arg(reference)
        .args(["--backend", backend])
        .output()
        .expect("the program starts")
}

/// Runs cases on a backend; a line for each, and those that do not hold.
fn run(cases: &[PathBuf], backend: &str) -> (String, Vec<String>) {
    let (mut table, mut failures) = (String::new(), Vec::new());
    for case in cases {
        let begun = Instant::now();
        let output = verify(case, &case.join("reference.safetensors"), backend);
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
    let cases = cases(Path::new(CASES));
    let (table, failures) = run(&cases, "flex");
    assert!(failures.is_empty(), "{table}\n{}", failures.join("\n"));
}

/// `KILN_REFERENCE_CASES=FOLDER cargo test --workspace --test kiln -- --ignored --nocapture cases_elsewhere`
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

#[rstest]
#[case::missing("encoder_hidden_states", None, "input.encoder_hidden_states is missing")]
// That it does not fit shows where it is added, and nowhere before.
#[case::of_no_use("mid_block_additional_residual", Some([2, 3, 5, 7]), "UNet2DConditionModel can't be computed")]
#[case::half_of_two("mid_block_additional_residual", None, "belong together")]
fn inputs_that_do_not_fit_are_an_error_in_one_line(
    #[case] input: &str,
    #[case] shape: Option<[usize; 4]>,
    #[case] message: &str,
) {
    let folder = Path::new(CASES).join("unet2d_condition_controlled_pooled");
    let reference = Checkpoint::open(folder.join("reference.safetensors")).expect("a case");
    let input = format!("input.{input}");
    assert!(reference.info(&input).is_some(), "the case has no {input}");
    let names = reference.tensors().map(|(name, _)| name).filter(|name| *name != input);
    let mut tensors: BTreeMap<_, _> =
        names.map(|name| (name.to_owned(), reference.tensor(name).expect("readable"))).collect();
    tensors.extend(shape.map(|shape| (input, TensorData::zeros::<f32, _>(shape))));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("reference.safetensors");
    save_tensors(tensors, reference.metadata(), &path).expect("written");
    let output = verify(&folder, &path, "flex");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains(message) && told.lines().count() == 1, "{told}");
}

/// Text encoders inside larger models, under each class that has one: nothing is said of the tensors of the rest.
#[rstest]
#[case::clip("clip_whole", "CLIPModel", &["CLIPModel"])]
#[case::t5(
    "t5_with_decoder",
    "T5ForConditionalGeneration",
    &["T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel", "T5EncoderModel"]
)]
fn the_encoder_of_a_larger_model_is_verified(
    #[case] name: &str,
    #[case] class: &str,
    #[case] classes: &[&str],
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../text/tests/golden").join(name);
    let config = fs::read_to_string(folder.join("checkpoint/config.json")).expect("a config");
    assert!(config.contains(class), "{config}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let checkpoint = dir.path().join("checkpoint");
    fs::create_dir(&checkpoint).expect("made");
    fs::copy(folder.join("checkpoint/model.safetensors"), checkpoint.join("model.safetensors"))
        .expect("copied");
    for other in classes {
        fs::write(checkpoint.join("config.json"), config.replace(class, other)).expect("written");
        let output = verify(dir.path(), &folder.join("reference.safetensors"), "flex");
        assert_eq!(output.status.code(), Some(0), "{other}: {output:?}");
        assert!(output.stderr.is_empty(), "{other}: {output:?}");
    }
}

/// One case for each kind of model, in the types of 16 bits: near PyTorch's numbers in f32, and no nearer than such types can
/// be. The bound is the largest error over the largest value.
#[rstest]
#[case::unet2d("unet2d_ddpm_2022", 1e-2, 5e-2)]
#[case::unet2d_condition("unet2d_condition_sdxl", 1e-2, 1e-1)]
#[case::controlnet("controlnet_sdxl", 1e-2, 1e-1)]
#[case::sd3_transformer("sd3_transformer_dual", 1e-2, 5e-2)]
#[case::sd3_controlnet("sd3_controlnet_extra", 1e-2, 5e-2)]
#[case::guided("guided_half_width", 1e-2, 5e-2)]
#[case::consistency("guided_consistency", 3e-2, 2e-1)]
#[case::autoencoder("autoencoder_three_stages", 1e-2, 5e-2)]
#[case::clip("clip_projection", 1e-2, 5e-2)]
#[case::t5("t5_gelu", 1e-2, 5e-2)]
fn cases_hold_in_16_bits(#[case] name: &str, #[case] f16: f64, #[case] bf16: f64) {
    for (dtype, bound) in [("f16", f16), ("bf16", bf16)] {
        for (tolerance, status) in [(bound, 0), (1e-5, 1)] {
            let case = Path::new(CASES).join(name);
            let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
                .arg("verify")
                .args([case.join("checkpoint"), case.join("reference.safetensors")])
                .args(["--backend", "flex", "--dtype", dtype, "--tolerance", &tolerance.to_string()])
                .output()
                .expect("the program starts");
            assert_eq!(output.status.code(), Some(status), "{dtype} within {tolerance}: {output:?}");
        }
    }
}
