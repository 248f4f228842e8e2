//! Files of records: CSV, TSV, JSON, JSON lines and Parquet, and plain text, gzipped or not.
//!
//! A reader hands over the wanted columns of a row as typed cells; what they mean is its caller's affair.

mod csv;
mod json;
#[cfg(feature = "parquet")]
mod parquet;

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DataError;
use crate::disk::refuse_pointer;
use crate::memory;

/// The longest line, or cell of a table, that is read.
const MAX_TEXT: usize = 64 << 20;
/// The most letters of a cell or name that a message shows.
const MAX_SHOWN: usize = 60;
/// The first bytes of a gzip file.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a file of records is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Cells parted by commas, `.csv`.
    Csv,
    /// Cells parted by tabs, `.tsv`.
    Tsv,
    /// An array of JSON objects, or an object a line, `.json`.
    Json,
    /// A JSON object a line, `.jsonl` or `.ndjson`.
    JsonLines,
    /// Parquet, `.parquet`.
    Parquet,
    /// Plain text, `.txt`.
    Text,
}

/// The ending of a file's name, in small letters, behind which `.gz` may stand, and whether it does.
pub fn ending(path: &Path) -> Option<(String, bool)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let bare = name.strip_suffix(".gz");
    let (_, ending) = bare.unwrap_or(&name).rsplit_once('.')?;
    Some((ending.to_owned(), bare.is_some()))
}

impl Format {
    /// Endings of the names of files that can be read, for messages.
    pub const ENDINGS: &str = ".csv, .tsv, .json, .jsonl, .ndjson, .parquet and .txt";

    /// What a file's name says, whatever its capitals; all but Parquet may end in `.gz` besides.
    pub fn of(path: &Path) -> Option<Self> {
        let (ending, zipped) = ending(path)?;
        match &*ending {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "json" => Some(Self::Json),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "txt" => Some(Self::Text),
            "parquet" if !zipped => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Whether it has named columns.
    pub fn is_table(self) -> bool {
        self != Self::Text
    }
}

/// Where a row stands in its file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Line(u64),
    /// Of a file without lines.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// There is no such column, in a file that may lack it.
    Absent,
    Missing,
    Text(Cow<'a, str>),
    Whole(i128),
    Real(f64),
    Flag(bool),
    List(Vec<Cell<'a>>),
    /// Named cells.
    Record(Vec<(Cow<'a, str>, Cell<'a>)>),
    /// What is none of these, as a message shows it.
    Other(String),
}

impl Cell<'_> {
    /// Lists and records as JSON has them, about as much of them as a message shows.
    fn shown(&self) -> String {
        let mut shown = String::new();
        let (open, close) = if matches!(self, Self::List(_)) { ('[', ']') } else { ('{', '}') };
        shown.push(open);
        let cells: Box<dyn Iterator<Item = (Option<&str>, &Cell<'_>)>> = match self {
            Self::List(cells) => Box::new(cells.iter().map(|cell| (None, cell))),
            Self::Record(cells) => Box::new(cells.iter().map(|(name, cell)| (Some(&**name), cell))),
            _ => Box::new(std::iter::empty()),
        };
        for (index, (name, cell)) in cells.enumerate() {
            if shown.len() > 4 * MAX_SHOWN {
                break;
            }
            if index > 0 {
                shown.push(',');
            }
            if let Some(name) = name {
                shown.push_str(&format!("{name:?}:"));
            }
            match cell {
                Cell::Missing => shown.push_str("null"),
                Cell::Text(text) => shown.push_str(&format!("{:?}", shortened(text))),
                cell => shown.push_str(&cell.to_string()),
            }
        }
        shown.push(close);
        shown
    }
}

/// As a message shows it.
impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent | Self::Missing => f.write_str("nothing"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(_) | Self::Record(_) => f.write_str(&shortened(&self.shown())),
            Self::Other(shown) => f.write_str(shown),
        }
    }
}

/// The columns of a table that are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub columns: &'a [&'a str],
    /// How many of the columns, the last ones, a file may lack.
    pub optional: usize,
    /// Whether numbers of classes become the classes' names, where the file has them.
    #[cfg_attr(
        not(feature = "parquet"),
        expect(dead_code, reason = "Parquet files alone have any")
    )]
    pub class_names: bool,
    /// Whether lists and records are read.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "Parquet's reader asks"))]
    pub nested: bool,
}

impl Wanted<'_> {
    /// Whether a file may lack the column of this place.
    fn is_optional(&self, place: usize) -> bool {
        place + self.optional >= self.columns.len()
    }
}

