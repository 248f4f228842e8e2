//! An encoder cut out of another one: some of its layers and tokens, or narrower.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use distil_gpu_kernels::attention::MAX_HEAD_DIM;

use super::{Architecture, Encoder, Head, Input, Model, ModelConfig, TokenInput, Values};
use crate::data::Dataset;
use crate::data::text::{Trimmed, trim};
use crate::recipe;
use crate::store::ParameterSpec;
use crate::words::counted;

/// What a model takes over from another one: for each of its parameters a part of one of the other's.
#[derive(Clone, Debug, Default)]
pub struct SubsetMap(Vec<Option<Copied>>);

/// Some columns of some rows of a parameter of the other model.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    /// The parameter's number.
    pub parameter: usize,
    /// Its rows.
    pub rows: Arc<Vec<u32>>,
    /// Its columns.
    pub columns: Columns,
    /// Columns of the other model's parameter.
    pub of_columns: usize,
}

/// Columns of a parameter.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    /// So many, from the first on.
    First(usize),
    /// These.
    Listed(Arc<Vec<u32>>),
}

impl SubsetMap {
    /// A part for each parameter, or nothing.
    pub(super) fn new(parts: Vec<Option<Copied>>) -> Self {
        Self(parts)
    }

    /// The parts, `base` giving the parameters of the other model; nothing for those that start at random.
    pub fn known<'a>(&self, base: impl Fn(usize) -> Option<&'a [f32]>) -> Values {
        let known = |index| Ok::<_, Infallible>(base(index).map(Cow::Borrowed));
        let Ok(values) = self.values(known);
        values
    }

    /// The same where the other model's parameters are read, each when it is copied.
    ///
    /// # Errors
    /// As `base`.
    pub fn values<'a, E>(
        &self,
        base: impl Fn(usize) -> Result<Option<Cow<'a, [f32]>>, E>,
    ) -> Result<Values, E> {
        let part = |copied: &Option<Copied>| {
            let Some(Copied { parameter, rows, columns, of_columns }) = copied else {
                return Ok(None);
            };
            let Some(values) = base(*parameter)? else { return Ok(None) };
            let rows = rows.iter().map(|&row| &values[row as usize * of_columns..][..*of_columns]);
            Ok(Some(match columns {
                Columns::First(count) => rows.flat_map(|row| &row[..*count]).copied().collect(),
                Columns::Listed(columns) => rows
                    .flat_map(|row| columns.iter().map(|&column| row[column as usize]))
                    .collect(),
            }))
        };
        self.0.iter().map(part).collect()
    }
}

