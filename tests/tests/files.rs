//! Files as other programs write them: Parquet by pyarrow, made by `tools/make_file_fixtures.py`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::data::text::{Columns, Loaded, load, read_pairs, read_texts};
use distil_gpu_engine::data::{self, DataError, LabelKind};
use distil_gpu_engine::recipe::Recipe;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/files").join(name)
}

fn text() -> [String; 1] {
    ["text".to_owned()]
}

/// The 60 texts of every file.
fn texts() -> Vec<String> {
    let kinds = ["a plain", "ein schönes", "一个"];
    (0..60).map(|i| format!("{} text, number {}", kinds[i % 3], i / 2)).collect()
}

const WRITTEN: [&str; 10] = [
    "none",
    "snappy",
    "gzip",
    "brotli",
    "zstd",
    "lz4",
    "zstd-v2",
    "snappy-v2",
    "delta",
    "delta-lengths",
];

#[test]
fn every_compression_and_encoding_of_parquet_is_read() {
    for name in WRITTEN {
        let path = fixture(&format!("{name}.parquet"));
        let (read, skipped) = read_texts(&path, &text(), false).unwrap();
        let read: Vec<String> = read.all().iter().map(ToString::to_string).collect();
        assert_eq!((read, skipped), (texts(), 0), "{name}");
    }
}

fn labelled(train: &Path, test: &Path, skip_empty: bool) -> Result<Loaded, DataError> {
    let label = ["label".to_owned()];
    load(train, test, Columns { text: &text(), label: &label, skip_empty }, LabelKind::Class)
}

#[test]
fn classes_have_the_names_that_the_file_tells() {
    let path = fixture("zstd.parquet");
    let Loaded { train, test, notes } = labelled(&path, &path, false).unwrap();
    assert_eq!((train.class_names(), notes.len()), (&["neg", "pos"].map(str::to_owned)[..], 0));
    assert_eq!(train.digest(), test.digest());
    assert_eq!(train.need_classes().unwrap().per_class_counts(), [30, 30]);
    // As scores they stay numbers.
    let columns = ["text", "text"].map(str::to_owned);
    let pairs = read_pairs(&path, &columns, "label", false).unwrap();
    assert_eq!(pairs.scores[..4], [0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn rows_without_a_text_are_refused_or_counted() {
    let path = fixture("missing.parquet");
    let message = read_texts(&path, &text(), false).unwrap_err().to_string();
    assert!(message.contains("row 2, column `text`: there is nothing: "), "{message}");
    assert!(message.contains("`data.skip_empty = true`"), "{message}");
    let (read, skipped) = read_texts(&path, &text(), true).unwrap();
    assert_eq!((read.all().len(), skipped), (2, 2));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let test = write("test.CSV", "text,label\n ,1\none,0\n");
    let only = write("only.jsonl", "{\"text\": null, \"label\": 1}\n");
    let Loaded { train, test, notes } = labelled(&path, &test, true).unwrap();
    assert_eq!(
        (train.need_classes().unwrap().ids(), test.need_classes().unwrap().ids()),
        (&[0, 1][..], &[0][..])
    );
    assert!(notes[0].ends_with("missing.parquet: 2 rows without a text were skipped"), "{notes:?}");
    assert!(notes[1].ends_with("test.CSV: 1 row without a text was skipped"), "{notes:?}");
    let message = read_texts(&only, &text(), true).unwrap_err().to_string();
    assert!(message.ends_with("only.jsonl: none of its 1 rows has a text"), "{message}");
}

#[test]
fn damaged_parquet_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in WRITTEN {
        let whole = fs::read(fixture(&format!("{name}.parquet"))).unwrap();
        let path = folder.path().join(format!("{name}.parquet"));
        let (mut refused, mut read) = (0, 0);
        let places = (0..whole.len()).step_by(19);
        for (place, value) in places.flat_map(|place| [(place, 0xff), (place, 0)]) {
            let mut bytes = whole.clone();
            bytes[place] = value;
            fs::write(&path, bytes).unwrap();
            match read_texts(&path, &text(), false) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert!(error.to_string().contains(&format!("{name}.parquet: ")), "{error}");
                    refused += 1;
                }
            }
        }
        println!("{name}: {refused} damaged files are refused, {read} are read");
        assert!(refused > read / 10);
    }
}

/// The data of a recipe with these lines in `[data]`.
fn recipe(folder: &Path, lines: &str) -> Result<data::Split, String> {
    let path = folder.join("recipe.toml");
    let models = "[teacher]\nmodel = { type = \"mlp\", hidden_sizes = [4] }\n[student]\nmodel = { type = \
                  \"mlp\", hidden_sizes = [2] }\n[train]\nepochs = 1\n";
    fs::write(&path, format!("[data]\n{lines}\n{models}")).unwrap();
    let recipe = Recipe::load(&path, &[]).map_err(|error| error.to_string())?;
    let again = recipe.to_toml().map_err(|error| error.to_string())?;
    let again_path = folder.join("again.toml");
    fs::write(&again_path, again).unwrap();
    assert_eq!(Recipe::load(&again_path, &[]).unwrap().data, recipe.data, "the resolved recipe");
    data::load(&recipe.data, recipe.task.labels()).map_err(|error| error.to_string())
}

#[test]
fn a_recipe_says_what_pictures_lie_on() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        for class in ["cat", "dog"] {
            let class = folder.path().join(part).join(class);
            fs::create_dir_all(&class).unwrap();
            fs::copy(fixture("grey-alpha.png"), class.join("a.png")).unwrap();
        }
    }
    let source = "source = \"images\"\ntrain = \"train\"\ntest = \"test\"";
    for (line, colour, end) in [("", "white", 255), ("background = \"black\"", "black", 0)] {
        let split = recipe(folder.path(), &format!("{source}\n{line}")).unwrap();
        let numbers = split.train.numbers().unwrap();
        assert_eq!(numbers.background(), Some(colour.parse().unwrap()));
        let data::Features::U8(pixels) = numbers.features() else { panic!("u8 was expected") };
        assert_eq!(pixels[5], end);
        let some = split.train.select(&[1]).unwrap();
        assert_eq!(some.numbers().unwrap().background(), numbers.background());
    }
    let message = recipe(folder.path(), &format!("{source}\nbackground = \"red\"")).unwrap_err();
    assert!(message.contains("`data.background`") && message.contains("\"#rrggbb\""), "{message}");
}

#[test]
fn tables_of_numbers_may_be_zipped_or_parted_by_tabs() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.TSV"), "\u{feff}x\tlabel\n1.5\t0\n2\t1\n").unwrap();
    fs::write(folder.path().join("a.parquet"), "").unwrap();
    let split =
        recipe(folder.path(), "source = \"csv\"\ntrain = \"a.TSV\"\ntest = \"a.TSV\"").unwrap();
    let expected = data::Features::F32(vec![1.5, 2.0]);
    assert_eq!(split.train.numbers().unwrap().features(), &expected);
    let wrong = recipe(folder.path(), "source = \"csv\"\ntrain = \"a.parquet\"\ntest = \"a.TSV\"");
    let message = wrong.unwrap_err();
    assert!(
        message
            .ends_with("tables of numbers are read from .csv and .tsv files, zipped as .gz or not"),
        "{message}"
    );
}
