//! Tensors' names and layouts: GGUF's and Hugging Face's.
//!
//! What differs beside names: llama.cpp turns the pairs of numbers that lie side by side, so the query and key rows of
//! its `llama` are permuted; Hugging Face's GPT-2 keeps its matrices as `[in, out]`; Gemma's norms hold 1 more in GGUF;
//! RoBERTa's positions begin behind the number of its padding token, and llama.cpp's with the first row.

/// An architecture that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama, and what is built alike: Mistral, SmolLM2, TinyLlama.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// GPT-2 and DistilGPT2.
    Gpt2,
    /// The text part of Gemma 3.
    Gemma3,
    /// BERT as a model of vectors, which is written alone, as those below.
    Bert,
    /// RoBERTa, XLM-RoBERTa and CamemBERT, likewise: BERT to llama.cpp.
    Roberta,
    /// DistilBERT, likewise: BERT to llama.cpp.
    DistilBert,
}

/// How a tensor of Hugging Face becomes one of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is the same.
    Nothing,
    /// Rows of each query head: the halves are interleaved.
    Queries,
    /// Rows of each key head, likewise.
    Keys,
    /// `[in, out]` becomes `[out, in]`.
    Transpose,
    /// 1 is added.
    PlusOne,
    /// The rows before the first position are left out.
    FromFirst,
}

/// A line of a table of names: GGUF's, Hugging Face's, the change, whether a model is whole without it.
type Row = (&'static str, &'static str, Change, bool);

use Change::{FromFirst, Keys, Nothing, PlusOne, Queries, Transpose};

const LLAMA: &[Row] = &[
    ("token_embd", "model.embed_tokens", Nothing, true),
    ("output_norm", "model.norm", Nothing, true),
    ("output", "lm_head", Nothing, false),
    ("blk.{}.attn_norm", "model.layers.{}.input_layernorm", Nothing, true),
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", Queries, true),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", Keys, true),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj", Nothing, true),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj", Nothing, true),
    ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", Nothing, true),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj", Nothing, true),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj", Nothing, true),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj", Nothing, true),
];

const QWEN: &[Row] = &[
    ("token_embd", "model.embed_tokens", Nothing, true),
    ("output_norm", "model.norm", Nothing, true),
    ("output", "lm_head", Nothing, false),
    ("blk.{}.attn_norm", "model.layers.{}.input_layernorm", Nothing, true),
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", Nothing, true),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", Nothing, true),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj", Nothing, true),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj", Nothing, true),
    ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", Nothing, true),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj", Nothing, true),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj", Nothing, true),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj", Nothing, true),
];

const QWEN3_NORMS: &[Row] = &[
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm", Nothing, true),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm", Nothing, true),
];

const GEMMA3: &[Row] = &[
    ("token_embd", "model.embed_tokens", Nothing, true),
    ("output_norm", "model.norm", PlusOne, true),
    ("output", "lm_head", Nothing, false),
    ("blk.{}.attn_norm", "model.layers.{}.input_layernorm", PlusOne, true),
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", Nothing, true),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", Nothing, true),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj", Nothing, true),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj", Nothing, true),
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm", PlusOne, true),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm", PlusOne, true),
    ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm", PlusOne, true),
    ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm", PlusOne, true),
    ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm", PlusOne, true),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj", Nothing, true),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj", Nothing, true),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj", Nothing, true),
];

const GPT2: &[Row] = &[
    ("token_embd", "transformer.wte", Nothing, true),
    ("position_embd", "transformer.wpe", Nothing, true),
    ("output_norm", "transformer.ln_f", Nothing, true),
    ("output", "lm_head", Nothing, false),
    ("blk.{}.attn_norm", "transformer.h.{}.ln_1", Nothing, true),
    ("blk.{}.attn_qkv", "transformer.h.{}.attn.c_attn", Transpose, true),
    ("blk.{}.attn_output", "transformer.h.{}.attn.c_proj", Transpose, true),
    ("blk.{}.ffn_norm", "transformer.h.{}.ln_2", Nothing, true),
    ("blk.{}.ffn_up", "transformer.h.{}.mlp.c_fc", Transpose, true),
    ("blk.{}.ffn_down", "transformer.h.{}.mlp.c_proj", Transpose, true),
];

/// BERT's, and those below, without the prefix that a model with a head has.
const BERT: &[Row] = &[
    ("token_embd", "embeddings.word_embeddings", Nothing, true),
    ("token_types", "embeddings.token_type_embeddings", Nothing, false),
    ("token_embd_norm", "embeddings.LayerNorm", Nothing, true),
    ("blk.{}.attn_q", "encoder.layer.{}.attention.self.query", Nothing, true),
    ("blk.{}.attn_k", "encoder.layer.{}.attention.self.key", Nothing, true),
    ("blk.{}.attn_v", "encoder.layer.{}.attention.self.value", Nothing, true),
    ("blk.{}.attn_output", "encoder.layer.{}.attention.output.dense", Nothing, true),
    ("blk.{}.attn_output_norm", "encoder.layer.{}.attention.output.LayerNorm", Nothing, true),
    ("blk.{}.ffn_up", "encoder.layer.{}.intermediate.dense", Nothing, true),
    ("blk.{}.ffn_down", "encoder.layer.{}.output.dense", Nothing, true),
    ("blk.{}.layer_output_norm", "encoder.layer.{}.output.LayerNorm", Nothing, true),
];

