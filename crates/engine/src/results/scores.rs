//! What a task measures of a model's answers, by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Key of a share of right answers.
pub const ACCURACY: &str = "accuracy";
/// Key of a number of wrong answers.
pub const ERRORS: &str = "errors";

/// Figures by the keys of [`super::Measure`]s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores(BTreeMap<String, f64>);

impl Scores {
    /// The figure of this key, if it was measured.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
    }

    /// With one more figure, unless there is none.
    pub fn with(mut self, key: &str, value: impl Into<Option<f64>>) -> Self {
        if let Some(value) = value.into() {
            self.0.insert(key.to_owned(), value);
        }
        self
    }

    /// The figures, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(key, value)| (&**key, *value))
    }

    /// Without what `keep` refuses.
    pub fn filtered(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|key, _| keep(key));
        self
    }
}

/// An object; numbers of errors are whole.
impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            match key.as_str() {
                ERRORS => map.serialize_entry(key, &(*value as u64))?,
                _ => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}

/// The numbers of an object; whatever else it holds is passed over.
impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;

        impl<'de> Visitor<'de> for Numbers {
            type Value = Scores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Value {
                    Number(f64),
                    Other(IgnoredAny),
                }
                let mut scores = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if let Value::Number(value) = value {
                        scores.insert(key, value);
                    }
                }
                Ok(Scores(scores))
            }
        }

        deserializer.deserialize_map(Numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_other_numbers_are_read_as_they_were_written() {
        let scores = Scores::default().with(ACCURACY, 1.0).with(ERRORS, 3.0).with("r", None);
        let json = serde_json::to_string(&scores).unwrap();
        assert_eq!(json, r#"{"accuracy":1.0,"errors":3}"#);
        assert_eq!(serde_json::from_str::<Scores>(&json).unwrap(), scores);
        let other = r#"{"accuracy":1.0,"errors":3,"macro_f1":null,"list":[1,2],"name":"a"}"#;
        assert_eq!(serde_json::from_str::<Scores>(other).unwrap(), scores);
        assert!(serde_json::from_str::<Scores>("[]").is_err());
    }
}
