//! `distil-gpu label`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use distil_gpu_engine::run::{self, Labelled, Labelling, Shard};
use distil_gpu_engine::teacher_cache::{LIMIT, RowFormat};
use distil_gpu_engine::words::{counted_thousands, thousands};
use serde_json::json;

use super::{note_all, toml_string};
use crate::{Usage, Voice, note, say, say_json};

/// Arguments of `label`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu label recipe.toml
      Writes what the recipe's teacher answers to its training data into the folder `teacher.cache`, from where `run` and
      `sweep` take it. What is there already is left; what was killed goes on.
  distil-gpu label recipe.toml --numbers int8
      Of a language model, in half of the bytes
  distil-gpu label recipe.toml --shard 3/40
      The third of forty equal shares, for as many processes or machines with one folder; without --shard, as a Slurm array,
      an indexed job of Kubernetes or MPI say
  distil-gpu label recipe.toml --verify 1% --device cpu
      Asks the teacher again about every hundredth example, on another device, and compares")]
pub struct Args {
    /// Recipe whose teacher is asked, about its training data
    recipe: PathBuf,
    /// Set any key of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the answers [default: the recipe's `teacher.cache`]
    #[arg(long)]
    out: Option<PathBuf>,
    /// auto, cpu, gpu or gpu:N (see `distil-gpu devices`)
    #[arg(long, value_parser = super::device)]
    device: Option<String>,
    /// How numbers are stored [default: f16 of language models, f32 of others]
    #[arg(long, value_parser = numbers())]
    numbers: Option<RowFormat>,
    /// Most that what is stored may differ from what the teacher said: KL in nats, or a share of the squares
    #[arg(long, value_name = "ERROR", default_value_t = LIMIT)]
    limit: f64,
    /// Which of how many equal shares to write, from 1 [default: as the launcher's environment says, else all]
    #[arg(long, value_name = "I/N", value_parser = shard, conflicts_with = "verify")]
    shard: Option<Shard>,
    /// How many shares there are, where the environment has a share's number alone, as of Kubernetes
    #[arg(long, value_name = "N", conflicts_with_all = ["shard", "verify"])]
    shards: Option<NonZeroUsize>,
    /// Write nothing: ask again about such a share of the examples, and compare
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    verify: Option<f64>,
}

fn numbers() -> impl TypedValueParser<Value = RowFormat> {
    let names = PossibleValuesParser::new(RowFormat::NAMES.map(|(name, _)| name));
    names.map(|name| RowFormat::named(&name).unwrap_or(RowFormat::F32))
}

/// A share as a person counts, from 1.
fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').and_then(|(number, count)| {
        let (number, count): (usize, NonZeroUsize) = (number.parse().ok()?, count.parse().ok()?);
        (1..=count.get()).contains(&number).then(|| Shard { number: number - 1, count })
    });
    parts.ok_or_else(|| "it must be I/N, the I-th of N shares, as in 3/40".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let share = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    share
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "it must be a share above 0 %, as in 1%".to_owned())
}

/// Variables by which launchers tell a process which of how many it is: its number, what that is counted from, and how many.
const LAUNCHERS: [(&str, Option<&str>, Option<&str>); 4] = [
    ("SLURM_ARRAY_TASK_ID", Some("SLURM_ARRAY_TASK_MIN"), Some("SLURM_ARRAY_TASK_COUNT")),
    ("JOB_COMPLETION_INDEX", None, None),
    ("OMPI_COMM_WORLD_RANK", None, Some("OMPI_COMM_WORLD_SIZE")),
    ("PMI_RANK", None, Some("PMI_SIZE")),
];

