//! How texts are cut before byte-level BPE: what `tokenizer.ggml.pre` names, and the `pre_tokenizer` of the
//! `tokenizer.json` that it stands for.

use serde_json::{Value as Json, json};

use crate::error::Error;

/// How texts are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// By GPT-2's expression, which the library's own step for bytes has.
    Gpt2,
    /// At every digit, then by GPT-2's expression.
    Digits,
    /// By these expressions, one after the other.
    By(&'static [&'static str]),
}

/// A way of cutting texts that llama.cpp knows too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pre {
    /// Its names in files; the first is written.
    names: &'static [&'static str],
    cut: Cut,
    /// Whether the original tokenizer composes letters and their marks first. llama.cpp never does.
    composes: bool,
    /// Whether a piece that is a token is that token, whatever merges would make of it.
    pub ignores_merges: bool,
    /// Whether a text begins with a token of its own where a file does not say.
    pub adds_bos: bool,
}

/// Llama 3's expression.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's: the same but for single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's of its tokenizer Tekken.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What llama.cpp does where a file names nothing, or `default`.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    "[0-9][0-9][0-9]",
];

const fn plain(names: &'static [&'static str], cut: Cut) -> Pre {
    Pre { names, cut, composes: false, ignores_merges: false, adds_bos: false }
}

const ALL: [Pre; 8] = [
    plain(&["default", ""], Cut::By(&DEFAULT)),
    plain(&["gpt-2", "phi-2", "olmo", "mpt", "exaone4"], Cut::Gpt2),
    plain(&["smollm", "starcoder", "refact", "codeshell"], Cut::Digits),
    Pre {
        ignores_merges: true,
        adds_bos: true,
        ..plain(&["llama-bpe", "llama3", "llama-v3", "falcon3"], Cut::By(&[LLAMA3]))
    },
    plain(&["smaug-bpe", "dbrx"], Cut::By(&[LLAMA3])),
    Pre { composes: true, ..plain(&["qwen2"], Cut::By(&[QWEN2])) },
    plain(&["deepseek-r1-qwen", "megrez", "stablelm2"], Cut::By(&[QWEN2])),
    Pre { ignores_merges: true, adds_bos: true, ..plain(&["tekken"], Cut::By(&[TEKKEN])) },
];

impl Pre {
    /// By the name in a file; the empty one where it names nothing.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|pre| pre.names.contains(&name))
    }

    /// The name that is written.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }

    pub fn normalizer(&self) -> Json {
        if self.composes { json!({"type": "NFC"}) } else { Json::Null }
    }

    pub fn pre_tokenizer(&self) -> Json {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let steps: Vec<Json> = match self.cut {
            Cut::Gpt2 => return bytes(true),
            Cut::Digits => vec![json!({"type": "Digits", "individual_digits": true}), bytes(true)],
            Cut::By(expressions) => {
                let split = |of: &&str| json!({"type": "Split", "pattern": {"Regex": of}, "behavior": "Isolated", "invert": false});
                expressions.iter().map(split).chain([bytes(false)]).collect()
            }
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The way of cutting of a `tokenizer.json`, found by its structure.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] naming the part that is none of those that llama.cpp knows.
    pub fn of(tokenizer: &Json) -> Result<Self, Error> {
        let composes = match steps(&tokenizer["normalizer"], "normalizers").as_slice() {
            [] => false,
            [one] if one["type"] == "NFC" => true,
            [one, ..] => {
                let problem = format!("{}, which llama.cpp does not do", one["type"]);
                return Err(Error::tokenizer("normalizer", problem));
            }
        };
        let ignores_merges = tokenizer["model"]["ignore_merges"] == true;
        let steps = steps(&tokenizer["pre_tokenizer"], "pretokenizers");
        let found = ALL
            .into_iter()
            .filter(|pre| pre.ignores_merges == ignores_merges && pre.cuts_as(&steps));
        // Composed letters are as they were, so either kind is right about those.
        let found = found.min_by_key(|pre| pre.composes != composes);
        found.ok_or_else(|| {
            let problem = "it cuts texts in a way that llama.cpp has no name for, and would be silently wrong about";
            Error::tokenizer("pre_tokenizer", problem)
        })
    }

    fn cuts_as(&self, steps: &[&Json]) -> bool {
        let Some((last, before)) = steps.split_last() else { return false };
        if last["type"] != "ByteLevel" || last["add_prefix_space"] == true {
            return false;
        }
        let by_regex = last["use_regex"] != false;
        match (self.cut, before) {
            (Cut::Gpt2, []) => by_regex,
            (Cut::Digits, [digits]) => {
                by_regex && digits["type"] == "Digits" && digits["individual_digits"] == true
            }
            (Cut::By(expressions), splits) => {
                !by_regex
                    && splits.len() == expressions.len()
                    && splits.iter().zip(expressions).all(|(split, of)| {
                        let keeps = split["behavior"] == "Isolated" && split["invert"] != true;
                        // What matches is kept, and nothing else is there.
                        let removes = split["behavior"] == "Removed"
                            && split["invert"] == true
                            && expressions.len() == 1;
                        split["type"] == "Split"
                            && split["pattern"]["Regex"] == **of
                            && (keeps || removes)
                    })
            }
            _ => false,
        }
    }
}

/// The steps of a part that may be one, several, or none.
pub(super) fn steps<'a>(part: &'a Json, several: &str) -> Vec<&'a Json> {
    match part {
        Json::Null => Vec::new(),
        part if part["type"] == "Sequence" => part[several]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| steps(one, several))
            .collect(),
        part => vec![part],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_found_by_its_structure() {
        for pre in ALL {
            let model = json!({"ignore_merges": pre.ignores_merges});
            let tokenizer = json!({"normalizer": pre.normalizer(), "pre_tokenizer": pre.pre_tokenizer(), "model": model});
            assert_eq!(
                Pre::of(&tokenizer).unwrap().name(),
                if pre.cut == Cut::By(&[QWEN2]) && !pre.composes {
                    "deepseek-r1-qwen"
                } else {
                    pre.name()
                }
            );
            assert_eq!(Pre::named(pre.name()), Some(pre));
        }
        assert_eq!(Pre::named("").unwrap().name(), "default");
    }

    #[test]
    fn what_llama_cpp_has_no_name_for_is_refused() {
        let gpt2 = Pre::named("gpt-2").unwrap().pre_tokenizer();
        let refused = |normalizer: Json, pre_tokenizer: Json, ignore: bool| {
            let tokenizer = json!({
                "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": {"ignore_merges": ignore},
            });
            Pre::of(&tokenizer).unwrap_err().to_string()
        };
        assert!(refused(json!({"type": "Lowercase"}), gpt2.clone(), false).contains("Lowercase"));
        assert!(refused(Json::Null, gpt2, true).contains("pre_tokenizer"));
        let spaced = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        assert!(refused(Json::Null, spaced, false).contains("pre_tokenizer"));
        assert!(
            refused(Json::Null, json!({"type": "Whitespace"}), false).contains("pre_tokenizer")
        );
        assert!(refused(Json::Null, Json::Null, false).contains("pre_tokenizer"));
    }
}
