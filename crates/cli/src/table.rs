//! Tables on the terminal.

use std::fmt;
use std::ops::Range;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Width, presets};
use distil_gpu_engine::results::Report;
use unicode_width::UnicodeWidthStr;

use crate::terminal::{clean, width};

/// Columns between the contents of two neighbours: padding and the place of a line.
const GAP: usize = 2;
/// A longer word of a column of text may be broken.
const WORD: usize = 16;

/// A table with a line under its header and none between its rows, as wide as the terminal at most: texts and headers
/// are wrapped, numbers where there is no other way, and columns that fit nowhere are left out.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    numbers: Range<usize>,
    spare: Vec<usize>,
}

/// A table without rows.
pub fn new<C: Into<String>>(header: impl IntoIterator<Item = C>) -> Table {
    Table { header: cells(header), rows: Vec::new(), numbers: 0..0, spare: Vec::new() }
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

/// Says which columns hold numbers: they are aligned to the right.
pub fn right(table: &mut Table, columns: Range<usize>) {
    table.numbers = columns;
}

fn cells<C: Into<String>>(cells: impl IntoIterator<Item = C>) -> Vec<String> {
    cells.into_iter().map(|cell| clean(&cell.into()).into_owned()).collect()
}

impl Table {
    /// Adds a row with a cell a column.
    pub fn add_row<C: Into<String>>(&mut self, row: impl IntoIterator<Item = C>) {
        self.rows.push(cells(row));
    }

    /// Says which columns are left out first where not all fit; then the last go.
    pub fn spare(&mut self, columns: impl IntoIterator<Item = usize>) {
        self.spare = columns.into_iter().collect();
    }

    /// The table in so many columns of the terminal.
    fn draw(&self, width: usize) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        table.set_header(&self.header);
        for row in &self.rows {
            table.add_row(row);
        }
        for (index, width) in self.widths(width).into_iter().enumerate() {
            let Some(column) = table.column_mut(index) else { continue };
            column.set_padding((0, 1));
            column.set_constraint(match width {
                Some(width) => {
                    let whole = u16::try_from(width + GAP - 1).unwrap_or(u16::MAX);
                    ColumnConstraint::Absolute(Width::Fixed(whole))
                }
                None => ColumnConstraint::Hidden,
            });
            if self.numbers.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// The width of each column's content; of none that is left out.
    fn widths(&self, width: usize) -> Vec<Option<usize>> {
        let all: Vec<usize> = (0..self.header.len()).collect();
        let whole: Vec<Need> = all.iter().map(|index| self.need(*index, true)).collect();
        let broken: Vec<Need> = all.iter().map(|index| self.need(*index, false)).collect();
        let fits = |needs: &[Need], shown: &[usize]| {
            // The last has no neighbour.
            shown.iter().map(|&index| needs[index].least + GAP).sum::<usize>() <= width + 1
        };
        let needs = if fits(&whole, &all) { whole } else { broken };
        let mut shown = all.clone();
        // The first column says what a row is, so it stays.
        for column in self.spare.iter().copied().chain((1..all.len()).rev()) {
            if fits(&needs, &shown) {
                break;
            }
            shown.retain(|index| *index != column);
        }
        let mut widths: Vec<usize> = needs.iter().map(|need| need.least).collect();
        let taken: usize = shown.iter().map(|&index| widths[index] + GAP).sum();
        for _ in taken..width + 1 {
            // A column at a time to where most is lacking, to what the rows say before the headers.
            let lacks = |index: &usize| {
                let Need { body, most, .. } = needs[*index];
                (body.saturating_sub(widths[*index]), most - widths[*index])
            };
            match shown.iter().copied().max_by_key(lacks).filter(|index| lacks(index).1 > 0) {
                Some(index) => widths[index] += 1,
                None => break,
            }
        }
        all.into_iter().map(|index| shown.contains(&index).then_some(widths[index])).collect()
    }

    /// What a column needs, with its numbers in one piece or broken where they have spaces.
    fn need(&self, index: usize, whole: bool) -> Need {
        let body = || self.rows.iter().filter_map(|row| row.get(index));
        let widest = |texts: &mut dyn Iterator<Item = &String>| {
            texts.flat_map(|text| text.lines()).map(UnicodeWidthStr::width).max().unwrap_or(0)
        };
        let word = |texts: &mut dyn Iterator<Item = &String>| {
            let words = texts.flat_map(|text| text.split_whitespace());
            words.map(UnicodeWidthStr::width).max().unwrap_or(0)
        };
        let header = &self.header[index];
        let head = word(&mut [header].into_iter());
        let least = match self.numbers.contains(&index) && whole {
            true => head.max(widest(&mut body())),
            false => head.max(word(&mut body()).min(WORD)),
        };
        let most = widest(&mut [header].into_iter().chain(body())).max(least);
        Need { least, body: widest(&mut body()), most }
    }
}

/// How narrow a column may become, how wide its rows would like it to be, and how wide with its header.
struct Need {
    least: usize,
    body: usize,
    most: usize,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.draw(width()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = new(["training", "operations a step", "bytes a step", "in all"]);
        table.add_row([
            "student distilled, from a teacher of many words",
            "123.4 M",
            "5.67 MB",
            "1",
        ]);
        table.add_row(["漢字の名前", "9.0 M", "-", "22,333,444"]);
        right(&mut table, 1..4);
        table
    }

    fn widest(text: &str) -> usize {
        text.lines().map(UnicodeWidthStr::width).max().unwrap()
    }

    #[test]
    fn a_table_is_as_wide_as_it_may_be_and_no_wider() {
        let table = sample();
        for width in [40, 47, 60, 80, 90] {
            let drawn = table.draw(width);
            assert!(widest(&drawn) <= width, "{width}:\n{drawn}");
            for number in ["123.4 M", "22,333,444"] {
                assert!(drawn.contains(number) || width < 60, "{width}:\n{drawn}");
            }
        }
        let (wide, wider) = (table.draw(110), table.draw(1000));
        assert_eq!(wide, wider);
        assert!(wide.contains("student distilled, from a teacher of many words"), "{wide}");
    }

    #[test]
    fn what_fits_nowhere_is_left_out() {
        let mut table = new(["key", "accuracy", "alone", "gain", "front"]);
        table.add_row(["[300,200,100]", "55.00 ± 1.00 %", "54.00 ± 1.00 %", "1.00 ± 0.10 %", "*"]);
        right(&mut table, 0..5);
        let shown = |width: usize, table: &Table| {
            let drawn = table.draw(width);
            assert!(widest(&drawn) <= width, "{width}:\n{drawn}");
            table.header.iter().filter(|head| drawn.contains(*head)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(shown(80, &table).len(), 5);
        // Numbers are broken before anything is left out.
        assert_eq!(shown(50, &table).len(), 5);
        assert_eq!(shown(40, &table), ["key", "accuracy", "alone", "gain"]);
        table.spare([2]);
        assert_eq!(shown(40, &table), ["key", "accuracy", "gain", "front"]);
    }

    #[test]
    fn names_from_files_cannot_command_the_terminal() {
        let mut table = new(["class\x1b[2J"]);
        table.add_row(["a\x1b]0;title\x07b"]);
        let drawn = table.draw(80);
        assert!(drawn.contains("class\\u{1b}[2J") && drawn.contains("a\\u{1b}]0;title\\u{7}b"));
    }

    #[test]
    fn a_word_longer_than_the_terminal_is_broken() {
        let mut table = new(["name", "count"]);
        table.add_row(["x".repeat(200), "7".to_owned()]);
        right(&mut table, 1..2);
        let drawn = table.draw(50);
        assert!(widest(&drawn) <= 50 && drawn.matches('x').count() == 200, "{drawn}");
    }
}
