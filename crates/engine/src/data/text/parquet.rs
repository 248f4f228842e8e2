//! Parquet files of flat columns.

use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Repetition;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::schema::types::Type;

use super::read::{File, Row};
use crate::data::DataError;

impl File<'_> {
    /// Reads the columns that are asked for alone.
    pub(super) fn parquet(&self, path: &Path) -> Result<Vec<Row>, DataError> {
        let broken =
            |error: ParquetError| self.bad(format!("this is no whole Parquet file: {error}"));
        let file = std::fs::File::open(path)
            .map_err(|source| DataError::Read { path: path.display().to_string(), source })?;
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let schema = reader.metadata().file_metadata().schema();
        let names: Vec<String> =
            schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        for column in self.wanted() {
            let field = schema.get_fields().iter().find(|field| field.name() == column);
            let field = field.ok_or_else(|| self.no_column(column, &names))?;
            if field.is_group() || field.get_basic_info().repetition() == Repetition::REPEATED {
                return Err(
                    self.bad(format!("column `{column}` holds lists or records, and no texts"))
                );
            }
        }
        let asked = schema.get_fields().iter();
        let asked: Vec<Arc<Type>> = asked
            .filter(|field| self.wanted().any(|column| column == field.name()))
            .cloned()
            .collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(asked).build();
        let records = reader.get_row_iter(Some(projection.map_err(broken)?)).map_err(broken)?;
        let mut rows = Vec::new();
        for (row, record) in (1..).zip(records) {
            let record =
                record.map_err(|error| self.bad(format!("row {row} cannot be read: {error}")))?;
            let cell = |column: &str| {
                let field = record.get_column_iter().find(|(name, _)| *name == column);
                let field = field.map_or(&Field::Null, |(_, field)| field);
                text(field, self.is_label(column))
                    .map_err(|problem| self.cell(row, column, problem))
            };
            rows.push(self.row(row, &cell)?);
        }
        Ok(rows)
    }
}

/// What a field says, or what is wrong with it. Labels may be numbers, as of JSON lines.
fn text(field: &Field, label: bool) -> Result<String, String> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        // Some writers do not say that bytes are text.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data())
            .map(str::to_owned)
            .map_err(|_| "this is no UTF-8 text".to_owned()),
        Field::Null => Err("there is nothing".to_owned()),
        Field::Bool(_)
        | Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_)
            if label =>
        {
            Ok(field.to_string())
        }
        other => Err(format!("{other} is no {}", if label { "label" } else { "text" })),
    }
}

#[cfg(test)]
mod tests {
    use ::parquet::basic::Compression;
    use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::super::{load, read_texts};
    use super::*;

    const SCHEMA: &str = "message rows { required int64 label; optional double score; \
                          optional binary text (utf8); required binary raw; \
                          repeated int64 many; }";

    /// A file of these texts (none: null) whose labels count from -1, in two row groups.
    fn file(compression: Compression, texts: &[Option<&[u8]>]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer =
            SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
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
        Ok(read_texts(&path, &columns)?.all().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_columns_of_every_compression() {
        let gzip = Compression::GZIP(Default::default());
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip] {
            let content = file(compression, &[Some(b"one"), Some("zwölf".as_bytes()), Some(b"3")]);
            assert_eq!(shown(&content, &["text"]).unwrap(), ["one", "zwölf", "3"], "{compression}");
            assert_eq!(shown(&content, &["raw", "text"]).unwrap()[2], "raw | 3");
            let (_folder, path) = saved(&content);
            let (train, _) = load(&path, &path, &["text".to_owned()], "label").unwrap();
            assert_eq!(
                (train.class_names(), train.need_labels().unwrap().ids()),
                (&["-1", "0", "1"].map(str::to_owned)[..], &[0, 1, 2][..])
            );
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let some = |second| file(Compression::SNAPPY, &[Some(b"one"), second]);
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
        let content = file(Compression::SNAPPY, &[Some(b"one"), Some(b"two")]);
        for length in (0..content.len()).step_by(7) {
            let error = shown(&content[..length], &["text"]).unwrap_err().to_string();
            assert!(error.contains("a.parquet: this is no whole Parquet file"), "{error}");
        }
    }
}
