//! Values of `config.json`.

use serde_json::Value;

use crate::nn::Activation;

const ACTIVATIONS: [(&str, Activation); 5] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("tanh", Activation::Tanh),
];

/// The activation of this name.
///
/// # Errors
/// A sentence that lists those there are.
pub fn activation(key: &str, name: &str) -> Result<Activation, String> {
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    known.map(|(_, activation)| *activation).ok_or_else(|| {
        let names = ACTIVATIONS.map(|(name, _)| name).join(", ");
        format!("{key} `{name}` is none of {names}")
    })
}

/// The name of an activation.
pub fn activation_name(activation: Activation) -> &'static str {
    let known = ACTIVATIONS.iter().find(|(_, known)| *known == activation);
    known.map_or("gelu", |(name, _)| name)
}

/// A number as a person would write it: 0.1, not the f32 nearest to it in all its digits.
pub fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
