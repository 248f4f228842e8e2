//! Classes are found by their names, whatever their order, and what is no class is refused.

use distil_gpu_engine::models;
use serde_json::{Value, json};

use super::interrupted::killed_and_resumed;
use super::{HAND_CONFIG, HAND_WEIGHTS, Home, floats, safetensors, tensor};
use safetensors::Dtype;

/// Points of three classes; the hand-made model makes some errors.
const POINTS: &str =
    "a,b,label\n2,1,ant\n-4,2,bee\n8,-4,ant\n1,0,cat\n0,3,bee\n-3,1,cat\n5,5,bee\n2,0,ant\n";

/// A recipe whose teacher is `hand`, on points.
const RECIPE: &str = r#"
device = "cpu"

[data]
source = "csv"
train = "points.csv"
test = "points.csv"

[teacher]
folder = "hand"

[student]
model = { type = "mlp", hidden_sizes = [4] }

[train]
epochs = 3
batch = 4
optimizer = { name = "sgd", lr = 0.05, momentum = 0.9 }
"#;

/// A home with points, the hand-made model and a recipe of both.
fn home() -> Home {
    let home = Home::new();
    home.write("points.csv", POINTS);
    home.write("points.toml", RECIPE);
    home.write_hand();
    home
}

/// Writes the hand-made model as `folder`: its classes by these names and in this order, the same answers.
fn write_model(home: &Home, folder: &str, names: [&str; 3], order: [usize; 3]) {
    let shown = |names: [&str; 3]| names.map(|name| format!("{name:?}")).join(", ");
    let ordered = order.map(|class| names[class]);
    let config = HAND_CONFIG.replace(&shown(["ant", "bee", "cat"]), &shown(ordered));
    assert!(config.contains(&shown(ordered)), "{config}");
    home.write(&format!("{folder}/config.json"), config);
    let moved = HAND_WEIGHTS.map(|(name, shape, values)| match name.starts_with("layers.1") {
        false => (name, shape, values.to_vec()),
        true => {
            let width = values.len() / 3;
            let rows = order.iter().flat_map(|class| &values[class * width..][..width]);
            (name, shape, rows.copied().collect())
        }
    });
    let tensors: Vec<(&str, &[usize], &[f32])> =
        moved.iter().map(|(name, shape, values)| (*name, *shape, &**values)).collect();
    home.write_f32(&format!("{folder}/model.safetensors"), &tensors);
}

fn eval(home: &Home, arguments: &str) -> Value {
    serde_json::from_str(&home.done(&format!("eval {arguments} --json --device cpu"))).unwrap()
}

