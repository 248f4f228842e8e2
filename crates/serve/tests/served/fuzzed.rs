//! Bodies that nobody means, made of good ones by seeded chance: each is answered or refused, none makes the server fail.

use std::collections::BTreeMap;
use std::io::Write;

use distil_gpu_engine::models::Head;
use serde_json::json;

use super::client::{answer, connect, get, metric, request};
use super::home::{Home, Served, options};

/// Bodies; `DISTIL_GPU_FUZZ` says how many else.
const BODIES: usize = 3000;

/// A generator of 64-bit numbers (SplitMix64; Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Pieces that parsers and tokenizers stumble over.
const PIECES: [&[u8]; 22] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"[[[[[[[[",
    b"1e999",
    b"-0",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\"inputs\":",
    b"99999999999999999999",
    b"true",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xae",
    b"\\n",
    b",",
    b"\"",
    b"}",
    b"]",
    b"\x00",
    b"\"model\":\"words\",",
];

/// A good body with some damage, or chance alone.
fn body(chance: &mut Chance, good: &[u8]) -> Vec<u8> {
    let mut body = good.to_vec();
    for _ in 0..chance.below(6) {
        let at = chance.below(body.len() + 1);
        match chance.below(6) {
            0 => body.truncate(at),
            1 => {
                let piece = *chance.of(&PIECES);
                body.splice(at..at, piece.iter().copied());
            }
            2 if at < body.len() => body[at] = chance.below(256) as u8,
            3 if at < body.len() => drop(body.remove(at)),
            4 => {
                let end = (at + chance.below(40)).min(body.len());
                let part = body[at..end].to_vec();
                let times = 1 + chance.below(30);
                body.splice(at..at, part.repeat(times));
            }
            _ => {
                let end = (at + chance.below(12)).min(body.len());
                let piece = *chance.of(&PIECES);
                body.splice(at..end, piece.iter().copied());
            }
        }
    }
    body
}

#[test]
fn damaged_bodies_are_answered_or_refused() {
    let home = Home::new();
    let models = vec![
        home.classifier(),
        home.encoder("value", Head::Classes(1), |_| ()),
        home.encoder("words", Head::Tokens(3), |_| ()),
        home.encoder("answers", Head::Span, |_| ()),
        home.encoder("vectors", Head::Embedding, |_| ()),
        home.perceptron(),
    ];
    let served = Served::new(options(models));
    let good = [
        ("/predict", json!({ "inputs": "good film", "raw_scores": true })),
        ("/predict", json!({ "inputs": [["good"], ["bad", "film"]], "truncate": false })),
        (
            "/predict",
            json!({ "inputs": [{ "words": ["good", "x"] }, "the film"], "model": "words" }),
        ),
        (
            "/predict",
            json!({ "inputs": { "question": "good?", "context": "the film" }, "model": "answers", "null_threshold": 0.5 }),
        ),
        ("/predict", json!({ "inputs": [[0.5, 1e3], [-1, 2]], "model": "perceptron" })),
        (
            "/embed",
            json!({ "inputs": ["good", "bad"], "model": "vectors", "dimensions": 4, "normalize": false }),
        ),
        (
            "/v1/embeddings",
            json!({ "input": "good", "model": "vectors", "encoding_format": "base64" }),
        ),
        (
            "/rerank",
            json!({ "query": "good", "texts": ["a", "b"], "model": "value", "return_text": true }),
        ),
        ("/tokenize", json!({ "inputs": "good film", "add_special_tokens": false })),
    ];
    let count = std::env::var("DISTIL_GPU_FUZZ").map_or(BODIES, |count| count.parse().unwrap());
    let mut chance = Chance(20);
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let mut connection = connect(served.address);
    for number in 0..count {
        let (path, sound) = &good[number % good.len()];
        let body = body(&mut chance, sound.to_string().as_bytes());
        let sent = connection.get_mut().write_all(&request("POST", path, "", &body));
        let answered = sent.ok().and_then(|()| answer(&mut connection));
        let Some(answer) = answered else {
            // The server may end a connection, not itself.
            connection = connect(served.address);
            *statuses.entry(0).or_default() += 1;
            continue;
        };
        let shown = String::from_utf8_lossy(&body);
        assert!(answer.status < 500, "{path} {shown}: {}", answer.text());
        assert!(answer.json().is_array() || answer.json().is_object(), "{path} {shown}");
        *statuses.entry(answer.status).or_default() += 1;
    }
    println!("{statuses:?}");
    let of = |status| statuses.get(&status).copied().unwrap_or(0);
    assert!(of(200) > count / 10 && of(422) > count / 10, "{statuses:?}");
    assert_eq!(of(0), 0, "{statuses:?}");
    assert_eq!(get(served.address, "/health").status, 200);
    assert_eq!(metric(served.address, "te_device_failures"), 0.0);
}
