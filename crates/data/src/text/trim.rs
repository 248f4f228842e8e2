//! A tokenizer with only the tokens that some texts need.
//!
//! Those texts keep the very tokens that they had. Removing tokens only takes choices away, and those that were
//! made stay:
//! - WordPiece takes the longest token that fits. That one is used and stays; a longer one never was there.
//!   A word unknown before may become known if one of its characters lacks a token of its own and yet occurs
//!   in longer ones, which is not so in BERT's vocabularies.
//! - BPE merges the pair of the best rank. What is merged ends in a token that is used, so all of that
//!   token's parts stay, with their merges, in their order.
//! - Unigram takes the path of the best score. Its tokens are used and stay, with their scores; so does the
//!   lowest score, from which that of unknown characters follows.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{Texts, Tokenizer};
use crate::DataError;

/// Part of a tokenizer.
#[derive(Clone, Debug)]
pub struct Trimmed {
    /// The tokenizer, its tokens numbered anew from 0, in the old order.
    pub tokenizer: Tokenizer,
    /// For each new number the old one: the rows of the old embedding that make up the new.
    pub old: Vec<u32>,
}

/// The tokenizer with these tokens alone: those that occur in the texts, which are read whole, at least
/// `min_count` times; the special and added ones, and `padding`; and those of a single character that occurs in
/// the texts (in BPE all such), so that other words of these characters still have tokens.
///
/// # Errors
/// [`DataError::Unfit`] when the tokenizer is of a kind that cannot be trimmed, or has no such padding.
pub fn trim(
    tokenizer: &Tokenizer,
    texts: &Texts,
    min_count: u32,
    padding: u32,
) -> Result<Trimmed, DataError> {
    trim_to(tokenizer, tokenizer.encode(texts, usize::MAX)?.ids(), min_count, Some(padding))
}

/// As [`trim`], of texts that are these tokens; where models have no padding, there is none.
pub(super) fn trim_to(
    tokenizer: &Tokenizer,
    used: &[i32],
    min_count: u32,
    padding: Option<u32>,
) -> Result<Trimmed, DataError> {
    let unfit =
        |problem: String| DataError::Unfit(format!("the vocabulary cannot be trimmed: {problem}"));
    let vocabulary = tokenizer.vocabulary();
    if let Some(padding) = padding
        && !vocabulary.iter().any(|(id, _)| *id == padding)
    {
        let problem =
            format!("the model's padding token, number {padding}, is none of the tokenizer's");
        return Err(unfit(problem));
    }
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for id in used {
        *counts.entry(*id as u32).or_default() += 1;
    }
    let mut document: Value = serde_json::from_str(tokenizer.json())
        .map_err(|error| unfit(format!("its text is not JSON: {error}")))?;
    let mut kept: HashSet<String> = HashSet::new();
    each_mention(&mut document, &mut |token, _| {
        kept.insert(token.to_owned());
    });
    kept.extend(tokenizer.files().named().map(str::to_owned));
    let rules = Rules::of(&document["model"]).map_err(unfit)?;
    kept.extend(rules.always());
    let occurring = vocabulary.iter().filter(|(id, _)| counts.contains_key(id));
    let characters: HashSet<char> =
        occurring.flat_map(|(_, token)| rules.bare(token).chars()).collect();
    let needed = vocabulary.iter().filter(|(id, token)| {
        Some(*id) == padding
            || counts.get(id).is_some_and(|count| *count >= min_count)
            || tokenizer.is_added(*id)
            || rules.spells(token, &characters)
    });
    kept.extend(needed.map(|(_, token)| token.clone()));
    rules.close(&mut kept);

    let order = vocabulary.iter().filter(|(_, token)| kept.contains(token));
    let (old, tokens): (Vec<u32>, Vec<&str>) =
        order.map(|(id, token)| (*id, token.as_str())).unzip();
    let new: HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    renumber(&mut document["model"], &new);
    each_mention(&mut document, &mut |token, id| {
        if let Some(new) = new.get(token) {
            *id = (*new).into();
        }
    });
    let trimmed = tokenizer.with_json(document.to_string())?;
    let agrees = |(id, token): (usize, &&str)| trimmed.id(token) == Some(id as u32);
    match tokens.iter().enumerate().position(|entry| !agrees(entry)) {
        Some(id) => Err(unfit(format!("`{}` would not keep its place", tokens[id]))),
        None => Ok(Trimmed { tokenizer: trimmed, old }),
    }
}

/// What a model's kind asks to keep.
struct Rules<'a> {
    model: &'a Value,
    /// Marks a token as the continuation or the end of a word, and is no character of it.
    marks: [&'a str; 2],
    merges: Vec<(String, String)>,
}