/// The share that a launcher's environment tells, and which variable did.
fn of_launcher(
    shards: Option<NonZeroUsize>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(Shard, &'static str)>> {
    let number = |name: &str| -> Result<Option<usize>> {
        let Some(text) = variable(name) else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!(Usage(format!("{name} is {text:?} and no number: give --shard I/N"))),
        }
    };
    for (name, least, count) in LAUNCHERS {
        let Some(own) = number(name)? else { continue };
        let told = count.map_or(Ok(None), number)?.and_then(NonZeroUsize::new);
        let Some(count) = shards.or(told) else {
            bail!(Usage(format!(
                "{name} says that this is number {own}, and nothing says of how many: give --shards N"
            )));
        };
        let least = least.map_or(Ok(None), number)?.unwrap_or(0);
        let Some(number) = own.checked_sub(least).filter(|number| *number < count.get()) else {
            bail!(Usage(format!(
                "{name} is {own}, which is none of {count} counted from {least}: give --shard I/N"
            )));
        };
        return Ok(Some((Shard { number, count }, name)));
    }
    match shards {
        Some(count) => bail!(Usage(format!(
            "--shards {count} goes with a launcher that says which of them this is: give --shard I/{count}"
        ))),
        None => Ok(None),
    }
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let mut sets = args.set;
    sets.extend(args.device.map(|device| format!("device={}", toml_string(&device))));
    let recipe = super::recipe(Some(&args.recipe), &sets, voice)?;
    if args.limit.is_nan() || args.limit < 0.0 {
        bail!(Usage(format!("--limit {}: it must be 0 or more", args.limit)));
    }
    let mut device = super::open(&recipe.device, false, voice)?;
    if let Some(share) = args.verify {
        let (found, limit) = run::verify(&recipe, args.out.as_deref(), share, &mut *device)?;
        if voice.json {
            say_json(&json!({ "difference": found, "limit": limit }))?;
        } else {
            say(format_args!(
                "Asked again about {}: what is kept is {} away, and {:.1e} of a row's largest number at most",
                counted_thousands(found.rows, "row"),
                found.in_words(),
                found.largest,
            ))?;
        }
        if found.error.is_nan() || found.error > limit {
            bail!(
                "the answers that are kept are not the teacher's: {limit:.1e} is the most that was promised"
            );
        }
        return Ok(());
    }
    let shard = match args.shard {
        Some(shard) => Some((shard, "--shard")),
        None => of_launcher(args.shards, &|name| std::env::var(name).ok())?,
    };
    if let Some((Shard { number, count }, source)) = shard
        && voice.progress()
    {
        note(format_args!("Share {} of {count}, by {source}", number + 1));
    }
    let how = Labelling {
        folder: args.out,
        numbers: args.numbers,
        shard: shard.map_or(Shard::WHOLE, |(shard, _)| shard),
        limit: args.limit,
    };
    let mut bar = None;
    let labelled = run::label(&recipe, &how, &mut *device, &mut |done, all| {
        bar.get_or_insert_with(|| super::bar(voice, all, "examples")).inc(done as u64);
    })?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    tell(&labelled, voice)
}

/// What was written.
fn tell(labelled: &Labelled, voice: Voice) -> Result<()> {
    let Labelled { folder, identity, files: [written, there], documents, rows, bytes, .. } =
        labelled;
    note_all(&labelled.notes, voice);
    let of_row = *bytes as f64 / (*rows).max(1) as f64;
    if voice.json {
        return say_json(&json!({
            "folder": folder, "identity": identity, "written": written, "there": there,
            "documents": documents, "rows": rows, "bytes": bytes, "difference": labelled.difference,
        }));
    }
    say(format_args!(
        "{}: {} written, {there} there already; {}, {} of {} numbers in {}",
        folder.display(),
        counted_thousands(*written, "file"),
        counted_thousands(*documents, "document"),
        counted_thousands(*rows, "row"),
        identity.width,
        identity.numbers.name(),
    ))?;
    if *rows == 0 {
        return Ok(());
    }
    say(format_args!(
        "{} bytes: {of_row:.1} a row, {:.3} GB a million",
        thousands(*bytes as usize),
        of_row / 1e3
    ))?;
    say(format_args!(
        "What is stored is {} away from what the teacher said, by {}",
        labelled.difference.in_words(),
        counted_thousands(labelled.difference.rows, "row")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(number: usize, count: usize) -> Shard {
        Shard { number, count: NonZeroUsize::new(count).unwrap() }
    }

    #[test]
    fn shares_are_counted_from_one() {
        assert_eq!(shard("3/40"), Ok(share(2, 40)));
        assert_eq!(shard("40/40"), Ok(share(39, 40)));
        for wrong in ["0/40", "41/40", "3", "3/", "/40", "a/b", "-1/4", "1/0"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (percent("1%"), percent("100"), percent("0.5%")),
            (Ok(0.01), Ok(1.0), Ok(0.005))
        );
        for wrong in ["0%", "101%", "nan", "%", "-1%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn launchers_tell_shares() {
        let told = |set: &[(&str, &str)], shards: Option<usize>| {
            let set: Vec<(String, String)> =
                set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let variable = move |name: &str| {
                set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            };
            of_launcher(shards.and_then(NonZeroUsize::new), &variable)
                .map_err(|error| error.to_string())
        };
        assert_eq!(told(&[], None), Ok(None));
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "10"),
        ];
        assert_eq!(told(&slurm, None), Ok(Some((share(2, 10), "SLURM_ARRAY_TASK_ID"))));
        let kubernetes = [("JOB_COMPLETION_INDEX", "0")];
        assert_eq!(told(&kubernetes, Some(4)), Ok(Some((share(0, 4), "JOB_COMPLETION_INDEX"))));
        assert!(told(&kubernetes, None).unwrap_err().contains("--shards N"));
        let mpi = [("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert_eq!(told(&mpi, None), Ok(Some((share(3, 4), "OMPI_COMM_WORLD_RANK"))));
        let pmi = [("PMI_RANK", "1"), ("PMI_SIZE", "2")];
        assert_eq!(told(&pmi, None), Ok(Some((share(1, 2), "PMI_RANK"))));
        assert!(
            told(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")], None).unwrap_err().contains("none of 2")
        );
        assert!(told(&[("PMI_RANK", "x")], None).unwrap_err().contains("no number"));
        assert!(told(&[], Some(4)).unwrap_err().contains("--shard I/4"));
    }
}
