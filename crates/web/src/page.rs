//! Writes a page: as a folder for a server, and as one file that needs none.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use distil_gpu_engine::Error;
use distil_gpu_engine::data::disk::disk_error;
use distil_gpu_engine::files::write_atomically;
use ring::digest::{SHA256, digest};

use crate::bundle::Parts;
use crate::{Model, Options};

const HTML: &str = include_str!("../assets/page.html");
const STYLE: &str = include_str!("../assets/page.css");
/// The page's modules in the order in which they need each other.
const MODULES: [(&str, &str); 6] = [
    ("runtime.js", include_str!("../assets/runtime.js")),
    ("inputs.js", include_str!("../assets/inputs.js")),
    ("student.js", include_str!("../assets/student.js")),
    ("pictures.js", include_str!("../assets/pictures.js")),
    ("views.js", include_str!("../assets/views.js")),
    ("page.js", include_str!("../assets/page.js")),
];
/// Hugging Face's tokenizers in JavaScript.
const TOKENIZERS: &str = include_str!("../assets/tokenizers/tokenizers.min.mjs");
const TOKENIZERS_LICENCE: &str = include_str!("../assets/tokenizers/LICENSE");
/// Bytes of weights that an element of a page holds: a multiple of 3, so that base64 has no padding within.
const CHUNK: usize = 6 << 20;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all files.
    pub bytes: u64,
    /// Those of the weights, before base64.
    pub weights: u64,
    /// Plans, one a shape of batches.
    pub plans: usize,
}

/// The files of a page that are the same for all models, or for all models of texts.
pub fn runtime_files(texts: bool) -> Vec<(&'static str, String)> {
    let mut files = vec![("page.css", STYLE.to_owned())];
    files.extend(MODULES.map(|(name, text)| (name, text.to_owned())));
    if texts {
        files.push(("tokenizers.js", TOKENIZERS.to_owned()));
        files.push(("tokenizers-LICENSE.txt", TOKENIZERS_LICENCE.to_owned()));
    }
    files.push(("main.js", main(texts).to_owned()));
    files
}

/// What begins the page.
fn main(texts: bool) -> &'static str {
    match texts {
        true => {
            "import { Tokenizer } from \"./tokenizers.js\";\nimport { start } from \"./page.js\";\n\nstart(Tokenizer);\n"
        }
        false => "import { start } from \"./page.js\";\n\nstart(null);\n",
    }
}

/// Writes a model's page into a folder, which is made: `index.html` and what it loads. A server must serve it, as browsers
/// load no modules from files.
///
/// # Errors
/// As [`Parts::of`]; [`Error::Io`] naming a file that cannot be written.
pub fn write_folder(model: &Model<'_>, options: &Options, folder: &Path) -> Result<Written, Error> {
    let parts = Parts::of(model, options)?;
    fs::create_dir_all(folder).map_err(disk_error(folder))?;
    let mut bytes = 0;
    let mut write = |name: &str, content: &[u8]| {
        bytes += content.len() as u64;
        write_atomically(&folder.join(name), content)
    };
    for (number, segment) in parts.weights.iter().enumerate() {
        write(&format!("weights-{number}.bin"), segment)?;
    }
    if let Some(tokenizer) = &parts.tokenizer {
        write("tokenizer.json", tokenizer.as_bytes())?;
    }
    write("bundle.json", json(&parts).as_bytes())?;
    for (name, text) in runtime_files(parts.tokenizer.is_some()) {
        write(name, text.as_bytes())?;
    }
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";
    let head = "<link rel=\"stylesheet\" href=\"page.css\">";
    let body = "<script type=\"module\" src=\"main.js\"></script>";
    // The last one: a folder with it is complete.
    write("index.html", html(&parts, policy, head, body).as_bytes())?;
    Ok(written(&parts, bytes))
}