impl<'a> Rules<'a> {
    /// The rules of a model, or why there are none.
    fn of(model: &'a Value) -> Result<Self, String> {
        let mark = |key: &str| model[key].as_str().unwrap_or_default();
        let marks = [mark("continuing_subword_prefix"), mark("end_of_word_suffix")];
        let merges = match kind(model) {
            "BPE" => {
                model["merges"].as_array().into_iter().flatten().map(pair).collect::<Option<_>>()
            }
            "WordPiece" | "WordLevel" | "Unigram" => Some(Vec::new()),
            other => {
                return Err(format!(
                    "its tokenizer is of type `{other}`, and WordPiece, BPE, Unigram and WordLevel can be"
                ));
            }
        };
        let merges = merges.ok_or("its merges are not pairs of tokens")?;
        Ok(Self { model, marks, merges })
    }

    /// Tokens that any texts need.
    fn always(&self) -> Vec<String> {
        let pieces = self.model["vocab"].as_array().map_or(&[][..], Vec::as_slice);
        let piece = |entry: &Value| entry[0].as_str().map(str::to_owned);
        let score = |entry: &&Value| entry[1].as_f64().unwrap_or(f64::INFINITY);
        let lowest = pieces.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
        let unknown = self.model["unk_id"].as_u64().and_then(|id| pieces.get(id as usize));
        let named = self.model["unk_token"].as_str().map(str::to_owned);
        lowest.and_then(piece).into_iter().chain(unknown.and_then(piece)).chain(named).collect()
    }

    /// A token without the mark of a continuation or an end.
    fn bare<'t>(&self, token: &'t str) -> &'t str {
        let [prefix, suffix] = self.marks;
        let bare = token.strip_prefix(prefix).unwrap_or(token);
        bare.strip_suffix(suffix).unwrap_or(bare)
    }

    /// Whether a token is one of these characters, or one byte of a character that has no token. BPE begins with
    /// characters, which often stand for bytes: there any one is.
    fn spells(&self, token: &str, characters: &HashSet<char>) -> bool {
        let mut bare = self.bare(token).chars();
        let byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        match (bare.next(), bare.next()) {
            (Some(one), None) => kind(self.model) == "BPE" || characters.contains(&one),
            _ => byte,
        }
    }

    /// Adds the parts that the kept tokens are merged from.
    fn close(&self, kept: &mut HashSet<String>) {
        let mut parts: HashMap<String, Vec<&(String, String)>> = HashMap::new();
        for merge in &self.merges {
            parts.entry(product(merge, self.marks[0])).or_default().push(merge);
        }
        let mut open: Vec<String> = kept.iter().cloned().collect();
        while let Some(token) = open.pop() {
            for (first, second) in parts.get(&token).into_iter().flatten() {
                for part in [first, second] {
                    if kept.insert(part.clone()) {
                        open.push(part.clone());
                    }
                }
            }
        }
    }
}

/// A model's kind. Old files do not say it.
fn kind(model: &Value) -> &str {
    match model["type"].as_str() {
        Some(kind) => kind,
        None if model["merges"].is_array() => "BPE",
        None if model["vocab"].is_array() => "Unigram",
        None if model["max_input_chars_per_word"].is_u64() => "WordPiece",
        None => "unknown",
    }
}

/// The tokens of a merge, which is written as a list of two or with a space between them.
fn pair(merge: &Value) -> Option<(String, String)> {
    let (first, second) = match merge {
        Value::String(text) => text.split_once(' ')?,
        _ => (merge[0].as_str()?, merge[1].as_str()?),
    };
    Some((first.to_owned(), second.to_owned()))
}

/// What a merge makes: the second token loses the mark of a continuation.
fn product((first, second): &(String, String), prefix: &str) -> String {
    format!("{first}{}", second.strip_prefix(prefix).unwrap_or(second))
}

/// Leaves the model these tokens alone, with these ids, and the merges that make them.
fn renumber(model: &mut Value, new: &HashMap<&str, usize>) {
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default().to_owned();
    let made =
        |merge: &Value| pair(merge).is_some_and(|pair| new.contains_key(&*product(&pair, &prefix)));
    if let Some(merges) = model.get_mut("merges").and_then(Value::as_array_mut) {
        merges.retain(made);
    }
    let unknown = model["unk_id"].as_u64().and_then(|id| model["vocab"][id as usize][0].as_str());
    let unknown = unknown.and_then(|piece| new.get(piece)).copied();
    match &mut model["vocab"] {
        Value::Array(pieces) => {
            pieces.retain(|piece| piece[0].as_str().is_some_and(|token| new.contains_key(token)));
        }
        Value::Object(vocab) => {
            let old = std::mem::take(vocab);
            let kept = old.into_iter().filter_map(|(token, _)| {
                let id = *new.get(token.as_str())?;
                Some((token, id.into()))
            });
            *vocab = kept.collect::<Map<_, _>>();
        }
        _ => {}
    }
    if let Some(unknown) = unknown {
        model["unk_id"] = unknown.into();
    }
}

