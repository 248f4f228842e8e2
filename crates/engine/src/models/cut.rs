//! An encoder cut out of another one: some of its layers and tokens.

use std::sync::Arc;

use super::{Architecture, Encoder, Family, Head, Input, ModelConfig, TokenInput};
use crate::data::Dataset;
use crate::data::text::{Trimmed, trim};
use crate::recipe;
use crate::store::ParameterSpec;

/// A model, and what it takes over from another one.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// The model.
    pub config: ModelConfig,
    /// For each of its parameters what it takes over.
    copies: Vec<Option<Copied>>,
}

/// Part of a parameter of the other model.
#[derive(Clone, Debug)]
struct Copied {
    /// Its place.
    parameter: usize,
    /// Its rows, all of them unless given.
    rows: Option<Arc<Vec<u32>>>,
}

impl Cut {
    /// The encoder with this head that a recipe asks for, out of `base`, for these training examples; what is wrong with that
    /// otherwise.
    pub fn of(
        model: &recipe::Model,
        head: Head,
        base: &ModelConfig,
        data: &Dataset,
    ) -> Result<Self, String> {
        let recipe::Model::Encoder { layers, vocabulary, max_length, dropout, .. } = model else {
            return Err("a model of type \"mlp\" starts from nothing".to_owned());
        };
        let (Architecture::Encoder(theirs), Input::Tokens(read)) =
            (&base.architecture, &base.input)
        else {
            return Err("it is no transformer encoder".to_owned());
        };
        let all: Vec<usize> = (0..theirs.num_hidden_layers).collect();
        let taken = layers.as_ref().unwrap_or(&all);
        if let Some(layer) = taken.iter().find(|&&layer| layer >= all.len()) {
            let count = all.len();
            return Err(format!("it has no layer {layer}: its {count} layers are counted from 0"));
        }
        let mut ours = Encoder { num_hidden_layers: taken.len(), head, ..theirs.clone() };
        if let Some(rate) = *dropout {
            (ours.hidden_dropout, ours.attention_dropout) = (rate, rate);
            ours.classifier_dropout = rate;
        }
        let mut input = read.clone();
        input.max_length = max_length.map_or(read.max_length, |most| most.min(read.max_length));
        let old = match vocabulary.min_count() {
            None => None,
            Some(min_count) => Some(trim_to(data, min_count, &mut ours, &mut input)?),
        };
        let config = ModelConfig {
            architecture: Architecture::Encoder(ours),
            input: Input::Tokens(input),
            class_names: data.class_names()[..head.classes()].to_vec(),
        };
        // A classifier of other classes is of no use.
        let same_classes = base.class_names == config.class_names;
        let (family, known) = (theirs.family, base.model().parameters());
        let copied = |spec: &ParameterSpec| {
            let name = family.of_layer(&spec.name, |layer| taken[layer]);
            let is_output = !same_classes && family.is_output(&spec.name);
            let found = known.iter().position(|known| known.name == name).filter(|_| !is_output);
            let rows = old.clone().filter(|_| family.is_of_tokens(&spec.name));
            found.map(|parameter| Copied { parameter, rows })
        };
        let copies = config.model().parameters().iter().map(copied).collect();
        Ok(Self { config, copies })
    }

    /// The values that it takes over, `base` being those of the other model; nothing for parameters that start at
    /// random.
    pub fn values(&self, base: &[Option<Vec<f32>>]) -> Vec<Option<Vec<f32>>> {
        let specs = self.config.model().parameters();
        let values = |(copied, spec): (&Option<Copied>, &ParameterSpec)| {
            let Copied { parameter, rows } = copied.as_ref()?;
            let values = base[*parameter].as_ref()?;
            let Some(rows) = rows else { return Some(values.clone()) };
            let columns: usize = spec.shape[1..].iter().product();
            let row = |&row: &u32| &values[row as usize * columns..][..columns];
            Some(rows.iter().flat_map(row).copied().collect())
        };
        self.copies.iter().zip(&specs).map(values).collect()
    }
}

/// Leaves a model the tokens alone that these texts need; for each of them its old number.
fn trim_to(
    data: &Dataset,
    min_count: u32,
    encoder: &mut Encoder,
    input: &mut TokenInput,
) -> Result<Arc<Vec<u32>>, String> {
    let (Some(texts), Some(tokenizer)) = (data.examples().texts(), &input.tokenizer) else {
        return Err("a vocabulary is trimmed to texts, and here are none".to_owned());
    };
    let padding = encoder.pad_token_id;
    let trimmed = trim(tokenizer, texts, min_count, padding as u32);
    let Trimmed { tokenizer, old } = trimmed.map_err(|error| error.to_string())?;
    let place = old.iter().position(|&id| id as usize == padding);
    encoder.pad_token_id = place.expect("the padding token is kept");
    if encoder.family == Family::Roberta && encoder.pad_token_id != padding {
        return Err(format!(
            "its positions count from its padding token, number {padding}, which cannot be another: leave \
             `vocabulary` out"
        ));
    }
    (encoder.vocab_size, input.vocab_size) = (old.len(), old.len());
    input.tokenizer = Some(Arc::new(tokenizer));
    Ok(Arc::new(old))
}
