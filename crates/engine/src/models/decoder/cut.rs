//! A decoder cut out of another one: some of its layers, or narrower feed-forward networks; or with random weights, of any
//! sizes.

use std::sync::Arc;

use distil_gpu_kernels::attention::MAX_HEAD_DIM;

use super::family::Queries;
use super::ranking::{Chosen, Ranking};
use super::vocabulary::known_tokens;
use super::{Decoder, USUAL_LENGTH};
use crate::data::Dataset;
use crate::models::cut::{Columns, Copied, SubsetMap};
use crate::models::{Architecture, Input, Model, ModelConfig, TokenInput};
use crate::recipe;
use crate::store::ParameterSpec;
use crate::words::counted;

/// The decoder that a recipe asks for, out of `base`, and what it takes over; what is wrong with that otherwise. Where its
/// layers are narrower, their parts are taken by `ranking`.
pub(in crate::models) fn cut(
    model: &recipe::Decoder,
    base: &ModelConfig,
    data: &Dataset,
    ranking: &Ranking,
) -> Result<(ModelConfig, SubsetMap), String> {
    let (Architecture::Decoder(theirs), Input::Tokens(read)) = (&base.architecture, &base.input)
    else {
        return Err("it is no model of next tokens: give a student of type \"decoder\" a Llama, Mistral, Qwen, Gemma 3 or GPT-2"
            .to_owned());
    };
    let count = theirs.num_hidden_layers;
    if let Some(recipe::Layers::Chosen { keep, .. }) = &model.layers {
        if *keep >= count {
            return Err(format!(
                "by influence it can keep fewer than its {}",
                counted(count, "layer")
            ));
        }
        if theirs.windows.iter().any(|window| *window != theirs.windows[0]) {
            return Err("its layers see texts in different ways, and cannot be chosen by influence: list them".to_owned());
        }
    }
    let taken = model.layers.as_ref().map_or((0..count).collect(), |layers| layers.of(count));
    if let Some(layer) = taken.iter().find(|&&layer| layer >= count) {
        return Err(format!(
            "it has no layer {layer}, but {}, counted from 0",
            counted(count, "layer")
        ));
    }
    let mut ours = sized(model, theirs)?;
    ours.num_hidden_layers = taken.len();
    ours.windows = taken.iter().map(|&layer| theirs.windows[layer]).collect();
    if let Some(rate) = model.dropout {
        let super::Dropout { embedding, attention, residual } = &mut ours.dropout;
        [embedding, attention, residual].into_iter().for_each(|own| *own = rate);
    }
    let most = model.max_length.unwrap_or(USUAL_LENGTH).min(read.max_length);
    let known = known_tokens(model.vocabulary, &mut ours, read, data)?;
    let tokenizer =
        known.as_ref().map_or(read.tokenizer.clone(), |known| Some(known.tokenizer.clone()));
    let input = TokenInput { tokenizer, max_length: most, ..ours.input() };
    let parameters = theirs.parameters();
    let stack = theirs.names().stack;
    let copied = |spec: &ParameterSpec| {
        let numbered = spec.name.strip_prefix(stack).and_then(|rest| rest.split_once('.'));
        let numbered =
            numbered.and_then(|(layer, part)| Some((taken[layer.parse::<usize>().ok()?], part)));
        let (name, chosen) = match numbered {
            Some((layer, part)) => {
                let chosen = theirs.part_for(&ours, ranking, layer, part);
                (format!("{}{part}", theirs.layer(layer)), chosen)
            }
            None => (spec.name.clone(), Chosen { rows: None, columns: None }),
        };
        let parameter = parameters.iter().position(|own| own.name == name)?;
        let tokens = known.as_ref().filter(|_| theirs.is_of_tokens(&name));
        let columns = |shape: &[usize]| shape[1..].iter().product();
        let rows = tokens.map(|known| known.old.clone()).or(chosen.rows);
        Some(Copied {
            parameter,
            rows: rows.unwrap_or_else(|| Arc::new((0..spec.shape[0] as u32).collect())),
            columns: match chosen.columns {
                Some(columns) => Columns::Listed(columns),
                None => Columns::First(columns(&spec.shape)),
            },
            of_columns: columns(&parameters[parameter].shape),
        })
    };
    let copies = match model.random {
        true => SubsetMap::default(),
        false => SubsetMap::new(ours.parameters().iter().map(copied).collect()),
    };
    let input = Input::Tokens(input);
    Ok((ModelConfig::new(Architecture::Decoder(ours), input, Vec::new()), copies))
}

/// A decoder with the sizes that a recipe asks for, the rest as another's.
fn sized(model: &recipe::Decoder, theirs: &Decoder) -> Result<Decoder, String> {
    let mut ours = theirs.clone();
    let head_dim = theirs.head_dim;
    if !model.random {
        for (key, asked) in
            [("hidden_size", model.hidden_size), ("num_attention_heads", model.num_attention_heads)]
        {
            if asked.is_some() {
                return Err(format!(
                    "{key} of a decoder that takes over another's weights stays as it is: leave it out, or set \
                     `random` to true"
                ));
            }
        }
        for (key, asked, own) in [
            ("intermediate_size", model.intermediate_size, &mut ours.intermediate_size),
            ("num_key_value_heads", model.num_key_value_heads, &mut ours.num_key_value_heads),
        ] {
            let (size, most) = (asked.unwrap_or(*own), *own);
            if size > most {
                return Err(format!(
                    "its {key} is {most}, and what starts from it can have no more: {size} is too much"
                ));
            }
            *own = size;
        }
        // Heads of queries leave with the head of keys that they share.
        let shared = theirs.num_attention_heads / theirs.num_key_value_heads;
        ours.num_attention_heads = shared * ours.num_key_value_heads;
        let joined = matches!(theirs.names().queries, Queries::Joined(_));
        if joined && ours.num_key_value_heads < theirs.num_key_value_heads {
            return Err("its queries, keys and values are one matrix, and its config.json has no head_dim: leave num_key_value_heads \
                 out"
                .to_owned());
        }
        return Ok(ours);
    }
    ours.hidden_size = model.hidden_size.unwrap_or(theirs.hidden_size);
    ours.intermediate_size = model.intermediate_size.unwrap_or(theirs.intermediate_size);
    ours.num_attention_heads = model.num_attention_heads.unwrap_or(match model.hidden_size {
        Some(hidden) => (hidden / head_dim).max(1),
        None => theirs.num_attention_heads,
    });
    let heads = ours.num_attention_heads;
    ours.num_key_value_heads =
        model.num_key_value_heads.unwrap_or(match theirs.num_key_value_heads {
            shared if heads.is_multiple_of(shared) && shared <= heads => shared,
            _ => heads,
        });
    if model.hidden_size.is_some() || model.num_attention_heads.is_some() {
        if !ours.hidden_size.is_multiple_of(heads) {
            return Err(format!(
                "a hidden_size of {} cannot be shared by {heads} attention heads",
                ours.hidden_size
            ));
        }
        ours.head_dim = ours.hidden_size / heads;
    }
    let (shared, width) = (ours.num_key_value_heads, ours.head_dim);
    if !heads.is_multiple_of(shared) {
        return Err(format!("{heads} attention heads cannot share {shared} heads of keys"));
    }
    if !width.is_multiple_of(2) || width > MAX_HEAD_DIM {
        return Err(format!(
            "its heads would be {width} columns wide, and an even number up to {MAX_HEAD_DIM} is possible: give other \
             hidden_size and num_attention_heads"
        ));
    }
    Ok(ours)
}
