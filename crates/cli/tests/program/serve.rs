//! The server as a program: its arguments, its keys, a signal under load, and that its answers are those of `logits`. What
//! it answers is tested in its own crate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::texts::home;
use super::{Home, say, tensor};

/// A server that was started, and its address; it is killed when this is dropped before its end.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(home: &Home, arguments: &str) -> Self {
        let mut command = home.command(&format!("serve {arguments} --port 0 --device cpu --json"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("}\n") {
            assert!(out.read_line(&mut said).unwrap() > 0, "it ended: {said} {:?}", child.wait());
        }
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(
            said["plans"].as_u64().unwrap() > 0 && said["bytes"].as_u64().unwrap() > 0,
            "{said}"
        );
        Self { child, address: said["address"].as_str().unwrap().to_owned() }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        BufReader::new(stream)
    }

    /// Requests for answers that it has read so far.
    fn requests(&self) -> usize {
        let mut connection = self.connect();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.get_mut().write_all(request).unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("te_request_count"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    fn post(&self, path: &str, head: &str, body: &Value) -> (u16, Value) {
        let mut connection = self.connect();
        send(&mut connection, path, head, body);
        answer(&mut connection)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn send(connection: &mut BufReader<TcpStream>, path: &str, head: &str, body: &Value) {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{head}\r\n{body}"
    );
    connection.get_mut().write_all(request.as_bytes()).unwrap();
}

fn answer(connection: &mut BufReader<TcpStream>) -> (u16, Value) {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        assert!(connection.read_line(&mut head).unwrap() > 0, "half an answer: {head}");
        let line = head[before..].trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[test]
fn its_answers_are_those_of_logits() {
    let home = home();
    home.write("a.txt", "good films\nbad\nthe good bad film, a film!\na b c d e f g h\n");
    home.done("logits bert --input a.txt --out logits.safetensors --device cpu -q");
    let (shape, wanted) = tensor(&home.read("logits.safetensors"), "logits");
    assert_eq!(shape, [4, 3]);
    let serving = Serving::start(&home, "reviews=bert other=bert");
    let texts = home.read("a.txt");
    let texts = String::from_utf8(texts).unwrap();
    for (text, wanted) in texts.lines().zip(wanted.chunks(3)) {
        let body = json!({ "inputs": text, "raw_scores": true, "model": "other" });
        let (status, scores) = serving.post("/predict", "", &body);
        assert_eq!(status, 200, "{scores}");
        for one in scores.as_array().unwrap() {
            let label: usize =
                one["label"].as_str().unwrap().strip_prefix("LABEL_").unwrap().parse().unwrap();
            let score: f32 = serde_json::from_value(one["score"].clone()).unwrap();
            assert_eq!(score.to_bits(), wanted[label].to_bits(), "{text}");
        }
    }
}

/// What was sent before SIGTERM is answered, and the program ends well.
#[test]
#[cfg(unix)]
fn sigterm_under_load_answers_what_was_sent() {
    let home = home();
    let mut serving = Serving::start(&home, "bert");
    let body = json!({ "inputs": vec![["good film"]; 32] });
    let mut connections: Vec<_> = (0..12).map(|_| serving.connect()).collect();
    for connection in &mut connections {
        send(connection, "/predict", "", &body);
    }
    // All have been read, and some perhaps answered.
    while serving.requests() < 12 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = serving.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    for connection in &mut connections {
        let (status, scores) = answer(connection);
        assert_eq!((status, scores.as_array().unwrap().len()), (200, 32));
    }
    let status = serving.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut err = String::new();
    serving.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "", "nothing is said, and no text of a request");
}

#[test]
fn keys_come_from_a_file() {
    let home = home();
    home.write("keys.txt", "one-key\n\n  other-key \n");
    let serving = Serving::start(&home, "bert --api-key-file keys.txt");
    let body = json!({ "inputs": "good" });
    assert_eq!(serving.post("/predict", "", &body).0, 401);
    assert_eq!(serving.post("/predict", "Authorization: Bearer one\r\n", &body).0, 401);
    for key in ["one-key", "other-key"] {
        assert_eq!(
            serving.post("/predict", &format!("Authorization: Bearer {key}\r\n"), &body).0,
            200
        );
    }
}

#[test]
fn wrong_arguments_are_one_line() {
    let home = home();
    home.write("empty.txt", "\n \n");
    home.write("blank.txt", "a key\n");
    home.write("long.txt", "x".repeat(70_000));
    for (arguments, code, wanted) in [
        ("serve bert --host 0.0.0.0", 2, "give --api-key-file, or --no-auth"),
        ("serve bert bert", 2, "two models are called `bert`"),
        ("serve =bert", 2, "NAME=FOLDER"),
        ("serve bert --max-queue-tokens 0", 2, "max-queue-tokens is 0"),
        ("serve nowhere", 1, "config.json: no such file"),
        ("serve bert --api-key-file empty.txt", 1, "it has no key"),
        ("serve bert --api-key-file blank.txt", 1, "key 1 has a blank"),
        ("serve bert --api-key-file long.txt", 1, "65536 bytes of keys"),
        ("serve bert --api-key-file nowhere.txt", 1, "nowhere.txt"),
        ("serve bert --device gpu:999", 1, "there is no gpu:999"),
    ] {
        let said = say(home.command(&format!("{arguments} --port 0 --quiet")));
        assert_eq!(said.code, Some(code), "{arguments}: {said:?}");
        assert!(said.err.starts_with("error: ") && said.err.lines().count() == 1, "{said:?}");
        assert!(said.err.contains(wanted), "{arguments}: {said:?}");
    }
    // The parser's own.
    for (arguments, wanted) in [
        ("serve", "<MODEL>"),
        ("serve bert --host nowhere.example", "invalid IP address"),
        ("serve bert --port 70000", "70000"),
        ("serve bert --timeout 0", "1..=86400"),
        ("serve bert --device cuda", "auto, cpu, gpu or gpu:N"),
        ("serve bert --no-auth --api-key-file empty.txt", "cannot be used with"),
    ] {
        let said = say(home.command(arguments));
        assert_eq!(said.code, Some(2), "{arguments}: {said:?}");
        assert!(said.err.contains(wanted), "{arguments}: {said:?}");
    }
}
