//! PyTorch's own files, as `torch.save` wrote them: every tensor to the bit, and nothing that a file asks for is run.

use std::path::{Path, PathBuf};

use kiln_checkpoint::{Checkpoint, CheckpointError, Dtype};
use rstest::rstest;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Both hold the same names, types, shapes and bytes.
fn assert_same(found: &Checkpoint, expected: &Checkpoint) {
    let outline = |checkpoint: &Checkpoint| -> Vec<(String, Dtype, Vec<usize>)> {
        checkpoint.tensors().map(|(name, info)| (name.to_owned(), info.dtype, info.shape.to_vec())).collect()
    };
    assert_eq!(outline(found), outline(expected));
    for (name, _) in expected.tensors() {
        let (found, expected) = (found.tensor(name).unwrap(), expected.tensor(name).unwrap());
        assert_eq!(found.as_bytes(), expected.as_bytes(), "{name}");
    }
}

#[rstest]
#[case::zip("tensors.pt", "tensors")]
#[case::protocol_1("tensors_protocol_1.pt", "tensors")]
#[case::protocol_3("tensors_protocol_3.pt", "tensors")]
#[case::protocol_4("tensors_protocol_4.pt", "tensors")]
#[case::protocol_5("tensors_protocol_5.pt", "tensors")]
#[case::legacy("legacy.pt", "legacy")]
#[case::legacy_protocol_4("legacy_protocol_4.pt", "legacy")]
#[case::views("views.pt", "views")]
#[case::views_legacy("views_legacy.pt", "views")]
#[case::a_trainers_checkpoint("checkpoint.pt", "checkpoint")]
#[case::in_model("in_model.pt", "checkpoint")]
#[case::in_params_ema("in_params_ema.pt", "checkpoint")]
#[case::in_module("in_module.pt", "checkpoint")]
#[case::in_two("in_two.pt", "checkpoint")]
fn tensors_are_those_that_torch_saved(#[case] file: &str, #[case] expected: &str) {
    let expected = Checkpoint::open(golden(&format!("{expected}.safetensors"))).unwrap();
    assert!(expected.tensors().count() > 1);
    assert_same(&Checkpoint::open(golden(file)).unwrap(), &expected);
    // Of bytes in memory too, and whatever the file is called.
    assert_same(&Checkpoint::from_bytes(std::fs::read(golden(file)).unwrap()).unwrap(), &expected);
}

/// A prefix of all names is no dict around them; dicts and lists that are the model's own make its names.
#[test]
fn names_are_kept_where_they_belong_to_the_weights() {
    let names = |file: &str| -> Vec<String> {
        Checkpoint::open(golden(file)).unwrap().tensors().map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(names("flat.pt"), ["model.bias", "model.weight"]);
    assert_eq!(names("nested.pt"), ["encoder.layers.0", "encoder.layers.1"]);
}

#[rstest]
#[case::zip("executes.pt", "__builtin__.print")]
#[case::legacy("executes_legacy.pt", "__builtin__.print")]
#[case::pickle_0("executes_0.pkl", "__builtin__.print")]
#[case::pickle_2("executes_2.pkl", "__builtin__.print")]
#[case::pickle_4("executes_4.pkl", "builtins.print")]
#[case::a_module("module.pt", "torch.nn.modules.linear.Linear")]
#[case::a_script("script.pt", "__torch__")]
fn what_a_file_asks_to_run_is_named_and_not_run(#[case] file: &str, #[case] asks: &str) {
    let error = Checkpoint::open(golden(file)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Executes { asks: found, .. } if found.contains(asks)),
        "{error}"
    );
    assert!(error.to_string().contains(file), "{error}");
    assert!(error.to_string().contains(asks), "{error}");
}

#[rstest]
#[case::by_instance(b"(S'ls'\nios\nsystem\n.", "os.system")]
#[case::by_object(b"(cos\nsystem\nS'ls'\no.", "os.system")]
#[case::by_new(b"\x80\x02cbuiltins\neval\nX\x01\0\0\0a\x85\x81.", "builtins.eval")]
#[case::by_reduce_of_the_memo(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x940h\x02)R.", "os.system")]
#[case::by_a_tensors_class(
    b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n)NtR.",
    "os.system"
)]
#[case::by_extension(b"\x80\x02\x82\x01.", "extensions")]
#[case::of_a_value(b"\x80\x02K\x01)R.", "no function")]
fn every_way_to_call_is_refused(#[case] pickle: &'static [u8], #[case] asks: &str) {
    let error = Checkpoint::from_bytes(pickle).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Executes { asks: found, .. } if found.contains(asks)),
        "{error}"
    );
}

#[rstest]
#[case::compressed("deflated.pt", "is compressed")]
#[case::no_tensors("no_tensors.pkl", "no tensors")]
fn files_that_are_none_of_tensors(#[case] file: &str, #[case] reason: &str) {
    let error = Checkpoint::open(golden(file)).unwrap_err();
    assert!(matches!(&error, CheckpointError::PyTorch { .. }), "{error}");
    assert!(error.to_string().contains(file), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

/// Two kilobytes that claim to unpack to two megabytes: the tensor is named, and nothing is unpacked.
#[test]
fn a_zip_bomb_is_refused() {
    let error = Checkpoint::open(golden("bomb.pt")).unwrap_err();
    assert!(matches!(&error, CheckpointError::Entry { tensor, .. } if tensor == "weight"), "{error}");
    assert!(error.to_string().contains("bomb.pt"), "{error}");
    assert!(error.to_string().contains("is compressed, 2049 bytes that claim to be 2097152"), "{error}");
}

/// Cut anywhere, a file is refused.
#[rstest]
#[case("views.pt")]
#[case("views_legacy.pt")]
fn every_prefix_is_refused(#[case] file: &str) {
    let whole = std::fs::read(golden(file)).unwrap();
    for len in 0..whole.len() {
        assert!(Checkpoint::from_bytes(whole[..len].to_vec()).is_err(), "{len} of {} bytes", whole.len());
    }
}
