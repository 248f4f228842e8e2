//! Finds and links WGSL sources.
//!
//! Three directives, all valid WGSL, so that every file reads on its own terms:
//! `//#import x.wgsl` is replaced by that file, once; `//#import x.wgsl as y.wgsl` in the place of `y.wgsl`, which is
//! left out from there on; a line `const NAME: u32 = …;` takes a value
//! given to [`link`] (array lengths of registers cannot be `override`s); a line `alias NAME_type = f32;`, which tells the
//! type of a binding's elements, becomes f16 where that binding is.

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
    "gather_backward",
    "gather_f16",
    "grad_norm",
    "layer_norm",
    "loss_scale",
    "matmul",
    "matmul_f16",
    "matmul_subgroup",
    "matmul_subgroup_f16",
    "matmul_vectors",
    "matmul_vectors_f16",
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
    "common/b_f16",
    "common/b_f32",
    "common/chain",
    "common/gather",
    "common/nan",
    "common/product",
    "common/random",
    "common/rounds",
    "common/step",
    "common/table_f16",
    "common/table_f32",
];

fn find(name: &str) -> &'static str {
    let entry = SHADERS.iter().chain(COMMON).find(|(stem, _)| *stem == name);
    entry.unwrap_or_else(|| panic!("there is no shader {name}.wgsl")).1
}

/// The complete WGSL of `shader` with `consts` set and the elements of the bindings `halves` in f16.
///
/// # Panics
/// When the shader, an import, a constant or an alias does not exist: a fault in this crate, which its tests find.
pub fn link(shader: &str, consts: &[(&str, u32)], halves: &[u32]) -> String {
    let mut linked = String::new();
    let mut imported = Vec::new();
    append(&mut linked, find(shader), &mut imported);
    for (name, value) in consts {
        let head = format!("\nconst {name}: u32 = ");
        let start = linked.find(&head).unwrap_or_else(|| panic!("{shader}.wgsl has no {name}"));
        let start = start + head.len();
        let end = start + linked[start..].find(';').expect("a declaration ends in ;");
        linked.replace_range(start..end, &format!("{value}u"));
    }
    for binding in halves {
        let aliases = element_types(&linked, *binding);
        assert!(!aliases.is_empty(), "binding {binding} of {shader}.wgsl is always f32");
        for alias in aliases {
            let [single, half] = ["f32", "f16"].map(|dtype| format!("\nalias {alias} = {dtype};"));
            linked = linked.replace(&single, &half);
        }
    }
    if !halves.is_empty() {
        linked.insert_str(0, "enable f16;\n");
    }
    linked
}

/// The aliases that name the type of a binding's elements; what shares its number is never used together.
fn element_types(source: &str, binding: u32) -> Vec<String> {
    let head = format!("@group(0) @binding({binding}) var<storage");
    let declared = source.lines().filter(|line| line.starts_with(&head));
    let named = declared.filter_map(|line| {
        let (before, _) = line.split_once("_type")?;
        before.rsplit(['<', ' ']).next().map(|name| format!("{name}_type"))
    });
    named.collect()
}

fn append(out: &mut String, source: &str, imported: &mut Vec<String>) {
    for line in source.lines() {
        match line.strip_prefix("//#import ") {
            Some(import) => {
                let stem = |path: &str| path.trim().trim_end_matches(".wgsl").to_owned();
                let (file, place) = import.split_once(" as ").unwrap_or((import, import));
                if !imported.contains(&stem(place)) {
                    imported.push(stem(place));
                    append(out, find(&stem(file)), imported);
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
}
