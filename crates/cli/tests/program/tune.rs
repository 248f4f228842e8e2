//! `tune`, and what runs do with its findings.

use serde_json::Value;

use super::{CACHE, Home};

/// Recipes whose models are as small as products of matrices can be.
const SMALL: &str = "--set teacher.model.hidden_sizes=[4] --set student.model.hidden_sizes=[4]";

#[test]
fn what_was_tuned_is_kept_and_used() {
    let home = Home::new();
    let device = home.quick_gpu();
    let tune = format!("tune tiny.toml {SMALL} --device {device}");
    let found: Value = serde_json::from_str(&home.done(&format!("{tune} --json"))).unwrap();
    let findings = found["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        let chosen = finding["chosen"].as_str().unwrap();
        assert!(finding["microseconds"][chosen].as_f64().unwrap() > 0.0, "{finding}");
        assert!(finding.get("refused").is_none(), "{finding}");
    }
    let cache = home.path(CACHE);
    assert!(found["cache"].as_str().unwrap().starts_with(cache.to_str().unwrap()), "{found}");
    let shown = home.done(&tune);
    assert!(shown.contains("as fast as the default") && shown.contains("Kept in"), "{shown}");

    let run = format!("run tiny.toml {SMALL} --device {device} --set train.epochs=1 --quiet");
    home.done(&format!("{run} --out tuned"));
    home.done(&format!("{run} --out plain --no-tune"));
    let error = |folder: &str| home.json(folder)["arms"]["teacher"]["errors"].as_u64().unwrap();
    assert!(error("tuned/report.json").abs_diff(error("plain/report.json")) <= 2);
}

#[test]
fn the_processor_has_no_variants() {
    Home::new().refused("tune --device cpu", &["CPU", "there is nothing to tune"]);
}
