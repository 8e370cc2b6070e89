//! The Hub: names, what is downloaded, the cache, breaks, tokens, and servers that can't be trusted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kiln_checkpoint::hub::{Hub, HubError, RepoName};
use kiln_checkpoint::{Contents, SaveOptions, to_bytes};
use rstest::rstest;

use crate::hub_server::{Behaviour, COMMIT, REPO, Server, etag};
use crate::linear;

const CONFIG: &[u8] = br#"{"_class_name": "UNet2DModel"}"#;

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub::new(cache).with_endpoint(&server.url).with_patience(Duration::from_millis(1))
}

fn fetch(hub: &Hub, name: &str) -> Result<std::path::PathBuf, HubError> {
    hub.fetch(&name.parse()?, None, &mut |_| {})
}

fn weights() -> Vec<u8> {
    let device = kiln_backend::open(Some("flex")).unwrap();
    to_bytes(&linear(&device), &SaveOptions::default()).unwrap()
}

/// Enough to come in many pieces.
fn large() -> Vec<u8> {
    (0..400_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_model_comes_into_the_usual_cache_and_is_used_from_there() {
    let weights = weights();
    let server = Server::with_files(&[
        ("config.json", CONFIG),
        ("README.md", b"# A model"),
        ("diffusion_pytorch_model.safetensors", &weights),
        ("diffusion_pytorch_model.bin", b"not wanted"),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    let mut seen = Vec::new();
    let folder = hub
        .fetch(&REPO.parse().unwrap(), None, &mut |progress| seen.push((progress.done, progress.total)))
        .unwrap();

    // As huggingface_hub lays it out.
    let repository = cache.path().join("models--owner--model");
    assert_eq!(folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let blob = repository.join("blobs").join(etag(&weights));
    assert_eq!(fs::read(&blob).unwrap(), weights);
    let file = folder.join("diffusion_pytorch_model.safetensors");
    #[cfg(unix)]
    assert_eq!(fs::read_link(&file).unwrap(), Path::new("../../blobs").join(etag(&weights)));
    assert_eq!(fs::read(&file).unwrap(), weights);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "config and weights, and nothing else");
    assert!(matches!(Contents::open(&folder).unwrap(), Contents::Model(_)));

    let total = (CONFIG.len() + weights.len()) as u64;
    assert_eq!(seen.last(), Some(&(total, total)));
    assert!(seen.is_sorted_by_key(|(done, _)| *done), "{seen:?}");

    // The second time only the listing is asked for; offline nothing; and a server that is gone is no hindrance.
    server.requests();
    assert_eq!(fetch(&hub, REPO).unwrap(), folder);
    let asked: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, [format!("/api/models/{REPO}/revision/main?blobs=true")]);
    assert_eq!(fetch(&hub.clone().offline(), REPO).unwrap(), folder);
    assert!(server.requests().is_empty());
    drop(server);
    assert_eq!(fetch(&hub, REPO).unwrap(), folder);
    assert_eq!(fetch(&hub, &format!("{REPO}@{COMMIT}")).unwrap(), folder, "a commit needs no reference");
    let missing = fetch(&hub, &format!("{REPO}@v2")).unwrap_err();
    assert!(matches!(missing, HubError::NotCached { .. }), "{missing}");
}

#[test]
fn what_is_not_in_the_cache_needs_the_network() {
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&Hub::new(cache.path()).offline(), REPO).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let server = Server::with_files(&[]);
    let hub = hub(&server, cache.path());
    drop(server);
    let error = fetch(&hub, REPO).unwrap_err();
    assert!(matches!(error, HubError::NotCached { .. }), "{error}");
}

#[rstest]
#[case::ranges(false)]
#[case::no_ranges(true)]
fn breaks_are_healed(#[case] no_ranges: bool) {
    let large = large();
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &large)]);
    server.behave(|behaviour| (behaviour.cuts, behaviour.no_ranges) = (3, no_ranges));
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch(&hub(&server, cache.path()), REPO).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), large);
    let store: Vec<_> =
        server.requests().into_iter().filter(|request| request.path.starts_with("/store/")).collect();
    assert_eq!(store.len(), 4);
    assert_eq!(store[0].range, None);
    assert_eq!(store[1].range.as_deref(), Some("bytes=200000-"));
    if !no_ranges {
        assert_eq!(store[2].range.as_deref(), Some("bytes=300000-"));
    }
}

