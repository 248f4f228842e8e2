//! The routes.

mod embed;
mod info;
mod openai;
mod page;
mod predict;
mod request;
mod rerank;
mod tokenize;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};

use crate::app::{App, Times};
use crate::guard::guard;
use crate::refusal::{Kind, Refusal};

/// All routes, and what each request passes first.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/predict", post(predict::predict))
        .route("/embed", post(embed::embed))
        .route("/rerank", post(rerank::rerank))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/info", get(info::info))
        .route("/health", get(info::health))
        .route("/ping", get(info::health))
        .route("/metrics", get(info::metrics))
        .route("/openapi.json", get(page::openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn no_route() -> Response {
    let body =
        r#"{"error":"there is no such route; /openapi.json lists them","error_type":"Validation"}"#;
    json(StatusCode::NOT_FOUND, body.to_owned())
}

async fn no_method() -> Response {
    let body = r#"{"error":"this route takes another method; /openapi.json lists them","error_type":"Validation"}"#;
    json(StatusCode::METHOD_NOT_ALLOWED, body.to_owned())
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a request of this `method`, `single` or `batch`, with headers that say where its time went, in
/// milliseconds.
fn answered(
    app: &App,
    method: &'static str,
    times: Times,
    body: &impl serde::Serialize,
) -> Result<Response, Refusal> {
    let body = serde_json::to_string(body)
        .map_err(|error| Refusal::new(Kind::Backend, format!("the answer is no JSON: {error}")))?;
    let total = times.begun.elapsed();
    app.metrics.answered(method, total);
    let mut response = json(StatusCode::OK, body);
    let headers = response.headers_mut();
    for (name, time) in [
        ("x-total-time", total),
        ("x-tokenization-time", times.tokenization),
        ("x-queue-time", times.queue),
        ("x-inference-time", times.inference),
    ] {
        if let Ok(value) = HeaderValue::from_str(&format!("{:.3}", 1e3 * time.as_secs_f64())) {
            headers.insert(name, value);
        }
    }
    headers.insert("x-compute-tokens", HeaderValue::from(times.tokens));
    Ok(response)
}
