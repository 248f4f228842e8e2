//! GGUF's metadata as Hugging Face's `config.json`, and back.

use serde_json::{Map, Value as Json, json};

use crate::container::Gguf;
use crate::error::Error;
use crate::names::Architecture;
use crate::rope;
use crate::value::{Array, Value};

/// Sizes that decide how tensors lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub layers: u32,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    /// Rows of the table of positions before that of a text's first token.
    pub first_position: usize,
}

/// The base of rotary positions of a file that names none, as llama.cpp takes it.
const ROPE_BASE: f64 = 10_000.0;
/// The base of Gemma 3's layers that look at a window, and which layers do not.
const GEMMA_LOCAL_BASE: f64 = 10_000.0;
const GEMMA_PATTERN: u32 = 6;
/// As llama.cpp has it: of so many layers is the model of 27 billion parameters, whose scale goes by the hidden size.
const GEMMA_27B: u32 = 62;
/// What layers see, in `layer_types` and as keys of `rope_parameters`.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Reads keys of one architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// A count. What may differ by layer may be written for each; it is read if all are alike.
    fn count(&self, name: &str) -> Result<Option<u32>, Error> {
        let key = self.key(name);
        let alike = |value: &Value| {
            let number = match value.as_integers() {
                Some(all) => all
                    .first()
                    .copied()
                    .filter(|first| all.iter().all(|n| n == first))?
                    .try_into()
                    .ok()?,
                None => value.as_u64()?,
            };
            u32::try_from(number).ok()
        };
        self.gguf.get_as(&key, "a count, alike in all layers", alike)
    }

    fn needed(&self, name: &str) -> Result<u32, Error> {
        let count = self.count(name)?.filter(|&count| count > 0);
        count.ok_or_else(|| {
            Error::key(self.gguf.path(), &self.key(name), "it must be there, and more than 0")
        })
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Error> {
        self.gguf.get_as(&self.key(name), "a number", Value::as_f64)
    }

    fn refuse(&self, name: &str, problem: &str) -> Error {
        Error::key(self.gguf.path(), &self.key(name), problem)
    }
}

/// The architecture that a file names.
pub(crate) fn architecture(gguf: &Gguf) -> Result<Architecture, Error> {
    let key = "general.architecture";
    let name = gguf.get_as(key, "text", Value::as_str)?.unwrap_or_default();
    let known = "llama, qwen2, qwen3, gpt2 and gemma3 are understood";
    Architecture::from_gguf(name)
        .ok_or_else(|| Error::key(gguf.path(), key, format!("{name:?}; {known}")))
}

pub(crate) fn sizes(gguf: &Gguf, architecture: Architecture) -> Result<Sizes, Error> {
    let keys = Keys { gguf, prefix: architecture.gguf() };
    let (layers, hidden) = (keys.needed("block_count")?, keys.needed("embedding_length")?);
    let heads = keys.needed("attention.head_count")?;
    let kv_heads = keys.count("attention.head_count_kv")?.unwrap_or(heads);
    if kv_heads == 0 || heads % kv_heads != 0 {
        return Err(keys.refuse("attention.head_count_kv", "it must divide the count of heads"));
    }
    let head_dim = match keys.count("attention.key_length")? {
        Some(dim) => dim,
        None if hidden % heads == 0 => hidden / heads,
        None => {
            return Err(
                keys.refuse("attention.head_count", "it must divide the embedding's length")
            );
        }
    };
    if keys.count("attention.value_length")?.is_some_and(|dim| dim != head_dim) {
        return Err(keys.refuse(
            "attention.value_length",
            "values of another width than keys are not understood",
        ));
    }
    if keys.count("rope.dimension_count")?.is_some_and(|dim| dim != head_dim) {
        return Err(keys.refuse(
            "rope.dimension_count",
            "rotary positions of a part of a head are not understood",
        ));
    }
    if keys.count("expert_count")?.is_some_and(|experts| experts > 0) {
        return Err(keys.refuse("expert_count", "mixtures of experts are not understood"));
    }
    let table = gguf.tensor("token_embd.weight");
    let table =
        table.ok_or_else(|| Error::tensor(gguf.path(), "token_embd.weight", "it is not there"))?;
    let [vocab, width] = *table.shape else {
        return Err(Error::tensor(gguf.path(), &table.name, "it is no matrix"));
    };
    let hidden = hidden as usize;
    if width != hidden {
        let problem = format!("rows of {width}, and the embedding's length is {hidden}");
        return Err(Error::tensor(gguf.path(), &table.name, problem));
    }
    let (heads, kv_heads, head_dim) = (heads as usize, kv_heads as usize, head_dim as usize);
    Ok(Sizes { layers, hidden, heads, kv_heads, head_dim, vocab, first_position: 0 })
}