/// Writes a model's page as one file, which a browser opens from a disk as well as from a server. It allows itself to load
/// nothing at all.
///
/// # Errors
/// As [`write_folder`].
pub fn write_page(model: &Model<'_>, options: &Options, file: &Path) -> Result<Written, Error> {
    let parts = Parts::of(model, options)?;
    let script = inline(parts.tokenizer.is_some());
    let [of_script, of_style] = [&*script, STYLE].map(source_of);
    let policy =
        format!("default-src 'none'; script-src {of_script}; style-src {of_style}; img-src data:");
    let data = |id: &str, text: &str| {
        format!("<script type=\"application/json\" id=\"{id}\">{}</script>\n", harmless(text))
    };
    let mut body = data("bundle", &json(&parts));
    if let Some(tokenizer) = &parts.tokenizer {
        body.push_str(&data("tokenizer", tokenizer));
    }
    for (number, segment) in parts.weights.iter().enumerate() {
        for chunk in segment.chunks(CHUNK) {
            body.push_str(&format!(
                "<script type=\"application/octet-stream\" data-segment=\"{number}\">"
            ));
            BASE64_STANDARD.encode_string(chunk, &mut body);
            body.push_str("</script>\n");
        }
    }
    body.push_str(&format!("<script type=\"module\">{script}</script>"));
    let page = html(&parts, &policy, &format!("<style>{STYLE}</style>"), &body);
    write_atomically(file, page.as_bytes())?;
    Ok(written(&parts, page.len() as u64))
}

fn written(parts: &Parts, bytes: u64) -> Written {
    let weights = parts.weights.iter().map(|segment| segment.len() as u64).sum();
    Written { bytes, weights, plans: parts.bundle.plans.len() }
}

fn json(parts: &Parts) -> String {
    serde_json::to_string(&parts.bundle).expect("a bundle is plain data")
}

/// The page around its style and scripts. What is told of the model is put in last, so that it can stand for nothing else.
fn html(parts: &Parts, policy: &str, head: &str, body: &str) -> String {
    let (before, rest) = HTML.split_once("{{body}}").unwrap_or((HTML, ""));
    let before = before
        .replace("{{policy}}", policy)
        .replace("{{head}}", head)
        .replace("{{title}}", &escaped(&parts.bundle.card.name));
    [&before, body, rest].concat()
}

/// All modules as one, without their imports and exports.
fn inline(texts: bool) -> String {
    let is_import = |line: &&str| line.starts_with("import ");
    let of = |text: &str| -> String {
        let lines = text.lines().filter(|line| !is_import(line));
        lines.flat_map(|line| [line.strip_prefix("export ").unwrap_or(line), "\n"]).collect()
    };
    let mut script = String::from("\n");
    if texts {
        script.push_str(&tokenizers());
    }
    MODULES.iter().for_each(|(_, text)| script.push_str(&of(text)));
    script.push_str(&of(main(texts)));
    script
}

/// The vendored module as a value: what it exports is what a function returns.
fn tokenizers() -> String {
    let (code, exports) = TOKENIZERS.rsplit_once("export{").unwrap_or((TOKENIZERS, ""));
    let class = exports.split(',').find_map(|export| export.strip_suffix(" as Tokenizer"));
    format!("const Tokenizer = (() => {{\n{code}return {};\n}})();\n", class.unwrap_or("null"))
}

/// How a policy names a script or a style by its content.
fn source_of(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// JSON that ends no element of HTML.
fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_script_has_all_modules() {
        let script = inline(true);
        for line in script.lines() {
            assert!(!line.starts_with("import ") && !line.starts_with("export "), "{line}");
        }
        assert!(script.contains("const Tokenizer = (() => {"));
        let tokenizers = tokenizers();
        assert!(!tokenizers.ends_with("return null;\n})();\n") && !tokenizers.contains("export{"));
        // Either would end the element early.
        assert!(!script.contains("</script") && !script.contains("<!--"));
        assert!(!inline(false).contains("Tokenizer = (()"));
        assert!(!STYLE.contains("</style"));
    }

    #[test]
    fn modules_import_what_is_before_them() {
        for (at, (name, text)) in MODULES.iter().enumerate() {
            let imports = text.lines().filter(|line| line.starts_with("import "));
            for line in imports {
                let from = line.split('"').nth(1).unwrap().trim_start_matches("./");
                assert!(MODULES[..at].iter().any(|(known, _)| *known == from), "{name}: {line}");
                assert!(line.ends_with("\";"), "an import is a line: {line}");
            }
        }
    }

    #[test]
    fn names_end_no_element() {
        assert_eq!(harmless("{\"a\":\"</script>\"}"), "{\"a\":\"\\u003c/script>\"}");
        assert_eq!(escaped("<a href=\"&\">"), "&lt;a href=&quot;&amp;&quot;&gt;");
    }
}
