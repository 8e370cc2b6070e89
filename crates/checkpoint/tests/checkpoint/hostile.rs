//! Files that would take far more memory than they have bytes, if they were believed.

use std::path::{Path, PathBuf};

/// About as long as each file is.
const LONG: usize = 4 << 20;

/// Each file or folder, written into `folder`, with what it is.
pub fn files(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut written = Vec::new();
    for (name, bytes) in safetensors().into_iter().chain(pickles()) {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        written.push((name, path));
    }
    for (name, files) in folders() {
        let path = folder.join(name);
        std::fs::create_dir(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        written.push((name, path));
    }
    written
}

fn framed(header: &str) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes
}

/// `item` of 0, 1, 2, ... until there are enough.
fn listed(item: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for i in 0.. {
        if text.len() > LONG {
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text += &item(i);
    }
    text
}

fn safetensors() -> Vec<(&'static str, Vec<u8>)> {
    let empty = |i: usize| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let many = (0..65_536).map(empty).collect::<Vec<_>>().join(",");
    vec![
        // As many as a file may have, and then one that is none.
        ("tensors", framed(&format!("{{{many},\"last\":7}}"))),
        ("tensors_at_odds_with_the_file", [framed(&format!("{{{many}}}")), vec![0]].concat()),
        ("more_tensors", framed(&format!("{{{}}}", listed(empty)))),
        ("notes", framed(&format!(r#"{{"__metadata__":{{{}}}}}"#, listed(|i| format!(r#""{i}":"""#))))),
        ("sides", framed(&format!(r#"{{"a":{{"dtype":"U8","shape":[{}]}}}}"#, listed(|_| "1".to_owned())))),
        ("nested", framed(&format!(r#"{{"a":{}"#, "[".repeat(LONG)))),
        ("escapes", framed(&format!(r#"{{"{}":7}}"#, r"\u00e9".repeat(LONG / 6)))),
        (
            "a_terabyte",
            framed(r#"{"a":{"dtype":"F32","shape":[1048576,262144],"data_offsets":[0,1099511627776]}}"#),
        ),
        ("a_header_of_a_terabyte", (1u64 << 40).to_le_bytes().to_vec()),
    ]
}

fn pickles() -> Vec<(&'static str, Vec<u8>)> {
    let repeated = |operations: &[u8]| {
        let mut pickle = b"\x80\x02".to_vec();
        pickle.extend(operations.repeat(LONG / operations.len()));
        pickle.push(b'.');
        pickle
    };
    // A list of two of the list before, twenty-six times: what copies takes gigabytes.
    let mut doubled = b"\x80\x02]q\0".to_vec();
    for i in 0..200u8 {
        doubled.extend([b'(', b'h', i, b'h', i, b'l', b'q', i + 1]);
    }
    doubled.push(b'.');
    // The same of dicts with long keys around one tensor, for the names that would come of it.
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aNK\0tQK\0))tR";
    let key = [b"X\0\x10\0\0".as_slice(), &[b'k'; 4096]].concat();
    let mut named = [b"\x80\x02".as_slice(), tensor, b"q\0"].concat();
    for i in 0..24u8 {
        named.extend(
            [b"(".as_slice(), &key, &[b'h', i], b"X\x01\0\0\0b", &[b'h', i], b"dq", &[i + 1]].concat(),
        );
    }
    named.push(b'.');
    let memo: Vec<u8> = (0..LONG as u32 / 5).flat_map(|i| [&b"r"[..], &i.to_le_bytes()].concat()).collect();
    vec![
        ("none", repeated(b"N")),
        ("dicts", repeated(b"}")),
        ("tuples", repeated(b")")),
        ("marks", repeated(b"(")),
        ("integers", repeated(b"K\x01")),
        ("doubled", doubled),
        ("named", named),
        ("duplicates", [b"\x80\x02(".as_slice(), &b"N".repeat(1000), &b"t2".repeat(LONG / 2), b"."].concat()),
        ("memoised", repeated(b"N\x94")),
        ("numbered", [b"\x80\x02N".as_slice(), &memo, b"."].concat()),
        ("appended", [b"\x80\x02]".as_slice(), &b"Na".repeat(LONG / 2), b"."].concat()),
        ("set", [b"\x80\x02}".as_slice(), &b"NNs".repeat(LONG / 3), b"."].concat()),
        (
            "called",
            [b"\x80\x02".as_slice(), &b"ccollections\nOrderedDict\n)R".repeat(LONG / 29), b"."].concat(),
        ),
        ("a_text_of_a_terabyte", b"\x80\x02\x8d\0\0\0\0\0\x01\0\0.".to_vec()),
        ("a_directory_of_many", zip_end(u16::MAX, 0, 0)),
        ("a_directory_elsewhere", zip_end(1, u32::MAX, u32::MAX)),
    ]
}

/// A zip with nothing but the end of its directory.
fn zip_end(count: u16, len: u32, start: u32) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn folders() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let zeros = vec!["0"; 500_000].join(",");
    let config = || ("config.json", "{}".to_owned());
    vec![
        ("config_too_long", vec![("config.json", " ".repeat(LONG))]),
        ("config_of_numbers", vec![("config.json", format!(r#"{{"a":[{zeros}],"_class_name":[{zeros}"#))]),
        ("config_without_weights", vec![("config.json", format!(r#"{{"a":[{zeros}]}}"#))]),
        ("parts", vec![("model_index.json", format!(r#"{{"a":[{zeros}]}}"#))]),
        (
            "index",
            vec![
                config(),
                (
                    "model.safetensors.index.json",
                    format!(r#"{{"weight_map":{{{}}}}}"#, listed(|i| format!(r#""{i}":"{i}""#))),
                ),
            ],
        ),
        (
            "index_of_one_file",
            vec![
                config(),
                (
                    "model.safetensors.index.json",
                    format!(r#"{{"weight_map":{{{}}}}}"#, listed(|i| format!(r#""{i}":"a""#))),
                ),
            ],
        ),
    ]
}
