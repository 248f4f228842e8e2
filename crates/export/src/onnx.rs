//! A model as ONNX.
//!
//! Inputs and outputs have the names that optimum gives them, so that onnxruntime's users and transformers.js find what
//! they look for: `input_ids`, `attention_mask`, `token_type_ids` (integers of 64 bits [batch_size, sequence_length]) of
//! texts, `input` [batch_size, features] of numbers; `logits`, or `start_logits` and `end_logits`, or `last_hidden_state`
//! and `sentence_embedding`.

mod texts;

use distil_gpu_engine::data::Normalisation;
use distil_gpu_engine::graph::export::{Bound, Exporter, Marks, Promised};
use distil_gpu_engine::graph::{Graph, TensorId};
use distil_gpu_engine::layout::Layout;
use distil_gpu_engine::models::{Answer, BatchShape, Input, Inputs, ModelConfig, Outputs};
use distil_gpu_engine::task::TaskRef;
use distil_gpu_onnx::{Builder, Dim, ElementType, Model};
use serde_json::json;

use crate::error::Error;

/// Name of the open number of examples.
const BATCH: &str = "batch_size";
/// Name of the open number of tokens.
const LENGTH: &str = "sequence_length";
/// Name of a file's input of numbers.
const INPUT: &str = "input";

/// An output: its name, the tensor, and its extents.
struct Made {
    name: &'static str,
    tensor: TensorId,
    dims: Vec<Dim>,
}

/// A model [`distil_gpu_engine::models::load`] gives, as an ONNX model with its values in f32.
///
/// # Errors
/// [`Error::Engine`] with an op that has no form in ONNX, and [`Error::Unfit`] for a language model of next tokens.
pub fn onnx(config: &ModelConfig, values: &[Vec<f32>]) -> Result<Model, Error> {
    let (mut model, promised) = draft(config, 0)?;
    // What is of the batch that the graph was built for is not in another batch's file.
    if draft(config, 1)?.0 != model {
        return Err(Error::Unfit(format!(
            "{} has no ONNX file for any number and length of examples: its graph depends on them",
            config.model().summary()
        )));
    }
    let specs = config.model().parameters();
    for Promised { name, parameter, transposed } in promised {
        let known = values.get(parameter).zip(specs.get(parameter));
        let filled = known.is_some_and(|(values, spec)| match (transposed, &spec.shape[..]) {
            (true, &[rows, columns]) => model.fill(&name, &turned(values, rows, columns)),
            _ => model.fill(&name, values),
        });
        // A tensor that no output needs is left out, and its values with it.
        if !filled && model.graph().initializer.iter().any(|tensor| tensor.name == name) {
            return Err(Error::Unfit(format!("{name} has not the values that its shape asks for")));
        }
    }
    facts(config, &mut model);
    Ok(model)
}

/// A matrix [rows, columns] as [columns, rows].
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let column = |at: usize| (0..rows).map(move |row| values[row * columns + at]);
    (0..columns).flat_map(column).collect()
}

/// What a runtime's user should know of a model.
fn facts(config: &ModelConfig, model: &mut Model) {
    model.fact("task", TaskRef::of_model(config).name());
    if !config.class_names.is_empty() {
        model.fact("labels", json!(config.class_names).to_string());
        model.fact("problem_type", config.problem.name());
    }
    match &config.input {
        Input::Tokens(tokens) => model.fact("max_length", tokens.max_length.to_string()),
        Input::Numbers { shape, .. } => {
            model.fact("input_shape", json!(shape).to_string());
            let pictures = shape.len() == 3;
            let scale = "values as they are in the data; pixels divided by 255, channels first";
            model.fact("input_values", if pictures { scale } else { "as they are in the data" });
        }
    }
}

/// The file of a model without its values, from a graph for the `which`-th number and length of examples.
fn draft(config: &ModelConfig, which: usize) -> Result<(Model, Vec<Promised>), Error> {
    let specs = config.model().parameters();
    let mut extents: Vec<usize> = specs.iter().flat_map(|spec| spec.shape.clone()).collect();
    extents.extend(config.model().layers().map(|layers| layers.heads));
    let positions = texts::positions(config);
    let marks = Marks::new(&extents, positions, which);
    let mut graph = Graph::new(vec![Layout::new(specs)?]);
    let Marks { rows, length } = marks;
    // A head that works on some tokens works on all.
    let shape = BatchShape { rows, length, guessed: rows * length };
    let inputs = config.input.of_graph(&mut graph, "", shape);
    let outputs = config.model().forward(&mut graph, 0, &inputs, false)?;
    let made = outputs_of(config, &mut graph, &outputs, marks)?;
    let (to, sizes, bound) = match (&config.input, &inputs) {
        (Input::Tokens(tokens), Inputs::Tokens(tensors)) => texts::bound(tokens, tensors),
        (Input::Numbers { shape, normalisation, .. }, Inputs::Numbers(features)) => {
            numbers(*features, shape, normalisation)
        }
        _ => return Err(Error::Unfit("the model does not read what it says".to_owned())),
    };
    let mut exporter = Exporter::new(&graph, marks, positions, to, sizes);
    bound.into_iter().for_each(|(id, bound)| exporter.bind(id, bound));
    let tensors: Vec<TensorId> = made.iter().map(|made| made.tensor).collect();
    let names = exporter.run(&tensors)?;
    let (mut to, promised) = exporter.finish();
    for (name, Made { name: known_as, dims, .. }) in names.iter().zip(&made) {
        to.output(name, known_as, ElementType::F32, dims);
    }
    Ok((to.finish(), promised))
}

