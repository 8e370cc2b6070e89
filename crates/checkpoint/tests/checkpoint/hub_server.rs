//! A small Hub on loopback, which can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The one repository of a [`Server`].
pub const REPO: &str = "owner/model";
/// Its commit, which `main` and `v2` stand for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server holds, and how it behaves.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// The files of the repository.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The token that is asked for.
    pub token: Option<&'static str>,
    /// How many more downloads break off half way.
    pub cuts: usize,
    /// Whether ranges are passed over, and the whole file sent.
    pub no_ranges: bool,
    /// What the listing says in place of the commit.
    pub commit: Option<&'static str>,
    /// The ETag of every file, in place of its own.
    pub etag: Option<&'static str>,
    /// The listing, in place of the right one.
    pub listing: Option<&'static str>,
    /// Bytes that each file is said to have more than it has.
    pub exaggerated: i64,
}

/// A request, as the server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// A Hub with one repository. Files that end in `.safetensors` or `.bin` are in a store under another host name.
#[derive(Debug)]
pub struct Server {
    pub url: String,
    state: Arc<Mutex<(Behaviour, Vec<Request>)>>,
    ended: Arc<AtomicBool>,
    port: u16,
}

impl Server {
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(Mutex::new((behaviour, Vec::new())));
        let ended = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&state), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, port, &shared));
            }
        });
        Self { url: format!("http://127.0.0.1:{port}"), state, ended, port }
    }

    /// A repository with these files.
    pub fn with_files(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        Self::start(Behaviour { files, ..Behaviour::default() })
    }

    /// How it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().0);
    }

    /// What has been asked for, once; the list is empty then.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().1)
    }

    fn lock(&self) -> MutexGuard<'_, (Behaviour, Vec<Request>)> {
        self.state.lock().expect("no thread has failed")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that listens, so that the port is free.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, port: u16, state: &Mutex<(Behaviour, Vec<Request>)>) {
    let Some(request) = read(&stream) else { return };
    let behaviour = {
        let mut state = state.lock().expect("no thread has failed");
        state.1.push(request.clone());
        state.0.clone()
    };
    let head_only = request.method == "HEAD";
    let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let resolve = format!("/{REPO}/resolve/{COMMIT}/");
    let of_store = path.strip_prefix("/store/");
    if of_store.is_none() {
        if let Some(token) = behaviour.token
            && request.authorization.as_deref() != Some(&format!("Bearer {token}"))
        {
            return answer(&mut stream, "401 Unauthorized", &[("X-Error-Code", "GatedRepo")], b"", head_only);
        }
        let revision = path.strip_prefix(&format!("/api/models/{REPO}/revision/"));
        if let Some(revision) = revision {
            if !["main", "v2", COMMIT].contains(&revision) {
                let code = [("X-Error-Code", "RevisionNotFound")];
                return answer(&mut stream, "404 Not Found", &code, b"", head_only);
            }
            let listing = behaviour.listing.map_or_else(|| listing(&behaviour), str::to_owned);
            let kind = [("Content-Type", "application/json")];
            return answer(&mut stream, "200 OK", &kind, listing.as_bytes(), head_only);
        }
    }
    let name = of_store.or_else(|| path.strip_prefix(&resolve));
    let Some((name, bytes)) = name.and_then(|name| Some((name, behaviour.files.get(name)?))) else {
        return answer(&mut stream, "404 Not Found", &[("X-Error-Code", "RepoNotFound")], b"", head_only);
    };
    let etag = behaviour.etag.map_or_else(|| format!("\"{}\"", etag(bytes)), str::to_owned);
    let size = (bytes.len() as i64 + behaviour.exaggerated).to_string();
    if of_store.is_none() && (name.ends_with(".safetensors") || name.ends_with(".bin")) {
        let location = format!("http://localhost:{port}/store/{}", name.replace(' ', "%20"));
        let headers = [
            ("Location", location.as_str()),
            ("X-Repo-Commit", COMMIT),
            ("ETag", "\"of-the-page\""),
            ("X-Linked-Etag", etag.as_str()),
            ("X-Linked-Size", size.as_str()),
        ];
        return answer(&mut stream, "302 Found", &headers, b"elsewhere", head_only);
    }
    let from = match &request.range {
        Some(range) if !behaviour.no_ranges => {
            range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("an open range")
        }
        _ => 0,
    };
    if from > 0 && from >= bytes.len() {
        return answer(&mut stream, "416 Range Not Satisfiable", &[], b"", head_only);
    }
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    let mut headers = vec![("ETag", etag.as_str()), ("X-Repo-Commit", COMMIT)];
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    if from > 0 {
        headers.push(("Content-Range", &range));
    }
    let rest = &bytes[from..];
    if !head_only && behaviour.cuts > 0 && of_store.is_some() {
        state.lock().expect("no thread has failed").0.cuts -= 1;
        return send(&mut stream, status, &headers, rest.len(), &rest[..rest.len() / 2]);
    }
    answer(&mut stream, status, &headers, rest, head_only);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.replace("%20", " "));
    let (mut range, mut authorization) = (None, None);
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = Some(value.to_owned()),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                authorization = Some(value.to_owned());
            }
            _ => {}
        }
    }
    Some(Request { method, path, range, authorization })
}

fn listing(behaviour: &Behaviour) -> String {
    let files: Vec<_> = behaviour
        .files
        .iter()
        .map(|(name, bytes)| format!(r#"{{"rfilename": "{name}", "size": {}}}"#, bytes.len()))
        .collect();
    let commit = behaviour.commit.unwrap_or(COMMIT);
    format!(r#"{{"id": "{REPO}", "sha": "{commit}", "siblings": [{}]}}"#, files.join(", "))
}

/// A name of the content.
pub fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}{:08x}", bytes.len())
}

fn answer(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8], head_only: bool) {
    send(stream, status, headers, body.len(), if head_only { b"" } else { body });
}

fn send(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], length: usize, body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // The client may be gone by now.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
