//! What names and variables mean.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::*;

#[test]
fn names_of_models() {
    for text in ["hf:owner/model", "hf:o-1/m_2.x@main", "hf:o/m@refs/pr/1"] {
        assert_eq!(text.parse::<HubModel>().unwrap().to_string(), text);
    }
    let model: HubModel = "hf:o/m@v1".parse().unwrap();
    assert_eq!((&*model.id, model.revision.as_deref()), ("o/m", Some("v1")));
    for text in ["o/m", "hf:", "hf:m", "hf:o/m/x", "hf:../m", "hf:o/..", "hf:o/m@", "hf:o/m@a/../b"]
    {
        let error = text.parse::<HubModel>().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{text}: a model on the hub is hf:OWNER/NAME")),
            "{error}"
        );
    }
}

#[test]
fn settings_follow_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let read = |pairs: &[(&str, &str)], home: Option<&str>| {
        let pairs: HashMap<_, _> = pairs.iter().copied().collect();
        let variable = |name: &str| pairs.get(name).map(|value| value.to_string());
        HubSettings::from_variables(variable, home.map(PathBuf::from))
    };
    let plain = read(&[], Some("/home/a")).unwrap();
    assert_eq!(plain.cache, Path::new("/home/a/.cache/huggingface/hub"));
    assert_eq!(
        (&*plain.endpoint, plain.token, plain.offline),
        ("https://huggingface.co", None, false)
    );
    let shared = read(&[("XDG_CACHE_HOME", "/x")], Some("/home/a")).unwrap();
    assert_eq!(shared.cache, Path::new("/x/huggingface/hub"));
    fs::write(folder.path().join("token"), "stored\n").unwrap();
    let path = folder.path().to_str().unwrap();
    let told = [("HF_HOME", path), ("HF_ENDPOINT", "http://h:1/"), ("HF_HUB_OFFLINE", "1")];
    let told = read(&told, None).unwrap();
    assert_eq!(told.cache, folder.path().join("hub"));
    assert_eq!((&*told.endpoint, told.offline), ("http://h:1", true));
    assert_eq!(told.token.as_deref(), Some("stored"));
    let more = [("HF_HOME", path), ("HF_TOKEN", "mine"), ("HF_HUB_CACHE", "/c")];
    let more = read(&more, None).unwrap();
    assert_eq!((more.token.as_deref(), &*more.cache), (Some("mine"), Path::new("/c")));
    assert!(read(&[], None).err().unwrap().to_string().contains("set HF_HOME"));
}
