//! `distil-gpu generate`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::data::text::{Message, Role};
use distil_gpu_engine::generate::{Continuation, Prompt, Sampling, TextGenerator};
use distil_gpu_engine::models::ModelConfig;
use distil_gpu_engine::store::Storage;
use serde_json::{Value, json};

use super::written::{self, Asked};
use crate::terminal::say_part;
use crate::{Usage, Voice, note, say, say_json};

/// The most bytes of a file of prompts.
const MOST_BYTES: u64 = 64 << 20;

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu generate runs/stories/student \"Once upon a time\"
  distil-gpu generate model.gguf --chat \"Why is the sky blue?\" --temperature 0.7 --top-p 0.9
  distil-gpu generate runs/stories/student --compare runs/stories/teacher \"The sea\"
      What both make of it, side by side
  distil-gpu generate my-model --file prompts.txt --max-tokens 40 --json
      A prompt a line; several are continued side by side
  distil-gpu generate teacher --data train.jsonl --to taught.jsonl --temperature 1
      What a student is taught: the prompts of the data with the teacher's own answers")]
pub struct Args {
    /// Folder with config.json and model.safetensors, a GGUF file, or hf:OWNER/NAME for a model of the hub
    model: PathBuf,
    /// What to go on from; without any, all of the standard input is one prompt
    prompts: Vec<String>,
    /// A file of prompts, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    file: Option<PathBuf>,
    /// Documents of prompts and completions, or chats: what stands before the completion, or before the last answer, is a prompt
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompts", "file", "chat"])]
    data: Option<PathBuf>,
    /// JSON lines of prompts and what is written, with its log probability: a student learns from them; an interrupted command
    /// goes on
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "prompts"])]
    to: Option<PathBuf>,
    /// The most texts that are written side by side
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    rows: u32,
    /// Prompts are questions to an assistant: they are written as the model's chat template says
    #[arg(long)]
    chat: bool,
    /// What an assistant is told before the question
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Another model, which goes on from the same prompts
    #[arg(long, value_name = "MODEL")]
    compare: Option<PathBuf>,
    /// The most tokens to write
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_tokens: u32,
    /// What logits are divided by; 0 takes the most likely token always
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0)]
    temperature: f32,
    /// How many of the most likely tokens are left; 0 for all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// The probability that the most likely tokens that are left have together
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    top_p: f32,
    /// The share of the most likely token's probability that those that are left have at least
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    min_p: f32,
    /// What the logits of tokens that were read or said are divided by
    #[arg(long, default_value_t = 1.0, value_parser = at_least_0)]
    repetition_penalty: f32,
    /// A text that ends the continuation; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Seed: the same tokens on every run
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = super::device)]
    pub(super) device: String,
}