/// A teacher in another order teaches the same: the same student to the bit, the same report, the same columns of logits.
#[test]
fn a_teachers_order_of_classes_changes_nothing() {
    let home = home();
    write_model(&home, "moved", ["ant", "bee", "cat"], [2, 0, 1]);
    write_model(&home, "numbered", ["0", "1", "2"], [2, 0, 1]);
    let map = r#"{"0"="ant","1"="bee","2"="cat"}"#;
    let set = "--set teacher.folder=";
    home.done("run points.toml -q --out own");
    home.done(&format!("run points.toml -q --out other {set}\"moved\""));
    let named = format!("{set}\"numbered\" --set teacher.labels={map}");
    home.done(&format!("run points.toml -q --out named {named}"));
    let own = home.json("own/report.json");
    let errors = &own["arms"]["teacher"]["errors_per_class"];
    assert_eq!(errors, &eval(&home, "hand --data points.csv")["errors_per_class"]);
    assert!(errors.as_array().unwrap().iter().any(|errors| *errors != json!(0)), "{own}");
    for run in ["other", "named"] {
        let report = home.json(&format!("{run}/report.json"));
        for arm in ["teacher", "control", "distilled"] {
            for key in ["errors_per_class", "accuracy", "matthews"] {
                assert_eq!(report["arms"][arm][key], own["arms"][arm][key], "{run}: {arm}, {key}");
            }
        }
        for model in ["teacher", "student", "control"] {
            // A given teacher's weights are read where they lie, in the order that its run has them.
            let model_of = |run: &str| models::load(&home.path(&format!("{run}/{model}"))).unwrap();
            assert!(model_of(run).1 == model_of("own").1, "{run}: {model}");
            let names = &home.json(&format!("{run}/{model}/config.json"))["class_names"];
            assert_eq!(names, &json!(["ant", "bee", "cat"]), "{run}: {model}");
        }
    }
    // A run that is resumed takes its copy of the teacher, whose classes have the data's names.
    killed_and_resumed(
        &home,
        &format!("run points.toml {named} --set train.epochs=4000"),
        &[0, 5, 3],
    );
    home.done(&format!("sweep points.toml -q --out s {named} --set distil.temperature=2,4"));
    let report = home.json("s/sweep.json");
    assert_eq!(&report["teacher"]["errors_per_class"], errors);
    assert_eq!(
        report["points"][1]["runs"][0]["distilled"]["errors_per_class"],
        own["arms"]["distilled"]["errors_per_class"]
    );

    // Columns of logits are the recipe's classes, for any order of the model's.
    let logits = |model: &str, more: &str| {
        home.done(&format!(
            "logits {model} --input points.toml --out {model}.z --device cpu {more}"
        ));
        tensor(&home.read(&format!("{model}.z")), "train").1
    };
    let wanted = logits("hand", "");
    assert_eq!(wanted.len(), 24);
    assert_eq!(logits("moved", ""), wanted);
    assert_eq!(logits("numbered", "--labels 0=ant,1=bee,2=cat"), wanted);
    assert_eq!(logits("numbered", "--labels 0=ant --labels 1=bee --labels 2=cat"), wanted);
    home.done("run points.toml -q --out cached --set teacher={logits=\"moved.z\"}");
    assert_eq!(
        home.json("cached/report.json")["arms"]["teacher"]["errors_per_class"],
        own["arms"]["teacher"]["errors_per_class"]
    );

    // What the recipe says holds for `eval` and `logits` of it too.
    let recipe =
        RECIPE.replace("folder = \"hand\"", &format!("folder = \"numbered\"\nlabels = {map}"));
    home.write("mapped.toml", recipe);
    let measured = eval(&home, "numbered --data mapped.toml");
    assert_eq!(measured["accuracy"], own["arms"]["teacher"]["accuracy"]);
    home.done("logits numbered --input mapped.toml --out m.z --device cpu");
    assert_eq!(tensor(&home.read("m.z"), "train").1, wanted);
    assert_eq!(eval(&home, "own/student --data mapped.toml")["examples"], json!(8));
}

