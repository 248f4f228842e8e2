//! Serves known files to a browser on this computer, and takes what it sends back: HTTP/1.1, one request a connection.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Bytes of a request's head, at most.
const MOST_HEAD: usize = 16 << 10;
/// How long a browser may take to begin a request on a connection, some of which it opens for later.
const HEAD: Duration = Duration::from_millis(500);
/// How long it may take to send or take more.
const BODY: Duration = Duration::from_secs(30);
/// From one look for a connection to the next.
const PAUSE: Duration = Duration::from_millis(5);
/// Where answers are sent to.
const ANSWERS: &str = "answers";

/// A server of a few files, whose paths begin with what no other program knows.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    secret: String,
    /// By their names.
    files: BTreeMap<String, PathBuf>,
}

/// A request.
struct Request {
    is_post: bool,
    path: String,
    length: usize,
    /// What came of the body with the head.
    begun: Vec<u8>,
}

impl Server {
    /// Serves the files of a folder, and these beside them, on a port of this computer that is free.
    pub fn open(folder: &Path, beside: &[PathBuf]) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let own = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        let own = own.collect::<io::Result<Vec<PathBuf>>>()?;
        let named = |path: &PathBuf| {
            Some((path.file_name()?.to_str()?.to_owned(), path.clone())).filter(|_| path.is_file())
        };
        let files = own.iter().chain(beside).filter_map(named).collect();
        let secret = format!("{:016x}", RandomState::new().build_hasher().finish());
        Ok(Self { listener, secret, files })
    }

    /// The address of a file.
    pub fn address(&self, name: &str) -> String {
        let port = self.listener.local_addr().map_or(0, |address| address.port());
        format!("http://127.0.0.1:{port}/{}/{name}", self.secret)
    }

    /// Serves until answers are sent, and gives them; `still` says whether there is anyone to wait for.
    ///
    /// # Errors
    /// As `still`, and where the computer has no more connections to give.
    pub fn posted(
        &self,
        most: usize,
        mut still: impl FnMut() -> Result<(), String>,
    ) -> Result<Vec<u8>, String> {
        loop {
            still()?;
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // In the place of a connection that broke the browser opens another.
                    if let Ok(Some(answers)) = self.reply(stream, most) {
                        return Ok(answers);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Replies to one request; what it sent, where these are answers.
    fn reply(&self, mut stream: TcpStream, most: usize) -> io::Result<Option<Vec<u8>>> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HEAD))?;
        stream.set_write_timeout(Some(BODY))?;
        let Some(request) = read_head(&mut stream)? else { return Ok(None) };
        stream.set_read_timeout(Some(BODY))?;
        let name = request.path.strip_prefix(&*format!("/{}/", self.secret));
        match name {
            Some(ANSWERS) if request.is_post && request.length <= most => {
                let mut body = request.begun;
                body.truncate(request.length);
                let left = request.length - body.len();
                (&stream).take(left as u64).read_to_end(&mut body)?;
                send(&mut stream, "200 OK", "text/plain", &[])?;
                Ok((body.len() == request.length).then_some(body))
            }
            Some(name) if !request.is_post => {
                match self.files.get(name).map(fs::read) {
                    Some(Ok(content)) => send(&mut stream, "200 OK", kind(name), &content)?,
                    _ => send(&mut stream, "404 Not Found", "text/plain", &[])?,
                }
                Ok(None)
            }
            _ => send(&mut stream, "404 Not Found", "text/plain", &[]).map(|()| None),
        }
    }
}

/// The head of a request; none that is not one, or too long.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let end = loop {
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..read]);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) => break end,
            None if read == 0 || bytes.len() > MOST_HEAD => return Ok(None),
            None => {}
        }
    };
    let begun = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes);
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().map_or(Some(0), |(_, value)| value.trim().parse().ok());
    let is_post = method == "POST";
    let known = is_post || method == "GET";
    let request = |length| Request { is_post, path: path.to_owned(), length, begun };
    Ok(length.filter(|_| known).map(request))
}

fn send(stream: &mut TcpStream, status: &str, kind: &str, content: &[u8]) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(content)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html",
        Some((_, "js")) => "text/javascript",
        Some((_, "json")) => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a request as it stands, and gives the reply.
    fn ask(server: &Server, request: &str) -> String {
        let address = server.listener.local_addr().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = String::new();
        // One that is refused early may break the connection before it is read whole.
        _ = stream.read_to_string(&mut reply);
        reply
    }

    #[test]
    fn known_files_and_answers_are_all_that_passes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("page.html"), "page").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let beside = tempfile::NamedTempFile::new().unwrap();
        fs::write(beside.path(), "beside").unwrap();
        let server = Server::open(folder.path(), &[beside.path().to_owned()]).unwrap();
        let name = beside.path().file_name().unwrap().to_str().unwrap();
        let (own, most) = (format!("/{}", server.secret), 10);
        let posted = thread::scope(|scope| {
            let waits = scope.spawn(|| server.posted(most, || Ok(())));
            // One that says nothing holds up nobody for long.
            let idle = TcpStream::connect(server.listener.local_addr().unwrap()).unwrap();
            for (request, wanted) in [
                (format!("GET {own}/page.html HTTP/1.1\r\n\r\n"), "200 OK"),
                (format!("GET {own}/{name} HTTP/1.1\r\n\r\n"), "beside"),
                (format!("GET {own}/folder HTTP/1.1\r\n\r\n"), "404"),
                (format!("GET {own}/../page.html HTTP/1.1\r\n\r\n"), "404"),
                ("GET /page.html HTTP/1.1\r\n\r\n".to_owned(), "404"),
                (format!("POST {own}/page.html HTTP/1.1\r\n\r\n"), "404"),
                ("POST /answers HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]".to_owned(), "404"),
                (format!("POST {own}/answers HTTP/1.1\r\nContent-Length: 11\r\n\r\n"), "404"),
                (format!("POST {own}/answers HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), ""),
                (format!("POST {own}/answers HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort"), ""),
                (format!("DELETE {own}/page.html HTTP/1.1\r\n\r\n"), ""),
                ("\u{1}\r\n\r\n".to_owned(), ""),
                (format!("GET {own}/{} HTTP/1.1", "x".repeat(2 * MOST_HEAD)), ""),
            ] {
                let reply = ask(&server, &request);
                assert!(reply.contains(wanted), "{request}: {reply}");
                assert!(!wanted.is_empty() || !reply.contains("page"), "{request}: {reply}");
            }
            drop(idle);
            ask(&server, &format!("POST {own}/answers HTTP/1.1\r\ncontent-length: 2\r\n\r\n[]"));
            waits.join().unwrap()
        });
        assert_eq!(posted.unwrap(), b"[]");
        assert_eq!(server.posted(most, || Err("gone".to_owned())).unwrap_err(), "gone");
    }
}
