//! Tables of cells parted by a character, their columns named by the first line.

use std::borrow::Cow;

use ::csv::ReaderBuilder;

use super::{Cell, File, Place, TakeRow, Wanted};
use crate::DataError;

pub(super) fn rows(
    file: File<'_>,
    text: &str,
    delimiter: u8,
    wanted: Wanted<'_>,
    take: TakeRow<'_>,
) -> Result<(), DataError> {
    let broken = |error: ::csv::Error| file.bad(format!("it cannot be read: {error}"));
    // Where cells are parted by tabs, quotes are text like any other.
    let quoting = delimiter != b'\t';
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).quoting(quoting).from_reader(text.as_bytes());
    let header = reader.headers().map_err(broken)?.clone();
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    let place = |(index, column): (usize, &&str)| {
        let found = names.iter().position(|name| name == column);
        match found {
            None if !wanted.is_optional(index) => Err(file.no_column(None, column, &names)),
            found => Ok(found),
        }
    };
    let places = wanted.columns.iter().enumerate().map(place);
    let places = places.collect::<Result<Vec<Option<usize>>, _>>()?;
    let mut record = ::csv::StringRecord::new();
    let (mut line, mut counted) = (1, 0);
    while reader.read_record(&mut record).map_err(broken)? {
        // Where a record begins the reader has not yet passed the line feed behind a carriage return, nor blank lines.
        let begins = record.position().map_or(counted, |position| position.byte() as usize);
        let ends = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let begins = begins + text.as_bytes()[begins..].iter().take_while(ends).count();
        line +=
            text.as_bytes()[counted..begins].iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = begins;
        let place = Place::Line(line);
        let cell = |&column: &Option<usize>| {
            let Some(column) = column else { return Ok(Cell::Absent) };
            let text = record.get(column).unwrap_or_default();
            file.bounded(place, text.len()).map(|()| Cell::Text(Cow::Borrowed(text)))
        };
        take(place, &places.iter().map(cell).collect::<Result<Vec<_>, _>>()?)?;
    }
    Ok(())
}