/// `config.json` of a file. Rotary positions are written in both ways that transformers has had.
pub(crate) fn read(gguf: &Gguf, architecture: Architecture, sizes: &Sizes) -> Result<Json, Error> {
    let keys = Keys { gguf, prefix: architecture.gguf() };
    let mut config = match architecture {
        Architecture::Gpt2 => gpt2(&keys, sizes)?,
        _ => decoder(&keys, architecture, sizes)?,
    };
    config.insert("vocab_size".into(), json!(sizes.vocab));
    config.insert("tie_word_embeddings".into(), json!(gguf.tensor("output.weight").is_none()));
    config.insert("torch_dtype".into(), json!("float32"));
    for (theirs, name) in
        [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")]
    {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = gguf.get_as(&key, "a token's number", Value::as_u64)?;
        if let Some(id) = id.filter(|&id| id < sizes.vocab as u64) {
            config.insert(theirs.into(), json!(id));
        }
    }
    Ok(Json::Object(config))
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

fn gpt2(keys: &Keys<'_>, sizes: &Sizes) -> Result<Map<String, Json>, Error> {
    let positions = keys.needed("context_length")?;
    Ok(object(json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": sizes.layers,
        "n_embd": sizes.hidden,
        "n_head": sizes.heads,
        "n_inner": keys.needed("feed_forward_length")?,
        "n_positions": positions,
        "n_ctx": positions,
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    })))
}

fn decoder(
    keys: &Keys<'_>,
    architecture: Architecture,
    sizes: &Sizes,
) -> Result<Map<String, Json>, Error> {
    let (class, model_type, activation) = match architecture {
        Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2", "silu"),
        Architecture::Qwen3 => ("Qwen3ForCausalLM", "qwen3", "silu"),
        Architecture::Gemma3 => ("Gemma3ForCausalLM", "gemma3_text", "gelu_pytorch_tanh"),
        _ => ("LlamaForCausalLM", "llama", "silu"),
    };
    let epsilon = keys.number("attention.layer_norm_rms_epsilon")?;
    let name = "attention.layer_norm_rms_epsilon";
    let epsilon = epsilon.ok_or_else(|| keys.refuse(name, "it must be there"))?;
    let has_bias = |stem: &str| keys.gguf.tensor(&format!("blk.0.{stem}.bias")).is_some();
    let mut config = object(json!({
        "architectures": [class],
        "model_type": model_type,
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_dim,
        "intermediate_size": keys.needed("feed_forward_length")?,
        "max_position_embeddings": keys.needed("context_length")?,
        "rms_norm_eps": epsilon,
        "hidden_act": activation,
        "attention_dropout": 0.0,
    }));
    match architecture {
        // Its queries, keys and values always have a bias, and its output has none.
        Architecture::Qwen2 => {}
        _ => drop(config.insert("attention_bias".into(), json!(has_bias("attn_q")))),
    }
    if architecture == Architecture::Llama {
        config.insert("mlp_bias".into(), json!(has_bias("ffn_gate")));
    }
    let theta = keys.number("rope.freq_base")?.unwrap_or(ROPE_BASE);
    let scaling = rope::read(keys.gguf, keys.prefix, theta, sizes.head_dim)?;
    let mut parameters = scaling.clone().unwrap_or_else(|| object(json!({"rope_type": "default"})));
    parameters.remove("type");
    parameters.insert("rope_theta".into(), json!(theta));
    config.insert("rope_theta".into(), json!(theta));
    config.insert("rope_scaling".into(), scaling.map_or(Json::Null, Json::Object));
    if architecture == Architecture::Gemma3 {
        gemma3(keys, sizes, &mut config, Json::Object(parameters))?;
    } else {
        config.insert("rope_parameters".into(), Json::Object(parameters));
    }
    Ok(config)
}

