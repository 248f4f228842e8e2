//! What a value of a recipe may be: its type and its range, said once.

use toml::de::DeValue;

use crate::data::{ClassRef, Colour};
use crate::models::Origin;

/// One kind of value.
pub(super) struct Rule<T> {
    /// Ends the sentence "it must be …".
    pub allowed: &'static str,
    /// The value, or nothing if it is not allowed.
    pub read: fn(&DeValue<'_>) -> Option<T>,
}

/// The most units a layer may have.
const MAX_WIDTH: u64 = 1_000_000;

pub(super) const POSITIVE: Rule<f32> =
    Rule { allowed: "a number above 0", read: |value| number(value).filter(|x| *x > 0.0) };
pub(super) const NOT_NEGATIVE: Rule<f32> =
    Rule { allowed: "a number of at least 0", read: |value| number(value).filter(|x| *x >= 0.0) };
/// Below, logits divided by it may overflow; above, nothing changes: the soft loss has come to its limit, half the
/// variance of the logits' differences.
pub(super) const TEMPERATURE: Rule<f32> = Rule {
    allowed: "a number from 0.01 to 10000 (from 100 on, the loss hardly changes any more)",
    read: |value| number(value).filter(|x| (0.01..=1e4).contains(x)),
};
pub(super) const FRACTION: Rule<f32> = Rule {
    allowed: "a number from 0 to 1",
    read: |value| number(value).filter(|x| (0.0..=1.0).contains(x)),
};
pub(super) const POSITIVE_SHARE: Rule<f32> = Rule {
    allowed: "a number above 0, up to 1",
    read: |value| number(value).filter(|x| *x > 0.0 && *x <= 1.0),
};
pub(super) const SHARE: Rule<f64> = Rule {
    allowed: FRACTION.allowed,
    read: |value| double(value).filter(|x| (0.0..=1.0).contains(x)),
};
pub(super) const BELOW_ONE: Rule<f32> = Rule {
    allowed: "a number of at least 0 and below 1",
    read: |value| number(value).filter(|x| (0.0..1.0).contains(x)),
};
/// 1 - beta decides, and f32 would lose half of its digits.
pub(super) const BETA: Rule<f64> = Rule {
    allowed: BELOW_ONE.allowed,
    read: |value| double(value).filter(|x| (0.0..1.0).contains(x)),
};
pub(super) const SEED: Rule<u32> =
    Rule { allowed: "a whole number from 0 to 4294967295", read: word };
pub(super) const STEPS: Rule<u32> = Rule { allowed: "a whole number of at least 0", read: word };
pub(super) const COUNT: Rule<u32> = Rule {
    allowed: "a whole number of at least 1",
    read: |value| word(value).filter(|count| *count > 0),
};
pub(super) const SIZE: Rule<usize> =
    Rule { allowed: "a whole number of at least 1", read: |value| size(value, u32::MAX.into()) };
pub(super) const WHOLE: Rule<usize> = Rule {
    allowed: "a whole number of at least 0",
    read: |value| word(value).and_then(|count| usize::try_from(count).ok()),
};
pub(super) const FEW: Rule<usize> =
    Rule { allowed: "a whole number from 1 to 65536", read: |value| size(value, 1 << 16) };
pub(super) const SHIFT: Rule<u32> = Rule {
    allowed: "a whole number of pixels from 0 to 1024",
    read: |value| word(value).filter(|pixels| *pixels <= 1024),
};
pub(super) const WIDTHS: Rule<Vec<usize>> = Rule {
    allowed: "a list of one or more whole numbers from 1 to 1000000",
    read: |value| {
        let widths = list(value, |value| size(value, MAX_WIDTH))?;
        (!widths.is_empty()).then_some(widths)
    },
};
pub(super) const CLASSES: Rule<Vec<ClassRef>> = Rule {
    allowed: "a list of classes: their names in quotes, or their numbers, counted from 0",
    read: |value| {
        list(value, |value| match text(value) {
            Some(name) => Some(ClassRef::Name(name)),
            None => word(value).map(|number| ClassRef::Number(number as usize)),
        })
    },
};
pub(super) const NUMBERS: Rule<Vec<f32>> = Rule {
    allowed: "a list of one or more numbers",
    read: |value| list(value, number).filter(|numbers| !numbers.is_empty()),
};
pub(super) const SPREADS: Rule<Vec<f32>> = Rule {
    allowed: "a list of one or more numbers of at least 0",
    read: |value| {
        (NUMBERS.read)(value).filter(|numbers| numbers.iter().all(|spread| *spread >= 0.0))
    },
};
pub(super) const IMAGE_SIZE: Rule<[usize; 2]> = Rule {
    allowed: "[height, width] in pixels, each from 1 to 16384",
    read: |value| list(value, |value| size(value, 16384))?.try_into().ok(),
};
pub(super) const CHANNELS: Rule<usize> = Rule {
    allowed: "1 (grey) or 3 (red, green, blue)",
    read: |value| match whole(value)? {
        1 => Some(1),
        3 => Some(3),
        _ => None,
    },
};
pub(super) const COLOUR: Rule<Colour> =
    Rule { allowed: Colour::ALLOWED, read: |value| text(value)?.parse().ok() };
pub(super) const FLAG: Rule<bool> =
    Rule { allowed: "true or false", read: |value| value.as_bool() };
pub(super) const TEXT: Rule<String> = Rule { allowed: "a string that is not empty", read: text };
pub(super) const TEXT_COLUMNS: Rule<Vec<String>> = Rule {
    allowed: "a column's name in quotes, or a list of two for pairs of texts",
    read: |value| match text(value) {
        Some(column) => Some(vec![column]),
        None => list(value, text).filter(|columns| matches!(columns.len(), 1 | 2)),
    },
};
pub(super) const LAYER: Rule<i32> = Rule {
    allowed: "the number of a layer, from the first as 1 or from the last as -1",
    read: |value| {
        let integer = value.as_integer()?;
        i32::from_str_radix(integer.as_str(), integer.radix()).ok()
    },
};
pub(super) const PATH: Rule<String> = Rule { allowed: "a path in quotes", read: text };
pub(super) const ORIGIN: Rule<Origin> = Rule {
    allowed: "a folder's path, hf:OWNER/NAME or hf:OWNER/NAME@REVISION, in quotes",
    read: |value| Origin::of(text(value)?.as_ref()).ok(),
};
pub(super) const NAME: Rule<String> = Rule {
    allowed: "a name in quotes, without / and \\, and not . or ..",
    read: |value| {
        text(value).filter(|name| !name.contains(['/', '\\']) && name != "." && name != "..")
    },
};
pub(super) const DEVICE: Rule<String> = Rule {
    allowed: "\"auto\", \"cpu\", \"gpu\" or \"gpu:N\", N being a number",
    read: |value| {
        text(value).filter(|device| match device.strip_prefix("gpu:") {
            Some(number) => number.parse::<usize>().is_ok(),
            None => ["auto", "cpu", "gpu"].contains(&device.as_str()),
        })
    },
};

/// A finite number, written as a float or as an integer.
pub(super) fn number(value: &DeValue<'_>) -> Option<f32> {
    let number = match value {
        DeValue::Float(float) => float.as_str().parse().ok()?,
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()? as f32
        }
        _ => return None,
    };
    number.is_finite().then_some(number)
}

pub(super) fn double(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(_) => number(value).map(f64::from),
        _ => None,
    }
}

pub(super) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn word(value: &DeValue<'_>) -> Option<u32> {
    whole(value)?.try_into().ok()
}

fn size(value: &DeValue<'_>, most: u64) -> Option<usize> {
    whole(value).filter(|size| (1..=most).contains(size))?.try_into().ok()
}

pub(super) fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

/// A list of whole numbers.
pub(super) fn numbers(value: &DeValue<'_>) -> Option<Vec<usize>> {
    list(value, |value| word(value).map(|number| number as usize))
}

pub(super) fn list<T>(
    value: &DeValue<'_>,
    item: impl Fn(&DeValue<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    value.as_array()?.iter().map(|value| item(value.get_ref())).collect()
}
