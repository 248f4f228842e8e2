//! `distil-gpu init`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{Voice, say, say_json};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  distil-gpu init mine.toml && distil-gpu run mine.toml
      Write a recipe whose every key is explained, and run it as it is")]
pub struct Args {
    /// File to write
    #[arg(default_value = "recipe.toml")]
    path: PathBuf,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let path = args.path.display();
    if args.path.is_dir() {
        bail!(
            "{path} is a folder: name a file in it, as {}",
            args.path.join("recipe.toml").display()
        );
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(&args.path).with_context(|| {
            format!("cannot write {path}; a file that exists is never replaced")
        })?;
    file.write_all(distil_gpu_engine::recipe::STARTER.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {path}"))?;
    if voice.json {
        return say_json(&json!({ "recipe": args.path }));
    }
    if voice.progress() {
        say(format_args!("Wrote {path}. Run it with: distil-gpu run {path}"))?;
    }
    Ok(())
}
