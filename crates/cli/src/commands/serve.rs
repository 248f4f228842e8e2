//! `distil-gpu serve`

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::Error;
use distil_gpu_engine::device::{Choice, Device, GpuOptions, select};
use distil_gpu_serve::{Named, Options, Ready, ServeError, Server};
use serde_json::json;

use crate::{Usage, Voice, note, say, say_json, signals};

/// The most bytes of a file of keys.
const MOST_BYTES: u64 = 64 << 10;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu serve runs/movie-sentiment/student
      Answers on http://127.0.0.1:8080, where a page lets you try it; only this machine reaches it
  curl 127.0.0.1:8080/predict -H 'Content-Type: application/json' -d '{\"inputs\": \"a warm and funny film\"}'
  distil-gpu serve reviews=runs/movie-sentiment/student vectors=hf:sentence-transformers/all-MiniLM-L6-v2
      Two models; a request names one by \"model\", or is answered by the first
  distil-gpu serve my-model --host 0.0.0.0 --api-key-file keys.txt
      Answers everybody who sends one of the file's lines: Authorization: Bearer KEY

Routes (docs/serving.md): /predict /embed /rerank /tokenize /info /health /metrics /v1/embeddings /v1/models /openapi.json
SIGTERM and Ctrl-C answer what is at work, then end with exit code 0.")]
pub struct Args {
    /// Folder with config.json and model.safetensors, or hf:OWNER/NAME; with NAME= in front, the name it is served by
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Address to listen on; any but this machine's own needs --api-key-file or --no-auth
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes one that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// File of keys, one a line, one of which requests have to bear
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    api_key_file: Option<PathBuf>,
    /// Anybody may ask who reaches the address, by whatever name
    #[arg(long)]
    no_auth: bool,
    /// Tokens of a batch, padding included
    #[arg(long, value_name = "TOKENS", default_value_t = 4096)]
    max_batch_tokens: usize,
    /// Tokens that may wait; what comes beyond is refused with 429
    #[arg(long, value_name = "TOKENS", default_value_t = 65_536)]
    max_queue_tokens: usize,
    /// Requests at work at one time; what comes beyond is refused with 429
    #[arg(long, value_name = "REQUESTS", default_value_t = 512)]
    max_requests: usize,
    /// Inputs of one request; more are refused with 413
    #[arg(long, value_name = "INPUTS", default_value_t = 32)]
    max_inputs: usize,
    /// Bytes of a request's body; more are refused with 413
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 20)]
    max_body_bytes: usize,
    /// Seconds until a request is answered; later it is refused with 408
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = super::device)]
    device: String,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let keys = match &args.api_key_file {
        Some(path) => keys(path)?,
        None => Vec::new(),
    };
    let named = args.models.iter().map(|model| named(model, voice));
    let options = Options {
        host: args.host,
        port: args.port,
        keys,
        no_auth: args.no_auth,
        max_batch_tokens: args.max_batch_tokens,
        max_queue_tokens: args.max_queue_tokens,
        max_requests: args.max_requests,
        max_inputs: args.max_inputs,
        max_body_bytes: args.max_body_bytes,
        request_timeout: Duration::from_secs(args.timeout),
        ..Options::new(named.collect::<Result<_>>()?)
    };
    let choice: Choice = args.device.parse()?;
    let stopped = signals::watch().context("signals cannot be watched")?;
    let server = Server::bind(options).map_err(usage)?;
    let address = server.address();
    if voice.progress() {
        note(format_args!("Loading; http://{address} answers with 503 until that is done"));
    }
    let open = move || -> Result<Box<dyn Device>, Error> {
        let selected = select(choice, GpuOptions::default())?;
        if voice.progress() {
            note(format_args!("Device: {}", selected.reason));
        }
        Ok(selected.device)
    };
    let mut said = Ok(());
    let stop = || stopped.load(Ordering::SeqCst) != 0;
    let tell = |ready: &Ready| said = tell(ready, &address.to_string(), voice);
    server.run(open, stop, tell)?;
    if voice.progress() {
        note("Stopped; all that was at work is answered");
    }
    said
}

/// Says that requests are answered now.
fn tell(ready: &Ready, address: &str, voice: Voice) -> Result<()> {
    let Ready { device, bytes, plans, seconds } = ready;
    if voice.json {
        return say_json(&json!({
            "address": address,
            "device": device,
            "bytes": bytes,
            "plans": plans,
            "seconds": seconds,
        }));
    }
    if voice.quiet {
        return Ok(());
    }
    let megabytes = *bytes as f64 / 1e6;
    say(format_args!(
        "Serving on http://{address} ({device}: {megabytes:.0} MB, {plans} plans, {seconds:.1} s)"
    ))
}

/// What is wrong with options is wrong with arguments.
fn usage(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Options(problem) => Usage(problem).into(),
        error => error.into(),
    }
}

/// A model by its folder, fetched where it is on the hub, and the name that it is served by: the one in front of `=`, else
/// the folder's.
fn named(model: &str, voice: Voice) -> Result<Named> {
    let (name, place) = match model.split_once('=') {
        Some((name, place)) if !name.is_empty() && !place.is_empty() => (Some(name), place),
        Some(_) => bail!(Usage(format!("MODEL {model}: it must be a folder, or NAME=FOLDER"))),
        None => (None, model),
    };
    let folder = super::model_folder(Path::new(place), voice)?;
    let of_place = || {
        let full = std::path::absolute(place).ok();
        let last = full.as_deref().and_then(Path::file_name);
        last.map_or_else(|| place.to_owned(), |last| last.to_string_lossy().into_owned())
    };
    let name = match (name, place.strip_prefix("hf:")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(of_hub)) => of_hub.to_owned(),
        (None, None) => of_place(),
    };
    Ok(Named { name, folder })
}

/// The keys of a file, one a line.
fn keys(path: &Path) -> Result<Vec<String>> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| shown.to_string())?;
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).with_context(|| shown.to_string())?;
    if text.len() as u64 > MOST_BYTES {
        bail!("{shown}: it has more than {MOST_BYTES} bytes of keys");
    }
    let keys: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if keys.is_empty() {
        bail!("{shown}: it has no key: each line is one");
    }
    // A header has such letters alone, so another key could never be sent.
    if let Some(line) = keys.iter().position(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        bail!(
            "{shown}: key {} has a blank or a letter beyond ASCII, which no header has",
            line + 1
        );
    }
    Ok(keys)
}
