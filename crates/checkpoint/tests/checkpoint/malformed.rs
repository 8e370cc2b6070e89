//! Files that are not what they say: each is an error that names file and tensor.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use kiln_checkpoint::{Checkpoint, CheckpointError, tensors_to_bytes};
use rstest::rstest;

/// A file of this header and so many zero bytes.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[rstest]
#[case::out_of_range(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 8, "a", "beyond the end")]
#[case::far_out_of_range(
    r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
    8,
    "a",
    "beyond"
)]
#[case::overlap(
    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
    12, "b", "overlaps")]
#[case::same_place(
    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
    8, "b", "overlaps")]
#[case::gap(
    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
    12, "b", "gap")]
#[case::backwards(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, "a", "before its start")]
#[case::too_short_for_its_shape(
    r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
    8,
    "a",
    "takes 12 bytes"
)]
#[case::too_long_for_its_shape(
    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
    8,
    "a",
    "takes 4 bytes"
)]
#[case::overflow(
    r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}}"#,
    8,
    "a",
    "no number of bytes"
)]
#[case::part_of_a_byte(
    r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#,
    1,
    "a",
    "no number of bytes"
)]
#[case::negative_side(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "a", "")]
#[case::fractional_offset(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.5]}}"#, 4, "a", "")]
#[case::unknown_dtype(r#"{"a":{"dtype":"F128","shape":[1],"data_offsets":[0,16]}}"#, 16, "a", "F128")]
#[case::no_dtype(r#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4, "a", "dtype")]
#[case::no_shape(r#"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#, 4, "a", "shape")]
#[case::no_offsets(r#"{"a":{"dtype":"F32","shape":[1]}}"#, 4, "a", "data_offsets")]
#[case::three_offsets(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, 4, "a", "")]
#[case::no_entry(r#"{"a":7}"#, 0, "a", "")]
#[case::named_twice(
    r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#,
    0, "a", "twice")]
#[case::seventeen_dimensions(
    r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#,
    1,
    "a",
    "dimensions"
)]
fn an_entry_that_lies_is_named(
    #[case] header: &str,
    #[case] data: usize,
    #[case] name: &str,
    #[case] reason: &str,
) {
    let error = Checkpoint::from_bytes(file(header, data)).expect_err("malformed");
    assert!(matches!(&error, CheckpointError::Entry { tensor, .. } if tensor == name), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
    assert!(error.to_string().starts_with("bytes in memory: tensor `"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[rstest]
#[case::not_json(file("{", 0), "not a safetensors file")]
#[case::not_an_object(file("[]", 0), "not a safetensors file")]
#[case::not_utf8(file("{}", 0).into_iter().map(|b| if b == b'{' { 0xff } else { b }).collect(), "not a safetensors file")]
#[case::two_values(file("{}{}", 0), "not a safetensors file")]
#[case::data_of_no_tensor(file("{}", 5), "5 bytes at its end")]
#[case::notes_that_are_no_text(file(r#"{"__metadata__":{"step":12}}"#, 0), "not a safetensors file")]
#[case::notes_that_are_no_map(file(r#"{"__metadata__":"x"}"#, 0), "not a safetensors file")]
#[case::a_picture(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "not a safetensors file")]
#[case::text(b"{\"hello\": 1}".to_vec(), "not a safetensors file")]
#[case::header_beyond_the_format(u64::MAX.to_le_bytes().to_vec(), "the format allows")]
#[case::deep(file(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "tensor `a`")]
fn a_header_that_is_none_is_refused(#[case] bytes: Vec<u8>, #[case] reason: &str) {
    let error = Checkpoint::from_bytes(bytes).expect_err("malformed");
    assert!(matches!(error, CheckpointError::Header { .. } | CheckpointError::Entry { .. }), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn a_header_longer_than_the_file_is_cut_short() {
    let mut bytes = file("{}", 0);
    bytes[0] = 200;
    let error = Checkpoint::from_bytes(bytes).expect_err("cut short");
    assert_eq!(error.to_string(), "bytes in memory: cut short: 10 bytes where 208 are needed");
}

/// Cut anywhere, a file is refused.
#[test]
fn every_prefix_of_a_file_is_refused() {
    let tensors = BTreeMap::from([
        ("first".to_owned(), TensorData::from([1.0f32, 2.0])),
        ("second".to_owned(), TensorData::from([3u8])),
    ]);
    let whole = tensors_to_bytes(tensors, &BTreeMap::new()).unwrap();
    for length in 0..whole.len() {
        assert!(
            Checkpoint::from_bytes(whole[..length].to_vec()).is_err(),
            "{length} of {} bytes",
            whole.len()
        );
    }
    Checkpoint::from_bytes(whole).unwrap();
}

#[test]
fn a_dtype_that_burn_lacks_is_named_when_asked_for() {
    let bytes = file(r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#, 2);
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    let error = checkpoint.tensor("a").expect_err("no such type");
    assert!(matches!(&error, CheckpointError::DType { tensor, .. } if tensor == "a"), "{error}");
    assert!(error.to_string().contains("F8_E4M3"), "{error}");
}

#[test]
fn a_bool_that_is_none_is_refused() {
    let mut bytes = file(r#"{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, 2);
    let static_bytes: &'static [u8] = bytes.clone().leak();
    Checkpoint::from_bytes(static_bytes).unwrap().tensor("a").unwrap();
    *bytes.last_mut().unwrap() = 7;
    let error = Checkpoint::from_bytes(bytes).unwrap().tensor("a").expect_err("7 is no bool");
    assert!(matches!(&error, CheckpointError::Entry { tensor, .. } if tensor == "a"), "{error}");
}

#[test]
fn files_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("absent.safetensors"), folder.path().to_owned()] {
        let error = Checkpoint::open(&path).expect_err("no file");
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    assert!(matches!(
        Checkpoint::open(&empty),
        Err(CheckpointError::Truncated { expected: 8, found: 0, .. })
    ));
}