/// What each of so many layers of Gemma 3 sees.
fn gemma3_kinds(layers: u32) -> Vec<&'static str> {
    (1..=layers).map(|layer| if layer % GEMMA_PATTERN == 0 { FULL } else { SLIDING }).collect()
}

/// What Gemma 3 has beside: layers that look at a window, of which every sixth looks at everything.
fn gemma3(
    keys: &Keys<'_>,
    sizes: &Sizes,
    config: &mut Map<String, Json>,
    full: Json,
) -> Result<(), Error> {
    let base = keys.number("rope.freq_base_swa")?.unwrap_or(GEMMA_LOCAL_BASE);
    let large = sizes.layers == GEMMA_27B;
    let scalar = if large { sizes.hidden / sizes.heads } else { sizes.head_dim };
    let more = object(json!({
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "sliding_window": keys.needed("attention.sliding_window")?,
        "sliding_window_pattern": GEMMA_PATTERN,
        "layer_types": gemma3_kinds(sizes.layers),
        "rope_local_base_freq": base,
        "rope_parameters": {
            FULL: full,
            SLIDING: {"rope_type": "default", "rope_theta": base},
        },
        "final_logit_softcapping": keys.number("final_logit_softcapping")?,
        "attn_logit_softcapping": keys.number("attn_logit_softcapping")?,
    }));
    config.extend(more);
    Ok(())
}

/// A configuration as a GGUF's keys.
pub(crate) struct Written {
    pub architecture: Architecture,
    pub sizes: Sizes,
    pub tied: bool,
    pub keys: Vec<(String, Value)>,
    /// The tensor that stands for Llama 3's scaling.
    pub divisors: Option<Vec<f32>>,
}

/// Reads counts and switches of a `config.json`.
struct Hf<'a>(&'a Json);

impl Hf<'_> {
    fn count(&self, name: &str) -> Result<Option<u32>, Error> {
        let value = match self.0.get(name) {
            None | Some(Json::Null) => return Ok(None),
            Some(value) => value,
        };
        let count = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
        count
            .map(Some)
            .ok_or_else(|| Error::config(name, format!("{value}, and it must be a count")))
    }

    fn needed(&self, name: &str) -> Result<u32, Error> {
        self.count(name)?.ok_or_else(|| Error::config(name, "it must be there"))
    }

    fn number(&self, name: &str) -> Result<f64, Error> {
        let number = self.0.get(name).and_then(Json::as_f64);
        number.ok_or_else(|| Error::config(name, "it must be there, a number"))
    }

    /// Refuses what llama.cpp would reckon otherwise: each key may have these values alone.
    fn only(&self, name: &str, allowed: &[Json]) -> Result<(), Error> {
        match self.0.get(name) {
            Some(value) if !value.is_null() && !allowed.contains(value) => {
                Err(Error::config(name, format!("{value}, which llama.cpp does not know")))
            }
            _ => Ok(()),
        }
    }
}

/// The kinds of models (`model_type`) that are written.
const WRITTEN: [&str; 11] = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "gpt2",
    "bert",
    "distilbert",
    "roberta",
    "xlm-roberta",
    "camembert",
];

