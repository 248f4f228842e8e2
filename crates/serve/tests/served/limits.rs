//! What the server refuses: bodies, inputs and tokens that are too many, clients that are slow or gone, keys and names
//! that are wrong. No test needs time to be fast: where a limit is a time, the test waits for it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use distil_gpu_serve::{Options, Server};
use serde_json::json;

use super::client::{Answer, answer, ask, connect, get, metric, post, request, until};
use super::device::Control;
use super::home::{Home, Served, options};

fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

#[test]
fn large_bodies_and_heads() {
    let home = Home::new();
    let of = Options { max_body_bytes: 1000, max_inputs: 4, ..options(vec![home.classifier()]) };
    let served = Served::new(of);
    let long = json!({ "inputs": "good ".repeat(300) });
    let refused = post(served.address, "/predict", &long);
    assert_eq!((refused.status, &*error(&refused)), (413, "the body has more than 1000 bytes"));
    // Of a length that is not told beforehand.
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600)).repeat(3);
    let head = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let bytes = request("POST", "/predict", head, format!("{chunk}0\r\n\r\n").as_bytes());
    assert_eq!(ask(served.address, &bytes).unwrap().status, 413);
    let many = post(served.address, "/predict", &json!({ "inputs": vec![["a"]; 5] }));
    assert_eq!((many.status, error(&many).contains("the 4 that")), (413, true), "{}", error(&many));
    // A head beyond all bounds.
    let head = format!("X-Long: {}\r\nConnection: close\r\n", "x".repeat(100_000));
    let answer = ask(served.address, &request("GET", "/health", &head, b""));
    assert!(answer.is_none_or(|answer| answer.status == 431));
    // A length that lies, and bytes that are no HTTP.
    for bytes in [
        request("POST", "/predict", "Content-Length: 18446744073709551615\r\n", b"{}"),
        request("POST", "/predict", "Content-Length: -1\r\n", b"{}"),
        request("POST", "/predict", "Content-Length: 2\r\nContent-Length: 3\r\n", b"{}x"),
        b"\x16\x03\x01\x02\x00\x01\x00".repeat(50),
        b"GET\r\n\r\n".to_vec(),
    ] {
        let answer = ask(served.address, &bytes);
        assert!(answer.is_none_or(|answer| (400..500).contains(&answer.status)));
    }
    assert_eq!(get(served.address, "/health").status, 200);
}

