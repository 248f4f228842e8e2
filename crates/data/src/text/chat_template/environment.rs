//! What templates of transformers find: its functions and filters, methods of Python's values, and
//! `{% generation %}`, which the template library does not know.

use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use super::Message;
use super::json;

/// The template's name in its environment.
pub(super) const NAME: &str = "chat";
/// The filter that marks what is generated.
const FILTER: &str = "__generation";
/// Begin and end of what is generated: code points that are no characters and stand in no text.
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// The day that templates are told it is, so that a chat is the same text whenever it is written: that which the templates
/// of Llama 3 write where they are told none, a Friday, and the 208th of its year.
const TODAY: [(char, &str); 17] = [
    ('Y', "2024"),
    ('y', "24"),
    ('m', "07"),
    ('d', "26"),
    ('e', "26"),
    ('B', "July"),
    ('b', "Jul"),
    ('h', "Jul"),
    ('A', "Friday"),
    ('a', "Fri"),
    ('j', "208"),
    ('H', "00"),
    ('I', "12"),
    ('M', "00"),
    ('S', "00"),
    ('p', "AM"),
    ('%', "%"),
];

/// An environment with a template, as transformers sets its own up.
pub(super) fn build(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", |format: String| date(&format));
    environment.add_filter("tojson", |state: &State<'_, '_>, value: Value, options: Kwargs| {
        json::write(state, &value, &options)
    });
    environment.add_filter(FILTER, |body: String| format!("{}{body}{}", MARKS[0], MARKS[1]));
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// How a message begins that a template gave itself.
const RAISED: &str = "the template refuses it: ";

/// What an error says, in one line.
pub(super) fn told(error: &Error) -> String {
    if let Some(raised) = error.detail().filter(|detail| detail.starts_with(RAISED)) {
        return raised.replace('\n', " ").chars().take(400).collect();
    }
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let shown = match error.kind() {
        ErrorKind::OutOfFuel => "it does or writes more than a template may".to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    format!("{line}{shown}").replace('\n', " ").chars().take(400).collect()
}

/// [`TODAY`] in a format of `strftime`.
fn date(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let letter = letters.next();
        // A dash leaves out the zero in front, of which there is one at most.
        let (letter, bare) =
            if letter == Some('-') { (letters.next(), true) } else { (letter, false) };
        let known = TODAY.iter().find(|(known, _)| Some(*known) == letter);
        let (_, text) = known.ok_or_else(|| {
            let problem = format!("strftime_now cannot write {format:?}");
            Error::new(ErrorKind::InvalidOperation, problem)
        })?;
        let stripped = text.strip_prefix('0').filter(|_| bare);
        out.push_str(stripped.unwrap_or(text));
    }
    Ok(out)
}

/// A template in which `{% generation %}` is a filter that marks what is within, and whether there was any.
pub(super) fn marked(source: &str) -> (String, bool) {
    let (mut out, mut marks, mut rest) = (String::new(), false, source);
    while let Some(at) = rest.find("{%").into_iter().chain(rest.find("{#")).min() {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let close = if tag.starts_with("{#") { "#}" } else { "%}" };
        // A sign that opens does not close: `{%}` has no end.
        let Some(len) = tag[2..].find(close) else {
            rest = tag;
            break;
        };
        let (tag, behind) = tag.split_at(2 + len + 2);
        rest = behind;
        let inner = &tag[2..2 + len];
        let word = inner.trim_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => format!("filter {FILTER}"),
            "endgeneration" => "endfilter".to_owned(),
            _ => {
                out.push_str(tag);
                continue;
            }
        };
        marks = true;
        let sign = |letter: Option<char>| letter.filter(|letter| matches!(letter, '-' | '+'));
        let [first, last] = [sign(inner.chars().next()), sign(inner.chars().next_back())];
        out.push_str("{%");
        out.extend(first);
        out.push_str(&format!(" {replacement} "));
        out.extend(last);
        out.push_str("%}");
    }
    out.push_str(rest);
    (out, marks)
}

/// Refuses a message that has the marks in it.
pub(super) fn check_unmarked(message: &Message) -> Result<(), String> {
    match message.content.contains(MARKS) {
        true => {
            Err("a message has the code point U+FDD0 or U+FDD1, which is no character".to_owned())
        }
        false => Ok(()),
    }
}

/// A text without marks, and what they stood around.
pub(super) fn unmarked(text: &str) -> Result<(String, Vec<Range<usize>>), String> {
    let (mut out, mut spans) = (String::with_capacity(text.len()), Vec::new());
    let mut open = None;
    for part in text.split_inclusive(MARKS) {
        let plain = part.trim_end_matches(MARKS);
        out.push_str(plain);
        match (part[plain.len()..].chars().next(), open) {
            (None, _) => {}
            (Some(mark), None) if mark == MARKS[0] => open = Some(out.len()),
            (Some(mark), Some(start)) if mark == MARKS[1] => {
                spans.push(start..out.len());
                open = None;
            }
            _ => return Err("its {% generation %} lie within each other".to_owned()),
        }
    }
    match open {
        None => Ok((out, spans)),
        Some(_) => Err("a {% generation %} has no end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_filters_where_they_are_tags() {
        for (source, wanted) in [
            // What opens does not close itself.
            ("{%}", "{%}"),
            ("{#}{% generation %}", "{#}{% generation %}"),
            (
                "a{% generation %}b{% endgeneration %}c",
                "a{% filter __generation %}b{% endfilter %}c",
            ),
            (
                "{%- generation-%}b{%+endgeneration +%}",
                "{%- filter __generation -%}b{%+ endfilter +%}",
            ),
            ("{# {% generation %} #}{% if a %}", "{# {% generation %} #}{% if a %}"),
            (
                "{{ generation }}{% set generation = 1 %}{% x",
                "{{ generation }}{% set generation = 1 %}{% x",
            ),
        ] {
            assert_eq!(marked(source), (wanted.to_owned(), wanted.contains("filter")));
        }
    }

    #[test]
    fn marks_become_spans() {
        let text = "a\u{fdd0}bé\u{fdd1}c\u{fdd0}\u{fdd1}";
        assert_eq!(unmarked(text), Ok(("abéc".to_owned(), vec![1..4, 5..5])));
        assert_eq!(unmarked("plain"), Ok(("plain".to_owned(), Vec::new())));
        for broken in ["\u{fdd0}", "\u{fdd1}", "\u{fdd0}a\u{fdd0}\u{fdd1}\u{fdd1}"] {
            assert!(unmarked(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn the_day_is_written_in_every_form() {
        assert_eq!(date("%d %b %Y, %A").unwrap(), "26 Jul 2024, Friday");
        assert_eq!(date("%-m/%-d/%y %H:%M:%S %-I%p %j%%").unwrap(), "7/26/24 00:00:00 12AM 208%");
        for format in ["%Q", "%", "%-"] {
            assert!(date(format).is_err(), "{format}");
        }
    }
}
