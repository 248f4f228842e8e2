//! What a page must know to make a text's tokens as this program does: what is put around a text, what is cut, and texts
//! with their tokens to hold it to.

use distil_gpu_engine::Error;
use distil_gpu_engine::data::text::Words;
use distil_gpu_engine::data::{Text, Texts, Tokenizer};
use distil_gpu_engine::models::{Pooling, TokenInput};
use serde::Serialize;
use serde_json::Value;

/// Words whose tokens show where a text's own begin: the first that is found is taken.
const MARKS: [&str; 6] = ["a", "the", "one", "1", "film", "."];

/// Texts that a page's tokenizer is held to, beside those with many words: letters of many scripts, marks that combine,
/// signs, blanks of every kind.
const TEXTS: [&str; 15] = [
    "A warm and funny film, two hours well spent!",
    "It's (not) bad - 3.5/10, $9.99 & 50% off; e-mail me@example.org: https://example.org/?a=b#c",
    "UPPER lower MiXeD don't WON'T we'll 1,000,000 2nd",
    "Crème brûlée naïve façade Ångström Straße ﬁne œuvre",
    "e\u{301}te\u{301} n\u{303} a\u{30a} o\u{308}\u{304} Å Å",
    "日本語のテキスト 中文文本 한국어 텍스트",
    "𠮷野家で𠀀と𪚥を見る",
    "Привет мир Ελληνικά עברית العربية हिन्दी ไทย",
    "😀 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ ✨ ©®™",
    " blanks\tand\u{a0}wide\u{3000}ones\u{2003}here\u{200b}none\r\nlines ",
    "“quotes” ‘single’ „low“ «French» — dash – en … dots",
    "x² + y³ ≤ √z ≠ ∞ ½ ¾ ℃ Ⅻ",
    "\u{feff}mark \u{200d} \u{fe0f} \u{ad}soft\u{ad}hyphen \u{1}control",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "[CLS] [SEP] [MASK] <s> </s> <mask> ##ing",
];

/// What is put around a text, or around the two of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Around {
    /// Token numbers in front of the first text, behind each text.
    pub tokens: Vec<Vec<i32>>,
    /// Types of those and of the texts between them, in turn.
    pub types: Vec<i32>,
}

/// A text and its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The text; of words, these parted by blanks.
    pub text: String,
    /// The second one of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// Their tokens.
    pub ids: Vec<i32>,
}

/// How texts become tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TextRecipe {
    /// Most tokens of a text.
    pub max_length: usize,
    /// Row of the position table for the first token, where there is such a table.
    pub first_position: Option<usize>,
    /// Whether the model reads which of two texts a token is of.
    pub types: bool,
    /// What stands for a text.
    pub pooling: &'static str,
    /// What is put around a text.
    pub single: Around,
    /// What is put around two texts, where that can be told.
    pub pair: Option<Around>,
    /// Whether what is too long loses its beginning.
    pub cuts_left: bool,
    /// Whether words need a blank before them.
    pub blanks: bool,
    /// Texts with their tokens.
    pub checks: Vec<Check>,
}

impl TextRecipe {
    /// That of a model.
    ///
    /// # Errors
    /// [`Error::Data`] when it has no tokenizer; [`Error::Unsupported`] when what it puts around texts cannot be told.
    pub fn of(input: &TokenInput) -> Result<Self, Error> {
        let tokenizer = input.tokenizer()?;
        let single = around(tokenizer, false).ok_or_else(|| Error::Unsupported {
            what: "what the tokenizer puts around a text cannot be told".to_owned(),
            instead: "no page can be made of this model".to_owned(),
        })?;
        Ok(Self {
            max_length: input.max_length,
            first_position: input.first_position,
            types: input.type_vocab_size > 0,
            pooling: pooling(input.pooling),
            single,
            pair: around(tokenizer, true),
            cuts_left: cuts_left(tokenizer),
            blanks: blanks(tokenizer),
            checks: checks(tokenizer, input),
        })
    }
}

fn pooling(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::First => "first",
        Pooling::Mean => "mean",
        Pooling::MeanSqrtLength => "mean-sqrt-length",
        Pooling::WeightedMean => "weighted-mean",
        Pooling::Last => "last",
        Pooling::Max => "max",
        Pooling::Masked => "masked",
        Pooling::Words => "words",
        Pooling::Tokens => "tokens",
        Pooling::Next => "next",
    }
}

