//! What recipes mean, and what each bad one is told.

mod aliases;
mod encoders;
mod reference;
mod training;

use super::*;
use crate::data::Normalisation;
use crate::graph::Recompute;
use crate::kernels::Divergence;
use crate::models::Origin;
use crate::nn::Activation;
use crate::store::Storage;

const GOOD: &str = r#"
[data]
source = "embedded"
[teacher]
model = { type = "mlp", hidden_sizes = [1200, 1200], activation = "gelu", dropout = 0.5 }
[student]
model = { type = "mlp", hidden_sizes = [800, 800] }
[train]
epochs = 8
"#;

#[test]
fn residual_networks_have_a_number_for_each_stage() {
    let with = |model: &str| {
        let text = edited(&[("type = \"mlp\", hidden_sizes = [800, 800]", model)]);
        Recipe::parse(&text, "a.toml").map(|recipe| recipe.student.model)
    };
    let model = with("type = \"resnet\", depths = [3, 3], hidden_sizes = [16, 32]").unwrap();
    let Model::ResNet(resnet) = model else { panic!("a resnet") };
    assert_eq!((resnet.depths, resnet.hidden_sizes), (vec![3, 3], vec![16, 32]));
    assert_eq!((resnet.embedding_size, resnet.pre_activation), (None, false));
    for (sizes, problem) in [
        (
            "hidden_sizes = [8, 8], depths = [1]",
            "depths and hidden_sizes have a number for each stage, of 1 to 8: here are 1 and 2",
        ),
        (
            "hidden_sizes = [8, 8], depths = [1, 2000]",
            "depths [1, 2000] are more than the 1024 blocks that are possible",
        ),
    ] {
        let error = with(&format!("type = \"resnet\", {sizes}")).unwrap_err().to_string();
        assert!(error.starts_with("a.toml:7:51: ") && error.ends_with(problem), "{error}");
    }
}

/// `GOOD` with each first text replaced by the second.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(GOOD.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old:?} is not in the recipe");
        text.replacen(old, new, 1)
    })
}

#[track_caller]
fn refused(edits: &[(&str, &str)], message: &str) {
    let error = Recipe::parse(&edited(edits), "a.toml").unwrap_err();
    assert_eq!(error.to_string(), message);
}

/// `GOOD` with this in the place of `epochs = 8`, its first line being the 9th.
#[track_caller]
fn bad_train(keys: &str, message: &str) {
    refused(&[("epochs = 8", keys)], message);
}

/// `GOOD` with this in the place of the data.
#[track_caller]
fn bad_data(keys: &str, message: &str) {
    refused(&[("source = \"embedded\"", keys)], message);
}

#[track_caller]
fn bad_set(set: &str, message: &str) {
    let error = Recipe::parse_with(GOOD, "a.toml", &[set.to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), message);
}

fn set(sets: &[&str]) -> Recipe {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Recipe::parse_with(GOOD, "a.toml", &sets).unwrap()
}

#[test]
fn fills_in_defaults() {
    let recipe = Recipe::parse(GOOD, "some/fashion.toml").unwrap();
    assert_eq!((recipe.name.as_str(), recipe.seed, recipe.device.as_str()), ("fashion", 0, "auto"));
    assert_eq!(recipe.out, None);
    assert_eq!(recipe.data.normalise, Some(Normalise::Standardise));
    let distil = Distil {
        divergence: Divergence::default(),
        standardise: false,
        soft_weight: None,
        hard_weight: None,
        temperature: 4.0,
        alpha: 0.9,
        omit_classes: Vec::new(),
        train_limit: None,
        gradient_shares: false,
        on_policy: None,
        hidden: Vec::new(),
        relations: Vec::new(),
    };
    assert_eq!(recipe.distil, distil);
    let train = Train {
        length: Length::Epochs(8),
        batch: 128,
        accumulate: 1,
        recompute: Recompute::None,
        shift: 0,
        clip: None,
        max_norm: None,
        optimizer: Optimizer::Sgd(Sgd {
            lr: 0.05,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
        }),
        schedule: Schedule::Cosine { warmup_steps: 0, final_lr: 0.0 },
        evaluate_every: None,
        keep: Keep::Last,
        best_by: None,
        patience: None,
        precision: Precision::F32,
        layer_decay: 1.0,
        label_smoothing: 0.0,
        class_weights: None,
        groups: Vec::new(),
    };
    assert_eq!(recipe.train, train);
    let model = Model::Mlp {
        hidden_sizes: vec![1200, 1200],
        activation: Activation::Gelu,
        dropout: 0.5,
        input_dropout: 0.0,
    };
    assert_eq!(
        recipe.teacher,
        Teacher::Trained { model: Box::new(model), train, weights: Storage::F32 }
    );
}

