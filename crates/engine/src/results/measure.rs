//! What a figure is called, and how it is shown.

use super::Scores;

/// A figure that a task measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its key in reports.
    pub key: &'static str,
    /// Its name for people, `{}` standing for what was measured, as "1,000" or "20 masked tokens".
    pub title: &'static str,
    /// How it is shown.
    pub format: Format,
    /// Whether a larger one is better.
    pub higher_is_better: bool,
}

/// How a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A share, in percent with two digits.
    Percent,
    /// Four digits behind the point.
    Ratio,
    /// Two digits behind the point.
    Number,
    /// A whole number.
    Count,
}

impl Measure {
    /// A figure of which a larger one is better.
    pub const fn higher(key: &'static str, title: &'static str, format: Format) -> Self {
        Self { key, title, format, higher_is_better: true }
    }

    /// A figure of which a smaller one is better.
    pub const fn lower(key: &'static str, title: &'static str, format: Format) -> Self {
        Self { key, title, format, higher_is_better: false }
    }

    /// A figure as a number of which a larger one is better.
    pub fn merit(&self, value: f64) -> f64 {
        if self.higher_is_better { value } else { -value }
    }

    /// The figure, if it was measured.
    pub fn of(&self, scores: &Scores) -> Option<f64> {
        scores.get(self.key)
    }

    /// The figure as it is shown, if it was measured.
    pub fn shown(&self, scores: &Scores) -> Option<String> {
        self.of(scores).map(|value| self.format.show(value))
    }
}

impl Format {
    /// A figure as it is shown.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.2} %", 100.0 * value),
            Self::Ratio => format!("{value:.4}"),
            Self::Number => format!("{value:.2}"),
            Self::Count => format!("{value:.0}"),
        }
    }
}