const POSITIONS: &[Row] = &[("position_embd", "embeddings.position_embeddings", Nothing, true)];

const POSITIONS_BEHIND_PADDING: &[Row] =
    &[("position_embd", "embeddings.position_embeddings", FromFirst, true)];

const DISTILBERT: &[Row] = &[
    ("token_embd", "embeddings.word_embeddings", Nothing, true),
    ("token_embd_norm", "embeddings.LayerNorm", Nothing, true),
    ("blk.{}.attn_q", "transformer.layer.{}.attention.q_lin", Nothing, true),
    ("blk.{}.attn_k", "transformer.layer.{}.attention.k_lin", Nothing, true),
    ("blk.{}.attn_v", "transformer.layer.{}.attention.v_lin", Nothing, true),
    ("blk.{}.attn_output", "transformer.layer.{}.attention.out_lin", Nothing, true),
    ("blk.{}.attn_output_norm", "transformer.layer.{}.sa_layer_norm", Nothing, true),
    ("blk.{}.ffn_up", "transformer.layer.{}.ffn.lin1", Nothing, true),
    ("blk.{}.ffn_down", "transformer.layer.{}.ffn.lin2", Nothing, true),
    ("blk.{}.layer_output_norm", "transformer.layer.{}.output_layer_norm", Nothing, true),
];

/// A tensor's two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub gguf: String,
    pub hf: String,
    pub change: Change,
    /// The layer that it is of.
    pub layer: Option<u32>,
}

impl Architecture {
    /// By GGUF's name (`general.architecture`).
    pub fn from_gguf(name: &str) -> Option<Self> {
        Some(match name {
            "llama" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gpt2" => Self::Gpt2,
            "gemma3" => Self::Gemma3,
            _ => return None,
        })
    }

    /// GGUF's name.
    pub fn gguf(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
            Self::Gemma3 => "gemma3",
            Self::Bert | Self::Roberta | Self::DistilBert => "bert",
        }
    }

    fn rows(self) -> impl Iterator<Item = &'static Row> {
        let (rows, more): (&[Row], &[Row]) = match self {
            Self::Llama => (LLAMA, &[]),
            Self::Qwen2 => (QWEN, &[]),
            Self::Qwen3 => (QWEN, QWEN3_NORMS),
            Self::Gemma3 => (GEMMA3, &[]),
            Self::Gpt2 => (GPT2, &[]),
            Self::Bert => (BERT, POSITIONS),
            Self::Roberta => (BERT, POSITIONS_BEHIND_PADDING),
            Self::DistilBert => (DISTILBERT, POSITIONS),
        };
        rows.iter().chain(more)
    }

    /// The names of a tensor by that in a GGUF; none if the architecture has no such tensor.
    pub(crate) fn by_gguf(self, name: &str) -> Option<Names> {
        self.find(name, |row| row.0)
    }

    /// The names of a tensor by Hugging Face's; the prefix of a model with a head may be left out.
    pub(crate) fn by_hf(self, name: &str) -> Option<Names> {
        let by = |name: &str| self.find(name, |row| row.1);
        let of_encoder = |prefix| by(name.strip_prefix(prefix).unwrap_or(name));
        let of_decoder = |prefix| by(name).or_else(|| by(&format!("{prefix}.{name}")));
        match self {
            Self::Bert => of_encoder("bert."),
            Self::Roberta => of_encoder("roberta."),
            Self::DistilBert => of_encoder("distilbert."),
            Self::Gpt2 => of_decoder("transformer"),
            _ => of_decoder("model"),
        }
    }

    fn find(self, name: &str, of: fn(&Row) -> &'static str) -> Option<Names> {
        let (stem, end) = match name.rsplit_once('.')? {
            (stem, "weight") => (stem, "weight"),
            (stem, "bias") => (stem, "bias"),
            _ => return None,
        };
        self.rows().find_map(|row| {
            let layer = layer_of(of(row), stem)?;
            let number = layer.map(|n| n.to_string()).unwrap_or_default();
            let full = |template: &str| format!("{}.{end}", template.replace("{}", &number));
            // What is a vector has no other side to lie on.
            let change = if row.2 == Transpose && end == "bias" { Nothing } else { row.2 };
            Some(Names { gguf: full(row.0), hf: full(row.1), change, layer })
        })
    }

    /// GGUF's names of the weights without which a model of so many layers is not whole.
    pub(crate) fn needed(self, layers: u32) -> impl Iterator<Item = String> {
        self.rows().filter(|row| row.3).flat_map(move |row| {
            let count = if row.0.contains("{}") { layers } else { 1 };
            (0..count).map(|layer| format!("{}.weight", row.0.replace("{}", &layer.to_string())))
        })
    }
}

