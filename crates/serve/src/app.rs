//! What all routes share, and how their inputs get answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;

use crate::metrics::Metrics;
use crate::model::{Model, Row};
use crate::options::Options;
use crate::queue::{Answered, Full, Job, Queue};
use crate::refusal::{Kind, Refusal};

/// Bytes of a request's texts up to which they become tokens at once; others become them on a thread of their own, so
/// that connections do not wait.
const AT_ONCE: usize = 4096;

/// What all routes share.
#[derive(Debug)]
pub struct App {
    pub options: Options,
    pub models: Arc<Vec<Model>>,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    pub ready: Arc<AtomicBool>,
    /// Requests that may be at work.
    pub requests: Semaphore,
}

/// The answers to a request's inputs, and where its time went.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The model's raw numbers for each row.
    pub numbers: Vec<Vec<f32>>,
    pub times: Times,
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it began to be read.
    pub begun: Instant,
    pub tokenization: Duration,
    /// The longest that one of its inputs waited.
    pub queue: Duration,
    /// The longest that a batch with one of its inputs took.
    pub inference: Duration,
    /// Tokens of all inputs.
    pub tokens: usize,
}

impl Times {
    /// Those of a request that comes now.
    pub fn begin() -> Self {
        let none = Duration::ZERO;
        let begun = Instant::now();
        Self { begun, tokenization: none, queue: none, inference: none, tokens: 0 }
    }
}

impl App {
    /// The model of this name, the first where none is named.
    ///
    /// # Errors
    /// When there is none such.
    pub fn model(&self, name: Option<&str>) -> Result<usize, Refusal> {
        let Some(name) = name else { return Ok(0) };
        self.models.iter().position(|model| model.named.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| &*model.named.name).collect();
            let names = names.join("`, `");
            Refusal::new(Kind::NoModel, format!("there is no such model; there is `{names}`"))
        })
    }

    /// Refuses while nothing can be answered.
    ///
    /// # Errors
    /// While models are being loaded, or the device opened again.
    pub fn check_ready(&self) -> Result<(), Refusal> {
        if self.ready.load(Ordering::SeqCst) {
            return Ok(());
        }
        let refusal = Refusal::new(Kind::Unready, "the models are being loaded: try again soon");
        Err(Refusal { retry_after: Some(1), ..refusal })
    }

    /// Checks how many inputs a request has.
    ///
    /// # Errors
    /// When it has none, or too many.
    pub fn check_inputs(&self, inputs: usize) -> Result<(), Refusal> {
        let most = self.options.max_inputs;
        if inputs == 0 {
            return Err(Refusal::invalid("`inputs` is empty: give one input at least"));
        }
        if inputs > most {
            return Err(Refusal::new(
                Kind::TooLarge,
                format!(
                    "{inputs} inputs are more than the {most} that are taken at once: send fewer"
                ),
            ));
        }
        Ok(())
    }

    /// Makes rows of a request's inputs, which have so many bytes: at once or on a thread of its own.
    ///
    /// # Errors
    /// As `read`, or when that panics.
    pub async fn rows<T: Send + 'static>(
        self: &Arc<Self>,
        bytes: usize,
        times: &mut Times,
        read: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let begun = Instant::now();
        let made = if bytes <= AT_ONCE {
            read(self)
        } else {
            let app = self.clone();
            let reading = tokio::task::spawn_blocking(move || read(&app)).await;
            reading.unwrap_or_else(|_| {
                Err(Refusal::new(Kind::Backend, "the request made the program fail"))
            })
        };
        times.tokenization = begun.elapsed();
        self.metrics.tokenised(times.tokenization);
        made
    }

    /// Has rows answered by a model.
    ///
    /// # Errors
    /// When there is no room, the time is over, or the device fails.
    pub async fn answer(
        &self,
        model: usize,
        rows: Vec<Row>,
        mut times: Times,
    ) -> Result<Answers, Refusal> {
        self.check_ready()?;
        let (reply, mut replies) = unbounded_channel();
        let (count, since) = (rows.len(), Instant::now());
        let tokens: usize = rows.iter().map(Row::tokens).sum();
        times.tokens = tokens;
        let most = self.options.max_queue_tokens;
        if tokens > most {
            return Err(Refusal::new(
                Kind::TooLarge,
                format!(
                    "{tokens} tokens are more than the {most} that may wait: send fewer inputs"
                ),
            ));
        }
        let job = |(index, row)| Job {
            model,
            row,
            since,
            index,
            reply: reply.clone(),
            failed_before: false,
        };
        let jobs: Vec<Job> = rows.into_iter().enumerate().map(job).collect();
        drop(reply);
        self.queue.push(jobs).map_err(|full| match full {
            Full::Tokens(waiting) => Refusal::overloaded(
                format!("{waiting} tokens are waiting: try again later"),
                self.seconds_for(waiting),
            ),
            Full::Closed => Refusal::new(Kind::Unready, "the server is ending"),
        })?;
        let mut numbers: Vec<Vec<f32>> = vec![Vec::new(); count];
        let end = times.begun + self.options.request_timeout;
        for _ in 0..count {
            let reply = tokio::time::timeout_at(end.into(), replies.recv()).await;
            let Ok(reply) = reply else {
                let seconds = self.options.request_timeout.as_secs_f64();
                let sentence = format!(
                    "there was no answer within {seconds} s: send fewer inputs, or try later"
                );
                return Err(Refusal::new(Kind::Timeout, sentence));
            };
            let Some((index, answered)) = reply else {
                return Err(Refusal::new(Kind::Backend, "the device's thread ended"));
            };
            let Answered { numbers: of_row, queued, inference } = answered?;
            times.queue = times.queue.max(queued);
            times.inference = times.inference.max(inference);
            numbers[index] = of_row;
        }
        Ok(Answers { numbers, times })
    }

    /// About how many seconds the device needs for so many tokens, by what it did so far.
    fn seconds_for(&self, tokens: usize) -> u64 {
        let (done, seconds) = self.metrics.work();
        let rate = done as f64 / seconds.max(1e-3);
        ((tokens as f64 / rate.max(1.0)).ceil() as u64).clamp(1, 60)
    }
}
