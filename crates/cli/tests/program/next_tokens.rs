//! Models that guess next tokens: trained, distilled, measured, resumed, continued, converted; from texts, prompts with
//! completions and chats.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use distil_gpu_engine::files::save_tensors;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::interrupted::killed_and_resumed;
use super::{Home, say};

/// What every chat of these tests is written as.
pub(super) const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Letters one after another from some place in the alphabet on.
fn letters(row: usize) -> String {
    let letter = |at: usize| char::from(b'a' + (at % 26) as u8);
    (row * 7..row * 7 + 5 + row % 6).fold(String::new(), |mut text, at| {
        write!(text, "{} ", letter(at)).unwrap();
        text
    })
}

/// A home with data of every kind, `llama/` to start from, and `next.toml`.
fn home() -> Home {
    let home = Home::new();
    let all = |line: &dyn Fn(usize) -> Value| {
        (0..48).fold(String::new(), |text, row| text + &line(row).to_string() + "\n")
    };
    home.write("texts.jsonl", all(&|row| json!({ "text": letters(row) })));
    let plain: Vec<String> = (0..48).map(letters).collect();
    home.write("plain.txt", plain.join("\n\n"));
    home.write(
        "prompts.jsonl",
        all(&|row| json!({ "prompt": "on: ", "completion": letters(row) })),
    );
    home.write(
        "chats.jsonl",
        all(&|row| {
            json!({ "messages": [
                { "role": "user", "content": format!("from {row}") },
                { "role": "assistant", "content": letters(row) },
            ] })
        }),
    );
    home.write(
        "instructions.jsonl",
        all(&|row| json!({ "instruction": "Go on", "input": "", "output": letters(row) })),
    );
    llama(&home);
    home.write("next.toml", recipe("texts.jsonl"));
    home
}

/// A folder `llama/` with a tokenizer and sizes, to begin from at random.
pub(super) fn llama(home: &Home) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat/qwen");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        home.write(&format!("llama/{file}"), std::fs::read(fixtures.join(file)).unwrap());
    }
    home.write("llama/chat_template.jinja", TEMPLATE);
    let config = json!({
        "model_type": "llama", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128, "rope_theta": 1e4, "tie_word_embeddings": true, "eos_token_id": 0,
    });
    home.write("llama/config.json", config.to_string());
}

fn recipe(file: &str) -> String {
    format!(
        r#"
task = "causal-lm"
device = "cpu"
[data]
source = "text"
train = "{file}"
test = "{file}"
[teacher]
model = {{ type = "decoder", from = "llama", random = true, max_length = 32 }}
[teacher.train]
epochs = 30
batch = 8
optimizer = {{ name = "adamw", lr = 1e-2 }}
[student]
model = {{ type = "decoder", from = "llama", random = true, layers = [0], hidden_size = 16, num_attention_heads = 2, num_key_value_heads = 1, intermediate_size = 32, max_length = 32 }}
[distil]
temperature = 1.0
alpha = 0.9
[train]
epochs = 20
batch = 8
optimizer = {{ name = "adamw", lr = 1e-2 }}
"#
    )
}

