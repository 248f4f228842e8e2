//! Downloads from a hub on loopback, and what each that fails is told.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::server::{COMMIT, ID, Manner, Server, plain_tag};
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

/// As the hub has it: of large files the SHA-256.
fn etag(file: &str, bytes: &[u8]) -> String {
    if file.ends_with(".safetensors") {
        let hash = digest::digest(&digest::SHA256, bytes);
        return hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    }
    plain_tag(file, bytes)
}

/// A hub and a cache for it.
struct Home {
    server: Arc<Server>,
    folder: TempDir,
    settings: HubSettings,
}

impl Home {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let server = Server::start(files, etag);
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

/// Every path under a folder but locks, folders with a slash behind.
fn tree(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if name == ".locks" {
            continue;
        }
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            paths.push(format!("{name}/"));
            paths.extend(tree(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            paths.push(name);
        }
    }
    paths
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
    assert!(asked.iter().all(|a| a.token == bearer));
    let heads = asked.iter().filter(|a| a.method == "HEAD").count();
    assert_eq!(
        (heads, asked.len()),
        (4, 1 + 4 + 4 + 1),
        "a list, four files, one of them elsewhere"
    );

    assert_eq!(home.fetch("hf:owner/model@v1").unwrap(), snapshot);
    assert_eq!(home.server.asked().len(), 1, "the revision alone is asked for");
    assert_eq!(home.fetch(&format!("hf:owner/model@{COMMIT}")).unwrap(), snapshot);
    assert!(home.server.asked().is_empty(), "a commit stays what it is");
}

#[test]
fn the_cache_is_laid_out_as_hugging_faces_tools_do_it() {
    let home = Home::new(FILES);
    let folder = home.fetch("hf:owner/model@refs/pr/1").unwrap().folder;
    let files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let model = home.settings.cache.join("models--owner--model");
    let mut blobs =
        files.map(|file| etag(file, FILES.iter().find(|(name, _)| *name == file).unwrap().1));
    blobs.sort();
    assert_eq!(names(&model.join("blobs")), blobs);
    assert_eq!(fs::read_to_string(model.join("refs/refs/pr/1")).unwrap(), COMMIT);
    let lacking = [
        "added_tokens.json",
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
    ];
    assert_eq!(names(&model.join(".no_exist").join(COMMIT)), lacking);
    assert_eq!(folder, model.join("snapshots").join(COMMIT));
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(folder.join("config.json")).unwrap(),
        Path::new("../../blobs/etag-of-config-json")
    );
}

#[test]
fn a_cache_that_hugging_faces_tools_made_is_read() {
    let mut home = Home::new(FILES);
    let model = home.settings.cache.join("models--owner--model");
    let folder = model.join("snapshots").join(COMMIT);
    for part in ["blobs", "refs", ".no_exist"] {
        fs::create_dir_all(model.join(part)).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in FILES.iter().filter(|(name, _)| NEEDED.contains(name)) {
        let blob = etag(name, bytes);
        fs::write(model.join("blobs").join(&blob), bytes).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), folder.join(name)).unwrap();
        #[cfg(not(unix))]
        fs::copy(model.join("blobs").join(&blob), folder.join(name)).unwrap();
    }
    home.settings.offline = true;
    let snapshot = home.fetch("hf:owner/model").unwrap();
    assert_eq!((&*snapshot.folder, &*snapshot.commit), (&*folder, COMMIT));
    home.settings.offline = false;
    let before = tree(&folder);
    assert_eq!(home.fetch("hf:owner/model").unwrap(), snapshot);
    assert_eq!(home.server.asked().len(), 1, "the revision alone is asked for");
    assert_eq!(tree(&folder), before);

    // A commit that is there in part, without the notes of what it lacks, where no hub answers.
    fs::remove_dir_all(model.join(".no_exist")).unwrap();
    home.server.behave(Manner::Refuses(503, ""));
    assert_eq!(home.fetch(&format!("hf:owner/model@{COMMIT}")).unwrap(), snapshot);
}

