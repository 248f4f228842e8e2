//! What the program says to input that is wrong: what it is, where, and what to do, in one line, with code
//! 1; and no file is left or changed.

use std::fs;
use std::process::Command;

use super::{HAND_CONFIG, HAND_WEIGHTS, Home, fails, floats, safetensors, say, tensor};
use safetensors::Dtype;

/// No Vulkan driver to be found.
fn without_drivers(mut command: Command) -> Command {
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    command
}

/// `run` on data of that `--set`.
fn run_on(data: &str) -> String {
    format!("run tiny.toml --set data={{{data}}}")
}

/// A safetensors file of this header, whatever it says, and so many bytes.
pub fn hostile(header: &str, bytes: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn arguments_that_make_no_sense_have_their_own_code() {
    let home = Home::new();
    for (arguments, wanted) in [
        ("", "Usage: distil-gpu"),
        ("rum", "run"),
        ("run --sed 1", "--seed"),
        ("run --seed x", "--seed"),
        ("run --seed 4294967296", "4294967296"),
        ("eval hand", "--data"),
        ("logits hand --out z", "--input"),
        ("logits hand --input x --out z --device cuda", "auto, cpu, gpu or gpu:N"),
        ("run --device gpu:x", "there is no device `gpu:x`"),
        ("sweep", "nothing varies"),
        ("run --learning-rate 0.1", "--set train.optimizer.lr=VALUE"),
        ("sweep --T=3", "--set distil.temperature=VALUE"),
        ("tiny.toml", "distil-gpu run tiny.toml"),
    ] {
        let said = say(home.command(arguments));
        assert_eq!((said.code, &*said.out), (Some(2), ""), "{arguments}: {said:?}");
        assert!(said.err.contains(wanted), "{arguments}: {}", said.err);
    }
}

#[test]
fn recipes() {
    let home = Home::new();
    home.refused("run none.toml", &["none.toml", "cannot be read", "No such file"]);
    home.refused("run .", &[".: this is a folder", "distil-gpu init"]);
    home.write("begun/recipe.toml", "");
    home.refused("run begun", &["distil-gpu run --resume begun"]);
    home.write("not.toml", "[data\nsource = 1");
    home.refused("run not.toml", &["not.toml:1:6: this is not TOML"]);
    home.write("latin.toml", b"name = \"caf\xe9\"");
    home.refused("run latin.toml", &["latin.toml", "UTF-8"]);
    let tiny = String::from_utf8(home.read("tiny.toml")).unwrap();
    for (from, to, wanted) in [
        ("epochs =", "epoch =", ["wrong.toml:16:1: unknown key `epoch` in [train]", "`epochs`?"]),
        ("batch = 32", "batch = \"32\"", ["wrong.toml:17:9: `train.batch`", "at least 1"]),
        ("\"sgd\"", "\"sgb\"", ["wrong.toml:18:22: `train.optimizer.name`", "did you mean `sgd`?"]),
        ("[student]", "[studnet]", ["wrong.toml:12:2: unknown key `studnet`", "`student`?"]),
        ("[32]", "[0]", ["wrong.toml:10:40: `teacher.model.hidden_sizes`", "1 to 1000000"]),
        ("lr = 0.05", "lr = nan", ["wrong.toml:18:34: `train.optimizer.lr`", "above 0"]),
    ] {
        home.write("wrong.toml", tiny.replacen(from, to, 1));
        home.refused("run wrong.toml", &wanted);
    }
    for (set, wanted) in [
        ("distil.temperature=0", "--set distil.temperature=0: `distil.temperature` is 0"),
        ("distil.temprature=8", "did you mean `temperature`?"),
        ("learning_rate=1e-3", "did you mean `train.optimizer.lr`?"),
        ("train.batch_size=8", "did you mean `batch`?"),
        ("train.T=2", "did you mean `distil.temperature`?"),
        (
            "train.warmup_ratio=0.1",
            "did you mean `train.schedule.warmup_steps`, a number of steps?",
        ),
        ("teacher.epochs=3", "did you mean `teacher.train.epochs`?"),
        ("train.optimizer.name=AdamW", "did you mean `adamw`?"),
        ("train.optimizer=adamw", "must be a table, as { name = \"adamw\", lr = 1e-3 }"),
        ("data.train=x.csv", "unknown key `train` in [data]; it goes with another `source`"),
        ("seed", "KEY=VALUE"),
        ("device=cuda", "\"auto\", \"cpu\", \"gpu\""),
        ("name=..", "`name`"),
        ("name=a/b", "`name`"),
        ("data.source=mnist", "\"embedded\""),
        ("train.steps=3", "not both"),
        ("task=masked", "`task` is the string \"masked\"; it must be one of \"classification\""),
        ("task=masked-lm", "set `data.source` to \"text\""),
        ("task=embedding", "set `data.source` to \"text\""),
    ] {
        home.refused(&format!("run tiny.toml --set {set}"), &[wanted]);
    }
}

#[test]
fn idx_files() {
    let home = Home::new();
    let run = run_on(
        "source=\"idx\",train_images=\"i\",train_labels=\"l\",test_images=\"i\",test_labels=\"l\"",
    );
    home.refused(&run, &["/i: cannot be read", "No such file"]);
    let header = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2];
    home.write("l", [0, 0, 8, 1, 0, 0, 0, 2, 0, 1]);
    for (bytes, wanted) in [
        (&header[..9], "cut off"),
        (&[header, [7; 16]].concat()[..20], "2 × 2 × 2 values declared, 4 found"),
        (&[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], "cannot hold"),
        (&[0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 255, 255, 255], "gzip stream is damaged"),
        (b"<html>not found</html>", "it begins with 0x3c68746d"),
        (&[], "cut off"),
    ] {
        home.write("i", bytes);
        home.refused(&run, &["/i: ", wanted]);
    }
    home.write("i", [&header[..], &[7; 8]].concat());
    home.write("l", [0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 0]);
    home.refused(&run, &["/l: 3 labels for the 2 images"]);
}

