//! JSON objects, one a line or in an array.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Cell, File, Place, TakeRow, Wanted};
use crate::DataError;

type Object = Map<String, Value>;

/// An object a line; blank lines are passed over.
pub(super) fn lines(
    file: File<'_>,
    text: &str,
    wanted: Wanted<'_>,
    take: TakeRow<'_>,
) -> Result<(), DataError> {
    for line in file.lines(text) {
        let (place, json) = line?;
        if json.trim().is_empty() {
            continue;
        }
        let object: Object = serde_json::from_str(json)
            .map_err(|error| file.bad(format!("{place} is no JSON object: {error}")))?;
        row(file, place, &object, wanted, take)?;
    }
    Ok(())
}

/// An array of objects, or, as many files of this ending hold, an object a line.
pub(super) fn rows(
    file: File<'_>,
    text: &str,
    wanted: Wanted<'_>,
    take: TakeRow<'_>,
) -> Result<(), DataError> {
    if !text.trim_start().starts_with('[') {
        return lines(file, text, wanted, take);
    }
    let mut problem = None;
    let array = Array { file, wanted, take, problem: &mut problem };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_seq(array).and_then(|()| json.end());
    match (problem, read) {
        (Some(problem), _) => Err(problem),
        (None, read) => read.map_err(|error| {
            file.bad(format!("it is no JSON array of objects with named columns: {error}"))
        }),
    }
}

/// Hands over the objects of an array one by one, so that they never lie in memory together.
struct Array<'a> {
    file: File<'a>,
    wanted: Wanted<'a>,
    take: TakeRow<'a>,
    /// What is wrong with a row that is whole as JSON.
    problem: &'a mut Option<DataError>,
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut array: S) -> Result<(), S::Error> {
        let Self { file, wanted, take, problem } = self;
        for number in 1.. {
            let Some(object) = array.next_element::<Object>()? else { break };
            let place = Place::Row(number);
            if let Err(error) = row(file, place, &object, wanted, &mut *take) {
                *problem = Some(error);
                return Err(serde::de::Error::custom("a row is refused"));
            }
        }
        Ok(())
    }
}

fn row(
    file: File<'_>,
    place: Place,
    object: &Object,
    wanted: Wanted<'_>,
    take: TakeRow<'_>,
) -> Result<(), DataError> {
    let cell = |(index, column): (usize, &&str)| {
        let Some(value) = object.get(*column) else {
            if wanted.is_optional(index) {
                return Ok(Cell::Absent);
            }
            let held: Vec<&str> = object.keys().map(String::as_str).collect();
            return Err(file.no_column(Some(place), column, &held));
        };
        if let Value::String(text) = value {
            file.bounded(place, text.len())?;
        }
        Ok(Cell::of_json(value))
    };
    let cells = wanted.columns.iter().enumerate().map(cell);
    take(place, &cells.collect::<Result<Vec<_>, DataError>>()?)
}

impl<'a> Cell<'a> {
    /// What a value of JSON is.
    pub fn of_json(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Missing,
            Value::Bool(flag) => Self::Flag(*flag),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), _, _) => Self::Whole(whole.into()),
                (_, Some(whole), _) => Self::Whole(whole.into()),
                (_, _, Some(real)) => Self::Real(real),
                _ => Self::Other(number.to_string()),
            },
            Value::Array(values) => Self::List(values.iter().map(Self::of_json).collect()),
            Value::Object(values) => {
                let named =
                    values.iter().map(|(name, value)| (Cow::from(name), Self::of_json(value)));
                Self::Record(named.collect())
            }
        }
    }
}
