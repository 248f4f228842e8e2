//! Sums down the columns of many rows in two ordered stages: of chunks of rows, then of the chunks.

/// Threads of a workgroup, and most columns that it takes.
const THREADS: usize = 256;
const COLUMNS: usize = 32;
/// Least rows of a chunk, and most chunks.
const LEAST: usize = 64;
const MOST: usize = 256;

/// Rows of a chunk. They depend on the number of rows alone, so that no device sums in another order.
pub(crate) fn chunk(rows: usize) -> usize {
    rows.div_ceil(MOST).max(LEAST)
}

/// Chunks of so many rows.
pub(crate) fn chunks(rows: usize) -> usize {
    rows.div_ceil(chunk(rows))
}

/// Columns of a workgroup over so many, and its threads down each: the overrides `COLUMNS` and `LANES`.
pub(crate) fn tile(columns: usize) -> [usize; 2] {
    let columns = columns.next_power_of_two().min(COLUMNS);
    [columns, THREADS / columns]
}
