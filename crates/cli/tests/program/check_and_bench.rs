//! `check`, `run --verify` and `bench`: what they measure, and what they say to input that is wrong.

use serde_json::Value;

use super::{Home, say};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

/// All of a check's findings are within their limits, and every kernel and family is among them.
#[track_caller]
fn passed(report: &Value) {
    assert_eq!(report["ok"], true, "{report:#}");
    for row in report["rows"].as_array().unwrap() {
        let [results, error, limit] =
            ["results", "error", "limit"].map(|key| row[key].as_f64().unwrap());
        assert!(row["ok"] == true && results >= 1.0 && error <= limit, "{row}");
    }
    let names = names(&report["rows"]);
    for name in [
        "add_to",
        "distill_loss",
        "elementwise",
        "gather",
        "grad_norm",
        "layer_norm",
        "matmul",
        "max_norm",
        "optimizer",
        "pointwise_loss",
        "reduce",
        "softmax",
        "training: MLP, relu and dropout",
        "training: MLP, gelu",
        "training: MLP, tanh",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[test]
fn check_holds_the_cpu_path_and_a_driver_to_the_oracle() {
    let home = Home::new();
    for device in ["cpu", &home.ready_gpu()] {
        let found = json(&home.done(&format!("check --device {device} --json")));
        assert_eq!(found["ok"], true);
        passed(&found["devices"][0]);
    }
    let shown = home.done("check --device cpu");
    for wanted in ["largest error", "limit", "matmul", "ok", "computes right: all"] {
        assert!(shown.contains(wanted), "{shown}");
    }
    assert!(!shown.contains("OFF"), "{shown}");
}

#[test]
fn check_takes_one_kernel() {
    let home = Home::new();
    let found = json(&home.done("check --device cpu --only softmax --json"));
    assert_eq!(names(&found["devices"][0]["rows"]), ["softmax"]);
    assert_eq!(found["ok"], true);
    assert!(found["devices"][0]["rows"][0]["results"].as_u64() > Some(1), "{found:#}");
}

#[test]
fn check_refuses_what_is_not_there() {
    let home = Home::new();
    home.refused(
        "check --device cpu --only sofmax",
        &["`sofmax` is no kernel: did you mean `softmax`?", "the kernels are add_to, "],
    );
    home.refused("check --device gpu:999", &["there is no gpu:999"]);
    for wrong in ["check --all --device cpu", "check --device cuda"] {
        let said = say(home.command(wrong));
        assert_eq!(said.code, Some(2), "{said:?}");
    }
}

#[test]
fn a_run_verifies_itself_first() {
    let home = Home::new();
    let said = say(home.command("run tiny.toml --verify --out verified"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("Verified: ") && said.err.contains("computes right"), "{said:?}");
    assert!(home.path("verified/report.json").exists());
    home.refused("run none.toml --verify", &["none.toml"]);
}

#[test]
fn bench_measures_both_paths() {
    let home = Home::new();
    let found = json(&home.done("bench tiny.toml --device cpu --seconds 0.02 --json"));
    assert_eq!(found["recipe"], "tiny");
    let report = &found["devices"][0];
    assert_eq!(found["devices"].as_array().unwrap().len(), 1);
    assert_eq!(report["backend"], "cpu");
    let positive = |row: &Value, key: &str| {
        let value = row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
        assert!(value > 0.0, "{key} of {row}");
    };
    for key in ["gflops", "gigabytes_per_second"] {
        positive(&report["roofs"], key);
    }
    for key in ["open_ms", "load_ms", "first_step_ms"] {
        positive(&report["startup"], key);
    }
    assert_eq!(
        names(&report["throughput"]),
        [
            "training: student alone",
            "training: student distilled",
            "forward: teacher",
            "forward: teacher",
            "forward: student",
            "forward: student",
        ]
    );
    for row in report["throughput"].as_array().unwrap() {
        for key in ["rows", "milliseconds", "examples_per_second", "gflops"] {
            positive(row, key);
        }
        // The same figure, said twice.
        let [rows, rate, ms] =
            ["rows", "examples_per_second", "milliseconds"].map(|key| row[key].as_f64().unwrap());
        assert!((rows / ms * 1e3 / rate - 1.0).abs() < 1e-9, "{row}");
    }
    let kernels = report["kernels"].as_array().unwrap();
    let times: Vec<f64> = kernels.iter().map(|k| k["microseconds"].as_f64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for kernel in ["matmul", "distill_loss", "optimizer"] {
        assert!(
            kernels.iter().any(|k| k["name"].as_str().unwrap().starts_with(kernel)),
            "{kernel} is not in {kernels:?}"
        );
    }
}

#[test]
fn bench_times_one_kernel() {
    let home = Home::new();
    let bench = "bench tiny.toml --device cpu --seconds 0.02";
    home.write("before.json", home.done(&format!("{bench} --json")));
    let found = json(
        &home.done(&format!("{bench} --only matmul --json --baseline before.json --slower 1000")),
    );
    let kernels = names(&found["devices"][0]["kernels"]);
    assert!(!kernels.is_empty(), "{found:#}");
    assert!(kernels.iter().all(|name| name.starts_with("matmul")), "{kernels:?}");
    assert_eq!(found["devices"][0]["throughput"], Value::Array(Vec::new()));
    assert_eq!(names(&found["comparisons"][0]["changes"]).len(), kernels.len());
    let shown = home.done(&format!("{bench} --only matmul"));
    assert!(shown.contains("matmul") && !shown.contains("batch of"), "{shown}");
    home.refused(
        &format!("{bench} --only matmull"),
        &["`matmull` is no kernel of this recipe's distillation step: did you mean `matmul`?"],
    );
    // One that there is, and that this recipe does not run.
    home.refused(
        &format!("{bench} --only rotary"),
        &["`rotary` is no kernel of this", "the kernels are "],
    );
}

#[test]
fn bench_compares_with_an_earlier_one() {
    let home = Home::new();
    let bench = "bench tiny.toml --device cpu --seconds 0.02";
    let mut before = json(&home.done(&format!("{bench} --json")));
    home.write("before.json", before.to_string());
    let same = format!("{bench} --baseline before.json --slower 1000 --json");
    let changes = json(&home.done(&same))["comparisons"][0]["changes"].clone();
    let [runs, kernels] =
        ["throughput", "kernels"].map(|part| before["devices"][0][part].as_array().unwrap().len());
    assert_eq!(changes.as_array().unwrap().len(), runs + kernels);

    // Long ago everything was a million times as fast.
    for (part, key) in [("throughput", "milliseconds"), ("kernels", "microseconds")] {
        for row in before["devices"][0][part].as_array_mut().unwrap() {
            row[key] = Value::from(row[key].as_f64().unwrap() / 1e6);
        }
    }
    home.write("before.json", before.to_string());
    let said = say(home.command(&format!("{bench} --baseline before.json")));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("time now / then"), "{said:?}");
    assert!(said.err.contains("slower than in the baseline: CPU"), "{said:?}");

    before["devices"][0]["device"] = Value::from("another");
    home.write("before.json", before.to_string());
    let compared = format!("{bench} --baseline before.json");
    home.refused(&compared, &["the baseline is of other devices"]);
    home.write("before.json", "[]");
    home.refused(&compared, &["before.json", "not what `distil-gpu bench --json` printed"]);
    home.refused(&format!("{bench} --baseline none.json"), &["none.json"]);
}

#[test]
fn bench_shows_a_gpu_beside_the_cpu() {
    let home = Home::new();
    let shown = home.done("bench tiny.toml --device gpu --seconds 0.02");
    for wanted in ["training: student distilled, batch of 32", "roof: copy", "CPU (", "GFLOP/s"] {
        assert!(shown.contains(wanted), "{wanted:?} is not in {shown}");
    }
    assert!(shown.contains("kernel by kernel") && shown.contains("matmul"), "{shown}");
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    let home = Home::new();
    home.refused("bench none.toml", &["none.toml"]);
    home.refused("bench tiny.toml --device gpu:999", &["there is no gpu:999"]);
    home.refused("bench tiny.toml --set train.batsh=3", &["batsh"]);
    for wrong in ["bench --seconds -1", "bench tiny.toml --device tpu"] {
        let said = say(home.command(wrong));
        assert_eq!(said.code, Some(2), "{said:?}");
    }
}