#[test]
fn the_default_recipe_is_good() {
    let recipe = Recipe::embedded_default(&["seed=3".to_owned()]).unwrap();
    assert_eq!((recipe.seed, recipe.data.source), (3, Source::Embedded));
    assert_eq!(recipe.name, "default");
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let texts = [
        edited(&[]),
        edited(&[
            (
                "source = \"embedded\"",
                "source = \"idx\"\ntrain_images = \"a\"\ntrain_labels = \"b\"\ntest_images = \"c\"\n\
                 test_labels = \"d\"\nvalidation = 0.1\nnormalise = { mean = [0.1], std = [0.3] }",
            ),
            (
                "epochs = 8",
                "steps = 1000\nbatch = 32\nshift = 2\nclip = 1\nmax_norm = 15.0\noptimizer = { name = \
                 \"adamw\", lr = 3e-4, eps = 1e-7 }\nschedule = { name = \"step\", every = 3, \
                 warmup_steps = 10 }\naccumulate = 4\nkeep = \"best\"\nbest_by = \"macro_f1\"\npatience = 3\nlayer_decay = 0.9\ngroups = [{ match = \"a.*\", lr = 0.0 }, { \
                 match = \"b\", lr_factor = 2.0, weight_decay = 0.1 }]\n[distil]\ntemperature = 0.7\nsoft_weight = 5.0\nhard_weight = 2.0\nomit_classes = [3, 0]\ntrain_limit = 9",
            ),
        ]),
        edited(&[
            ("[data]", "name = \"b\"\nout = \"here\"\ndevice = \"gpu:1\"\nseed = 4294967295\ntask = \"masked-lm\"\n[data]"),
            (
                "source = \"embedded\"",
                "source = \"csv\"\ntrain = \"a\"\ntest = \"b\"\nlabel = 0\nheader = false\ntrain_limit = 7",
            ),
            ("epochs = 8", "epochs = 8\nschedule = { name = \"linear\", final_lr = 1e-6 }"),
        ]),
        edited(&[
            ("source = \"embedded\"", "source = \"csv\"\ntrain = \"a\"\ntest = \"b\"\nnormalise = \"none\""),
            ("epochs = 8", "epochs = 8\nschedule = { name = \"constant\" }"),
        ]),
        edited(&[("epochs = 8", "epochs = 8\n[distil]\nhidden = [{ loss = \"mse\", teacher_layer = 3 }, \
             { loss = \"cosine\" }]\nrelations = [{ of = \"values\", weight = 0.5 }]")]),
        edited(&[(
            "source = \"embedded\"",
            "source = \"images\"\ntrain = \"a\"\ntest = \"b\"\nsize = [28, 20]\nchannels = 3",
        )]),
        edited(&[("dropout = 0.5 }", "dropout = 0.5 }\nweights = \"f16\"")]),
        edited(&[("source = \"embedded\"", "source = \"safetensors\"\ntrain = \"a\"\ntest = \"b\"")]),
        "[data]\nsource = \"embedded\"\n[teacher]\nfolder = \"t\"\nweights = \"f16\"\n[student]\nmodel = { type = \"mlp\", \
         hidden_sizes = [1] }\n[train]\nsteps = 1\noptimizer = { name = \"adam\", lr = 0.1 }"
            .to_owned(),
        "[data]\nsource = \"embedded\"\n[teacher]\nfolder = \"hf:o/n@v1\"\n[student]\nmodel = { type = \
         \"encoder\", from = \"hf:o/n\" }\n[train]\nsteps = 1"
            .to_owned(),
        "[data]\nsource = \"embedded\"\n[teacher]\nlogits = \"t\"\n[student]\nmodel = { type = \"mlp\", \
         hidden_sizes = [1] }\n[train]\nsteps = 1"
            .to_owned(),
    ];
    for text in texts {
        let recipe = Recipe::parse(&text, "some/folder/a.toml").unwrap();
        let written = recipe.to_toml().unwrap();
        let mut again = Recipe::parse(&written, "elsewhere/a.toml").unwrap();
        assert_eq!(again, recipe, "{written}");
        again.name = "other".to_owned();
        assert_ne!(again, recipe);
    }
}

