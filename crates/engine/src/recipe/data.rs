//! `[data]`: what is learnt from.

use toml::de::DeValue;

use super::document::Table;
use super::error::RecipeError;
use super::key::{KeyGroup, key, keys, word};
use super::rules::{
    CHANNELS, COLOUR, FLAG, IMAGE_SIZE, NUMBERS, PATH, Rule, SIZE, SPREADS, TEXT, TEXT_COLUMNS,
    double, list, text, whole,
};
use crate::data::{
    Colour, Column, Conversion, Data, LabelKind, LossOn, Normalisation, Normalise, Source,
    Validation,
};

keys! {
    /// What is learnt from.
    SOURCES in "data";

    /// Where the data come from.
    SOURCE: Reader = word("source", || vec![
        ("embedded", embedded as Reader),
        ("idx", idx),
        ("csv", csv),
        ("safetensors", safetensors),
        ("text", texts),
        ("images", images),
    ])
        .needed()
        .like("\"csv\"")
        .also(&["format", "data_source"]);
}

keys! {
    /// Files of training and test data, or folders of pictures.
    FILES in "data" where source is "csv" | "safetensors" | "text" | "images";

    /// Training data.
    TRAIN: String = key("train", PATH)
        .needed()
        .like("\"train.csv\"")
        .also(&["train_file", "train_path", "train_data", "train_dataset", "data_dir", "data_path"]);
    /// Test data, on which the models are measured.
    TEST: String = key("test", PATH)
        .needed()
        .like("\"test.csv\"")
        .also(&["test_file", "test_path", "test_data", "test_dataset", "eval_dataset"]);
}

keys! {
    /// A folder of pictures for each class, in it and in folders below it: png, jpeg, gif, webp, tiff, bmp and pnm, turned
    /// upright as EXIF says, of an animation the first.
    IMAGES in "data" where source is "images";

    /// What pictures are brought to.
    IMAGES_SIZE: [usize; 2] = key("size", IMAGE_SIZE)
        .otherwise("the pictures' own")
        .like("[28, 28]")
        .hint("[height, width]")
        .also(&["image_size", "img_size", "input_size", "resolution"]);
    /// Grey or colour.
    IMAGES_CHANNELS: usize = key("channels", CHANNELS)
        .otherwise("the first picture's")
        .like("1")
        .also(&["num_channels", "in_channels"]);
    /// What lies behind transparent pictures.
    BACKGROUND: Colour = key("background", COLOUR)
        .otherwise("white")
        .like("\"white\"")
        .also(&["background_color", "background_colour", "bg_color"]);
}

keys! {
    /// Numbers, and a column with the class, a name or a whole number; .csv or .tsv, .gz or not.
    CSV in "data" where source is "csv";

    /// The column of the labels. Regression: numbers, in one column or several; multi-label: a column of 0 and 1 (false,
    /// true) for each label, or one column as of texts.
    CSV_LABEL: Vec<Column> = key("label", COLUMNS)
        .or("\"label\"")
        .like("[\"width\", \"height\"]")
        .also(&["label_column", "labels", "target_column", "class_column"]);
    /// Whether the first line names the columns.
    HEADER: bool = key("header", FLAG).or("true").like("false").also(&["has_header"]);
}

keys! {
    /// Tensors of features [rows, ..] and of labels [rows]. Regression: labels are numbers [rows] or [rows, n];
    /// multi-label: 0 and 1 [rows, n], as u8 or bool.
    SAFETENSORS in "data" where source is "safetensors";

    /// The tensor of the features.
    FEATURES: String = key("features", TEXT)
        .or("\"features\"")
        .like("\"features\"")
        .also(&["features_tensor"]);
    /// The tensor of the labels.
    LABELS: String = key("labels", TEXT)
        .or("\"labels\"")
        .like("\"labels\"")
        .also(&["labels_tensor"]);
}

keys! {
    /// MNIST's own format, .gz or not.
    IDX in "data" where source is "idx";

    /// Training images, u8 [rows, height, width].
    TRAIN_IMAGES: String = key("train_images", PATH).needed().like("\"train-images-idx3-ubyte.gz\"");
    /// Training labels, u8 [rows].
    TRAIN_LABELS: String = key("train_labels", PATH).needed().like("\"train-labels-idx1-ubyte.gz\"");
    /// Test images.
    TEST_IMAGES: String = key("test_images", PATH).needed().like("\"t10k-images-idx3-ubyte.gz\"");
    /// Test labels.
    TEST_LABELS: String = key("test_labels", PATH).needed().like("\"t10k-labels-idx1-ubyte.gz\"");
}