/// Takes a row's cells, in the order of the columns that are wanted.
pub(super) type TakeRow<'a> = &'a mut dyn FnMut(Place, &[Cell<'_>]) -> Result<(), DataError>;

/// A file, and its name in errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    pub path: &'a Path,
}

impl<'a> File<'a> {
    pub fn new(path: &'a Path) -> Self {
        Self { path }
    }

    pub fn bad(self, problem: impl Into<String>) -> DataError {
        DataError::File { path: self.path.display().to_string(), problem: problem.into() }
    }

    pub fn cell(self, place: Place, column: &str, problem: impl Into<String>) -> DataError {
        match place {
            Place::Row(_) => self.bad(format!("{place}, column `{column}`: {}", problem.into())),
            Place::Line(line) => DataError::Cell {
                path: self.path.display().to_string(),
                line,
                column: format!("`{column}`"),
                problem: problem.into(),
            },
        }
    }

    /// In which row, if rows may differ.
    fn no_column(self, place: Option<Place>, column: &str, names: &[&str]) -> DataError {
        // Names come from the file, and may be as many and as long as it is.
        let shown = names.iter().take(20).map(|name| format!("`{}`", shortened(name)));
        let more = if names.len() > 20 {
            format!(" and {} more", names.len() - 20)
        } else {
            String::new()
        };
        let held = shown.collect::<Vec<_>>().join(", ");
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        self.bad(format!("{place}there is no column `{column}`; it has {held}{more}"))
    }

    /// Reads the wanted columns of a table, row by row.
    ///
    /// # Errors
    /// [`DataError`] of `take`, or naming the file and the place in it that is wrong.
    pub fn rows(
        self,
        format: Format,
        wanted: Wanted<'_>,
        take: TakeRow<'_>,
    ) -> Result<(), DataError> {
        match format {
            Format::Csv => csv::rows(self, self.text(&self.bytes()?)?, b',', wanted, take),
            Format::Tsv => csv::rows(self, self.text(&self.bytes()?)?, b'\t', wanted, take),
            Format::JsonLines => json::lines(self, self.text(&self.bytes()?)?, wanted, take),
            Format::Json => json::rows(self, self.text(&self.bytes()?)?, wanted, take),
            #[cfg(feature = "parquet")]
            Format::Parquet => parquet::rows(self, wanted, take),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => Err(self.bad(
                "this program was built without its feature `parquet`: convert the file to .jsonl",
            )),
            Format::Text => Err(self.bad(
                "a .txt file has no columns: give a file with named ones (.csv, .tsv, .json, .jsonl, .ndjson or .parquet)",
            )),
        }
    }

    /// The names of the classes of a column, or of what its lists hold, in the order of their numbers, where the file
    /// has them.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be read.
    pub fn class_names(
        self,
        format: Format,
        column: &str,
    ) -> Result<Option<Vec<String>>, DataError> {
        match format {
            #[cfg(feature = "parquet")]
            Format::Parquet => parquet::names_of(self, column),
            _ => {
                let _ = column;
                Ok(None)
            }
        }
    }

    /// The lines of a plain text, with their numbers.
    pub fn lines(self, text: &str) -> impl Iterator<Item = Result<(Place, &str), DataError>> {
        (1..).zip(text.lines()).map(move |(line, text)| {
            let place = Place::Line(line);
            self.bounded(place, text.len()).map(|()| (place, text))
        })
    }

    /// Refuses a line or cell so long that the file is surely no such thing.
    fn bounded(self, place: Place, len: usize) -> Result<(), DataError> {
        if len <= MAX_TEXT {
            return Ok(());
        }
        let most = MAX_TEXT >> 20;
        Err(self.bad(format!(
            "{place} is {len} bytes long, and at most {most} MiB are read: is a line end or a closing quote missing?"
        )))
    }

    /// Its bytes, unzipped if they are gzip's.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be read, is damaged, or is more than the memory that is left can hold.
    pub fn bytes(self) -> Result<Vec<u8>, DataError> {
        let bytes = self.packed_bytes()?;
        match bytes.starts_with(&GZIP) {
            // Half, as what is read of the bytes has to lie beside them.
            true => self.unzipped(&bytes, memory::available().map_or(u64::MAX, |left| left / 2)),
            false => Ok(bytes),
        }
    }

    /// Its bytes as they are.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be read, or is more than the memory that is left can hold.
    pub fn packed_bytes(self) -> Result<Vec<u8>, DataError> {
        let unreadable = |source| DataError::Read { path: self.path.display().to_string(), source };
        refuse_pointer(self.path)?;
        let available = memory::available();
        let len = std::fs::metadata(self.path).map_err(unreadable)?.len();
        if let Some(available) = available.filter(|available| len > *available) {
            return Err(self.bad(format!(
                "it has {len} bytes, and {available} are left of this machine's memory: give a smaller part of it"
            )));
        }
        std::fs::read(self.path).map_err(unreadable)
    }

    /// What gzip packed, if it is no more than `most` bytes.
    fn unzipped(self, bytes: &[u8], most: u64) -> Result<Vec<u8>, DataError> {
        let mut all = Vec::new();
        let mut reader = MultiGzDecoder::new(bytes).take(most.saturating_add(1));
        let read = reader.read_to_end(&mut all);
        read.map_err(|error| self.bad(format!("its gzip stream is cut off or damaged: {error}")))?;
        if all.len() as u64 > most {
            return Err(self.bad(format!(
                "it unpacks to more than {most} bytes, half of the memory that is left: give a smaller part of it"
            )));
        }
        Ok(all)
    }

    /// Bytes as UTF-8 text, without the byte-order mark that some editors write.
    ///
    /// # Errors
    /// [`DataError::File`] where they are none; UTF-16 is named.
    pub fn text(self, bytes: &[u8]) -> Result<&str, DataError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let marked = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        // Without a mark, every other byte of a Latin text is 0.
        let unmarked = matches!(bytes, [0, 1..=255, ..] | [1..=255, 0, ..]);
        if marked || unmarked {
            return Err(self.bad(
                "it is UTF-16, and texts are read as UTF-8: convert it, for example with `iconv -f UTF-16 -t UTF-8`",
            ));
        }
        std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            self.bad(format!("line {line}: this is no UTF-8 text"))
        })
    }
}

/// A name from a file, cut where it is too long for a message.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
