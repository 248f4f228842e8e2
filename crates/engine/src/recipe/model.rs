//! `model = { … }`: a kind of model and its settings, before the data give it its input and output.

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys, word};
use super::pictures::{EfficientNet, ResNet, efficientnet, resnet};
use super::rules::{BELOW_ONE, COUNT, FLAG, Rule, SIZE, WIDTHS, numbers, text};
use crate::models::Origin;
use crate::nn::Activation;

keys! {
    /// A model.
    MODEL in "student.model";

    /// A multi-layer perceptron, for numbers; a residual network of convolutions or a MobileNetV2 or EfficientNet-lite, for
    /// pictures; a transformer encoder that starts from another one, for texts; or a transformer decoder, for next tokens.
    TYPE: Reader = word("type", || vec![
        ("mlp", mlp as Reader),
        ("resnet", resnet),
        ("efficientnet", efficientnet),
        ("encoder", encoder),
        ("decoder", decoder),
    ])
        .needed()
        .like("\"encoder\"")
        .hint("\"mlp\", \"resnet\", \"efficientnet\", \"encoder\" or \"decoder\"")
        .also(&["model_type"]);
}

keys! {
    /// Linear layers with an activation and dropout between them.
    MLP in "student.model" where type is "mlp";

    /// Units of each hidden layer.
    HIDDEN_SIZES: Vec<usize> = key("hidden_sizes", WIDTHS)
        .needed()
        .like("[800, 800]")
        .also(&["layer_sizes", "hidden_dims", "hidden_layers", "widths"]);
    /// Between the layers.
    ACTIVATION: Activation = word("activation", || vec![
        ("relu", Activation::Relu),
        ("gelu", Activation::Gelu),
        ("tanh", Activation::Tanh),
    ])
        .or("\"relu\"")
        .like("\"relu\"")
        .also(&["hidden_act", "act", "activation_function"]);
    /// Probability of dropping a hidden unit in training.
    DROPOUT: f32 = key("dropout", BELOW_ONE)
        .or("0.0")
        .like("0.3")
        .also(&["dropout_rate", "dropout_prob", "hidden_dropout_prob", "p_dropout"]);
    /// Probability of dropping an input in training.
    INPUT_DROPOUT: f32 = key("input_dropout", BELOW_ONE).or("0.0").like("0.1");
}

keys! {
    /// A transformer that starts from another one: an encoder (BERT, DistilBERT, RoBERTa, ModernBERT, DeBERTa-v3 …) for texts,
    /// or a decoder (Llama, Mistral, Qwen, Gemma 3, GPT-2) for next tokens.
    TRANSFORMER in "student.model" where type is "encoder" | "decoder";

    /// What it starts from: a folder with config.json, model.safetensors and tokenizer.json, a model of the hub, a decoder's
    /// GGUF file, or the run's own teacher.
    FROM: Base = key("from", BASE)
        .needed()
        .like("\"minilm\"")
        .also(&[
            "base",
            "base_model",
            "pretrained_model",
            "model_name_or_path",
            "model_name",
            "init_from",
            "init",
        ]);
    /// The layers that it takes over; "alternate" takes every other one, from the first on. Of a decoder,
    /// { keep = 20, by = "influence" } leaves out one after another, always the one without which its guesses change least.
    LAYERS: Layers = key("layers", CHOSEN_LAYERS)
        .otherwise("all")
        .like("[0, 2, 4]")
        .hint("a list of layers, counted from 0")
        .also(&["num_hidden_layers", "num_layers", "n_layers", "n_layer", "keep_layers"]);
    /// Whether its weights start at random; of the folder only config.json and the tokenizer are read then.
    RANDOM: bool = key("random", FLAG).or("false").like("true").also(&["random_init", "from_scratch"]);
    /// Width of a token's hidden state; of what is wider in the model that it starts from, the first rows and columns are
    /// taken over. A decoder's stays as it is unless it starts at random.
    HIDDEN_SIZE: usize = key("hidden_size", SIZE)
        .otherwise("as there")
        .like("192")
        .also(&["d_model", "dim", "hidden_dim", "n_embd", "embed_dim"]);
    /// Attention heads of a layer.
    HEADS: usize = key("num_attention_heads", SIZE)
        .otherwise("as many as keep their width")
        .like("6")
        .also(&["num_heads", "n_heads", "n_head", "heads"]);
    /// Width within a feed-forward layer. A decoder takes over the units that add most to hidden states, an encoder the first.
    INTERMEDIATE_SIZE: usize = key("intermediate_size", SIZE)
        .otherwise("as there")
        .like("768")
        .also(&["d_ff", "ffn_dim", "hidden_dim_ff"]);
    /// The tokens that it knows: all, only those that the training texts use, and the letters to spell other words with, or
    /// by a table those used at least so often. A decoder's teacher that is loaded knows the same alone.
    VOCABULARY: Vocabulary = word("vocabulary", || vec![
        ("full", Vocabulary::Full),
        ("trimmed", Vocabulary::Trimmed),
    ])
        .or("\"full\"")
        .like("\"trimmed\"")
        .also(&["vocab", "vocab_size"]);
    /// Most tokens of a text; what is longer is cut. Of a decoder, the tokens that are read at once, in which several documents
    /// may lie.
    MAX_LENGTH: usize = key("max_length", SIZE)
        .otherwise("as many as it has positions for, of a decoder 512")
        .like("64")
        .also(&[
            "max_len",
            "max_seq_length",
            "max_seq_len",
            "model_max_length",
            "seq_length",
            "sequence_length",
        ]);
    /// Probability of dropping an element of a hidden state in training.
    TRANSFORMER_DROPOUT: f32 = key("dropout", BELOW_ONE)
        .otherwise("as its config.json says")
        .like("0.1")
        .also(&["dropout_rate", "dropout_prob", "hidden_dropout_prob", "p_dropout"]);
}

