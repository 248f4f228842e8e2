//! Tests of Parquet files that the crate's own writer makes; what other writers make is in `tests/tests/files.rs`.

use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use crate::text::{Columns, Loaded, load, read_texts};
use crate::{DataError, LabelKind};

const SCHEMA: &str = "message rows { required int64 label; optional double score; \
                      optional binary text (utf8); required binary raw; \
                      repeated int64 many; }";

/// A file of these texts (none: null) whose labels count from -1, in two row groups.
fn file(texts: &[Option<&[u8]>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder().build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for (group, texts) in [&texts[..1], &texts[1..]].into_iter().enumerate() {
        let rows = texts.len();
        let labels: Vec<i64> = (0..rows as i64).map(|row| row + group as i64 - 1).collect();
        let bytes = |text: &&[u8]| ByteArray::from(text.to_vec());
        let present: Vec<ByteArray> = texts.iter().flatten().map(bytes).collect();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ones = vec![1; rows];
        column.typed::<DoubleType>().write_batch(&vec![0.5; rows], Some(&ones), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&present, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let raw = vec![ByteArray::from("raw"); rows];
        column.typed::<ByteArrayType>().write_batch(&raw, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let zeros = vec![0; rows];
        column.typed::<Int64Type>().write_batch(&[], Some(&zeros), Some(&zeros)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn saved(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn shown(content: &[u8], columns: &[&str]) -> Result<Vec<String>, DataError> {
    let (_folder, path) = saved(content);
    let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
    let (texts, _) = read_texts(&path, &columns, false)?;
    Ok(texts.all().iter().map(ToString::to_string).collect())
}

#[test]
fn reads_columns_of_every_row_group() {
    let content = file(&[Some(b"one"), Some("zwölf".as_bytes()), Some(b"3")]);
    assert_eq!(shown(&content, &["text"]).unwrap(), ["one", "zwölf", "3"]);
    assert_eq!(shown(&content, &["raw", "text"]).unwrap()[2], "raw | 3");
    let (_folder, path) = saved(&content);
    let [text, label] = ["text", "label"].map(|column| [column.to_owned()]);
    let columns = Columns { text: &text, label: &label, skip_empty: false };
    let Loaded { train, .. } = load(&path, &path, columns, LabelKind::Class).unwrap();
    assert_eq!(
        (train.class_names(), train.need_classes().unwrap().ids()),
        (&["-1", "0", "1"].map(str::to_owned)[..], &[0, 1, 2][..])
    );
}

#[test]
fn names_what_is_wrong() {
    let some = |second| file(&[Some(b"one"), second]);
    for (content, column, problem) in [
        (some(None), "text", "row 2, column `text`: there is nothing"),
        (some(Some(b" ")), "text", "row 2, column `text`: the text is empty"),
        (some(Some(b"two")), "label", "row 1, column `label`: -1 is no text"),
        (some(Some(b"two")), "score", "row 1, column `score`: 0.5 is no text"),
        (
            some(Some(b"two")),
            "texts",
            "no column `texts`; it has `label`, `score`, `text`, `raw`, `many`",
        ),
        (some(Some(b"two")), "many", "column `many` holds lists or records"),
    ] {
        let error = shown(&content, &[column]).unwrap_err().to_string();
        assert!(error.contains("a.parquet: ") && error.contains(problem), "{error}");
    }
}

#[test]
fn refuses_damaged_files() {
    let content = file(&[Some(b"one"), Some(b"two")]);
    for length in (0..content.len()).step_by(7) {
        let error = shown(&content[..length], &["text"]).unwrap_err().to_string();
        assert!(error.contains("a.parquet: this is no whole Parquet file"), "{error}");
    }
}
