//! A GGUF made into a Hugging Face folder, or the other way round.
//!
//!     cargo run --release -p distil-gpu-gguf --example convert -- folder model.gguf FOLDER
//!     cargo run --release -p distil-gpu-gguf --example convert -- gguf FOLDER model.gguf q8_0

use std::error::Error;
use std::fs;
use std::path::Path;

use distil_gpu_gguf::{Model, Options, Precision, Tensor, write_model};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TOKENIZER: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["folder", from, to] => to_folder(from.as_ref(), to.as_ref()),
        ["gguf", from, to, precision] => to_gguf(from.as_ref(), to.as_ref(), precision),
        _ => Err("folder MODEL.gguf FOLDER, or gguf FOLDER MODEL.gguf f32|f16|bf16|q8_0".into()),
    }
}

fn to_folder(from: &Path, to: &Path) -> Outcome<()> {
    let model = Model::open(from)?;
    fs::create_dir_all(to)?;
    fs::write(to.join("config.json"), format!("{:#}\n", model.config()))?;
    for (name, contents) in model.tokenizer_files()? {
        fs::write(to.join(name), contents)?;
    }
    let mut tensors = Vec::new();
    for entry in model.tensors() {
        let bytes: Vec<u8> =
            model.read_f32(&entry.name)?.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((entry.name, entry.shape, bytes));
    }
    let mut views = Vec::new();
    for (name, shape, bytes) in &tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    let format = [("format".to_owned(), "pt".to_owned())].into();
    Ok(serialize_to_file(views, Some(format), &to.join("model.safetensors"))?)
}

fn to_gguf(from: &Path, to: &Path, precision: &str) -> Outcome<()> {
    let precision = match precision {
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        "bf16" => Precision::BF16,
        "q8_0" => Precision::Q8_0,
        "q4_k" => Precision::Q4_K,
        other => return Err(format!("{other}; f32, f16, bf16 and q8_0 are written").into()),
    };
    let config = serde_json::from_slice(&fs::read(from.join("config.json"))?)?;
    let there = TOKENIZER.iter().filter(|name| from.join(name).is_file());
    let files = there
        .map(|name| Ok(((*name).to_owned(), fs::read(from.join(name))?)))
        .collect::<Outcome<Vec<_>>>()?;
    let weights = fs::read(from.join("model.safetensors"))?;
    let weights = SafeTensors::deserialize(&weights)?;
    let tensors = weights.iter().map(|(name, view)| {
        let (shape, name) = (view.shape().to_vec(), name.to_owned());
        Tensor { name, shape, read: Box::new(move || floats(&view)) }
    });
    Ok(write_model(
        to,
        &config,
        &files,
        tensors,
        Options { precision, name: None, pre: None, pooling: None },
    )?)
}

fn floats(view: &TensorView<'_>) -> Outcome<Vec<f32>> {
    let bytes = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        Dtype::BF16 => bytes
            .chunks_exact(2)
            .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        other => return Err(format!("weights of {other:?}").into()),
    })
}
