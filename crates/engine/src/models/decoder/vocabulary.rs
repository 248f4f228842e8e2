//! A decoder that knows the tokens of some documents alone.
//!
//! Where every token that the documents use is left, its tokenizer gives them the very tokens that the whole one gives, so the
//! hidden states are the whole model's, and its guesses are the whole model's among the tokens that are left.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::Decoder;
use crate::data::text::Trimmed;
use crate::data::{Dataset, Examples, Tokenizer};
use crate::models::{Architecture, Input, Model, ModelConfig, Rows, Source, TokenInput};
use crate::recipe::Vocabulary;

/// Tokens that are left.
pub(super) struct KnownTokens {
    /// Gives them their new numbers.
    pub tokenizer: Arc<Tokenizer>,
    /// For each new number the old one.
    pub old: Arc<Vec<u32>>,
}

/// Leaves a decoder the tokens alone that a recipe asks for, if it does not ask for all; which these are. The tables of
/// their values are as they were.
pub(super) fn known_tokens(
    vocabulary: Vocabulary,
    decoder: &mut Decoder,
    read: &TokenInput,
    data: &Dataset,
) -> Result<Option<KnownTokens>, String> {
    let Some(min_count) = vocabulary.min_count() else { return Ok(None) };
    let (Examples::Documents(corpus), Some(tokenizer)) = (data.examples(), &read.tokenizer) else {
        return Err("a decoder's vocabulary is trimmed to documents, and here are none".to_owned());
    };
    let trimmed = corpus.trimmed(tokenizer, min_count);
    let Trimmed { tokenizer, old } = trimmed.map_err(|error| error.to_string())?;
    let new: HashMap<u64, usize> = old.iter().map(|&id| u64::from(id)).zip(0..).collect();
    decoder.vocab_size = old.len();
    for file in [Some(&mut decoder.details), decoder.generation.as_mut()].into_iter().flatten() {
        renumber(Arc::make_mut(&mut file.0), &new);
    }
    Ok(Some(KnownTokens { tokenizer: Arc::new(tokenizer), old: Arc::new(old) }))
}

/// A whole model, its parameters in order, with the tokens alone that a recipe asks for; as it was where that asks for all, or it is
/// no decoder.
///
/// # Errors
/// Why its vocabulary cannot be trimmed to these data.
pub(in crate::models) fn with_known_tokens(
    (mut config, mut source): (ModelConfig, Source),
    vocabulary: Vocabulary,
    data: &Dataset,
) -> Result<(ModelConfig, Source), String> {
    let (Architecture::Decoder(decoder), Input::Tokens(read)) =
        (&mut config.architecture, &mut config.input)
    else {
        return Ok((config, source));
    };
    let Some(KnownTokens { tokenizer, old }) = known_tokens(vocabulary, decoder, read, data)?
    else {
        return Ok((config, source));
    };
    (read.vocab_size, read.tokenizer) = (decoder.vocab_size, Some(tokenizer));
    for (index, spec) in decoder.parameters().iter().enumerate() {
        if decoder.is_of_tokens(&spec.name) {
            source.choose(index, spec.row_len(), &old);
        }
    }
    Ok((config, source))
}

/// Gives tokens that a configuration names (`eos_token_id`, `suppress_tokens`, …) their new numbers. Those that are no more
/// go.
fn renumber(config: &mut Value, new: &HashMap<u64, usize>) {
    let Some(map) = config.as_object_mut() else { return };
    let names_tokens = |key: &str| {
        key.ends_with("token_id") || key.ends_with("token_ids") || key.ends_with("suppress_tokens")
    };
    let own = |id: &Value| id.as_u64().and_then(|id| new.get(&id)).map(|&id| Value::from(id));
    map.retain(|key, value| match value {
        Value::Number(_) if names_tokens(key) => own(value).map(|id| *value = id).is_some(),
        Value::Array(ids) if names_tokens(key) => {
            *ids = ids.iter().filter_map(own).collect();
            !ids.is_empty()
        }
        // Lists of texts' tokens, which may lack some.
        _ if ["bad_words_ids", "force_words_ids", "forced_decoder_ids", "sequence_bias"]
            .contains(&&**key) =>
        {
            false
        }
        Value::Object(_) => {
            renumber(value, new);
            true
        }
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_in_configurations_have_their_new_numbers() {
        let new = HashMap::from([(7, 0), (9, 1)]);
        let mut config = json!({
            "eos_token_id": [7, 8, 9], "bos_token_id": 9, "pad_token_id": 8, "suppress_tokens": [8], "vocab_size": 10,
            "text_config": { "eos_token_id": 7 }, "sep_token_id": null, "bad_words_ids": [[7]],
        });
        renumber(&mut config, &new);
        let wanted = json!({
            "eos_token_id": [0, 1], "bos_token_id": 1, "vocab_size": 10, "text_config": { "eos_token_id": 0 },
            "sep_token_id": null,
        });
        assert_eq!(config, wanted);
    }
}