#[test]
fn losses_of_features_have_their_keys() {
    let recipe = set(&["distil.hidden=[{ loss = \"cosine\", student_layer = 2 }]"]);
    let term = HiddenLoss {
        loss: HiddenDistance::Cosine,
        student_layer: 2,
        teacher_layer: -1,
        weight: 1.0,
    };
    assert_eq!(recipe.distil.hidden, [term]);
    bad_train(
        "epochs = 8\n[[distil.hidden]]\nloss = \"mse\"\n[[distil.hidden]]\nloss = \"mae\"",
        "a.toml:13:8: `distil.hidden.1.loss` is the string \"mae\"; it must be one of \"cosine\", \"mse\"; did you mean `mse`?",
    );
    bad_train(
        "epochs = 8\n[distil]\nrelations = [{ off = \"values\" }]",
        "a.toml:11:16: unknown key `off` in [distil.relations.0]; did you mean `of`? Known keys: of, \
         student_layer, teacher_layer, weight",
    );
    bad_set(
        "distil.hidden={ loss = \"mse\" }",
        "--set distil.hidden={ loss = \"mse\" }: `distil.hidden` is a table; it must be a list of tables",
    );
    bad_set(
        "distil.hidden=[{ loss = \"mse\", teacher_layer = 0.5 }]",
        "--set distil.hidden=[{ loss = \"mse\", teacher_layer = 0.5 }]: `distil.hidden.0.teacher_layer` is \
         0.5; it must be the number of a layer, from the first as 1 or from the last as -1",
    );
    refused(
        &[
            (
                "model = { type = \"mlp\", hidden_sizes = [1200, 1200], activation = \"gelu\", dropout = 0.5 }",
                "logits = \"t\"",
            ),
            ("epochs = 8", "epochs = 8\n[distil]\nhidden = [{ loss = \"mse\" }]"),
        ],
        "a.toml:11:1: `hidden` needs a teacher that is a model, and this one is a file of logits",
    );
}

#[test]
fn paths_stand_against_the_recipes_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let keys = "source = \"safetensors\"\ntrain = \"x/a\"\ntest = \"b\"\nfeatures = \"f\"";
    std::fs::write(&path, edited(&[("source = \"embedded\"", keys)])).unwrap();
    let recipe = Recipe::load(&path, &["data.test=c".to_owned()]).unwrap();
    let here = std::env::current_dir().unwrap();
    let source = Source::Safetensors {
        train: folder.path().join("x/a"),
        test: here.join("c"),
        features: "f".to_owned(),
        labels: "labels".to_owned(),
    };
    assert_eq!(recipe.data.source, source);
    assert_eq!(recipe.out, None);
    let missing = Recipe::load(&folder.path().join("b.toml"), &[]).unwrap_err().to_string();
    assert!(missing.contains("b.toml: the recipe cannot be read"), "{missing}");
}

#[test]
fn sets_stand_above_the_file() {
    let recipe = set(&[
        "distil.temperature=8",
        "distil.temperature = 20",
        "name=other",
        "student.model.hidden_sizes=[32]",
        "train.optimizer={ name = \"adam\", lr = 1e-3 }",
        "train.optimizer.lr=0.5",
        "data.normalise={ mean = [0.5], std = [0.25] }",
    ]);
    assert_eq!((recipe.distil.temperature, recipe.name.as_str()), (20.0, "other"));
    assert_eq!(recipe.train.optimizer.lr(), 0.5);
    let given = Normalisation { mean: vec![0.5], std: vec![0.25] };
    assert_eq!(recipe.data.normalise, Some(Normalise::Given(given)));
    let Model::Mlp { hidden_sizes, .. } = recipe.student.model else { panic!("an mlp") };
    assert_eq!(hidden_sizes, [32]);
}