/// A text's tokens and types, at most so many; none where it becomes none.
fn encode(tokenizer: &Tokenizer, text: Text, most: usize) -> Option<(Vec<i32>, Vec<i32>)> {
    let tokens = tokenizer.encode_all(&Texts::new(vec![text]).ok()?, most).ok()?;
    let (ids, types) = tokens.row(0);
    Some((ids.to_vec(), types.to_vec()))
}

/// What is put around a text: what there is beside the tokens of a word that are known.
fn around(tokenizer: &Tokenizer, pair: bool) -> Option<Around> {
    const ROOM: usize = 64;
    let placing = tokenizer.placing();
    MARKS.into_iter().find_map(|mark| {
        let own = placing.encode(&[mark]).ok()?.remove(0).ids;
        let second = pair.then(|| mark.to_owned());
        let (ids, types) = encode(tokenizer, Text { first: mark.to_owned(), second }, ROOM)?;
        let texts = if pair { 2 } else { 1 };
        let mut around = Around { tokens: Vec::new(), types: Vec::new() };
        let mut from = 0;
        for _ in 0..texts {
            let at = from + ids[from..].windows(own.len().max(1)).position(|part| part == own)?;
            around.push(&ids[from..at], &types[from..at]);
            around.types.push(types[at]);
            from = at + own.len();
        }
        around.push(&ids[from..], &types[from..]);
        Some(around)
    })
}

impl Around {
    fn push(&mut self, ids: &[i32], types: &[i32]) {
        self.tokens.push(ids.to_vec());
        // All that stands between two texts is of one type.
        self.types.push(types.first().copied().unwrap_or(0));
    }
}

/// Whether a text that is too long loses its beginning: seen by what is left of one.
fn cuts_left(tokenizer: &Tokenizer) -> bool {
    const ROOM: usize = 1024;
    let text = (0..64).map(|word| format!("{} ", word * 37 % 64)).collect::<String>();
    let whole = encode(tokenizer, Text::from(&*text), ROOM);
    let cut = whole
        .as_ref()
        .and_then(|(ids, _)| encode(tokenizer, Text::from(&*text), ids.len().saturating_sub(1)));
    let single = around(tokenizer, false);
    match (whole, cut, single) {
        (Some((whole, _)), Some((cut, _)), Some(around)) => {
            let first = around.tokens[0].len();
            whole.get(first) != cut.get(first) && whole.get(first + 1) == cut.get(first)
        }
        _ => false,
    }
}

/// Whether words need a blank before them to be words: where bytes are read and no blank is added.
fn blanks(tokenizer: &Tokenizer) -> bool {
    fn does(value: &Value) -> bool {
        match value["type"].as_str() {
            Some("ByteLevel") => value["add_prefix_space"] == Value::Bool(false),
            Some("Sequence") => {
                value["pretokenizers"].as_array().is_some_and(|all| all.iter().any(does))
            }
            _ => false,
        }
    }
    serde_json::from_str::<Value>(tokenizer.json())
        .is_ok_and(|document| does(&document["pre_tokenizer"]))
}

fn checks(tokenizer: &Tokenizer, input: &TokenInput) -> Vec<Check> {
    let most = input.max_length;
    if input.pooling == Pooling::Words {
        return TEXTS.iter().filter_map(|text| words_check(tokenizer, text, most)).collect();
    }
    let long = "a long text, and more of it; ".repeat(most.min(4096) / 4 + 1);
    let check = |first: &str, second: Option<&str>| {
        let text = Text { first: first.to_owned(), second: second.map(str::to_owned) };
        let (ids, _) = encode(tokenizer, text, most)?;
        Some(Check { text: first.to_owned(), second: second.map(str::to_owned), ids })
    };
    let singles = TEXTS.iter().copied().chain([&*long]).map(|text| (text, None));
    let pairs = [
        (TEXTS[0], Some(TEXTS[1])),
        (TEXTS[0], Some(&*long)),
        (&*long, Some(TEXTS[1])),
        (&*long, Some(&*long)),
    ];
    singles.chain(pairs).filter_map(|(first, second)| check(first, second)).collect()
}

fn words_check(tokenizer: &Tokenizer, text: &str, most: usize) -> Option<Check> {
    let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    let text = words.join(" ");
    let tokens = tokenizer.encode_words(&Words::new(vec![words]).ok()?, most).ok()?;
    Some(Check { text, second: None, ids: tokens.tokens().row(0).0.to_vec() })
}
