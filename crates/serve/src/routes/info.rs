//! `/info`, `/health` and `/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use distil_gpu_engine::models::{Input, Pooling};
use serde_json::{Map, Value, json};

use super::json as json_response;
use crate::app::App;
use crate::model::{Does, Model};
use crate::refusal::{Kind, Refusal};

/// `GET /health`: whether requests are answered.
pub async fn health(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    app.check_ready()?;
    Ok(json_response(StatusCode::OK, "{}".to_owned()))
}

/// `GET /metrics`, for Prometheus.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let Ok(text) = app.metrics.text(app.queue.len()) else {
        return Refusal::new(Kind::Backend, "the metrics cannot be written").into_response();
    };
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// `GET /info`: the first model as text-embeddings-inference tells of its one, and all of them.
pub async fn info(State(app): State<Arc<App>>) -> Response {
    let all: Vec<Value> = app.models.iter().map(of_model).collect();
    let mut body = all.first().cloned().unwrap_or_default();
    let options = &app.options;
    let limits = json!({
        "max_concurrent_requests": options.max_requests,
        "max_batch_tokens": options.max_batch_tokens,
        "max_batch_requests": crate::shapes::ROWS.last(),
        "max_queue_tokens": options.max_queue_tokens,
        "max_client_batch_size": options.max_inputs,
        "payload_limit": options.max_body_bytes,
        "auto_truncate": true,
        "version": env!("CARGO_PKG_VERSION"),
        "models": all,
    });
    if let (Value::Object(body), Value::Object(limits)) = (&mut body, limits) {
        body.extend(limits);
    }
    json_response(StatusCode::OK, body.to_string())
}

fn of_model(model: &Model) -> Value {
    let names = &model.config.class_names;
    let labels = || {
        let id2label: Map<String, Value> =
            names.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
        let label2id: Map<String, Value> =
            names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
        json!({ "id2label": id2label, "label2id": label2id })
    };
    let kind = match model.does {
        Does::Embeds => json!({ "embedding": { "pooling": pooling(&model.config.input) } }),
        Does::Scores if names.len() == 1 => json!({ "reranker": labels() }),
        Does::Scores | Does::Numbers(_) => json!({ "classifier": labels() }),
        Does::Words => json!({ "token_classifier": labels() }),
        Does::Answers => json!({ "question_answering": {} }),
    };
    json!({
        "model_id": model.named.name,
        "model_sha": null,
        "model_dtype": "float32",
        "model_type": kind,
        "task": model.task.name(),
        "architecture": model.config.architecture.to_string(),
        "parameters": model.config.parameter_count(),
        "max_input_length": model.max_length(),
    })
}

fn pooling(input: &Input) -> &'static str {
    match input {
        Input::Tokens(tokens) => match tokens.pooling {
            Pooling::First => "cls",
            Pooling::Last => "last_token",
            Pooling::Max => "max",
            Pooling::MeanSqrtLength => "mean_sqrt_len",
            Pooling::WeightedMean => "weighted_mean",
            _ => "mean",
        },
        Input::Numbers { .. } => "none",
    }
}
