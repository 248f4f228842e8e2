//! Finds and links WGSL sources.
//!
//! Three things are replaced, all valid WGSL, so that every file reads on its own terms: a line `//#import x.wgsl` by that
//! file, once, or by the one that stands in for it; the value of a line `const NAME: u32 = …;` (array lengths of registers
//! cannot be `override`s); the type in a line `alias NAME_type = f32;`, which tells that of a binding's elements: f16, or
//! vectors of four.

use std::collections::BTreeSet;

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))),*]
    };
}

/// The kernels' shaders, by file stem.
pub const SHADERS: &[(&str, &str)] = sources![
    "add_to",
    "attention",
    "attention_bias",
    "attention_delta",
    "attention_key_value",
    "attention_query",
    "batch_norm",
    "columns",
    "depthwise",
    "distill_loss",
    "elementwise",
    "feature_loss",
    "gather",
    "gather_backward",
    "glu",
    "grad_norm",
    "layer_norm",
    "loss_scale",
    "matmul",
    "matmul_cooperative",
    "matmul_subgroup",
    "matmul_sum",
    "matmul_vectors",
    "max_norm",
    "optimizer",
    "pointwise_loss",
    "pool",
    "reduce",
    "relation_loss",
    "relative_gather",
    "roof",
    "rotary",
    "sample",
    "scatter",
    "softmax",
];

/// What they import.
pub const COMMON: &[(&str, &str)] = sources![
    "common/a_patches",
    "common/a_rows",
    "common/activation",
    "common/attention",
    "common/attention_backward",
    "common/attention_bias",
    "common/attention_bias_forward",
    "common/attention_bias_key_value",
    "common/attention_bias_query",
    "common/attention_fours",
    "common/attention_lanes",
    "common/attention_lanes_subgroup",
    "common/attention_mask",
    "common/attention_ranges",
    "common/attention_unbiased",
    "common/attention_words",
    "common/b_blocks",
    "common/b_f16",
    "common/b_f32",
    "common/b_i8",
    "common/blocks",
    "common/blocks_bf16",
    "common/blocks_k",
    "common/blocks_q4_0",
    "common/blocks_q4_1",
    "common/blocks_q4_k",
    "common/blocks_q5_0",
    "common/blocks_q5_1",
    "common/blocks_q5_k",
    "common/blocks_q6_k",
    "common/blocks_q8_0",
    "common/chain",
    "common/divergence",
    "common/epilogue",
    "common/gather",
    "common/ids_f32",
    "common/ids_i32",
    "common/log1p",
    "common/nan",
    "common/nan_word",
    "common/patches",
    "common/product",
    "common/random",
    "common/rounds",
    "common/row",
    "common/row_subgroup",
    "common/row_tree",
    "common/row_weight",
    "common/row_weights",
    "common/said",
    "common/step",
    "common/table_blocks",
    "common/table_f16",
    "common/table_f32",
    "common/table_i8",
    "common/tiles_16_f16",
    "common/tiles_16_f32",
    "common/tiles_8_f16",
    "common/tiles_8_f32",
    "common/unsaid",
    "common/word",
    "common/word_of_four",
];

fn find(name: &str) -> &'static str {
    let entry = SHADERS.iter().chain(COMMON).find(|(stem, _)| *stem == name);
    entry.unwrap_or_else(|| panic!("there is no shader {name}.wgsl")).1
}

/// A shader in one of its forms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// File stem under `shaders/`, or the name of a shader that is not among those.
    pub shader: &'static str,
    /// The text of such a shader; see [`Source::own`].
    pub text: Option<&'static str>,
    /// Files to import in the place of others: stems, the other's first.
    pub imports: Vec<(&'static str, &'static str)>,
    /// Values of constants.
    pub consts: Vec<(&'static str, u32)>,
    /// Bindings whose elements are in f16; see [`crate::Halved`].
    pub halves: Vec<u32>,
    /// Whether a thread takes four elements at once: all `NAME_type` are vectors, and `common/word_of_four` stands in for
    /// `common/word`.
    pub fours: bool,
}

impl Source {
    /// A shader as its file has it.
    pub fn of(shader: &'static str) -> Self {
        Self {
            shader,
            text: None,
            imports: Vec::new(),
            consts: Vec::new(),
            halves: Vec::new(),
            fours: false,
        }
    }

    /// A shader of one's own, with a name for messages. It binds as all do (see the [crate]), and may import what those in
    /// `shaders/common` define.
    pub fn own(name: &'static str, text: &'static str) -> Self {
        Self { text: Some(text), ..Self::of(name) }
    }

    /// The complete WGSL.
    ///
    /// # Panics
    /// When the shader, an import, a constant or an alias does not exist: a fault in this crate, which its tests find.
    pub fn link(&self) -> String {
        let Self { shader, text, imports, consts, halves, fours } = self;
        let mut imports = imports.clone();
        imports.extend(fours.then_some(("common/word", "common/word_of_four")));
        let mut linked = String::new();
        let text = text.unwrap_or_else(|| find(shader));
        append(&mut linked, text, &imports, &mut Vec::new());
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
                let [single, half] =
                    ["f32", "f16"].map(|dtype| format!("\nalias {alias} = {dtype};"));
                linked = linked.replace(&single, &half);
            }
        }
        if *fours {
            for dtype in ["f32", "f16"] {
                linked = linked
                    .replace(&format!("_type = {dtype};\n"), &format!("_type = vec4<{dtype}>;\n"));
            }
        }
        // WGSL has these before all else.
        let is_enable = |line: &&str| line.starts_with("enable ");
        let mut enables: BTreeSet<&str> = linked.lines().filter(is_enable).collect();
        if !halves.is_empty() {
            enables.insert("enable f16;");
        }
        let rest = linked.lines().filter(|line| !is_enable(line));
        enables.iter().copied().chain(rest).flat_map(|line| [line, "\n"]).collect()
    }
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

/// Appends a text with what it imports; `done` are those that need not be imported again.
fn append<'a>(
    out: &mut String,
    text: &'a str,
    instead: &[(&'a str, &'a str)],
    done: &mut Vec<&'a str>,
) {
    for line in text.lines() {
        match line.strip_prefix("//#import ") {
            Some(import) => {
                let import = import.trim_end_matches(".wgsl");
                let import = instead
                    .iter()
                    .find(|(place, _)| *place == import)
                    .map_or(import, |(_, file)| file);
                if !done.contains(&import) {
                    done.push(import);
                    append(out, find(import), instead, done);
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
}