keys! {
    /// What decoders have beside that.
    DECODER in "student.model" where type is "decoder";

    /// Heads of keys and values, each of which serves as many neighbours of the others. A decoder takes over those that add most
    /// to hidden states, with the heads of queries that share them.
    KEY_VALUE_HEADS: usize = key("num_key_value_heads", SIZE)
        .otherwise("as there, or one for each head")
        .like("2")
        .also(&["num_kv_heads", "n_kv_heads", "kv_heads"]);
}

keys! {
    /// In the place of a word: a vocabulary of what is used often.
    VOCABULARY_KEYS in "student.model.vocabulary";

    /// How often the training texts must use a token.
    MIN_COUNT: u32 = key("min_count", COUNT).needed().like("3").also(&["min_frequency", "min_freq"]);
}

/// A model as a recipe describes it; the data add the shape of an example and the number of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Model {
    /// A multi-layer perceptron: linear layers with an activation and dropout between them.
    Mlp {
        /// Units of each hidden layer.
        hidden_sizes: Vec<usize>,
        /// Between the layers.
        activation: Activation,
        /// Probability of dropping a hidden unit in training, in [0, 1).
        dropout: f32,
        /// Probability of dropping an input in training, in [0, 1).
        input_dropout: f32,
    },
    /// A residual network of convolutions, for pictures.
    ResNet(ResNet),
    /// A MobileNetV2 or EfficientNet-lite, for pictures.
    EfficientNet(EfficientNet),
    /// A transformer encoder of the BERT family, which starts from a trained one, or from one's configuration.
    Encoder {
        /// The one it starts from.
        from: Base,
        /// The layers that it takes over; all unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        layers: Option<Layers>,
        /// Whether its weights start at random: of the folder, only `config.json` and the tokenizer are read then.
        random: bool,
        /// Width of a token's hidden state; as that of the one it starts from unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        hidden_size: Option<usize>,
        /// Attention heads of a layer; unless given, as many as keep their width.
        #[serde(skip_serializing_if = "Option::is_none")]
        num_attention_heads: Option<usize>,
        /// Width within a feed-forward layer; as that of the one it starts from unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        intermediate_size: Option<usize>,
        /// Which of its tokens it knows; all unless given.
        #[serde(default, skip_serializing_if = "Vocabulary::is_full")]
        vocabulary: Vocabulary,
        /// Most tokens of a text, what is longer being cut; as many as it has positions for unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_length: Option<usize>,
        /// Probability of dropping an element of a hidden state, in [0, 1); as in its configuration unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropout: Option<f32>,
    },
    /// A transformer decoder, which guesses next tokens.
    Decoder(Decoder),
}

