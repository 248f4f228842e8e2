//! Downloads from a hub on loopback, and what each that fails is told.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::server::{COMMIT, ID, Manner, Server};
use super::*;
use crate::models::hub::Progress;

const LARGE: [u8; 5000] = [7; 5000];
const CONFIG_JSON: &[u8] = br#"{"model_type": "mlp", "input_size": 2, "hidden_sizes": [], "num_classes": 2,
    "activation": "relu", "dropout": 0, "input_dropout": 0, "input_shape": [2], "class_names": ["a", "b"],
    "normalisation": {"mean": [0], "std": [1]}}"#;
const FILES: &[(&str, &[u8])] = &[
    ("README.md", b"words"),
    ("config.json", CONFIG_JSON),
    ("model.safetensors", &LARGE),
    ("pytorch_model.bin", b"pickled"),
    ("tokenizer.json", b"{\"a\": 1}"),
    ("tokenizer_config.json", b"{\"b\": 2}"),
    ("vocab.txt", b"[PAD]"),
];
const NEEDED: [&str; 4] =
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/// A hub and a cache for it.
struct Home {
    server: Arc<Server>,
    folder: TempDir,
    settings: HubSettings,
}

impl Home {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let server = Server::start(files);
        let folder = tempfile::tempdir().unwrap();
        let settings = HubSettings {
            cache: folder.path().join("hub"),
            endpoint: server.endpoint.clone(),
            token: None,
            offline: false,
        };
        Self { server, folder, settings }
    }

    fn fetch(&self, name: &str) -> Result<Snapshot, Error> {
        name.parse::<HubModel>()?.fetch(&self.settings, &mut |_| {})
    }

    /// What the download of a model is told, with the endpoint and the home shortened.
    fn told(&self, name: &str) -> String {
        let error = self.fetch(name).unwrap_err().to_string();
        let home = self.folder.path().to_str().unwrap();
        error.replace(&self.settings.endpoint, "HUB").replace(home, "HOME")
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_model_needs_is_downloaded_once() {
    let mut home = Home::new(FILES);
    home.settings.token = Some("secret".to_owned());
    let mut seen: HashMap<String, (u64, u64)> = HashMap::new();
    let model: HubModel = format!("hf:{ID}").parse().unwrap();
    let mut progress = |at: Progress<'_>| {
        seen.insert(at.file.to_owned(), (at.bytes, at.total));
    };
    let snapshot = model.fetch(&home.settings, &mut progress).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(names(&snapshot.folder), NEEDED);
    for (name, bytes) in FILES.iter().filter(|(name, _)| NEEDED.contains(name)) {
        assert_eq!(fs::read(snapshot.folder.join(name)).unwrap(), *bytes);
        assert_eq!(seen[*name], (bytes.len() as u64, bytes.len() as u64));
    }
    let asked = home.server.asked();
    let bearer = Some("Bearer secret".to_owned());
    assert!(asked.iter().filter(|a| a.path.starts_with("/owner")).all(|a| a.token == bearer));

    assert_eq!(home.fetch("hf:owner/model@v1").unwrap(), snapshot);
    assert_eq!(home.server.asked().len(), 1, "the revision alone is asked for");
    assert_eq!(home.fetch(&format!("hf:owner/model@{COMMIT}")).unwrap(), snapshot);
    assert!(home.server.asked().is_empty(), "a commit stays what it is");
}

