//! What a request is told that is not answered.

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request is not answered: a status, and text-embeddings-inference's `error_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is no such request, or the model does not do that.
    Invalid,
    /// The text cannot become tokens, or too many.
    Tokens,
    /// More inputs, bytes or tokens than are taken at once.
    TooLarge,
    /// The body is not declared to be JSON.
    MediaType,
    /// There is no such model.
    NoModel,
    /// The key is missing or wrong.
    Key,
    /// The request came by a name that is not this machine's.
    Host,
    /// Too much is waiting.
    Overloaded,
    /// The body or the answer took too long.
    Timeout,
    /// The models are not loaded, or the device is being opened again.
    Unready,
    /// The device or the program failed.
    Backend,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::Invalid | Self::Tokens => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoModel => StatusCode::NOT_FOUND,
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unready => StatusCode::SERVICE_UNAVAILABLE,
            Self::Backend => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// `error_type`, and the label `err` of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid | Self::TooLarge | Self::MediaType | Self::NoModel => "Validation",
            Self::Tokens => "Tokenizer",
            Self::Key | Self::Host => "Unauthorized",
            Self::Overloaded => "Overloaded",
            Self::Timeout => "Timeout",
            Self::Unready => "Unhealthy",
            Self::Backend => "Backend",
        }
    }
}

/// A request that is not answered, and why, in a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub kind: Kind,
    pub sentence: String,
    /// Seconds after which it may be tried again.
    pub retry_after: Option<u64>,
}

impl Refusal {
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into(), retry_after: None }
    }

    /// The body is no such request.
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, sentence)
    }

    /// Too much is waiting; seconds after which it may be less.
    pub fn overloaded(sentence: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(Kind::Overloaded, sentence) }
    }

    /// As OpenAI's clients read it.
    pub fn for_openai(&self) -> Response {
        let status = self.kind.status();
        let body = json!({
            "error": {
                "message": self.sentence,
                "type": if status.is_server_error() { "server_error" } else { "invalid_request_error" },
                "code": status.as_u16(),
            }
        });
        self.response(&body.to_string())
    }

    fn response(&self, body: &str) -> Response {
        let mut response = super::routes::json(self.kind.status(), body.to_owned());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Key {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.kind);
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.sentence, "error_type": self.kind.name() });
        self.response(&body.to_string())
    }
}
