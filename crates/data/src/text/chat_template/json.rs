//! JSON as Python's `json.dumps(…, ensure_ascii=False)` writes it, for templates.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// How deep lists and maps may lie in each other.
const DEEPEST: usize = 64;
/// The widest indentation.
const WIDEST: usize = 16;

/// The filter `tojson`, with its option `indent`.
///
/// # Errors
/// When a value is none that JSON has, or there is no fuel for more.
pub(super) fn write(
    state: &State<'_, '_>,
    value: &Value,
    options: &Kwargs,
) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut writer =
        Writer { state, indent: indent.map(|one| one.min(WIDEST)), out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    indent: Option<usize>,
    out: String,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // A list may hold another one many times, so that what is written is no measure of what there is.
        self.state.consume_fuel(1)?;
        if depth > DEEPEST {
            return Err(no(format!("lists and maps lie in each other more than {DEEPEST} deep")));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::String => self.text(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let mut items = value.try_iter()?.peekable();
                self.begin('[');
                let is_empty = items.peek().is_none();
                for (place, item) in items.enumerate() {
                    self.next(place, depth);
                    self.value(&item, depth + 1)?;
                }
                self.end(']', is_empty, depth);
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.peekable();
                self.begin('{');
                let is_empty = keys.peek().is_none();
                for (place, key) in keys.enumerate() {
                    self.next(place, depth);
                    match key.as_str() {
                        Some(key) => self.text(key)?,
                        None => return Err(no(format!("a key is {}", key.kind()))),
                    }
                    self.out.push_str(": ");
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.end('}', is_empty, depth);
            }
            kind => return Err(no(format!("{kind} is no value of JSON"))),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 64)?;
        let written = serde_json::to_string(text).map_err(|error| no(error.to_string()))?;
        self.out.push_str(&written);
        Ok(())
    }

    fn begin(&mut self, bracket: char) {
        self.out.push(bracket);
    }

    /// What stands before an item.
    fn next(&mut self, place: usize, depth: usize) {
        if place > 0 {
            self.out.push_str(if self.indent.is_some() { "," } else { ", " });
        }
        self.line(depth + 1);
    }

    fn end(&mut self, bracket: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent * depth));
        }
    }
}

fn no(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"))
}