/// Calls `visit` with every token that is named outside the model, and its id.
fn each_mention(document: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    let mut both = |holder: &mut Value, token: &str, id: &str| {
        let token = holder[token].as_str().map(str::to_owned);
        if let Some((token, id)) = token.zip(holder.get_mut(id)) {
            visit(&token, id);
        }
    };
    if let Some(padding) = document.get_mut("padding") {
        both(padding, "pad_token", "pad_id");
    }
    for token in list(document, "added_tokens") {
        both(token, "content", "id");
    }
    if let Some(template) = document.get_mut("post_processor") {
        each_in_template(template, visit);
    }
}

pub(super) fn each_in_template(template: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    for inner in list(template, "processors") {
        each_in_template(inner, visit);
    }
    for end in ["cls", "sep"] {
        if let [Value::String(token), id] = list(template, end) {
            visit(token, id);
        }
    }
    let special = template.get_mut("special_tokens").and_then(Value::as_object_mut);
    for special in special.into_iter().flat_map(Map::values_mut) {
        let tokens = special["tokens"].as_array().cloned().unwrap_or_default();
        for (token, id) in tokens.iter().filter_map(Value::as_str).zip(list(special, "ids")) {
            visit(token, id);
        }
    }
}

/// The values of a list that may not be there.
fn list<'a>(holder: &'a mut Value, key: &str) -> &'a mut [Value] {
    holder.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Text;
    use super::*;

    fn texts(rows: &[(&str, Option<&str>)]) -> Texts {
        let text = |&(first, second): &(&str, Option<&str>)| Text {
            first: first.to_owned(),
            second: second.map(str::to_owned),
        };
        Texts::new(rows.iter().map(text).collect()).unwrap()
    }

    /// Trims to these texts and holds their new tokens to the old; gives the new tokenizer and its vocabulary.
    fn trimmed(old: &Tokenizer, rows: &[(&str, Option<&str>)]) -> (Tokenizer, Vec<String>) {
        let texts = texts(rows);
        let before = old.encode_all(&texts, 64).unwrap();
        let new = trim(old, &texts, 1, 0).unwrap();
        let after = new.tokenizer.encode_all(&texts, 64).unwrap();
        let back: Vec<i32> = after.ids().iter().map(|id| new.old[*id as usize] as i32).collect();
        assert_eq!(back, before.ids());
        assert!((0..texts.len()).all(|row| before.length(row) == after.length(row)));
        assert!(new.old.is_sorted());
        let known = old.vocabulary();
        let vocabulary = new.tokenizer.vocabulary();
        for (id, token) in &vocabulary {
            assert!(known.contains(&(new.old[*id as usize], token.clone())), "{token}");
        }
        (new.tokenizer, vocabulary.into_iter().map(|(_, token)| token).collect())
    }

    fn special(id: usize, content: &str) -> Value {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    }

    fn tokenizer(model: Value, added: Value) -> Tokenizer {
        let document = json!({"version": "1.0", "added_tokens": added, "model": model,
            "pre_tokenizer": {"type": "WhitespaceSplit"}});
        Tokenizer::parse("t", document.to_string()).unwrap()
    }

    /// BERT's in small: five special tokens, the words, and the letters a to e and x with their continuations.
    fn bert(words: &[&str]) -> Value {
        const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let letters =
            "abcdex".chars().flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
        let tokens = SPECIAL.iter().chain(words).map(|&token| token.to_owned()).chain(letters);
        let vocab: Map<String, Value> =
            tokens.enumerate().map(|(id, token)| (token, id.into())).collect();
        let added: Vec<Value> =
            SPECIAL.iter().enumerate().map(|(id, content)| special(id, content)).collect();
        json!({"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab}})
    }

    fn parsed(document: &Value) -> Tokenizer {
        Tokenizer::parse("t", document.to_string()).unwrap()
    }

    #[test]
    fn trims_word_piece() {
        let old = parsed(&bert(&["cab", "dead", "##ed", "beaded", "##ead"]));
        let (new, tokens) = trimmed(&old, &[("bed cab!", Some("dead"))]);
        let letters = ["a", "##a", "b", "##b", "c", "##c", "d", "##d", "e", "##e"];
        assert_eq!(tokens[5..], [&["cab", "dead", "##ed"][..], &letters].concat());
        let shown = |tokenizer: &Tokenizer| -> Vec<String> {
            let tokens = tokenizer.encode_all(&texts(&[("beaded axe", None)]), 64).unwrap();
            let vocabulary: HashMap<u32, String> = tokenizer.vocabulary().into_iter().collect();
            tokens.ids().iter().map(|id| vocabulary[&(*id as u32)].clone()).collect()
        };
        assert_eq!(shown(&old), ["[CLS]", "beaded", "a", "##x", "##e", "[SEP]"]);
        let spelt = ["[CLS]", "b", "##e", "##a", "##d", "##ed", "[UNK]", "[SEP]"];
        assert_eq!(shown(&new), spelt);
    }

    #[test]
    fn rare_tokens_are_spelt() {
        let old = parsed(&bert(&["cab", "dead"]));
        let corpus = texts(&[("cab dead", None), ("cab", None)]);
        let words = |min_count| {
            let new = trim(&old, &corpus, min_count, 0).unwrap();
            ["cab", "dead", "d", "##e"].map(|token| new.tokenizer.id(token).is_some())
        };
        assert_eq!(words(1), [true; 4]);
        assert_eq!(words(2), [true, false, true, true]);
        assert_eq!(words(3), [false, false, true, true]);
    }

    #[test]
    fn holes_in_the_numbers_close() {
        let mut document = bert(&["cab"]);
        document["model"]["vocab"]["cab"] = 40.into();
        let (new, tokens) = trimmed(&parsed(&document), &[("cab", None)]);
        assert_eq!((new.id("cab"), tokens.len()), (Some(11), 12));
    }

    #[test]
    fn trims_bpe_with_the_parts_of_what_it_keeps() {
        let vocab = ["<unk>", "a", "b", "c", "d", "ab", "cd", "abcd", "bc", "da", "dab"];
        let vocab: HashMap<_, _> =
            vocab.iter().enumerate().map(|(id, token)| (token, id)).collect();
        let merges = json!(["a b", "c d", "ab cd", "b c", "d a", "d ab"]);
        let lists =
            json!([["a", "b"], ["c", "d"], ["ab", "cd"], ["b", "c"], ["d", "a"], ["d", "ab"]]);
        for merges in [merges, lists] {
            let model =
                json!({"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": merges});
            let old = tokenizer(model, json!([special(11, "<end>")]));
            let (_, tokens) = trimmed(&old, &[("abcd a<end> xa", None)]);
            assert_eq!(tokens, ["<unk>", "a", "b", "c", "d", "ab", "cd", "abcd", "<end>"]);
            let (_, tokens) = trimmed(&old, &[("dab", None)]);
            assert_eq!(tokens, ["<unk>", "a", "b", "c", "d", "ab", "dab", "<end>"]);
        }
    }

    #[test]
    fn trims_unigram() {
        let model = json!({"type": "Unigram", "unk_id": 1, "vocab": [
            ["pad", 0.0], ["<unk>", 0.0], ["rare", -9.5], ["a", -4.0], ["b", -5.0], ["ab", -3.0],
            ["ba", -3.25], ["aba", -8.0], ["z", -6.0],
        ]});
        let old = tokenizer(model, json!([]));
        let (new, tokens) = trimmed(&old, &[("abab aab bxa", None)]);
        assert_eq!(tokens, ["pad", "<unk>", "rare", "a", "b", "ab"]);
        assert!(new.json().contains("\"unk_id\":1"));
    }

    #[test]
    fn trims_word_level() {
        let model = json!({"type": "WordLevel", "unk_token": "<unk>",
            "vocab": {"good": 0, "film": 1, "<unk>": 2, "bad": 3}});
        let (_, tokens) = trimmed(&tokenizer(model, json!([])), &[("bad stuff", None)]);
        assert_eq!(tokens, ["good", "<unk>", "bad"], "the model's padding stays");
    }

    #[test]
    fn keeps_what_templates_name() {
        let mut document = bert(&["end"]);
        let single = json!([{"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "end", "type_id": 0}}]);
        document["post_processor"] = json!({"type": "Sequence", "processors": [
            {"type": "TemplateProcessing", "single": single, "pair": single,
                "special_tokens": {"end": {"id": "end", "ids": [5], "tokens": ["end"]}}}]});
        document["model"]["vocab"]["cab"] = 30.into();
        let (new, tokens) = trimmed(&parsed(&document), &[("cab", None)]);
        assert_eq!(tokens[5], "end");
        assert_eq!(new.encode_all(&texts(&[("a", None)]), 64).unwrap().ids(), [6, 5]);
    }

    #[test]
    fn says_what_cannot_be_trimmed() {
        let old = parsed(&bert(&[]));
        let error = trim(&old, &texts(&[("cab", None)]), 1, 99).unwrap_err().to_string();
        assert!(error.contains("padding token, number 99, is none of the tokenizer's"), "{error}");
    }
}
