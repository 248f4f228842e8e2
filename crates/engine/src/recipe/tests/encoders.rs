//! What recipes say of encoders.

use super::*;

/// `GOOD` with an encoder of these further keys for its student.
fn with_encoder(keys: &str) -> Result<Recipe, RecipeError> {
    let encoder = format!("{{ type = \"encoder\", from = \"/minilm\"{keys} }}");
    Recipe::parse(&edited(&[("{ type = \"mlp\", hidden_sizes = [800, 800] }", &encoder)]), "a.toml")
}

#[test]
fn encoders_may_know_fewer_tokens() {
    for (keys, wanted) in [
        ("", Vocabulary::Full),
        (", vocabulary = \"full\"", Vocabulary::Full),
        (", vocabulary = \"trimmed\"", Vocabulary::Trimmed),
        (", vocabulary = { min_count = 3 }", Vocabulary::Common { min_count: 3 }),
    ] {
        let recipe = with_encoder(keys).unwrap();
        let Model::Encoder { vocabulary, .. } = &recipe.student.model else { panic!("{keys}") };
        assert_eq!(*vocabulary, wanted);
        let again = Recipe::parse(&recipe.to_toml().unwrap(), "a.toml").unwrap();
        assert_eq!(again, recipe, "{keys}");
    }
    for (keys, wanted) in [
        (
            ", vocabulary = \"small\"",
            "a.toml:7:60: `student.model.vocabulary` is the string \"small\"; it must be one of \"full\", \
             \"trimmed\"",
        ),
        (
            ", vocabulary = { min_count = 0 }",
            "a.toml:7:74: `student.model.vocabulary.min_count` is 0; it must be a whole number of at least 1",
        ),
    ] {
        assert_eq!(with_encoder(keys).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn encoders_may_be_smaller_than_what_they_start_from() {
    let keys = ", layers = \"alternate\", hidden_size = 192, num_attention_heads = 6, intermediate_size = 768";
    let recipe = with_encoder(keys).unwrap();
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap(), "a.toml").unwrap(), recipe);
    let Model::Encoder { from, layers: Some(layers), hidden_size, .. } = &recipe.student.model
    else {
        panic!("an encoder")
    };
    assert_eq!((from, hidden_size), (&Base::Model(Origin::Folder("/minilm".into())), &Some(192)));
    assert_eq!((layers.of(6), layers.of(5), layers.of(1)), (vec![0, 2, 4], vec![0, 2, 4], vec![0]));
    for (keys, wanted) in [
        (
            ", layers = \"every\"",
            "a.toml:7:56: `student.model.layers` is the string \"every\"; it must be \"alternate\", a list of one or \
             more layer numbers, counted from 0, or of a decoder { keep = 20, by = \"influence\" }",
        ),
        (
            ", layers = []",
            "a.toml:7:56: `student.model.layers` is []; it must be \"alternate\", a list of one or more layer \
             numbers, counted from 0, or of a decoder { keep = 20, by = \"influence\" }",
        ),
        (
            ", hidden_size = 0",
            "a.toml:7:61: `student.model.hidden_size` is 0; it must be a whole number of at least 1",
        ),
    ] {
        assert_eq!(with_encoder(keys).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn students_may_start_from_their_teacher() {
    let (mlp, encoder) = (
        "{ type = \"mlp\", hidden_sizes = [800, 800] }",
        "{ type = \"encoder\", from = \"teacher\" }",
    );
    let recipe = Recipe::parse(&edited(&[(mlp, encoder)]), "a.toml").unwrap();
    assert!(recipe.student.model.follows_teacher());
    assert_eq!(
        Recipe::parse(&recipe.to_toml().unwrap(), "b/a.toml").unwrap().student,
        recipe.student
    );
    let teacher =
        "{ type = \"mlp\", hidden_sizes = [1200, 1200], activation = \"gelu\", dropout = 0.5 }";
    refused(
        &[(teacher, encoder)],
        "a.toml:5:1: the teacher cannot start from itself: give the path of a model's folder in `from`",
    );
    refused(
        &[(&format!("model = {teacher}"), "logits = \"z\""), (mlp, encoder)],
        "a.toml:7:1: a student cannot start from the teacher's logits: give the path of a model's folder in \
         `from`, or the teacher's `folder`",
    );
}
