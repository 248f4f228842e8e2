//! Every route, and what each says to what it cannot do.

use std::sync::OnceLock;

use distil_gpu_engine::models::{Head, ProblemType};
use serde_json::{Value, json};

use super::client::{ask, get, metric, post, request};
use super::home::{Home, Served, by_label, options};

/// One server of a model of each kind, for all tests of this file.
fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        let home = Home::new();
        let models = vec![
            home.classifier(),
            home.encoder("labels", Head::Classes(3), |config| {
                config.problem = ProblemType::MultiLabel;
            }),
            home.encoder("value", Head::Classes(1), |_| ()),
            home.encoder("words", Head::Tokens(3), |_| ()),
            home.encoder("answers", Head::Span, |_| ()),
            home.encoder("vectors", Head::Embedding, |_| ()),
            home.perceptron(),
        ];
        Served::new(options(models))
    })
}

fn ok(path: &str, body: &Value) -> Value {
    let answer = post(served().address, path, body);
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer.json()
}

/// What is refused, with which status and why.
fn refused(path: &str, body: &Value, status: u16, why: &str) {
    let answer = post(served().address, path, body);
    let json = answer.json();
    let error = json["error"].as_str().or(json["error"]["message"].as_str()).unwrap();
    assert_eq!(answer.status, status, "{path} {body}: {error}");
    assert!(error.contains(why), "{path} {body}: {error}");
}

#[test]
fn scores_of_classes_labels_and_values() {
    let one = ok("/predict", &json!({ "inputs": "good film" }));
    let scores: Vec<f64> =
        one.as_array().unwrap().iter().map(|one| one["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b), "{one}");
    assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{one}");
    let batch =
        ok("/predict", &json!({ "inputs": [["good film"], ["bad", "a film"], "good film"] }));
    assert_eq!(batch.as_array().unwrap().len(), 3);
    assert_eq!((&batch[0], &batch[2]), (&one, &one));
    assert_ne!(batch[1], one);
    let pair = ok("/predict", &json!({ "inputs": ["bad", "a film"] }));
    assert_eq!(pair, batch[1]);
    let raw = by_label(&ok("/predict", &json!({ "inputs": "good film", "raw_scores": true })));
    let by_name = by_label(&one);
    let most = raw.values().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = raw.values().map(|z| (z - most).exp()).sum();
    for (label, z) in &raw {
        assert!(((z - most).exp() / sum - by_name[label]).abs() < 1e-6, "{label}");
    }
    let labels = ok("/predict", &json!({ "inputs": "good film", "model": "labels" }));
    for (label, score) in by_label(&labels) {
        assert!((0.0..1.0).contains(&score), "{label} {score}");
    }
    let value = ok("/predict", &json!({ "inputs": "good film", "model": "value" }));
    let raw =
        ok("/predict", &json!({ "inputs": "good film", "model": "value", "raw_scores": true }));
    assert_eq!(value, raw, "a value is what it is");
    let numbers = ok("/predict", &json!({ "inputs": [0.5, -1], "model": "perceptron" }));
    assert_eq!(by_label(&numbers).len(), 3);
}

#[test]
fn classes_of_words_and_answers_to_questions() {
    let all = ok("/predict", &json!({ "inputs": "good films, bad!", "model": "words" }));
    let words: Vec<(&str, u64, u64)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert!(one["entity"].as_str().unwrap().starts_with("class "), "{one}");
            assert!((0.33..=1.0).contains(&one["score"].as_f64().unwrap()), "{one}");
            (
                one["word"].as_str().unwrap(),
                one["start"].as_u64().unwrap(),
                one["end"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        words,
        [("good", 0, 4), ("films", 5, 10), (",", 10, 11), ("bad", 12, 15), ("!", 15, 16)]
    );
    let given = ok(
        "/predict",
        &json!({ "inputs": { "words": ["good", "films", ",", "bad", "!"] }, "model": "words" }),
    );
    assert_eq!(given[1]["entity"], all[1]["entity"]);
    assert_eq!(given[1].get("start"), None);

    let context = "the good film. a bad film. the film is good, good, good.";
    let input = json!({ "question": "good?", "context": context });
    let found = ok("/predict", &json!({ "inputs": input, "model": "answers" }));
    let place = |key: &str| found[key].as_u64().unwrap() as usize;
    let part: String = context.chars().take(place("end")).skip(place("start")).collect();
    assert_eq!(found["answer"], part.as_str());
    assert!(!part.is_empty() && found["score"].is_number(), "{found}");
    let none = json!({ "inputs": input, "model": "answers", "null_threshold": -1e9 });
    assert_eq!(ok("/predict", &none)["answer"], "");
    // A context of many windows, whose places are those of the whole.
    let long = json!({ "question": "good?", "context": format!("{} good", "the film is bad. ".repeat(60)) });
    let found = ok("/predict", &json!({ "inputs": [long], "model": "answers" }));
    assert!(found[0]["end"].as_u64().unwrap() <= 1025, "{found}");
}

#[test]
fn vectors_by_both_routes() {
    let vectors = ok("/embed", &json!({ "inputs": ["good film", "bad"], "model": "vectors" }));
    let of = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    let first = of(&vectors[0]);
    assert_eq!((first.len(), vectors.as_array().unwrap().len()), (24, 2));
    let one = ok("/embed", &json!({ "inputs": "good film", "model": "vectors" }));
    assert_eq!(of(&one[0]), first);

    let openai =
        ok("/v1/embeddings", &json!({ "input": ["good film", "bad"], "model": "vectors" }));
    assert_eq!(of(&openai["data"][0]["embedding"]), first);
    assert_eq!((&openai["data"][1]["index"], &openai["model"]), (&json!(1), &json!("vectors")));
    assert_eq!(openai["usage"]["total_tokens"], 7);
    let base64 = json!({ "input": "good film", "model": "vectors", "encoding_format": "base64" });
    let text = ok("/v1/embeddings", &base64)["data"][0]["embedding"].as_str().unwrap().to_owned();
    let bytes: Vec<u8> = first.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(decoded(&text), bytes);

    let cut =
        of(&ok("/embed", &json!({ "inputs": "good film", "model": "vectors", "dimensions": 5 }))
            [0]);
    let norm = first[..5].iter().map(|x| x * x).sum::<f32>().sqrt();
    let wanted = first[..5].iter().map(|x| x / norm);
    assert!(cut.len() == 5 && cut.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{cut:?}");
    refused(
        "/embed",
        &json!({ "inputs": "a", "model": "vectors", "dimensions": 25 }),
        422,
        "24 numbers",
    );
    refused(
        "/v1/embeddings",
        &json!({ "input": "a", "model": "vectors", "encoding_format": "x" }),
        422,
        "base64",
    );
    refused(
        "/embed",
        &json!({ "inputs": "a", "model": "vectors", "prompt_name": "q" }),
        422,
        "prompt",
    );
}

/// Base64, read back.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text.trim_end_matches('=').chars().flat_map(|letter| {
        let value = LETTERS.find(letter).unwrap();
        (0..6).rev().map(move |bit| (value >> bit & 1) as u8)
    });
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| 2 * sum + bit)).collect()
}