fn at_least_0(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("it must be a number of at least 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

/// What a model made of all prompts.
struct Made {
    name: String,
    continuations: Vec<Continuation>,
    seconds: f64,
    device: String,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    if args.repetition_penalty == 0.0 {
        bail!(Usage("--repetition-penalty 0: it must be above 0; 1 is none".to_owned()));
    }
    let asked = match &args.data {
        Some(path) => written::prompts(path)?,
        None => prompts(&args)?.iter().map(|text| Asked::new(prompt(&args, text))).collect(),
    };
    if let Some(path) = &args.to {
        let (_, config, values): (_, ModelConfig, _) = super::load_model(&args.model, voice)?;
        let name = || args.model.display().to_string();
        let generator = generator(&args, &config, &values).with_context(name)?;
        return written::write(&args, &generator, (&asked, path), voice);
    }
    let texts: Vec<String> = asked.iter().map(|asked| asked.prompt.shown().to_owned()).collect();
    let prompts: Vec<Prompt> = asked.into_iter().map(|asked| asked.prompt).collect();
    let models = [Some(&args.model), args.compare.as_ref()].into_iter().flatten();
    // Text comes as it is made where one prompt goes to one model.
    let streams = prompts.len() == 1 && args.compare.is_none() && !voice.json;
    let mut all = Vec::new();
    for model in models {
        all.push(made(&args, model, &prompts, streams, voice)?);
    }
    if voice.json {
        return say_json(&report(&texts, &all));
    }
    for (at, text) in texts.iter().enumerate().filter(|_| !streams) {
        if texts.len() > 1 || all.len() > 1 {
            say(format_args!("{}> {}", if at > 0 { "\n" } else { "" }, first_line(text)))?;
        }
        for Made { name, continuations, .. } in &all {
            let text = &continuations[at].text;
            match all.len() {
                1 => say(text)?,
                _ => say(format_args!("\n{name}:\n{text}"))?,
            }
        }
    }
    if voice.progress() {
        for Made { name, continuations, seconds, .. } in &all {
            let tokens: usize = continuations.iter().map(|made| made.tokens.len()).sum();
            let rate = tokens as f64 / seconds.max(1e-9);
            note(format_args!("{name}: {tokens} tokens in {seconds:.1} s, {rate:.1} tokens/s"));
        }
    }
    Ok(())
}

fn prompts(args: &Args) -> Result<Vec<String>> {
    if !args.prompts.is_empty() {
        return Ok(args.prompts.clone());
    }
    if let Some(path) = &args.file {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        let mut text = String::new();
        let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
        read.with_context(|| path.display().to_string())?;
        if text.len() as u64 > MOST_BYTES {
            bail!("{}: it has more than {MOST_BYTES} bytes of prompts", path.display());
        }
        let lines: Vec<String> =
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if lines.is_empty() {
            bail!("{}: it has no prompt: each line is one", path.display());
        }
        return Ok(lines);
    }
    if std::io::stdin().is_terminal() {
        bail!(Usage(
            "there is nothing to go on from: give a prompt, --file FILE, or text on the standard input".to_owned()
        ));
    }
    let mut text = String::new();
    std::io::stdin().take(MOST_BYTES).read_to_string(&mut text).context("the standard input")?;
    Ok(vec![text.trim_end_matches('\n').to_owned()])
}

fn prompt(args: &Args, text: &str) -> Prompt {
    if !args.chat {
        return Prompt::Text(text.to_owned());
    }
    let say = |role, content: &str| Message { role, content: content.to_owned() };
    let system = args.system.iter().map(|system| say(Role::System, system));
    Prompt::Chat(system.chain([say(Role::User, text)]).collect())
}

/// A generator as the arguments say.
fn generator<'a>(
    args: &Args,
    config: &'a ModelConfig,
    values: &'a [Vec<f32>],
) -> Result<TextGenerator<'a>> {
    let mut generator = TextGenerator::new(config, values)?;
    generator.max_tokens = args.max_tokens as usize;
    generator.rows = args.rows as usize;
    generator.stop_texts = args.stop.iter().filter(|stop| !stop.is_empty()).cloned().collect();
    generator.sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
    };
    Ok(generator)
}

fn made(
    args: &Args,
    model: &Path,
    prompts: &[Prompt],
    streams: bool,
    voice: Voice,
) -> Result<Made> {
    let (_, config, values): (_, ModelConfig, _) = super::load_model(model, voice)?;
    let name = model.display().to_string();
    let generator = generator(args, &config, &values).with_context(|| name.clone())?;
    let mut device = super::open(&args.device, false, voice)?;
    let begun = Instant::now();
    let mut told = |_: usize, piece: &str| {
        if streams {
            say_part(piece);
        }
    };
    let continuations = generator.run(&mut *device, Storage::F32, prompts, &mut told)?;
    if streams {
        say("")?;
    }
    let device = device.info().name.clone();
    Ok(Made { name, continuations, seconds: begun.elapsed().as_secs_f64(), device })
}

fn report(prompts: &[String], all: &[Made]) -> Value {
    let of_model = |made: &Made| {
        let continuations = prompts.iter().zip(&made.continuations);
        let continuations = continuations.map(|(prompt, one)| {
            json!({
                "prompt": prompt,
                "text": one.text,
                "tokens": one.tokens,
                "prompt_tokens": one.prompt_tokens,
                "finish_reason": one.end.name(),
            })
        });
        json!({
            "model": made.name,
            "device": made.device,
            "seconds": made.seconds,
            "continuations": continuations.collect::<Vec<_>>(),
        })
    };
    match all {
        [one] => of_model(one),
        several => json!({ "models": several.iter().map(of_model).collect::<Vec<_>>() }),
    }
}

/// A prompt as a heading.
fn first_line(text: &str) -> String {
    const MOST: usize = 76;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < text.len() => format!("{line} …"),
        None => line.to_owned(),
    }
}