#[test]
fn csv_files() {
    let home = Home::new();
    let run = run_on("source=\"csv\",train=\"t.csv\",test=\"t.csv\"");
    home.refused(&run, &["t.csv: cannot be read", "No such file"]);
    for (text, wanted) in [
        ("", "t.csv: it is empty"),
        ("a,label\n", "t.csv: it holds no example"),
        ("a,label\n1,0\nabc,1\n", "line 3, column 0 (`a`): \"abc\" is not a number"),
        ("a,label\nNaN,0\n", "line 2, column 0 (`a`): \"NaN\" is not a finite"),
        ("a,label\n1,0\n2\n", "line 3 has 1 column, and"),
        ("a,b\n1,0\n", "no column is named `label`"),
        ("a,label\n1,-1\n1,0.5\n", "line 3, column 1 (`label`): 0.5 is a number and not a class"),
    ] {
        home.write("t.csv", text);
        home.refused(&run, &[wanted]);
    }
    home.write("t.csv", "a,b,label\n1,2,0\n3,4,1\n");
    home.refused(&format!("{run} --set train.shift=1"), &["`shift`", "CSV", "leave it out"]);
    home.refused(
        &run_on("source=\"csv\",train=\"t.csv\",test=\"t.csv\",label=9"),
        &["no column 9"],
    );
}

#[test]
fn safetensors_files() {
    let home = Home::new();
    let run = run_on("source=\"safetensors\",train=\"d\",test=\"d\"");
    home.refused(&run, &["/d: cannot be read", "No such file"]);
    let [x, two] = [floats(&[1.0, 2.0, 3.0, 4.0]), vec![0, 1]];
    let labels = ("labels", Dtype::U8, &[2][..], &*two);
    let good = safetensors(&[("features", Dtype::F32, &[2, 2], &x), labels]);
    let nan = floats(&[1.0, 2.0, f32::NAN, 4.0]);
    let big = "{\"features\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,1600]}}";
    let over = "{\"features\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\
                \"labels\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[4,12]}}";
    let endless = "{\"features\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\
                   \"data_offsets\":[0,8]}}";
    for (bytes, wanted) in [
        (Vec::new(), "cut off or damaged"),
        (good[..good.len() - 3].to_vec(), "cut off or damaged"),
        (hostile("{}", 0)[..4].to_vec(), "cut off or damaged"),
        ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "cut off or damaged"),
        (hostile("{\"features\":", 0), "cut off or damaged"),
        (hostile(big, 16), "cut off or damaged"),
        (hostile(over, 12), "cut off or damaged"),
        (hostile(endless, 8), "cut off or damaged"),
        (hostile("{}", 0), "no tensor `features`; the file holds none"),
        (safetensors(&[("features", Dtype::F32, &[2, 2], &nan), labels]), "row 1 holds NaN"),
        (safetensors(&[("features", Dtype::I32, &[2, 2], &x), labels]), "its dtype is I32"),
        (safetensors(&[("features", Dtype::F32, &[4], &x), labels]), "features are [rows, n]"),
        (safetensors(&[("features", Dtype::F32, &[2, 0], &[]), labels]), "none of them 0"),
        (safetensors(&[("features", Dtype::F32, &[1, 4], &x), labels]), "`labels`"),
        (safetensors(&[("features", Dtype::F32, &[2, 2], &x)]), "no tensor `labels`"),
    ] {
        home.write("d", bytes);
        home.refused(&run, &["/d: ", wanted]);
    }
    home.write("d", &good);
    home.refused(&format!("{run} --set train.shift=1"), &["`shift` moves images", "leave"]);
}