#[test]
fn classes_of_other_names_are_never_matched_by_place() {
    let home = home();
    let run = "run points.toml --set teacher.folder=\"other\"";
    let eval = "eval other --data points.csv --device cpu";
    let logits = "logits other --input points.toml --out z --device cpu";
    let data = "`ant`, `bee`, `cat`";
    for names in [["0", "1", "2"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["ant", "bee", "cow"]] {
        write_model(&home, "other", names, [0, 1, 2]);
        let theirs = names.map(|name| format!("`{name}`")).join(", ");
        let both = format!("is none of the model's: those are {theirs}, the data's {data}");
        home.refused(run, &["teacher.folder: ", &both, "give `teacher.labels = {"]);
        for command in [eval, logits] {
            home.refused(command, &[&both, "give `--labels "]);
        }
    }
    // Two of three names are given.
    write_model(&home, "other", ["0", "1", "2"], [0, 1, 2]);
    home.refused(&format!("{eval} --labels 0=ant,1=bee"), &["class `cat` is none of the model's"]);
    home.refused(&format!("{eval} --labels 7=ant"), &["the class `7`, which the model lacks"]);
    home.refused(&format!("{eval} --labels ant"), &["it must be NAME=NAME"]);
    home.refused(&format!("{eval} --labels 0=ant,1=ant,2=cat"), &["two of the model's classes"]);
    home.refused(
        "run tiny.toml --set teacher.labels={a=\"b\"}",
        &["`labels` names the classes of a model's `folder`", "leave it out"],
    );

    // Plain ids are names: a model of 0, 1, 2 and data of 1, 2 share two of them, and 3 is none.
    home.write("ids.csv", "a,b,label\n2,1,1\n-4,2,2\n");
    let report = self::eval(&home, "other --data ids.csv");
    assert_eq!(report["examples"], json!(2));
    home.write("ids.csv", "a,b,label\n2,1,1\n-4,2,3\n");
    home.refused("eval other --data ids.csv --device cpu", &["class `3` is none of the model's"]);
    // LABEL_0, LABEL_1, … are ids where all of them are in the data.
    write_model(&home, "other", ["LABEL_0", "LABEL_1", "LABEL_2"], [0, 1, 2]);
    home.refused("eval other --data ids.csv --device cpu", &["class `1` is none of the model's"]);
    home.write("ids.csv", "a,b,label\n2,1,1\n-4,2,2\n8,-4,0\n");
    write_model(&home, "ids", ["0", "1", "2"], [0, 1, 2]);
    assert_eq!(
        self::eval(&home, "other --data ids.csv")["errors_per_class"],
        self::eval(&home, "ids --data ids.csv")["errors_per_class"]
    );
    // A teacher that answers more than the data ask.
    home.write("two.csv", "a,b,label\n2,1,ant\n-4,2,bee\n");
    let two = "--set data.train=\"two.csv\" --set data.test=\"two.csv\"";
    home.refused(
        &format!("run points.toml {two}"),
        &["the model's class `cat` is none of the data's", "the data's `ant`, `bee`"],
    );
    assert_eq!(self::eval(&home, "hand --data two.csv")["examples"], json!(2));
}

#[test]
fn classes_are_left_out_by_name_or_number() {
    let home = home();
    for (class, run) in [("1", "number"), ("\"bee\"", "name")] {
        home.done(&format!("run points.toml -q --out {run} --set distil.omit_classes=[{class}]"));
    }
    let file = |run: &str| home.read(&format!("{run}/student/model.safetensors"));
    assert!(file("number") == file("name"));
    let corrected = &home.json("name/report.json")["arms"]["distilled"]["bias_corrected"][0];
    assert_eq!(corrected["class"], json!(1));
    home.refused(
        "run points.toml --set distil.omit_classes=[\"cow\"]",
        &["class `cow` cannot be left out: the classes are `ant`, `bee`, `cat`"],
    );
}

#[test]
fn ids_with_gaps_are_names_in_every_source() {
    let home = home();
    let ids = [90000_i64, 90002, 90001, 90000, 90002, 90001];
    let features: Vec<f32> = (0..12).map(|i| i as f32 * 0.3 - 1.0).collect();
    let rows = features.chunks(2).zip(ids).map(|(row, id)| format!("{},{},{id}\n", row[0], row[1]));
    home.write("gaps.csv", format!("a,b,label\n{}", rows.collect::<String>()));
    let labels: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
        ("features", Dtype::F32, &[6, 2], &floats(&features)),
        ("labels", Dtype::I64, &[6], &labels),
    ];
    home.write("gaps.safetensors", safetensors(&tensors));
    let idx = |magic: u8, sizes: &[u8], values: &[u8]| -> Vec<u8> {
        let sizes = sizes.iter().flat_map(|&size| [0, 0, 0, size]);
        [0, 0, 8, magic].into_iter().chain(sizes).chain(values.iter().copied()).collect()
    };
    let pixels: Vec<u8> = (0..24).map(|i| i * 10).collect();
    home.write("images.idx", idx(3, &[6, 2, 2], &pixels));
    home.write("labels.idx", idx(1, &[6], &[7, 3, 5, 7, 3, 5]));
    let model = "--set teacher={model={type=\"mlp\",hidden_sizes=[4]}}";
    for (data, wanted) in [
        ("{source=\"csv\",train=\"gaps.csv\",test=\"gaps.csv\"}", ["90000", "90001", "90002"]),
        (
            "{source=\"safetensors\",train=\"gaps.safetensors\",test=\"gaps.safetensors\"}",
            ["90000", "90001", "90002"],
        ),
        (
            "{source=\"idx\",train_images=\"images.idx\",train_labels=\"labels.idx\",test_images=\"images.idx\",test_labels=\"labels.idx\"}",
            ["3", "5", "7"],
        ),
    ] {
        home.done(&format!("run points.toml -q --out run {model} --set data={data} --force"));
        let config = home.json("run/student/config.json");
        assert_eq!((&config["class_names"], &config["num_classes"]), (&json!(wanted), &json!(3)));
        let report = home.json("run/report.json");
        assert_eq!(report["examples"]["test"], json!(6));
    }
    let measured = [("gaps.csv", 6), ("gaps.safetensors", 6)];
    home.done(&format!(
        "run points.toml -q --out run {model} --set data={{source=\"csv\",train=\"gaps.csv\",test=\"gaps.csv\"}} --force"
    ));
    let errors = measured.map(|(data, examples)| {
        let report = eval(&home, &format!("run/student --data {data}"));
        assert_eq!(report["examples"], json!(examples));
        report["errors_per_class"].clone()
    });
    assert_eq!(errors[0], errors[1]);
}

