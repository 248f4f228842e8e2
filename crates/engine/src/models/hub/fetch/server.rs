//! A hub of one model on loopback, for tests: as much of the protocol as a download needs, and every lie about it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The model's name, and the hash of its only commit.
pub(super) const ID: &str = "owner/model";
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the hub behaves.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Manner {
    /// As it should.
    Good,
    /// Closes the connection in the middle of a large file.
    BreaksOff,
    /// Falls silent in the middle of a large file.
    FallsSilent,
    /// Sends a large file from its start when asked for the rest.
    KnowsNoRanges,
    /// Has no such part of a large file, whichever is asked for but the whole.
    LacksRanges,
    /// Sends another part of a large file than was asked for.
    SendsAnotherPart,
    /// Sends more of a large file than there is, without telling how much.
    SendsMore,
    /// Announces other lengths of large files than they have.
    OtherLength,
    /// Sends other bytes of large files, as many.
    OtherBytes,
    /// Sends all files packed, whatever was asked for.
    Packs,
    /// Answers every request with this status and `X-Error-Code`.
    Refuses(u16, &'static str),
    /// Refuses files as `Refuses` does, and not what it tells of the model.
    RefusesFiles(u16, &'static str),
    /// Answers so many requests with this status and `Retry-After`.
    Busy(u16, &'static str, usize),
    /// Names this as the commit.
    Commit(&'static str),
    /// Names this as the commit of files.
    CommitOfFiles(&'static str),
    /// Gives files this header in the place of ETag.
    Etag(&'static str),
    /// Tells these sizes of large files.
    Size(&'static str),
    /// Has large files at this server.
    Elsewhere(String),
    /// Redirects every request for a file to this.
    Redirects(&'static str),
    /// Redirects every request to the same again.
    RedirectsForEver,
    /// Lists so many files that no reader should take them.
    ListsForEver,
    /// Answers every request with a page.
    IsNoHub,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub token: Option<String>,
    /// First byte asked for, of a part.
    pub range: Option<usize>,
}

/// The ETag of a file, from its name and bytes.
pub(super) type Tag = fn(&str, &[u8]) -> String;

/// How long a hub that falls silent is so: longer than a test waits.
const SILENCE: Duration = Duration::from_secs(2);

/// The hub's files and the log of what it was asked.
pub(super) struct Server {
    pub endpoint: String,
    files: Vec<(String, Vec<u8>)>,
    tag: Tag,
    manner: Mutex<Manner>,
    requests: Mutex<Vec<Request>>,
}

/// A large file lies on another server, and its hash is told.
fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors")
}

/// A tag that is no hash.
pub(super) fn plain_tag(file: &str, _: &[u8]) -> String {
    format!("etag-of-{}", file.replace(['.', '/'], "-"))
}

impl Server {
    pub fn start(files: &[(&str, &[u8])], tag: Tag) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            files: files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect(),
            tag,
            manner: Mutex::new(Manner::Good),
            requests: Mutex::default(),
        });
        let shared = server.clone();
        // It ends with the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = shared.clone();
                // A client that goes away early is its own affair.
                thread::spawn(move || server.answer(stream).ok());
            }
        });
        server
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// One request on one connection.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let request = read_request(&stream)?;
        self.requests.lock().unwrap().push(request.clone());
        let manner = self.manner.lock().unwrap().clone();
        let reply = Reply { stream: &mut stream, body: request.method != "HEAD" };
        match manner {
            Manner::Refuses(status, code) => return reply.refuse(status, code),
            Manner::IsNoHub => return reply.whole("200 OK", "", b"<html>"),
            Manner::RedirectsForEver => {
                return reply.redirect(&format!("{}{}", self.endpoint, request.path), "");
            }
            Manner::ListsForEver => {
                reply.head("200 OK", "")?;
                stream.write_all(br#"{"siblings": ["#)?;
                loop {
                    stream.write_all(&br#"{"rfilename": "a"}, "#.repeat(4096))?;
                }
            }
            Manner::Busy(status, after, times) if times > 0 => {
                self.behave(Manner::Busy(status, after, times - 1));
                let header = format!("Retry-After: {after}\r\n");
                return reply.whole(&format!("{status} Busy"), &header, b"");
            }
            _ => {}
        }
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        match parts[..] {
            [
                "api",
                "models",
                "owner",
                "model",
                "revision",
                "main" | "v1" | "refs%2Fpr%2F1" | COMMIT,
            ] => {
                let siblings: Vec<String> = self
                    .files
                    .iter()
                    .map(|(name, _)| format!(r#"{{"rfilename": "{name}"}}"#))
                    .collect();
                let sha = if let Manner::Commit(sha) = manner { sha } else { COMMIT };
                let json = format!(r#"{{"sha": "{sha}", "siblings": [{}]}}"#, siblings.join(","));
                reply.whole("200 OK", "", json.as_bytes())
            }
            ["api", "models", "owner", "model", ..] => reply.refuse(404, "RevisionNotFound"),
            ["owner", "model", "resolve", COMMIT, ref file @ ..] => {
                self.resolve(reply, &file.join("/"), &request, &manner)
            }
            ["elsewhere", ref file @ ..] => self.send(reply, &file.join("/"), &request, &manner),
            _ => reply.refuse(401, "RepoNotFound"),
        }
    }

    /// Tells of a file: a small one by the file itself, a large one by where it is.
    fn resolve(
        &self,
        reply: Reply<'_>,
        file: &str,
        request: &Request,
        manner: &Manner,
    ) -> std::io::Result<()> {
        let Some((_, bytes)) = self.files.iter().find(|(name, _)| name == file) else {
            return reply.refuse(404, "EntryNotFound");
        };
        match manner {
            Manner::RefusesFiles(status, code) => return reply.refuse(*status, code),
            Manner::Redirects(location) => return reply.redirect(location, ""),
            _ => {}
        }
        if !is_large(file) {
            return self.send(reply, file, request, manner);
        }
        let etag = (self.tag)(file, bytes);
        let etag = if let Manner::Etag(etag) = manner { etag } else { &*etag };
        let size = bytes.len().to_string();
        let size = if let Manner::Size(size) = manner { size } else { &*size };
        let headers = format!(
            "{}X-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {size}\r\n",
            commit_header(manner)
        );
        let at = if let Manner::Elsewhere(at) = manner { at } else { &self.endpoint };
        reply.redirect(&format!("{at}/elsewhere/{file}"), &headers)
    }

    fn send(
        &self,
        reply: Reply<'_>,
        file: &str,
        request: &Request,
        manner: &Manner,
    ) -> std::io::Result<()> {
        let Some((_, bytes)) = self.files.iter().find(|(name, _)| name == file) else {
            return reply.refuse(404, "EntryNotFound");
        };
        let etag = (self.tag)(file, bytes);
        let etag = if let Manner::Etag(etag) = manner { etag } else { &*etag };
        let mut headers = format!("{}ETag: \"{etag}\"\r\n", commit_header(manner));
        if *manner == Manner::Packs {
            headers += "Content-Encoding: gzip\r\n";
        }
        if !is_large(file) {
            return reply.whole("200 OK", &headers, bytes);
        }
        let first = request.range.unwrap_or(0);
        let body = &bytes[first.min(bytes.len())..];
        let half = &body[..body.len().div_ceil(2)];
        let length = format!("Content-Length: {}\r\n", body.len());
        let range =
            |first| format!("Content-Range: bytes {first}-{}/{}\r\n", bytes.len() - 1, bytes.len());
        match manner {
            Manner::KnowsNoRanges => return reply.whole("200 OK", &headers, bytes),
            Manner::LacksRanges if first > 0 => return reply.refuse(416, ""),
            Manner::OtherLength => return reply.whole("200 OK", &headers, half),
            Manner::OtherBytes => return reply.whole("200 OK", &headers, &vec![8; bytes.len()]),
            Manner::SendsMore => {
                reply.head("200 OK", &headers)?;
                return reply.stream.write_all(&bytes.repeat(3));
            }
            _ if first >= bytes.len() => return reply.refuse(416, ""),
            _ => {}
        }
        headers += &match manner {
            Manner::SendsAnotherPart => range(first.saturating_sub(1)),
            _ => range(first),
        };
        reply.head("206 Partial Content", &(headers + &length))?;
        match manner {
            Manner::BreaksOff => reply.stream.write_all(half),
            Manner::FallsSilent => {
                reply.stream.write_all(half)?;
                thread::sleep(SILENCE);
                Ok(())
            }
            _ => reply.stream.write_all(body),
        }
    }
}

fn commit_header(manner: &Manner) -> String {
    let commit = if let Manner::CommitOfFiles(commit) = manner { commit } else { COMMIT };
    format!("X-Repo-Commit: {commit}\r\n")
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    let mut request = Request { method: next(), path: next(), token: None, range: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match &*name.to_lowercase() {
            "authorization" => request.token = Some(value.to_owned()),
            "range" => {
                let (first, last) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                assert_eq!(last, "");
                request.range = Some(first.parse().unwrap());
            }
            _ => {}
        }
    }
    Ok(request)
}

/// An answer on its way.
struct Reply<'a> {
    stream: &'a mut TcpStream,
    /// Whether the request asks for more than the head.
    body: bool,
}

impl Reply<'_> {
    fn head(&self, status: &str, headers: &str) -> std::io::Result<()> {
        let mut stream = &*self.stream;
        stream.write_all(
            format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes(),
        )
    }

    fn whole(self, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
        let length = format!("Content-Length: {}\r\n", body.len());
        self.head(status, &(length + headers))?;
        if self.body { self.stream.write_all(body) } else { Ok(()) }
    }

    fn redirect(self, to: &str, headers: &str) -> std::io::Result<()> {
        self.whole("302 Found", &format!("Location: {to}\r\n{headers}"), b"")
    }

    fn refuse(self, status: u16, code: &str) -> std::io::Result<()> {
        self.whole(&format!("{status} No"), &format!("X-Error-Code: {code}\r\n"), b"")
    }
}
