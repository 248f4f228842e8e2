//! How a model is used in each runtime.

use std::fmt::Write;

use distil_gpu_engine::models::{Architecture, Input, Output};

use super::{Card, pipeline};

/// The section of a card.
pub(super) fn usage(of: &Card<'_>) -> String {
    let config = of.export.config;
    let has = |name: &str| of.export.parts.iter().any(|part| part.name == name);
    let mut text = "\n## How it is used\n".to_owned();
    let mut block = |title: &str, language: &str, code: &str| {
        _ = write!(text, "\n{title}\n\n```{language}\n{}\n```\n", code.trim());
    };
    let is_text = matches!(config.input, Input::Tokens(_));
    let is_mlp = matches!(config.architecture, Architecture::Mlp(_));
    let task = pipeline(config);
    let inputs = if is_text { "texts.txt" } else { "inputs.safetensors" };
    if let Output::Classes(_) | Output::Embedding(_) = config.output() {
        let logits = format!("distil-gpu logits . --input {inputs} --out answers.safetensors");
        block("distil-gpu:", "sh", &logits);
    }
    match config.output() {
        Output::Embedding(_) => block("sentence-transformers:", "python", EMBEDDER),
        _ if is_mlp => {}
        _ => {
            let code =
                format!("from transformers import pipeline\n\nmodel = pipeline(\"{task}\", \".\")");
            block("transformers:", "python", &code);
        }
    }
    if has("onnx") {
        let code = match (is_text, config.output()) {
            (false, _) => NUMBERS.to_owned(),
            (true, Output::Span) => texts("\"start_logits\", \"end_logits\""),
            (true, Output::Embedding(_)) => texts("\"sentence_embedding\""),
            (true, _) => texts("\"logits\""),
        };
        block("onnxruntime:", "python", &code);
    }
    if has("onnx") && has("onnx-int8") && is_text {
        let task = if task == "sentence-similarity" { "feature-extraction" } else { task };
        let code = format!(
            "import {{ pipeline, env }} from '@huggingface/transformers';\n\n\
             env.localModelPath = '..'; // where this folder lies\n\
             const model = await pipeline('{task}', '{}', {{ dtype: 'fp32' }}); // or 'q8', in eight bits",
            of.title.replace(['\'', '\\', '\n'], "")
        );
        block("transformers.js:", "js", &code);
    }
    if has("gguf") {
        let code = match config.output() {
            Output::Embedding(_) => "llama-embedding -m model.gguf -p \"one text\"",
            _ => "llama-cli -m model.gguf -p \"Once upon a time\"",
        };
        block("llama.cpp:", "sh", code);
    }
    text
}

const EMBEDDER: &str = "from sentence_transformers import SentenceTransformer

model = SentenceTransformer(\".\")
vectors = model.encode([\"one text\", \"another\"])";

const NUMBERS: &str = "import onnxruntime

session = onnxruntime.InferenceSession(\"onnx/model.onnx\")
# [examples, features] of f32; what they are normalised by is part of the model, `input_values` says in which unit they are
logits = session.run([\"logits\"], {\"input\": examples})
print(session.get_modelmeta().custom_metadata_map)";

fn texts(outputs: &str) -> String {
    format!(
        "import onnxruntime, transformers

tokenizer = transformers.AutoTokenizer.from_pretrained(\".\")
session = onnxruntime.InferenceSession(\"onnx/model.onnx\")  # or model_quantized.onnx, in eight bits
batch = tokenizer([\"one text\", \"another\"], padding=True, return_tensors=\"np\")
wanted = {{value.name for value in session.get_inputs()}}
outputs = session.run([{outputs}], {{name: value for name, value in batch.items() if name in wanted}})"
    )
}
