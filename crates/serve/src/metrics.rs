//! What is counted and timed, in Prometheus's text format, with the names and meanings of text-embeddings-inference.

use std::time::Duration;

use distil_gpu_engine::models::BatchShape;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use crate::queue::Job;

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    succeeded: IntCounterVec,
    failed: IntCounterVec,
    request_duration: HistogramVec,
    tokenization_duration: Histogram,
    queue_duration: Histogram,
    inference_duration: Histogram,
    batch_size: Histogram,
    batch_tokens: Histogram,
    batch_padded: IntCounter,
    batch_real: IntCounter,
    queue_size: IntGauge,
    queue_tokens: IntGauge,
    /// How often a device failed.
    pub device_failures: IntCounter,
}

/// Where times are cut, in seconds: from 50 µs to 51 s.
fn seconds() -> Vec<f64> {
    (0..21).map(|power| 5e-5 * f64::from(1 << power)).collect()
}

/// Where counts are cut.
fn counts(most: u32) -> Vec<f64> {
    (0..=most.ilog2()).map(|power| f64::from(1 << power)).collect()
}

impl Metrics {
    /// All of them at 0.
    ///
    /// # Errors
    /// When two have one name, which is a fault of the program.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let timed = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(seconds()))
        };
        let sized = |name: &str, help: &str, most| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(counts(most)))
        };
        let counted = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label])
        };
        let duration = HistogramOpts::new(
            "te_request_duration",
            "Seconds of a request that was answered, from its head to its answer",
        );
        let metrics = Self {
            requests: counted("te_request_count", "Requests for an answer", "method")?,
            succeeded: counted("te_request_success", "Requests that were answered", "method")?,
            failed: counted("te_request_failure", "Requests that were refused, by why", "err")?,
            request_duration: HistogramVec::new(duration.buckets(seconds()), &["method"])?,
            tokenization_duration: timed(
                "te_request_tokenization_duration",
                "Seconds in which the inputs of a request became tokens",
            )?,
            queue_duration: timed(
                "te_request_queue_duration",
                "Seconds for which an input waited for its batch",
            )?,
            inference_duration: timed(
                "te_request_inference_duration",
                "Seconds of a batch on the device",
            )?,
            batch_size: sized("te_batch_next_size", "Inputs of a batch", 32)?,
            batch_tokens: sized("te_batch_next_tokens", "Tokens of a batch", 65_536)?,
            batch_padded: IntCounter::new(
                "te_batch_padded_tokens",
                "Tokens of all batches, padding included",
            )?,
            batch_real: IntCounter::new("te_batch_tokens", "Tokens of all batches")?,
            queue_size: IntGauge::new("te_queue_size", "Inputs that wait")?,
            queue_tokens: IntGauge::new("te_queue_tokens", "Tokens that wait")?,
            device_failures: IntCounter::new(
                "te_device_failures",
                "How often the device failed and was opened again",
            )?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 14] = [
            Box::new(self.requests.clone()),
            Box::new(self.succeeded.clone()),
            Box::new(self.failed.clone()),
            Box::new(self.request_duration.clone()),
            Box::new(self.tokenization_duration.clone()),
            Box::new(self.queue_duration.clone()),
            Box::new(self.inference_duration.clone()),
            Box::new(self.batch_size.clone()),
            Box::new(self.batch_tokens.clone()),
            Box::new(self.batch_padded.clone()),
            Box::new(self.batch_real.clone()),
            Box::new(self.queue_size.clone()),
            Box::new(self.queue_tokens.clone()),
            Box::new(self.device_failures.clone()),
        ];
        all.into_iter().try_for_each(|one| self.registry.register(one))
    }

    /// A request for an answer came; `method` is `single` or `batch`.
    pub fn came(&self, method: &str) {
        self.requests.with_label_values(&[method]).inc();
    }

    /// It was answered.
    pub fn answered(&self, method: &str, took: Duration) {
        self.succeeded.with_label_values(&[method]).inc();
        self.request_duration.with_label_values(&[method]).observe(took.as_secs_f64());
    }

    /// A request was refused.
    pub fn refused(&self, why: &str) {
        self.failed.with_label_values(&[why]).inc();
    }

    /// The inputs of a request became tokens.
    pub fn tokenised(&self, took: Duration) {
        self.tokenization_duration.observe(took.as_secs_f64());
    }

    /// A batch was answered.
    pub fn batch(&self, jobs: &[Job], shape: BatchShape, took: Duration) {
        let tokens: usize = jobs.iter().map(|job| job.row.tokens()).sum();
        self.batch_size.observe(jobs.len() as f64);
        self.batch_tokens.observe(tokens as f64);
        self.batch_real.inc_by(tokens as u64);
        self.batch_padded.inc_by((shape.rows * shape.length.max(1)) as u64);
        self.inference_duration.observe(took.as_secs_f64());
        for job in jobs {
            let waited = job.since.elapsed().saturating_sub(took);
            self.queue_duration.observe(waited.as_secs_f64());
        }
    }

    /// Tokens that were answered, and the seconds that the device worked on them.
    pub fn work(&self) -> (u64, f64) {
        (self.batch_real.get(), self.inference_duration.get_sample_sum())
    }

    /// All of them as text.
    ///
    /// # Errors
    /// When one cannot be written, which is a fault of the program.
    pub fn text(&self, (waiting, tokens): (usize, usize)) -> prometheus::Result<Vec<u8>> {
        self.queue_size.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.queue_tokens.set(i64::try_from(tokens).unwrap_or(i64::MAX));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