#[test]
fn a_download_that_was_given_up_goes_on_the_next_time() {
    let large = large();
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &large)]);
    // After a few halves nothing is gained any more.
    server.behave(|behaviour| behaviour.cuts = usize::MAX);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    let error = fetch(&hub, REPO).unwrap_err();
    let HubError::Network { kept, .. } = error else { panic!("{error}") };
    assert!(kept > 390_000, "{error}");
    assert!(error.to_string().contains("goes on from there"), "{error}");

    let blobs = cache.path().join("models--owner--model/blobs");
    let part = blobs.join(format!("{}.incomplete", etag(&large)));
    assert_eq!(fs::read(&part).unwrap(), large[..kept as usize]);
    fs::write(&part, &large[..1000]).unwrap();
    server.behave(|behaviour| behaviour.cuts = 0);
    server.requests();
    let folder = fetch(&hub, REPO).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), large);
    assert!(!part.exists());
    let ranges: Vec<_> = server.requests().into_iter().filter_map(|request| request.range).collect();
    assert_eq!(ranges, ["bytes=1000-"; 2], "before and after the redirect");
}

#[rstest]
#[case::whole(400_000, None)]
#[case::too_long(400_001, Some(()))]
fn a_part_of_any_length_is_dealt_with(#[case] length: usize, #[case] asked_again: Option<()>) {
    let large = large();
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &large)]);
    let cache = tempfile::tempdir().unwrap();
    let blobs = cache.path().join("models--owner--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let mut part = large.clone();
    part.resize(length, 7);
    fs::write(blobs.join(format!("{}.incomplete", etag(&large))), part).unwrap();
    let folder = fetch(&hub(&server, cache.path()), REPO).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), large);
    let asked = server.requests().iter().any(|request| request.path.starts_with("/store/"));
    assert_eq!(asked, asked_again.is_some());
}

#[test]
fn two_at_once_download_one_time() {
    let large = large();
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &large)]);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| fetch(&hub, REPO).unwrap())).collect();
        for folder in both {
            assert_eq!(fs::read(folder.join().unwrap().join("model.safetensors")).unwrap(), large);
        }
    });
    let store = server.requests().into_iter().filter(|request| request.path.starts_with("/store/")).count();
    assert_eq!(store, 1);
}

#[test]
fn a_gated_model_asks_for_a_token_and_the_store_never_sees_it() {
    let weights = weights();
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &weights)]);
    server.behave(|behaviour| behaviour.token = Some("hf_secret"));
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    let error = fetch(&hub, REPO).unwrap_err();
    assert!(matches!(error, HubError::Gated { status: 401, token: false, .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    let error = fetch(&hub.clone().with_token("hf_other"), REPO).unwrap_err();
    assert!(error.to_string().contains("no access"), "{error}");

    server.requests();
    fetch(&hub.with_token("hf_secret"), REPO).unwrap();
    for request in server.requests() {
        let told = request.authorization.is_some();
        assert_eq!(told, !request.path.starts_with("/store/"), "{request:?}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let server = Server::with_files(&[("config.json", CONFIG)]);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    for name in ["owner/other", "owner/model@v9"] {
        let error = fetch(&hub, name).unwrap_err();
        assert!(matches!(error, HubError::NotFound { .. }), "{error}");
    }
    let error = fetch(&hub, "owner/model/unet").unwrap_err();
    assert!(matches!(error, HubError::NoModel { .. }), "{error}");
    assert!(fetch(&hub, "owner/model@v2").is_ok());

    let file = cache.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = fetch(&Hub::new(&file).with_endpoint(&server.url), REPO).unwrap_err();
    assert!(matches!(error, HubError::Io { .. }), "{error}");
}

/// The safetensors of a repository with these files, or the message.
fn chosen(files: &[&str], name: &str, variant: Option<&str>) -> Result<Vec<String>, String> {
    let files: Vec<_> = files.iter().map(|name| (*name, name.as_bytes())).collect();
    let server = Server::with_files(&files);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    let name: RepoName = name.parse().map_err(|error: HubError| error.to_string())?;
    hub.fetch(&name, variant, &mut |_| {}).map_err(|error| error.to_string())?;
    let snapshot = cache.path().join("models--owner--model/snapshots").join(COMMIT);
    let mut found: Vec<_> = files
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .filter(|name| snapshot.join(name).exists())
        .collect();
    found.sort();
    Ok(found)
}

#[rstest]
#[case::safetensors_before_bin(&["config.json", "model.safetensors", "pytorch_model.bin"], REPO, None, &["config.json", "model.safetensors"])]
#[case::bin_where_nothing_else(&["config.json", "pytorch_model.bin", "tf_model.h5"], REPO, None, &["config.json", "pytorch_model.bin"])]
#[case::no_variant(&["config.json", "model.safetensors", "model.fp16.safetensors"], REPO, None, &["config.json", "model.safetensors"])]
#[case::variant(&["config.json", "model.safetensors", "model.fp16.safetensors"], REPO, Some("fp16"), &["config.json", "model.fp16.safetensors"])]
#[case::only_variant(&["config.json", "model.fp16.safetensors"], REPO, None, &["config.json", "model.fp16.safetensors"])]
#[case::variant_not_there(&["config.json", "model.safetensors"], REPO, Some("fp16"), &["config.json", "model.safetensors"])]
#[case::shards(
    &["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
    REPO, None,
    &["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
)]
#[case::variant_shards(
    &["config.json", "model.safetensors", "model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"],
    REPO, Some("fp16"),
    &["config.json", "model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"]
)]
#[case::pipeline(
    &["README.md", "all.safetensors", "model_index.json", "scheduler/scheduler_config.json", "safety_checker/config.json",
      "safety_checker/model.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json", "unet/config.json",
      "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin", "unet/onnx/model.bin"],
    REPO, None,
    &["model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
      "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
)]
#[case::part(
    &["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json"],
    "owner/model/unet", None, &["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
)]
#[case::file(&["a.safetensors", "b.safetensors"], "owner/model/b.safetensors", None, &["b.safetensors"])]
#[case::one_file(&["README.md", "v1-5-pruned.emaonly.safetensors"], REPO, None, &["v1-5-pruned.emaonly.safetensors"])]
#[case::spaces(&["my model.safetensors"], REPO, None, &["my model.safetensors"])]
fn what_is_downloaded(
    #[case] files: &[&str],
    #[case] name: &str,
    #[case] variant: Option<&str>,
    #[case] expected: &[&str],
) {
    assert_eq!(chosen(files, name, variant).unwrap(), expected);
}