keys! {
    /// .csv, .tsv, .json, .jsonl, .ndjson or .parquet with named columns, or .txt, a text a line, without labels; all but
    /// .parquet also .gz. For models of type "encoder".
    TEXTS in "data" where source is "text";

    /// The column of the text, or two of a pair of texts. Token classification: lists of words; or of files of a word a
    /// line (.conll, .bio, .txt, .tsv) the number of a column, as "0". Question answering: the question and its context,
    /// or SQuAD's own .json.
    TEXT_COLUMN: Vec<String> = key("text", TEXT_COLUMNS)
        .otherwise("\"text\"; of words \"tokens\", of questions [\"question\", \"context\"]")
        .like("[\"premise\", \"hypothesis\"]")
        .also(&["text_column", "text_field", "sentence"]);
    /// The column of the labels. Regression: numbers, in one column or several. Multi-label: a column of 0 and 1 for each
    /// label, or one column with the names or numbers of those that apply: a JSON array, a Parquet list, or names parted by
    /// `,`, `;` or `|`, the same in all rows and in no name; an empty cell has no label. Token classification: lists of
    /// tags, or the number of a column, as "1". Question answering: answers with `text` and `answer_start` (in characters);
    /// none where empty.
    TEXT_LABEL: Vec<String> = key("label", NAMED_COLUMNS)
        .otherwise("\"label\"; of words \"ner_tags\", of questions \"answers\"")
        .like("[\"toxic\", \"insult\"]")
        .also(&["label_column", "labels", "target_column", "class_column"]);
    /// Texts without labels, of which the distilled student learns the teacher's answers as well; alone, it takes as many
    /// steps on those with labels.
    UNLABELLED: String = key("unlabelled", PATH)
        .otherwise("none")
        .like("\"more.txt\"")
        .also(&["unlabeled", "unlabelled_file", "unlabeled_file"]);
    /// Whether rows without a text are skipped and counted, rather than refused.
    SKIP_EMPTY: bool = key("skip_empty", FLAG)
        .or("false")
        .like("true")
        .also(&["drop_empty", "remove_empty", "skip_blank"]);
}

keys! {
    /// Documents whose next tokens are guessed (`task = "causal-lm"`): rows of `text`, `prompt` and `completion`, `messages`,
    /// `instruction` and `output`, or ShareGPT's `conversations`; of a .txt file what lies between `<|endoftext|>` or blank
    /// lines.
    DOCUMENTS in "data" where source is "text";

    /// What of chats and completions is learnt.
    LOSS_ON: LossOn = word("loss_on", || vec![
        ("completions", LossOn::Completions),
        ("all", LossOn::All),
    ])
        .or("\"completions\"")
        .like("\"all\"")
        .also(&["assistant_only_loss", "completion_only_loss", "train_on_inputs", "mask_prompt"]);
    /// Whether short documents share a row of tokens; each sees itself alone all the same.
    PACK: bool = key("pack", FLAG)
        .or("true")
        .like("false")
        .also(&["packing", "sample_packing"]);
}

keys! {
    /// Data of every kind.
    ANY_DATA in "data";

    /// Only so many training examples, the first.
    TRAIN_LIMIT: usize = key("train_limit", SIZE)
        .otherwise("all")
        .like("5000")
        .also(&["max_train_samples", "num_train_samples", "limit"]);
    /// Only so many test examples, the first.
    TEST_LIMIT: usize = key("test_limit", SIZE)
        .otherwise("all")
        .like("1000")
        .also(&["max_test_samples", "max_eval_samples"]);
    /// So much of the training data to choose the best parameters on, always the same examples; or a file or folder as
    /// `train`. A test set that chose the model would praise it too much.
    VALIDATION: Validation = key("validation", PART)
        .otherwise("none")
        .like("0.1")
        .hint("a share of the training data, or a file")
        .also(&[
            "validation_file",
            "valid",
            "val",
            "dev",
            "val_split",
            "validation_split",
            "validation_data",
        ]);
    /// What numbers go through before a model sees them: the training data's mean and spread taken out, nothing but pixels
    /// becoming numbers from 0 to 1, or a table of mean and spread. Texts have none.
    NORMALISE: Normalise = word("normalise", || vec![
        ("standardise", Normalise::Standardise),
        ("none", Normalise::None),
    ])
        .or("\"standardise\"")
        .like("\"none\"")
        .hint("\"standardise\", \"none\" or { mean = [..], std = [..] }")
        .also(&["normalize", "normalization", "normalisation", "standardize"]);
}

keys! {
    /// In the place of a word: what numbers are brought to 0 and 1 by, one number of each, or one for every channel or
    /// feature.
    NORMALISATION in "data.normalise";

    /// Taken from the numbers.
    MEAN: Vec<f32> = key("mean", NUMBERS).needed().like("[0.5]").also(&["means", "image_mean"]);
    /// What they are divided by then.
    STD: Vec<f32> = key("std", SPREADS).needed().like("[0.25]").also(&["stds", "image_std"]);
}

