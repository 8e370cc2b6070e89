//! Models by their name on the Hub, from a server on loopback.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::hub_server::{COMMIT, REPO, Server};
use crate::verify::{reference, write_model, write_reference};

const VARIABLES: [&str; 14] = [
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "XDG_CACHE_HOME",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_ENDPOINT",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
];

/// The program in `dir`, with these variables and none of the user's own.
fn kiln(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command
        .current_dir(dir)
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn fails(output: &Output, message: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains(message) && told.lines().count() == 1, "{told}");
}

/// A server of the small network that `verify`'s tests have, and a folder with its reference.
fn served() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("original");
    write_model(&model);
    write_reference(reference(), "{}", &dir.path().join("reference.safetensors"));
    let file = |name: &str| fs::read(model.join(name)).unwrap();
    let weights = "diffusion_pytorch_model.safetensors";
    (Server::with_files(&[("config.json", &file("config.json")), (weights, &file(weights))]), dir)
}

const VERIFY: [&str; 5] = ["verify", REPO, "reference.safetensors", "--backend", "flex"];

#[test]
fn a_model_is_downloaded_once_and_used_offline() {
    let (server, dir) = served();
    let url = server.url.clone();
    let home = [("HF_HOME", "home"), ("HF_ENDPOINT", &url)];
    succeeds(&kiln(dir.path(), &VERIFY, &home));
    assert!(dir.path().join("home/hub/models--owner--model/snapshots").join(COMMIT).is_dir());
    let revision = format!("{REPO}@v2");
    let told = succeeds(&kiln(dir.path(), &["info", &revision, "--json"], &home));
    assert!(told.contains("UNet2DModel"), "{told}");

    server.requests();
    succeeds(&kiln(dir.path(), &VERIFY, &[home[0], home[1], ("HF_HUB_OFFLINE", "1")]));
    assert!(server.requests().is_empty());
    let elsewhere = [("HF_HUB_CACHE", "cache"), ("HF_HUB_OFFLINE", "1")];
    fails(&kiln(dir.path(), &VERIFY, &elsewhere), "HF_HUB_OFFLINE");

    drop(server);
    let output = kiln(dir.path(), &VERIFY, &home);
    succeeds(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("taken from the cache"), "{output:?}");
    fails(
        &kiln(dir.path(), &VERIFY, &[("HF_HUB_CACHE", "cache"), ("HF_ENDPOINT", &url)]),
        "can't be reached",
    );
}

#[test]
fn tokens_come_from_the_environment_or_from_a_login() {
    let (server, dir) = served();
    server.behave(|behaviour| behaviour.token = Some("hf_secret"));
    let home = [("HF_HOME", "home"), ("HF_ENDPOINT", server.url.as_str())];
    fails(&kiln(dir.path(), &VERIFY, &home), "HF_TOKEN");
    let wrong = [home[0], home[1], ("HF_TOKEN", "hf_wrong")];
    fails(&kiln(dir.path(), &VERIFY, &wrong), "no access");

    fs::create_dir_all(dir.path().join("home")).unwrap();
    fs::write(dir.path().join("home/token"), "hf_secret\n").unwrap();
    succeeds(&kiln(dir.path(), &VERIFY, &home));
    let cache = ("HF_HUB_CACHE", "cache");
    fails(&kiln(dir.path(), &VERIFY, &[home[0], home[1], cache, ("HF_TOKEN", "hf_wrong")]), "no access");
    let unused = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    fails(&kiln(dir.path(), &VERIFY, &[home[0], home[1], cache, unused]), "HF_TOKEN");
    succeeds(&kiln(dir.path(), &VERIFY, &[cache, home[1], ("HF_TOKEN", "hf_secret")]));
}

#[test]
fn a_path_that_is_there_is_no_name() {
    let (server, dir) = served();
    let home = [("HF_HOME", "home"), ("HF_ENDPOINT", server.url.as_str())];
    write_model(&dir.path().join(REPO));
    succeeds(&kiln(dir.path(), &VERIFY, &home));
    for name in ["./owner/other", "/owner/other", "other", "../owner/other", "runs/model.safetensors"] {
        fails(&kiln(dir.path(), &["info", name], &home), "there is no such file or folder");
    }
    assert!(server.requests().is_empty());
    fails(&kiln(dir.path(), &["info", "owner/other"], &home), "has no model `owner/other`");
    assert!(!server.requests().is_empty());
}

#[test]
fn pictures_are_drawn_with_a_model_by_its_name() {
    let model = include_bytes!("../../models/digits.safetensors");
    let server = Server::with_files(&[("model.safetensors", model)]);
    let dir = tempfile::tempdir().unwrap();
    let home = [("HF_HOME", "home"), ("HF_ENDPOINT", server.url.as_str())];
    let draw = ["generate", "--model", REPO, "--count", "1", "--steps", "1", "--backend", "flex"];
    succeeds(&kiln(dir.path(), &draw, &home));
    assert!(dir.path().join("kiln.png").exists());
}