/// GGUF's keys of a `config.json`.
///
/// # Errors
/// [`Error::Config`] naming the key that is missing, or that llama.cpp would leave out of account.
pub(crate) fn write(config: &Json, pooling: Option<Pooling>) -> Result<Written, Error> {
    let hf = Hf(config);
    match config.get("model_type").and_then(Json::as_str).unwrap_or_default() {
        // llama.cpp leaves Mistral's window out of account, as it is longer than what such models are used with.
        "llama" | "mistral" => write_decoder(&hf, Architecture::Llama),
        "qwen2" => write_decoder(&hf, Architecture::Qwen2),
        "qwen3" => write_decoder(&hf, Architecture::Qwen3),
        "gemma3_text" => write_decoder(&hf, Architecture::Gemma3),
        "gpt2" => write_gpt2(&hf),
        "bert" => write_bert(&hf, Architecture::Bert, pooling),
        "roberta" | "xlm-roberta" | "camembert" => write_bert(&hf, Architecture::Roberta, pooling),
        "distilbert" => write_bert(&hf, Architecture::DistilBert, pooling),
        other => Err(Error::config(
            "model_type",
            format!("{other:?}; what is written for llama.cpp is {}", WRITTEN.join(", ")),
        )),
    }
}

fn write_gpt2(hf: &Hf<'_>) -> Result<Written, Error> {
    hf.only(
        "activation_function",
        &[json!("gelu_new"), json!("gelu_pytorch_tanh"), json!("gelu_fast")],
    )?;
    hf.only("scale_attn_weights", &[json!(true)])?;
    hf.only("scale_attn_by_inverse_layer_idx", &[json!(false)])?;
    hf.only("add_cross_attention", &[json!(false)])?;
    let (hidden, layers) = (hf.needed("n_embd")?, hf.needed("n_layer")?);
    let positions = hf.count("n_positions")?.or(hf.count("n_ctx")?);
    let positions = positions.ok_or_else(|| Error::config("n_positions", "it must be there"))?;
    let inner = hf.count("n_inner")?.unwrap_or(hidden.saturating_mul(4));
    let plain = Plain {
        architecture: Architecture::Gpt2,
        counts: [layers, positions, hidden, inner, hf.needed("vocab_size")?],
        heads: ["n_head", "n_embd"],
        epsilon: hf.number("layer_norm_epsilon")?,
    };
    let (sizes, keys) = plain.write(hf)?;
    let tied = hf.0.get("tie_word_embeddings").and_then(Json::as_bool).unwrap_or(true);
    Ok(Written { architecture: Architecture::Gpt2, sizes, tied, keys, divisors: None })
}

/// A model each of whose heads has queries, keys and values of its own, with norms that have a mean.
struct Plain {
    architecture: Architecture,
    /// Layers, positions, the hidden states' width, that of the feed-forward networks, and tokens.
    counts: [u32; 5],
    /// The keys of how many heads there are, and of the width that they share out.
    heads: [&'static str; 2],
    /// What is added to variances.
    epsilon: f64,
}

impl Plain {
    fn write(self, hf: &Hf<'_>) -> Result<(Sizes, Vec<(String, Value)>), Error> {
        let [layers, positions, hidden, inner, vocab] = self.counts;
        let [named, width] = self.heads;
        let heads = hf.needed(named)?;
        if hidden % heads != 0 {
            return Err(Error::config(named, format!("it must divide {width}")));
        }
        let prefix = self.architecture.gguf();
        let count = |name: &str, n: u32| (format!("{prefix}.{name}"), Value::U32(n));
        let epsilon = self.epsilon as f32;
        let keys = vec![
            count("block_count", layers),
            count("context_length", positions),
            count("embedding_length", hidden),
            count("feed_forward_length", inner),
            count("attention.head_count", heads),
            count("vocab_size", vocab),
            (format!("{prefix}.attention.layer_norm_epsilon"), Value::F32(epsilon)),
        ];
        let (hidden, heads) = (hidden as usize, heads as usize);
        let (layers, kv_heads, head_dim, vocab) = (layers, heads, hidden / heads, vocab as usize);
        let first_position = 0;
        Ok((Sizes { layers, hidden, heads, kv_heads, head_dim, vocab, first_position }, keys))
    }
}

/// What of a text's hidden states its vector is, as files number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean = 1,
    /// The first one.
    First = 2,
    /// The last one.
    Last = 3,
}

/// The number of RoBERTa's padding token where a configuration does not say.
const ROBERTA_PADDING: u64 = 1;
/// What DistilBERT adds to variances, of which its configurations say nothing.
const DISTILBERT_EPSILON: f64 = 1e-12;

