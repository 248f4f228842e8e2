//! What recipes say of validation data and of groups of parameters.

use super::*;

#[test]
fn the_best_is_chosen_on_validation_data() {
    bad_train(
        "epochs = 8\nkeep = \"best\"",
        "a.toml:10:1: the best is chosen on data that are neither learnt from nor tested on: set \
         `data.validation`, as to 0.1 for a tenth of the training data",
    );
    bad_train(
        "epochs = 8\npatience = 2",
        "a.toml:10:1: `patience` goes with keep = \"best\": set that, or leave it out",
    );
    bad_data(
        "source = \"embedded\"\nvalidation = 1.0",
        "a.toml:4:14: `data.validation` is 1.0; it must be a number between 0 and 1",
    );
    let recipe = set(&["train.keep=best", "data.validation=0.25"]);
    assert_eq!(recipe.train.best_by, Some("accuracy".to_owned()));
    assert_eq!(recipe.data.validation, Some(Validation::Share(0.25)));
    let text = edited(&[(
        "source = \"embedded\"",
        "source = \"csv\"\ntrain = \"a\"\ntest = \"b\"\nvalidation = \"/c\"",
    )]);
    let recipe = Recipe::parse(&text, "a.toml").unwrap();
    assert_eq!(recipe.data.validation, Some(Validation::Path("/c".into())));
}

#[test]
fn groups_are_told_what_they_lack() {
    let group = |keys: &str| format!("epochs = 8\ngroups = [{{ {keys} }}]");
    bad_train(
        &group("match = \"a\", lr = 0.1, lr_factor = 2.0"),
        "a.toml:10:36: give `lr` or `lr_factor`, not both: leave one out",
    );
    bad_train(
        &group("match = \"a\""),
        "a.toml:10:11: [train.groups.0] needs `lr`, `lr_factor` or `weight_decay`: a number of at least 0",
    );
    bad_train(
        "epochs = 8\ngroups = [1]",
        "a.toml:10:10: `train.groups` is [1]; it must be a list of tables",
    );
}

#[test]
fn precision_is_that_of_the_whole_recipe() {
    let recipe = set(&["precision=mixed", "teacher.train={ epochs = 3 }"]);
    let Teacher::Trained { train, weights, .. } = &recipe.teacher else { panic!() };
    let precisions = [recipe.precision, recipe.train.precision, train.precision];
    assert_eq!((precisions, *weights), ([Precision::Mixed; 3], Storage::F16));
    let again = Recipe::parse(&recipe.to_toml().unwrap(), "a.toml").unwrap();
    assert_eq!(again.train, recipe.train);
    let recipe = set(&["precision=mixed", "teacher.weights=f32"]);
    assert_eq!(recipe.teacher.weights().storage(), Some(Storage::F32));
    let error = Recipe::parse_with(GOOD, "a.toml", &["precision=f16".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("it must be one of \"f32\", \"mixed\""), "{error}");
}

#[test]
fn class_weights_are_a_word_or_a_table() {
    let recipe = set(&["train.class_weights=balanced"]);
    assert_eq!(recipe.train.class_weights, Some(ClassWeights::Balanced(Balanced::Balanced)));
    let again = Recipe::parse(&recipe.to_toml().unwrap(), "a.toml").unwrap();
    assert_eq!(again.train, recipe.train);
    // The teacher has its own: those of the students are not taken over.
    let recipe = set(&[
        "train.class_weights={ rare = 5, \"two words\" = 0.5 }",
        "teacher.train={ epochs = 3 }",
    ]);
    let Some(ClassWeights::ByName(weights)) = &recipe.train.class_weights else { panic!() };
    assert_eq!((weights["rare"], weights["two words"]), (5.0, 0.5));
    let Teacher::Trained { train, .. } = &recipe.teacher else { panic!() };
    assert_eq!(train.class_weights, None);
    let again = Recipe::parse(&recipe.to_toml().unwrap(), "a.toml").unwrap();
    assert_eq!(again.train, recipe.train);
    bad_train(
        "epochs = 8\nclass_weights = \"ballanced\"",
        "a.toml:10:17: `train.class_weights` is the string \"ballanced\"; it must be one of \"balanced\"; did you mean `balanced`?",
    );
    bad_train(
        "epochs = 8\nclass_weights = { a = -1.0 }",
        "a.toml:10:23: `train.class_weights.a` is -1.0; it must be a number of at least 0",
    );
    bad_train(
        "epochs = 8\nclass_weights = { a = 0 }",
        "a.toml:10:1: `class_weights` needs a class with a weight above 0, or leave it out",
    );
}

#[test]
fn the_terms_of_logit_losses_come_back() {
    let recipe = set(&[
        "distil.divergence=dkd",
        "distil.dkd_beta=2.0",
        "distil.standardise=true",
        "train.label_smoothing=0.25",
    ]);
    let decoupled = Divergence::DecoupledKl { target: 1.0, others: 2.0 };
    assert_eq!((recipe.distil.divergence, recipe.distil.standardise), (decoupled, true));
    assert_eq!(recipe.train.label_smoothing, 0.25);
    let again = Recipe::parse(&recipe.to_toml().unwrap(), "a.toml").unwrap();
    assert_eq!((again.distil, again.train), (recipe.distil, recipe.train));
    let refused = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Recipe::parse_with(GOOD, "a.toml", &sets).unwrap_err().to_string()
    };
    let error = refused(&["distil.dkd_alpha=2.0"]);
    assert!(error.contains("`dkd_alpha` and `dkd_beta` go with divergence = \"dkd\""), "{error}");
    let error = refused(&["train.label_smoothing=1.0"]);
    assert!(error.contains("it must be a number of at least 0 and below 1"), "{error}");
}
