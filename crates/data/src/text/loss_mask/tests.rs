//! Tokens and masks as transformers has them (`tools/make_chat_fixtures.py`).

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::text::{Chat, Packing};

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat").join(name)
}

fn known() -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder("chats.json")).unwrap()).unwrap()
}

fn of<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&folder(name)).unwrap()
}

fn template(source: &str, tokenizer: &Tokenizer) -> ChatTemplate {
    let special = tokenizer.files().roles();
    let special = special.map(|(role, token)| (role.to_owned(), token.to_owned()));
    ChatTemplate::parse("t.jinja", source, special.collect()).unwrap()
}

fn say(role: Role, content: &str) -> Message {
    Message { role, content: content.to_owned() }
}

fn documents(rows: &[Document]) -> Documents {
    Documents::new(rows.to_vec()).unwrap()
}

fn chats(known: &Value) -> Vec<Vec<Message>> {
    let message = |one: &Value| {
        say(Role::of(&of::<String>(&one["role"])).unwrap(), &of::<String>(&one["content"]))
    };
    let chat = |chat: &Value| chat.as_array().unwrap().iter().map(message).collect();
    known["chats"].as_array().unwrap().iter().map(chat).collect()
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn chats_have_the_tokens_and_masks_of_transformers() {
    let known = known();
    let mut counted = [0, 0];
    for (name, of_template) in known["templates"].as_object().unwrap() {
        let tokenizer = tokenizer(of_template["tokenizer"].as_str().unwrap());
        for (kind, counted) in ["plain", "marked"].into_iter().zip(&mut counted) {
            let template = template(of_template[kind].as_str().unwrap(), &tokenizer);
            let encode = |loss_on, messages: &Vec<Message>| {
                let chat = Chat { messages: messages.clone(), completion: 0 };
                let encoder = DocumentEncoder::new(&tokenizer, Some(template.clone()), loss_on);
                encoder.unwrap().encode(&documents(&[Document::Chat(chat)])).unwrap()
            };
            for (chat, case) in chats(&known).iter().zip(of_template["cases"].as_array().unwrap()) {
                let Some(text) = case["text"].as_str() else { continue };
                let at = format!("{name}, {kind}: {text}");
                let tokens = encode(LossOn::Completions, chat);
                let row = tokens.row(0);
                assert_eq!(row.ids, of::<Vec<i32>>(&case["ids"]), "{at}");
                let mask: Vec<bool> =
                    of::<Vec<u8>>(&case["mask"]).iter().map(|one| *one == 1).collect();
                assert_eq!(row.counts, mask, "{at}");
                assert_eq!(tokens.text_bytes(), text.len() as u64, "{at}");
                let all = encode(LossOn::All, chat);
                assert_eq!((all.row(0).ids, all.counted()), (row.ids, row.ids.len()));
                *counted += tokens.counted();
            }
        }
    }
    assert!(counted[0] > 300 && counted[0] == counted[1], "{counted:?}");
}

#[test]
fn texts_have_their_tokens_and_one_end() {
    let known = known();
    let texts: Vec<String> = of(&known["texts"]);
    for (name, end) in [("qwen", "<|endoftext|>"), ("llama", "<|end|>")] {
        let tokenizer = tokenizer(name);
        let end = tokenizer.id(end).unwrap() as i32;
        let encoder = DocumentEncoder::new(&tokenizer, None, LossOn::Completions).unwrap();
        let rows: Vec<Document> = texts.iter().cloned().map(Document::Text).collect();
        let tokens = encoder.encode(&documents(&rows)).unwrap();
        for (number, text) in texts.iter().enumerate() {
            let mut wanted: Vec<i32> = of(&known["encoded"][name][number]);
            // Of a text that begins as the tokenizer begins it, transformers makes two beginnings.
            if name == "llama" && text.starts_with("<|begin|>") {
                assert_eq!(wanted.remove(0), wanted[0]);
            }
            if wanted.last() != Some(&end) {
                wanted.push(end);
            }
            let row = tokens.row(number);
            assert_eq!(row.ids, wanted, "{name}: {text:?}");
            assert_eq!(row.bytes.iter().sum::<u32>() as usize, text.len(), "{name}: {text:?}");
            let begins = usize::from(name == "llama" && !text.starts_with("<|begin|>"));
            assert!(row.counts[begins..].iter().all(|counts| *counts));
            assert_eq!(row.counts.iter().filter(|counts| !**counts).count(), begins);
        }
    }
}

#[test]
fn a_beginning_is_not_written_twice() {
    let tokenizer = tokenizer("llama");
    let begin = tokenizer.id("<|begin|>").unwrap() as i32;
    assert_eq!(tokenizer.opening().unwrap(), [begin]);
    let template = template("{{ bos_token }}{{ messages[0].content }}<|eot|>", &tokenizer);
    let encoder = DocumentEncoder::new(&tokenizer, Some(template), LossOn::All).unwrap();
    let chat = Chat { messages: vec![say(Role::Assistant, "the dog")], completion: 0 };
    let prompted = |prompt: &str| Document::Prompted {
        prompt: prompt.to_owned(),
        completion: " dog".to_owned(),
    };
    let rows = [Document::Chat(chat), prompted("<|begin|>the"), prompted("the")];
    let tokens = encoder.encode(&documents(&rows)).unwrap();
    for row in 0..3 {
        let ids = tokens.row(row).ids;
        assert_eq!(ids.iter().filter(|id| **id == begin).count(), 1);
        assert_eq!(ids[0], begin);
    }
    // The configuration may say otherwise than tokenizer.json.
    let json = std::fs::read_to_string(folder("llama/tokenizer.json")).unwrap();
    for (flag, wanted) in [("true", vec![begin]), ("false", Vec::new())] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), &json).unwrap();
        let config = format!("{{\"bos_token\": \"<|begin|>\", \"add_bos_token\": {flag}}}");
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        assert_eq!(Tokenizer::load(folder.path()).unwrap().opening().unwrap(), wanted);
    }
}