/// Columns by name or by number.
const COLUMNS: Rule<Vec<Column>> = Rule {
    allowed: "a column's name in quotes, or its number, counted from 0, or a list of these",
    read: |value| one_or_several(value, column),
};
/// Columns by name.
const NAMED_COLUMNS: Rule<Vec<String>> = Rule {
    allowed: "a column's name in quotes, or a list of names",
    read: |value| one_or_several(value, text),
};

fn column(value: &DeValue<'_>) -> Option<Column> {
    match whole(value) {
        Some(index) => index.try_into().ok().map(Column::Index),
        None => text(value).map(Column::Name),
    }
}

fn one_or_several<T>(
    value: &DeValue<'_>,
    item: impl Fn(&DeValue<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match value.as_array() {
        Some(_) => list(value, item).filter(|columns| !columns.is_empty()),
        None => item(value).map(|column| vec![column]),
    }
}

/// A share of the training data, or a path.
const PART: Rule<Validation> = Rule {
    allowed: "a number between 0 and 1, or a path in quotes",
    read: |value| share(value).or_else(|| text(value).map(|path| Validation::Path(path.into()))),
};
const SHARE_ONLY: Rule<Validation> = Rule { allowed: "a number between 0 and 1", read: share };

fn share(value: &DeValue<'_>) -> Option<Validation> {
    double(value).filter(|share| *share > 0.0 && *share < 1.0).map(Validation::Share)
}

type Reader = fn(&Table<'_>, LabelKind) -> Result<Source, RecipeError>;

/// Reads the table.
pub(super) fn read(table: &Table<'_>, kind: LabelKind) -> Result<Data, RecipeError> {
    let source = table.value(&SOURCE)?(table, kind)?;
    let numbers = !matches!(source, Source::Text { .. });
    let files = !matches!(source, Source::Embedded | Source::Idx { .. });
    let share_only = VALIDATION.by(SHARE_ONLY);
    let validation = match table.get(if files { &VALIDATION } else { &share_only })? {
        Some(Validation::Path(_)) => Some(Validation::Path(table.path(&VALIDATION)?)),
        share => share,
    };
    Ok(Data {
        source,
        train_limit: table.get(&TRAIN_LIMIT)?,
        test_limit: table.get(&TEST_LIMIT)?,
        validation,
        unlabelled: match table.has("unlabelled") {
            true => Some(table.path(&UNLABELLED)?),
            false => None,
        },
        normalise: numbers.then(|| normalise(table)).transpose()?,
    })
}

/// Refuses keys that are neither of all sources nor among a source's `own`.
fn known(table: &Table<'_>, own: &[&KeyGroup]) -> Result<(), RecipeError> {
    table.known(&[&[&SOURCES], own, &[&ANY_DATA]].concat())
}

fn embedded(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[])?;
    Ok(Source::Embedded)
}

fn idx(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[&IDX])?;
    Ok(Source::Idx {
        train_images: table.path(&TRAIN_IMAGES)?,
        train_labels: table.path(&TRAIN_LABELS)?,
        test_images: table.path(&TEST_IMAGES)?,
        test_labels: table.path(&TEST_LABELS)?,
    })
}

fn csv(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[&FILES, &CSV])?;
    let label = table.value(&CSV_LABEL)?;
    let header = table.value(&HEADER)?;
    let named = label.iter().find_map(|label| match label {
        Column::Name(name) => Some(name),
        Column::Index(_) => None,
    });
    if let (false, Some(name)) = (header, named) {
        let problem = format!(
            "without a header no column is named `{name}`: set `label` to the number of its column, \
             counted from 0"
        );
        return Err(table.conflict("header", problem));
    }
    Ok(Source::Csv { train: table.path(&TRAIN)?, test: table.path(&TEST)?, label, header })
}

fn safetensors(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[&FILES, &SAFETENSORS])?;
    Ok(Source::Safetensors {
        train: table.path(&TRAIN)?,
        test: table.path(&TEST)?,
        features: table.value(&FEATURES)?,
        labels: table.value(&LABELS)?,
    })
}

