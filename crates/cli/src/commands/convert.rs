//! `distil-gpu convert`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::models::{self, GgufPrecision};
use serde_json::json;

use crate::{Voice, say, say_json};

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu convert runs/stories/student student.gguf --type q8_0
      For llama.cpp, Ollama, LM Studio
  distil-gpu convert model.gguf my-model
      A folder that transformers loads, its weights in f32")]
pub struct Args {
    /// Folder with config.json and model.safetensors, a GGUF file, or hf:OWNER/NAME for a model of the hub
    model: PathBuf,
    /// What to write: a file that ends in .gguf, or a folder
    out: PathBuf,
    /// How a GGUF's matrices are stored
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = ["f32", "f16", "bf16", "q8_0", "q4_k"])]
    r#type: String,
    /// Replaces what is there
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let (_, config, values) = super::load_model(&args.model, voice)?;
    let out = &args.out;
    if out.exists() && !args.force {
        bail!("{} is there already: give another name, or --force", out.display());
    }
    let is_gguf = out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let written = if is_gguf {
        let precision = match &*args.r#type {
            "f32" => GgufPrecision::F32,
            "bf16" => GgufPrecision::BF16,
            "q8_0" => GgufPrecision::Q8_0,
            "q4_k" => GgufPrecision::Q4_K,
            _ => GgufPrecision::F16,
        };
        models::save_gguf(out, &config, &values, precision).map(|()| args.r#type.as_str())
    } else {
        models::save(out, &config, &values).map(|()| "f32")
    };
    let stored = written.with_context(|| format!("cannot write {}", out.display()))?;
    let parameters = config.parameter_count();
    if voice.json {
        return say_json(&json!({ "out": out, "type": stored, "parameters": parameters }));
    }
    say(format_args!("{} is written, in {stored}", out.display()))
}