#[test]
fn parts_of_sentence_transformers_come_too() {
    let modules = br#"[{"idx": 0, "path": "", "type": "a"}, {"idx": 1, "path": "1_Pooling", "type": "b"},
        {"idx": 2, "path": "2_Dense", "type": "c"}, {"idx": 3, "path": "3_Normalize", "type": "d"}]"#;
    let files: &[(&str, &[u8])] = &[
        ("1_Pooling/config.json", b"{}"),
        ("2_Dense/config.json", b"{}"),
        ("2_Dense/model.safetensors", &LARGE),
        ("config.json", b"{}"),
        ("model.safetensors", &LARGE),
        ("modules.json", modules),
        ("other/config.json", b"{}"),
    ];
    let home = Home::new(files);
    let folder = home.fetch("hf:owner/model").unwrap().folder;
    for (name, bytes) in files.iter().filter(|(name, _)| !name.starts_with("other")) {
        assert_eq!(fs::read(folder.join(name)).unwrap(), *bytes);
    }
    assert!(!folder.join("other").exists());
    let outside = br#"[{"idx": 0, "path": "../../elsewhere"}]"#;
    let files: &[(&str, &[u8])] =
        &[("config.json", b"{}"), ("model.safetensors", &LARGE), ("modules.json", outside)];
    let message = Home::new(files).told("hf:owner/model");
    assert!(
        message.ends_with("it names \"../../elsewhere\", which is no folder of it"),
        "{message}"
    );
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
            "HUB does not answer as the hub does (no commit's hash)",
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
    for (manner, cause) in [(Manner::BreaksOff, ""), (Manner::FallsSilent, "timeout")] {
        let home = Home::new(FILES);
        home.server.behave(manner);
        let message = home.told("hf:owner/model");
        let start = "hf:owner/model: model.safetensors: the download broke off (";
        assert!(message.starts_with(start) && message.contains(cause), "{message}");
        assert!(message.ends_with("run again, and it goes on from there"), "{message}");
        home.server.behave(Manner::Good);
        home.server.asked();
        let snapshot = home.fetch("hf:owner/model").unwrap();
        assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), LARGE);
        let asked = home.server.asked();
        assert!(asked.iter().any(|a| a.range == Some(2500)), "{asked:?}");
    }
}

#[test]
fn a_hub_that_cannot_go_on_begins_again() {
    for manner in [Manner::KnowsNoRanges, Manner::LacksRanges] {
        let home = Home::new(FILES);
        home.server.behave(Manner::BreaksOff);
        home.fetch("hf:owner/model").unwrap_err();
        home.server.behave(manner);
        let snapshot = home.fetch("hf:owner/model").unwrap();
        assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), LARGE);
    }
}

#[test]
fn what_an_earlier_download_left_is_used_or_thrown_away() {
    let weights = etag("model.safetensors", &LARGE);
    for (left, problem) in [
        (LARGE.to_vec(), None),
        (vec![7; 6000], None),
        (vec![], None),
        (vec![8; 5000], Some("what came is damaged: its SHA-256 is ")),
        (vec![8; 100], Some("what came is damaged: its SHA-256 is ")),
    ] {
        let home = Home::new(FILES);
        let blobs = home.settings.cache.join("models--owner--model/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{weights}.incomplete")), left).unwrap();
        if let Some(problem) = problem {
            let message = home.told("hf:owner/model");
            let start = format!("hf:owner/model: model.safetensors: {problem}");
            assert!(message.starts_with(&start) && message.ends_with(": run again"), "{message}");
        }
        let snapshot = home.fetch("hf:owner/model").unwrap();
        assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), LARGE);
        assert!(names(&blobs).iter().all(|name| !name.ends_with(".incomplete")));
    }
}

