//! How pictures of a folder become what a model takes.

use distil_gpu_engine::data::{Colour, Conversion};
use distil_gpu_engine::models::Input;

/// Arguments of commands that read pictures.
#[derive(Debug, clap::Args)]
pub struct Images {
    /// Size that pictures of a folder are brought to, HEIGHTxWIDTH; default: the model's
    #[arg(long, value_parser = size)]
    size: Option<[usize; 2]>,
    /// 1 (grey) or 3 (colour) channels of pictures of a folder; default: the model's
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["1", "3"]))]
    channels: Option<String>,
    /// Colour behind transparent pictures, "black" or "#rrggbb"; default: the model's, or white
    #[arg(long)]
    background: Option<Colour>,
}

impl Images {
    /// What pictures are brought to for a model that reads `input`: what is asked for, else what it learnt on.
    pub fn conversion(&self, input: &Input) -> Conversion {
        let (size, channels, background) = match input {
            Input::Numbers { shape, background, .. } => match *shape.as_slice() {
                [channels, height, width] => (Some([height, width]), Some(channels), *background),
                _ => (None, None, *background),
            },
            Input::Tokens(_) => (None, None, None),
        };
        Conversion {
            size: self.size.or(size),
            channels: self
                .channels
                .as_ref()
                .and_then(|channels| channels.parse().ok())
                .or(channels),
            background: self.background.or(background),
        }
    }
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let side = |side: &str| side.parse().ok().filter(|side| (1..=16384).contains(side));
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err("it must be HEIGHTxWIDTH in pixels, each from 1 to 16384, as 28x28".to_owned()),
    }
}
