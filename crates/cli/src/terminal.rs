//! What the program prints, and how wide.
//!
//! Names of classes, columns, keys and files come from files that anybody may have written. Printed as they are, they
//! could move the cursor, recolour the screen, rename its window or reverse the text around them; so all that is
//! printed goes through [`clean`].

use std::borrow::Cow;
use std::env;
use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use serde::Serialize;

/// Columns of a terminal whose width is not known, and of files and pipes.
const COLUMNS: usize = 80;
/// The narrowest that tables are laid out for.
const LEAST_COLUMNS: usize = 40;

/// Prints a result. That nobody reads on, as in `| head`, is no error.
pub fn say(result: impl Display) -> Result<()> {
    print(&clean(&result.to_string()))
}

/// Prints a part of a result, as it comes. Where nobody reads it, nothing is lost.
pub fn say_part(part: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{}", clean(part)).and_then(|()| out.flush());
}

/// Prints a result as JSON.
pub fn say_json(result: &impl Serialize) -> Result<()> {
    print(&clean_json(&serde_json::to_string_pretty(result).context("the result as JSON")?))
}

/// Prints what is beside the result. Where nobody can read it, nothing is lost.
pub fn note(note: impl Display) {
    let _ = writeln!(io::stderr(), "{}", clean(&note.to_string()));
}

fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to the standard output"),
    }
}

/// The text with all but harmless letters written out, as `\u{1b}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    escape(text, |letter, out| out.extend(letter.escape_unicode()))
}

/// The same for JSON, which has an escape of its own and reads back as it was. All such letters have four digits.
fn clean_json(json: &str) -> Cow<'_, str> {
    escape(json, |letter, out| {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{:04x}", u32::from(letter));
    })
}

fn escape(text: &str, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match is_harmful(letter) {
            true => write(letter, &mut cleaned),
            false => cleaned.push(letter),
        }
    }
    Cow::Owned(cleaned)
}

/// Whether a letter commands the terminal, or turns the text around it: controls but for newline and tab, and what
/// Unicode has to set the direction of writing.
fn is_harmful(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => letter.is_control(),
    }
}

/// Columns that tables may take: `COLUMNS` if that is set, else the terminal's, else 80.
pub fn width() -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let shown = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    let columns = asked.filter(|columns| *columns > 0).or_else(shown).unwrap_or(COLUMNS);
    columns.max(LEAST_COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_command_a_terminal_is_written_out() {
        for (raw, shown) in [
            ("plain, naïve, 漢字, 👩‍🔬\n\ttwo lines", "plain, naïve, 漢字, 👩‍🔬\n\ttwo lines"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}2J\r\x7f", "\\u{9b}2J\\u{d}\\u{7f}"),
            ("txt.\u{202e}exe\u{2066}", "txt.\\u{202e}exe\\u{2066}"),
        ] {
            assert_eq!(clean(raw), shown);
        }
    }

    #[test]
    fn json_reads_back_as_it_was() {
        let name = "\x1b[2J\u{9b}\u{202e}\x7f\"\n\té漢";
        let json = serde_json::to_string_pretty(&[name]).unwrap();
        let cleaned = clean_json(&json);
        assert!(!cleaned.contains(is_harmful) && cleaned.contains("\\u202e"), "{cleaned}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&cleaned).unwrap(), [name]);
    }
}
