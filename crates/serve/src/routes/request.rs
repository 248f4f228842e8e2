//! The bodies of requests: read within bounds, and what inputs in them may be.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use distil_gpu_engine::data::Text;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::app::App;
use crate::refusal::{Kind, Refusal};

/// What most requests have in common; what else is in them is ignored.
#[derive(Debug, Deserialize)]
pub struct Asked {
    /// The inputs, whose shape the route knows.
    #[serde(default)]
    pub inputs: Value,
    /// Which model is asked.
    pub model: Option<String>,
    /// Whether long texts are cut.
    #[serde(default = "yes")]
    pub truncate: bool,
    /// Where they are cut.
    pub truncation_direction: Option<String>,
}

pub fn yes() -> bool {
    true
}

impl Asked {
    /// Refuses to cut where the model's tokenizer does not.
    ///
    /// # Errors
    /// When another end is asked for than the right one.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.truncation_direction.as_deref() {
            None => Ok(()),
            Some(direction) if direction.eq_ignore_ascii_case("right") => Ok(()),
            Some(_) => Err(Refusal::invalid(
                "`truncation_direction` can be `Right` alone: texts are cut where the model's tokenizer cuts them",
            )),
        }
    }
}

/// Reads a request's body as JSON.
///
/// # Errors
/// When it is not declared as JSON, is too large, comes too slowly, or is no such JSON.
pub async fn read<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Refusal> {
    let bytes = bytes(app, request).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::invalid(format!("the body is no such request: {error}")))
}

async fn bytes(app: &App, request: Request<Body>) -> Result<Vec<u8>, Refusal> {
    if !is_json(request.headers()) {
        return Err(Refusal::new(
            Kind::MediaType,
            "the header `Content-Type: application/json` is needed",
        ));
    }
    let most = app.options.max_body_bytes;
    let body = Limited::new(request.into_body(), most).collect();
    let Ok(read) = timeout(app.options.body_timeout, body).await else {
        let seconds = app.options.body_timeout.as_secs_f64();
        return Err(Refusal::new(
            Kind::Timeout,
            format!("the body did not come within {seconds} s"),
        ));
    };
    match read {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Kind::TooLarge, format!("the body has more than {most} bytes")))
        }
        Err(_) => Err(Refusal::invalid("the body did not come whole")),
    }
}

/// Whether the body is declared to be JSON, as a page of another site cannot do unasked.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    value[..end].trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Inputs, and whether they came as a list.
#[derive(Debug, PartialEq)]
pub struct Inputs<T> {
    pub all: Vec<T>,
    pub batch: bool,
}

impl<T> Inputs<T> {
    fn one(input: T) -> Self {
        Self { all: vec![input], batch: false }
    }

    /// The label of metrics.
    pub fn method(&self) -> &'static str {
        if self.batch { "batch" } else { "single" }
    }
}

/// A text, or a list of texts.
///
/// # Errors
/// When it is something else.
pub fn texts(inputs: Value, name: &str) -> Result<Inputs<String>, Refusal> {
    let problem = || Refusal::invalid(format!("`{name}` must be a text or a list of texts"));
    match inputs {
        Value::String(text) => Ok(Inputs::one(text)),
        Value::Array(all) => {
            let text = |value| match value {
                Value::String(text) => Ok(text),
                _ => Err(problem()),
            };
            let all = all.into_iter().map(text).collect::<Result<_, _>>()?;
            Ok(Inputs { all, batch: true })
        }
        _ => Err(problem()),
    }
}

/// A text or a pair, as a string or a list of one or two; or a list of such lists or texts.
///
/// # Errors
/// When it is something else.
pub fn pairs(inputs: Value) -> Result<Inputs<Text>, Refusal> {
    const SENTENCE: &str = "`inputs` must be a text, a pair [\"…\", \"…\"], or a list of these, in which a single text is \
                            [\"…\"]";
    let problem = || Refusal::invalid(SENTENCE);
    let pair = |all: Vec<Value>| {
        let mut texts = all.into_iter().map(|value| match value {
            Value::String(text) => Ok(text),
            _ => Err(problem()),
        });
        let first = texts.next().unwrap_or_else(|| Err(problem()))?;
        let second = texts.next().transpose()?;
        match texts.next() {
            None => Ok(Text { first, second }),
            Some(_) => Err(problem()),
        }
    };
    match inputs {
        Value::String(text) => Ok(Inputs::one(Text { first: text, second: None })),
        Value::Array(all) if all.iter().all(Value::is_string) && !all.is_empty() => {
            Ok(Inputs::one(pair(all)?))
        }
        Value::Array(all) => {
            let one = |value| match value {
                Value::String(text) => Ok(Text { first: text, second: None }),
                Value::Array(all) => pair(all),
                _ => Err(problem()),
            };
            Ok(Inputs { all: all.into_iter().map(one).collect::<Result<_, _>>()?, batch: true })
        }
        _ => Err(problem()),
    }
}