#[test]
fn of_a_prompt_only_the_completion_is_learnt() {
    let tokenizer = tokenizer("qwen");
    let row =
        Document::Prompted { prompt: "the quick".to_owned(), completion: " fox 😀".to_owned() };
    for (loss_on, wanted) in [(LossOn::Completions, " fox 😀<|endoftext|>"), (LossOn::All, "")] {
        let encoder = DocumentEncoder::new(&tokenizer, None, loss_on).unwrap();
        let all = documents(std::slice::from_ref(&row));
        let shown = &encoder.shown(&all, 3).unwrap()[0];
        let piece = |text: &str, counts| ShownPiece { text: text.to_owned(), counts };
        match loss_on {
            LossOn::Completions => {
                assert_eq!(*shown, [piece("the quick", false), piece(wanted, true)])
            }
            LossOn::All => assert_eq!(*shown, [piece("the quick fox 😀<|endoftext|>", true)]),
        }
        let tokens = encoder.encode(&all).unwrap();
        assert_eq!(tokens.text_bytes(), "the quick fox 😀".len() as u64);
    }
}

#[test]
fn a_token_counts_where_it_begins() {
    let tokenizer = tokenizer("qwen");
    // The token of " the" begins in the prompt, and no token begins within "😀".
    let rows = [("a ", "the dog"), ("😀", "b")].map(|(prompt, completion)| Document::Prompted {
        prompt: prompt.to_owned(),
        completion: completion.to_owned(),
    });
    let encoder = DocumentEncoder::new(&tokenizer, None, LossOn::Completions).unwrap();
    let shown = encoder.shown(&documents(&rows), 2).unwrap();
    let texts = |row: &[ShownPiece]| {
        row.iter().map(|one| (one.text.clone(), one.counts)).collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&shown[0]),
        [("a the".to_owned(), false), (" dog<|endoftext|>".to_owned(), true)]
    );
    assert_eq!(texts(&shown[1]), [("😀".to_owned(), false), ("b<|endoftext|>".to_owned(), true)]);
}

#[test]
fn tokens_have_the_bytes_of_their_text() {
    let tokenizer = tokenizer("llama");
    let text = "the quick brown fox: what is the answer?";
    let placed = &tokenizer.placing().encode(&[text]).unwrap()[0];
    let mut at = 0;
    for (id, bytes) in placed.ids.iter().zip(placed.bytes(text.len())) {
        let end = at + bytes as usize;
        // Blanks in front belong to a token, whatever its post-processor says of offsets.
        assert_eq!(text[at..end], tokenizer.text_of(&[*id as u32], true).unwrap());
        at = end;
    }
    assert_eq!(at, text.len());
    let split = "\u{10348}x";
    let placed = &tokenizer.placing().encode(&[split]).unwrap()[0];
    assert_eq!(placed.ids.len(), 5, "an unknown character is four tokens");
    assert_eq!(placed.begins, [0, 0, 0, 0, 4]);
    assert_eq!(placed.bytes(split.len()), [0, 0, 0, 4, 1]);
    // NFC makes one character of two, three bytes two.
    let composed = Tokenizer::load(&folder("qwen")).unwrap();
    let placed = &composed.placing().encode(&["e\u{301}x"]).unwrap()[0];
    assert_eq!(placed.bytes(4).iter().sum::<u32>(), 4);
    assert_eq!(placed.begins.last(), Some(&3));
}

