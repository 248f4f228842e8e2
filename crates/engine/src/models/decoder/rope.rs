//! Rotary positions: by which angle each pair of columns turns from one token to the next, in the kinds that transformers
//! has (`modeling_rope_utils.py`).

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

/// Angles of rotary positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How wavelengths are stretched for texts longer than those of the first training.
    pub scaling: RopeScaling,
}

/// How wavelengths are stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All by a factor (Chen et al. 2023).
    Linear {
        /// How much longer.
        factor: f64,
    },
    /// Long ones by a factor, short ones not (Llama 3.1).
    Llama3 {
        /// How much longer.
        factor: f64,
        /// Wavelengths above this part of the length are stretched whole.
        low_freq_factor: f64,
        /// Those below this part are not.
        high_freq_factor: f64,
        /// Tokens of the first training.
        original: f64,
    },
    /// By how often a pair turns within the length, and scores are sharpened (Peng et al., YaRN, 2023).
    Yarn {
        /// How much longer.
        factor: f64,
        /// Pairs that turn more often than this are left.
        beta_fast: f64,
        /// Those that turn less often are stretched whole.
        beta_slow: f64,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// Tokens of the first training.
        original: f64,
    },
}

impl Rope {
    /// Reads both spellings: `rope_parameters`, and `rope_theta` with `rope_scaling`.
    ///
    /// # Errors
    /// A sentence that names the key: where there is neither, or the kind is not known.
    pub(super) fn read(json: &Value, positions: usize) -> Result<Self, String> {
        let newer = &json["rope_parameters"];
        let table = if newer.is_null() { &json["rope_scaling"] } else { newer };
        let theta = [&table["rope_theta"], &json["rope_theta"]].into_iter().find(|v| !v.is_null());
        let Some(theta) = theta else {
            return Err("it has neither rope_theta nor rope_parameters, which say how far positions turn: another base \
                        than the model's own would be wrong without a word; add rope_theta"
                .to_owned());
        };
        let theta = theta.as_f64().filter(|theta| *theta > 1.0 && theta.is_finite());
        let theta = theta.ok_or("rope_theta must be a number above 1")?;
        let number = |key: &str, default: Option<f64>| match (&table[key], default) {
            (Value::Null, Some(default)) => Ok(default),
            (value, _) => match value.as_f64().filter(|value| *value > 0.0 && value.is_finite()) {
                Some(value) => Ok(value),
                None => {
                    Err(format!("rope scaling: {key} must be a number above 0, and is {value}"))
                }
            },
        };
        let original = || number("original_max_position_embeddings", Some(positions as f64));
        let kind = [&table["rope_type"], &table["type"]].into_iter().find_map(Value::as_str);
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: number("factor", None)? },
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor", None)?,
                low_freq_factor: number("low_freq_factor", None)?,
                high_freq_factor: number("high_freq_factor", None)?,
                original: number("original_max_position_embeddings", None)?,
            },
            "yarn" => {
                let factor = number("factor", None)?;
                let told = [&table["mscale"], &table["mscale_all_dim"]];
                if told.iter().any(|value| !value.is_null()) {
                    return Err("rope scaling: mscale is not supported".to_owned());
                }
                let usual = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
                RopeScaling::Yarn {
                    factor,
                    beta_fast: number("beta_fast", Some(32.0))?,
                    beta_slow: number("beta_slow", Some(1.0))?,
                    attention_factor: number("attention_factor", Some(usual))?,
                    original: original()?,
                }
            }
            other => {
                return Err(format!(
                    "rope scaling `{other}` is none of default, linear, llama3, yarn"
                ));
            }
        };
        Ok(Self { theta, scaling })
    }

    /// Both spellings, so that older readers and newer ones find the base.
    pub(super) fn write(&self) -> Map<String, Value> {
        let mut scaling = match &self.scaling {
            RopeScaling::Default => json!({ "rope_type": "default" }),
            RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": *original as u64,
            }),
            RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, original } => {
                json!({
                    "rope_type": "yarn",
                    "factor": factor,
                    "beta_fast": beta_fast,
                    "beta_slow": beta_slow,
                    "attention_factor": attention_factor,
                    "original_max_position_embeddings": *original as u64,
                })
            }
        };
        let older = match self.scaling {
            RopeScaling::Default => Value::Null,
            _ => scaling.clone(),
        };
        scaling["rope_theta"] = json!(self.theta);
        let keys = [
            ("rope_theta", json!(self.theta)),
            ("rope_scaling", older),
            ("rope_parameters", scaling),
        ];
        keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The angle by which each pair of columns turns from one token to the next, of heads of so many columns, and the factor
    /// of cosines and sines.
    pub fn frequencies(&self, head_dim: usize) -> (Vec<f64>, f64) {
        let dim = head_dim as f64;
        let plain = |pair: usize| self.theta.powf(-2.0 * pair as f64 / dim);
        let pairs = 0..head_dim / 2;
        match self.scaling {
            RopeScaling::Default => (pairs.map(plain).collect(), 1.0),
            RopeScaling::Linear { factor } => (pairs.map(|i| plain(i) / factor).collect(), 1.0),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                let stretched = |pair: usize| {
                    let frequency = plain(pair);
                    let turns = original * frequency / TAU;
                    if turns > high_freq_factor {
                        return frequency;
                    }
                    if turns < low_freq_factor {
                        return frequency / factor;
                    }
                    let share = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - share) * frequency / factor + share * frequency
                };
                (pairs.map(stretched).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, original } => {
                let pair_of =
                    |turns: f64| dim * (original / (turns * TAU)).ln() / (2.0 * self.theta.ln());
                let low = pair_of(beta_fast).floor().max(0.0);
                let mut high = pair_of(beta_slow).ceil().min(dim - 1.0);
                if high <= low {
                    high = low + 0.001;
                }
                let stretched = |pair: usize| {
                    let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    plain(pair) / factor * ramp + plain(pair) * (1.0 - ramp)
                };
                (pairs.map(stretched).collect(), attention_factor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_written() {
        for (json, scaling) in [
            (json!({ "rope_theta": 5e5 }), RopeScaling::Default),
            (
                json!({ "rope_theta": 5e5, "rope_scaling": { "type": "linear", "factor": 4.0 } }),
                RopeScaling::Linear { factor: 4.0 },
            ),
            (
                json!({ "rope_parameters": {
                    "rope_theta": 5e5, "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                } }),
                RopeScaling::Llama3 {
                    factor: 32.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original: 8192.0,
                },
            ),
        ] {
            let rope = Rope::read(&json, 2048).unwrap();
            assert_eq!(rope, Rope { theta: 5e5, scaling });
            let mut written = rope.write();
            assert_eq!(Rope::read(&Value::Object(written.clone()), 2048), Ok(rope.clone()));
            written.remove("rope_parameters");
            assert_eq!(Rope::read(&Value::Object(written), 2048), Ok(rope));
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (json, problem) in [
            (json!({}), "neither rope_theta nor rope_parameters"),
            (json!({ "rope_theta": 0 }), "rope_theta must be a number above 1"),
            (
                json!({ "rope_theta": 1e4, "rope_scaling": { "rope_type": "longrope" } }),
                "rope scaling `longrope` is none of default, linear, llama3, yarn",
            ),
            (
                json!({ "rope_theta": 1e4, "rope_scaling": { "rope_type": "dynamic", "factor": 2 } }),
                "`dynamic` is none of",
            ),
            (
                json!({ "rope_theta": 1e4, "rope_scaling": { "rope_type": "linear" } }),
                "factor must be a number above 0",
            ),
        ] {
            let error = Rope::read(&json, 2048).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
