//! `/predict`: scores of texts or numbers, classes of words, answers to questions.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use distil_gpu_engine::data::{Question, Text, Windows};
use distil_gpu_engine::scores::{SpanChoice, SpanLogits, spans};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answered;
use super::request::{Asked, Inputs, each, numbers, pairs, read};
use crate::app::{Answers, App, Times};
use crate::model::{Does, Model, Row};
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
struct Predict {
    #[serde(flatten)]
    asked: Asked,
    /// Logits instead of probabilities.
    #[serde(default)]
    raw_scores: bool,
    /// Of questions: how much larger the score of no answer has to be.
    null_threshold: Option<f32>,
}

/// A score by its label.
#[derive(Debug, Serialize)]
struct Scored<'a> {
    score: f32,
    label: &'a str,
}

/// `POST /predict`
pub async fn predict(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let times = Times::begin();
    app.check_ready()?;
    let Predict { asked, raw_scores, null_threshold } = read(&app, request).await?;
    asked.check()?;
    let at = app.model(asked.model.as_deref())?;
    let all = [Does::Scores, Does::Numbers(0), Does::Words, Does::Answers];
    app.models[at].expect(&all, "/predict")?;
    match app.models[at].does {
        Does::Words => words(&app, at, asked, times).await,
        Does::Answers => questions(&app, at, asked, null_threshold, times).await,
        Does::Numbers(len) => {
            let inputs = numbers(asked.inputs, len)?;
            app.check_inputs(inputs.all.len())?;
            let row = |numbers| Row { numbers, ..Row::default() };
            let Inputs { all, batch } = inputs;
            let all = all.into_iter().map(row).collect();
            scores(&app, at, Inputs { all, batch }, raw_scores, times).await
        }
        _ => {
            let mut times = times;
            let inputs = pairs(asked.inputs)?;
            app.check_inputs(inputs.all.len())?;
            let bytes = inputs.all.iter().map(len).sum();
            let truncate = asked.truncate;
            let rows = app.rows(bytes, &mut times, move |app| {
                let model = &app.models[at];
                let rows = inputs.all.iter().map(|text| model.text(text, truncate));
                Ok(Inputs { all: rows.collect::<Result<_, _>>()?, batch: inputs.batch })
            });
            let rows = rows.await?;
            scores(&app, at, rows, raw_scores, times).await
        }
    }
}

fn len(text: &Text) -> usize {
    text.first.len() + text.second.as_ref().map_or(0, String::len)
}

/// Answers with the scores of each row, the largest first.
async fn scores(
    app: &App,
    at: usize,
    rows: Inputs<Row>,
    raw: bool,
    times: Times,
) -> Result<Response, Refusal> {
    let method = rows.method();
    app.metrics.came(method);
    let Answers { mut numbers, times } = app.answer(at, rows.all, times).await?;
    let model = &app.models[at];
    let mut all = Vec::with_capacity(numbers.len());
    for row in &mut numbers {
        if !raw {
            model.task.scores_of_answer(row);
        }
        let labels = model.config.class_names.iter();
        let mut scored: Vec<Scored<'_>> =
            row.iter().zip(labels).map(|(&score, label)| Scored { score, label }).collect();
        scored.sort_by(|a, b| b.score.total_cmp(&a.score));
        all.push(scored);
    }
    match rows.batch {
        true => answered(app, method, times, &all),
        false => answered(app, method, times, &all.pop()),
    }
}

/// A word and its class.
#[derive(Debug, Serialize)]
struct Entity<'a> {
    entity: &'a str,
    score: f32,
    /// The word's number.
    index: usize,
    word: String,
    /// Its first character and the one behind its last; absent where words were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<usize>,
}

/// A word, and where it stands in its text if it was found there.
type Word = (String, Option<[usize; 2]>);

/// The words of a text, or those that are given: `{"words": ["…", …]}`.
fn words_of(input: Value) -> Result<Vec<Word>, Refusal> {
    let problem =
        || Refusal::invalid("`inputs` must be a text, {\"words\": [\"…\", …]}, or a list of these");
    match input {
        Value::String(text) => Ok(split(&text)),
        Value::Object(mut object) => match object.remove("words") {
            Some(Value::Array(all)) => {
                let word = |value| match value {
                    Value::String(word) => Ok((word, None)),
                    _ => Err(problem()),
                };
                all.into_iter().map(word).collect()
            }
            _ => Err(problem()),
        },
        _ => Err(problem()),
    }
}

/// The words of a text: letters and digits that stand together, and each other mark that is no blank.
fn split(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut joins = false;
    for (place, character) in text.chars().enumerate() {
        let is_of_word = character.is_alphanumeric();
        match words.last_mut().filter(|_| joins && is_of_word) {
            Some((word, Some([_, end]))) => {
                word.push(character);
                *end = place + 1;
            }
            _ if character.is_whitespace() => {}
            _ => words.push((character.to_string(), Some([place, place + 1]))),
        }
        joins = is_of_word;
    }
    words
}

