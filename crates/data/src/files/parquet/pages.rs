//! Pages, unpacked and held to their own bytes before their values are read.

use std::fs::File;
use std::sync::Arc;

use ::parquet::basic::{Compression, Encoding, Type as Physical};
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::file::reader::{RowGroupReader, SerializedPageReader};
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::Type;

use super::codec::unpack;
use crate::memory;

/// The most bytes of a page: its header counts them as i32.
const MAX_PAGE: usize = i32::MAX as usize;
/// The most values of a page in a delta encoding, whose lengths are unpacked together: pages have some 20,000.
const MAX_DELTA: u32 = 1 << 24;

/// A row group whose pages are unpacked here.
pub(super) struct Group<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    file: Arc<File>,
}

impl<'a> Group<'a> {
    pub fn new(group: Box<dyn RowGroupReader + 'a>, file: Arc<File>) -> Self {
        Self { group, file }
    }
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group.metadata()
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>> {
        let chunk = self.metadata().column(column);
        // Read as if it were not compressed, a page is handed over as it lies in the file.
        let stored =
            chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let rows = usize::try_from(self.metadata().num_rows())?;
        let inner = SerializedPageReader::new(Arc::clone(&self.file), &stored, rows, None)?;
        let room = memory::available().map_or(u64::MAX, |available| available / 2);
        let told = u64::try_from(chunk.uncompressed_size())?;
        Ok(Box::new(Pages {
            inner,
            codec: chunk.compression(),
            physical: chunk.column_type(),
            width: chunk.column_descr().type_length(),
            levels: [chunk.column_descr().max_rep_level(), chunk.column_descr().max_def_level()]
                .map(|most| most > 0),
            left: u64::try_from(chunk.num_values())?,
            most: usize::try_from(told.min(room)).unwrap_or(usize::MAX).min(MAX_PAGE),
        }))
    }

    fn get_column_bloom_filter(&self, column: usize) -> Option<&Sbbf> {
        self.group.get_column_bloom_filter(column)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of a column of a row group.
struct Pages {
    inner: SerializedPageReader<File>,
    codec: Compression,
    physical: Physical,
    /// Bytes of a value, where all have as many.
    width: i32,
    /// Whether values may be in lists, and whether they may be missing.
    levels: [bool; 2],
    /// How many values are still to come, by the file's footer.
    left: u64,
    /// The most bytes that a page may have.
    most: usize,
}

impl Pages {
    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>> {
        unpack(self.codec, packed, self.most).map_err(ParquetError::General)
    }

    fn open(&mut self, page: Page) -> Result<Page> {
        let mut page = page;
        if let Page::DataPage { num_values, .. } | Page::DataPageV2 { num_values, .. } = &page {
            let left = self.left.checked_sub((*num_values).into());
            self.left =
                left.ok_or_else(|| damaged("its pages have more values than its footer"))?;
        }
        match &mut page {
            Page::DataPage { buf, num_values, encoding, .. } => {
                if self.codec != Compression::UNCOMPRESSED {
                    *buf = self.unpack(buf)?.into();
                }
                // Levels stand in front of the values, and tell their own length; a column that is required has none.
                let mut levels = 0_usize;
                for _ in self.levels.into_iter().filter(|there| *there) {
                    let len = buf.get(levels..).and_then(<[u8]>::split_first_chunk::<4>);
                    let len = len.map_or(0, |(len, _)| 4 + u32::from_le_bytes(*len) as usize);
                    levels = levels.saturating_add(len);
                }
                check_delta(*encoding, buf.get(levels..).unwrap_or(&[]), *num_values)?;
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                let levels = (*def_levels_byte_len as usize) + (*rep_levels_byte_len as usize);
                let Some((levels, values)) = buf.split_at_checked(levels) else {
                    return Err(damaged("its levels are longer than a page"));
                };
                // A page of nulls alone may have no bytes for its values.
                if *is_compressed && self.codec != Compression::UNCOMPRESSED && !values.is_empty() {
                    let values = self.unpack(values)?;
                    check_delta(*encoding, &values, *num_values)?;
                    *buf = [levels, &values].concat().into();
                } else {
                    check_delta(*encoding, values, *num_values)?;
                }
                *is_compressed = false;
            }
            Page::DictionaryPage { buf, num_values, .. } => {
                if self.codec != Compression::UNCOMPRESSED {
                    *buf = self.unpack(buf)?.into();
                }
                let bits = match self.physical {
                    Physical::BOOLEAN => 1,
                    Physical::INT32 | Physical::FLOAT => 32,
                    Physical::INT64 | Physical::DOUBLE => 64,
                    Physical::INT96 => 96,
                    // Its length at least.
                    Physical::BYTE_ARRAY => 32,
                    Physical::FIXED_LEN_BYTE_ARRAY => 8 * self.width.max(1) as usize,
                };
                if (*num_values as usize).saturating_mul(bits) > buf.len().saturating_mul(8) {
                    let bytes = buf.len();
                    return Err(damaged(&format!(
                        "a dictionary of {bytes} bytes cannot hold the {num_values} values that it declares"
                    )));
                }
            }
        }
        Ok(page)
    }
}

fn damaged(problem: &str) -> ParquetError {
    ParquetError::General(problem.to_owned())
}

/// Refuses values in a delta encoding that declare to be more than their page has.
fn check_delta(encoding: Encoding, values: &[u8], num_values: u32) -> Result<()> {
    let fits = match encoding {
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => {
            delta_len(values, num_values).is_some()
        }
        // Lengths of what each text shares with the one before, then the rest of the texts behind their own lengths.
        Encoding::DELTA_BYTE_ARRAY => delta_len(values, num_values)
            .is_some_and(|prefixes| delta_len(&values[prefixes..], num_values).is_some()),
        _ => true,
    };
    if fits || values.is_empty() {
        return Ok(());
    }
    Err(damaged("a page declares more values than it has"))
}

/// The bytes that numbers in the encoding `DELTA_BINARY_PACKED` take, if there are no more than `most` numbers.
fn delta_len(bytes: &[u8], most: u32) -> Option<usize> {
    let mut at = 0;
    let number = |at: &mut usize| {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *bytes.get(*at)?;
            *at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    };
    let (block, parts, count) = (number(&mut at)?, number(&mut at)?, number(&mut at)?);
    let _first = number(&mut at)?;
    if count > most.min(MAX_DELTA).into() || block > MAX_DELTA.into() {
        return None;
    }
    let of_part = usize::try_from(block.checked_div(parts)?).ok()?;
    let parts = usize::try_from(parts).ok()?;
    let mut left = (count as usize).saturating_sub(1);
    while left > 0 {
        let _least = number(&mut at)?;
        let widths = bytes.get(at..at.checked_add(parts)?)?;
        at += parts;
        for &width in widths {
            if left > 0 {
                at += usize::from(width) * of_part / 8;
                left = left.saturating_sub(of_part);
            }
        }
        if of_part == 0 {
            return None;
        }
    }
    // The last part may be cut off where its numbers end.
    Some(at.min(bytes.len()))
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        page.map(|page| self.open(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}