#[test]
fn refuses_bad_sets() {
    bad_set(
        "distil.tempature=8",
        "--set distil.tempature=8: unknown key `tempature` in [distil]; did you mean `temperature`? \
         Known keys: temperature, alpha, soft_weight, hard_weight, divergence, beta, skew, taid_start, dkd_alpha, dkd_beta, standardise, omit_classes, train_limit, gradient_shares, on_policy, hidden, relations",
    );
    bad_set(
        "train.batch=0",
        "--set train.batch=0: `train.batch` is 0; it must be a whole number of at least 1",
    );
    bad_set(
        "train.optimizer={ name = \"sgd\" }",
        "--set train.optimizer={ name = \"sgd\" }: [train.optimizer] needs `lr`: a number above 0",
    );
    bad_set("seed", "--set seed: it must be KEY=VALUE, as in --set distil.temperature=8");
    bad_set("a..b=1", "--set a..b=1: it must be KEY=VALUE, as in --set distil.temperature=8");
    bad_set("train.epochs.x=1", "--set train.epochs.x=1: `epochs` is not a table in the recipe");
    // More than one value is no value, and so a string.
    bad_set(
        "seed=1\nname=\"b\"",
        "--set seed=1\nname=\"b\": `seed` is the string \"1\\nname=\\\"b\\\"\"; it must be a whole number \
         from 0 to 4294967295",
    );
}

#[test]
fn refuses_what_is_not_toml() {
    refused(
        &[("epochs = 8", "epochs = = 8")],
        "a.toml:9:10: this is not TOML: extra `=`, expected nothing",
    );
    refused(
        &[("epochs = 8", "epochs = 8\nepochs = 9")],
        "a.toml:10:1: this is not TOML: duplicate key",
    );
}

#[test]
fn refuses_unknown_keys_with_the_nearest() {
    refused(
        &[("[data]", "[distill]\nalpha = 1\n[data]")],
        "a.toml:2:2: unknown key `distill` in the recipe; did you mean `distil`? Known keys: name, \
         task, seed, out, device, checkpoint_seconds, tensorboard, precision, data, teacher, student, distil, train, target",
    );
    refused(
        &[("epochs = 8", "epochs = 8\n[distil]\nalpha = 0.5\n  tempature = 4")],
        "a.toml:12:3: unknown key `tempature` in [distil]; did you mean `temperature`? Known keys: \
         temperature, alpha, soft_weight, hard_weight, divergence, beta, skew, taid_start, dkd_alpha, dkd_beta, standardise, omit_classes, train_limit, gradient_shares, on_policy, hidden, relations",
    );
    bad_train(
        "epochs = 8\noptimizer = { name = \"sgd\", lr = 0.1, momentun = 0.9 }",
        "a.toml:10:39: unknown key `momentun` in [train.optimizer]; did you mean `momentum`? Known keys: \
         name, lr, momentum, nesterov, weight_decay",
    );
    bad_train(
        "epochs = 8\nschedule = { name = \"cosine\", xyz = 0.9 }",
        "a.toml:10:31: unknown key `xyz` in [train.schedule]. Known keys: name, warmup_steps, final_lr",
    );
    bad_data(
        "source = \"csv\"\ntrain = \"a\"\ntest = \"b\"\nlabels = \"y\"",
        "a.toml:6:1: unknown key `labels` in [data]; did you mean `label`? Known keys: source, train, \
         test, label, header, train_limit, test_limit, validation, normalise",
    );
    refused(
        &[("hidden_sizes = [800", "hiden_sizes = [800")],
        "a.toml:7:25: unknown key `hiden_sizes` in [student.model]; did you mean `hidden_sizes`? Known \
         keys: type, hidden_sizes, activation, dropout, input_dropout",
    );
    refused(
        &[("[student]", "[student]\nmodle = 1")],
        "a.toml:7:1: unknown key `modle` in [student]; did you mean `model`? Known keys: model",
    );
    refused(
        &[("epochs = 8", "epochs = 8\n[teacher.train]\nepoch = 8")],
        "a.toml:11:1: unknown key `epoch` in [teacher.train]; did you mean `epochs`? Known keys: epochs, \
         steps, batch, accumulate, recompute, shift, clip, max_norm, optimizer, schedule, evaluate_every, keep, \
         best_by, patience, layer_decay, label_smoothing, class_weights, groups",
    );
    bad_data(
        "source = \"embedded\"\nnormalise = { means = [0] }",
        "a.toml:4:15: unknown key `means` in [data.normalise]; did you mean `mean`? Known keys: mean, std",
    );
}

