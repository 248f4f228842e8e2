//! `distil-gpu generate --to`: what a model writes, as lines that a student is taught with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::data::disk::disk_error;
use distil_gpu_engine::data::text::{Document, Message, read_documents};
use distil_gpu_engine::files::write_atomically;
use distil_gpu_engine::generate::{Prompt, TextGenerator};
use distil_gpu_engine::measure::scored;
use distil_gpu_engine::store::Storage;
use distil_gpu_engine::words::counted_thousands;
use serde_json::{Map, Value, json};

use super::generate::Args;
use crate::{Voice, say, say_json};

/// A prompt, and the line that becomes of it as far as it is known.
pub struct Asked {
    pub prompt: Prompt,
    line: Map<String, Value>,
}

impl Asked {
    /// A prompt as a line has it: `prompt`, or `messages`.
    pub fn new(prompt: Prompt) -> Self {
        let (key, value) = match &prompt {
            Prompt::Text(text) => ("prompt", json!(text)),
            Prompt::Chat(messages) => {
                let message =
                    |one: &Message| json!({ "role": one.role.name(), "content": one.content });
                ("messages", messages.iter().map(message).collect())
            }
        };
        let line = Map::from_iter([(key.to_owned(), value)]);
        Self { prompt, line }
    }

    /// The line with what was written.
    fn answered(&self, made: &scored::Scored) -> Value {
        let mut line = self.line.clone();
        let text = &made.continuation.text;
        match line.get_mut("messages").and_then(Value::as_array_mut) {
            Some(messages) => messages.push(json!({ "role": "assistant", "content": text })),
            None => drop(line.insert("completion".to_owned(), json!(text))),
        }
        line.insert("tokens".to_owned(), json!(made.continuation.tokens.len()));
        line.insert("log_probability".to_owned(), json!(made.log_probability));
        line.insert("finish_reason".to_owned(), json!(made.continuation.end.name()));
        Value::Object(line)
    }

    /// Whether a line is of this prompt.
    fn is_of(&self, line: &str) -> bool {
        let Ok(Value::Object(mut line)) = serde_json::from_str(line) else { return false };
        if let Some(messages) = line.get_mut("messages").and_then(Value::as_array_mut) {
            messages.pop();
        }
        self.line.iter().all(|(key, value)| line.get(key) == Some(value))
    }
}

/// The prompts of documents: what stands before a completion, or before the last answer of a chat.
pub fn prompts(path: &Path) -> Result<Vec<Asked>> {
    let read = read_documents(path, "text", true)?;
    let prompt = |(number, document): (usize, &Document)| {
        Prompt::of(document).with_context(|| {
            format!(
                "{}: document {} is one text and has no prompt: give rows of `prompt` and `completion`, or of `messages`",
                path.display(),
                number + 1
            )
        })
    };
    let all = read.documents.all().iter().enumerate();
    all.map(|document| Ok(Asked::new(prompt(document)?))).collect()
}

/// Writes what a model makes of all prompts into a file of JSON lines, on from where an interrupted command ended.
pub fn write(
    args: &Args,
    generator: &TextGenerator<'_>,
    (asked, path): (&[Asked], &Path),
    voice: Voice,
) -> Result<()> {
    let done = kept(path, asked, generator.rows)?;
    let name = || path.display().to_string();
    let mut file = OpenOptions::new().append(true).open(path).with_context(name)?;
    let prompts: Vec<Prompt> = asked[done..].iter().map(|one| one.prompt.clone()).collect();
    let mut device = super::open(&args.device, false, voice)?;
    let bar = super::bar(voice, asked.len(), "texts");
    bar.inc(done as u64);
    let mut tokens = 0;
    let made = scored::write(
        &mut *device,
        generator,
        Storage::F32,
        (&prompts, done),
        &mut |first, made| {
            let lines = asked[first..].iter().zip(made);
            let text: String =
                lines.map(|(asked, made)| format!("{}\n", asked.answered(made))).collect();
            tokens += made.iter().map(|one| one.continuation.tokens.len()).sum::<usize>();
            bar.inc(made.len() as u64);
            let written = file.write_all(text.as_bytes()).and_then(|()| file.flush());
            written.map_err(|error| disk_error(path)(error).into())
        },
    );
    bar.finish_and_clear();
    made?;
    if voice.json {
        let written = asked.len() - done;
        return say_json(
            &json!({ "file": path, "written": written, "there": done, "tokens": tokens }),
        );
    }
    say(format_args!(
        "{}: {} written, {done} there already; {}",
        path.display(),
        counted_thousands(asked.len() - done, "text"),
        counted_thousands(tokens, "token"),
    ))
}

/// How many of the prompts have their lines, which stay; texts that were written side by side stay together or are written
/// again, so that an interrupted command ends with the same bytes.
fn kept(path: &Path, asked: &[Asked], rows: usize) -> Result<usize> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| path.display().to_string())?,
    };
    let whole: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    let known = whole.len() <= asked.len()
        && whole.iter().zip(asked).all(|(line, asked)| asked.is_of(line));
    if !known {
        bail!(
            "{}: it holds what was made of other prompts: give --to another file, or remove it",
            path.display()
        );
    }
    let done = match whole.len() == asked.len() {
        true => whole.len(),
        false => whole.len() / rows * rows,
    };
    write_atomically(path, whole[..done].concat().as_bytes())?;
    Ok(done)
}
