//! OpenAI's `/v1/embeddings` and `/v1/models`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::embed::{Shape, vectors};
use super::request::{read, texts};
use super::{answered, json as json_response};
use crate::app::{Answers, App, Times};
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
struct Embeddings {
    input: Value,
    model: Option<String>,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

/// A vector, as numbers or as the bytes of little-endian f32 in base64.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// `POST /v1/embeddings`
pub async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    made(app, request).await.unwrap_or_else(|refusal| refusal.for_openai())
}

async fn made(app: Arc<App>, request: Request) -> Result<Response, Refusal> {
    let times = Times::begin();
    app.check_ready()?;
    let Embeddings { input, model, dimensions, encoding_format } = read(&app, request).await?;
    let base64 = match encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::invalid("`encoding_format` must be `float` or `base64`")),
    };
    let at = app.model(model.as_deref())?;
    let inputs = texts(input, "input")?;
    let method = inputs.method();
    let shape = Shape { truncate: true, normalize: true, dimensions };
    let answers = vectors(&app, at, inputs, shape, "/v1/embeddings", times).await?;
    let Answers { numbers, times } = answers;
    let one = |(index, vector): (usize, Vec<f32>)| {
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        } else {
            Vector::Numbers(vector)
        };
        Embedding { object: "embedding", index, embedding }
    };
    let data: Vec<Embedding> = numbers.into_iter().enumerate().map(one).collect();
    #[derive(Serialize)]
    struct Body<'a> {
        object: &'static str,
        data: Vec<Embedding>,
        model: &'a str,
        usage: Value,
    }
    let body = Body {
        object: "list",
        data,
        model: &app.models[at].named.name,
        usage: json!({ "prompt_tokens": times.tokens, "total_tokens": times.tokens }),
    };
    answered(&app, method, times, &body)
}

/// `GET /v1/models`
pub async fn models(State(app): State<Arc<App>>) -> Response {
    let one =
        |name: &str| json!({ "id": name, "object": "model", "created": 0, "owned_by": "local" });
    let data: Vec<Value> = app.models.iter().map(|model| one(&model.named.name)).collect();
    let body = json!({ "object": "list", "data": data });
    json_response(StatusCode::OK, body.to_string()).into_response()
}