#[test]
fn a_commit_of_which_something_lacks_is_asked_for() {
    let home = Home::new(FILES);
    let pinned = format!("hf:owner/model@{COMMIT}");
    let folder = home.fetch(&pinned).unwrap().folder;
    for name in ["config.json", "model.safetensors"] {
        fs::remove_file(folder.join(name)).unwrap();
        home.server.asked();
        home.fetch(&pinned).unwrap();
        assert!(!home.server.asked().is_empty());
        assert_eq!(names(&folder), NEEDED);
    }
    // Of a model of texts the tokenizer may lack.
    let home =
        Home::new(&[("config.json", br#"{"model_type": "bert"}"#), ("model.safetensors", &LARGE)]);
    home.fetch(&pinned).unwrap();
    home.server.asked();
    home.fetch(&pinned).unwrap();
    assert!(!home.server.asked().is_empty());
}

#[test]
fn shards_come_too() {
    let index = br#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    let files: &[(&str, &[u8])] = &[
        ("1.safetensors", &LARGE),
        ("2.safetensors", &LARGE),
        ("3.safetensors", &LARGE),
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
    ];
    let home = Home::new(files);
    let wanted = ["1.safetensors", "2.safetensors", "config.json", "model.safetensors.index.json"];
    assert_eq!(names(&home.fetch("hf:owner/model").unwrap().folder), wanted);
}

#[test]
fn offline_the_cache_is_used() {
    let mut home = Home::new(FILES);
    home.settings.offline = true;
    let absent = "is not in the cache, and HF_HUB_OFFLINE forbids to download it: unset it";
    assert_eq!(home.told("hf:owner/model"), format!("hf:owner/model: revision main {absent}"));
    home.settings.offline = false;
    let snapshot = home.fetch("hf:owner/model").unwrap();
    home.server.asked();
    home.settings.offline = true;
    assert_eq!(home.fetch("hf:owner/model").unwrap(), snapshot);
    assert_eq!(home.fetch(&format!("hf:owner/model@{COMMIT}")).unwrap(), snapshot);
    assert_eq!(home.told("hf:owner/model@v1"), format!("hf:owner/model@v1: revision v1 {absent}"));
    let weights = fs::canonicalize(snapshot.folder.join("model.safetensors")).unwrap();
    fs::remove_file(weights).unwrap();
    assert_eq!(home.told("hf:owner/model"), format!("hf:owner/model: model.safetensors {absent}"));
    assert!(home.server.asked().is_empty());
}

#[test]
fn refusals_say_what_to_do() {
    let home = Home::new(FILES);
    for (manner, problem) in [
        (
            Manner::Refuses(401, "RepoNotFound"),
            "there is no such model, or it is private: check the name, or set HF_TOKEN to a token \
             that may read it",
        ),
        (
            Manner::Refuses(401, "GatedRepo"),
            "it is gated: accept its terms at HUB/owner/model and set HF_TOKEN to your token",
        ),
        (Manner::Refuses(404, "RevisionNotFound"), "it has no revision main"),
        (Manner::Refuses(503, ""), "HUB answered with status 503: try again later"),
        (
            Manner::RefusesFiles(403, "GatedRepo"),
            "config.json: it is gated: accept its terms at HUB/owner/model and set HF_TOKEN to your \
             token",
        ),
        (Manner::RefusesFiles(404, ""), "config.json: HUB has no such file"),
        (
            Manner::Commit("../../../elsewhere"),
            "HUB does not answer as the hub does: no commit's hash",
        ),
    ] {
        home.server.behave(manner);
        assert_eq!(home.told("hf:owner/model"), format!("hf:owner/model: {problem}"));
    }
    home.server.behave(Manner::IsNoHub);
    let message = home.told("hf:owner/model");
    assert!(message.contains("HUB does not answer as the hub does"), "{message}");
    home.server.behave(Manner::Good);
    assert_eq!(home.told("hf:owner/model@v2"), "hf:owner/model@v2: it has no revision v2");
    let unknown = "there is no such model, or ";
    assert!(home.told("hf:owner/other").starts_with(&format!("hf:owner/other: {unknown}")));
}

#[test]
fn a_token_that_is_not_enough_is_told() {
    let mut home = Home::new(FILES);
    home.settings.token = Some("expired".to_owned());
    home.server.behave(Manner::Refuses(401, ""));
    assert_eq!(
        home.told("hf:owner/model"),
        "hf:owner/model: there is no such model, or your token may not read it: check the name, and \
         that the token is valid"
    );
}

#[test]
fn a_hub_out_of_reach_is_named() {
    let mut home = Home::new(FILES);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    home.settings.endpoint = format!("http://127.0.0.1:{port}");
    let message = home.told("hf:owner/model");
    let start = "hf:owner/model: HUB is out of reach (";
    assert!(message.starts_with(start) && message.contains("refused"), "{message}");
    assert!(message.ends_with("set HF_HUB_OFFLINE=1 to use what is in the cache"), "{message}");
}

#[test]
fn a_download_that_broke_off_goes_on() {
    let home = Home::new(FILES);
    home.server.behave(Manner::BreaksOff);
    let message = home.told("hf:owner/model");
    let start = "hf:owner/model: model.safetensors: the download broke off (";
    assert!(message.starts_with(start), "{message}");
    assert!(message.ends_with("run again, and it goes on from there"), "{message}");
    home.server.behave(Manner::Good);
    home.server.asked();
    let snapshot = home.fetch("hf:owner/model").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), LARGE);
    let asked = home.server.asked();
    assert!(asked.iter().any(|a| a.range == Some((2500, None))), "{asked:?}");
}

#[test]
fn a_file_of_the_wrong_length_is_thrown_away() {
    let home = Home::new(FILES);
    home.server.behave(Manner::BreaksOff);
    home.fetch("hf:owner/model").unwrap_err();
    home.server.behave(Manner::KnowsNoRanges);
    assert_eq!(
        home.told("hf:owner/model"),
        "hf:owner/model: model.safetensors: 7500 bytes came of a file of 5000: run again"
    );
    let snapshot = home.fetch("hf:owner/model").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), LARGE);
}

#[test]
fn a_whole_part_that_was_not_renamed_is_named() {
    let home = Home::new(FILES);
    let blobs = home.settings.cache.join("models--owner--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("etag-of-model-safetensors.part"), LARGE).unwrap();
    assert_eq!(
        home.told("hf:owner/model"),
        "hf:owner/model: model.safetensors: what an earlier download left is unfit: delete \
         HOME/hub/models--owner--model/blobs/*.part"
    );
}

#[test]
fn models_that_cannot_be_used_are_refused() {
    let index = br#"{"weight_map": {"a": "../../x"}}"#;
    for (files, problem) in [
        (&[("model.safetensors", &b""[..])][..], "it has no config.json"),
        (
            &[("config.json", b"{}")],
            "it has neither model.safetensors nor model.safetensors.index.json",
        ),
        (
            &[("config.json", b"{}"), ("pytorch_model.bin", b"")],
            "it has pytorch_model.bin and no model.safetensors: convert it",
        ),
        (
            &[("config.json", b"{}"), ("model.safetensors.index.json", index)],
            "it names \"../../x\", which is no file of its folder",
        ),
    ] {
        let message = Home::new(files).told("hf:owner/model");
        assert!(message.contains(problem), "{message}");
    }
}
