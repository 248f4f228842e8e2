//! `/tokenize`: texts as tokens.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use distil_gpu_engine::data::text::TextPiece;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answered;
use super::request::{read, texts, yes};
use crate::app::{App, Times};
use crate::refusal::{Kind, Refusal};

#[derive(Debug, Deserialize)]
struct Tokenize {
    inputs: Value,
    model: Option<String>,
    #[serde(default = "yes")]
    add_special_tokens: bool,
}

#[derive(Debug, Serialize)]
struct Token {
    id: i32,
    text: String,
    special: bool,
    /// The first character of its part of the text, and the one behind the last.
    start: Option<usize>,
    stop: Option<usize>,
}

/// `POST /tokenize`
pub async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let mut times = Times::begin();
    let Tokenize { inputs, model, add_special_tokens } = read(&app, request).await?;
    let at = app.model(model.as_deref())?;
    let inputs = texts(inputs, "inputs")?;
    app.check_inputs(inputs.all.len())?;
    app.models[at].encoder()?;
    let method = inputs.method();
    app.metrics.came(method);
    let bytes = inputs.all.iter().map(String::len).sum();
    let tokens = app.rows(bytes, &mut times, move |app| {
        let encoder = app.models[at].encoder()?;
        let one = |text: &String| {
            let pieces = encoder.pieces(text, add_special_tokens);
            let pieces = pieces.map_err(|error| Refusal::new(Kind::Tokens, error.to_string()))?;
            Ok(pieces.into_iter().map(token).collect())
        };
        inputs.all.iter().map(one).collect::<Result<Vec<Vec<Token>>, Refusal>>()
    });
    let tokens = tokens.await?;
    times.tokens = tokens.iter().map(Vec::len).sum();
    answered(&app, method, times, &tokens)
}

fn token(TextPiece { id, text, special, place }: TextPiece) -> Token {
    let [start, stop] = [0, 1].map(|end| place.map(|place| place[end]));
    Token { id, text, special, start, stop }
}