#[test]
fn slow_clients_are_let_go() {
    let home = Home::new();
    let short = Duration::from_millis(300);
    let of = Options {
        header_timeout: short,
        body_timeout: short,
        max_connections: 4,
        ..options(vec![home.classifier()])
    };
    let served = Served::new(of);
    // As many as may be connected: some send nothing, some a head that never ends.
    let mut slow: Vec<_> = (0..4).map(|_| connect(served.address)).collect();
    for connection in &mut slow[2..] {
        connection
            .get_mut()
            .write_all(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-A: b")
            .unwrap();
    }
    // Others are answered once those are gone.
    assert_eq!(get(served.address, "/health").status, 200);
    for mut connection in slow {
        let mut rest = Vec::new();
        _ = connection.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    // A body that comes in parts, but never whole.
    let mut connection = connect(served.address);
    let whole = request("POST", "/predict", "Content-Length: 100\r\n", b"{\"inputs\"");
    connection.get_mut().write_all(&whole).unwrap();
    let answer = answer(&mut connection).unwrap();
    assert_eq!((answer.status, &*error(&answer)), (408, "the body did not come within 0.3 s"));
}

/// A device that waits, so that what is asked piles up.
#[test]
fn full_queues_and_late_answers() {
    let home = Home::new();
    let control = Control::new();
    let of = Options {
        max_queue_tokens: 12,
        max_requests: 5,
        request_timeout: Duration::from_secs(5),
        ..options(vec![home.classifier()])
    };
    let served = Served::on(of, control.opener());
    let address = served.address;
    let too_many = post(address, "/predict", &json!({ "inputs": vec![["good film"]; 4] }));
    assert_eq!((too_many.status, error(&too_many).contains("16 tokens")), (413, true));

    control.close_gate();
    let body = json!({ "inputs": "good film" }).to_string();
    let bytes = request("POST", "/predict", "Connection: close\r\n", body.as_bytes());
    let mut waiting = vec![connect(address)];
    waiting[0].get_mut().write_all(&bytes).unwrap();
    // The first is on the device; three wait, which fill the queue.
    until("the first is taken", || {
        metric(address, "te_request_count") >= 1.0 && metric(address, "te_queue_size") == 0.0
    });
    for count in 1..4 {
        let mut connection = connect(address);
        connection.get_mut().write_all(&bytes).unwrap();
        waiting.push(connection);
        until("it waits", || metric(address, "te_queue_size") == f64::from(count));
    }
    // A fifth finds no room for its tokens.
    let more = ask(address, &bytes).unwrap();
    assert!(error(&more).contains("12 tokens are waiting"), "{}", more.text());
    assert!(more.status == 429 && more.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // One client leaves: another takes its place, though the device has not looked at the queue since.
    drop(waiting.pop());
    let asked = || f64::from(u32::try_from(waiting.len()).unwrap());
    until("its request is given up", || metric(address, "te_request_count") > asked());
    let mut connection = connect(address);
    connection.get_mut().write_all(&bytes).unwrap();
    waiting.push(connection);
    // Nobody opens the gate: they are told that it takes too long.
    for connection in &mut waiting {
        let answer = answer(connection).unwrap();
        assert_eq!((answer.status, error(&answer).contains("within 5 s")), (408, true));
    }
    let runs = control.runs.load(Ordering::SeqCst);
    control.open_gate();
    assert_eq!(post(address, "/predict", &json!({ "inputs": "good" })).status, 200);
    // Of those that were given up, the device sees the one that it had; the others are dropped.
    assert_eq!(control.runs.load(Ordering::SeqCst), runs + 2);
    assert!(metric(address, "te_request_failure") >= 5.0);
}

#[test]
fn no_more_requests_are_looked_at_than_may_be_at_work() {
    let (home, control) = (Home::new(), Control::new());
    let of = Options { max_requests: 1, ..options(vec![home.classifier()]) };
    let served = Served::on(of, control.opener());
    let address = served.address;
    control.close_gate();
    let body = json!({ "inputs": "good film" }).to_string();
    let bytes = request("POST", "/predict", "Connection: close\r\n", body.as_bytes());
    let mut first = connect(address);
    first.get_mut().write_all(&bytes).unwrap();
    until("the first is at work", || metric(address, "te_request_count") >= 1.0);
    let more = ask(address, &bytes).unwrap();
    assert_eq!((more.status, more.header("retry-after")), (429, Some("1")), "{}", more.text());
    control.open_gate();
    assert_eq!(answer(&mut first).unwrap().status, 200);
}

#[test]
fn keys_keep_others_out() {
    let home = Home::new();
    let keys = vec!["first-key".to_owned(), "second-key".to_owned()];
    let served = Served::new(Options { keys, ..options(vec![home.classifier()]) });
    let address = served.address;
    let with = |path: &str, key: &str| {
        let head = format!("Authorization: {key}\r\nConnection: close\r\n");
        ask(address, &request("GET", path, &head, b"")).unwrap()
    };
    for path in ["/info", "/metrics", "/openapi.json", "/v1/models", "/predict", "/nothing"] {
        let refused = get(address, path);
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (401, Some("Bearer")),
            "{path}"
        );
        for wrong in
            ["Bearer first", "Bearer first-key2", "Basic first-key", "first-key", "Bearer "]
        {
            assert_eq!(with(path, wrong).status, 401, "{path} {wrong}");
        }
    }
    for key in ["Bearer first-key", "bearer second-key"] {
        assert_eq!(with("/info", key).status, 200);
    }
    for open in ["/", "/health", "/ping"] {
        assert_eq!(get(address, open).status, 200, "{open}");
    }
    // With a key any name will do: a proxy may stand before it.
    let head = "Host: example.org\r\nAuthorization: Bearer first-key\r\nConnection: close\r\n";
    assert_eq!(ask(address, &request("GET", "/info", head, b"")).unwrap().status, 200);
}

#[test]
fn a_page_elsewhere_reaches_nothing_by_its_own_name() {
    let home = Home::new();
    let served = Served::new(options(vec![home.classifier()]));
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.nip.io"] {
        let head = format!("Host: {host}\r\nConnection: close\r\n");
        let answer = ask(served.address, &request("GET", "/info", &head, b"")).unwrap();
        assert_eq!(answer.status, 421, "{host}");
    }
    let head = "Host: 127.0.0.1:1\r\nConnection: close\r\n";
    assert_eq!(ask(served.address, &request("GET", "/info", head, b"")).unwrap().status, 200);
}

#[test]
fn what_is_open_to_all_has_to_be_asked_for() {
    let home = Home::new();
    let model = home.classifier();
    let bound = |change: &dyn Fn(&mut Options)| {
        let mut options = options(vec![model.clone()]);
        change(&mut options);
        Server::bind(options).map(|_| ()).map_err(|error| error.to_string())
    };
    let everywhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let error = bound(&|options| options.host = everywhere).unwrap_err();
    assert!(error.contains("--api-key-file") && error.contains("--no-auth"), "{error}");
    bound(&|options| (options.host, options.no_auth) = (everywhere, true)).unwrap();
    bound(&|options| (options.host, options.keys) = (everywhere, vec!["k".to_owned()])).unwrap();
    for (change, why) in [
        (&(|options: &mut Options| options.models.clear()) as &dyn Fn(&mut Options), "no model"),
        (&|options| options.models.push(options.models[0].clone()), "two models are called"),
        (&|options| options.max_batch_tokens = 0, "max-batch-tokens is 0"),
        (&|options| options.keys = vec![String::new()], "empty"),
        (&|options| options.models[0].folder = "nowhere".into(), "config.json"),
    ] {
        let error = bound(change).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let served = Served::new(options(vec![model.clone()]));
    let port = served.address.port();
    let error = bound(&|options| options.port = port).unwrap_err();
    assert!(error.contains("cannot listen on 127.0.0.1:"), "{error}");
}
