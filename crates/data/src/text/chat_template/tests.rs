//! Chats as transformers writes them (`tools/make_chat_fixtures.py`), and templates that mean harm.

use serde_json::Value as Json;

use super::*;
use crate::text::Role;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/chat");

fn say(role: Role, content: &str) -> Message {
    Message { role, content: content.to_owned() }
}

fn template(source: &str) -> Result<ChatTemplate, DataError> {
    let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let special = special.map(|(role, token)| (role.to_owned(), token.to_owned()));
    ChatTemplate::parse("t.jinja", source, special.to_vec())
}

fn rendered(source: &str) -> Result<String, DataError> {
    template(source)?.render(&[say(Role::User, "hi"), say(Role::Assistant, "yes")], false)
}

fn problem(source: &str) -> String {
    rendered(source).unwrap_err().to_string()
}

#[test]
fn texts_are_those_of_transformers() {
    let known = std::fs::read_to_string(format!("{FIXTURES}/chats.json")).unwrap();
    let known: Json = serde_json::from_str(&known).unwrap();
    let chats: Vec<Vec<Message>> = known["chats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chat| {
            let message = |one: &Json| {
                say(
                    Role::of(one["role"].as_str().unwrap()).unwrap(),
                    one["content"].as_str().unwrap(),
                )
            };
            chat.as_array().unwrap().iter().map(message).collect()
        })
        .collect();
    let (mut same, mut refused) = (0, 0);
    for (name, of) in known["templates"].as_object().unwrap() {
        let folder = format!("{FIXTURES}/{}", of["tokenizer"].as_str().unwrap());
        let tokenizer = Tokenizer::load(std::path::Path::new(&folder)).unwrap();
        for kind in ["plain", "marked"] {
            let special = tokenizer.files().roles();
            let special = special.map(|(role, token)| (role.to_owned(), token.to_owned()));
            let source = of[kind].as_str().unwrap();
            let template = ChatTemplate::parse(name, source, special.collect()).unwrap();
            for (chat, case) in chats.iter().zip(of["cases"].as_array().unwrap()) {
                let Some(text) = case["text"].as_str() else {
                    let error = template.render(chat, false).unwrap_err().to_string();
                    assert!(error.contains(case["error"].as_str().unwrap()), "{error}");
                    refused += 1;
                    continue;
                };
                assert_eq!(template.render(chat, false).unwrap(), text, "{name}, {kind}");
                assert_eq!(template.render(chat, true).unwrap(), case["prompt"].as_str().unwrap());
                same += 1;
            }
        }
    }
    assert!(same > 30, "{same} same, {refused} refused");
}

#[test]
fn templates_find_what_transformers_gives_them() {
    for (source, wanted) in [
        ("{{ bos_token }}{{ messages[-1].content }}{{ eos_token }}", "<s>yes</s>"),
        (
            "{{ tools is none }}{{ documents is defined }}{{ pad_token is defined }}",
            "TrueTrueFalse",
        ),
        ("{{ strftime_now('%d %B %Y') }}", "26 July 2024"),
        (
            "{{ {'b': '<é\n\"', 'a': [1, 2.0, none, true], 'c': {}} | tojson }}",
            "{\"b\": \"<é\\n\\\"\", \"a\": [1, 2.0, null, true], \"c\": {}}",
        ),
        ("{{ [1, {'a': []}] | tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": []\n  }\n]"),
        ("{{ messages[0].content.upper().startswith('H') }}", "True"),
        (
            "{% for m in messages if m.role != 'user' %}\n  {{ m['content'] }}\n{% endfor %}",
            "  yes\n",
        ),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        (
            "{{ messages | map(attribute='role') | join(',') }} {{ messages[0] | length }}",
            "user,assistant 2",
        ),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('<b>') }}", "<<b>>"),
        ("{{ messages[0].missing }}|{{ messages[0].items() | list | length }}", "|2"),
    ] {
        assert_eq!(rendered(source).unwrap(), wanted, "{source}");
    }
}

#[test]
fn says_what_is_wrong() {
    for (source, wanted) in [
        ("{% for %}", "t.jinja: its chat template cannot be used: line 1: "),
        (
            "a\n{{ raise_exception('only\nusers') }}",
            "makes no text: the template refuses it: only users",
        ),
        ("\n{{ messages[0].a.b }}", "line 2: "),
        ("{{ strftime_now('%Q') }}", "strftime_now cannot write \"%Q\""),
        ("{{ messages | tojson(indent='x') }}", "makes no text: line 1"),
        ("{% include 'other' %}", "t.jinja: its chat template"),
        (
            "{% generation %}{% generation %}a{% endgeneration %}{% endgeneration %}",
            "lie within each other",
        ),
    ] {
        let problem = problem(source);
        assert!(problem.contains(wanted) && !problem.contains('\n'), "{source}: {problem}");
    }
    let marked = template("{% generation %}{{ messages[0].content }}{% endgeneration %}").unwrap();
    let error = marked.render(&[say(Role::User, "\u{fdd1}")], false).unwrap_err().to_string();
    assert!(error.contains("which is no character"), "{error}");
}

#[test]
fn harm_becomes_an_error() {
    let grow = |times: usize, how: &str, shown: &str| {
        let step = format!("{{% for i in range({times}) %}}{{% set n.x = {how} %}}{{% endfor %}}");
        format!("{{% set n = namespace(x=['aa']) %}}{step}{shown}")
    };
    let fuel = "it does or writes more than a template may";
    for (source, wanted) in [
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
                .to_owned(),
            fuel,
        ),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}".to_owned(), fuel),
        (grow(60, "n.x ~ n.x", ""), fuel),
        (grow(40, "[n.x, n.x]", "{{ n.x | tojson }}"), fuel),
        (grow(99, "[n.x]", "{{ n.x | tojson }}"), "tojson: lists and maps lie in each other"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(), "recursion limit"),
        (format!("{{{{ {}1 }}}}", "(".repeat(9999)), "recursion limit"),
        ("a".repeat(MOST_BYTES + 1), "it has 65537 bytes, and 65536 are the most"),
    ] {
        let problem = problem(&source);
        assert!(problem.contains(wanted), "{}: {problem}", &source[..source.len().min(90)]);
    }
    // Nothing of it may be more than a thread with a deep stack bears.
    assert!(rendered(&grow(9999, "[n.x]", "done")).is_ok());
    assert!(rendered(&format!("{{{{ {}1 }}}}", "not ".repeat(MOST_BYTES / 4 - 3))).is_ok());
}

#[test]
fn folders_have_templates_in_two_places() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let given = || {
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let template = ChatTemplate::of(&tokenizer).unwrap();
        template.map(|template| template.render(&[say(Role::User, "hi")], false).unwrap())
    };
    let json = std::fs::read_to_string(format!("{FIXTURES}/llama/tokenizer.json")).unwrap();
    write("tokenizer.json", &json);
    assert_eq!(given(), None);
    let bos = "{\"content\": \"<|begin|>\", \"special\": true}";
    write(
        "tokenizer_config.json",
        &format!("{{\"bos_token\": {bos}, \"chat_template\": \"{{{{ bos_token }}}}1\"}}"),
    );
    assert_eq!(given().unwrap(), "<|begin|>1");
    let named = r#"[{"name": "rag", "template": "2"}, {"name": "default", "template": "3"}]"#;
    write("tokenizer_config.json", &format!("{{\"chat_template\": {named}}}"));
    assert_eq!(given().unwrap(), "3");
    write("chat_template.jinja", "4{{ messages[0].content }}\n");
    assert_eq!(given().unwrap(), "4hi");
}