fn of_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn three_models_learn_to_go_on() {
    let home = home();
    home.done("run next.toml -q --out run");
    let report = home.json("run/report.json");
    assert_eq!(report["task"], "causal-lm");
    let tokens = report["examples"]["masked"].as_u64().unwrap();
    for arm in ["teacher", "control", "distilled"] {
        let of = |key: &str| report["arms"][arm][key].as_f64().unwrap();
        let nats = of("cross_entropy");
        assert!((of("perplexity") - nats.exp()).abs() < 1e-9 * nats.exp(), "{report}");
        // ln 400 is 6: what comes next in the alphabet is nearly sure.
        assert!(nats < if arm == "teacher" { 1.5 } else { 4.0 }, "{arm}: {report}");
        // Bits of all tokens, over the bytes of all texts.
        let bytes: usize = (0..48).map(|row| letters(row).len()).sum();
        let bits = nats * tokens as f64 / std::f64::consts::LN_2;
        let ratio = of("bits_per_byte") * bytes as f64 / bits;
        assert!((1.0..1.2).contains(&ratio), "the first token of a text is not guessed: {ratio}");
    }
    let arms = &report["arms"];
    let kl = |arm: &str| arms[arm]["kl"].as_f64();
    assert!(kl("distilled") > Some(0.0) && kl("control") > Some(0.0), "{arms}");
    assert_eq!(kl("teacher"), None);
    let entropy = arms["teacher"]["entropy"].as_f64().unwrap();
    assert!(entropy > 0.0 && entropy < 400_f64.ln() && arms["control"]["entropy"].is_null());
    // What is measured by length of context is what is measured of all.
    let contexts = arms["distilled"]["contexts"].as_array().unwrap();
    let sum = |key: &str| {
        let of = |one: &Value| one["tokens"].as_f64().unwrap() * one[key].as_f64().unwrap();
        contexts.iter().map(of).sum::<f64>() / tokens as f64
    };
    assert!(
        (sum("cross_entropy") - arms["distilled"]["cross_entropy"].as_f64().unwrap()).abs() < 1e-5
    );
    assert!((sum("kl") - kl("distilled").unwrap()).abs() < 1e-5, "{contexts:?}");
    // Models with random weights are worth nothing before.
    assert!(report["before"].is_null());
    let page = String::from_utf8(home.read("run/report.html")).unwrap();
    for part in
        ["nats per token", "bits per byte", "id=\"contexts\"", "id=\"continued\"", "id=\"learnt\""]
    {
        assert!(page.contains(part), "{part}");
    }
    let config = home.json("run/student/config.json");
    assert_eq!(config["architectures"][0], "LlamaForCausalLM");
    assert_eq!((&config["num_hidden_layers"], &config["head_dim"]), (&json!(1), &json!(8)));
    assert_eq!(config["rope_theta"], config["rope_parameters"]["rope_theta"]);
    assert_eq!(home.read("run/student/chat_template.jinja"), TEMPLATE.as_bytes());

    // What `eval` says is what the run said, of the recipe's data and of a file.
    let nats = report["arms"]["distilled"]["cross_entropy"].as_f64().unwrap();
    for data in ["next.toml", "texts.jsonl"] {
        let found =
            of_json(&home.done(&format!("eval run/student --data {data} --device cpu --json")));
        let near = (found["cross_entropy"].as_f64().unwrap() - nats).abs() < 1e-6;
        assert!(near && found["tokens"] == tokens, "{found}");
    }
}

