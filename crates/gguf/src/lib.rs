//! GGUF files as Hugging Face models: their `config.json`, their tokenizer's files and their tensors by Hugging Face's
//! names and layouts; and Hugging Face models written as GGUF files that llama.cpp runs.
//!
//! ```no_run
//! let model = distil_gpu_gguf::Model::open("model.gguf".as_ref())?;
//! println!("{:#}", model.config());
//! for (name, contents) in model.tokenizer_files()? {
//!     println!("{name}: {} bytes", contents.len());
//! }
//! let embedding = model.read_f32("model.embed_tokens.weight")?;
//! # Ok::<(), distil_gpu_gguf::Error>(())
//! ```
//!
//! Llama (and Mistral, SmolLM2 and TinyLlama, which are built alike), Qwen 2 and 3 and GPT-2 are read and written; the
//! text part of Gemma 3 is read; BERT, DistilBERT and RoBERTa (and XLM-RoBERTa and CamemBERT, which are built alike) are
//! written, as models of vectors. Where a file says nothing, what llama.cpp does is meant: without `rope.freq_base`,
//! rotary positions have the base 10,000; without `tokenizer.ggml.pre`, texts are cut as `default` cuts them, which is
//! no original tokenizer's way. What is not understood is refused by its name, in reading and in writing.

mod blocks;
mod config;
mod container;
mod error;
mod export;
mod model;
mod names;
mod rope;
mod tokenizer;
mod value;
mod write;

pub use blocks::{Precision, TensorType, dequantise, quantise};
pub use config::Pooling;
pub use container::{Gguf, TensorInfo};
pub use error::Error;
pub use export::{Options, ReadValues, Tensor, check_model, write_model};
pub use model::{Entry, Model, Raw};
pub use names::Architecture;
pub use value::{Array, Value};
pub use write::{Outline, Writer};
