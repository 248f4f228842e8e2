//! Devices that fail, models that cannot be loaded, and the end under load.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use distil_gpu_engine::Error;
use distil_gpu_engine::device::Device;
use distil_gpu_serve::{Options, Server};
use serde_json::json;

use super::client::{answer, ask, connect, get, metric, post, request, until};
use super::device::Control;
use super::home::{Home, Served, options};

#[test]
fn a_device_that_is_lost_is_opened_again_and_nothing_is_lost() {
    let home = Home::new();
    let control = Control::new();
    let served = Served::on(options(vec![home.classifier()]), control.opener());
    let address = served.address;
    let body = json!({ "inputs": "good film" });
    let before = post(address, "/predict", &body);
    assert_eq!(before.status, 200);
    for what in [&control.failures, &control.panics] {
        what.store(1, Ordering::SeqCst);
        let after = post(address, "/predict", &body);
        assert_eq!((after.status, after.body), (200, before.body.clone()));
        until("the device is there again", || get(address, "/health").status == 200);
    }
    assert_eq!(metric(address, "te_device_failures"), 2.0);
}

#[test]
fn a_request_that_a_device_fails_on_twice_is_refused() {
    let home = Home::new();
    let control = Control::new();
    let served = Served::on(options(vec![home.classifier()]), control.opener());
    let body = json!({ "inputs": "good film" });
    // Each run of a batch fails, and each that warms a new device up passes.
    control.fail_every_second.store(1, Ordering::SeqCst);
    let answer = post(served.address, "/predict", &body);
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert_eq!(answer.json()["error_type"], "Backend");
    control.fail_every_second.store(0, Ordering::SeqCst);
    until("the device is there again", || get(served.address, "/health").status == 200);
    assert_eq!(post(served.address, "/predict", &body).status, 200);
}

#[test]
fn while_no_device_can_be_opened_requests_are_told_so() {
    let home = Home::new();
    let control = Control::new();
    let served = Served::on(options(vec![home.classifier()]), control.opener());
    control.refusals.store(2, Ordering::SeqCst);
    control.failures.store(1, Ordering::SeqCst);
    let body = json!({ "inputs": "good film" });
    let answer = post(served.address, "/predict", &body);
    assert_eq!(answer.status, 503, "{}", answer.text());
    until("the device is there again", || get(served.address, "/health").status == 200);
    assert_eq!(post(served.address, "/predict", &body).status, 200);
}

#[test]
fn a_server_without_a_device_ends_with_its_error() {
    let home = Home::new();
    let open =
        || -> Result<Box<dyn Device>, Error> { Err(Error::NoDevice("none here".to_owned())) };
    let server = Server::bind(options(vec![home.classifier()])).unwrap();
    let error = server.run(open, || false, |_| panic!("nothing is ready")).unwrap_err();
    assert_eq!(error.to_string(), "none here");
}

/// Asked to stop under load, it answers what it took, and takes no more.
#[test]
fn the_end_under_load_answers_all_that_was_taken() {
    let home = Home::new();
    let control = Control::new();
    let served = Served::on(options(vec![home.classifier()]), control.opener());
    let address = served.address;
    control.close_gate();
    let body = json!({ "inputs": [["good film"], ["bad"]] }).to_string();
    let bytes = request("POST", "/predict", "", body.as_bytes());
    let mut connections: Vec<_> = (0..24).map(|_| connect(address)).collect();
    for connection in &mut connections {
        connection.get_mut().write_all(&bytes).unwrap();
    }
    until("all are taken", || metric(address, "te_request_count") == 24.0);
    served.ask_to_stop();
    control.open_gate();
    for connection in &mut connections {
        let answer = answer(connection).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    served.ended().unwrap();
    let refused = std::net::TcpStream::connect(address);
    assert!(refused.is_err(), "nobody listens any more");
}

/// Clients that ask while it ends are answered or see their connection end; none gets half an answer.
#[test]
fn clients_that_ask_to_the_end() {
    let home = Home::new();
    let of = Options { max_queue_tokens: 1000, ..options(vec![home.classifier()]) };
    let served = Served::new(of);
    let address = served.address;
    let (answered, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let bytes = request("POST", "/predict", "", json!({ "inputs": "good" }).to_string().as_bytes());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let Ok(stream) = std::net::TcpStream::connect(address) else { return };
                let mut connection = std::io::BufReader::new(stream);
                while connection.get_mut().write_all(&bytes).is_ok() {
                    match answer(&mut connection) {
                        Some(answer) if answer.status == 200 && answer.json().is_array() => {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        Some(answer) => wrong.lock().unwrap().push(answer.text()),
                        None => return,
                    }
                }
            });
        }
        until("many are answered", || answered.load(Ordering::SeqCst) > 100);
        served.ask_to_stop();
    });
    served.ended().unwrap();
    assert!(wrong.into_inner().unwrap().is_empty());
    assert!(ask_once_more(address, &bytes).is_none());
}

fn ask_once_more(address: std::net::SocketAddr, bytes: &[u8]) -> Option<()> {
    std::net::TcpStream::connect(address).ok()?;
    ask(address, bytes).map(|_| ())
}