/// A narrower student takes over the units and heads that matter: where others do nothing, it is the whole model.
#[test]
fn narrower_students_take_over_what_matters() {
    let home = home();
    home.done("run next.toml --out run");
    // Two thirds of the units and one of two heads of keys say nothing, the first ones among them.
    let folder = home.path("run/teacher");
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = file
        .iter()
        .map(|(name, view)| {
            let values =
                view.data().as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
            (name.to_owned(), view.shape().to_vec(), values.collect())
        })
        .collect();
    for (name, shape, values) in &mut tensors {
        let width = shape.last().copied().unwrap();
        let is_silent = |column: usize| match &**name {
            name if name.ends_with("down_proj.weight") => column % 3 != 2,
            // Four heads of eight columns; two share a head of keys.
            name if name.ends_with("o_proj.weight") => column < 16,
            _ => false,
        };
        for row in values.chunks_mut(width) {
            row.iter_mut().enumerate().filter(|(at, _)| is_silent(*at)).for_each(|(_, x)| *x = 0.0);
        }
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    save_tensors(&folder.join("model.safetensors"), &tensors, metadata).unwrap();
    let toml = recipe("texts.jsonl");
    let (head, _) = toml.split_once("[teacher]").unwrap();
    let narrow = |from: &str, more: &str| {
        format!(
            "{head}[teacher]\nfolder = \"run/teacher\"\n[student]\n\
             model = {{ type = \"decoder\", from = \"{from}\", intermediate_size = 24, num_key_value_heads = 1, max_length = 32{more} }}\n\
             [train]\nsteps = 1\noptimizer = {{ name = \"adamw\", lr = 1e-9 }}\n"
        )
    };
    for from in ["run/teacher", "teacher"] {
        let out = format!("narrow-{}", from.replace('/', "-"));
        home.write("narrow.toml", narrow(from, ""));
        home.done(&format!("run narrow.toml --out {out}"));
        let before = home.json(&format!("{out}/report.json"))["before"]["kl"].as_f64().unwrap();
        assert!(before < 1e-9, "{from}: {before}");
        let config = home.json(&format!("{out}/student/config.json"));
        let sizes = ["intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"];
        assert_eq!(sizes.map(|key| config[key].as_u64().unwrap()), [24, 2, 1, 8]);
        home.done(&format!("convert {out}/student {out}.gguf --type f32 -q"));
        home.done(&format!("generate {out}.gguf \"a b\" --max-tokens 3 --device cpu"));
    }
    // Students of any width take over the first of one ranking.
    let said =
        notes_of_sweep(&home, "narrow.toml --out s --set student.model.intermediate_size=24,64");
    assert_eq!(said.matches("Of each layer, ").count(), 1, "{said}");
    let sweep = home.json("s/sweep.json");
    for point in sweep["points"].as_array().unwrap() {
        let kl = point["runs"][0]["distilled"]["kl"].as_f64().unwrap();
        assert!(kl < 1e-6, "{point}");
    }
    home.refused(
        "run narrow.toml --out x --set student.model.intermediate_size=65",
        &["is 64", "65 is too much"],
    );
    home.refused(
        "run narrow.toml --out x --set student.model.num_key_value_heads=3",
        &["is 2", "3 is too much"],
    );
}

/// Teacher and student know the tokens of the training texts alone; their guesses are the whole teacher's among these.
#[test]
fn a_vocabulary_is_trimmed_to_documents() {
    let home = home();
    let mut config = home.json("llama/config.json");
    config["tie_word_embeddings"] = json!(false);
    home.write("llama/config.json", config.to_string());
    home.done("run next.toml --out run");
    let toml = recipe("texts.jsonl");
    let (head, _) = toml.split_once("[teacher]").unwrap();
    let trimmed = format!(
        "{head}[teacher]\nfolder = \"run/teacher\"\n[student]\n\
         model = {{ type = \"decoder\", from = \"run/teacher\", vocabulary = \"trimmed\", max_length = 32 }}\n\
         [train]\nsteps = 1\noptimizer = {{ name = \"adamw\", lr = 1e-9 }}\n"
    );
    home.write("trimmed.toml", trimmed);
    home.done("run trimmed.toml --out trimmed");
    let sizes = ["teacher", "student"].map(|arm| {
        let config = home.json(&format!("trimmed/{arm}/config.json"));
        config["vocab_size"].as_u64().unwrap()
    });
    assert!(sizes[0] == sizes[1] && sizes[0] < 400, "{sizes:?}");
    let [whole, small] = ["run", "trimmed"].map(|run| home.json(&format!("{run}/report.json")));
    let nats = |report: &Value, arm: &str| report["arms"][arm]["cross_entropy"].as_f64().unwrap();
    assert_eq!(whole["arms"]["teacher"]["tokens"], small["arms"]["teacher"]["tokens"]);
    // Fewer tokens share what is probable, and those that are gone were hardly so.
    let less = nats(&whole, "teacher") - nats(&small, "teacher");
    assert!((0.0..0.02).contains(&less), "{less}");
    // The student is the teacher.
    assert!(small["before"]["kl"].as_f64().unwrap() < 1e-9, "{small}");
    assert!((nats(&small, "distilled") - nats(&small, "teacher")).abs() < 1e-5);
    let go_on = |model: &str| {
        home.done(&format!("generate {model} \"a b c d \" --max-tokens 8 --device cpu"))
    };
    assert_eq!(go_on("run/teacher"), go_on("trimmed/student"));
    // What ends a text still does.
    let end = |run: &str| {
        let id = home.json(&format!("{run}/teacher/config.json"))["eos_token_id"].as_u64().unwrap();
        let tokens = home.json(&format!("{run}/teacher/tokenizer.json"));
        let added = tokens["added_tokens"].as_array().unwrap();
        let own = added.iter().find(|token| token["id"] == id).unwrap();
        own["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(end("run"), end("trimmed"));
    // As GGUF.
    home.done("convert trimmed/student small.gguf --type f16 -q");
    let measured = |model: &str| {
        let said = home.done(&format!("eval {model} --data texts.jsonl --device cpu --json"));
        of_json(&said)["cross_entropy"].as_f64().unwrap()
    };
    assert!((measured("small.gguf") - measured("trimmed/student")).abs() < 1e-3);
    for from in ["run/teacher", "teacher"] {
        let more = format!(
            "--set student.model.vocabulary={{min_count=2}} --set student.model.from={from:?}"
        );
        home.done(&format!("run trimmed.toml --out few-{} {more}", from.len()));
    }
    // Layers, units and heads are chosen by what the student reads.
    let [layers, wide] =
        ["student.model.layers={keep=1,by=\"influence\"}", "student.model.intermediate_size=40"];
    home.done(&format!("run trimmed.toml --out all-three --set {layers} --set {wide}"));
    home.refused(
        "sweep trimmed.toml --out s --set student.model.vocabulary=\"trimmed\",\"full\"",
        &["a sweep has one teacher"],
    );
    home.refused(
        "run next.toml --out c --set student.model.vocabulary=\"trimmed\"",
        &["the same tokenizer"],
    );
}

/// The student is the teacher without the layers that matter least; what it is worth then stands in the report.
#[test]
fn layers_are_left_out_by_influence() {
    let home = home();
    let toml = recipe("texts.jsonl").replace("random = true, layers = [0], hidden_size = 16, num_attention_heads = 2, num_key_value_heads = 1, intermediate_size = 32,", "layers = { keep = 2, by = \"influence\" },")
        .replace("model = { type = \"decoder\", from = \"llama\", layers", "model = { type = \"decoder\", from = \"teacher\", layers")
        .replace("[train]\nepochs = 20\nbatch = 8\noptimizer = { name = \"adamw\", lr = 1e-2 }", "[train]\nepochs = 6\nbatch = 8\noptimizer = { name = \"adamw\", lr = 1e-3 }");
    let mut config = home.json("llama/config.json");
    config["num_hidden_layers"] = json!(4);
    home.write("llama/config.json", config.to_string());
    home.write("cut.toml", &toml);
    let said = home.done("run cut.toml --out cut");
    assert!(said.contains("The student before its training: "), "{said}");
    let report = home.json("cut/report.json");
    let found = &report["influence"];
    let numbers = |key: &str| found[key].as_array().unwrap().clone();
    assert_eq!(
        (numbers("kept").len(), numbers("alone").len(), numbers("removed").len()),
        (2, 4, 2)
    );
    let alone: Vec<f64> = numbers("alone").iter().map(|kl| kl.as_f64().unwrap()).collect();
    let removed = &found["removed"];
    let least = alone.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(removed[0]["kl"].as_f64().unwrap(), least);
    assert_eq!(alone[removed[0]["layer"].as_u64().unwrap() as usize], least);
    // Measured on some training texts there, and on all of them here.
    let (before, chosen) =
        (report["before"]["kl"].as_f64().unwrap(), removed[1]["kl"].as_f64().unwrap());
    assert!((0.6..1.7).contains(&(before / chosen)), "{before} and {chosen}");
    assert!(report["arms"]["distilled"]["kl"].as_f64().unwrap() < before, "{report}");
    let page = String::from_utf8(home.read("cut/report.html")).unwrap();
    assert!(page.contains("id=\"influence\""));
    swept(&home, &report);
    home.refused(
        "run cut.toml --out a --set student.model.layers.keep=4",
        &["it can keep fewer than its 4 layers"],
    );
    for (set, said) in [
        ("student.model.random=true", "have no influence"),
        ("student.model.layers={keep=2,by=\"size\"}", "by = \"influence\""),
    ] {
        home.refused(&format!("run cut.toml --out a --set {set}"), &[said]);
    }
}

/// What a sweep tells while it works.
fn notes_of_sweep(home: &Home, arguments: &str) -> String {
    let said = say(home.command(&format!("sweep {arguments}")));
    assert_eq!(said.code, Some(0), "{arguments}: {said:?}");
    said.out + &said.err
}

/// In a sweep the same is found out once for all students, and goes on where some keep fewer layers.
fn swept(home: &Home, report: &Value) {
    let count = |said: &str, part: &str| said.matches(part).count();
    let narrow = "--set student.model.intermediate_size=48";
    let arguments = format!("cut.toml --out s {narrow} --set distil.temperature=1,2 --seeds 2");
    let said = notes_of_sweep(home, &arguments);
    assert_eq!(
        (count(&said, " is left out: KL"), count(&said, "Of each layer, 48 of 64 units")),
        (2, 1),
        "{said}"
    );
    let sweep = home.json("s/sweep.json");
    let runs = |sweep: &Value| {
        let points = sweep["points"].as_array().unwrap().iter();
        points.flat_map(|point| point["runs"].as_array().unwrap().clone()).collect::<Vec<Value>>()
    };
    let layers = |run: &Value| {
        let model: Value = of_json(run["model"].as_str().unwrap());
        model["layers"].as_array().unwrap().len()
    };
    assert!(runs(&sweep).len() == 4 && runs(&sweep).iter().all(|run| layers(run) == 2), "{sweep}");
    // A point's students are those of a run of its own.
    home.done(&format!("run cut.toml --out one {narrow} --set distil.temperature=2 --set seed=0"));
    let bytes = |place: &str| home.read(&format!("{place}/model.safetensors"));
    assert!(bytes("s/students/003") == bytes("one/student"));
    let kept = &report["influence"]["kept"];
    assert_eq!(home.json("one/report.json")["influence"]["kept"], *kept);
    // The second point leaves out one layer more than the first, the third as many as that.
    let said = notes_of_sweep(home, "cut.toml --out t --set student.model.layers.keep=3,2,1");
    assert_eq!(count(&said, " is left out: KL"), 3, "{said}");
    let said = notes_of_sweep(home, "cut.toml --out u --set student.model.layers.keep=1,2,3");
    assert_eq!(count(&said, " is left out: KL"), 3, "{said}");
    let cuts = |sweep: &str| {
        runs(&home.json(&format!("{sweep}/sweep.json"))).iter().map(layers).collect::<Vec<_>>()
    };
    assert_eq!((cuts("t"), cuts("u")), (vec![3, 2, 1], vec![1, 2, 3]));
    assert!(bytes("t/students/002") == bytes("u/students/002"));
}

#[test]
fn every_kind_of_document_is_learnt_with_every_option() {
    let home = home();
    for (number, file) in
        ["plain.txt", "prompts.jsonl", "chats.jsonl", "instructions.jsonl"].into_iter().enumerate()
    {
        let (toml, run) = (format!("{number}.toml"), format!("run{number}"));
        let quick =
            recipe(file).replace("epochs = 30", "epochs = 2").replace("epochs = 20", "epochs = 2");
        home.write(&toml, &quick);
        home.done(&format!("run {toml} -q --out {run}"));
        let report = home.json(&format!("{run}/report.json"));
        assert!(report["arms"]["distilled"]["cross_entropy"].as_f64().is_some_and(f64::is_finite));
        let tokens =
            |run: &str| home.json(&format!("{run}/report.json"))["examples"]["masked"].as_u64();
        home.done(&format!("run {toml} -q --out {run}-all --set data.loss_on=\"all\""));
        let (own, all) = (tokens(&run), tokens(&format!("{run}-all")));
        assert_eq!(own < all, number > 0, "{file}: {own:?} of {all:?} tokens count");
        home.done(&format!("run {toml} -q --out {run}-apart --set data.pack=false"));
        assert_eq!(tokens(&format!("{run}-apart")), own);
        home.done(&format!("plan {toml} -q"));
    }
    for (name, set) in [
        ("jsd", "--set distil.divergence=\"jsd\""),
        ("hidden", "--set distil.hidden=[{loss=\"mse\",student_layer=1,teacher_layer=2}]"),
        ("best", "--set data.validation=0.3 --set train.keep=\"best\""),
        ("parts", "--set train.accumulate=2"),
        ("verified", "--verify"),
    ] {
        home.done(&format!("run 2.toml -q --out {name} {set}"));
    }
    home.done("sweep 2.toml -q --out sweep --set distil.alpha=0.5,0.9");
    home.done("bench 2.toml --device cpu --seconds 0.001 -q");
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let home = home();
    let more = recipe("chats.jsonl").replace("epochs = 20", "epochs = 60");
    home.write("next.toml", more);
    killed_and_resumed(&home, "run next.toml", &[30, 60, 10]);
}

#[test]
fn texts_go_on_and_models_are_converted() {
    let home = home();
    home.done("run next.toml -q --out run");
    let teacher = "run/teacher --device cpu";
    for (file, prompts) in [("one", "h i j\n"), ("two", "h i j\n\nc d e f g h\n"), ("ab", "a b\n")]
    {
        home.write(file, prompts);
    }
    let line = home.done(&format!("generate {teacher} -q --max-tokens 8 --file one"));
    assert!(line.trim_start().starts_with('k'), "{line:?}");
    // The same tokens on every run, other ones with another seed; several prompts lie side by side.
    let ask = |more: &str| of_json(&home.done(&format!("generate {teacher} --json {more}")));
    let greedy = ask("--max-tokens 2 --file one");
    let both = ask("--max-tokens 2 --file two");
    assert_eq!(both["continuations"][0], greedy["continuations"][0]);
    assert_eq!(greedy["continuations"][0]["finish_reason"], "length");
    let warm = "--temperature 1.5 --top-k 50 --top-p 0.95 --max-tokens 12 --file ab";
    let tokens =
        |seed: u32| ask(&format!("--seed {seed} {warm}"))["continuations"][0]["tokens"].clone();
    assert_eq!(tokens(1), tokens(1));
    assert!((2..6).any(|seed| tokens(seed) != tokens(1)));
    let stopped = ask("--max-tokens 20 --stop m --file one");
    let text = stopped["continuations"][0]["text"].as_str().unwrap();
    assert!(text.contains('l') && !text.contains('m'), "{text:?}");
    assert_eq!(stopped["continuations"][0]["finish_reason"], "stop");
    let compared = home.done(
        "generate run/teacher --compare run/student --device cpu -q --max-tokens 4 --file ab",
    );
    assert!(compared.contains("run/teacher:") && compared.contains("run/student:"), "{compared}");
    home.done(&format!("generate {teacher} -q --chat --max-tokens 4 hello"));

    // Questions of several choices: what the training text goes on with is likelier than what it does not.
    let questions = r#"{"context": "a b c d", "choices": ["e f g", "z x q"], "gold": 0}
{"context": "k l m", "choices": ["a k q", "n o p"], "gold": 1}
"#;
    home.write("questions.jsonl", questions);
    let asked = of_json(&home.done("eval run/teacher --tasks questions.jsonl --device cpu --json"));
    assert_eq!(asked["questions"], 2);
    assert_eq!([&asked["acc"], &asked["acc_norm"]], [1.0, 1.0], "{asked}");
    let said = say(home.command("eval run/teacher"));
    assert!(said.code == Some(2) && said.err.contains("--tasks"), "{said:?}");

    // A GGUF holds the same model; what it says is the folder's.
    home.done("convert run/teacher model.gguf --type f32 -q");
    let again =
        of_json(&home.done("generate model.gguf --device cpu --json --max-tokens 2 --file one"));
    assert_eq!(again["continuations"], greedy["continuations"]);
    home.done("convert model.gguf back -q");
    let eval = |model: &str| {
        of_json(&home.done(&format!("eval {model} --data texts.jsonl --device cpu --json")))
    };
    assert_eq!(eval("back")["cross_entropy"], eval("run/teacher")["cross_entropy"]);
    for kind in ["f16", "q8_0"] {
        home.done(&format!("convert run/teacher {kind}.gguf --type {kind} -q"));
        let nats = |model: &str| eval(model)["cross_entropy"].as_f64().unwrap();
        assert!((nats(&format!("{kind}.gguf")) - nats("run/teacher")).abs() < 0.05);
    }
    home.refused("convert run/teacher model.gguf", &["model.gguf is there already"]);
    // A GGUF is a teacher.
    let toml = recipe("texts.jsonl").replace("epochs = 20", "epochs = 1");
    let (head, tail) = toml.split_once("[teacher]").unwrap();
    let student = tail.split_once("[student]").unwrap().1;
    home.write(
        "taught.toml",
        format!("{head}[teacher]\nfolder = \"model.gguf\"\n[student]{student}"),
    );
    // Its tokenizer is another file than the folder's.
    home.refused("run taught.toml --out taught", &["need the same tokenizer"]);
    let from = "--set student.model.from=\"model.gguf\"";
    home.done(&format!("run taught.toml -q --out taught {from}"));
    home.refused(
        &format!("run taught.toml --out a {from} --set student.model.random=false"),
        &["stays as it is: leave it out"],
    );
}

/// Trainer, evaluator and llama.cpp (`tools/make_gguf_fixtures.py`) find the same nats in the same tokens: labels are shifted
/// once, texts begin once, and queries and keys turn as those of the file do.
#[test]
fn trainer_and_evaluator_find_the_nats_of_llama_cpp() {
    let home = Home::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    let read = |name: &str| std::fs::read(fixtures.join(name)).unwrap();
    home.write("pieces.gguf", read("pieces.gguf"));
    let known: Value = serde_json::from_slice(&read("nats.json")).unwrap();
    let texts = known["texts"].as_array().unwrap().iter();
    let texts: String = texts.map(|text| json!({ "text": text }).to_string() + "\n").collect();
    home.write("texts.jsonl", texts);
    let near = |found: &Value| {
        let apart = (found.as_f64().unwrap() - known["nats"].as_f64().unwrap()).abs();
        assert!(apart < 2e-5, "{found}: {known}");
    };
    let found = of_json(&home.done("eval pieces.gguf --data texts.jsonl --device cpu --json"));
    assert_eq!(found["tokens"], known["tokens"]);
    near(&found["cross_entropy"]);
    // One step over all of them, which changes nothing.
    let (head, _) = recipe("texts.jsonl")
        .split_once("[teacher]")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    home.write(
        "one.toml",
        format!(
            "{head}[teacher]\nfolder = \"pieces.gguf\"\n[student]\n\
             model = {{ type = \"decoder\", from = \"teacher\", max_length = 32 }}\n\
             [train]\nsteps = 1\nbatch = 8\noptimizer = {{ name = \"sgd\", lr = 1e-9 }}\n"
        ),
    );
    home.done("run one.toml -q --out one");
    let lines = String::from_utf8(home.read("one/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(of_json).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        near(&line["train"]["hard"]);
        near(&line["test"]["hard"]);
    }
    near(&home.json("one/report.json")["arms"]["teacher"]["cross_entropy"]);
    // A prompt begins once too, whether or not it says so.
    home.write("prompts.txt", "ab a\n<s>ab a\n");
    let go_on = "generate pieces.gguf --file prompts.txt --max-tokens 4 --device cpu --json";
    let said = of_json(&home.done(go_on));
    let [plain, begun] = [0, 1].map(|row| &said["continuations"][row]);
    let of = |one: &Value| ["prompt_tokens", "tokens"].map(|key| one[key].clone());
    assert_eq!((of(plain), &plain["prompt_tokens"]), (of(begun), &json!(3)));
}

/// Models may have rows for tokens that the tokenizer lacks; two that have not as many are compared on those that both have.
#[test]
fn a_vocabulary_may_be_wider_than_its_tokenizer() {
    let home = home();
    let mut config = home.json("llama/config.json");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        home.write(&format!("wide/{file}"), home.read(&format!("llama/{file}")));
    }
    config["vocab_size"] = json!(416);
    home.write("wide/config.json", config.to_string());
    let few = "--set teacher.train.epochs=2 --set train.epochs=1";
    let [teacher, student] =
        ["teacher", "student"].map(|arm| format!("--set {arm}.model.from=\"wide\""));
    home.done(&format!("run next.toml -q --out wide-both {few} {teacher} {student}"));
    assert_eq!(home.json("wide-both/student/config.json")["vocab_size"], 416);
    home.done("convert wide-both/student wide.gguf --type f32 -q");
    let nats = |model: &str| {
        let said = home.done(&format!("eval {model} --data texts.jsonl --device cpu --json"));
        of_json(&said)["cross_entropy"].as_f64().unwrap()
    };
    assert!((nats("wide.gguf") - nats("wide-both/student")).abs() < 1e-6);
    home.refused(
        &format!("run next.toml --out a {few} {teacher}"),
        &["the same tokenizer and vocabulary", "give both the same `vocabulary`"],
    );
    // The teacher is loaded, and both know the tokens of the texts alone.
    for entry in std::fs::read_dir(home.path("wide-both/teacher")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        home.write(&format!("few/{name}"), std::fs::read(entry.path()).unwrap());
    }
    std::fs::remove_file(home.path("few/model.safetensors")).unwrap();
    let mut fewer = home.json("few/config.json");
    fewer["vocab_size"] = json!(400);
    home.write("few/config.json", fewer.to_string());
    let toml = recipe("texts.jsonl").replace("from = \"llama\"", "from = \"few\"");
    let (head, tail) = toml.split_once("[teacher]").unwrap();
    let tail = tail.split_once("[student]").unwrap().1;
    home.write(
        "loaded.toml",
        format!("{head}[teacher]\nfolder = \"wide-both/teacher\"\n[student]{tail}"),
    );
    let one = "--set train.epochs=1";
    home.refused(&format!("run loaded.toml --out a {one}"), &["the same tokenizer and vocabulary"]);
    let trimmed = "--set student.model.vocabulary=\"trimmed\"";
    home.done(&format!("run loaded.toml -q --out trimmed {trimmed} {one}"));
    let sizes = ["teacher", "student"]
        .map(|arm| home.json(&format!("trimmed/{arm}/config.json"))["vocab_size"].clone());
    assert!(sizes[0] == sizes[1] && sizes[0].as_u64() < Some(400), "{sizes:?}");
    // The run's folder says which rows of the teacher's tables these are.
    let measured = home.json("trimmed/report.json")["arms"]["teacher"]["cross_entropy"].clone();
    assert!((nats("trimmed/teacher") - measured.as_f64().unwrap()).abs() < 1e-6);
    // A tokenizer with more tokens than the model has rows is another model's.
    config["vocab_size"] = json!(390);
    home.write("wide/config.json", config.to_string());
    home.refused(
        &format!("run next.toml --out a {few} {teacher} {student}"),
        &["it is not the model's: its token", "knows 390 tokens"],
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let home = home();
    for (set, words) in [
        ("data.loss_on=\"none\"", "`data.loss_on` is the string"),
        ("task=\"masked-lm\"", "set `task` to \"causal-lm\""),
        ("student.model.layers=[2]", "it has no layer 2, but 2 layers"),
        ("teacher.model.max_length=16", "they need the same `max_length`"),
        ("student.model.num_key_value_heads=3", "cannot share 3 heads of keys"),
        ("distil.relations=[{of=\"values\"}]", "several documents"),
        ("data.unlabelled=\"texts.jsonl\"", "put them all into `train`"),
        ("teacher={logits=\"a.safetensors\"}", "give the `folder` of a model"),
    ] {
        home.refused(&format!("run next.toml --out a --set {set}"), &[words]);
    }
    home.write("empty.jsonl", "{\"prompt\": \"a\", \"completion\": \"\"}\n");
    home.write("a.toml", recipe("empty.jsonl"));
    home.refused("run a.toml --out a", &["empty.jsonl", "line 1"]);
    // Where positions turn by nobody knows what.
    let mut config = home.json("llama/config.json");
    config.as_object_mut().unwrap().remove("rope_theta");
    home.write("llama/config.json", config.to_string());
    home.refused(
        "run next.toml --out a",
        &["llama/config.json", "neither rope_theta nor rope_parameters"],
    );
    home.refused("generate llama a", &["neither rope_theta nor rope_parameters"]);
    home.write("bad.gguf", "GGUF");
    home.refused("generate bad.gguf a", &["bad.gguf"]);
    let said = say(home.command("generate run --max-tokens 0 a"));
    assert!(said.code == Some(2) && said.err.contains("--max-tokens"), "{said:?}");
}
