//! A hub of one model on loopback, for tests: as much of the protocol as a download needs.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The model's name, and the hash of its only commit.
pub(super) const ID: &str = "owner/model";
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the hub behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
    /// As it should.
    Good,
    /// Closes the connection in the middle of a large file.
    BreaksOff,
    /// Sends a large file from its start when asked for the rest.
    KnowsNoRanges,
    /// Answers every request with this status and `X-Error-Code`.
    Refuses(u16, &'static str),
    /// Refuses files as `Refuses` does, and not what it tells of the model.
    RefusesFiles(u16, &'static str),
    /// Names this as the commit.
    Commit(&'static str),
    /// Answers every request with a page.
    IsNoHub,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub path: String,
    pub token: Option<String>,
    /// First byte asked for, and last.
    pub range: Option<(usize, Option<usize>)>,
}

/// The hub's files and the log of what it was asked.
pub(super) struct Server {
    pub endpoint: String,
    files: Vec<(String, Vec<u8>)>,
    manner: Mutex<Manner>,
    requests: Mutex<Vec<Request>>,
}

/// A large file lies on another server.
fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors")
}

impl Server {
    pub fn start(files: &[(&str, &[u8])]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            files: files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect(),
            manner: Mutex::new(Manner::Good),
            requests: Mutex::default(),
        });
        let shared = server.clone();
        // It ends with the tests.
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away early is its own affair.
                let _ = stream.and_then(|stream| shared.answer(stream));
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
        let manner = *self.manner.lock().unwrap();
        match manner {
            Manner::Refuses(status, code) => return refuse(&mut stream, status, code),
            Manner::IsNoHub => return respond(&mut stream, "200 OK", "", b"<html>"),
            _ => {}
        }
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        match parts[..] {
            ["api", "models", "owner", "model", "revision", "main" | "v1" | COMMIT] => {
                let siblings: Vec<String> = self
                    .files
                    .iter()
                    .map(|(name, _)| format!(r#"{{"rfilename": "{name}"}}"#))
                    .collect();
                let sha = if let Manner::Commit(sha) = manner { sha } else { COMMIT };
                let json = format!(r#"{{"sha": "{sha}", "siblings": [{}]}}"#, siblings.join(","));
                respond(&mut stream, "200 OK", "", json.as_bytes())
            }
            ["api", "models", "owner", "model", ..] => refuse(&mut stream, 404, "RevisionNotFound"),
            ["owner", "model", "resolve", COMMIT, file] => {
                if let Manner::RefusesFiles(status, code) = manner {
                    return refuse(&mut stream, status, code);
                }
                let (status, to) = match is_large(file) {
                    true => ("302 Found", format!("{}/elsewhere/{file}", self.endpoint)),
                    false => ("307 Temporary Redirect", format!("/cached/{file}")),
                };
                let headers =
                    format!("{}Location: {to}\r\n", commit_headers(file, "X-Linked-ETag"));
                respond(&mut stream, status, &headers, b"")
            }
            ["elsewhere" | "cached", file] => self.send(&mut stream, file, &request, manner),
            _ => refuse(&mut stream, 401, "RepoNotFound"),
        }
    }

    fn send(
        &self,
        stream: &mut TcpStream,
        file: &str,
        request: &Request,
        manner: Manner,
    ) -> std::io::Result<()> {
        let Some((_, bytes)) = self.files.iter().find(|(name, _)| name == file) else {
            return refuse(stream, 404, "EntryNotFound");
        };
        let (start, end) = request.range.unwrap_or((0, None));
        let end = end.map_or(bytes.len(), |last| last + 1);
        let mut headers = commit_headers(file, "ETag");
        if manner == Manner::KnowsNoRanges && start > 0 {
            return respond(stream, "200 OK", &headers, bytes);
        }
        if start >= bytes.len() {
            return refuse(stream, 416, "");
        }
        headers += &format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, bytes.len());
        let body = &bytes[start..end];
        let sent = match manner == Manner::BreaksOff && is_large(file) && body.len() > 1 {
            true => body.len() / 2,
            false => body.len(),
        };
        head(stream, "206 Partial Content", &headers, body.len())?;
        stream.write_all(&body[..sent])
    }
}

fn commit_headers(file: &str, etag: &str) -> String {
    format!("X-Repo-Commit: {COMMIT}\r\n{etag}: \"etag-of-{}\"\r\n", file.replace('.', "-"))
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, token: None, range: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match &*name.to_lowercase() {
            "authorization" => request.token = Some(value.to_owned()),
            "range" => {
                let (first, last) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                request.range = Some((first.parse().unwrap(), last.parse().ok()));
            }
            _ => {}
        }
    }
    Ok(request)
}

fn head(stream: &mut TcpStream, status: &str, headers: &str, length: usize) -> std::io::Result<()> {
    let start = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{start}{headers}\r\n").as_bytes())
}

fn respond(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body)
}

fn refuse(stream: &mut TcpStream, status: u16, code: &str) -> std::io::Result<()> {
    respond(stream, &format!("{status} No"), &format!("X-Error-Code: {code}\r\n"), b"")
}