async fn words(
    app: &Arc<App>,
    at: usize,
    asked: Asked,
    mut times: Times,
) -> Result<Response, Refusal> {
    let inputs = each(asked.inputs, words_of)?;
    app.check_inputs(inputs.all.len())?;
    if inputs.all.iter().any(Vec::is_empty) {
        return Err(Refusal::invalid("an input has no words"));
    }
    let bytes = inputs.all.iter().flatten().map(|(word, _)| word.len()).sum();
    let (method, truncate) = (inputs.method(), asked.truncate);
    app.metrics.came(method);
    let read = app.rows(bytes, &mut times, move |app| {
        let model = &app.models[at];
        let mut read = Vec::new();
        for words in inputs.all {
            let only = words.iter().map(|(word, _)| word.clone()).collect();
            let (row, kept) = model.words(only, truncate)?;
            read.push((row, kept, words));
        }
        Ok(read)
    });
    let (mut rows, mut texts) = (Vec::new(), Vec::new());
    for (row, kept, words) in read.await? {
        rows.push(row);
        texts.push((kept, words));
    }
    let Answers { numbers, times } = app.answer(at, rows, times).await?;
    let model = &app.models[at];
    let texts = texts.into_iter().zip(&numbers);
    let mut all: Vec<_> =
        texts.map(|((kept, words), numbers)| entities(model, &kept, words, numbers)).collect();
    match method {
        "batch" => answered(app, method, times, &all),
        _ => answered(app, method, times, &all.pop()),
    }
}

/// The words that were kept, each with its likeliest class by the softmax.
fn entities<'a>(
    model: &'a Model,
    kept: &[bool],
    words: Vec<Word>,
    numbers: &[f32],
) -> Vec<Entity<'a>> {
    let names = &model.config.class_names;
    let kept = words.into_iter().enumerate().zip(kept).filter(|(_, kept)| **kept);
    let rows = numbers.chunks_exact(names.len().max(1));
    let entity = |(((index, (word, place)), _), row): (((usize, Word), &bool), &[f32])| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|z| (z - most).exp()).sum();
        let best = row.iter().position(|&z| z >= most).unwrap_or(0);
        Entity {
            entity: names.get(best).map_or("", String::as_str),
            score: 1.0 / sum,
            index,
            word,
            start: place.map(|[start, _]| start),
            end: place.map(|[_, end]| end),
        }
    };
    kept.zip(rows).map(entity).collect()
}

/// The answer to a question.
#[derive(Debug, Serialize)]
struct Found {
    /// The part of the context; empty where there is said to be no answer.
    answer: String,
    /// Its first character and the one behind its last.
    start: usize,
    end: usize,
    /// The sum of the logits of its first and last token.
    score: f32,
    /// How much larger the score of no answer is.
    null_difference: f32,
}

fn question_of(input: Value) -> Result<Question, Refusal> {
    #[derive(Deserialize)]
    struct Asking {
        question: String,
        context: String,
    }
    let Ok(Asking { question, context }) = serde_json::from_value(input) else {
        let sentence =
            "`inputs` must be {\"question\": \"…\", \"context\": \"…\"}, or a list of these";
        return Err(Refusal::invalid(sentence));
    };
    Ok(Question { id: String::new(), question, context: context.into() })
}

async fn questions(
    app: &Arc<App>,
    at: usize,
    asked: Asked,
    null_threshold: Option<f32>,
    mut times: Times,
) -> Result<Response, Refusal> {
    let inputs = each(asked.inputs, question_of)?;
    app.check_inputs(inputs.all.len())?;
    let method = inputs.method();
    app.metrics.came(method);
    let bytes = inputs.all.iter().map(|one| one.question.len() + one.context.len()).sum();
    let read = app.rows(bytes, &mut times, move |app| {
        let model = &app.models[at];
        let read = |question: Question| {
            let (rows, windows) = model.question(&question)?;
            Ok((question, rows, windows))
        };
        inputs.all.into_iter().map(read).collect::<Result<Vec<_>, Refusal>>()
    });
    let (mut rows, mut asked) = (Vec::new(), Vec::new());
    for (question, of_question, windows) in read.await? {
        rows.extend(of_question);
        asked.push((question, windows));
    }
    let Answers { numbers, times } = app.answer(at, rows, times).await?;
    let mut numbers = numbers.into_iter();
    let how = SpanChoice { null_threshold, ..SpanChoice::default() };
    let mut all: Vec<Found> = asked
        .into_iter()
        .map(|(question, windows)| {
            let own: Vec<Vec<f32>> = numbers.by_ref().take(windows.len()).collect();
            found(&question, &windows, &own, how)
        })
        .collect();
    match method {
        "batch" => answered(app, method, times, &all),
        _ => answered(app, method, times, &all.pop()),
    }
}

/// The best answer of all windows of a question.
fn found(question: &Question, windows: &Windows, logits: &[Vec<f32>], how: SpanChoice) -> Found {
    let places: Vec<_> = (0..windows.len()).map(|window| windows.places(window)).collect();
    let said: Vec<SpanLogits<'_>> = logits
        .iter()
        .zip(&places)
        .map(|(both, places)| {
            let (start, end) = both.split_at(both.len() / 2);
            SpanLogits { start, end, places }
        })
        .collect();
    let chosen = spans::choose(&said, how);
    let place = chosen.place.clone().unwrap_or(0..0);
    // JSON knows no infinity, which stands where there is no answer at all.
    let finite = |score: f32| score.clamp(f32::MIN, f32::MAX);
    Found {
        answer: question.part(place.clone()).to_owned(),
        start: place.start,
        end: place.end,
        score: finite(chosen.score),
        null_difference: finite(chosen.null_difference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_and_marks() {
        let words = split("  Née in Paris, 1985!");
        let found: Vec<_> = words.iter().map(|(word, place)| (&**word, place.unwrap())).collect();
        let wanted = [
            ("Née", [2, 5]),
            ("in", [6, 8]),
            ("Paris", [9, 14]),
            (",", [14, 15]),
            ("1985", [16, 20]),
            ("!", [20, 21]),
        ];
        assert_eq!(found, wanted);
        assert!(split(" \n").is_empty());
    }
}