#[test]
fn image_folders() {
    let home = Home::new();
    let run = run_on("source=\"images\",train=\"p\",test=\"p\"");
    home.refused(&run, &["/p: cannot be read", "No such file"]);
    home.write("p/cat/a.pgm", b"P5\n2 2\n255\nabcd");
    home.write("p/dog/b.pgm", b"P5\n2 3\n255\nabcdef");
    home.refused(&run, &["p/dog/b.pgm: ", "`data.size`"]);
    home.write("p/dog/b.pgm", b"P5\n2 2\n255\nab");
    home.refused(&run, &["p/dog/b.pgm: this image cannot be read"]);
    home.write("p/dog/b.pgm", b"P5\n2 2\n255\nabcd");
    home.write("p/dog/notes.txt", "a good dog");
    home.refused(&run, &["notes.txt: this is not an image", "take it out"]);
}

#[test]
fn models() {
    let home = Home::new();
    let input = "--input x --out z --device cpu";
    let logits = format!("logits hand {input}");
    home.refused(&logits, &["hand/config.json: no such file; a model is a folder"]);
    home.refused(&format!("logits tiny.toml {input}"), &["a model is a folder with config.json"]);
    home.write("hand/config.json", HAND_CONFIG);
    home.refused(
        &logits,
        &["hand: it has neither model.safetensors nor model.safetensors.index.json"],
    );
    home.write_hand();
    home.refused(&logits, &["x: cannot be read"]);
    for (from, to, wanted) in [
        ("{", "[", "not a model configuration"),
        ("\"mlp\"", "\"rnn\"", "its model_type `rnn` is none of mlp, resnet, timm, bert"),
        ("\"input_size\": 2", "\"input_size\": -2", "not a model configuration"),
        ("\"input_size\": 2", "\"input_size\": 3", "input_shape [2] is not input_size 3"),
        ("\"hidden_sizes\": [2]", "\"hidden_sizes\": [0]", "a size of 0 is not possible"),
        (
            "\"hidden_sizes\": [2]",
            "\"hidden_sizes\": [1152921504606846976]",
            "a size of 1152921504606846976 is not possible",
        ),
        (
            "\"hidden_sizes\": [2]",
            "\"hidden_sizes\": [16777216,16777216]",
            "its tensors are not those of config.json",
        ),
        ("\"num_classes\": 3", "\"num_classes\": 4", "3 class_names for num_classes 4"),
        ("\"dropout\": 0.0", "\"dropout\": 1.5", "below 1"),
        ("\"mean\": [0.0]", "\"mean\": [0.0, 0.0, 0.0]", "a normalisation of 3 means"),
        ("\"std\": [1.0]", "\"std\": [-1.0]", "stds of at least 0"),
    ] {
        assert!(HAND_CONFIG.contains(from));
        home.write("hand/config.json", HAND_CONFIG.replacen(from, to, 1));
        home.refused(&logits, &["hand/", wanted]);
    }
    home.write_hand();
    let whole = home.read("hand/model.safetensors");
    home.write("hand/model.safetensors", &whole[..whole.len() - 1]);
    home.refused(&logits, &["hand/model.safetensors: not a whole safetensors file"]);
    home.write_f32("hand/model.safetensors", &HAND_WEIGHTS[..3]);
    home.refused(&logits, &["Missing: layers.1.bias"]);
    let mut more = HAND_WEIGHTS.to_vec();
    more.push(("head.scale", &[1], &[1.0]));
    home.write_f32("hand/model.safetensors", &more);
    home.refused(&logits, &["Unexpected: head.scale"]);
    for (tensor, wanted) in [
        (
            ("layers.1.bias", &[1, 3][..], &[0.0; 3][..]),
            "Of another shape: layers.1.bias [1, 3] for [3]",
        ),
        (("layers.1.bias", &[2], &[0.0; 2]), "Of another shape: layers.1.bias [2] for [3]"),
        (("layers.1.bias", &[3], &[0.0, f32::INFINITY, 0.0]), "holds inf at element 1"),
    ] {
        let mut weights = HAND_WEIGHTS;
        weights[3] = tensor;
        home.write_f32("hand/model.safetensors", &weights);
        home.refused(&logits, &["hand/model.safetensors: ", wanted]);
    }
}

