//! The tokens that this program makes of texts, beside what a page needs to make them: for `tools/check_page_tokens.sh`.
//!
//!     cargo run -p distil-gpu-web --example token_ids -- MODEL TEXTS.json > ids.json
//!
//! TEXTS.json is a list of texts. The answer has the page's recipe and, of each text, its tokens; `null` where it has none.

use std::error::Error;
use std::path::Path;

use distil_gpu_engine::data::{Text, Texts};
use distil_gpu_engine::models::{self, Input};
use distil_gpu_web::TextRecipe;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, texts] = &*arguments else {
        return Err("give a model's folder and a file of texts".into());
    };
    let config = models::load_config(Path::new(folder))?;
    let Input::Tokens(input) = &config.input else {
        return Err("the model reads no texts".into());
    };
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(texts)?)?;
    let tokenizer = input.tokenizer()?;
    let ids = texts.iter().map(|text| {
        let one = Texts::new(vec![Text::from(&**text)]).ok()?;
        Some(tokenizer.encode_all(&one, input.max_length).ok()?.row(0).0.to_vec())
    });
    let ids: Vec<Option<Vec<i32>>> = ids.collect();
    let tokenizer: serde_json::Value = serde_json::from_str(tokenizer.json())?;
    let recipe = TextRecipe::of(input)?;
    println!("{}", json!({ "recipe": recipe, "tokenizer": tokenizer, "texts": texts, "ids": ids }));
    Ok(())
}