#[rstest]
#[case::several(&["a.safetensors", "b.safetensors"], "a.safetensors, b.safetensors")]
#[case::nothing(&["README.md"], "no model")]
fn what_is_downloaded_must_be_clear(#[case] files: &[&str], #[case] message: &str) {
    let error = chosen(files, REPO, None).unwrap_err();
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case::no_owner("model")]
#[case::nothing("")]
#[case::parent("../model")]
#[case::parent_of_the_owner("owner/..")]
#[case::parent_in_the_path("owner/model/../../x")]
#[case::absolute("/owner/model")]
#[case::hidden("owner/.model")]
#[case::dashes("owner/a--b")]
#[case::query("owner/model?x=1")]
#[case::revision("owner/model@../main")]
#[case::no_revision("owner/model@")]
#[case::query_in_the_revision("owner/model@main?x=1")]
#[case::empty_part("owner//model")]
fn names_that_are_none(#[case] name: &str) {
    let error = name.parse::<RepoName>().unwrap_err();
    assert!(matches!(error, HubError::Name { .. }), "{error}");
}

#[rstest]
#[case::commit(|b: &mut Behaviour| b.commit = Some("../../../evil"), "no commit")]
#[case::file(|b: &mut Behaviour| b.listing = Some(r#"{"sha": "abc", "siblings": [{"rfilename": "../evil"}]}"#), "leaves the repository")]
#[case::absolute(|b: &mut Behaviour| b.listing = Some(r#"{"sha": "abc", "siblings": [{"rfilename": "/etc/evil"}]}"#), "leaves the repository")]
#[case::etag(|b: &mut Behaviour| b.etag = Some("\"../../evil\""), "ETag")]
#[case::no_etag(|b: &mut Behaviour| b.etag = Some("\"\""), "ETag")]
#[case::no_json(|b: &mut Behaviour| b.listing = Some("<html>"), "expected value")]
#[case::too_much(|b: &mut Behaviour| b.exaggerated = -1, "more bytes")]
fn servers_that_cannot_be_trusted(#[case] change: fn(&mut Behaviour), #[case] message: &str) {
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &large())]);
    server.behave(change);
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("a/b/c");
    let error = fetch(&hub(&server, &cache), REPO).unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }) && error.to_string().contains(message), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), usize::from(root.path().join("a").exists()));
    assert!(!root.path().join("a/evil").exists() && !root.path().join("a/b/evil").exists());
}

#[test]
fn a_file_that_ends_early_is_no_model() {
    let server = Server::with_files(&[("config.json", CONFIG), ("model.safetensors", &large())]);
    server.behave(|behaviour| behaviour.exaggerated = 1);
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&hub(&server, cache.path()), REPO).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(!cache.path().join("models--owner--model/blobs").join(etag(&large())).exists());
}
