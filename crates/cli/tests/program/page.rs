//! Models as pages: what is written, and what a real browser computes with it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::browser::Browser;
use super::commands::{base, replaced};
use super::{Home, safetensors, tensor};
use super::{tasks, texts};

/// How far logits may be from those of `logits`, relative to the largest where that is above 1.
const NEAR: f64 = 1e-5;

const TEXTS: [&str; 4] =
    ["good films!", "the bad film, and a good one", "zebra \u{1f600} 日本", "a"];

/// The answers of the page that is open.
fn answers(browser: &mut Browser, examples: &Value) -> Vec<f64> {
    let asked = format!("student.answer({examples}).then((all) => all.flatMap((own) => [...own]))");
    let answers = browser.value(&asked);
    answers.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_near(own: &[f64], wanted: &[f32], limit: f64) {
    assert_eq!(own.len(), wanted.len());
    let scale = wanted.iter().fold(1.0, |most: f64, logit| most.max(f64::from(logit.abs())));
    for (own, wanted) in own.iter().zip(wanted) {
        let apart = (own - f64::from(*wanted)).abs();
        assert!(apart <= limit * scale, "{own} for {wanted}");
    }
}

/// What `logits` answers.
fn logits(home: &Home, model: &str, input: &str) -> Vec<f32> {
    home.done(&format!("logits {model} --input {input} --out answers.safetensors --device cpu -q"));
    tensor(&home.read("answers.safetensors"), "logits").1
}

/// The folder of a run in the home of another test, with what a page reads of it.
fn copy(from: &Path, home: &Home, name: &str) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_file() {
            home.write(&name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// A home with the run of pictures.
fn pictures() -> Home {
    let home = Home::new();
    copy(&base().0.path("base"), &home, "base");
    copy(&base().0.path("base/student"), &home, "base/student");
    home
}

#[test]
fn a_page_is_one_file_that_loads_nothing() {
    let home = pictures();
    let printed = home.done("export base/student --to student.html");
    assert!(printed.starts_with("student.html is written, "), "{printed}");
    let page = String::from_utf8(home.read("student.html")).unwrap();
    assert!(page.contains("content=\"default-src 'none'; script-src 'sha256-"));
    for part in ["src=\"http", "href=\"http", "import ", "@import", "fonts."] {
        assert!(
            !page.contains(&format!("\n{part}")) && !page.contains(&format!("={part}")),
            "{part}"
        );
    }
    // Its own weights, and no others.
    assert!(page.len() < 300_000, "{} bytes", page.len());
    home.refused(
        "export base/student --to student.html",
        &["student.html is there already", "--force"],
    );
    let said: Value =
        serde_json::from_str(&home.done("export base/student --to student.html --force --json"))
            .unwrap();
    assert_eq!(said["weights"], "f16");
    assert_eq!(said["bytes"], page.len());
    home.done("export base/student --to folder --only web --web-weights f32");
    for file in ["index.html", "bundle.json", "weights-0.bin", "runtime.js", "main.js", "page.css"]
    {
        assert!(home.path("folder/web").join(file).is_file(), "{file}");
    }
    assert!(!home.path("folder/web/tokenizers.js").exists());
    home.refused("export base/student --to folder", &["folder is there already", "--force"]);
}

#[test]
fn what_no_page_shows_is_refused() {
    let home = Home::new();
    home.refused("export none --to x.html", &["none"]);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    copy(&fixtures.join("bert-mlm"), &home, "mlm");
    home.refused(
        "export mlm --to x.html",
        &["cannot make a page of mlm", "masked-lm", "a classifier"],
    );
    home.write_hand();
    home.write_f32(
        "hand/model.safetensors",
        &[
            ("layers.0.weight", &[2, 2], &[1e5, -2.0, 0.5, 0.25]),
            ("layers.0.bias", &[2], &[0.5, -1.0]),
            ("layers.1.weight", &[3, 2], &[1.0, 0.0, -1.0, 2.0, 0.5, 0.5]),
            ("layers.1.bias", &[3], &[0.0, 0.25, -0.5]),
        ],
    );
    home.refused("export hand --to x.html", &["`layers.0.weight` holds 100000", "in f32"]);
    home.done("export hand --to x.html --web-weights f32");
    let run = pictures();
    let report = run.read("base/report.json");
    run.write("base/report.json", &report[..report.len() / 2]);
    run.refused("export base/student --to x.html", &["base/report.json: damaged"]);
}

/// A page in a browser that has come to rest, with nothing on its console.
fn ready(home: &Home, page: &str) -> Browser {
    let mut browser = Browser::open(true);
    browser.open_file(&home.path(page));
    let state = browser.state();
    assert_eq!(state, "ready", "{}", browser.value("document.body.innerText"));
    browser
}

/// How much wider the page is than the screen.
fn overflow(browser: &mut Browser) -> Value {
    browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
}

#[track_caller]
fn assert_quiet(browser: &Browser) {
    assert!(browser.console.is_empty(), "{:#?}", browser.console);
}

#[test]
fn pictures_are_answered_as_by_the_program() {
    let home = pictures();
    // Names that would break a page, if they could.
    let hostile = "</script><img src=x onerror=document.title=1>";
    let config = String::from_utf8(home.read("base/student/config.json")).unwrap();
    home.write("base/student/config.json", replaced(&config.into_bytes(), "Trouser", hostile));
    let shades: Vec<u8> = (0..70 * 784_u32).map(|at| (at * at % 251) as u8).collect();
    let pixels: [(&str, Dtype, &[usize], &[u8]); 1] =
        [("features", Dtype::U8, &[70, 1, 28, 28], &shades)];
    home.write("inputs.safetensors", safetensors(&pixels));
    let wanted = logits(&home, "base/student", "inputs.safetensors");
    let examples: Vec<&[u8]> = shades.chunks(784).collect();
    home.done("export base/student --to student.html --web-weights f32");
    let mut browser = ready(&home, "student.html");
    // One by one, and many at once.
    assert_near(&answers(&mut browser, &json!([examples[0]])), &wanted[..10], NEAR);
    assert_near(&answers(&mut browser, &json!(examples)), &wanted, NEAR);
    // The run's examples, beside the teacher's answers.
    let first = "document.querySelectorAll('.examples button').length > 3 && document.querySelector('.examples button').click()";
    assert_ne!(browser.value(first), false);
    let teachers = "new Promise((done) => setInterval(() => document.querySelector('.bars .teacher') && done(document.querySelectorAll('.bars tbody tr').length), 50))";
    assert!(browser.value(teachers).as_u64().unwrap() >= 3);
    assert_eq!(
        browser.value("document.images.length > 3 && document.querySelector('[onerror]')"),
        Value::Null
    );
    assert!(browser.value("document.body.innerText").as_str().unwrap().contains(hostile));
    for (width, dark) in [(1280, false), (1280, true), (360, false)] {
        browser.screen(width, dark);
        assert_eq!(overflow(&mut browser), 0, "{width}");
        browser.picture(&format!("pictures-{width}-{}", if dark { "dark" } else { "light" }));
    }
    // A device that is lost is opened again.
    browser.value("student.runtime.device.destroy()");
    assert_near(&answers(&mut browser, &json!([examples[1]])), &wanted[10..20], NEAR);
    assert_quiet(&browser);
}

#[test]
fn texts_are_answered_as_by_the_program() {
    let home = texts::home();
    home.write("texts.txt", TEXTS.join("\n"));
    let wanted = logits(&home, "bert", "texts.txt");
    home.done("export bert --to student.html --web-weights f32 --example good");
    let mut browser = ready(&home, "student.html");
    assert_near(&answers(&mut browser, &json!([TEXTS[0]])), &wanted[..3], NEAR);
    assert_near(&answers(&mut browser, &json!(TEXTS)), &wanted, NEAR);
    assert!(browser.value("student.test()").as_f64().unwrap() <= NEAR);
    assert!(
        browser
            .value("document.querySelector('.bars caption').textContent")
            .as_str()
            .unwrap()
            .contains("Most likely")
    );
    for (width, dark) in [(1280, false), (1280, true), (360, true)] {
        browser.screen(width, dark);
        assert_eq!(overflow(&mut browser), 0, "{width}");
        browser.picture(&format!("texts-{width}-{}", if dark { "dark" } else { "light" }));
    }
    assert_quiet(&browser);
    // In f16 the answers are those of the rounded weights.
    home.done("export bert --to half.html");
    browser.open_file(&home.path("half.html"));
    assert_eq!(browser.state(), "ready");
    assert_near(&answers(&mut browser, &json!(TEXTS)), &wanted, 1e-2);
    // In eight bits they are the program's own in eight bits.
    home.done("export bert --to eighths.html --web-weights int8");
    home.done("logits bert --input texts.txt --out eighths --weights int8 --device cpu -q");
    let wanted = tensor(&home.read("eighths"), "logits").1;
    browser.open_file(&home.path("eighths.html"));
    assert_eq!(browser.state(), "ready");
    assert_near(&answers(&mut browser, &json!(TEXTS)), &wanted, NEAR);
    assert_quiet(&browser);
}

#[test]
fn every_task_is_answered() {
    let home = tasks::home();
    for (case, name, shown) in [
        (0, "values", ".value"),
        (5, "labels", ".bars"),
        (7, "tags", ".words"),
        (2, "numbers", ".value"),
    ] {
        home.write(&format!("{name}.toml"), tasks::recipe(tasks::CASES[case], ""));
        home.done(&format!("run {name}.toml -q --out {name}"));
        home.done(&format!(
            "export {name}/student --to {name}.html --web-weights f32 --example films"
        ));
        let mut browser = ready(&home, &format!("{name}.html"));
        let seen = format!(
            "new Promise((done) => setInterval(() => document.querySelector('{shown}') && done(true), 50))"
        );
        assert_eq!(browser.value(&seen), true, "{name}");
        assert!(browser.value("student.test()").as_f64().unwrap() <= 1e-4);
        browser.screen(360, false);
        assert_eq!(overflow(&mut browser), 0, "{name}");
        browser.picture(&format!("{name}-360-light"));
        assert_quiet(&browser);
    }
}

#[test]
fn nothing_is_answered_that_is_not_as_it_was() {
    let home = texts::home();
    home.done("export bert --to student.html");
    let page = String::from_utf8(home.read("student.html")).unwrap();
    // As a driver that computes something else would do.
    let (before, after) = page.split_once("\"logits\":[").unwrap();
    home.write("wrong.html", format!("{before}\"logits\":[9,{}", after.split_once(',').unwrap().1));
    let (before, after) = page.split_once("\"ids\":[").unwrap();
    home.write("tokens.html", format!("{before}\"ids\":[7,{after}"));
    let mut browser = Browser::open(true);
    for (page, wanted) in [("wrong.html", "off by"), ("tokens.html", "other tokens of")] {
        browser.open_file(&home.path(page));
        assert_eq!(browser.state(), "failed");
        let said = browser.value("document.getElementById('state').textContent");
        let said = said.as_str().unwrap();
        assert!(said.contains("No answers are shown") && said.contains(wanted), "{said}");
        assert_eq!(browser.value("document.getElementById('try').hidden"), true);
    }
    assert_quiet(&browser);
    let mut browser = Browser::open(false);
    browser.open_file(&home.path("student.html"));
    assert_eq!(browser.state(), "failed");
    let said = browser.value("document.getElementById('state').textContent");
    assert!(said.as_str().unwrap().contains("WebGPU"), "{said}");
    browser.screen(360, false);
    browser.picture("without-webgpu");
    // Chromium says so itself.
    browser.console.retain(|said| !said.contains("No available adapters"));
    assert_quiet(&browser);
}

/// A picture of so many pixels in colour, 24 bits each.
fn bitmap(width: u32, height: u32) -> Vec<u8> {
    let row = (3 * width).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for word in
        [54 + row * height, 0, 54, 40, width, height, 24 << 16 | 1, 0, row * height, 0, 0, 0, 0]
    {
        file.extend(word.to_le_bytes());
    }
    let shade = |x: u32, y: u32| ((x * 7 + y * y * 3 + x * y) % 256) as u8;
    for y in 0..height {
        let pixels = (0..3 * width).map(|at| shade(at, y));
        file.extend(pixels.chain([0; 3]).take(row as usize));
    }
    file
}

#[test]
fn a_picture_of_another_size_is_read_as_by_the_program() {
    let home = pictures();
    home.write("picture.bmp", bitmap(61, 40));
    let wanted = logits(&home, "base/student", "picture.bmp");
    home.done("export base/student --to student.html --web-weights f32");
    let mut browser = ready(&home, "student.html");
    // What the view hands to the model is kept, once it is none of what the page itself begins with.
    let kept = "{ const answer = student.answer.bind(student), known = new Set(); window.read = new Promise((done) => { student.answer = (rows) => { const key = String(rows[0]); if (window.chosen && !known.has(key)) done(rows); known.add(key); return answer(rows); }; }); } new Promise((done) => setTimeout(done, 2000, 0))";
    browser.value(kept);
    browser.value("window.chosen = true");
    let file = browser.call(
        "Runtime.evaluate",
        json!({ "expression": "document.querySelector('input[type=file]')" }),
    );
    let path = home.path("picture.bmp").canonicalize().unwrap();
    let chosen = json!({ "files": [path], "objectId": file["result"]["objectId"] });
    browser.call("DOM.setFileInputFiles", chosen);
    let own = browser.value("window.read.then(student.answer).then(([own]) => [...own])");
    let own: Vec<f64> = own.as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect();
    // A shade may be rounded the other way: 1 / 255 of one pixel.
    assert_near(&own, &wanted, 2e-3);
    assert_quiet(&browser);
}

/// Serves a folder, as a web server would.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
            let name = if path.is_empty() { "index.html" } else { &path };
            let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
                Some("html") => "text/html",
                Some("js") => "text/javascript",
                Some("css") => "text/css",
                Some("json") => "application/json",
                _ => "application/octet-stream",
            };
            let (status, body) = match std::fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

#[test]
fn a_folder_is_served() {
    let home = texts::home();
    home.write("texts.txt", TEXTS.join("\n"));
    let wanted = logits(&home, "bert", "texts.txt");
    home.done("export bert --to folder --only web --web-weights f32");
    let mut browser = Browser::open(true);
    browser.go(&serve(home.path("folder/web")));
    assert_eq!(browser.state(), "ready");
    assert_near(&answers(&mut browser, &json!(TEXTS)), &wanted, NEAR);
    assert_quiet(&browser);
    // Damaged on the way.
    let mut weights = home.read("folder/web/weights-0.bin");
    weights[100] ^= 1;
    home.write("folder/web/weights-0.bin", weights);
    browser.go(&serve(home.path("folder/web")));
    assert_eq!(browser.state(), "failed");
    let said = browser.value("document.getElementById('state').textContent");
    assert!(said.as_str().unwrap().contains("damaged"), "{said}");
}