#[test]
fn inputs_that_do_not_fit_the_model() {
    let home = Home::new();
    home.write_hand();
    home.write_f32("x", &[("features", &[1, 3], &[1.0, 2.0, 3.0])]);
    let wanted = ["hand cannot answer x", "takes examples of [2], and these are [3]"];
    home.refused("logits hand --input x --out z", &wanted);
    home.refused("logits hand --input x --tensor y --out z", &["no tensor `y`", "`features`"]);
    home.write_f32("x", &[("features", &[1, 2], &[1.0, 2.0])]);
    home.refused("logits hand --input x --device cpu --out no/z", &["no/z: ", "No such file"]);
    home.refused("eval hand --data embedded", &["hand cannot be measured on embedded"]);
    home.refused("eval hand --data nowhere", &["--data nowhere: no such folder", "`embedded`"]);
    for label in ["dog", "3"] {
        home.write("x.csv", format!("a,b,label\n1,2,{label}\n"));
        let both = "is none of the model's: those are `ant`, `bee`, `cat`, the data's `";
        home.refused(
            "eval hand --data x.csv",
            &["the data's class `", both, "give `--labels ant="],
        );
    }
    home.refused("eval hand --data x.csv --label kind", &["no column is named `kind`"]);
}

#[test]
fn teachers_for_other_data() {
    let home = Home::new();
    home.write_hand();
    home.refused("run tiny.toml --set teacher={folder=\"none\"}", &["none/config.json"]);
    let run = "run tiny.toml --set teacher={folder=\"hand\"}";
    home.refused(run, &["takes examples of [2], and these are [1, 28, 28]"]);
    let csv = |labels: [&str; 3]| {
        format!("a,b,label\n1,2,{}\n3,4,{}\n5,6,{}\n", labels[0], labels[1], labels[2])
    };
    let data = "--set data={source=\"csv\",train=\"t.csv\",test=\"t.csv\"}";
    for labels in [["bee", "cat", "dog"], ["ant", "bee", "bee"]] {
        home.write("t.csv", csv(labels));
        home.refused(&format!("{run} {data}"), &["`ant`, `bee`, `cat`"]);
    }

    home.write("t.csv", csv(["ant", "bee", "cat"]));
    let run = format!("run tiny.toml {data} --set teacher={{logits=\"z\"}}");
    home.refused(&run, &["/z: cannot be read"]);
    let rows = |rows: usize| vec![0.5; 3 * rows];
    for (train, test, wanted) in [
        (4, 3, "`train` is [4, 3], the data needs [3, 3]: one row for each example"),
        (3, 2, "`test` is [2, 3], the data needs [3, 3]"),
    ] {
        let (train, test) = ((train, rows(train)), (test, rows(test)));
        home.write_f32("z", &[("train", &[train.0, 3], &train.1), ("test", &[test.0, 3], &test.1)]);
        home.refused(&run, &[wanted]);
    }
    home.write_f32("z", &[("train", &[3, 2], &[0.0; 6])]);
    home.refused(&run, &["`train` is [3, 2]"]);
    home.write_f32("z", &[("logits", &[3, 3], &rows(3))]);
    home.refused(&run, &["no tensor `train`; the file holds `logits`"]);
    home.write_f32("z", &[("train", &[3, 3], &rows(3)), ("test", &[3, 3], &[f32::NAN; 9])]);
    home.refused(&run, &["`test`", "NaN"]);
    let moved = "run tiny.toml --set teacher={logits=\"z\"} --set train.shift=1";
    home.refused(moved, &["unmoved images", "`train.shift` to 0"]);
}

