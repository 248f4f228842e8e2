//! A saved student answers texts.
//!
//!     cargo run --release --example predict -- runs/movie-sentiment/student "a warm and funny film"

use distil_gpu_engine::prelude::*;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, texts @ ..] = &arguments[..] else {
        println!("Give the folder of a model, and texts");
        return Ok(());
    };
    let mut model = Predictor::load(folder)?;
    println!("{model:?} knows {}", model.labels().join(", "));
    for (text, prediction) in texts.iter().zip(model.predict(texts)?) {
        println!("{:8.4}  {:12} {text}", prediction.score, prediction.label);
    }
    Ok(())
}
