//! The parameters of a model's folder, by the names that its configuration asks for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;

use super::cnn::layout::{file_shape, of_file};
use super::file_names::{INT8_WEIGHTS, WEIGHTS, bad};
use crate::error::Error;
use crate::files::read_text;
use crate::store::ParameterSpec;
use crate::tensor_file::TensorFile;

/// Lists the files of a model in several, and which tensor is in which.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Weights in the formats of others, and what to do about them.
const OTHERS: [(&str, &str); 7] = [
    ("pytorch_model.bin", CONVERT),
    ("pytorch_model.bin.index.json", CONVERT),
    ("tf_model.h5", CONVERT),
    ("flax_model.msgpack", CONVERT),
    ("model.ckpt.index", CONVERT),
    (
        "adapter_model.safetensors",
        "it is an adapter: merge it into its model with peft, model.merge_and_unload().save_pretrained(folder)",
    ),
    (
        "adapter_model.bin",
        "it is an adapter: merge it into its model with peft, model.merge_and_unload().save_pretrained(folder)",
    ),
];
const CONVERT: &str =
    "convert it with transformers, model.save_pretrained(folder, safe_serialization=True)";
/// The largest index that is read.
const MOST_INDEX_BYTES: u64 = 64 << 20;
/// The most names that a message lists.
const MOST_NAMES: usize = 8;

/// A tensor that is saved: name, shape and values.
pub(super) type Saved<'a> = (&'a str, Vec<usize>, Cow<'a, [f32]>);
/// Values of a model's parameters, in its order, where there are any.
pub type Values = Vec<Option<Vec<f32>>>;

/// How a family's files may differ from the names that it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// What names may begin with, or not.
    pub prefix: &'static str,
    /// Beginnings of the names, without the prefix or with it, of tensors that are of no use here.
    pub unneeded: Vec<String>,
    /// Ends of the names of tensors that are of no use here.
    pub unneeded_ends: &'static [&'static str],
    /// Beginnings of the names of parameters that may start afresh.
    pub fresh: &'static [&'static str],
}

impl Naming {
    /// The name without what may differ.
    fn core(&self, name: &str) -> String {
        let name = name.strip_prefix(self.prefix).unwrap_or(name);
        match name.rsplit_once('.') {
            Some((norm, "gamma")) => format!("{norm}.weight"),
            Some((norm, "beta")) => format!("{norm}.bias"),
            _ => name.to_owned(),
        }
    }
}

/// The tensors of some parameters, in the files of a folder.
#[derive(Debug)]
pub(super) struct Tensors {
    /// Where they lie, in the folder.
    paths: Vec<String>,
    files: Vec<TensorFile>,
    /// Of each parameter which file has it, and by which name; nothing of those that start afresh.
    places: Vec<Option<(usize, String)>>,
}

impl Tensors {
    /// Finds these parameters. `layers` are folders within this one that hold more of them, and what the names of those begin
    /// with.
    ///
    /// # Errors
    /// [`Error::Model`] when a file is damaged, or tensors are missing, unexpected or of another shape.
    pub fn find(
        folder: &Path,
        specs: &[ParameterSpec],
        naming: &Naming,
        layers: &[(String, String)],
    ) -> Result<Self, Error> {
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        let mut held: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for name in file_names(folder)? {
            let file = TensorFile::open(&folder.join(&name))?;
            let named = file.names().into_iter();
            held.extend(named.map(|name| (naming.core(&name), (files.len(), name))));
            paths.push(name);
            files.push(file);
        }
        for (place, prefix) in layers {
            let inner = folder.join(place);
            for name in file_names(&inner)? {
                let file = TensorFile::open(&inner.join(&name))?;
                let named = file.names().into_iter();
                held.extend(named.map(|name| (format!("{prefix}/{name}"), (files.len(), name))));
                paths.push(format!("{place}/{name}"));
                files.push(file);
            }
        }
        let useless = |name: &str| {
            naming.unneeded.iter().any(|start| name.starts_with(&**start))
                || naming.unneeded_ends.iter().any(|end| name.ends_with(end))
        };
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for spec in specs {
            let core = naming.core(&spec.name);
            match held.get(&core) {
                None if naming.fresh.iter().any(|start| spec.name.starts_with(start)) => {}
                None => missing.push(spec.name.clone()),
                Some((file, name)) => {
                    let found = files[*file].shape(name).unwrap_or_default();
                    let shape = file_shape(&spec.shape);
                    if found != shape {
                        misshapen.push(format!("{name} {found:?} for {shape:?}"));
                    }
                }
            }
            wanted.insert(core);
        }
        let strange = |(core, (_, name)): (&String, &(usize, String))| {
            let strange = !wanted.contains(core) && !useless(core) && !useless(name);
            strange.then(|| name.clone())
        };
        let unexpected: Vec<String> = held.iter().filter_map(strange).collect();
        let list = |what: &str, names: &[String]| match names {
            [] => String::new(),
            shown if shown.len() <= MOST_NAMES => format!("{what}: {}. ", shown.join(", ")),
            shown => {
                let (first, rest) = shown.split_at(MOST_NAMES);
                format!("{what}: {} and {} more. ", first.join(", "), rest.len())
            }
        };
        let wrong = [
            list("Missing", &missing),
            list("Unexpected", &unexpected),
            list("Of another shape", &misshapen),
        ];
        if wrong.iter().any(|list| !list.is_empty()) {
            let problem = format!("its tensors are not those of config.json. {}", wrong.concat());
            return Err(bad(&folder.join(WEIGHTS), problem.trim_end()));
        }
        let places = specs.iter().map(|spec| held.get(&naming.core(&spec.name)).cloned()).collect();
        Ok(Self { paths, files, places })
    }

