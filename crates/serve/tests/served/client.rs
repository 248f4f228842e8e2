//! A client of few lines, so that what is sent is known to the byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A connection, which a test waits for no longer than a minute.
pub fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    let has = |name: &str| headers.to_ascii_lowercase().contains(name);
    let mut add = |line: String| bytes.extend_from_slice(line.as_bytes());
    if !has("host:") {
        add("Host: localhost\r\n".to_owned());
    }
    if method == "POST" && !has("content-type:") {
        add("Content-Type: application/json\r\n".to_owned());
    }
    if method == "POST" && !has("content-length:") && !has("transfer-encoding:") {
        add(format!("Content-Length: {}\r\n", body.len()));
    }
    add(format!("{headers}\r\n"));
    bytes.extend_from_slice(body);
    bytes
}

/// Reads an answer; nothing where the connection ended before one.
pub fn answer(connection: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut head = String::new();
    loop {
        let before = head.len();
        match connection.read_line(&mut head) {
            Ok(0) | Err(_) => return None,
            Ok(_) if head[before..].trim_end().is_empty() => break,
            Ok(_) => {}
        }
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: Vec::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    match length {
        Some(length) => {
            answer.body = vec![0; length];
            connection.read_exact(&mut answer.body).ok()?;
        }
        None => drop(connection.read_to_end(&mut answer.body)),
    }
    Some(answer)
}

/// Asks on a connection of its own.
pub fn ask(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut connection = connect(address);
    // The server may refuse before it has read all.
    _ = connection.get_mut().write_all(bytes);
    answer(&mut connection)
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, &request("GET", path, "Connection: close\r\n", b"")).unwrap()
}

pub fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    ask(address, &request("POST", path, "Connection: close\r\n", body.as_bytes())).unwrap()
}

/// The value of a metric, all of its labels together.
pub fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = get(address, "/metrics").text();
    let of_line = |line: &str| {
        let (known, value) = line.rsplit_once(' ')?;
        let known = known.split('{').next()?;
        (known == name).then(|| value.parse::<f64>().unwrap())
    };
    text.lines().filter_map(of_line).sum()
}

/// Waits until something is so, for a minute at most.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within a minute");
}