#[test]
fn texts_are_ranked_by_a_model_with_one_output() {
    let body = json!({
        "query": "good?", "texts": ["bad", "good film", "the film"], "model": "value", "return_text": true
    });
    let ranked = ok("/rerank", &body);
    let all = ranked.as_array().unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()), "{ranked}");
    let texts = ["bad", "good film", "the film"];
    for one in all {
        let index = one["index"].as_u64().unwrap() as usize;
        assert_eq!(one["text"], texts[index]);
        let pair = json!({ "inputs": ["good?", texts[index]], "model": "value" });
        let raw = ok("/predict", &pair)[0]["score"].as_f64().unwrap();
        let score = one["score"].as_f64().unwrap();
        assert!((1.0 / (1.0 + (-raw).exp()) - score).abs() < 1e-6, "{raw} {score}");
    }
    refused("/rerank", &json!({ "query": "a", "texts": ["b"] }), 422, "one output");
    refused("/rerank", &json!({ "query": "a", "texts": [], "model": "value" }), 422, "empty");
    refused("/rerank", &json!({ "query": "a", "model": "value" }), 422, "texts");
}

#[test]
fn tokens_have_their_places() {
    let tokens = ok("/tokenize", &json!({ "inputs": ["Good films"] }));
    let of = |token: &Value| {
        (
            token["text"].as_str().unwrap().to_owned(),
            token["start"].as_u64(),
            token["special"].as_bool(),
        )
    };
    let all: Vec<_> = tokens[0].as_array().unwrap().iter().map(of).collect();
    let wanted = [
        ("[CLS]", None, true),
        ("Good", Some(0), false),
        ("film", Some(5), false),
        ("s", Some(9), false),
        ("[SEP]", None, true),
    ];
    let wanted = wanted.map(|(text, start, special)| (text.to_owned(), start, Some(special)));
    assert_eq!(all, wanted);
    let bare = ok("/tokenize", &json!({ "inputs": "Good films", "add_special_tokens": false }));
    assert_eq!(bare[0].as_array().unwrap().len(), 3);
    refused("/tokenize", &json!({ "inputs": "a", "model": "perceptron" }), 422, "no tokenizer");
}

