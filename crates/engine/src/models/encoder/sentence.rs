//! How sentence-transformers makes a vector of a text: the modules behind the transformer.

use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::models::Pooling;
use crate::nn::{self, Activation};
use crate::store::{Init, ParameterSpec};

/// What becomes of a text's last hidden states.
#[derive(Clone, Debug, PartialEq)]
pub struct SentenceModules {
    /// What stands for the whole text.
    pub pooling: Pooling,
    /// What its vector goes through, in order.
    pub steps: Vec<SentenceStep>,
    /// `config_sentence_transformers.json`, which changes no vector.
    pub settings: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A module behind the pooling.
#[derive(Clone, Debug, PartialEq)]
pub enum SentenceStep {
    /// A linear layer with an activation.
    Dense(Dense),
    /// Division by the vector's length.
    Normalise,
}

/// A linear layer with an activation, or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    /// Numbers of the vector that it takes.
    pub inputs: usize,
    /// Numbers of the vector that it gives.
    pub outputs: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// The activation.
    pub activation: Option<Activation>,
}

/// The mean, of length 1: what MiniLM does, and what a folder without `modules.json` is taken to mean.
impl Default for SentenceModules {
    fn default() -> Self {
        Self { pooling: Pooling::Mean, steps: vec![SentenceStep::Normalise], settings: None }
    }
}

/// Modules in front of the first step: the transformer and the pooling.
pub(in crate::models) const FIRST_STEP: usize = 2;

/// The folder of step number `step` that is a linear layer, which its parameters' names begin with.
pub(in crate::models) fn dense_folder(step: usize) -> String {
    format!("{}_Dense", step + FIRST_STEP)
}

impl SentenceModules {
    /// Numbers of a vector that is made of hidden states of this width.
    pub fn width(&self, hidden_size: usize) -> usize {
        let outputs = self.steps.iter().rev().find_map(|step| match step {
            SentenceStep::Dense(dense) => Some(dense.outputs),
            SentenceStep::Normalise => None,
        });
        outputs.unwrap_or(hidden_size)
    }

    /// Whether all vectors have length 1.
    pub fn are_unit(&self) -> bool {
        matches!(self.steps.last(), Some(SentenceStep::Normalise))
    }

    /// The same behind hidden states of another width, for a model that is trained: nothing can be trained through a
    /// maximum, so that the mean takes its place.
    pub(in crate::models) fn for_student(&self, hidden_size: usize) -> Self {
        let mut modules = self.clone();
        if modules.pooling == Pooling::Max {
            modules.pooling = Pooling::Mean;
        }
        let first = modules.steps.iter_mut().find_map(|step| match step {
            SentenceStep::Dense(dense) => Some(dense),
            SentenceStep::Normalise => None,
        });
        if let Some(dense) = first {
            dense.inputs = hidden_size;
        }
        modules
    }

    /// The parameters of its linear layers, their names behind the layer's folder.
    pub(super) fn parameters(&self) -> Vec<ParameterSpec> {
        let mut specs = Vec::new();
        for (step, module) in self.steps.iter().enumerate() {
            let SentenceStep::Dense(Dense { inputs, outputs, bias, .. }) = *module else {
                continue;
            };
            // As PyTorch starts them.
            let init = Init::Uniform(1.0 / (inputs as f32).sqrt());
            let folder = dense_folder(step);
            specs.push(ParameterSpec {
                name: format!("{folder}/linear.weight"),
                shape: vec![outputs, inputs],
                decay: true,
                init,
            });
            if bias {
                let name = format!("{folder}/linear.bias");
                specs.push(ParameterSpec { name, shape: vec![outputs], decay: false, init });
            }
        }
        specs
    }

    /// The vectors [rows, numbers] behind the pooling taken through its steps.
    pub(super) fn apply(
        &self,
        graph: &mut Graph,
        store: usize,
        pooled: TensorId,
    ) -> Result<TensorId, Error> {
        let mut x = pooled;
        for (step, module) in self.steps.iter().enumerate() {
            x = match module {
                SentenceStep::Normalise => nn::unit_rows(graph, x)?,
                SentenceStep::Dense(dense) => {
                    let name = format!("{}/linear", dense_folder(step));
                    let weight = graph.named(store, &format!("{name}.weight"));
                    let mut product = graph.matmul(x, weight, false, true)?;
                    if dense.bias {
                        let bias = graph.named(store, &format!("{name}.bias"));
                        product = graph.plus(product, bias)?;
                    }
                    match dense.activation {
                        Some(activation) => nn::activate(graph, activation, product, 0.0, 0)?,
                        None => product,
                    }
                }
            };
        }
        Ok(x)
    }
}