#[test]
fn a_damaged_blob_is_made_again_where_its_hash_is_known() {
    let home = Home::new(FILES);
    let folder = home.fetch("hf:owner/model").unwrap().folder;
    let blobs = home.settings.cache.join("models--owner--model/blobs");
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    fs::write(blobs.join(etag("model.safetensors", &LARGE)), b"cut").unwrap();
    home.fetch("hf:owner/model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), LARGE);
    fs::remove_file(folder.join("config.json")).unwrap();
    fs::write(blobs.join("etag-of-config-json"), b"cut").unwrap();
    assert_eq!(
        home.told("hf:owner/model"),
        format!(
            "hf:owner/model: config.json: HOME/hub/models--owner--model/blobs/etag-of-config-json has \
             3 bytes, and the hub's file {}: delete it",
            CONFIG_JSON.len()
        )
    );
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let other = Server::start(FILES, etag);
    let mut home = Home::new(FILES);
    home.settings.token = Some("secret".to_owned());
    home.server.behave(Manner::Elsewhere(other.endpoint.clone()));
    let folder = home.fetch("hf:owner/model").unwrap().folder;
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), LARGE);
    let asked = other.asked();
    assert!(asked.iter().any(|a| a.path == "/elsewhere/model.safetensors"), "{asked:?}");
    assert!(asked.iter().all(|a| a.token.is_none()), "{asked:?}");
    // The same when a download goes on, which asks for a range.
    home.settings.cache = home.folder.path().join("other");
    other.behave(Manner::BreaksOff);
    home.fetch("hf:owner/model").unwrap_err();
    other.behave(Manner::Good);
    home.fetch("hf:owner/model").unwrap();
    let asked = other.asked();
    assert!(asked.iter().any(|a| a.range == Some(2500)), "{asked:?}");
    assert!(asked.iter().all(|a| a.token.is_none()), "{asked:?}");
    let bearer = Some("Bearer secret".to_owned());
    assert!(home.server.asked().iter().all(|a| a.token == bearer));
}

#[test]
fn a_token_that_no_header_can_hold_is_not_shown() {
    let mut home = Home::new(FILES);
    home.settings.token = Some("sec\nret".to_owned());
    let message = home.told("hf:owner/model");
    assert!(
        message.contains("your token has characters") && !message.contains("ret:"),
        "{message}"
    );
}

#[test]
fn nothing_that_the_hub_says_leads_out_of_the_cache() {
    for manner in [
        Manner::Etag("../../../../outside"),
        Manner::Etag("/outside"),
        Manner::Etag("..\\outside"),
        Manner::Etag(".."),
        Manner::Etag(""),
        Manner::Etag("a.incomplete"),
        Manner::CommitOfFiles("../../../../outside"),
        Manner::CommitOfFiles("76543210fedcba9876543210fedcba9876543210"),
        Manner::Commit("../../../elsewhere"),
        Manner::Commit(""),
        Manner::Commit("76543210fedcba9876543210fedcba987654321/"),
    ] {
        let home = Home::new(FILES);
        home.server.behave(manner.clone());
        let message = home.told("hf:owner/model");
        assert!(message.contains("HUB does not answer as the hub does ("), "{manner:?}: {message}");
        let allowed = ["hub/", "hub/models--owner--model/"];
        let tree = tree(home.folder.path());
        let inside =
            |path: &&String| !allowed.contains(&path.as_str()) && !path.contains("/.no_exist/");
        assert_eq!(tree.iter().find(inside), None, "{manner:?}");
    }
}

#[test]
fn files_with_names_that_lead_elsewhere_are_refused() {
    let index = br#"{"weight_map": {"a": "a?b.safetensors"}}"#;
    let files: &[(&str, &[u8])] =
        &[("config.json", b"{}"), ("model.safetensors.index.json", index)];
    let message = Home::new(files).told("hf:owner/model");
    assert!(
        message.ends_with("a?b.safetensors: no name that a model's file may have"),
        "{message}"
    );
}

#[test]
fn a_pinned_commit_is_no_other() {
    let home = Home::new(FILES);
    home.server.behave(Manner::Commit("76543210fedcba9876543210fedcba9876543210"));
    let message = home.told(&format!("hf:owner/model@{COMMIT}"));
    assert!(message.ends_with("(another commit than was asked for)"), "{message}");
}