fn write_bert(
    hf: &Hf<'_>,
    architecture: Architecture,
    pooling: Option<Pooling>,
) -> Result<Written, Error> {
    let is_distil = architecture == Architecture::DistilBert;
    let [activation, layers, hidden, inner, heads] = match is_distil {
        true => ["activation", "n_layers", "dim", "hidden_dim", "n_heads"],
        false => [
            "hidden_act",
            "num_hidden_layers",
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
        ],
    };
    // llama.cpp has the form with tanh for both, which is off by up to 1e-3.
    hf.only(activation, &[json!("gelu"), json!("gelu_new"), json!("gelu_pytorch_tanh")])?;
    hf.only("position_embedding_type", &[json!("absolute")])?;
    let rows = hf.needed("max_position_embeddings")?;
    let first_position = match architecture {
        Architecture::Roberta => {
            hf.0["pad_token_id"].as_u64().unwrap_or(ROBERTA_PADDING).saturating_add(1)
        }
        _ => 0,
    };
    let positions = u32::try_from(first_position).ok().and_then(|first| rows.checked_sub(first));
    let positions = positions.filter(|&positions| positions > 0).ok_or_else(|| {
        let problem = format!("{rows} rows, of which the first {first_position} are no positions");
        Error::config("max_position_embeddings", problem)
    })?;
    let epsilon = if is_distil { DISTILBERT_EPSILON } else { hf.number("layer_norm_eps")? };
    let plain = Plain {
        architecture,
        counts: [
            hf.needed(layers)?,
            positions,
            hf.needed(hidden)?,
            hf.needed(inner)?,
            hf.needed("vocab_size")?,
        ],
        heads: [heads, hidden],
        epsilon,
    };
    let (sizes, mut keys) = plain.write(hf)?;
    let sizes = Sizes { first_position: first_position as usize, ..sizes };
    // llama.cpp asks for the count where there is no table either.
    let types = hf.count("type_vocab_size")?.unwrap_or(1);
    keys.extend([
        ("bert.attention.causal".into(), Value::Bool(false)),
        ("tokenizer.ggml.token_type_count".into(), Value::U32(types)),
    ]);
    let pooling = pooling.map(|pooling| ("bert.pooling_type".into(), Value::U32(pooling as u32)));
    keys.extend(pooling);
    // There is no head, and so none that is missing.
    Ok(Written { architecture, sizes, tied: true, keys, divisors: None })
}

