//! What keys of other names are told, and that every key is among those.

use std::collections::BTreeSet;

use super::super::aliases::{meant, path_of_key};
use super::super::keys::all;
use super::super::{Recipe, RecipeError};

/// Recipes in which every table stands in every form.
const RECIPES: [&str; 8] = [
    r#"
    [data]
    source = "images"
    train = "a"
    test = "b"
    normalise = { mean = [0.5], std = [0.5] }
    [teacher]
    model = { type = "mlp", hidden_sizes = [4] }
    train = { epochs = 1, optimizer = { name = "sgd", lr = 0.1 }, schedule = { name = "step", every = 1 } }
    [student]
    model = { type = "mlp", hidden_sizes = [4] }
    [distil]
    [train]
    epochs = 1
    optimizer = { name = "sgd", lr = 0.1 }
    schedule = { name = "step", every = 1 }
    [target]
    retain = 0.9
    "#,
    r#"
    [data]
    source = "text"
    train = "a.csv"
    test = "b.csv"
    [teacher]
    folder = "c"
    [student.model]
    type = "encoder"
    from = "c"
    vocabulary = { min_count = 2 }
    [distil]
    hidden = [{ loss = "mse" }]
    relations = [{ of = "values" }]
    [train]
    epochs = 1
    optimizer = { name = "adamw", lr = 0.1 }
    schedule = { name = "cosine" }
    groups = [{ match = "a", lr = 0.1 }]
    "#,
    "task = \"causal-lm\"\ndata = { source = \"text\", train = \"a\", test = \"b\" }\nteacher = { folder = \"c\" }\n\
     student = { model = { type = \"decoder\", from = \"c\" } }\ntrain = { epochs = 1 }",
    "data = { source = \"csv\", train = \"a\", test = \"b\" }\nteacher = { folder = \"c\" }\n\
     student = { model = { type = \"mlp\", hidden_sizes = [4] } }\ntrain = { epochs = 1 }",
    "data = { source = \"safetensors\", train = \"a\", test = \"b\" }\nteacher = { folder = \"c\" }\n\
     student = { model = { type = \"mlp\", hidden_sizes = [4] } }\ntrain = { epochs = 1 }",
    "data = { source = \"idx\", train_images = \"a\", train_labels = \"a\", test_images = \"a\", \
     test_labels = \"a\" }\nteacher = { folder = \"c\" }\n\
     student = { model = { type = \"mlp\", hidden_sizes = [4] } }\ntrain = { epochs = 1 }",
    "data = { source = \"embedded\" }\nteacher = { folder = \"c\" }\n\
     student = { model = { type = \"resnet\", depths = [1], hidden_sizes = [4] } }\ntrain = { epochs = 1 }",
    "data = { source = \"embedded\" }\nteacher = { folder = \"c\" }\n\
     student = { model = { type = \"efficientnet\", architecture = \"mobilenetv2_035\" } }\ntrain = { epochs = 1 }",
];

/// The tables in which an unknown key is put to see what keys they have.
const TABLES: [&str; 15] = [
    "",
    "target",
    "data",
    "data.normalise",
    "teacher",
    "teacher.model",
    "student",
    "student.model",
    "student.model.vocabulary",
    "distil",
    "distil.on_policy",
    "train",
    "train.optimizer",
    "train.schedule",
    "teacher.train",
];

/// The keys that a table has, as its error for an unknown one lists them; none if it is not there.
fn keys_of(recipe: &str, set: &str) -> Vec<String> {
    match Recipe::parse_with(recipe, "a.toml", &[set.to_owned()]) {
        Err(RecipeError::UnknownKey { known, key, .. }) if key == "zzzz" => {
            known.split(", ").map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_key_of_a_recipe_is_among_those_that_are_named() {
    let mut found = BTreeSet::new();
    let mut add = |table: &str, keys: Vec<String>| {
        found.extend(keys.into_iter().map(|key| (table.to_owned(), key)));
    };
    for recipe in RECIPES {
        Recipe::parse(recipe, "a.toml").unwrap();
        for table in TABLES {
            let path = if table.is_empty() { String::new() } else { format!("{table}.") };
            let shared = table.strip_prefix("teacher.").map(|rest| match rest {
                "model" => "student.model",
                other => other,
            });
            add(shared.unwrap_or(table), keys_of(recipe, &format!("{path}zzzz=1")));
        }
        for (table, item) in [
            ("train.groups", "{match=\"a\",zzzz=1}"),
            ("distil.hidden", "{loss=\"mse\",zzzz=1}"),
            ("distil.relations", "{of=\"values\",zzzz=1}"),
        ] {
            add(table, keys_of(recipe, &format!("{table}=[{item}]")));
        }
    }
    let listed: BTreeSet<_> =
        all().map(|(group, key)| (group.table.to_owned(), key.about().name.to_owned())).collect();
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "recipe/keys.rs lacks {missing:?}");
    let unused: Vec<_> = listed.difference(&found).collect();
    assert!(unused.is_empty(), "no recipe has {unused:?}");
}

#[test]
fn keys_of_other_trainers_are_understood_wherever_they_stand() {
    let own: Vec<&str> = all().map(|(_, key)| key.about().name).collect();
    for (path, word, wanted) in [
        ("", "learning_rate", "`train.optimizer.lr`"),
        ("train", "learning_rate", "`train.optimizer.lr`"),
        ("train", "lr", "`train.optimizer.lr`"),
        ("train.optimizer", "learning-rate", "`lr`"),
        ("train.groups.0", "learning_rate", "`lr`"),
        ("teacher.train", "lr", "`teacher.train.optimizer.lr`"),
        ("train", "batch_size", "`batch`"),
        ("", "per_device_train_batch_size", "`train.batch`"),
        ("distil", "T", "`temperature`"),
        ("train", "T", "`distil.temperature`"),
        ("train", "warmup_ratio", "`train.schedule.warmup_steps`, a number of steps"),
        ("train", "warmup_steps", "`train.schedule.warmup_steps`"),
        ("train", "num_train_epochs", "`epochs`"),
        ("student", "epochs", "`train.epochs`"),
        ("teacher", "epochs", "`teacher.train.epochs`"),
        ("train", "weight_decay", "`train.optimizer.weight_decay`"),
        ("train", "seed", "`seed` at the top of the recipe, before any [table]"),
        ("", "fp16", "`precision`, \"f32\" or \"mixed\""),
        ("teacher", "dropout", "`teacher.model.dropout`"),
        ("distil", "dropout", "`student.model.dropout`"),
        ("train", "train_limit", "`data.train_limit`"),
    ] {
        let wanted = Some(format!("did you mean {wanted}?"));
        assert_eq!(meant(word, path, &own), wanted, "{word} in [{path}]");
    }
    assert_eq!(meant("frobnicate", "train", &own), None);
    let other = Some("it goes with another `name` than this one.".to_owned());
    assert_eq!(meant("momentum", "train.optimizer", &["name", "lr"]), other);
    for (word, path) in
        [("learning-rate", "train.optimizer.lr"), ("seed", "seed"), ("T", "distil.temperature")]
    {
        assert_eq!(path_of_key(word).as_deref(), Some(path));
    }
}
