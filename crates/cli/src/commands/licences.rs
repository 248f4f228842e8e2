//! `distil-gpu licences`

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use crate::{Voice, say, say_json};

/// Every crate of Cargo.lock: name, version, licence, and `in` where a program contains it. `tools/licences.py` writes
/// it.
const CRATES: &str = include_str!("../licences.tsv");

/// What else the program contains.
const OTHERS: [[&str; 3]; 5] = [
    ["distil-gpu", env!("CARGO_PKG_VERSION"), "Apache-2.0 OR MIT"],
    ["the Rust standard library", "", "Apache-2.0 OR MIT"],
    ["Chart.js (in the report pages)", "4", "MIT"],
    ["@huggingface/tokenizers (in the pages of models of texts)", "0.2.0", "Apache-2.0"],
    ["Fashion-MNIST (the pictures of the default recipe), by Zalando SE", "", "MIT"],
];

/// Arguments of `licences`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  distil-gpu licences
      Which licences the parts of the program are under, on any system")]
pub struct Args {}

/// A part of the program: name, version, licence.
fn parts() -> impl Iterator<Item = [&'static str; 3]> {
    let crates = CRATES.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let part = [fields.next()?, fields.next()?, fields.next()?];
        (fields.next()? == "in").then_some(part)
    });
    OTHERS.into_iter().chain(crates)
}

/// Licences of which one may be chosen, in alphabetical order, so that equal ones read alike.
fn in_order(licence: &str) -> String {
    if licence.contains(['(', ')']) || licence.contains(" AND ") {
        return licence.to_owned();
    }
    let mut choices: Vec<&str> = licence.split(" OR ").collect();
    choices.sort_unstable();
    choices.join(" OR ")
}

pub fn run(_: Args, voice: Voice) -> Result<()> {
    if voice.json {
        let list = parts().map(|[name, version, licence]| {
            json!({ "name": name, "version": version, "licence": in_order(licence) })
        });
        return say_json(&list.collect::<Vec<_>>());
    }
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for [name, version, licence] in parts() {
        let part = format!("{name} {version}").trim_end().to_owned();
        groups.entry(in_order(licence)).or_default().push(part);
    }
    let mut text = String::new();
    for (licence, parts) in groups {
        text += &format!("{licence}:\n{}\n\n", filled(&parts));
    }
    say(text.trim_end())
}

/// Parts in lines of at most 80 columns.
fn filled(parts: &[String]) -> String {
    const WIDTH: usize = 80;
    let mut lines = vec![String::from("   ")];
    for (i, part) in parts.iter().enumerate() {
        let part = if i + 1 < parts.len() { format!(" {part},") } else { format!(" {part}") };
        let line = lines.last().map_or(0, String::len);
        if line > 3 && line + part.len() > WIDTH {
            lines.push(String::from("   "));
        }
        if let Some(line) = lines.last_mut() {
            *line += &part;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_crate_of_cargo_lock_is_listed_with_its_version() {
        let lock = include_str!("../../../../Cargo.lock");
        let field = |block: &str, name: &str| {
            let start = format!("{name} = \"");
            let line = block.lines().find_map(|line| line.strip_prefix(&start))?;
            Some(line.trim_end_matches('"').to_owned())
        };
        let locked: BTreeSet<_> = lock
            .split("[[package]]")
            .filter(|block| field(block, "source").is_some())
            .filter_map(|block| field(block, "name").zip(field(block, "version")))
            .collect();
        let listed: BTreeSet<_> = CRATES
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(name, rest)| Some((name.to_owned(), rest.split_once('\t')?.0.to_owned())))
            .collect();
        assert!(locked.len() > 100);
        let more: Vec<_> = locked.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&locked).collect();
        assert!(
            more.is_empty() && gone.is_empty(),
            "licences.tsv lacks {more:?} and has {gone:?} too many: run tools/licences.py"
        );
    }

    #[test]
    fn no_part_is_copyleft_alone() {
        for [name, _, licence] in parts() {
            assert!(!licence.is_empty(), "{name}");
            let free =
                |choice: &str| !["GPL", "MPL", "EPL", "CDDL"].iter().any(|l| choice.contains(l));
            assert!(licence.split(" OR ").any(free), "{name}: {licence}");
        }
    }

    #[test]
    fn lines_are_no_wider_than_a_terminal() {
        let parts: Vec<_> = (0..50).map(|i| format!("crate-{i} 1.2.{i}")).collect();
        let text = filled(&parts);
        assert!(text.lines().all(|line| line.len() <= 80) && text.lines().count() > 10, "{text}");
        assert_eq!(text.split(',').count(), 50);
    }
}