#[test]
fn devices_that_are_not_there() {
    let home = Home::new();
    home.write_hand();
    home.write_f32("x", &[("features", &[1, 2], &[2.0, 1.0])]);
    home.refused("run tiny.toml --device gpu:99", &["there is no gpu:99", "gpu:0 is "]);
    for device in ["gpu", "gpu:0"] {
        let command = home.command(&format!("run tiny.toml -q --device {device}"));
        fails(without_drivers(command), &["no GPU driver found", "install"]);
    }
    assert!(!home.path("runs").exists());
    let said = say(without_drivers(home.command("logits hand --input x --out z --device auto")));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("Device: CPU") && said.err.contains("no GPU driver found"),
        "{said:?}"
    );
    assert_eq!(tensor(&home.read("z"), "logits").1, [0.5, 0.25, -0.125]);
    let said = say(without_drivers(home.command("devices")));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("auto takes CPU"), "{said:?}");
}

#[test]
fn what_the_data_or_the_device_cannot_give() {
    let home = Home::new();
    let set = |set: &str| format!("run tiny.toml --set {set}");
    home.refused(&set("distil.omit_classes=[10]"), &["class 10 cannot be left out", "10 classes"]);
    home.refused(&set("distil.omit_classes=[0,1,2,3,4,5,6,7,8,9]"), &["no example is left"]);
    home.refused(&set("data.normalise={mean=[0,0,0],std=[1,1,1]}"), &["3 means", "[1, 28, 28]"]);
    let huge = "model.hidden_sizes=[1000000,1000000]";
    for model in ["teacher", "student"] {
        let wanted = ["layers.1.weight needs 4000000000000 bytes", "smaller"];
        home.refused(&set(&format!("{model}.{huge}")), &wanted);
    }
}

/// It is as many examples as there are.
#[test]
fn a_batch_larger_than_the_data_is_all_of_it() {
    let home = Home::new();
    for (out, batch) in [("huge", 4_000_000_000_u32), ("all", 200)] {
        home.done(&format!("run tiny.toml -q --out {out} --set train.batch={batch}"));
    }
    let [huge, all] =
        ["huge", "all"].map(|out| home.read(&format!("{out}/student/model.safetensors")));
    assert!(huge == all);
}

#[test]
fn a_loss_that_is_no_number_spares_the_models_before_it() {
    let home = Home::new();
    let command =
        "run tiny.toml -q --out a --set teacher.train.epochs=1 --set train.optimizer.lr=1e30";
    let wanted = [
        "training of the student alone diverged (NaN or Inf) at step 1: the result [32, 10] of matmul",
        "with layers.1.weight",
        "lower",
        "1e30",
        "clip",
        "--resume a",
    ];
    fails(home.command(command), &wanted);
    let files: Vec<_> = home.files().into_keys().collect();
    let wanted = [
        "a/checkpoints/journal.json",
        "a/journal.json",
        "a/metrics.jsonl",
        "a/recipe.toml",
        "a/teacher/config.json",
        "a/teacher/model.safetensors",
        "tiny.toml",
    ];
    assert_eq!(files, wanted.map(|name| home.path(name)));
    home.done("eval a/teacher --data embedded --device cpu -q");
    // In the last step only, so that no training batch shows it.
    let once = "teacher.train={steps=1,batch=200,optimizer={name=\"sgd\",lr=1e38}}";
    let command = &format!("run tiny.toml -q --out b --set {once}");
    fails(home.command(command), &["training of the teacher diverged (NaN or Inf)"]);
    assert!(!home.path("b/teacher").exists());
}

#[test]
fn results_that_cannot_be_written() {
    let home = Home::new();
    home.refused("run tiny.toml --out tiny.toml/a", &["tiny.toml/a", "Not a directory"]);
    home.refused("run tiny.toml --out tiny.toml", &["tiny.toml", "exists"]);
    home.refused("init tiny.toml/a", &["tiny.toml/a", "Not a directory"]);
    home.refused("run tiny.toml --out .", &[".: holds files already"]);
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_full_disk() {
    let home = Home::new();
    // Blocks of 512 or of 1024 bytes: room for the recipe, and not for the teacher's 102 kB.
    let script = "trap '' XFSZ; ulimit -f 40; exec \"$0\" run tiny.toml -q --out a";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_distil-gpu")]).current_dir(home.path("."));
    fails(command, &["a/teacher/model.safetensors", "File too large"]);
    assert_eq!(fs::read_dir(home.path("a/teacher")).unwrap().count(), 0);
    assert!(!home.path("a/report.json").exists());
}
