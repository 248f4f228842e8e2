//! A recipe, a run, a report: the default recipe on pictures that come with the program, in a minute or less.
//!
//!     cargo run --release --example quick_start

use distil_gpu_engine::prelude::*;

fn main() -> Result<(), Error> {
    let folder = std::env::temp_dir().join("distil-gpu-quick-start");
    let recipe = Recipe::embedded_default(&[
        format!("out={:?}", folder.display().to_string()),
        "teacher.train.epochs=4".to_owned(),
        "train.epochs=8".to_owned(),
    ])?;
    let mut device = select(Choice::Auto, GpuOptions::default())?.device;
    let finished = run(prepare(&recipe, Begin::Replace)?, &mut *device, &mut Silent)?;
    println!("{}", finished.report.sentence());
    for row in finished.report.rows() {
        let [teacher, alone, distilled] = row.cells;
        println!("{:32} {teacher:>12} {alone:>14} {distilled:>18}", row.name);
    }
    println!("Its page is made by: distil-gpu report {}", finished.folder.display());
    Ok(())
}
