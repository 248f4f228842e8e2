//! On the processor answers have the bits that are computed offline, whatever shares the batch.

use std::net::SocketAddr;
use std::sync::Mutex;

use distil_gpu_engine::data::{Examples, Features, Numbers, Text, Texts};
use distil_gpu_engine::device::CpuDevice;
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::models::{self, BatchEncoder, Head, ModelConfig};
use distil_gpu_engine::objective::frozen_store;
use distil_gpu_engine::store::Storage;
use distil_gpu_serve::Named;
use serde_json::{Value, json};

use super::client::{metric, post};
use super::home::{Home, Served, by_label, options, texts};

/// What `distil-gpu logits` writes of these examples.
fn offline(named: &Named, examples: &Examples) -> Vec<Vec<f32>> {
    let (config, values) = models::load(&named.folder).unwrap();
    let mut device = CpuDevice::<f32>::new();
    let store = frozen_store(&mut device, &config, &values, Storage::F32).unwrap();
    let feed = BatchEncoder::new(&config.input, examples).unwrap();
    let mut evaluator = Evaluator::new(&config, &store);
    let answers = evaluator.logits(&mut device, &feed, &mut |_| ()).unwrap();
    answers.chunks_exact(config.answer_len()).map(<[f32]>::to_vec).collect()
}

fn examples(rows: &[String]) -> Examples {
    Texts::new(rows.iter().map(|row| Text::from(row.as_str())).collect()).unwrap().into()
}

/// Asks for all of these, `together` at a time, by several clients at once; calls `one` with each answer.
fn at_once<T: Send>(
    count: usize,
    together: usize,
    ask: impl Fn(std::ops::Range<usize>) -> Vec<T> + Sync,
) -> Vec<T> {
    const CLIENTS: usize = 8;
    let requests: Vec<_> =
        (0..count).step_by(together).map(|from| from..(from + together).min(count)).collect();
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (requests, answers, ask) = (&requests, &answers, &ask);
            scope.spawn(move || {
                for request in requests.iter().skip(client).step_by(CLIENTS) {
                    let made = ask(request.clone());
                    answers.lock().unwrap().push((request.start, made));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap();
    answers.sort_by_key(|(from, _)| *from);
    answers.into_iter().flat_map(|(_, made)| made).collect()
}

fn scores(address: SocketAddr, model: &str, inputs: &[Value], labels: &[String]) -> Vec<Vec<f32>> {
    let body = json!({ "inputs": inputs, "raw_scores": true, "model": model });
    let answer = post(address, "/predict", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let in_order = |one: &Value| {
        let by_label = by_label(one);
        labels.iter().map(|label| by_label[label]).collect()
    };
    answer.json().as_array().unwrap().iter().map(in_order).collect()
}

#[test]
fn scores_of_texts_have_the_bits_of_logits() {
    let home = Home::new();
    let wide = |config: &mut ModelConfig| {
        let encoder = config.encoder_mut().unwrap();
        (encoder.hidden_size, encoder.intermediate_size) = (192, 200);
    };
    let many = Head::Classes(9);
    let models = vec![
        home.classifier(),
        home.encoder("wide", Head::Classes(2), wide),
        home.encoder("many", many, wide),
        home.encoder("value", Head::Classes(1), |_| ()),
    ];
    let rows = texts(97, 60);
    let served = Served::new(options(models.clone()));
    for named in &models {
        let (config, _) = models::load(&named.folder).unwrap();
        let wanted = offline(named, &examples(&rows));
        // The bits are those of each text, not of what it was computed with.
        let (few, alone): (Vec<usize>, Vec<String>) =
            (0..rows.len()).step_by(7).map(|row| (row, rows[row].clone())).unzip();
        for (row, answer) in few.iter().zip(offline(named, &examples(&alone))) {
            assert_eq!(answer, wanted[*row], "{}, text {row} offline", named.name);
        }
        for together in [1, 5, 32] {
            let found = at_once(rows.len(), together, |range| {
                let inputs: Vec<Value> = rows[range].iter().map(|row| json!([row])).collect();
                scores(served.address, &named.name, &inputs, &config.class_names)
            });
            for (row, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                assert_eq!(found, wanted, "{}, {together} together, text {row}", named.name);
            }
        }
    }
    let [inputs, batches] = ["te_batch_next_size_sum", "te_batch_next_size_count"]
        .map(|name| metric(served.address, name));
    assert!(inputs > 1.5 * batches, "{inputs} inputs in {batches} batches");
}

#[test]
fn vectors_and_scores_of_numbers_have_the_bits_of_logits() {
    let home = Home::new();
    let vectors = home.encoder("vectors", Head::Embedding, |_| ());
    let perceptron = home.perceptron();
    let served = Served::new(options(vec![vectors.clone(), perceptron.clone()]));
    let rows = texts(41, 70);
    let wanted = offline(&vectors, &examples(&rows));
    let found = at_once(rows.len(), 3, |range| {
        let answer = post(served.address, "/embed", &json!({ "inputs": &rows[range] }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_value::<Vec<Vec<f32>>>(answer.json()).unwrap()
    });
    assert!(found == wanted, "vectors differ");
    for vector in &found {
        let squares: f32 = vector.iter().map(|x| x * x).sum();
        assert!((squares - 1.0).abs() < 1e-5, "{squares}");
    }

    let numbers: Vec<[f32; 2]> =
        (0..50).map(|row| [row as f32 / 7.0, 3.0 - row as f32 / 3.0]).collect();
    let features = Features::F32(numbers.concat());
    let wanted = offline(&perceptron, &Numbers::new(features, vec![2]).unwrap().into());
    let labels = ["ant", "bee", "cat"].map(str::to_owned);
    let found = at_once(numbers.len(), 4, |range| {
        let inputs: Vec<Value> = numbers[range].iter().map(|row| json!(row)).collect();
        scores(served.address, "perceptron", &inputs, &labels)
    });
    assert!(found == wanted, "scores of numbers differ");
}

/// Classes of words and answers to questions, which `logits` does not write, are the same alone and in company.
#[test]
fn words_and_answers_do_not_hang_on_their_company() {
    let home = Home::new();
    let models = vec![
        home.encoder("words", Head::Tokens(3), |_| ()),
        home.encoder("answers", Head::Span, |_| ()),
    ];
    let served = Served::new(options(models));
    let rows = texts(24, 50);
    let question = |row: &String| json!({ "question": "good film?", "context": row });
    for (model, inputs) in [
        ("words", rows.iter().map(|row| json!(row)).collect::<Vec<_>>()),
        ("answers", rows.iter().map(question).collect()),
    ] {
        let alone: Vec<Value> = inputs
            .iter()
            .map(|input| {
                let answer =
                    post(served.address, "/predict", &json!({ "inputs": input, "model": model }));
                assert_eq!(answer.status, 200, "{}", answer.text());
                answer.json()
            })
            .collect();
        let together = at_once(inputs.len(), 6, |range| {
            let body = json!({ "inputs": &inputs[range], "model": model });
            post(served.address, "/predict", &body).json().as_array().unwrap().clone()
        });
        assert!(alone == together, "{model}");
        let different = alone.iter().filter(|one| **one != alone[0]).count();
        assert!(different > 10, "{model}: {different} answers differ from the first");
    }
}