#[test]
fn turns_of_the_prompt_are_not_learnt() {
    let tokenizer = tokenizer("qwen");
    let messages = vec![
        say(Role::User, "a"),
        say(Role::Assistant, "b"),
        say(Role::User, "c"),
        say(Role::Assistant, "d"),
    ];
    let marked = CHATML.replace(
        "{{ m.content }}<|im_end|>",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}\
         {{ m.content }}<|im_end|>{% endif %}",
    );
    for source in [CHATML, &marked] {
        let template = template(source, &tokenizer);
        let encoder = DocumentEncoder::new(&tokenizer, Some(template), LossOn::default()).unwrap();
        let learnt = |completion| {
            let chat = Chat { messages: messages.clone(), completion };
            let shown = encoder.shown(&documents(&[Document::Chat(chat)]), 1).unwrap();
            let learnt = shown[0].iter().filter(|piece| piece.counts);
            learnt.map(|piece| piece.text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(learnt(0), ["b<|im_end|>", "d<|im_end|>"]);
        assert_eq!(learnt(2), ["d<|im_end|>"]);
        let stops =
            ["<|endoftext|>", "<|im_end|>"].map(|token| tokenizer.id(token).unwrap() as i32);
        assert_eq!(encoder.stops().unwrap(), stops);
    }
}

#[test]
fn says_where_turns_cannot_be_told() {
    let tokenizer = tokenizer("qwen");
    // Of all but the last answer the thoughts are left out.
    let forgetful = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
                     {{ m.content if loop.last else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}\
                     {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let messages = ["q", "<think>hm</think>a", "r", "<think>so</think>b"];
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let messages: Vec<Message> = roles.zip(messages).map(|(role, text)| say(role, text)).collect();
    let row = |completion| Document::Chat(Chat { messages: messages.clone(), completion });
    let encode = |template: Option<ChatTemplate>, rows: &[Document], loss_on| {
        DocumentEncoder::new(&tokenizer, template, loss_on).unwrap().encode(&documents(rows))
    };
    let forgetful = template(forgetful, &tokenizer);
    let plain = Document::Text("a".to_owned());
    let rows = [plain.clone(), row(0)];
    let error =
        encode(Some(forgetful.clone()), &rows, LossOn::Completions).unwrap_err().to_string();
    for part in [
        "t.jinja",
        "of document 1",
        "the assistant's message 2",
        "loss_on = \"all\"",
        "{% generation %}",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(encode(Some(forgetful.clone()), &rows, LossOn::All).is_ok());
    // The last answer alone is where it should be.
    assert!(encode(Some(forgetful), &[row(2)], LossOn::Completions).is_ok());
    let error = encode(None, &rows, LossOn::Completions).unwrap_err().to_string();
    assert!(
        error.contains("document 1 is a chat, and the model's folder has no chat template"),
        "{error}"
    );
    let silent = "{% if false %}{% generation %}{% endgeneration %}{% endif %}a";
    let silent = template(silent, &tokenizer);
    let error = encode(Some(silent), &rows, LossOn::Completions).unwrap_err().to_string();
    assert!(error.contains("it marks nothing with {% generation %}"), "{error}");
}

#[test]
fn a_chat_becomes_a_row_with_labels() {
    let tokenizer = tokenizer("qwen");
    let chat =
        Chat { messages: vec![say(Role::User, "a"), say(Role::Assistant, "b")], completion: 0 };
    let encoder =
        DocumentEncoder::new(&tokenizer, Some(template(CHATML, &tokenizer)), LossOn::default());
    let tokens = encoder.unwrap().encode(&documents(&[Document::Chat(chat)])).unwrap();
    let row = Packing::new(&tokens, 32, true).unwrap().row(&tokens, 0);
    let labels: Vec<(usize, i32)> =
        row.labels.iter().enumerate().filter_map(|(at, label)| Some((at, (*label)?))).collect();
    let [b, end] = ["b", "<|im_end|>"].map(|token| tokenizer.id(token).unwrap() as i32);
    let at = row.ids.iter().position(|id| *id == b).unwrap();
    assert_eq!(labels, [(at - 1, b), (at, end)]);
    assert_eq!(row.bytes, "b<|im_end|>".len() as u64);
}

#[test]
fn text_comes_in_whole_characters() {
    let tokenizer = tokenizer("llama");
    let text = "the naïve fox 🚀日 <|eot|>\u{301} end";
    let ids = tokenizer.placing().encode(&[text]).unwrap().remove(0).ids;
    for (special, wanted) in [(true, text.to_owned()), (false, text.replace("<|eot|>", ""))] {
        let mut stream = tokenizer.stream(special);
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        assert_eq!(pieces.concat(), wanted);
        assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() > 8, "{pieces:?}");
    }
    // What is cut off in the middle of a character shows that.
    let rocket = tokenizer.placing().encode(&["a🚀"]).unwrap().remove(0).ids;
    let mut stream = tokenizer.stream(false);
    assert_eq!(rocket[..3].iter().map(|id| stream.push(*id).unwrap()).collect::<String>(), "a");
    assert!(stream.finish().unwrap().contains('\u{fffd}'));
}
