//! Models whose matrices are saved in bytes: `NAME` is I8 and `NAME.scale` the scale of each of its rows.

use std::collections::HashMap;
use std::path::Path;

use distil_gpu_kernels::DType;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::file_names::bad;
use super::weights::Saved;
use crate::bytes::{self, SCALE};
use crate::error::Error;
use crate::files::write_atomically;
use crate::store::Storage;

/// The key of `config.json` that says how weights are quantised.
const KEY: &str = "quantization_config";
const METHOD: &str = "distil-gpu-int8";

/// Says in a configuration that its weights are in bytes.
pub(super) fn mark(config: &mut Value) {
    config[KEY] =
        json!({ "quant_method": METHOD, "weights": "NAME = NAME (I8) * NAME.scale, row by row" });
}

/// The method by which a configuration's weights are quantised, where it is another than this program's.
pub(super) fn foreign(config: &Value) -> Option<&str> {
    let quantised = config.get(KEY).filter(|config| !config.is_null())?;
    let method = quantised["quant_method"].as_str().unwrap_or("an unnamed method");
    (method != METHOD).then_some(method)
}

/// Writes tensors (name, shape, values), matrices in bytes.
pub(super) fn save(path: &Path, tensors: &[Saved<'_>]) -> Result<(), Error> {
    let mut held: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let floats = |values: &[f32]| bytemuck::cast_slice(values).to_vec();
    for (name, shape, values) in tensors {
        if let (DType::I8, &[rows, columns]) = (Storage::I8.dtype(shape), &shape[..]) {
            let (bytes, scales) = bytes::quantise(values, columns);
            let bytes = bytemuck::cast_slice(&bytes).to_vec();
            held.push(((*name).to_owned(), Dtype::I8, shape.clone(), bytes));
            held.push((format!("{name}{SCALE}"), Dtype::F32, vec![rows], floats(&scales)));
        } else {
            held.push(((*name).to_owned(), Dtype::F32, shape.clone(), floats(values)));
        }
    }
    let views = held.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views: Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
    write_atomically(path, &bytes.map_err(|error| bad(path, error.to_string()))?)
}