/// A row of so many numbers, or a list of rows.
///
/// # Errors
/// When it is something else.
pub fn numbers(inputs: Value, len: usize) -> Result<Inputs<Vec<f32>>, Refusal> {
    let problem = || {
        Refusal::invalid(format!("`inputs` must be a row of {len} numbers, or a list of such rows"))
    };
    let row = |all: Vec<Value>| {
        if all.len() != len {
            return Err(problem());
        }
        let number = |value: &Value| {
            let number = value.as_f64().map(|number| number as f32);
            number.filter(|number| number.is_finite()).ok_or_else(problem)
        };
        all.iter().map(number).collect::<Result<Vec<f32>, _>>()
    };
    match inputs {
        Value::Array(all) if all.iter().all(Value::is_array) => {
            let one = |value| match value {
                Value::Array(all) => row(all),
                _ => Err(problem()),
            };
            Ok(Inputs { all: all.into_iter().map(one).collect::<Result<_, _>>()?, batch: true })
        }
        Value::Array(all) => Ok(Inputs::one(row(all)?)),
        _ => Err(problem()),
    }
}

/// Inputs that are read one by one, and may be a list.
///
/// # Errors
/// As `one`.
pub fn each<T>(
    inputs: Value,
    one: impl Fn(Value) -> Result<T, Refusal>,
) -> Result<Inputs<T>, Refusal> {
    match inputs {
        Value::Array(all) => {
            Ok(Inputs { all: all.into_iter().map(one).collect::<Result<_, _>>()?, batch: true })
        }
        value => Ok(Inputs::one(one(value)?)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(first: &str, second: Option<&str>) -> Text {
        Text { first: first.to_owned(), second: second.map(str::to_owned) }
    }

    #[test]
    fn texts_and_pairs_are_told_apart() {
        let one = |text| Inputs { all: vec![text], batch: false };
        assert_eq!(pairs(json!("a")).unwrap(), one(text("a", None)));
        assert_eq!(pairs(json!(["a"])).unwrap(), one(text("a", None)));
        assert_eq!(pairs(json!(["a", "b"])).unwrap(), one(text("a", Some("b"))));
        let all = vec![text("a", None), text("b", Some("c")), text("d", None)];
        let inputs = pairs(json!([["a"], ["b", "c"], "d"])).unwrap();
        assert_eq!(inputs, Inputs { all, batch: true });
        assert_eq!(pairs(json!([])).unwrap().all.len(), 0);
        for wrong in [
            json!(null),
            json!(1),
            json!({}),
            json!(["a", "b", "c"]),
            json!([[]]),
            json!([["a", 1]]),
            json!([1]),
            json!([["a", "b", "c"]]),
            json!([[["a"]]]),
        ] {
            assert!(pairs(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_of_numbers_have_one_length() {
        assert_eq!(numbers(json!([1, 2.5]), 2).unwrap().all, [[1.0, 2.5]]);
        let inputs = numbers(json!([[1, 2], [3, 4]]), 2).unwrap();
        assert_eq!((inputs.all.len(), inputs.batch), (2, true));
        for wrong in [
            json!("a"),
            json!([1]),
            json!([[1, 2], [3]]),
            json!([1, [2]]),
            json!([1, "2"]),
            json!([1e300, 0]),
        ] {
            assert!(numbers(wrong.clone(), 2).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bodies_are_declared_as_json() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        assert!(with("application/json") && with("Application/JSON; charset=utf-8"));
        assert!(!with("text/plain") && !with("application/jsonp") && !is_json(&HeaderMap::new()));
    }
}
