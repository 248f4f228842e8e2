//! Students that learn from what they write themselves, and what a teacher writes for them.

use serde_json::Value;

use super::Home;
use super::interrupted::killed_and_resumed;
use super::label::home;

const OWN: &str = "--set distil.divergence=\"reverse-kl\" --set distil.on_policy={fraction=0.5}";

/// The lines of what a run's student wrote, without times.
fn written(home: &Home, run: &str) -> Vec<Value> {
    let text = String::from_utf8(home.read(&format!("{run}/written.jsonl"))).unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(|line| line["seconds"] = 0.into());
    lines
}

fn weights(home: &Home, model: &str) -> Vec<u8> {
    home.read(&format!("{model}/model.safetensors"))
}

#[test]
fn a_student_learns_from_what_it_writes() {
    let home = home(200);
    home.done(&format!("run next.toml -q --out own {OWN}"));
    let given = "--set distil.divergence=\"reverse-kl\"";
    home.done(&format!("run next.toml -q --out given {given}"));
    // The student alone knows nothing of it.
    assert!(weights(&home, "own/control") == weights(&home, "given/control"));
    assert!(weights(&home, "own/student") != weights(&home, "given/student"));
    assert!(!home.path("given/written.jsonl").exists());
    let report = home.json("own/report.json");
    for arm in ["control", "distilled"] {
        let of = |key: &str| report["arms"][arm][key].as_f64().unwrap();
        assert!(of("own_kl") > 0.0 && (0.0..=1.0).contains(&of("own_agreement")), "{report}");
    }
    let lines = written(&home, "own");
    let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    let all = report["arms"]["distilled"]["steps"].as_u64().unwrap();
    assert!(steps.is_sorted_by(|a, b| a < b) && steps.iter().all(|step| (1..=all).contains(step)));
    assert!((all / 4..=3 * all / 4).contains(&(steps.len() as u64)), "{steps:?} of {all}");
    assert!(lines.iter().all(|line| line["arm"] == "distilled" && line["own"] != ""));
    let page = String::from_utf8(home.read("own/report.html")).unwrap();
    assert!(page.contains("What the student wrote") && page.contains("same token on own texts"));
    // No step, no difference.
    home.done(&format!(
        "run next.toml -q --out none {given} --set distil.on_policy={{fraction=0}}"
    ));
    assert!(weights(&home, "none/student") == weights(&home, "given/student"));
    // What is written is the recipe's to say.
    home.done(&format!("run next.toml -q --out short {OWN} --set distil.on_policy.max_tokens=2"));
    let short = written(&home, "short");
    let words = |line: &Value| line["own"].as_str().unwrap().split_whitespace().count();
    assert!(short.iter().all(|line| words(line) <= 2), "{short:?}");
    assert!(lines.iter().any(|line| words(line) > 2), "{lines:?}");
}

/// Where both are one model, they agree on every text, and nothing is learnt.
#[test]
fn a_student_that_is_its_teacher_stays_so() {
    let home = home(60);
    let same = "--set student.model={type=\"decoder\",from=\"teacher\",max_length=32} --set distil.alpha=1 \
                --set train.optimizer={name=\"sgd\",lr=0.1}";
    for (out, kind) in [("reverse", "reverse-kl"), ("forward", "forward-kl")] {
        home.done(&format!(
            "run next.toml -q --out {out} {same} --set distil.on_policy={{fraction=1}} --set distil.divergence={kind:?}"
        ));
        let report = home.json(&format!("{out}/report.json"));
        assert_eq!(report["arms"]["distilled"]["own_agreement"], 1.0);
        let [ours, theirs] = [format!("{out}/student"), "teacher".to_owned()]
            .map(|model| super::tensor(&weights(&home, &model), "model.norm.weight"));
        assert_eq!(ours, theirs, "{kind}");
    }
}

#[test]
fn a_killed_run_writes_the_same_texts() {
    let home = home(120);
    let command = format!("run next.toml --device cpu {OWN} --set train.epochs=8");
    killed_and_resumed(&home, &command, &[0, 31, 7, 113, 59]);
    for run in ["killed", "between"] {
        assert_eq!(written(&home, run), written(&home, "whole"), "{run}");
    }
    home.done(&format!("{command} -q --out killed --force --set distil.on_policy.fraction=0"));
    assert!(!home.path("killed/written.jsonl").exists());
}

