//! `/rerank`: texts by how well they go with a query, by a model with one output.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use distil_gpu_engine::data::Text;
use serde::{Deserialize, Serialize};

use super::answered;
use super::request::{read, yes};
use crate::app::{Answers, App, Times};
use crate::model::Does;
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
struct Rerank {
    query: String,
    texts: Vec<String>,
    model: Option<String>,
    /// The model's number instead of its sigmoid.
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
    #[serde(default = "yes")]
    truncate: bool,
}

#[derive(Debug, Serialize)]
struct Ranked<'a> {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// `POST /rerank`
pub async fn rerank(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let mut times = Times::begin();
    app.check_ready()?;
    let asked: Rerank = read(&app, request).await?;
    let Rerank { query, texts, model, raw_scores, return_text, truncate } = asked;
    let at = app.model(model.as_deref())?;
    app.models[at].expect(&[Does::Scores], "/rerank")?;
    let outputs = app.models[at].config.answer_len();
    if outputs != 1 {
        return Err(Refusal::invalid(format!(
            "/rerank needs a model with one output for a pair of texts, and this one has {outputs}: ask /predict"
        )));
    }
    app.check_inputs(texts.len())?;
    app.metrics.came("batch");
    let bytes = texts.iter().map(|text| text.len() + query.len()).sum();
    let texts = Arc::new(texts);
    let to_read = texts.clone();
    let rows = app.rows(bytes, &mut times, move |app| {
        let model = &app.models[at];
        let row = |text: &String| {
            let pair = Text { first: query.clone(), second: Some(text.clone()) };
            model.text(&pair, truncate)
        };
        to_read.iter().map(row).collect()
    });
    let rows = rows.await?;
    let Answers { numbers, times } = app.answer(at, rows, times).await?;
    let one = |(index, row): (usize, &Vec<f32>)| {
        let raw = row.first().copied().unwrap_or(0.0);
        let score = if raw_scores { raw } else { 1.0 / (1.0 + (-raw).exp()) };
        Ranked { index, score, text: return_text.then(|| &*texts[index]) }
    };
    let mut ranked: Vec<Ranked<'_>> = numbers.iter().enumerate().map(one).collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    answered(&app, "batch", times, &ranked)
}