#[test]
fn what_the_server_tells_of_itself() {
    let address = served().address;
    let health = get(address, "/health");
    assert_eq!((health.status, &*health.text()), (200, "{}"));
    let info = get(address, "/info").json();
    assert_eq!(info["model_id"], "classifier");
    assert_eq!(info["model_type"]["classifier"]["id2label"]["1"], "class 1");
    assert_eq!(info["max_input_length"], 96);
    let kinds: Vec<&String> = info["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["model_type"].as_object().unwrap().keys().next().unwrap())
        .collect();
    let wanted = [
        "classifier",
        "classifier",
        "reranker",
        "token_classifier",
        "question_answering",
        "embedding",
        "classifier",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(get(address, "/v1/models").json()["data"][5]["id"], "vectors");
    let before = metric(address, "te_request_success");
    ok("/predict", &json!({ "inputs": "good" }));
    assert!(metric(address, "te_request_success") > before);
    let text = get(address, "/metrics").text();
    for name in [
        "te_request_count",
        "te_request_success",
        "te_request_duration_bucket",
        "te_request_tokenization_duration_count",
        "te_request_queue_duration_sum",
        "te_request_inference_duration_count",
        "te_queue_size",
        "te_batch_next_size_count",
        "te_batch_next_tokens_sum",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let answer = post(address, "/predict", &json!({ "inputs": "good" }));
    for name in ["x-total-time", "x-queue-time", "x-inference-time", "x-tokenization-time"] {
        assert!(answer.header(name).unwrap().parse::<f64>().unwrap() >= 0.0, "{name}");
    }
    assert_eq!(answer.header("x-compute-tokens"), Some("3"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn the_page_loads_nothing_and_the_description_has_every_route() {
    let address = served().address;
    let page = get(address, "/");
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"),
        "{policy}"
    );
    let html = page.text();
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let described = get(address, "/openapi.json").json();
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, methods) in described["paths"].as_object().unwrap() {
        let method = methods.as_object().unwrap().keys().next().unwrap().to_uppercase();
        let answer = ask(address, &request(&method, path, "Connection: close\r\n", b"{}")).unwrap();
        assert!(!matches!(answer.status, 404 | 405 | 500), "{method} {path}: {}", answer.status);
        let other = if method == "GET" { "POST" } else { "GET" };
        let answer = ask(address, &request(other, path, "Connection: close\r\n", b"{}")).unwrap();
        assert_eq!(answer.status, 405, "{other} {path}");
    }
    assert_eq!(described["paths"].as_object().unwrap().len(), 12);
    // References within the description lead somewhere.
    let text = described.to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(described.pointer(pointer).is_some(), "{pointer}");
    }
    assert_eq!(get(address, "/nothing").status, 404);
}

#[test]
fn requests_that_make_no_sense_are_told_why() {
    for (path, body, status, why) in [
        ("/predict", json!({ "inputs": 7 }), 422, "must be a text"),
        ("/predict", json!({}), 422, "must be a text"),
        ("/predict", json!({ "inputs": [] }), 422, "empty"),
        ("/predict", json!({ "inputs": ["a", "b", "c"] }), 422, "pair"),
        ("/predict", json!([1]), 422, "no such request"),
        ("/predict", json!({ "inputs": "a", "truncation_direction": "Left" }), 422, "Right"),
        ("/predict", json!({ "inputs": "a", "model": "other" }), 404, "`classifier`, `labels`"),
        ("/predict", json!({ "inputs": "a", "model": "vectors" }), 422, "ask /embed"),
        ("/embed", json!({ "inputs": "a" }), 422, "ask /predict"),
        ("/v1/embeddings", json!({ "input": "a" }), 422, "ask /predict"),
        ("/v1/embeddings", json!({ "input": "a", "model": "x" }), 404, "no such model"),
        ("/predict", json!({ "inputs": "a", "model": "perceptron" }), 422, "row of 2 numbers"),
        (
            "/predict",
            json!({ "inputs": [1, 2, 3], "model": "perceptron" }),
            422,
            "row of 2 numbers",
        ),
        ("/predict", json!({ "inputs": "a", "model": "answers" }), 422, "question"),
        ("/predict", json!({ "inputs": { "words": [1] }, "model": "words" }), 422, "words"),
        ("/predict", json!({ "inputs": " ", "model": "words" }), 422, "no words"),
        (
            "/predict",
            json!({ "inputs": { "question": "the ".repeat(90), "context": "a" }, "model": "answers" }),
            422,
            "leaves room",
        ),
        (
            "/predict",
            json!({ "inputs": "good ".repeat(200), "truncate": false }),
            422,
            "202 tokens",
        ),
    ] {
        refused(path, &body, status, why);
    }
    ok("/predict", &json!({ "inputs": "good ".repeat(200) }));
    let plain =
        request("POST", "/predict", "Content-Type: text/plain\r\nConnection: close\r\n", b"{}");
    let answer = ask(served().address, &plain).unwrap();
    assert_eq!(answer.status, 415, "{}", answer.text());
    let types =
        |path, body: Value| post(served().address, path, &body).json()["error_type"].clone();
    assert_eq!(types("/predict", json!({ "inputs": 7 })), "Validation");
    assert_eq!(
        types("/predict", json!({ "inputs": "good ".repeat(200), "truncate": false })),
        "Tokenizer"
    );
}