fn texts(table: &Table<'_>, kind: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[&FILES, &TEXTS, &DOCUMENTS])?;
    for key in [LOSS_ON.about.name, PACK.about.name] {
        if table.has(key) && kind != LabelKind::Documents {
            let problem = format!("`{key}` is for `task = \"causal-lm\"`: leave it out");
            return Err(table.conflict(key, problem));
        }
    }
    if table.has("normalise") {
        let problem = "`normalise` is for numbers, and texts have none: leave it out";
        return Err(table.conflict("normalise", problem));
    }
    let [of_text, of_label] = usual_columns(kind);
    let given = |columns: &[&str]| columns.iter().map(|&column| column.to_owned()).collect();
    Ok(Source::Text {
        train: table.path(&TRAIN)?,
        test: table.path(&TEST)?,
        text: table.get(&TEXT_COLUMN)?.unwrap_or_else(|| given(of_text)),
        label: table.get(&TEXT_LABEL)?.unwrap_or_else(|| given(of_label)),
        skip_empty: table.value(&SKIP_EMPTY)?,
        loss_on: table.value(&LOSS_ON)?,
        pack: table.value(&PACK)?,
    })
}

/// The columns of texts and of labels, as data of a task usually have them.
fn usual_columns(kind: LabelKind) -> [&'static [&'static str]; 2] {
    match kind {
        LabelKind::Tags => [&["tokens"], &["ner_tags"]],
        LabelKind::Spans => [&["question", "context"], &["answers"]],
        _ => [&["text"], &["label"]],
    }
}

fn images(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[&FILES, &IMAGES])?;
    Ok(Source::Images {
        train: table.path(&TRAIN)?,
        test: table.path(&TEST)?,
        conversion: Conversion {
            size: table.get(&IMAGES_SIZE)?,
            channels: table.get(&IMAGES_CHANNELS)?,
            background: table.get(&BACKGROUND)?,
        },
    })
}

/// What numbers go through.
fn normalise(table: &Table<'_>) -> Result<Normalise, RecipeError> {
    if !table.has_table("normalise") {
        return table.value(&NORMALISE);
    }
    let given = table.need_table(&NORMALISE)?;
    given.known(&[&NORMALISATION])?;
    let normalisation = Normalisation { mean: given.value(&MEAN)?, std: given.value(&STD)? };
    let (means, spreads) = (normalisation.mean.len(), normalisation.std.len());
    if means != spreads {
        let problem = format!(
            "`mean` has {means} numbers and `std` {spreads}: give one of each, or one of each for \
             every channel or feature"
        );
        return Err(given.conflict("std", problem));
    }
    Ok(Normalise::Given(normalisation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn read(data: &str) -> Result<Recipe, String> {
        let model = "model = { type = \"mlp\", hidden_sizes = [4] }";
        let text = format!(
            "[data]\ntrain = \"a\"\ntest = \"b\"\n{data}\n[teacher]\n{model}\n[student]\n{model}\n[train]\nepochs = 1\n\
             batch = 4\noptimizer = {{ name = \"sgd\", lr = 0.1 }}\n"
        );
        Recipe::parse(&text, "a.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_one_column_or_several() {
        let name = |name: &str| Column::Name(name.to_owned());
        for (label, wanted, written) in [
            ("", vec![name("label")], "label = \"label\""),
            ("label = 2", vec![Column::Index(2)], "label = 2"),
            ("label = [\"y\", 0]", vec![name("y"), Column::Index(0)], "label = [\"y\", 0]"),
            ("label = [\"y\"]", vec![name("y")], "label = \"y\""),
        ] {
            let recipe = read(&format!("source = \"csv\"\n{label}")).unwrap();
            let Source::Csv { label, .. } = &recipe.data.source else { panic!("{label}") };
            assert_eq!(*label, wanted);
            let text = recipe.to_toml().unwrap();
            assert!(text.replace(['\n', ' '], "").contains(&written.replace(' ', "")), "{text}");
            assert_eq!(Recipe::parse(&text, "a.toml").unwrap(), recipe);
        }
        let recipe = read("source = \"text\"\nlabel = [\"a\", \"b\"]").unwrap();
        let Source::Text { label, text, .. } = &recipe.data.source else { panic!("texts") };
        assert_eq!((label.len(), &text[..]), (2, &["text".to_owned()][..]));
        for (data, problem) in [
            ("source = \"csv\"\nlabel = []", "or its number, counted from 0, or a list of these"),
            (
                "source = \"csv\"\nlabel = [1.5]",
                "or its number, counted from 0, or a list of these",
            ),
            ("source = \"text\"\nlabel = 1", "a column's name in quotes, or a list of names"),
            ("source = \"csv\"\nheader = false\nlabel = [0, \"y\"]", "no column is named `y`"),
        ] {
            let error = read(data).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn columns_have_the_usual_names_of_a_task() {
        for (kind, wanted) in [
            (LabelKind::Class, "text: label"),
            (LabelKind::Tags, "tokens: ner_tags"),
            (LabelKind::Spans, "question, context: answers"),
        ] {
            let [text, label] = usual_columns(kind).map(|columns| columns.join(", "));
            assert_eq!(format!("{text}: {label}"), wanted);
        }
    }
}