    /// Where its files lie, in the folder.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The values of parameter `index`, which is this one; nothing where it starts afresh.
    ///
    /// # Errors
    /// [`Error::Model`] when they are no floats, or not finite; [`Error::Io`].
    pub fn values(&self, index: usize, spec: &ParameterSpec) -> Result<Option<Vec<f32>>, Error> {
        let Some((file, name)) = &self.places[index] else { return Ok(None) };
        let values = self.files[*file].tensor(name, &file_shape(&spec.shape))?;
        Ok(Some(of_file(&spec.shape, values)))
    }

    /// The element type that its file has it in.
    pub fn dtype(&self, index: usize) -> Option<Dtype> {
        let (file, name) = self.places[index].as_ref()?;
        self.files[*file].dtype(name)
    }
}

/// The values of these parameters, in their order; nothing for those that start afresh. `layers` are folders within this
/// one that hold more of them, and what the names of those begin with.
///
/// # Errors
/// [`Error::Model`] when a file is damaged, or tensors are missing, unexpected, of another shape, or not finite.
pub(super) fn read(
    folder: &Path,
    specs: &[ParameterSpec],
    naming: &Naming,
    layers: &[(String, String)],
) -> Result<Values, Error> {
    let tensors = Tensors::find(folder, specs, naming, layers)?;
    specs.iter().enumerate().map(|(index, spec)| tensors.values(index, spec)).collect()
}

/// Whether a folder's tensors are in bytes, with scales.
pub(super) fn hold_bytes(folder: &Path) -> Result<bool, Error> {
    Ok(first(folder)? == INT8_WEIGHTS)
}

/// The names of the folder's file of tensors, or of all of them.
fn file_names(folder: &Path) -> Result<BTreeSet<String>, Error> {
    match first(folder)? {
        INDEX => shards(&folder.join(INDEX)),
        single => Ok(BTreeSet::from([single.to_owned()])),
    }
}

/// The file that a folder's tensors begin with.
fn first(folder: &Path) -> Result<&'static str, Error> {
    first_of(|name| folder.join(name).is_file()).map_err(|problem| bad(folder, problem))
}

/// The file that a model's tensors begin with, given which files there are: their only one, or the index.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn first_of(has: impl Fn(&str) -> bool) -> Result<&'static str, String> {
    if let Some(name) = [WEIGHTS, INDEX, INT8_WEIGHTS].into_iter().find(|name| has(name)) {
        return Ok(name);
    }
    Err(match OTHERS.iter().find(|(name, _)| has(name)) {
        Some((other, remedy)) => format!("it has {other} and no {WEIGHTS}: {remedy}"),
        None => format!("it has neither {WEIGHTS} nor {INDEX}"),
    })
}

