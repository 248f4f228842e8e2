//! Tables on the terminal.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, presets};
use distil_gpu_engine::report::Report;

/// A table with a line under its header and none between its rows.
pub fn new<C: Into<Cell>>(header: impl IntoIterator<Item = C>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(header.into_iter().map(Into::into).collect::<Vec<Cell>>());
    table
}

/// The three arms side by side.
pub fn report(report: &Report) -> Table {
    let mut table = new(["", "teacher", "student alone", "student distilled"]);
    for row in report.rows() {
        table.add_row([row.name].into_iter().chain(row.cells));
    }
    right(&mut table, 1..4);
    table
}

/// Aligns columns of numbers.
pub fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
