//! `distil-gpu man`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;
use serde_json::json;

use crate::{Voice, say, say_json};

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu man | man -l -
      Read the program's page
  distil-gpu man --out ~/.local/share/man/man1
      Write the pages of the program and of each command where `man` looks for them")]
pub struct Args {
    /// Folder for the pages of the program and of every command; without it the program's is printed
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Prints the manual page of `program`, or writes that and those of its commands.
pub fn run(args: Args, program: Command, voice: Voice) -> Result<()> {
    let mut program = program.disable_help_subcommand(true);
    // Names of commands become those of their pages: distil-gpu-run.
    program.build();
    let Some(folder) = args.out else {
        let page = page(&program)?;
        return if voice.json { say_json(&json!({ "page": page })) } else { say(page.trim_end()) };
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut written = vec![write(&folder, &program)?];
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        written.push(write(&folder, command)?);
    }
    if voice.json {
        return say_json(&json!({ "pages": written }));
    }
    if voice.progress() {
        say(format_args!("Wrote {} pages into {}", written.len(), folder.display()))?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<String> {
    let mut page = Vec::new();
    let source = concat!("distil-gpu ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).render(&mut page)?;
    Ok(String::from_utf8(page)?)
}

/// Writes a command's page; its path.
fn write(folder: &Path, command: &Command) -> Result<PathBuf> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