/// The files that an index names.
///
/// # Errors
/// [`Error::Model`] when it is no index, or names files elsewhere.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_text(index, MOST_INDEX_BYTES)?;
    let read: Index = serde_json::from_str(&text)
        .map_err(|error| bad(index, format!("not an index of tensors: {error}")))?;
    // On every system alike: a name may come from the hub.
    let outside =
        |name: &&String| name.contains(['/', '\\', ':']) || matches!(&***name, "" | "." | "..");
    match read.weight_map.values().find(outside) {
        Some(name) => Err(bad(index, format!("it names {name:?}, which is no file of its folder"))),
        None => Ok(read.weight_map.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;
    use crate::files::save_tensors;
    use crate::store::Init;

    fn naming() -> Naming {
        Naming {
            prefix: "bert.",
            unneeded: ["cls.", "embeddings.position_ids"].map(str::to_owned).to_vec(),
            unneeded_ends: &[],
            fresh: &["classifier"],
        }
    }

    fn specs() -> Vec<ParameterSpec> {
        let spec = |(name, shape): (&str, &[usize])| ParameterSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            decay: false,
            init: Init::Constant(0.0),
        };
        [("bert.a.weight", &[2, 2][..]), ("bert.LayerNorm.weight", &[2]), ("classifier.bias", &[1])]
            .map(spec)
            .to_vec()
    }

    fn save(path: &Path, tensors: &[(&str, &[usize])]) {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| (*name, shape.to_vec(), vec![0.5; shape.iter().product()]))
            .collect();
        save_tensors(path, &tensors, HashMap::new()).unwrap();
    }

    #[test]
    fn old_and_new_names_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(WEIGHTS);
        for tensors in [
            [("a.weight", &[2, 2][..]), ("LayerNorm.gamma", &[2]), ("cls.bias", &[7])],
            [
                ("bert.a.weight", &[2, 2]),
                ("bert.LayerNorm.weight", &[2]),
                ("bert.embeddings.position_ids", &[1, 9]),
            ],
        ] {
            save(&file, &tensors);
            let values = read(folder.path(), &specs(), &naming(), &[]).unwrap();
            assert_eq!(values, [Some(vec![0.5; 4]), Some(vec![0.5; 2]), None]);
        }
    }

    #[test]
    fn all_that_is_wrong_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        save(&folder.path().join(WEIGHTS), &[("bert.a.weight", &[4]), ("bert.b", &[1])]);
        let error = read(folder.path(), &specs(), &naming(), &[]).unwrap_err().to_string();
        let wanted = "Missing: bert.LayerNorm.weight. Unexpected: bert.b. Of another shape: bert.a.weight [4] for \
                      [2, 2].";
        assert!(error.ends_with(wanted), "{error}");
    }

    #[test]
    fn a_model_may_lie_in_several_files() {
        let folder = tempfile::tempdir().unwrap();
        let index = |files: [&str; 2]| {
            let map = format!(
                "{{\"weight_map\": {{\"bert.a.weight\": {:?}, \"bert.LayerNorm.weight\": {:?}}}}}",
                files[0], files[1]
            );
            fs::write(folder.path().join(INDEX), map).unwrap();
        };
        index(["one.safetensors", "two.safetensors"]);
        save(&folder.path().join("one.safetensors"), &[("bert.a.weight", &[2, 2])]);
        let error = read(folder.path(), &specs(), &naming(), &[]).unwrap_err().to_string();
        assert!(error.contains("two.safetensors"), "{error}");
        save(&folder.path().join("two.safetensors"), &[("bert.LayerNorm.weight", &[2])]);
        assert_eq!(read(folder.path(), &specs(), &naming(), &[]).unwrap()[1], Some(vec![0.5; 2]));
        for outside in ["../two.safetensors", "/two", "a/two", "..", "", r"C:\two"] {
            index(["one.safetensors", outside]);
            let error = read(folder.path(), &specs(), &naming(), &[]).unwrap_err().to_string();
            let problem = format!("it names {outside:?}, which is no file of its folder");
            assert!(error.ends_with(&problem), "{error}");
        }
    }

    #[test]
    fn a_folder_without_safetensors_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let told = || read(folder.path(), &specs(), &naming(), &[]).unwrap_err().to_string();
        let neither = format!(": it has neither {WEIGHTS} nor {INDEX}");
        assert!(told().ends_with(&neither), "{}", told());
        fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
        assert!(told().contains("it has pytorch_model.bin and no model.safetensors: convert it"));
    }
}