/// A transformer decoder as a recipe describes it: a part of another one, or of such a kind with random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// The one it starts from.
    pub from: Base,
    /// The layers that it takes over; all unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// Whether its weights start at random: of the folder, only `config.json` and the tokenizer are read then, and sizes may
    /// be any.
    pub random: bool,
    /// Width of a token's hidden state, of one that starts at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Attention heads of a layer, of one that starts at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Heads of keys and values; as those of the one it starts from unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Width within a feed-forward layer; as that of the one it starts from unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Which tokens it knows; all unless given.
    #[serde(default, skip_serializing_if = "Vocabulary::is_full")]
    pub vocabulary: Vocabulary,
    /// Tokens that are read at once; 512 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Probability of dropping something in training, in [0, 1); as in its configuration unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
}

/// What a model starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The run's own teacher, once it is trained or loaded.
    Teacher,
    /// Another model, as Hugging Face transformers saves it.
    #[serde(untagged)]
    Model(Origin),
}

/// The layers that a model takes over from the one it starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layers {
    /// Every other one, from the first on.
    Alternate,
    /// These, counted from 0.
    #[serde(untagged)]
    Listed(Vec<usize>),
    /// So many that matter most.
    #[serde(untagged)]
    Chosen {
        /// How many.
        keep: usize,
        /// By what.
        by: ChosenBy,
    },
}

/// What layers are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChosenBy {
    /// How far a decoder's guesses move where one is left out; see [`crate::measure::influence`].
    Influence,
}

impl Layers {
    /// Their numbers, of so many layers.
    pub fn of(&self, count: usize) -> Vec<usize> {
        match self {
            Self::Alternate => (0..count).step_by(2).collect(),
            Self::Listed(layers) => layers.clone(),
            // Until they are chosen, any will do.
            Self::Chosen { keep, .. } => (0..*keep).collect(),
        }
    }
}

/// Which tokens a model knows of those that the one it starts from does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vocabulary {
    /// All.
    #[default]
    Full,
    /// Those that the training texts use, with what spells other words; see [`crate::data::text::trim`].
    Trimmed,
    /// Those that the training texts use at least so often, with what spells other words.
    #[serde(untagged)]
    Common {
        /// How often; above 0.
        min_count: u32,
    },
}

impl Vocabulary {
    fn is_full(&self) -> bool {
        *self == Self::Full
    }

    /// How often the training texts must use a token; nothing where all tokens stay.
    pub fn min_count(self) -> Option<u32> {
        match self {
            Self::Full => None,
            Self::Trimmed => Some(1),
            Self::Common { min_count } => Some(min_count),
        }
    }

    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        if !table.has_table("vocabulary") {
            return table.value(&VOCABULARY);
        }
        let common = table.need_table(&VOCABULARY)?;
        common.known(&[&VOCABULARY_KEYS])?;
        Ok(Self::Common { min_count: common.value(&MIN_COUNT)? })
    }
}

const BASE: Rule<Base> = Rule {
    allowed: "a folder's path, hf:OWNER/NAME, hf:OWNER/NAME@REVISION or teacher, in quotes",
    read: |value| match text(value)?.as_str() {
        "teacher" => Some(Base::Teacher),
        other => Origin::of(other.as_ref()).ok().map(Base::Model),
    },
};
const CHOSEN_LAYERS: Rule<Layers> = Rule {
    allowed: "\"alternate\", a list of one or more layer numbers, counted from 0, or of a decoder { keep = 20, by = \"influence\" }",
    read: |value| match (text(value), value.as_table()) {
        (Some(word), _) => (word == "alternate").then_some(Layers::Alternate),
        (None, Some(table)) => chosen_layers(table),
        (None, None) => numbers(value).filter(|layers| !layers.is_empty()).map(Layers::Listed),
    },
};

fn chosen_layers(table: &DeTable<'_>) -> Option<Layers> {
    let keep = (SIZE.read)(table.get("keep")?.get_ref())?;
    let by = text(table.get("by")?.get_ref())?;
    (table.len() == 2 && by == "influence")
        .then_some(Layers::Chosen { keep, by: ChosenBy::Influence })
}

