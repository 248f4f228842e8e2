//! Tables on the terminal.

use comfy_table::{CellAlignment, LineStyle, Table, presets};
use distil_gpu_engine::report::{ArmReport, Report};

/// A table with a line under its header and none between its rows.
pub fn new<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(header);
    table
}

/// The three arms side by side.
pub fn report(report: &Report) -> Table {
    let mut table = new(["", "teacher", "student alone", "student distilled"]);
    let arms =
        [report.arms.teacher.as_ref(), Some(&report.arms.control), Some(&report.arms.distilled)];
    let mut row = |name: &str, value: &dyn Fn(&ArmReport) -> Option<String>| {
        let cells = arms.map(|arm| arm.and_then(value).unwrap_or_else(|| "-".to_owned()));
        table.add_row([name.to_owned()].into_iter().chain(cells));
    };
    row("accuracy", &|arm| Some(format!("{:.2} %", 100.0 * arm.accuracy)));
    row(&format!("errors of {}", report.examples.test), &|arm| Some(arm.errors.to_string()));
    for (i, correction) in report.arms.distilled.bias_corrected.iter().enumerate() {
        let class = correction.class;
        row(&format!("errors on class {class}, unseen by the students"), &|arm| {
            arm.errors_per_class.get(class).map(ToString::to_string)
        });
        row(&format!("the same, bias of class {class} corrected"), &|arm| {
            arm.bias_corrected.get(i).map(|c| c.errors_of_class.to_string())
        });
        row("errors in all, bias corrected", &|arm| {
            arm.bias_corrected.get(i).map(|c| c.errors.to_string())
        });
    }
    row("parameters", &|arm| arm.parameters.map(thousands));
    row("size", &|arm| arm.bytes.map(|bytes| format!("{:.2} MB", bytes as f64 / 1e6)));
    row("latency, one example", &|arm| arm.latency_ms.map(|ms| format!("{ms:.3} ms")));
    row("examples a second", &|arm| arm.examples_per_second.map(|rate| thousands(rate as usize)));
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let percent =
        |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{:.1} %", 100.0 * v));
    let only =
        |name: &str, value: String| vec![name.to_owned(), String::new(), String::new(), value];
    table.add_row(only("kept of the teacher's accuracy", percent(report.retained)));
    table.add_row(only("gap to the teacher closed", percent(report.gap_closed)));
    table.add_row(only("same answer as the teacher", percent(report.agreement)));
    table
}

/// 1234567 as 1,234,567.
fn thousands(value: usize) -> String {
    let digits = value.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<&str> =
        groups.map(|g| std::str::from_utf8(g).expect("digits are ASCII")).collect();
    groups.join(",")
}
