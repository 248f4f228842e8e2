//! `distil-gpu completions`

use anyhow::Result;
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use serde_json::json;

use crate::{Voice, say, say_json};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu completions bash > ~/.local/share/bash-completion/completions/distil-gpu
  distil-gpu completions zsh > ~/.zfunc/_distil-gpu
  distil-gpu completions fish > ~/.config/fish/completions/distil-gpu.fish")]
pub struct Args {
    /// Shell that is to complete commands and options
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script that tells a shell how `program` is called.
pub fn run(args: Args, mut program: Command, voice: Voice) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, crate::NAME, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Bash {
        // clap_complete 4.6 spells a name with a hyphen in two ways, and then completes no option of a command
        // (clap's issue 6421).
        script = script
            .replace(&crate::NAME.replace('-', "__subcmd__"), &crate::NAME.replace('-', "__"));
    }
    if voice.json {
        let shell = args.shell.to_possible_value();
        let shell = shell.as_ref().map(|value| value.get_name());
        return say_json(&json!({ "shell": shell, "script": script }));
    }
    say(script.trim_end())
}
