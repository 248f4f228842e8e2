//! Finds and links WGSL sources.
//!
//! Two directives, both valid WGSL, so that every file reads and validates on its own terms:
//! `//#import common/x.wgsl` is replaced by that file, once; a line `const NAME: u32 = …;` takes a value
//! given to [`link`] (array lengths of registers cannot be `override`s).

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))),*]
    };
}

/// The kernels' shaders, by file stem.
pub const SHADERS: &[(&str, &str)] = sources![
    "add_to",
    "attention",
    "attention_delta",
    "attention_key_value",
    "attention_query",
    "distill_loss",
    "elementwise",
    "feature_loss",
    "gather",
    "grad_norm",
    "layer_norm",
    "matmul",
    "matmul_subgroup",
    "matmul_vectors",
    "max_norm",
    "optimizer",
    "reduce",
    "relation_loss",
    "roof",
    "softmax",
];

const COMMON: &[(&str, &str)] = sources![
    "common/activation",
    "common/attention",
    "common/attention_backward",
    "common/chain",
    "common/nan",
    "common/product",
    "common/random",
    "common/step",
];

fn find<'a>(table: &'a [(&str, &str)], name: &str) -> &'a str {
    let entry = table.iter().find(|(stem, _)| *stem == name);
    entry.unwrap_or_else(|| panic!("there is no shader {name}.wgsl")).1
}

/// The complete WGSL of `shader` with `consts` set.
///
/// # Panics
/// When the shader, an import or a constant does not exist: a fault in this crate, which its tests find.
pub fn link(shader: &str, consts: &[(&str, u32)]) -> String {
    let mut linked = String::new();
    let mut imported = Vec::new();
    append(&mut linked, find(SHADERS, shader), &mut imported);
    for (name, value) in consts {
        let head = format!("\nconst {name}: u32 = ");
        let start = linked.find(&head).unwrap_or_else(|| panic!("{shader}.wgsl has no {name}"));
        let start = start + head.len();
        let end = start + linked[start..].find(';').expect("a declaration ends in ;");
        linked.replace_range(start..end, &format!("{value}u"));
    }
    linked
}

fn append(out: &mut String, source: &str, imported: &mut Vec<String>) {
    for line in source.lines() {
        match line.strip_prefix("//#import ") {
            Some(path) => {
                let stem = path.trim().trim_end_matches(".wgsl").to_owned();
                if !imported.contains(&stem) {
                    imported.push(stem.clone());
                    append(out, find(COMMON, &stem), imported);
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
}