#[test]
fn numbers_are_no_classes() {
    let home = super::texts::home();
    home.write("points.toml", RECIPE.replace("hand", "bert"));
    let wanted = ["3.80 is a number and not a class", "round the labels", "name another column"];
    let texts = |name: &str| {
        format!("run texts.toml --set data.train=\"{name}\" --set data.test=\"{name}\"")
    };
    let csv = "text,score,label\ngood,1,pos\nbad,3.80,neg\nbad,2,neg\n";
    home.write("scores.csv", csv);
    home.refused(
        &format!("{} --set data.label=\"score\"", texts("scores.csv")),
        &[&["scores.csv: line 3, column `score`: "], &wanted[..]].concat(),
    );
    home.write("scores.tsv", csv.replace(',', "\t"));
    home.refused(&format!("{} --set data.label=\"score\"", texts("scores.tsv")), &wanted);
    let lines = "{\"text\": \"good\", \"label\": 1}\n{\"text\": \"bad\", \"label\": 3.8}\n";
    home.write("scores.jsonl", lines);
    home.refused(
        &texts("scores.jsonl"),
        &["scores.jsonl: line 2, column `label`: 3.8 is a number and not a class"],
    );
    home.write("table.csv", "a,label\n1,1\n2,3.80\n");
    let table = "run points.toml --set data.train=\"table.csv\" --set data.test=\"table.csv\"";
    home.refused(table, &[&["table.csv: line 3, column 1 (`label`): "], &wanted[..]].concat());
    let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
        ("features", Dtype::F32, &[2, 1], &floats(&[1.0, 2.0])),
        ("labels", Dtype::F32, &[2], &floats(&[1.0, 3.8])),
    ];
    home.write("x.safetensors", safetensors(&tensors));
    home.refused(
        "run tiny.toml --set data={source=\"safetensors\",train=\"x.safetensors\",test=\"x.safetensors\"}",
        &["tensor `labels`: its dtype is F32", "whole numbers of classes"],
    );
}