type Reader = fn(&Table<'_>) -> Result<Model, RecipeError>;

impl Model {
    /// What a recipe calls its kind.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::ResNet(_) => "resnet",
            Self::EfficientNet(_) => "efficientnet",
            Self::Encoder { .. } => "encoder",
            Self::Decoder(_) => "decoder",
        }
    }

    /// Whether it reads numbers.
    pub fn reads_numbers(&self) -> bool {
        matches!(self, Self::Mlp { .. } | Self::ResNet(_) | Self::EfficientNet(_))
    }

    /// Whether it starts from the run's teacher.
    pub fn follows_teacher(&self) -> bool {
        match self {
            Self::Encoder { from, .. } | Self::Decoder(Decoder { from, .. }) => {
                *from == Base::Teacher
            }
            Self::Mlp { .. } | Self::ResNet(_) | Self::EfficientNet(_) => false,
        }
    }

    /// How many layers it keeps of those of the model that it starts from, if they are to be chosen by influence.
    pub fn by_influence(&self) -> Option<usize> {
        match self {
            Self::Decoder(Decoder { layers: Some(Layers::Chosen { keep, .. }), .. }) => Some(*keep),
            _ => None,
        }
    }

    /// The same with these layers.
    #[must_use]
    pub fn with_layers(&self, chosen: Vec<usize>) -> Self {
        let mut model = self.clone();
        if let Self::Decoder(Decoder { layers, .. }) | Self::Encoder { layers, .. } = &mut model {
            *layers = Some(Layers::Listed(chosen));
        }
        model
    }

    /// What it starts from, if that is a model.
    pub(super) fn base_mut(&mut self) -> Option<&mut Base> {
        match self {
            Self::Encoder { from, .. } | Self::Decoder(Decoder { from, .. }) => Some(from),
            Self::EfficientNet(network) => network.from.as_mut(),
            Self::Mlp { .. } | Self::ResNet(_) => None,
        }
    }

    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.value(&TYPE)?(table)
    }
}

fn base(table: &Table<'_>) -> Result<Base, RecipeError> {
    Ok(match table.value(&FROM)? {
        Base::Teacher => Base::Teacher,
        Base::Model(origin) => Base::Model(table.origin(&FROM, origin)?),
    })
}

fn encoder(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&[&MODEL, &TRANSFORMER])?;
    let layers = table.get(&LAYERS)?;
    if matches!(layers, Some(Layers::Chosen { .. })) {
        let problem =
            "layers are chosen by influence of decoders alone: list an encoder's, as [0, 2, 4]";
        return Err(table.conflict("layers", problem));
    }
    Ok(Model::Encoder {
        from: base(table)?,
        layers,
        random: table.value(&RANDOM)?,
        hidden_size: table.get(&HIDDEN_SIZE)?,
        num_attention_heads: table.get(&HEADS)?,
        intermediate_size: table.get(&INTERMEDIATE_SIZE)?,
        vocabulary: Vocabulary::read(table)?,
        max_length: table.get(&MAX_LENGTH)?,
        dropout: table.get(&TRANSFORMER_DROPOUT)?,
    })
}

fn decoder(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&[&MODEL, &TRANSFORMER, &DECODER])?;
    let (layers, random) = (table.get(&LAYERS)?, table.value(&RANDOM)?);
    if random && matches!(layers, Some(Layers::Chosen { .. })) {
        let problem = "layers with random weights have no influence: list their numbers, as [0, 1]";
        return Err(table.conflict("layers", problem));
    }
    Ok(Model::Decoder(Decoder {
        from: base(table)?,
        layers,
        random,
        hidden_size: table.get(&HIDDEN_SIZE)?,
        num_attention_heads: table.get(&HEADS)?,
        num_key_value_heads: table.get(&KEY_VALUE_HEADS)?,
        intermediate_size: table.get(&INTERMEDIATE_SIZE)?,
        vocabulary: Vocabulary::read(table)?,
        max_length: table.get(&MAX_LENGTH)?,
        dropout: table.get(&TRANSFORMER_DROPOUT)?,
    }))
}

fn mlp(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&[&MODEL, &MLP])?;
    Ok(Model::Mlp {
        hidden_sizes: table.value(&HIDDEN_SIZES)?,
        activation: table.value(&ACTIVATION)?,
        dropout: table.value(&DROPOUT)?,
        input_dropout: table.value(&INPUT_DROPOUT)?,
    })
}