#[test]
fn what_cannot_be_is_said() {
    let home = home(20);
    home.done("label next.toml -q --out answers");
    let run = format!("run next.toml --out x {OWN}");
    home.refused(
        &format!("{run} --set teacher.cache=\"answers\""),
        &[
            "the teacher's answers to given texts",
            "leave out `teacher.cache` or `distil.on_policy`",
        ],
    );
    home.refused(
        "run --device cpu --out x --set distil.on_policy={fraction=0.5}",
        &["for students that write", "causal-lm"],
    );
    for (key, problem) in [
        ("fraction=2", "a number from 0 to 1"),
        ("fractoin=0.5", "did you mean `fraction`"),
        ("max_tokens=0", "a whole number of at least 1"),
        ("top_p=0", "a number above 0, up to 1"),
        ("top_k=-1", "a whole number of at least 0"),
        ("temperature=0", "a number from 0.01"),
    ] {
        home.refused(
            &format!("run next.toml --out x --set distil.on_policy={{{key}}}"),
            &[problem],
        );
    }
    assert!(!home.path("x").exists());
}

/// As a data step: the prompts of documents with the teacher's own answers, which a recipe reads.
#[test]
fn a_teacher_writes_what_students_are_taught() {
    let home = home(60);
    let row = |at: usize| {
        let prompt = format!("{at} {} {}", char::from(b'a' + (at % 9) as u8), "x y ");
        serde_json::json!({ "prompt": prompt, "completion": "z" }).to_string() + "\n"
    };
    home.write("asked.jsonl", (0..21).map(row).collect::<String>());
    let write =
        "generate teacher --device cpu --data asked.jsonl --max-tokens 6 --rows 4 --temperature 1";
    home.done(&format!("{write} -q --to taught.jsonl"));
    let taught = String::from_utf8(home.read("taught.jsonl")).unwrap();
    let lines: Vec<Value> =
        taught.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 21);
    for (at, line) in lines.iter().enumerate() {
        let given: Value = serde_json::from_str(&row(at)).unwrap();
        assert_eq!(line["prompt"], given["prompt"]);
        let (tokens, score) = (line["tokens"].as_u64().unwrap(), line["log_probability"].as_f64());
        assert!(
            tokens <= 6 && score.unwrap() <= 0.0 && (tokens == 0) == (score == Some(0.0)),
            "{line}"
        );
    }
    // The likeliest tokens are likelier than those that are drawn.
    home.done(&format!("{} -q --to greedy.jsonl", write.replace("--temperature 1", "")));
    let greedy = String::from_utf8(home.read("greedy.jsonl")).unwrap();
    let greedy = greedy.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mean = |lines: &Vec<Value>| {
        let sum = |of: &str| lines.iter().map(|line| line[of].as_f64().unwrap()).sum::<f64>();
        sum("log_probability") / sum("tokens")
    };
    assert!(mean(&greedy) > mean(&lines), "{} {}", mean(&greedy), mean(&lines));
    // An interrupted command ends with the same bytes, whatever was left of the last lines.
    for end in [0, 1, taught.len() / 3, taught.len() / 2, taught.len() - 1, taught.len()] {
        home.write("part.jsonl", &taught[..end]);
        home.done(&format!("{write} -q --to part.jsonl"));
        assert!(home.read("part.jsonl") == taught.as_bytes(), "{end}");
    }
    home.refused(
        &format!("{} --to taught.jsonl", write.replace("asked.jsonl", "texts.jsonl")),
        &["document 1 is one text and has no prompt"],
    );
    home.write("other.jsonl", taught.replacen("0 a", "0 b", 1));
    home.refused(
        &format!("{write} --to other.jsonl"),
        &["it holds what was made of other prompts"],
    );
    // A student is taught with it; texts that ended at once teach nothing.
    home.done(
        "run next.toml -q --out run --set data.train=\"taught.jsonl\" --set data.skip_empty=true --set data.test_limit=5",
    );
}