#[test]
fn refuses_unknown_words_with_the_nearest() {
    bad_train(
        "epochs = 8\noptimizer = { name = \"addam\", lr = 0.1 }",
        "a.toml:10:22: `train.optimizer.name` is the string \"addam\"; it must be one of \"sgd\", \
         \"adam\", \"adamw\"; did you mean `adam`?",
    );
    bad_train(
        "epochs = 8\nschedule = { name = 3 }",
        "a.toml:10:21: `train.schedule.name` is 3; it must be one of \"constant\", \"cosine\", \"linear\", \
         \"step\"",
    );
    bad_data(
        "source = \"embeded\"",
        "a.toml:3:10: `data.source` is the string \"embeded\"; it must be one of \"embedded\", \"idx\", \
         \"csv\", \"safetensors\", \"text\", \"images\"; did you mean `embedded`?",
    );
    refused(
        &[("type = \"mlp\", hidden_sizes = [800", "type = \"cnn\", hidden_sizes = [800")],
        "a.toml:7:18: `student.model.type` is the string \"cnn\"; it must be one of \"mlp\", \"resnet\", \"efficientnet\", \"encoder\", \"decoder\"",
    );
    refused(
        &[("\"gelu\"", "\"rélu\"")],
        "a.toml:5:67: `teacher.model.activation` is the string \"rélu\"; it must be one of \"relu\", \
         \"gelu\", \"tanh\"; did you mean `relu`?",
    );
    bad_data(
        "source = \"embedded\"\nnormalise = \"standardize\"",
        "a.toml:4:13: `data.normalise` is the string \"standardize\"; it must be one of \"standardise\", \
         \"none\"; did you mean `standardise`?",
    );
}

