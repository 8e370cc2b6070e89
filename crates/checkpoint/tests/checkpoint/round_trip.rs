//! Named tensors, notes, and files that appear whole or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use burn::tensor::{BoolStore, DType, TensorData};
use kiln_checkpoint::{Checkpoint, CheckpointError, save_tensors, tensors_to_bytes, write_atomically};
use proptest::prelude::*;

fn notes() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("step".to_owned(), "12".to_owned()),
        ("note".to_owned(), "line\n\"quoted\" é".to_owned()),
    ])
}

#[test]
fn tensors_of_every_type_and_notes_come_back() {
    let half = |dtype| TensorData::from([1.5f32, -2.0, 0.1]).convert_dtype(dtype);
    let tensors = BTreeMap::from([
        ("f64".to_owned(), TensorData::from([0.1f64, f64::MAX])),
        ("f32".to_owned(), TensorData::from([[0.1f32], [f32::NAN]])),
        ("f16".to_owned(), half(DType::F16)),
        ("bf16".to_owned(), half(DType::BF16)),
        ("i64".to_owned(), TensorData::from([i64::MIN, i64::MAX])),
        ("i32".to_owned(), TensorData::from([i32::MIN])),
        ("i16".to_owned(), TensorData::from([i16::MIN])),
        ("i8".to_owned(), TensorData::from([i8::MIN])),
        ("u64".to_owned(), TensorData::from([u64::MAX])),
        ("u32".to_owned(), TensorData::from([u32::MAX])),
        ("u16".to_owned(), TensorData::from([u16::MAX])),
        ("u8".to_owned(), TensorData::from([1u8, 255, 3])),
        ("bool".to_owned(), TensorData::from_bytes_vec(vec![1, 0, 1], [3], DType::Bool(BoolStore::Native))),
        ("empty".to_owned(), TensorData::new(Vec::<f32>::new(), [0, 4])),
        ("scalar".to_owned(), TensorData::new(vec![3.0f32], [0_usize; 0])),
    ]);
    let file = Checkpoint::from_bytes(tensors_to_bytes(tensors.clone(), &notes()).unwrap()).unwrap();
    assert_eq!(file.metadata(), &notes());
    assert_eq!(file.tensors().count(), tensors.len());
    for (name, expected) in &tensors {
        let found = file.tensor(name).unwrap();
        assert_eq!((found.shape(), found.dtype()), (expected.shape(), expected.dtype()), "{name}");
        assert_eq!(found.as_bytes(), expected.as_bytes(), "{name}");
    }
}

/// The safetensors crate, which Python's uses too, reads what is written here, and the reverse.
#[test]
fn the_safetensors_crate_agrees() {
    let tensors = BTreeMap::from([
        ("wide".to_owned(), TensorData::from([1i64])),
        ("narrow".to_owned(), TensorData::from([1u8, 2, 3])),
        ("middle".to_owned(), TensorData::from([1.0f32, 2.0])),
    ]);
    let bytes = tensors_to_bytes(tensors.clone(), &notes()).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, data) in &tensors {
        let view = theirs.tensor(name).unwrap();
        assert_eq!((view.data(), view.shape()), (data.as_bytes(), &data.shape()[..]), "{name}");
        let aligned = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(aligned % data.dtype().size(), 0, "{name} is aligned to its own width");
    }
    let views = theirs.tensors();
    let again = Checkpoint::from_bytes(safetensors::serialize(views, None).unwrap()).unwrap();
    assert_eq!(again.tensors().count(), 3);
}

#[test]
fn a_file_of_nothing_is_a_file() {
    let file = Checkpoint::from_bytes(tensors_to_bytes(BTreeMap::new(), &BTreeMap::new()).unwrap()).unwrap();
    assert_eq!(file.tensors().count(), 0);
    assert!(matches!(file.tensor("x"), Err(CheckpointError::Missing { .. })));
}

#[test]
fn the_formats_own_name_is_refused() {
    let tensors = BTreeMap::from([("__metadata__".to_owned(), TensorData::from([1.0f32]))]);
    assert!(matches!(tensors_to_bytes(tensors, &BTreeMap::new()), Err(CheckpointError::Unsaveable { .. })));
}

fn names_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    for before in [None, Some("whole")] {
        if let Some(before) = before {
            std::fs::write(&path, before).unwrap();
        }
        let outcome = write_atomically(&path, |out| -> io::Result<()> {
            out.write_all(&[0; 4 << 20])?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(outcome.unwrap_err().to_string(), "the disk is full");
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), before);
        assert_eq!(names_in(folder.path()).len(), usize::from(before.is_some()), "no unfinished file stays");
    }
}

/// A reader sees the old file or the new one at every moment.
#[test]
fn a_reader_never_sees_half_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let file =
        |fill: f32| BTreeMap::from([("x".to_owned(), TensorData::new(vec![fill; 100_000], [100_000]))]);
    save_tensors(file(0.0), &BTreeMap::new(), &path).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for fill in 1..40 {
                save_tensors(file(fill as f32), &BTreeMap::new(), &path).unwrap();
            }
        });
        let mut reads = 0;
        while !writer.is_finished() || reads == 0 {
            let values: Vec<f32> = Checkpoint::open(&path).unwrap().tensor("x").unwrap().iter().collect();
            assert!(values.iter().all(|value| *value == values[0]));
            reads += 1;
        }
    });
    assert_eq!(names_in(folder.path()), ["model"]);
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("no/such/folder/model.safetensors");
    for path in [nowhere.as_path(), folder.path()] {
        let error = save_tensors(BTreeMap::new(), &BTreeMap::new(), path).unwrap_err();
        assert!(matches!(&error, CheckpointError::Io { action: "write", .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert!(names_in(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_is_as_public_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    save_tensors(BTreeMap::new(), &BTreeMap::new(), folder.path().join("model")).unwrap();
    assert_eq!(mode("model"), mode("plain"));
}

proptest! {
    #[test]
    fn any_tensors_round_trip(
        tensors in prop::collection::btree_map("[a-z._0-9é\"\\\\]{1,12}", prop::collection::vec(any::<f32>(), 0..20), 0..8),
        metadata in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4),
    ) {
        let tensors: BTreeMap<_, _> = tensors
            .into_iter()
            .map(|(name, values)| { let len = values.len(); (name, TensorData::new(values, [len])) })
            .collect();
        let file = Checkpoint::from_bytes(tensors_to_bytes(tensors.clone(), &metadata).unwrap()).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        for (name, data) in &tensors {
            let found = file.tensor(name).unwrap();
            prop_assert_eq!(found.as_bytes(), data.as_bytes());
        }
    }
}
