//! Models by their name on the Hugging Face Hub: `owner/name` to a folder on this machine.
//!
//! ```no_run
//! use kiln_checkpoint::Contents;
//! use kiln_checkpoint::hub::Hub;
//!
//! let hub = Hub::from_env()?;
//! let folder = hub.fetch(&"owner/model".parse()?, None, &mut |progress| {
//!     println!("{}: {} of {} bytes", progress.file, progress.done, progress.total);
//! })?;
//! let contents = Contents::open(folder)?;
//! # let _ = contents;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The cache is the one that Python's `huggingface_hub` keeps, with its layout: what either downloads, the other finds.
//!
//! ```text
//! models--owner--name/blobs/<etag>                   a file's bytes
//! models--owner--name/snapshots/<commit>/<file>      a link to them
//! models--owner--name/refs/<branch or tag>           the commit that it stood for last
//! ```
//!
//! Its variables are understood too: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`,
//! `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_ETAG_TIMEOUT`.
//!
//! Names, URLs and the cache's layout come from the crate `hf-hub`. The bytes are moved here: its own download appends a whole
//! file to a part where a server knows no ranges, starts anew at byte 0 behind what is there when a retry fails early,
//! sends the token on to the store that a file is redirected to, waits without end, and panics at some answers.

mod error;
mod name;
mod select;
mod transfer;

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

pub use error::HubError;
pub use name::RepoName;

use name::is_component;
use select::select;
use transfer::Transfer;

const ENDPOINT: &str = "https://huggingface.co";

/// A server of models, and the cache for what comes from it.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
    timeout: Duration,
    patience: Duration,
}

/// How far a download has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file at work.
    pub file: &'a str,
    /// Bytes that are there, over all files wanted.
    pub done: u64,
    /// Bytes of all files wanted; it grows where the server does not say in advance.
    pub total: u64,
}

