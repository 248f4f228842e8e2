//! The answers of onnxruntime, by Python.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use super::child::Child;
use super::question::{Answered, EXAMPLES, Question};

const SCRIPT: &str = include_str!("onnxruntime.py");
/// The script's exit code where it lacks a package.
const LACKS: i32 = 3;
const NONE: &str = "no Python with onnxruntime";

/// What an ONNX file answers.
///
/// # Errors
/// The reason why there are no answers.
pub(super) fn answer(question: &Question<'_>, file: &Path) -> Result<Answered, String> {
    // No name of a package, which a script would find beside itself.
    let script =
        question.put("measure.py", SCRIPT.as_bytes()).map_err(|error| error.to_string())?;
    let [examples, answers, said] =
        [EXAMPLES, "answers.json", "python.txt"].map(|name| question.scratch.join(name));
    // Those of another file.
    _ = fs::remove_file(&answers);
    let mut command = Command::new(question.python);
    command.args([&*script, file, &*examples, &*answers]);
    let mut python =
        Child::start(&mut command, &said, question.patience).map_err(|_| NONE.to_owned())?;
    let status = python.wait()?;
    match status.code() {
        Some(0) => {}
        Some(LACKS) => return Err(NONE.to_owned()),
        _ => return Err(python.problem(status)),
    }
    let mut bytes = Vec::new();
    let file = File::open(&answers);
    let read =
        file.and_then(|file| file.take(question.most_bytes() as u64).read_to_end(&mut bytes));
    read.map_err(|_| "it left no answers".to_owned())?;
    question.read(&bytes)
}
