//! How causal language models go on with beginnings of test documents, for the page of a run.

use std::path::Path;

use crate::data::text::{Document, Documents};
use crate::data::{Corpus, Dataset, Examples, Tokenizer};
use crate::device::Device;
use crate::error::Error;
use crate::generate::{Prompt, TextGenerator};
use crate::models::{self, Input, ModelConfig};
use crate::results::{Arm, Continued, Part, Texts};
use crate::store::Stored;
use crate::words;

/// Beginnings that are shown, and training documents.
const SHOWN: usize = 3;
/// Words of a beginning.
const WORDS: usize = 12;
/// The most characters of a beginning.
const CHARACTERS: usize = 120;
/// Tokens that each model adds, at most; half of what it reads where that is less.
const TOKENS: usize = 48;
/// Parameters of a model that still writes texts on the processor: each token reads all of them.
const MOST_PARAMETERS: usize = 2_000_000_000;
/// The most characters of a training document that are shown.
const SHOWN_CHARACTERS: usize = 1200;

/// What the page shows of a run in this folder, whose models are saved there and `stored` so on the device; nothing where they are no causal language
/// models. Their memory on the device is given back.
pub(crate) fn texts<'s>(
    device: &mut dyn Device,
    folder: &Path,
    student: &ModelConfig,
    (train, test): (&Dataset, &Dataset),
    stored: &dyn Fn(Arm) -> Stored<'s>,
) -> Result<Option<Texts>, Error> {
    let (Examples::Documents(test), Input::Tokens(tokens)) = (test.examples(), &student.input)
    else {
        return Ok(None);
    };
    let tokenizer = tokens.tokenizer()?;
    let mut texts = Texts::default();
    if let Examples::Documents(train) = train.examples() {
        texts.learnt = learnt(train, tokenizer)?;
        texts.padding = train.packed(tokenizer, tokens.max_length)?.padding();
    }
    let prompts = prompts(test.documents());
    let added = TOKENS.min(tokens.max_length / 2);
    let room = tokens.max_length - added;
    let mut written: Vec<Vec<String>> = Vec::new();
    for arm in Arm::ALL {
        let folder = folder.join(arm.folder());
        if device.caps().software
            && models::load_config(&folder)?.parameter_count() > MOST_PARAMETERS
        {
            written.push(vec![String::new(); prompts.len()]);
            continue;
        }
        let (config, source) = models::open(&folder)?;
        let mut generator = TextGenerator::new(&config, source)?;
        generator.max_tokens = added;
        let mut of_arm = Vec::new();
        for prompt in &prompts {
            // What is too long for the models is shown without what they would write.
            let fits = generator.encode(prompt)?.len() <= room;
            let one = std::slice::from_ref(prompt);
            let made = match fits {
                true => generator.run(device, stored(arm), one, &mut |_, _| ())?,
                false => Vec::new(),
            };
            of_arm.push(made.into_iter().next().map_or(String::new(), |made| made.text));
        }
        written.push(of_arm);
    }
    texts.continued = prompts
        .iter()
        .enumerate()
        .map(|(at, prompt)| {
            let [teacher, control, distilled] =
                [0, 1, 2].map(|arm: usize| written[arm][at].clone());
            Continued { prompt: prompt.shown().to_owned(), teacher, control, distilled }
        })
        .filter(|one| one.models().iter().any(|(_, _, text)| !text.is_empty()))
        .collect();
    Ok(Some(texts))
}

/// The first documents in parts that are learnt and parts that are not; long ones are cut.
fn learnt(corpus: &Corpus, tokenizer: &Tokenizer) -> Result<Vec<Vec<Part>>, Error> {
    let documents = corpus.shown(tokenizer, SHOWN)?;
    let cut = |pieces: Vec<crate::data::text::ShownPiece>| {
        let mut left = SHOWN_CHARACTERS;
        let mut parts = Vec::new();
        for piece in pieces {
            if left == 0 {
                break;
            }
            let mut text: String = piece.text.chars().take(left).collect();
            left -= text.chars().count();
            if text.len() < piece.text.len() {
                text.push('…');
            }
            parts.push(Part { text, learnt: piece.counts });
        }
        parts
    };
    Ok(documents.into_iter().map(cut).collect())
}

/// Beginnings of documents that are spread over all of them, or of places that are spread over a single one.
fn prompts(documents: &Documents) -> Vec<Prompt> {
    let all = documents.all();
    if let [Document::Text(text)] = all {
        let place = |part: usize| {
            let from = words::floor_char_boundary(text, part * text.len() / SHOWN);
            let line = if part == 0 { 0 } else { text[from..].find('\n').map_or(0, |at| at + 1) };
            Prompt::Text(beginning(&text[from + line..]))
        };
        return (0..SHOWN).map(place).filter(is_something).collect();
    }
    let count = SHOWN.min(all.len());
    let of_document = |number: usize| match &all[number * all.len() / count] {
        Document::Text(text) => Some(Prompt::Text(beginning(text))),
        other => Prompt::of(other),
    };
    (0..count).filter_map(of_document).filter(is_something).collect()
}

fn is_something(prompt: &Prompt) -> bool {
    match prompt {
        Prompt::Text(text) => !text.trim().is_empty(),
        Prompt::Chat(messages) => !messages.is_empty(),
    }
}

/// The first words of a text.
fn beginning(text: &str) -> String {
    let text = text.trim_start();
    let mut spaces = text.char_indices().filter(|(_, c)| c.is_whitespace());
    let end = spaces.nth(WORDS - 1).map_or(text.len(), |(at, _)| at);
    text[..end].chars().take(CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_some_words() {
        assert_eq!(beginning("  a b"), "a b");
        let long = "word ".repeat(40);
        assert_eq!(beginning(&long).split(' ').count(), WORDS);
        assert_eq!(beginning(&"x".repeat(500)).len(), CHARACTERS);
    }

    #[test]
    fn one_long_text_has_several_beginnings() {
        let text = "The first line is here.\nThe second one.\nA third line of it.\nAnd the last.";
        let documents = Documents::new(vec![Document::Text(text.to_owned())]).unwrap();
        let found = prompts(&documents);
        let texts: Vec<&str> = found.iter().map(Prompt::shown).collect();
        assert_eq!(texts.len(), SHOWN);
        assert!(texts[0].starts_with("The first line") && texts[2].starts_with("And the last"));
        let several: Vec<_> = (0..7).map(|i| Document::Text(format!("text {i}"))).collect();
        let found = prompts(&Documents::new(several).unwrap());
        let texts: Vec<&str> = found.iter().map(Prompt::shown).collect();
        assert_eq!(texts, ["text 0", "text 2", "text 4"]);
    }
}
