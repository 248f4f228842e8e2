//! Keys of recipes: what each is called, what it may be, what it is unless given, and what is said of it, in one place.
//!
//! A table of a recipe defines its keys by [`keys`], beside what reads them. Reading, errors, `docs/recipe.md`, the starter
//! recipe and `distil-gpu keys` go by these definitions. A new group of keys is a line in [`super::keys::GROUPS`].

use toml::de::{DeTable, DeValue};

use super::rules::Rule;

/// What may stand at a key.
enum Kind<T: 'static> {
    /// What a rule allows.
    Value(Rule<T>),
    /// One of some words, each with what it stands for.
    Word(fn() -> Vec<(&'static str, T)>),
}

/// A key of a recipe.
pub(super) struct Key<T: 'static> {
    kind: Kind<T>,
    pub about: About,
}

/// What is said of a key.
#[derive(Clone, Copy)]
pub(super) struct About {
    /// What it is called in its table.
    pub name: &'static str,
    /// Of a table: what it is, where it is missing.
    pub what: &'static str,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// What it is unless given, as TOML.
    pub default: Option<&'static str>,
    /// What it is unless given, in words, where that is no value.
    pub otherwise: &'static str,
    /// Whether its table must have it.
    pub needed: bool,
    /// A value that it may have, as TOML.
    pub example: &'static str,
    /// What else it is called, by other trainers, in lower case.
    pub others: &'static [&'static str],
    /// What a value must be where another program has another one under that name.
    pub hint: &'static str,
}

/// A table within a table.
#[derive(Clone, Copy)]
pub(super) struct Nested;

/// A key of this name that takes what a rule allows.
pub(super) const fn key<T>(name: &'static str, rule: Rule<T>) -> Key<T> {
    Key::new(name, Kind::Value(rule))
}

/// A key of this name that takes one of some words.
pub(super) const fn word<T>(name: &'static str, words: fn() -> Vec<(&'static str, T)>) -> Key<T> {
    Key::new(name, Kind::Word(words))
}

/// A table of this name; `what` says what it is where it is missing.
pub(super) const fn nested(name: &'static str, what: &'static str) -> Key<Nested> {
    let table = |value: &DeValue<'_>| value.is_table().then_some(Nested);
    let key = key(name, Rule { allowed: "a table", read: table });
    let about = About { what, ..key.about };
    key.with(about)
}

/// A list of tables of this name.
pub(super) const fn list(name: &'static str) -> Key<Nested> {
    let list = |value: &DeValue<'_>| value.is_array().then_some(Nested);
    key(name, Rule { allowed: "a list of tables", read: list })
}

impl<T> Key<T> {
    const fn new(name: &'static str, kind: Kind<T>) -> Self {
        let about = About {
            name,
            what: "",
            doc: "",
            default: None,
            otherwise: "",
            needed: false,
            example: "",
            others: &[],
            hint: "",
        };
        Self { kind, about }
    }

    /// What it is unless given, as TOML.
    pub const fn or(self, default: &'static str) -> Self {
        let about = About { default: Some(default), ..self.about };
        self.with(about)
    }

    /// What it is unless given, in words.
    pub const fn otherwise(self, words: &'static str) -> Self {
        let about = About { otherwise: words, ..self.about };
        self.with(about)
    }

    /// One that its table must have.
    pub const fn needed(self) -> Self {
        let about = About { needed: true, ..self.about };
        self.with(about)
    }

    /// A value that it may have, as TOML.
    pub const fn like(self, example: &'static str) -> Self {
        let about = About { example, ..self.about };
        self.with(about)
    }

    /// What else it is called, by other trainers, in lower case.
    pub const fn also(self, others: &'static [&'static str]) -> Self {
        let about = About { others, ..self.about };
        self.with(about)
    }

    /// What a value must be where another program has another one under that name.
    pub const fn hint(self, hint: &'static str) -> Self {
        let about = About { hint, ..self.about };
        self.with(about)
    }

    /// What it does, in sentences.
    pub const fn doc(self, doc: &'static str) -> Self {
        let about = About { doc, ..self.about };
        self.with(about)
    }

    const fn with(self, about: About) -> Self {
        Self { kind: self.kind, about }
    }

    /// The same key under another rule.
    pub fn by(&self, rule: Rule<T>) -> Self {
        Self { kind: Kind::Value(rule), about: self.about }
    }

    /// What a value stands for, if it is allowed.
    pub fn read(&self, value: &DeValue<'_>) -> Option<T> {
        match &self.kind {
            Kind::Value(rule) => (rule.read)(value),
            Kind::Word(words) => {
                let word = value.as_str()?;
                words().into_iter().find(|(name, _)| *name == word).map(|(_, meant)| meant)
            }
        }
    }

    /// The words that it takes; none where it takes other values.
    pub fn words(&self) -> Vec<&'static str> {
        match &self.kind {
            Kind::Value(_) => Vec::new(),
            Kind::Word(words) => words().into_iter().map(|(name, _)| name).collect(),
        }
    }

    /// What it is unless given, where that is a value.
    pub fn default(&self) -> Option<T> {
        read_text(self.about.default?, |value| self.read(value))
    }
}

/// What a value written as TOML is read as.
fn read_text<T>(text: &str, read: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<T> {
    let line = format!("value = {text}");
    let table = DeTable::parse(&line).ok()?;
    read(table.get_ref().get("value")?.get_ref())
}

/// Words in quotes, one behind the other.
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// A key of any type.
pub(super) trait Described: Sync {
    /// What is said of it.
    fn about(&self) -> &About;

    /// What it may be; ends the sentence "it must be …".
    fn allowed(&self) -> String;

    /// Whether it may have this value, written as TOML.
    #[cfg(test)]
    fn takes(&self, text: &str) -> bool;
}

impl<T> Described for Key<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn allowed(&self) -> String {
        match &self.kind {
            Kind::Value(rule) => rule.allowed.to_owned(),
            Kind::Word(_) => format!("one of {}", quoted(&self.words())),
        }
    }

    #[cfg(test)]
    fn takes(&self, text: &str) -> bool {
        read_text(text, |value| self.read(value)).is_some()
    }
}

/// Keys that stand in a table together.
pub(super) struct KeyGroup {
    /// The table's path; empty for the outermost one. What `train` and `student.model` have, `teacher.train` and
    /// `teacher.model` have as well.
    pub table: &'static str,
    /// The key of the table, and its words, with which these keys go; nothing where they go with all.
    pub form: Option<(&'static str, &'static [&'static str])>,
    /// What they are for.
    pub title: &'static str,
    /// The keys, in order.
    pub keys: &'static [&'static dyn Described],
}

/// Defines keys of a table, and the group that lists them. The comment of a key is what people are told of it.
macro_rules! keys {
    (
        $(#[doc = $title:literal])+
        $group:ident in $table:literal $(where $form:ident is $($word:literal)|+)?;
        $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $key:expr;)+
    ) => {
        $(
            $(#[doc = $doc])+
            pub(super) static $name: $crate::recipe::key::Key<$type> =
                $key.doc(concat!($($doc),+));
        )+
        $(#[doc = $title])+
        pub(super) static $group: $crate::recipe::key::KeyGroup = $crate::recipe::key::KeyGroup {
            table: $table,
            form: keys!(@form $($form $($word)+)?),
            title: concat!($($title),+),
            keys: &[$(&$name),+],
        };
    };
    (@form) => { None };
    (@form $form:ident $($word:literal)+) => { Some((stringify!($form), &[$($word),+])) };
}
pub(super) use keys;
