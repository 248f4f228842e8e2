//! Scaled rotary positions: GGUF's keys and its tensor of divisors, Hugging Face's `rope_scaling`.

use std::f64::consts::TAU;

use serde_json::{Map, Value as Json, json};

use crate::container::Gguf;
use crate::error::Error;
use crate::value::Value;

/// The tensor of divisors that stands for Llama 3's scaling.
pub(crate) const DIVISORS: &str = "rope_freqs.weight";
/// Llama 3's own numbers: of all its models from 3.1 on.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

/// Llama 3's scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Llama3 {
    pub factor: f64,
    pub low: f64,
    pub high: f64,
    pub original: f64,
}

impl Llama3 {
    /// What each of a head's `dim / 2` frequencies is divided by: 1 for short wavelengths, the factor for long ones, a
    /// blend of both between.
    pub fn divisors(&self, theta: f64, dim: usize) -> Vec<f32> {
        let divisor = |at| {
            let wavelength = TAU * theta.powf(2.0 * at as f64 / dim as f64);
            if wavelength < self.original / self.high {
                1.0
            } else if wavelength > self.original / self.low {
                self.factor
            } else {
                let smooth = (self.original / wavelength - self.low) / (self.high - self.low);
                1.0 / ((1.0 - smooth) / self.factor + smooth)
            }
        };
        (0..dim / 2).map(|at| divisor(at) as f32).collect()
    }

    /// The scaling with these divisors, if there is one.
    pub fn from_divisors(
        divisors: &[f32],
        theta: f64,
        dim: usize,
        original: Option<f64>,
    ) -> Option<Self> {
        let factor = divisors.iter().copied().fold(1.0_f32, f32::max).into();
        let (low, high, usual) = LLAMA3;
        let original = original.unwrap_or(usual);
        let known = Self { factor, low, high, original };
        let fits = |one: &Self| {
            let made = one.divisors(theta, dim);
            made.len() == divisors.len()
                && made.iter().zip(divisors).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs())
        };
        let solved = || {
            // Between the two wavelengths the blend is linear in the frequency: two of its points give both ends.
            let blend = |at: usize| {
                let smooth = (1.0 / f64::from(divisors[at]) - 1.0 / factor) / (1.0 - 1.0 / factor);
                (1.0 / (TAU * theta.powf(2.0 * at as f64 / dim as f64)), smooth)
            };
            let between =
                |&at: &usize| divisors[at] > 1.001 && f64::from(divisors[at]) < factor * 0.999;
            let first = blend((0..divisors.len()).find(between)?);
            let last = blend((0..divisors.len()).rfind(between)?);
            let slope = (first.1 - last.1) / (first.0 - last.0);
            let low = (last.0 - last.1 / slope) * original;
            Some(Self { factor, low, high: low + original / slope, original })
        };
        [Some(known), solved()].into_iter().flatten().find(fits)
    }
}

