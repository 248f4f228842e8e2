//! Chromium, driven by its DevTools protocol over two pipes: what a page computes, says and looks like.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take: the driver on the processor compiles for seconds, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(600);

/// The browser's program.
pub fn chromium() -> &'static str {
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    ];
    let found = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    found.expect("no Chromium: run the tests through tests/run.sh")
}

/// A browser that is closed when this is dropped.
pub struct Browser {
    process: Child,
    requests: File,
    answers: Receiver<Value>,
    session: String,
    last: u64,
    /// What was said on the console, and errors that nobody caught.
    pub console: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Opens one, with WebGPU or without, and an empty page in it.
    pub fn open(webgpu: bool) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let [requests, answers] = ["requests", "answers"].map(|name| profile.path().join(name));
        let made = Command::new("mkfifo").args([&requests, &answers]).status().unwrap();
        assert!(made.success());
        let mut command = Command::new("sh");
        // The protocol's pipes are the descriptors 3 and 4.
        command.args(["-c", "exec \"$0\" \"$@\" 3<\"$REQUESTS\" 4>\"$ANSWERS\"", chromium()]);
        command.env("REQUESTS", &requests).env("ANSWERS", &answers);
        command.args(["--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run"]);
        command.args(["--disable-quic", "--disable-background-networking", "--disable-sync"]);
        command.args(["--disable-component-update", "--hide-scrollbars"]);
        if webgpu {
            // What the driver on the processor takes minutes for is no hang.
            command.args(["--enable-unsafe-webgpu", "--disable-gpu-watchdog"]);
        }
        command.arg(format!("--user-data-dir={}", profile.path().join("profile").display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let requests = OpenOptions::new().write(true).open(requests).unwrap();
        let pipe = File::open(answers).unwrap();
        let (send, answers) = channel();
        thread::spawn(move || {
            for message in BufReader::new(pipe).split(0).map_while(Result::ok) {
                if send.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let (session, console) = (String::new(), Vec::new());
        let mut browser =
            Self { process, requests, answers, session, last: 0, console, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol; its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = self.session.as_str().into();
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        let begun = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let message = self.answers.recv_timeout(left);
            let message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.listen(&message);
        }
    }

    fn listen(&mut self, message: &Value) {
        let params = &message["params"];
        let said = match message["method"].as_str().unwrap_or_default() {
            "Runtime.consoleAPICalled" => params["args"].to_string(),
            "Runtime.exceptionThrown" => params["exceptionDetails"].to_string(),
            "Log.entryAdded" => params["entry"]["text"].to_string(),
            _ => return,
        };
        self.console.push(said);
    }

    /// Goes to an address.
    #[track_caller]
    pub fn go(&mut self, address: &str) {
        let gone = self.call("Page.navigate", json!({ "url": address }));
        assert!(gone["errorText"].is_null(), "{address}: {gone}");
    }

    /// Opens a file.
    #[track_caller]
    pub fn open_file(&mut self, path: &Path) {
        self.go(&format!("file://{}", path.canonicalize().unwrap().display()));
    }

    /// The value of an expression, once its promise is kept.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let said = self.call("Runtime.evaluate", asked);
        assert!(said["exceptionDetails"].is_null(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// Waits until the page of a model is ready or has failed, and tells which.
    #[track_caller]
    pub fn state(&mut self) -> String {
        let begun = Instant::now();
        loop {
            let state = self.value("document.documentElement?.dataset.state ?? ''");
            match state.as_str() {
                Some(state) if !state.is_empty() => return state.to_owned(),
                _ => {
                    assert!(begun.elapsed() < PATIENCE, "{}", self.value("document.body.innerText"))
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// As wide as a phone or a desktop, light or dark.
    pub fn screen(&mut self, width: u32, dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Saves what the page looks like, where a person asked for that by naming a folder.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("DISTIL_GPU_SCREENSHOTS") else { return };
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let data = self.call("Page.captureScreenshot", asked)["data"].take();
        std::fs::create_dir_all(&folder).unwrap();
        let file = Path::new(&folder).join(format!("{name}.png.base64"));
        std::fs::write(file, data.as_str().unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