/// The layer in a name of this form: none if it is of no layer, and nothing if it is of another form.
fn layer_of(template: &str, name: &str) -> Option<Option<u32>> {
    let Some((before, after)) = template.split_once("{}") else {
        return (template == name).then_some(None);
    };
    let number = name.strip_prefix(before)?.strip_suffix(after)?;
    let layer: u32 = number.parse().ok()?;
    (layer.to_string() == number).then_some(Some(layer))
}

/// Where row `row` of a head of `height` rows of Hugging Face lies in GGUF's `llama`: each of the first half is
/// followed by its partner of the second.
pub(crate) fn interleaved(row: usize, height: usize) -> usize {
    let half = height / 2;
    if row < half { 2 * row } else { 2 * (row - half) + 1 }
}

/// Moves rows of `width` values between the two orders; `back` is from GGUF's to Hugging Face's.
pub(crate) fn permute<T: Copy>(
    values: &[T],
    heads: usize,
    width: usize,
    back: bool,
) -> Option<Vec<T>> {
    let height = values.len() / width.max(1) / heads.max(1);
    if height == 0 || !height.is_multiple_of(2) || height * heads * width != values.len() {
        return None;
    }
    let mut moved = values.to_vec();
    for head in 0..heads {
        for row in 0..height {
            let (one, other) = (head * height + row, head * height + interleaved(row, height));
            let (from, to) = if back { (other, one) } else { (one, other) };
            moved[to * width..][..width].copy_from_slice(&values[from * width..][..width]);
        }
    }
    Some(moved)
}

/// A matrix `[rows, columns]` on its other side.
pub(crate) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| values[row * columns + column]));
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_from_both_sides() {
        for (architecture, gguf, hf) in [
            (Architecture::Llama, "token_embd.weight", "model.embed_tokens.weight"),
            (
                Architecture::Llama,
                "blk.12.attn_q.weight",
                "model.layers.12.self_attn.q_proj.weight",
            ),
            (Architecture::Qwen2, "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"),
            (
                Architecture::Qwen3,
                "blk.3.attn_q_norm.weight",
                "model.layers.3.self_attn.q_norm.weight",
            ),
            (Architecture::Gpt2, "blk.7.attn_qkv.bias", "transformer.h.7.attn.c_attn.bias"),
            (Architecture::Gpt2, "blk.7.ffn_down.weight", "transformer.h.7.mlp.c_proj.weight"),
            (
                Architecture::Gemma3,
                "blk.1.ffn_norm.weight",
                "model.layers.1.pre_feedforward_layernorm.weight",
            ),
            (
                Architecture::Gemma3,
                "blk.1.post_attention_norm.weight",
                "model.layers.1.post_attention_layernorm.weight",
            ),
            (
                Architecture::Bert,
                "blk.0.attn_output_norm.bias",
                "encoder.layer.0.attention.output.LayerNorm.bias",
            ),
        ] {
            let names = architecture.by_gguf(gguf).unwrap();
            assert_eq!(names.hf, hf);
            assert_eq!(architecture.by_hf(hf).unwrap(), names);
        }
        assert_eq!(Architecture::Gpt2.by_hf("h.0.ln_1.bias").unwrap().gguf, "blk.0.attn_norm.bias");
        assert_eq!(
            Architecture::Bert.by_hf("embeddings.LayerNorm.bias").unwrap().gguf,
            "token_embd_norm.bias"
        );
        for stray in [
            "blk.01.attn_q.weight",
            "blk.x.attn_q.weight",
            "blk.0.attn_q",
            "blk.0.attn_q_norm.weight",
        ] {
            assert_eq!(Architecture::Llama.by_gguf(stray), None, "{stray}");
        }
    }

    #[test]
    fn every_row_is_found_as_itself() {
        use Architecture::*;
        for architecture in [Llama, Qwen2, Qwen3, Gpt2, Gemma3, Bert] {
            let read = (architecture != Bert).then_some(architecture);
            assert_eq!(Architecture::from_gguf(architecture.gguf()), read);
            for name in architecture.needed(2) {
                let names = architecture.by_gguf(&name).unwrap();
                assert_eq!(architecture.by_hf(&names.hf).unwrap().gguf, name);
            }
        }
    }

    #[test]
    fn rows_of_a_head_are_interleaved_and_back() {
        let rows: Vec<u8> = (0..12).collect();
        // Two heads of six rows.
        let moved = permute(&rows, 2, 1, false).unwrap();
        assert_eq!(moved, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        assert_eq!(permute(&moved, 2, 1, true).unwrap(), rows);
        let wide = permute(&rows, 1, 3, false).unwrap();
        assert_eq!(wide, [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11]);
        assert_eq!(permute(&wide, 1, 3, true).unwrap(), rows);
        assert_eq!(permute(&rows, 4, 1, false), None);
        assert_eq!(permute(&rows, 0, 0, false), None);
    }

    #[test]
    fn a_matrix_is_turned() {
        assert_eq!(
            transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3),
            [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
        );
    }
}