fn write_decoder(hf: &Hf<'_>, architecture: Architecture) -> Result<Written, Error> {
    let prefix = architecture.gguf();
    let (act, known) = match architecture {
        Architecture::Gemma3 => ("hidden_activation", ["gelu_pytorch_tanh", "gelu_new"]),
        _ => ("hidden_act", ["silu", "swish"]),
    };
    hf.only(act, &known.map(|name| json!(name)))?;
    hf.only("partial_rotary_factor", &[json!(1.0), json!(1)])?;
    // Llama's window and Qwen's are not llama.cpp's; Qwen's is off but in the largest models.
    hf.only("use_sliding_window", &[json!(false)])?;
    let (hidden, heads) = (hf.needed("hidden_size")?, hf.needed("num_attention_heads")?);
    let kv_heads = hf.count("num_key_value_heads")?.unwrap_or(heads);
    if heads % kv_heads != 0 {
        return Err(Error::config("num_key_value_heads", "it must divide num_attention_heads"));
    }
    let head_dim = match hf.count("head_dim")? {
        Some(dim) => dim,
        // Qwen 3's own default.
        None if architecture == Architecture::Qwen3 => 128,
        None if hidden % heads == 0 => hidden / heads,
        None => return Err(Error::config("num_attention_heads", "it must divide hidden_size")),
    };
    if head_dim % 2 != 0 {
        return Err(Error::config("head_dim", "rotary positions need an even one"));
    }
    let layers = hf.needed("num_hidden_layers")?;
    let vocab = hf.needed("vocab_size")?;
    let count = |name: &str, n: u32| (format!("{prefix}.{name}"), Value::U32(n));
    let mut keys = vec![
        count("block_count", layers),
        count("context_length", hf.needed("max_position_embeddings")?),
        count("embedding_length", hidden),
        count("feed_forward_length", hf.needed("intermediate_size")?),
        count("attention.head_count", heads),
        count("attention.head_count_kv", kv_heads),
        count("rope.dimension_count", head_dim),
        count("vocab_size", vocab),
        (
            format!("{prefix}.attention.layer_norm_rms_epsilon"),
            Value::F32(hf.number("rms_norm_eps")? as f32),
        ),
    ];
    if head_dim.checked_mul(heads) != Some(hidden) {
        keys.extend([
            count("attention.key_length", head_dim),
            count("attention.value_length", head_dim),
        ]);
    }
    let rope = match hf.0["rope_parameters"].get(FULL) {
        Some(full) => rope::write(&json!({ "rope_parameters": full }), prefix, head_dim as usize)?,
        None => rope::write(hf.0, prefix, head_dim as usize)?,
    };
    keys.extend(rope.keys);
    if architecture == Architecture::Gemma3 {
        let scalar = if layers == GEMMA_27B { hidden / heads } else { head_dim };
        keys.extend(gemma3_keys(hf, layers, scalar)?);
    }
    let sizes = Sizes {
        layers,
        hidden: hidden as usize,
        heads: heads as usize,
        kv_heads: kv_heads as usize,
        head_dim: head_dim as usize,
        vocab: vocab as usize,
        first_position: 0,
    };
    let usual = architecture == Architecture::Gemma3;
    let tied = hf.0.get("tie_word_embeddings").and_then(Json::as_bool).unwrap_or(usual);
    Ok(Written { architecture, sizes, tied, keys, divisors: rope.divisors })
}

/// What Gemma 3 has beside. llama.cpp knows by a layer's number what it sees, and by their count what scores are divided by.
fn gemma3_keys(hf: &Hf<'_>, layers: u32, scalar: u32) -> Result<Vec<(String, Value)>, Error> {
    for cap in ["final_logit_softcapping", "attn_logit_softcapping"] {
        hf.only(cap, &[])?;
    }
    for flag in ["use_bidirectional_attention", "attention_bias"] {
        hf.only(flag, &[json!(false)])?;
    }
    let told = hf.number("query_pre_attn_scalar")?;
    if told != f64::from(scalar) {
        let problem = format!("{told}, and llama.cpp has {scalar} for a model of {layers} layers");
        return Err(Error::config("query_pre_attn_scalar", problem));
    }
    for pattern in ["sliding_window_pattern", "_sliding_window_pattern"] {
        hf.only(pattern, &[json!(GEMMA_PATTERN)])?;
    }
    let kinds = hf.0.get("layer_types").filter(|kinds| !kinds.is_null());
    if kinds.is_some_and(|kinds| *kinds != json!(gemma3_kinds(layers))) {
        let problem =
            format!("llama.cpp has every layer see a window but for one of {GEMMA_PATTERN}");
        return Err(Error::config("layer_types", problem));
    }
    let near = hf.0["rope_parameters"].get(SLIDING);
    if near.and_then(|near| near["rope_type"].as_str()).is_some_and(|kind| kind != "default") {
        let problem = "layers that see a window have scaled positions, which is not written";
        return Err(Error::config("rope_parameters", problem));
    }
    let base = near.and_then(|near| near["rope_theta"].as_f64());
    let base = base.or_else(|| hf.0["rope_local_base_freq"].as_f64());
    let base = base.ok_or_else(|| Error::config("rope_local_base_freq", "it must be there"))?;
    Ok(vec![
        ("gemma3.attention.sliding_window".into(), Value::U32(hf.needed("sliding_window")?)),
        ("gemma3.rope.freq_base_swa".into(), Value::F32(base as f32)),
    ])
}

/// Strings as an array of the metadata.
pub(crate) fn strings(texts: Vec<String>) -> Value {
    Value::Array(Array::String(texts))
}