#[test]
fn a_class_that_training_lacks_is_refused_in_every_source() {
    let home = super::texts::home();
    let lacking = |set: &str, recipe: &str, wanted: &[&str]| {
        home.refused(&format!("run {recipe} --set data={set}"), wanted);
    };
    home.write("train.csv", "text,label\ngood,pos\nbad,neg\n");
    home.write("test.csv", "text,label\ngood,pos\nwell,so so\n");
    let texts = "{source=\"text\",train=\"train.csv\",test=";
    let wanted = "test.csv: line 3, column `label`: the training data have no class \"so so\"; they have `neg`, `pos`";
    lacking(&format!("{texts}\"test.csv\"}}"), "texts.toml", &[wanted]);
    lacking(&format!("{texts}\"train.csv\",validation=\"test.csv\"}}"), "texts.toml", &[wanted]);
    home.write("a.csv", "a,label\n1,2\n2,4\n");
    home.write("b.csv", "a,label\n1,2\n2,3\n");
    let table = "{source=\"csv\",train=\"a.csv\",test=";
    let wanted = "b.csv: line 3, column 1 (`label`): the training data have no class \"3\"; they have `2`, `4`";
    lacking(&format!("{table}\"b.csv\"}}"), "tiny.toml", &[wanted]);
    lacking(&format!("{table}\"a.csv\",validation=\"b.csv\"}}"), "tiny.toml", &[wanted]);
    for (name, labels) in [("a", [2, 4]), ("b", [2, 3])] {
        let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
            ("features", Dtype::F32, &[2, 1], &floats(&[1.0, 2.0])),
            ("labels", Dtype::U8, &[2], &labels),
        ];
        home.write(&format!("{name}.safetensors"), safetensors(&tensors));
        home.write(&format!("{name}.labels"), [&[0, 0, 8, 1, 0, 0, 0, 2], &labels[..]].concat());
        let image = [b"P5\n1 1\n255\n", &labels[..1]].concat();
        for label in labels {
            home.write(&format!("{name}/{label}/x.pgm"), &image);
        }
    }
    let wanted = "has the class `3`, and the training data have only `2`, `4`";
    let tensors = "{source=\"safetensors\",train=\"a.safetensors\",test=";
    lacking(&format!("{tensors}\"b.safetensors\"}}"), "tiny.toml", &["b.safetensors ", wanted]);
    let validation = "\"a.safetensors\",validation=\"b.safetensors\"}";
    lacking(&format!("{tensors}{validation}"), "tiny.toml", &["b.safetensors ", wanted]);
    home.write(
        "images",
        [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1], &[9_u8, 8][..]].concat(),
    );
    let idx = "{source=\"idx\",train_images=\"images\",train_labels=\"a.labels\",test_images=\"images\",test_labels=\"b.labels\"}";
    lacking(idx, "tiny.toml", &["b.labels ", wanted]);
    let images = "{source=\"images\",train=\"a\",test=\"b\"}";
    lacking(images, "tiny.toml", &["b/3: ", "has no class of this name, only `2`, `4`"]);
}

#[test]
fn a_model_of_another_problem_is_no_classifier() {
    let home = super::texts::home();
    let config = String::from_utf8(home.read("bert/config.json")).unwrap();
    let labels =
        "--set teacher={folder=\"bert\",labels={LABEL_0=\"neg\",LABEL_1=\"pos\",LABEL_2=\"so\"}}";
    for (problem, task) in
        [("regression", "regression"), ("multi_label_classification", "multi-label")]
    {
        let key = format!("{{ \"problem_type\": \"{problem}\",");
        home.write("bert/config.json", config.replacen('{', &key, 1));
        let named = format!("not made for `task = \"classification\"`, but for `{task}`");
        home.refused(&format!("run texts.toml {labels}"), &["teacher.folder: ", &named]);
        home.refused("eval bert --data train.csv --device cpu", &["train.csv"]);
        // What starts from it has a classifier of its own.
        home.done(&format!("run texts.toml -q --out {problem}"));
    }
}