/// What `config.json` says of the scaling, in the form of `rope_scaling`; none where there is none.
pub(crate) fn read(
    gguf: &Gguf,
    prefix: &str,
    theta: f64,
    dim: usize,
) -> Result<Option<Map<String, Json>>, Error> {
    let number = |name: &str| {
        let key = format!("{prefix}.rope.{name}");
        gguf.get_as(&key, "a number", Value::as_f64)
    };
    let original = number("scaling.original_context_length")?;
    if gguf.tensor(DIVISORS).is_some() {
        let divisors = gguf.read_f32(DIVISORS)?;
        if divisors.iter().any(|&d| d != 1.0) {
            let scaling = Llama3::from_divisors(&divisors, theta, dim, original);
            let odd =
                || Error::tensor(gguf.path(), DIVISORS, "they are not those of Llama 3's scaling");
            return Ok(Some(llama3_json(scaling.ok_or_else(odd)?)));
        }
    }
    for factors in ["rope_factors_long.weight", "rope_factors_short.weight"] {
        if gguf.tensor(factors).is_some() {
            return Err(Error::tensor(
                gguf.path(),
                factors,
                "scaling by longrope, which is not understood",
            ));
        }
    }
    let key = format!("{prefix}.rope.scaling.type");
    let kind = gguf.get_as(&key, "text", Value::as_str)?.unwrap_or("linear");
    let factor = match number("scaling.factor")? {
        Some(factor) => Some(factor),
        None => number("scale_linear")?,
    };
    let factor = factor.filter(|&factor| factor > 0.0 && factor != 1.0);
    let mut scaling = Map::new();
    match (kind, factor) {
        ("none", _) | ("linear", None) => return Ok(None),
        ("linear", Some(factor)) => scaling.insert("factor".into(), json!(factor)),
        ("yarn", factor) => {
            let factor = factor.unwrap_or(1.0);
            scaling.insert("factor".into(), json!(factor));
            for (name, theirs) in
                [("scaling.yarn_beta_fast", "beta_fast"), ("scaling.yarn_beta_slow", "beta_slow")]
            {
                if let Some(value) = number(name)? {
                    scaling.insert(theirs.into(), json!(value));
                }
            }
            if let Some(times) = number("scaling.attn_factor")?.filter(|&times| times != 1.0) {
                scaling.insert(
                    "attention_factor".into(),
                    json!(times * usual_attention_factor(factor)),
                );
            }
            original.map(|n| {
                scaling.insert("original_max_position_embeddings".into(), json!(n as u64))
            });
            None
        }
        (other, _) => {
            return Err(Error::key(
                gguf.path(),
                &key,
                format!("scaling by {other:?}, which is not understood"),
            ));
        }
    };
    name(&mut scaling, kind);
    Ok(Some(scaling))
}

/// Both keys under which the kind of a scaling has been written.
fn name(scaling: &mut Map<String, Json>, kind: &str) {
    scaling.insert("rope_type".into(), json!(kind));
    scaling.insert("type".into(), json!(kind));
}

fn llama3_json(scaling: Llama3) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("factor".into(), json!(scaling.factor));
    map.insert("low_freq_factor".into(), json!(scaling.low));
    map.insert("high_freq_factor".into(), json!(scaling.high));
    map.insert("original_max_position_embeddings".into(), json!(scaling.original as u64));
    name(&mut map, "llama3");
    map
}

/// YaRN's own factor of attention, which llama.cpp reckons itself.
fn usual_attention_factor(factor: f64) -> f64 {
    0.1 * factor.ln() + 1.0
}

/// The keys, and the tensor of divisors, of what `config.json` says of rotary positions.
pub(crate) struct Written {
    pub keys: Vec<(String, Value)>,
    pub divisors: Option<Vec<f32>>,
}

