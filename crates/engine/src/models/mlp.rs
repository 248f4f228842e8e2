//! Multi-layer perceptrons.

use serde::{Deserialize, Serialize};

use super::{Answer, Inputs, Model, Outputs};
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{self, Activation};
use crate::store::ParameterSpec;

/// Linear layers with an activation and dropout between them. Parameters `layers.<i>.weight` [out, in] and
/// `layers.<i>.bias` [out].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mlp {
    /// Elements of one example.
    pub input_size: usize,
    /// Units of each hidden layer; may be empty.
    pub hidden_sizes: Vec<usize>,
    /// Number of classes.
    pub num_classes: usize,
    /// Between the layers.
    pub activation: Activation,
    /// Probability of dropping a hidden unit in training.
    pub dropout: f32,
    /// Probability of dropping an input in training.
    pub input_dropout: f32,
}

impl Mlp {
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.input_size];
        widths.extend(&self.hidden_sizes);
        widths.push(self.num_classes);
        widths
    }
}

impl Model for Mlp {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let widths = self.widths();
        let layer =
            |(i, pair): (usize, &[usize])| nn::linear_parameters(&name(i), pair[0], pair[1]);
        widths.windows(2).enumerate().flat_map(layer).collect()
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        let Inputs::Numbers(features) = *inputs else {
            let needed = "a model of numbers reads features".to_owned();
            return Err(Error::Shape { op: "mlp", found: format!("{inputs:?}"), needed });
        };
        let rate = |rate| if training { rate } else { 0.0 };
        let mut x = nn::dropout(graph, features, rate(self.input_dropout), 0)?;
        let hidden = self.hidden_sizes.len();
        for layer in 0..hidden {
            x = nn::linear(graph, store, &name(layer), x)?;
            x = nn::activate(graph, self.activation, x, rate(self.dropout), 1 + layer as u32)?;
        }
        let logits = nn::linear(graph, store, &name(hidden), x)?;
        Ok(Outputs { answer: Answer::Logits(logits), states: Vec::new(), attention: Vec::new() })
    }
}

/// Name of a layer, without `.weight` and `.bias`.
fn name(layer: usize) -> String {
    format!("layers.{layer}")
}