impl Hub {
    /// The public server, and this folder as the cache.
    #[must_use]
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(10),
            patience: Duration::from_millis(250),
        }
    }

    /// As the environment says, in the variables that Python's `huggingface_hub` has; the token is that of its login, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`HubError::NoHome`] where neither a variable nor a home folder says where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || {
            path("HF_HOME")
                .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
                .or_else(|| Some(env::home_dir()?.join(".cache").join("huggingface")))
                .ok_or(HubError::NoHome)
        };
        let cache = match path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")) {
            Some(cache) => cache,
            None => home()?.join("hub"),
        };
        let yes = |name: &str| {
            set(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
        };
        let saved = || {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home().ok()?.join("token")))?;
            fs::read_to_string(file).ok()
        };
        let token = match yes("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(saved),
        };
        let mut hub = Self::new(cache);
        if let Some(endpoint) = set("HF_ENDPOINT") {
            hub = hub.with_endpoint(endpoint);
        }
        if let Some(seconds) = set("HF_HUB_ETAG_TIMEOUT").and_then(|value| value.parse().ok()) {
            hub.timeout = Duration::from_secs(seconds);
        }
        hub.token =
            token.map(|token| token.replace(['\r', '\n'], "").trim().to_owned()).filter(|t| !t.is_empty());
        hub.offline = yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE");
        Ok(hub)
    }

    /// Another server.
    #[must_use]
    pub fn with_endpoint(self, endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into().trim_end_matches('/').to_owned(), ..self }
    }

    /// Sends this token to the server.
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// Waits this long after a download that broke off, and twice as long after each one more; a quarter of a second
    /// where nothing is said.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Uses the cache alone.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { offline: true, ..self }
    }

    /// The folder of the cache.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder (or the file, if `name` names one) that holds the model, after what is missing of it has been
    /// downloaded: configs, tokenizers and one set of weights, those of `variant` (`fp16`) where there are such.
    ///
    /// Where the server can't be reached, what the cache holds is taken.
    ///
    /// # Errors
    ///
    /// [`HubError`]. What an interrupted download brought is kept, and gone on with the next time.
    pub fn fetch(
        &self,
        name: &RepoName,
        variant: Option<&str>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let _span = tracing::info_span!("fetch", model = %name).entered();
        if self.offline {
            return self.cached(name, "the network is not to be used (HF_HUB_OFFLINE)".to_owned());
        }
        let transfer = Transfer::new(&self.endpoint, self.token.as_deref(), self.timeout, self.patience);
        let listing = match self.listing(&transfer, name) {
            Ok(listing) => listing,
            Err(HubError::Network { url, reason, .. }) => {
                let found = self.cached(name, format!("{url} can't be reached: {reason}"))?;
                tracing::warn!(model = %name, reason, "the Hub can't be reached; the model is taken from the cache");
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        let files: Vec<String> = listing.siblings.iter().map(|file| file.rfilename.clone()).collect();
        let wanted = select(&files, name.path(), variant)
            .map_err(|reason| HubError::NoModel { repo: name.to_string(), reason })?;
        let size = |file: &str| listing.siblings.iter().find(|s| s.rfilename == file).and_then(|s| s.size);
        let mut total: u64 = wanted.iter().filter_map(|file| size(file)).sum();
        let mut done = 0;
        for file in &wanted {
            let announced = size(file).unwrap_or(0);
            let mut of_file = 0;
            self.bring(&transfer, name, &listing.sha, file, &mut |bytes| {
                of_file = bytes;
                total = total.max(done + bytes);
                progress(Progress { file, done: done + bytes, total });
            })?;
            done += of_file.max(announced);
        }
        let snapshot = self.repository(name, &listing.sha).pointer_path(&listing.sha);
        if name.revision() != listing.sha {
            let repository = self.repository(name, name.revision());
            repository.create_ref(&listing.sha).map_err(|source| self.io("write a reference in", source))?;
        }
        Ok(name.path().map_or_else(|| snapshot.clone(), |path| snapshot.join(path)))
    }

    /// What the cache holds of a model.
    fn cached(&self, name: &RepoName, reason: String) -> Result<PathBuf, HubError> {
        let repository = self.cache.join(Repo::model(name.repo().to_owned()).folder_name());
        let commit = fs::read_to_string(repository.join("refs").join(name.revision()));
        let commit = commit.map_or_else(|_| name.revision().to_owned(), |commit| commit.trim().to_owned());
        let snapshot = repository.join("snapshots").join(&commit);
        let found = name.path().map_or_else(|| snapshot.clone(), |path| snapshot.join(path));
        match is_component(&commit) && found.exists() {
            true => Ok(found),
            false => Err(HubError::NotCached { repo: name.to_string(), cache: self.cache.clone(), reason }),
        }
    }

    /// The commit and the files that a revision stands for.
    fn listing(&self, transfer: &Transfer, name: &RepoName) -> Result<Listing, HubError> {
        let repo = Repo::with_revision(name.repo().to_owned(), RepoType::Model, name.revision().to_owned());
        let url = format!("{}/api/{}?blobs=true", self.endpoint, repo.api_url());
        let (status, headers, text) = transfer.text(&url)?;
        let code = headers.get("x-error-code").and_then(|code| code.to_str().ok());
        match status {
            200 => {}
            404 => return Err(self.not_found(name)),
            401 | 403 => return Err(self.gated(name, status)),
            429 | 500..=599 => {
                return Err(HubError::Network { url, reason: format!("status {status}"), kept: 0 });
            }
            _ => {
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                return Err(HubError::Answer { url, reason: format!("status {status}{code}") });
            }
        }
        let listing: Listing = serde_json::from_str(&text)
            .map_err(|error| HubError::Answer { url: url.clone(), reason: error.to_string() })?;
        let outside = |name: &str| !name.split('/').all(is_component);
        if outside(&listing.sha) || listing.sha.contains('/') {
            let reason = format!("{:?} is no commit", listing.sha);
            return Err(HubError::Answer { url, reason });
        }
        if let Some(file) = listing.siblings.iter().find(|file| outside(&file.rfilename)) {
            let reason = format!("the name {:?} leaves the repository", file.rfilename);
            return Err(HubError::Answer { url, reason });
        }
        Ok(listing)
    }

    /// Makes sure that a file is in the snapshot.
    fn bring(
        &self,
        transfer: &Transfer,
        name: &RepoName,
        commit: &str,
        file: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let repository = self.repository(name, commit);
        let pointer = repository.pointer_path(commit).join(file);
        if let Ok(there) = fs::metadata(&pointer) {
            progress(there.len());
            return Ok(());
        }
        let repo = Repo::with_revision(name.repo().to_owned(), RepoType::Model, commit.to_owned());
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, repo.url(), encode(file));
        let metadata = match transfer.metadata(&url)? {
            (_, Some(metadata)) => metadata,
            (status @ (401 | 403), None) => return Err(self.gated(name, status)),
            (404, None) => return Err(self.not_found(name)),
            (status @ (429 | 500..=599), None) => {
                return Err(HubError::Network { url, reason: format!("status {status}"), kept: 0 });
            }
            (status, None) => return Err(HubError::Answer { url, reason: format!("status {status}") }),
        };
        let blob = repository.blob_path(&metadata.etag);
        let folder = |path: &Path| {
            let folder = path.parent().unwrap_or(&self.cache).to_owned();
            fs::create_dir_all(&folder).map_err(|source| HubError::Io {
                path: folder,
                action: "make the folder",
                source,
            })
        };
        folder(&blob)?;
        folder(&pointer)?;
        // One process downloads a file, and others wait for it: the lock is where Python's is, and of its kind.
        let locks = self.cache.join(".locks").join(Repo::model(name.repo().to_owned()).folder_name());
        let lock = locks.join(format!("{}.lock", metadata.etag));
        folder(&lock)?;
        let _locked = File::create(&lock)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| HubError::Io { path: lock, action: "lock", source })?;
        if !blob.exists() {
            transfer.download(&metadata, &blob, progress)?;
        } else if let Some(size) = metadata.size {
            progress(size);
        }
        match link(&blob, &pointer) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && pointer.exists() => Ok(()),
            Err(source) => Err(HubError::Io { path: pointer, action: "link", source }),
            Ok(()) => Ok(()),
        }
    }

    fn repository(&self, name: &RepoName, revision: &str) -> hf_hub::CacheRepo {
        let repo = Repo::with_revision(name.repo().to_owned(), RepoType::Model, revision.to_owned());
        Cache::new(self.cache.clone()).repo(repo)
    }

    fn not_found(&self, name: &RepoName) -> HubError {
        let (repo, revision) = (name.repo().to_owned(), name.revision().to_owned());
        HubError::NotFound { endpoint: self.endpoint.clone(), repo, revision }
    }

    fn gated(&self, name: &RepoName, status: u16) -> HubError {
        let (repo, token) = (name.repo().to_owned(), self.token.is_some());
        HubError::Gated { endpoint: self.endpoint.clone(), repo, status, token }
    }

    fn io(&self, action: &'static str, source: io::Error) -> HubError {
        HubError::Io { path: self.cache.clone(), action, source }
    }
}

/// What the server says of a revision.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

/// A path as it stands in a URL.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Has `pointer` stand for `blob`, by a link relative to it where the system has such.
fn link(blob: &Path, pointer: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        // Both are below the repository's folder: blobs/<etag>, snapshots/<commit>/<file>.
        let depth = blob.parent().and_then(Path::parent).and_then(|repository| {
            pointer.strip_prefix(repository).ok().map(|below| below.components().count())
        });
        if let (Some(depth), Some(etag)) = (depth, blob.file_name()) {
            let up: PathBuf = std::iter::repeat_n("..", depth - 1).collect();
            // A link whose blob is gone stands in the way of the new one.
            if pointer.is_symlink() && !pointer.exists() {
                fs::remove_file(pointer)?;
            }
            return std::os::unix::fs::symlink(up.join("blobs").join(etag), pointer);
        }
    }
    fs::copy(blob, pointer).map(drop)
}
