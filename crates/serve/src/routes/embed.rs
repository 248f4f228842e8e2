//! `/embed`: vectors of texts.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use distil_gpu_engine::data::Text;
use serde::Deserialize;

use super::answered;
use super::request::{Asked, Inputs, read, texts, yes};
use crate::app::{Answers, App, Times};
use crate::model::{Does, Model};
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
struct Embed {
    #[serde(flatten)]
    asked: Asked,
    /// Whether vectors are given length 1, where the model does not do that itself.
    #[serde(default = "yes")]
    normalize: bool,
    /// Numbers of a vector that are kept.
    dimensions: Option<usize>,
    /// Not known here.
    prompt_name: Option<String>,
}

/// `POST /embed`
pub async fn embed(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let times = Times::begin();
    app.check_ready()?;
    let Embed { asked, normalize, dimensions, prompt_name } = read(&app, request).await?;
    asked.check()?;
    if prompt_name.is_some() {
        return Err(Refusal::invalid(
            "the server knows no prompts: write the prompt before the text",
        ));
    }
    let at = app.model(asked.model.as_deref())?;
    let inputs = texts(asked.inputs, "inputs")?;
    let method = inputs.method();
    let shape = Shape { truncate: asked.truncate, normalize, dimensions };
    let Answers { numbers, times } = vectors(&app, at, inputs, shape, "/embed", times).await?;
    answered(&app, method, times, &numbers)
}

/// How vectors are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub truncate: bool,
    pub normalize: bool,
    pub dimensions: Option<usize>,
}

impl Shape {
    /// Refuses what the model's vectors cannot become.
    fn check(self, model: &Model) -> Result<(), Refusal> {
        let width = model.config.answer_len();
        match self.dimensions {
            Some(wanted) if wanted == 0 || wanted > width => Err(Refusal::invalid(format!(
                "`dimensions` is {wanted}, and the model's vectors have {width} numbers"
            ))),
            _ => Ok(()),
        }
    }

    /// Cuts a vector, and gives it length 1 where it has not: the model's own bits stay where nothing is to be done.
    fn apply(self, model: &Model, vector: &mut Vec<f32>) {
        let width = vector.len();
        vector.truncate(self.dimensions.unwrap_or(width));
        if self.normalize && (vector.len() < width || !model.normalises()) {
            let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let norm = squares.sqrt();
            if norm > 0.0 {
                vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
    }
}

/// The vectors of these texts.
///
/// # Errors
/// When the model makes none, the texts cannot be read, or there is no answer.
pub async fn vectors(
    app: &Arc<App>,
    at: usize,
    inputs: Inputs<String>,
    shape: Shape,
    route: &str,
    mut times: Times,
) -> Result<Answers, Refusal> {
    let model = &app.models[at];
    model.expect(&[Does::Embeds], route)?;
    shape.check(model)?;
    app.check_inputs(inputs.all.len())?;
    app.metrics.came(inputs.method());
    let bytes = inputs.all.iter().map(String::len).sum();
    let rows = app.rows(bytes, &mut times, move |app| {
        let model = &app.models[at];
        let row = |first| model.text(&Text { first, second: None }, shape.truncate);
        inputs.all.into_iter().map(row).collect()
    });
    let rows = rows.await?;
    let mut answers = app.answer(at, rows, times).await?;
    answers.numbers.iter_mut().for_each(|vector| shape.apply(model, vector));
    Ok(answers)
}