/// The file of a model of numbers, as far as it goes before the model: normalisation included.
fn numbers(
    features: TensorId,
    shape: &[usize],
    normalisation: &Normalisation,
) -> (Builder, [String; 2], Vec<(TensorId, Bound)>) {
    let mut to = Builder::new("model");
    let len: usize = shape.iter().product();
    to.input(INPUT, ElementType::F32, &[Dim::named(BATCH), Dim::Fixed(len)]);
    let extents = to.node("Shape", &[INPUT], &[]);
    let first = to.integers("first", &[1], &[0]);
    let rows = to.node("Gather", &[&extents, &first], &[]);
    let length = to.integers("length", &[1], &[1]);
    // One number for all, or one for each element of the first axis.
    let each = len / shape.first().copied().unwrap_or(1).max(1);
    let spread = |list: &[f32], value: fn(f32) -> f32| -> Vec<f32> {
        match list {
            [one] => vec![value(*one)],
            _ => list.iter().flat_map(|&one| vec![value(one); each]).collect(),
        }
    };
    let mean = spread(&normalisation.mean, |mean| mean);
    let std = spread(&normalisation.std, |std| if std == 0.0 { 1.0 } else { std });
    let mut x = INPUT.to_owned();
    if mean.iter().any(|mean| *mean != 0.0) {
        let mean = to.floats("normalisation.mean", &[mean.len()], &mean);
        x = to.node("Sub", &[&x, &mean], &[]);
    }
    if std.iter().any(|std| *std != 1.0) {
        let std = to.floats("normalisation.std", &[std.len()], &std);
        x = to.node("Div", &[&x, &std], &[]);
    }
    (to, [rows, length], vec![(features, Bound::Value(x))])
}

/// What comes out of a file.
fn outputs_of(
    config: &ModelConfig,
    graph: &mut Graph,
    outputs: &Outputs,
    marks: Marks,
) -> Result<Vec<Made>, Error> {
    let (rows, length) = (marks.rows, marks.length);
    let (batch, tokens) = (Dim::named(BATCH), Dim::named(LENGTH));
    let numbers = |graph: &Graph, id: TensorId| graph.shape(id).last().copied().unwrap_or(1);
    let of_tokens = |graph: &mut Graph, id: TensorId, name| -> Result<Made, Error> {
        let last = numbers(graph, id);
        let tensor = graph.reshape(id, &[rows, length, last])?;
        let dims = vec![batch.clone(), tokens.clone(), Dim::Fixed(last)];
        Ok(Made { name, tensor, dims })
    };
    Ok(match outputs.answer {
        Answer::Logits(logits) if graph.shape(logits)[0] == rows => {
            let dims = vec![batch, Dim::Fixed(numbers(graph, logits))];
            vec![Made { name: "logits", tensor: logits, dims }]
        }
        Answer::Logits(logits) => vec![of_tokens(graph, logits, "logits")?],
        Answer::Vocabulary(decoder) => {
            let product = graph.matmul(decoder.hidden, decoder.weight, false, true)?;
            let logits = graph.plus(product, decoder.bias)?;
            vec![of_tokens(graph, logits, "logits")?]
        }
        Answer::Span(logits) => {
            // Start and end lie side by side as blocks of columns once a text's two rows are one.
            let both = graph.reshape(logits, &[rows, 2 * length])?;
            let parts = graph.split_last(both, 2)?;
            let made =
                |(name, tensor)| Made { name, tensor, dims: vec![batch.clone(), tokens.clone()] };
            ["start_logits", "end_logits"].into_iter().zip(parts).map(made).collect()
        }
        Answer::Embedding(vectors) => {
            let Some(&last) = outputs.states.last() else {
                return Err(Error::Unfit("the model has no hidden states".to_owned()));
            };
            let dims = vec![batch.clone(), Dim::Fixed(config.answer_len())];
            let states = of_tokens(graph, last, "last_hidden_state")?;
            vec![states, Made { name: "sentence_embedding", tensor: vectors, dims }]
        }
        _ => return Err(Error::Unfit("the model's answer has no form in ONNX".to_owned())),
    })
}
