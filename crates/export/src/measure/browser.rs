//! The answers of an exported page, by Chromium.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use super::child::Child;
use super::question::{Answered, EXAMPLES, FEATURES, Question};
use super::server::Server;

/// The names that Chromium has.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
/// Bytes of a folder's path with which that of Chromium's socket in it, 46 longer, has at most 104 with the zero at its end.
const LONGEST_SCRATCH: usize = 57;
/// What is served beside the page.
const PAGE: (&str, &str) = ("measure.html", include_str!("measure.html"));
const SCRIPT: (&str, &str) = ("measure.js", include_str!("measure.js"));

/// What the page in a folder answers.
///
/// # Errors
/// The reason why there are no answers.
pub(super) fn answer(question: &Question<'_>, folder: &Path) -> Result<Answered, String> {
    for (name, text) in [PAGE, SCRIPT] {
        question.put(name, text.as_bytes()).map_err(|error| error.to_string())?;
    }
    let beside = [PAGE.0, SCRIPT.0, EXAMPLES, FEATURES].map(|name| question.scratch.join(name));
    let server = Server::open(folder, &beside).map_err(|error| error.to_string())?;
    let mut browser = start(&server.address(PAGE.0), question)?;
    let said = server.posted(question.most_bytes(), || match browser.ended()? {
        Some(status) => Err(browser.problem(status)),
        None => Ok(()),
    })?;
    question.read(&said)
}

/// Opens a page in a browser without a window.
fn start<'a>(address: &str, question: &Question<'a>) -> Result<Child<'a>, String> {
    let scratch = question.scratch;
    for name in NAMES {
        let mut command = Command::new(name);
        // The page is this program's own; containers have no sandbox to offer.
        command.args(["--headless", "--no-sandbox", "--enable-unsafe-webgpu", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-sync", "--disable-quic"]);
        // What a driver on the processor takes minutes for is no hang.
        command.args(["--disable-component-update", "--disable-gpu-watchdog"]);
        command.arg(format!("--user-data-dir={}", scratch.join("profile").display()));
        // Where it puts a socket, whose path may not be long.
        if scratch.as_os_str().len() <= LONGEST_SCRATCH {
            command.env("TMPDIR", scratch);
        }
        command.arg(address);
        match Child::start(&mut command, &scratch.join("browser.txt"), question.patience) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            started => return started.map_err(|error| format!("{name}: {error}")),
        }
    }
    Err("no Chromium".to_owned())
}