/// The encoder with this head that a recipe asks for, out of `base`, for these training examples, and what it takes
/// over; what is wrong with that otherwise.
///
/// Of a wider parameter it takes the first rows and columns, so the first units of a feed-forward layer, the first
/// columns of hidden states, and with these the first heads; see Samragh et al. 2023, "Weight subcloning".
pub(super) fn cut(
    model: &recipe::Model,
    head: Head,
    base: &ModelConfig,
    data: &Dataset,
) -> Result<(ModelConfig, SubsetMap), String> {
    let recipe::Model::Encoder { layers, vocabulary, max_length, .. } = model else {
        return Err(format!("a model of type \"{}\" starts from nothing", model.type_name()));
    };
    let (Some(theirs), Input::Tokens(read)) = (base.encoder(), &base.input) else {
        return Err("it is no transformer encoder".to_owned());
    };
    let count = theirs.num_hidden_layers;
    let taken = layers.as_ref().map_or((0..count).collect(), |layers| layers.of(count));
    if let Some(layer) = taken.iter().find(|&&layer| layer >= count) {
        return Err(format!(
            "it has no layer {layer}, but {}, counted from 0",
            counted(count, "layer")
        ));
    }
    let mut ours = sized(model, theirs)?;
    ours.num_hidden_layers = taken.len();
    if let Some(family) = theirs.family.with_layers(&taken) {
        ours.family = family;
    }
    ours.set_head(head);
    ours.sentence = ours.sentence.for_student(ours.hidden_size);
    let mut input = read.clone();
    input.pooling = ours.pooling();
    input.max_length = max_length.map_or(read.max_length, |most| most.min(read.max_length));
    let tokens = match vocabulary.min_count() {
        None => None,
        Some(min_count) => Some(trim_to(data, min_count, &mut ours, &mut input)?),
    };
    let class_names = data.outputs()[..head.classes()].to_vec();
    // A classifier of other classes is of no use.
    let same_classes = theirs.head.is_like(head) && base.class_names == class_names;
    let (family, known) = (&theirs.family, base.model().parameters());
    let copied = |spec: &ParameterSpec| {
        let name = family.of_layer(&spec.name, &|layer| taken[layer]);
        let is_output = !same_classes && ours.is_output(&spec.name);
        let found = known.iter().position(|known| known.name == name).filter(|_| !is_output)?;
        let columns = |shape: &[usize]| shape[1..].iter().product();
        let (columns, of_columns) = (columns(&spec.shape), columns(&known[found].shape));
        let tokens = tokens.clone().filter(|_| ours.is_of_tokens(&spec.name));
        let rows = tokens.or_else(|| family.rows_of(&spec.name, &ours, theirs).map(Arc::new));
        let rows = rows.unwrap_or_else(|| Arc::new((0..spec.shape[0] as u32).collect()));
        let columns = Columns::First(columns);
        Some(Copied { parameter: found, rows, columns, of_columns })
    };
    let copies = SubsetMap(ours.parameters().iter().map(copied).collect());
    let input = Input::Tokens(input);
    Ok((ModelConfig::new(Architecture::Encoder(ours), input, class_names), copies))
}

/// An encoder with the sizes and the dropout that a recipe asks for, the rest as another's.
fn sized(model: &recipe::Model, theirs: &Encoder) -> Result<Encoder, String> {
    let recipe::Model::Encoder {
        hidden_size, num_attention_heads, intermediate_size, dropout, ..
    } = model
    else {
        unreachable!("it is one");
    };
    let head = theirs.hidden_size / theirs.num_attention_heads;
    let hidden = hidden_size.unwrap_or(theirs.hidden_size);
    let heads = num_attention_heads.unwrap_or(hidden.div_ceil(head));
    let wide = intermediate_size.unwrap_or(theirs.intermediate_size);
    for (key, size, most) in [
        ("hidden_size", hidden, theirs.hidden_size),
        ("num_attention_heads", heads, theirs.num_attention_heads),
        ("intermediate_size", wide, theirs.intermediate_size),
    ] {
        if size > most {
            return Err(format!(
                "its {key} is {most}, and what starts from it can have no more: {size} is too much"
            ));
        }
    }
    if !hidden.is_multiple_of(heads) {
        return Err(format!(
            "its heads are {head} wide: give a hidden_size that is a multiple of {head}, or a \
             num_attention_heads that {hidden} is a multiple of"
        ));
    }
    if hidden / heads > MAX_HEAD_DIM {
        return Err(format!(
            "a hidden_size of {hidden} shared by {heads} heads makes them {} wide, and {MAX_HEAD_DIM} is the \
             most: give a larger num_attention_heads",
            hidden / heads
        ));
    }
    let mut ours = theirs.clone();
    (ours.hidden_size, ours.num_attention_heads, ours.intermediate_size) = (hidden, heads, wide);
    // Embeddings keep their width; where that is now the hidden states' own, nothing says it.
    ours.embedding_size = ours.embedding_size.filter(|&width| width != hidden);
    if let Some(rate) = *dropout {
        (ours.hidden_dropout, ours.attention_dropout, ours.classifier_dropout) = (rate, rate, rate);
    }
    Ok(ours)
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
    if encoder.family.counts_from_padding() && encoder.pad_token_id != padding {
        return Err(format!(
            "its positions count from its padding token, number {padding}, which cannot be another: leave \
             `vocabulary` out"
        ));
    }
    (encoder.vocab_size, input.vocab_size) = (old.len(), old.len());
    input.tokenizer = Some(Arc::new(tokenizer));
    Ok(Arc::new(old))
}
