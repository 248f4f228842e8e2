//! A colour behind what pictures leave transparent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Red, green and blue, written "white", "black", "grey" or "#rrggbb".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

/// Colours that have a name.
const NAMES: [(&str, Colour); 4] = [
    ("white", Colour::WHITE),
    ("black", Colour([0; 3])),
    ("grey", Colour([128; 3])),
    ("gray", Colour([128; 3])),
];

impl Colour {
    /// White, the default.
    pub const WHITE: Self = Self([255; 3]);
    /// What may be written, for messages.
    pub const ALLOWED: &str = "\"white\", \"black\", \"grey\" or \"#rrggbb\" in hexadecimal digits";

    /// Whether it is white, black or a grey between.
    pub(super) fn is_grey(self) -> bool {
        let [red, green, blue] = self.0;
        red == green && green == blue
    }
}

impl FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, colour)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*colour);
        }
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii());
        let channel = |at| u8::from_str_radix(digits?.get(at..at + 2)?, 16).ok();
        let signed = text.contains('+');
        match (channel(0), channel(2), channel(4)) {
            (Some(red), Some(green), Some(blue)) if !signed => Ok(Self([red, green, blue])),
            _ => Err(format!("{text:?} is no colour: it must be {}", Self::ALLOWED)),
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        match NAMES.iter().find(|(_, colour)| colour == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "#{red:02x}{green:02x}{blue:02x}"),
        }
    }
}

impl TryFrom<String> for Colour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Colour> for String {
    fn from(colour: Colour) -> Self {
        colour.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_names_or_hexadecimal() {
        for (text, colour) in
            [("white", [255; 3]), ("black", [0; 3]), ("gray", [128; 3]), ("#0aFf10", [10, 255, 16])]
        {
            let read: Colour = text.parse().unwrap();
            assert_eq!((read.0, read.to_string().parse()), (colour, Ok(read)));
        }
        for text in ["", "red", "#fff", "#12345g", "#+1+2+3", "ffffff", "#12345678", "#ééé"] {
            assert!(text.parse::<Colour>().unwrap_err().contains("#rrggbb"), "{text}");
        }
    }
}