#[test]
fn sizes_are_held_to_what_comes() {
    for (manner, problem) in [
        (
            Manner::OtherLength,
            "HUB does not answer as the hub does (a file of 5000 bytes that has another length)",
        ),
        (Manner::SendsMore, "more than its 5000 bytes came: run again"),
        (Manner::OtherBytes, "what came is damaged: its SHA-256 is "),
        (
            Manner::Size("5001"),
            "HUB does not answer as the hub does (another part of the file than was asked for)",
        ),
        (
            Manner::Size("18446744073709551616"),
            "HUB does not answer as the hub does (a file without its size)",
        ),
        (Manner::Size("-1"), "HUB does not answer as the hub does (a file without its size)"),
        (
            Manner::Size("18446744073709551615"),
            "18446744073709551615 bytes, and at most 1099511627776 are taken",
        ),
    ] {
        let home = Home::new(FILES);
        home.server.behave(manner.clone());
        let message = home.told("hf:owner/model");
        let start = format!("hf:owner/model: model.safetensors: {problem}");
        assert!(message.starts_with(&start), "{manner:?}: {message}");
        home.server.behave(Manner::Good);
        let folder = home.fetch("hf:owner/model").unwrap().folder;
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), LARGE, "{manner:?}");
    }
    let home = Home::new(FILES);
    home.server.behave(Manner::BreaksOff);
    home.fetch("hf:owner/model").unwrap_err();
    home.server.behave(Manner::SendsAnotherPart);
    let message = home.told("hf:owner/model");
    assert!(message.ends_with("(another part of the file than was asked for)"), "{message}");
}

#[test]
fn packed_answers_and_endless_ones_are_refused() {
    for (manner, problem) in [
        (Manner::Packs, "config.json: HUB does not answer as the hub does (the encoding \"gzip\")"),
        (
            Manner::RedirectsForEver,
            "HUB does not answer as the hub does (more than 10 redirects in a row)",
        ),
        (
            Manner::ListsForEver,
            "HUB does not answer as the hub does (a list of files of more than 32 MiB)",
        ),
        (
            Manner::Redirects("file:///etc/passwd"),
            "config.json: HUB does not answer as the hub does (a redirect to \"file:///etc/passwd\")",
        ),
    ] {
        let home = Home::new(FILES);
        home.server.behave(manner);
        assert_eq!(home.told("hf:owner/model"), format!("hf:owner/model: {problem}"));
        assert!(home.server.asked().len() <= 11 + 1);
    }
}

#[test]
fn a_busy_hub_is_asked_again_when_it_says() {
    let home = Home::new(FILES);
    for status in [429, 503] {
        home.server.behave(Manner::Busy(status, "0", 3));
        home.fetch("hf:owner/model").unwrap();
        for (after, problem) in [
            ("3600", "try again in 3600 seconds, as it asks"),
            ("0", "try again later"),
            ("99999999999999999999", "try again later"),
            ("Fri, 31 Dec 2999 23:59:59 GMT", "try again later"),
        ] {
            home.server.behave(Manner::Busy(status, after, 100));
            home.server.asked();
            let problem = format!("hf:owner/model: HUB answered with status {status}: {problem}");
            assert_eq!(home.told("hf:owner/model"), problem);
            assert_eq!(home.server.asked().len(), if after == "0" { 4 } else { 1 });
        }
    }
}

#[test]
fn two_programs_do_not_write_one_file() {
    let home = Home::new(FILES);
    let locks = home.settings.cache.join(".locks/models--owner--model");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join("etag-of-config-json.lock")).unwrap();
    lock.lock().unwrap();
    let path = "HOME/hub/.locks/models--owner--model/etag-of-config-json.lock";
    assert_eq!(
        home.told("hf:owner/model"),
        format!(
            "hf:owner/model: another program is downloading it, and gets nothing (it holds {path}): end \
             it, or run again later"
        )
    );
    // When the other is done, its file is there.
    let blob = home.settings.cache.join("models--owner--model/blobs/etag-of-config-json");
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        fs::write(blob, CONFIG_JSON).unwrap();
        drop(lock);
    });
    home.server.asked();
    home.fetch("hf:owner/model").unwrap();
    other.join().unwrap();
    let asked = home.server.asked();
    let config =
        |a: &&super::server::Request| a.path.ends_with("/config.json") && a.method == "GET";
    assert_eq!(asked.iter().filter(config).count(), 0, "{asked:?}");
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
