//! One file from the server into the cache, in as many pieces as the network breaks it into.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::{HubError, is_component};

/// Tries without a byte gained before a download is given up.
const TRIES: u32 = 5;

/// Talks to one server.
#[derive(Debug)]
pub(super) struct Transfer {
    following: Agent,
    staying: Agent,
    endpoint: String,
    token: Option<String>,
    patience: Duration,
}

/// What the server says of a file before any of it is sent.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Names the content.
    pub etag: String,
    /// Bytes, where the server says so.
    pub size: Option<u64>,
    /// Where to ask for it.
    url: String,
}

impl Transfer {
    pub fn new(endpoint: &str, token: Option<&str>, timeout: Duration, patience: Duration) -> Self {
        let agent = |redirects| {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(redirects)
                // The token is for this server, and for no store that it sends one on to.
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .accept_encoding("identity")
                .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(timeout))
                .timeout_connect(Some(timeout))
                .timeout_per_read(Some(timeout))
                .build()
                .new_agent()
        };
        Self {
            following: agent(10),
            staying: agent(0),
            endpoint: endpoint.to_owned(),
            token: token.map(str::to_owned),
            patience,
        }
    }

    /// A small answer, whole.
    pub fn text(&self, url: &str) -> Result<(u16, HeaderMap, String), HubError> {
        let mut request = self.following.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(|error| network(url, &error))?;
        let text = response.body_mut().read_to_string().map_err(|error| network(url, &error))?;
        Ok((response.status().as_u16(), response.headers().clone(), text))
    }

    /// Asks what a file is. Redirects within the server are followed; one to a store elsewhere is not, as the store does
    /// not know the file's name.
    pub fn metadata(&self, url: &str) -> Result<(u16, Option<Metadata>), HubError> {
        let answer = |reason: String| HubError::Answer { url: url.to_owned(), reason };
        let mut at = url.to_owned();
        for _ in 0..10 {
            let mut request = self.staying.head(&at);
            if let Some(token) = &self.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| network(&at, &error))?;
            let status = response.status();
            let location = header(response.headers(), "location");
            if status.is_redirection()
                && let Some(relative) = location.filter(|location| location.starts_with('/'))
                && !relative.starts_with("//")
            {
                at = format!("{}{relative}", origin(&self.endpoint));
                continue;
            }
            if !status.is_success() && !status.is_redirection() {
                return Ok((status.as_u16(), None));
            }
            let headers = response.headers();
            let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
            let Some(etag) = etag.filter(|etag| is_component(etag) && !etag.contains('/')) else {
                return Err(answer("no ETag that could name a file".to_owned()));
            };
            // A redirect's own length is that of its page, not of the file.
            let length = if status.is_success() { "content-length" } else { "x-linked-size" };
            let size = header(headers, "x-linked-size").or_else(|| header(headers, length));
            let size = match size.map(str::parse) {
                None => None,
                Some(Ok(size)) => Some(size),
                Some(Err(_)) => return Err(answer("a length that is no number".to_owned())),
            };
            return Ok((status.as_u16(), Some(Metadata { etag: etag.to_owned(), size, url: at })));
        }
        Err(answer("it is redirected in a circle".to_owned()))
    }

    /// Brings the file to `blob`, going on with what an earlier try left beside it. `progress` is told how many bytes of
    /// the file are there.
    pub fn download(
        &self,
        metadata: &Metadata,
        blob: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let part = unfinished(blob);
        let (mut failures, mut furthest) = (0, length(&part));
        loop {
            let error = match self.piece(metadata, &part, progress) {
                Ok(()) => break,
                Err(error @ HubError::Network { .. }) => error,
                Err(error) => return Err(error),
            };
            // Only what has never been there before is a gain: a part that can't be used is thrown away.
            let there = length(&part);
            failures = if there > furthest { 0 } else { failures + 1 };
            furthest = furthest.max(there);
            if failures >= TRIES {
                return Err(error);
            }
            tracing::debug!(%error, "the download broke off");
            std::thread::sleep(self.patience * (1 << failures));
        }
        let io = |action| move |source| HubError::Io { path: blob.to_owned(), action, source };
        File::open(&part).and_then(|file| file.sync_all()).map_err(io("write"))?;
        fs::rename(&part, blob).map_err(io("rename"))
    }

    /// Asks for what is missing of the file, and appends what comes.
    fn piece(&self, metadata: &Metadata, part: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), HubError> {
        let io = |action| move |source| HubError::Io { path: part.to_owned(), action, source };
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(io("open"))?;
        let mut there = file.metadata().map_err(io("read"))?.len();
        if metadata.size.is_some_and(|size| there > size) {
            file.set_len(0).map_err(io("write"))?;
            there = 0;
        }
        progress(there);
        if metadata.size == Some(there) {
            return Ok(());
        }
        let response = self.ask(&metadata.url, there)?;
        let status = response.status().as_u16();
        match status {
            206 if starts_at(&response, there) => {}
            // The whole file, though a piece of it was asked for; or a piece that is not the one asked for.
            200 => {
                file.set_len(0).map_err(io("write"))?;
                there = 0;
            }
            206 | 416 => {
                file.set_len(0).map_err(io("write"))?;
                return Err(broken(metadata, "the piece that came is not the one asked for".to_owned(), 0));
            }
            429 | 500..=599 => return Err(broken(metadata, format!("status {status}"), there)),
            _ => {
                let reason = format!("status {status}");
                return Err(HubError::Answer { url: metadata.url.clone(), reason });
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(metadata, error.to_string(), there)),
            };
            file.write_all(&buffer[..read]).map_err(io("write"))?;
            there += read as u64;
            if metadata.size.is_some_and(|size| there > size) {
                file.set_len(0).map_err(io("write"))?;
                let reason = "more bytes came than were announced".to_owned();
                return Err(HubError::Answer { url: metadata.url.clone(), reason });
            }
            progress(there);
        }
        match metadata.size {
            Some(size) if there < size => {
                Err(broken(metadata, format!("cut off after {there} of {size} bytes"), there))
            }
            _ => Ok(()),
        }
    }

    fn ask(&self, url: &str, from: u64) -> Result<Response<Body>, HubError> {
        let mut request = self.following.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| network(url, &error))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a partial answer begins at this byte.
fn starts_at(response: &Response<Body>, from: u64) -> bool {
    header(response.headers(), "content-range")
        .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok())
        .is_none_or(|start: u64| start == from)
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |slash| &url[..host + slash])
}

/// Where a file waits until it is whole.
fn unfinished(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    PathBuf::from(name)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn network(url: &str, error: &ureq::Error) -> HubError {
    HubError::Network { url: url.to_owned(), reason: error.to_string(), kept: 0 }
}

fn broken(metadata: &Metadata, reason: String, kept: u64) -> HubError {
    HubError::Network { url: metadata.url.clone(), reason, kept }
}