/// Keys of a configuration: the base, and a scaling under either of the two names that transformers has had.
///
/// # Errors
/// [`Error::Config`] where there is no base, or the scaling is none that llama.cpp reckons alike.
pub(crate) fn write(config: &Json, prefix: &str, dim: usize) -> Result<Written, Error> {
    let parameters = config.get("rope_parameters").filter(|value| !value.is_null());
    let theta = parameters.and_then(|p| p.get("rope_theta")).or_else(|| config.get("rope_theta"));
    let theta = theta.and_then(Json::as_f64).filter(|theta| *theta > 0.0).ok_or_else(|| {
        Error::config(
            "rope_theta",
            "it is neither there nor in rope_parameters, and a guess would be silently wrong",
        )
    })?;
    let f32 = |name: &str, value: f64| (format!("{prefix}.rope.{name}"), Value::F32(value as f32));
    let mut keys = vec![f32("freq_base", theta)];
    let kind_of = |value: &Json| {
        let kind = value.get("rope_type").or_else(|| value.get("type"));
        kind.and_then(Json::as_str).unwrap_or("default").to_owned()
    };
    let scaled = |value: &&Json| !value.is_null() && kind_of(value) != "default";
    let older = config.get("rope_scaling").filter(scaled);
    let (key, scaling) = match (parameters, older) {
        (Some(parameters), Some(older)) if kind_of(parameters) != kind_of(older) => {
            let problem =
                format!("{:?}, and rope_parameters says {:?}", kind_of(older), kind_of(parameters));
            return Err(Error::config("rope_scaling", problem));
        }
        (Some(parameters), _) if scaled(&parameters) => ("rope_parameters", parameters),
        (None, Some(older)) => ("rope_scaling", older),
        _ => return Ok(Written { keys, divisors: None }),
    };
    let number = |name: &str| scaling.get(name).and_then(Json::as_f64);
    let needed =
        |name: &str| number(name).ok_or_else(|| Error::config(key, format!("it has no {name}")));
    let kind = kind_of(scaling);
    let text = |kind: &str| (format!("{prefix}.rope.scaling.type"), Value::String(kind.into()));
    match &*kind {
        "linear" => keys.extend([text("linear"), f32("scaling.factor", needed("factor")?)]),
        "yarn" => {
            let factor = needed("factor")?;
            if let Some(name) = ["attention_factor", "mscale", "mscale_all_dim"]
                .into_iter()
                .find(|n| number(n).is_some())
            {
                return Err(Error::config(key, format!("yarn with {name}, which is not written")));
            }
            keys.extend([text("yarn"), f32("scaling.factor", factor)]);
            let original = needed("original_max_position_embeddings")?;
            let original = Value::U32(original as u32);
            keys.push((format!("{prefix}.rope.scaling.original_context_length"), original));
            for (theirs, name) in
                [("beta_fast", "scaling.yarn_beta_fast"), ("beta_slow", "scaling.yarn_beta_slow")]
            {
                keys.extend(number(theirs).map(|value| f32(name, value)));
            }
        }
        "llama3" => {
            let original = needed("original_max_position_embeddings")?;
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            let scaling = Llama3 { factor: needed("factor")?, low, high, original };
            return Ok(Written { keys, divisors: Some(scaling.divisors(theta, dim)) });
        }
        other => {
            return Err(Error::config(key, format!("scaling by {other:?}, which is not written")));
        }
    }
    Ok(Written { keys, divisors: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_is_found_by_its_divisors() {
        for (factor, low, high, original) in
            [(32.0, 1.0, 4.0, 8192.0), (8.0, 1.0, 4.0, 8192.0), (4.0, 2.0, 8.0, 8192.0)]
        {
            let scaling = Llama3 { factor, low, high, original };
            let divisors = scaling.divisors(5e5, 128);
            assert_eq!((divisors[0], divisors[63]), (1.0, factor as f32));
            let found = Llama3::from_divisors(&divisors, 5e5, 128, None).unwrap();
            let near = |a: f64, b: f64| (a - b).abs() < 1e-2 * b;
            assert!(
                near(found.low, low) && near(found.high, high) && found.factor == factor,
                "{found:?}"
            );
        }
        let odd: Vec<f32> = (0..64).map(|i| 1.0 + i as f32).collect();
        assert_eq!(Llama3::from_divisors(&odd, 5e5, 128, None), None);
        assert_eq!(Llama3::from_divisors(&[2.0; 3], 5e5, 128, None), None);
    }

    #[test]
    fn a_config_without_a_base_is_refused() {
        let refused = |config: Json| write(&config, "llama", 64).err().unwrap().to_string();
        assert!(refused(json!({})).contains("rope_theta"));
        assert!(
            refused(json!({"rope_theta": 1e4, "rope_scaling": {"type": "dynamic", "factor": 2.0}}))
                .contains("dynamic")
        );
        let theirs =
            json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}});
        let keys = write(&theirs, "llama", 64).unwrap().keys;
        assert_eq!(keys[0], ("llama.rope.freq_base".into(), Value::F32(5e5)));
        assert_eq!(keys[2], ("llama.rope.scaling.factor".into(), Value::F32(2.0)));
    }
}