#[test]
fn refuses_values_out_of_range() {
    let distil = |value: &str, message: &str| {
        let keys = format!("epochs = 8\n[distil]\n{value}");
        bad_train(&keys, &format!("a.toml:11:{message}"));
    };
    let allowed = "a number from 0.01 to 10000 (from 100 on, the loss hardly changes any more)";
    for (value, shown) in [
        ("0", "0"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("true", "true"),
        ("1e20", "1e20"),
        ("10001", "10001"),
        ("1e-3", "1e-3"),
    ] {
        let problem = format!("15: `distil.temperature` is {shown}; it must be {allowed}");
        distil(&format!("temperature = {value}"), &problem);
    }
    assert_eq!(set(&["distil.temperature=1e4"]).distil.temperature, 1e4);
    assert_eq!(set(&["distil.temperature=0.01"]).distil.temperature, 0.01);
    distil("alpha = 1.5", "9: `distil.alpha` is 1.5; it must be a number from 0 to 1");
    distil("alpha = -0.1", "9: `distil.alpha` is -0.1; it must be a number from 0 to 1");
    distil(
        "alpha = \"a\"",
        "9: `distil.alpha` is the string \"a\"; it must be a number from 0 to 1",
    );
    distil(
        "omit_classes = [0, -1]",
        "16: `distil.omit_classes` is [0, -1]; it must be a list of classes: their \
         names in quotes, or their numbers, counted from 0",
    );

    let train = |value: &str, message: &str| {
        bad_train(&format!("epochs = 8\n{value}"), &format!("a.toml:10:{message}"));
    };
    train("batch = 0", "9: `train.batch` is 0; it must be a whole number of at least 1");
    train("batch = 1.5", "9: `train.batch` is 1.5; it must be a whole number of at least 1");
    train("batch = [1]", "9: `train.batch` is [1]; it must be a whole number of at least 1");
    train(
        "shift = -1",
        "9: `train.shift` is -1; it must be a whole number of pixels from 0 to 1024",
    );
    train("clip = 0.0", "8: `train.clip` is 0.0; it must be a number above 0");
    train("max_norm = -1", "12: `train.max_norm` is -1; it must be a number above 0");
    train(
        "optimizer = 3",
        "13: `train.optimizer` is 3; it must be a table, as { name = \"adamw\", lr = 1e-3 }",
    );
    train(
        "optimizer = { name = \"sgd\", lr = 0 }",
        "34: `train.optimizer.lr` is 0; it must be a number above 0",
    );
    train(
        "optimizer = { name = \"adam\", lr = nan }",
        "35: `train.optimizer.lr` is nan; it must be a number above 0",
    );
    train(
        "optimizer = { name = \"adam\", lr = 1, beta2 = 1.0 }",
        "46: `train.optimizer.beta2` is 1.0; it must be a number of at least 0 and below 1",
    );
    train(
        "optimizer = { name = \"sgd\", lr = 1, weight_decay = -1 }",
        "52: `train.optimizer.weight_decay` is -1; it must be a number of at least 0",
    );
    train(
        "optimizer = { name = \"sgd\", lr = 1, nesterov = 1 }",
        "48: `train.optimizer.nesterov` is 1; it must be true or false",
    );
    train(
        "schedule = { name = \"step\", every = 0 }",
        "37: `train.schedule.every` is 0; it must be a whole number of at least 1",
    );
    bad_train(
        "epochs = 0",
        "a.toml:9:10: `train.epochs` is 0; it must be a whole number of at least 1",
    );

    let student = |value: &str, column: u32, found: &str| {
        refused(
            &[("[800, 800]", value)],
            &format!(
                "a.toml:7:{column}: `student.model.hidden_sizes` is {found}; it must be a list of one or \
                 more whole numbers from 1 to 1000000"
            ),
        );
    };
    student("[]", 40, "[]");
    student("[800, 0]", 40, "[800, 0]");
    student("[1, 2, 3, 4, 5, 6, 7, 8, 0]", 40, "a list of 9 values");
    student("800", 40, "800");
    student("[99999999999]", 40, "[99999999999]");
    refused(
        &[("dropout = 0.5", "dropout = 1.0")],
        "a.toml:5:85: `teacher.model.dropout` is 1.0; it must be a number of at least 0 and below 1",
    );

    for (distil, problem) in [
        ("soft_weight = 5", "`soft_weight` and `hard_weight` go together"),
        ("hard_weight = 2", "`soft_weight` and `hard_weight` go together"),
        ("soft_weight = 0\nhard_weight = 0", "one of them is above 0"),
        ("alpha = 0.5\nsoft_weight = 5\nhard_weight = 2", "`alpha` is the share of `soft_weight`"),
    ] {
        let text = edited(&[("[data]", &format!("[distil]\n{distil}\n[data]"))]);
        let error = Recipe::parse(&text, "a.toml").unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }

    let top = |value: &str, message: &str| {
        refused(&[("[data]", &format!("{value}\n[data]"))], &format!("a.toml:2:{message}"));
    };
    top("seed = -1", "8: `seed` is -1; it must be a whole number from 0 to 4294967295");
    top(
        "name = \"a/b\"",
        "8: `name` is the string \"a/b\"; it must be a name in quotes, without / and \\, and not . or ..",
    );
    top("out = \"\"", "7: `out` is the string \"\"; it must be a path in quotes");
    top(
        "device = \"gpu:x\"",
        "10: `device` is the string \"gpu:x\"; it must be \"auto\", \"cpu\", \"gpu\" or \"gpu:N\", N being \
         a number",
    );

    let data = |value: &str, message: &str| {
        bad_data(&format!("source = \"images\"\n{value}"), &format!("a.toml:4:{message}"));
    };
    data("train = 1979-05-27", "9: `data.train` is a date; it must be a path in quotes");
}

#[test]
fn refuses_what_is_lacking() {
    refused(
        &[("[student]\nmodel = { type = \"mlp\", hidden_sizes = [800, 800] }\n", "")],
        "a.toml: the recipe needs [student]: the small model to train",
    );
    refused(
        &[("[data]\nsource = \"embedded\"\n", "")],
        "a.toml: the recipe needs [data]: what is learnt from",
    );
    refused(
        &[("[train]\nepochs = 8\n", "")],
        "a.toml: the recipe needs [train]: how the students are trained",
    );
    bad_train(
        "batch = 1",
        "a.toml:8:1: [train] needs `epochs` or `steps`: a whole number of at least 1",
    );
    refused(
        &[("type = \"mlp\", hidden_sizes = [800, 800]", "hidden_sizes = [800, 800]")],
        "a.toml:7:9: [student.model] needs `type`: one of \"mlp\", \"resnet\", \"efficientnet\", \"encoder\", \"decoder\"",
    );
    refused(
        &[(", hidden_sizes = [800, 800]", "")],
        "a.toml:7:9: [student.model] needs `hidden_sizes`: a list of one or more whole numbers from 1 to \
         1000000",
    );
    refused(
        &[("model = { type = \"mlp\", hidden_sizes = [800, 800] }", "")],
        "a.toml:6:1: [student] needs `model`: a table, as { type = \"mlp\", hidden_sizes = [32] }",
    );
    bad_data(
        "",
        "a.toml:2:1: [data] needs `source`: one of \"embedded\", \"idx\", \"csv\", \"safetensors\", \"text\", \"images\"",
    );
    bad_data(
        "source = \"csv\"\ntrain = \"a\"",
        "a.toml:2:1: [data] needs `test`: a path in quotes",
    );
    let teacher = "model = { type = \"mlp\", hidden_sizes = [1200, 1200], activation = \"gelu\", dropout = \
                   0.5 }";
    refused(
        &[(teacher, "")],
        "a.toml:4:1: [teacher] needs `model`, `folder` or `logits`: a model to train with [teacher.train], \
         the folder of a trained one, or a safetensors file of its logits",
    );
}

#[test]
fn refuses_what_does_not_go_together() {
    bad_train(
        "epochs = 8\nsteps = 5",
        "a.toml:10:1: give `epochs` or `steps`, not both: leave one out",
    );
    bad_train(
        "steps = 5\nschedule = { name = \"cosine\", warmup_steps = 5 }",
        "a.toml:10:1: a `warmup_steps` of 5 must be below `steps`, which is 5",
    );
    bad_train(
        "steps = 5\noptimizer = { name = \"sgd\", lr = 1, momentum = 0, nesterov = true }",
        "a.toml:10:51: `nesterov` needs a `momentum` above 0: give one, or leave `nesterov` out",
    );
    refused(
        &[("[teacher]", "[teacher]\nfolder = \"t\"")],
        "a.toml:5:1: [teacher] has model and folder: give one of them",
    );
    let teacher = "model = { type = \"mlp\", hidden_sizes = [1200, 1200], activation = \"gelu\", dropout = \
                   0.5 }";
    refused(
        &[(teacher, "folder = \"t\"\ntrain = { epochs = 8 }")],
        "a.toml:6:1: [teacher.train] goes with `model`, not with `folder`: leave one out",
    );
    refused(
        &[(teacher, "logits = \"t\"\nweights = \"f16\"")],
        "a.toml:6:1: a file of logits has no weights: leave the key out",
    );
    refused(
        &[(teacher, "logits = \"t\""), ("epochs = 8", "epochs = 8\nshift = 1")],
        "a.toml:5:1: cached answers are those of unmoved images: set `train.shift` to 0, or give the \
         teacher's `folder` alone",
    );
    let csv = ("source = \"embedded\"", "source = \"csv\"\ntrain = \"a\"\ntest = \"b\"");
    let no_images = "`shift` moves images, and a CSV file has none: leave it out, or set it to 0";
    refused(&[csv, ("epochs = 8", "epochs = 8\nshift = 1")], &format!("a.toml:12:1: {no_images}"));
    refused(
        &[csv, ("epochs = 8", "epochs = 8\n[teacher.train]\nsteps = 1\nshift = 1")],
        &format!("a.toml:14:1: {no_images}"),
    );
    bad_data(
        "source = \"csv\"\ntrain = \"a\"\ntest = \"b\"\nheader = false",
        "a.toml:6:1: without a header no column is named `label`: set `label` to the number of its \
         column, counted from 0",
    );
    bad_data(
        "source = \"embedded\"\nnormalise = { mean = [0, 0], std = [1] }",
        "a.toml:4:30: `mean` has 2 numbers and `std` 1: give one of each, or one of each for every channel \
         or feature",
    );
    bad_data(
        "source = \"embedded\"\nnormalise = { mean = [0], std = [-1] }",
        "a.toml:4:33: `data.normalise.std` is [-1]; it must be a list of one or more numbers of at least 0",
    );
}
