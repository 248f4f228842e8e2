//! Parquet files: the columns that are asked for, flat ones, and lists and records where those are asked for.
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
use crate::DataError;
use crate::disk::refuse_pointer;
use crate::guard::guarded;
use crate::memory;

/// The most values that a row's lists may have, on average: what a few bytes can declare has to be made room for.
const MOST_IN_LIST: u64 = 1 << 16;
/// Key of a file's metadata in which Hugging Face's tools keep what the columns mean.
const HUGGINGFACE: &str = "huggingface";

pub(super) fn rows(file: File<'_>, wanted: Wanted<'_>, take: TakeRow<'_>) -> Result<(), DataError> {
    guarded(file.path, "Parquet files", || read(file, wanted, take))?
}

fn read(file: File<'_>, wanted: Wanted<'_>, take: TakeRow<'_>) -> Result<(), DataError> {
    let broken = |error: ParquetError| file.bad(format!("this is no whole Parquet file: {error}"));
    let (source, reader) = open(file)?;
    let len = source.metadata().map_err(|source| unreadable(file, source))?.len();
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema();
    let columns = wanted
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| match find_column(file, schema, column, wanted.nested) {
            Err(_) if wanted.is_optional(index) && !has_column(schema, column) => Ok(None),
            found => found.map(Some),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let absent: Vec<bool> = columns.iter().map(Option::is_none).collect();
    let names: Vec<Option<Vec<String>>> = wanted
        .columns
        .iter()
        .map(|column| if wanted.class_names { class_names(metadata, column) } else { None })
        .collect();
    let mut asked: Vec<Arc<Type>> = Vec::new();
    for column in columns.into_iter().flatten() {
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
            let cell = |((column, names), absent): ((&&str, &Option<Vec<String>>), &bool)| {
                if *absent {
                    return Ok(Cell::Absent);
                }
                let field = record.get_column_iter().find(|(name, _)| name == column);
                let cell = cell(field.map_or(&Field::Null, |(_, field)| field));
                let named = cell.and_then(|cell| match names {
                    Some(names) => named(cell, names),
                    None => Ok(cell),
                });
                named.map_err(|problem| file.cell(place, column, problem))
            };
            let cells = wanted.columns.iter().zip(&names).zip(&absent).map(cell);
            take(place, &cells.collect::<Result<Vec<_>, _>>()?)?;
        }
    }
    Ok(())
}

fn unreadable(file: File<'_>, source: std::io::Error) -> DataError {
    DataError::Read { path: file.path.display().to_string(), source }
}

/// Opens a file whose footer is held to it first.
fn open(
    file: File<'_>,
) -> Result<(Arc<std::fs::File>, SerializedFileReader<std::fs::File>), DataError> {
    let unreadable = |source| unreadable(file, source);
    refuse_pointer(file.path)?;
    let source = std::fs::File::open(file.path).map_err(unreadable)?;
    footer::check(&source)
        .map_err(unreadable)?
        .map_err(|problem| file.bad(format!("this is no whole Parquet file: {problem}")))?;
    let reader = SerializedFileReader::new(source.try_clone().map_err(unreadable)?)
        .map_err(|error| file.bad(format!("this is no whole Parquet file: {error}")))?;
    Ok((Arc::new(source), reader))
}

fn has_column(schema: &Type, column: &str) -> bool {
    schema.get_fields().iter().any(|field| field.name() == column)
}

/// A column of single values, or, where `nested`, of whatever it is.
fn find_column(
    file: File<'_>,
    schema: &Type,
    column: &str,
    nested: bool,
) -> Result<Arc<Type>, DataError> {
    let fields = schema.get_fields();
    let field = fields.iter().find(|field| field.name() == column).ok_or_else(|| {
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        file.no_column(None, column, &names)
    })?;
    if nested {
        return Ok(Arc::clone(field));
    }
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
        path.first().is_some_and(|name| has_column(asked, name))
    };
    for chunk in group.columns().iter().filter(wanted) {
        let name = chunk.column_path().string();
        let values = chunk.num_values();
        // An empty list is a value too. What lists hold is made room for, whatever the file's size.
        let lists = chunk.column_descr().max_rep_level() > 0;
        if (values != rows && !lists) || values < rows {
            return Err(format!("column `{name}` has {values} values for {rows} rows"));
        }
        let room = memory::available().map_or(u64::MAX, |available| available / 2);
        let most = (room / size_of::<Field>() as u64)
            .min(u64::try_from(rows).unwrap_or(0).saturating_mul(MOST_IN_LIST));
        if lists && values as u64 > most {
            return Err(format!(
                "column `{name}` has {values} values in the lists of {rows} rows, and at most {most} are read: give a \
                 smaller part of it"
            ));
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

/// The names of the classes of a column, or of what its lists hold, where the file has them.
///
/// # Errors
/// As [`rows`].
pub(super) fn names_of(file: File<'_>, column: &str) -> Result<Option<Vec<String>>, DataError> {
    let read = || {
        let (_, reader) = open(file)?;
        Ok(class_names(reader.metadata(), column))
    };
    guarded(file.path, "Parquet files", read)?
}

/// The names of a column's classes, where Hugging Face's tools have written them.
fn class_names(metadata: &ParquetMetaData, column: &str) -> Option<Vec<String>> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let entry = entries.iter().find(|entry| entry.key == HUGGINGFACE)?;
    let json: serde_json::Value = serde_json::from_str(entry.value.as_ref()?).ok()?;
    let mut feature = &json["info"]["features"][column];
    // Of a list it is what the list holds, or the only one of an array.
    while feature["_type"] != "ClassLabel" {
        feature = feature.get("feature").or_else(|| feature.get(0))?;
    }
    let name = |name: &serde_json::Value| name.as_str().map(str::to_owned);
    feature["names"].as_array()?.iter().map(name).collect()
}

/// The name of a class in the place of its number.
fn named<'a>(cell: Cell<'a>, names: &[String]) -> Result<Cell<'a>, String> {
    let class = match cell {
        Cell::Whole(class) => class,
        Cell::List(cells) => {
            let cells = cells.into_iter().map(|cell| named(cell, names));
            return Ok(Cell::List(cells.collect::<Result<_, _>>()?));
        }
        cell => return Ok(cell),
    };
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
fn cell<'a>(field: &'a Field) -> Result<Cell<'a>, String> {
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
        Field::ListInternal(list) => {
            Cell::List(list.elements().iter().map(cell).collect::<Result<_, _>>()?)
        }
        Field::Group(row) => {
            let named = |(name, field): (&'a String, &'a Field)| {
                Ok::<_, String>((Cow::Borrowed(name.as_str()), cell(field)?))
            };
            Cell::Record(row.get_column_iter().map(named).collect::<Result<_, _>>()?)
        }
        other => Cell::Other(super::shortened(&other.to_string())),
    })
}

#[cfg(test)]
mod tests;
