//! Parquet files: the flat columns that are asked for.
//!
//! The crate reads footers, headers and values. What it would believe of a file is held to the file first: a footer
//! ([`footer`]) and every page ([`pages`]), which are unpacked here.

mod codec;
mod footer;
mod pages;

use std::borrow::Cow;
use std::sync::Arc;

use ::parquet::basic::Repetition;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::Type;

use self::pages::Group;
use super::{Cell, File, Place, TakeRow, Wanted};
use crate::data::DataError;
use crate::files::refuse_pointer;
use crate::guard::guarded;

/// Key of a file's metadata in which Hugging Face's tools keep what the columns mean.
const HUGGINGFACE: &str = "huggingface";

pub(super) fn rows(file: File<'_>, wanted: Wanted<'_>, take: TakeRow<'_>) -> Result<(), DataError> {
    guarded(file.path, "Parquet files", || read(file, wanted, take))?
}

fn read(file: File<'_>, wanted: Wanted<'_>, take: TakeRow<'_>) -> Result<(), DataError> {
    let broken = |error: ParquetError| file.bad(format!("this is no whole Parquet file: {error}"));
    let unreadable = |source| DataError::Read { path: file.path.display().to_string(), source };
    refuse_pointer(file.path)?;
    let source = std::fs::File::open(file.path).map_err(unreadable)?;
    footer::check(&source)
        .map_err(unreadable)?
        .map_err(|problem| file.bad(format!("this is no whole Parquet file: {problem}")))?;
    let len = source.metadata().map_err(unreadable)?.len();
    let source = Arc::new(source);
    let reader =
        SerializedFileReader::new(source.try_clone().map_err(unreadable)?).map_err(broken)?;
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema();
    let columns = wanted
        .columns
        .iter()
        .map(|column| flat_column(file, schema, column))
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<Option<Vec<String>>> = wanted
        .columns
        .iter()
        .map(|column| if wanted.class_names { class_names(metadata, column) } else { None })
        .collect();
    let mut asked: Vec<Arc<Type>> = Vec::new();
    for column in columns {
        if asked.iter().all(|known| known.name() != column.name()) {
            asked.push(column);
        }
    }
    let asked =
        Type::group_type_builder(schema.name()).with_fields(asked).build().map_err(broken)?;
    let mut row = 0;
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number).map_err(broken)?;
        check_group(group.metadata(), &asked, len)
            .map_err(|problem| file.bad(format!("row group {}: {problem}", number + 1)))?;
        let group = Group::new(group, Arc::clone(&source));
        for record in RowIter::from_row_group(Some(asked.clone()), &group).map_err(broken)? {
            row += 1;
            let place = Place::Row(row);
            let record =
                record.map_err(|error| file.bad(format!("{place} cannot be read: {error}")))?;
            let cell = |(column, names): (&&str, &Option<Vec<String>>)| {
                let field = record.get_column_iter().find(|(name, _)| name == column);
                let cell = cell(field.map_or(&Field::Null, |(_, field)| field));
                let named = cell.and_then(|cell| match names {
                    Some(names) => named(cell, names),
                    None => Ok(cell),
                });
                named.map_err(|problem| file.cell(place, column, problem))
            };
            let cells = wanted.columns.iter().zip(&names).map(cell);
            take(place, &cells.collect::<Result<Vec<_>, _>>()?)?;
        }
    }
    Ok(())
}

/// A column of single values.
fn flat_column(file: File<'_>, schema: &Type, column: &str) -> Result<Arc<Type>, DataError> {
    let fields = schema.get_fields();
    let field = fields.iter().find(|field| field.name() == column).ok_or_else(|| {
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        file.no_column(None, column, &names)
    })?;
    if field.is_group() || field.get_basic_info().repetition() == Repetition::REPEATED {
        let problem = format!("column `{column}` holds lists or records, and no texts");
        return Err(file.bad(problem));
    }
    Ok(Arc::clone(field))
}

/// Holds what the footer says of the columns that are asked for to the file.
fn check_group(group: &RowGroupMetaData, asked: &Type, file_len: u64) -> Result<(), String> {
    let rows = group.num_rows();
    let wanted = |chunk: &&ColumnChunkMetaData| {
        let path = chunk.column_path().parts();
        path.len() == 1 && asked.get_fields().iter().any(|field| field.name() == path[0])
    };
    for chunk in group.columns().iter().filter(wanted) {
        let name = chunk.column_path().string();
        if chunk.num_values() != rows {
            let values = chunk.num_values();
            return Err(format!("column `{name}` has {values} values for {rows} rows"));
        }
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let end = start.checked_add(chunk.compressed_size());
        let within = end.is_some_and(|end| start >= 0 && end >= start && end as u64 <= file_len);
        if !within || chunk.uncompressed_size() < 0 {
            return Err(format!(
                "column `{name}` would end beyond the file, which has {file_len} bytes"
            ));
        }
    }
    Ok(())
}

/// The names of a column's classes, where Hugging Face's tools have written them.
fn class_names(metadata: &ParquetMetaData, column: &str) -> Option<Vec<String>> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let entry = entries.iter().find(|entry| entry.key == HUGGINGFACE)?;
    let json: serde_json::Value = serde_json::from_str(entry.value.as_ref()?).ok()?;
    let feature = &json["info"]["features"][column];
    if feature["_type"] != "ClassLabel" {
        return None;
    }
    let name = |name: &serde_json::Value| name.as_str().map(str::to_owned);
    feature["names"].as_array()?.iter().map(name).collect()
}

/// The name of a class in the place of its number.
fn named<'a>(cell: Cell<'a>, names: &[String]) -> Result<Cell<'a>, String> {
    let Cell::Whole(class) = cell else { return Ok(cell) };
    match usize::try_from(class).ok().and_then(|class| names.get(class)) {
        Some(name) => Ok(Cell::Text(Cow::Owned(name.clone()))),
        None if class == -1 => {
            Err("-1 stands for a row whose label is not told: this file has none to learn from"
                .to_owned())
        }
        None => {
            let count = names.len();
            Err(format!(
                "there is no class {class}: the file's metadata name {count}, counted from 0"
            ))
        }
    }
}

/// What a field holds, or what is wrong with it.
fn cell(field: &Field) -> Result<Cell<'_>, String> {
    Ok(match field {
        Field::Null => Cell::Missing,
        Field::Str(text) => Cell::Text(Cow::Borrowed(text)),
        // Some writers do not say that bytes are text.
        Field::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes.data());
            Cell::Text(Cow::Borrowed(text.map_err(|_| "this is no UTF-8 text")?))
        }
        Field::Bool(flag) => Cell::Flag(*flag),
        Field::Byte(number) => Cell::Whole((*number).into()),
        Field::Short(number) => Cell::Whole((*number).into()),
        Field::Int(number) => Cell::Whole((*number).into()),
        Field::Long(number) => Cell::Whole((*number).into()),
        Field::UByte(number) => Cell::Whole((*number).into()),
        Field::UShort(number) => Cell::Whole((*number).into()),
        Field::UInt(number) => Cell::Whole((*number).into()),
        Field::ULong(number) => Cell::Whole((*number).into()),
        Field::Float16(number) => Cell::Real(f64::from(number.to_f32())),
        Field::Float(number) => Cell::Real(f64::from(*number)),
        Field::Double(number) => Cell::Real(*number),
        other => Cell::Other(super::shortened(&other.to_string())),
    })
}

#[cfg(test)]
mod tests;
