//! `kiln convert`.

use std::fs;
use std::path::Path;

use kiln::checkpoint::{Contents, Dtype, StoredModel};

use crate::bare;
use crate::verify::{reference, write_model, write_reference};

fn model(folder: &Path) -> StoredModel {
    match Contents::open(folder).unwrap() {
        Contents::Model(model) => model,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_keeps_its_numbers_in_another_type() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    write_reference(reference(), "{}", &dir.path().join("reference.safetensors"));
    for (dtype, stored, tolerance) in
        [(None, Dtype::F32, "1e-6"), (Some("f16"), Dtype::F16, "1e-2"), (Some("bf16"), Dtype::BF16, "5e-2")]
    {
        let out = format!("out-{}", dtype.unwrap_or("as-it-is"));
        let mut arguments = vec!["convert", "model", &out];
        arguments.extend(dtype.iter().flat_map(|dtype| ["--dtype", dtype]));
        let output = bare(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.starts_with(&format!("{out}: UNet2DModel, ")) && told.lines().count() == 1, "{told}");

        let converted = model(&dir.path().join(&out));
        assert!(converted.weights.tensors().all(|(_, info)| info.dtype == stored));
        let verified = bare(
            dir.path(),
            &["verify", &out, "reference.safetensors", "--backend", "flex", "--tolerance", tolerance],
        );
        assert_eq!(verified.status.code(), Some(0), "{out}: {verified:?}");
    }
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/mine.txt"), "mine").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let output = bare(dir.path(), &["convert", "model", "full"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("full") && told.lines().count() == 1, "{told}");
    assert_eq!(fs::read_dir(dir.path().join("full")).unwrap().count(), 1);
    assert_eq!(bare(dir.path(), &["convert", "model", "empty"]).status.code(), Some(0));
    assert_eq!(bare(dir.path(), &["convert", "model", "model"]).status.code(), Some(2), "onto itself");
}

#[test]
fn what_cannot_be_read_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("model"));
    let weights = dir.path().join("model/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 4]).unwrap();
    for from in ["model", "./none"] {
        let output = bare(dir.path(), &["convert", from, "out"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!dir.path().join("out").exists());
    }
    // Only the model is in the folder: no half-written one beside it.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
