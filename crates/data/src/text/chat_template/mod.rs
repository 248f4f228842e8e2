//! Chat templates: the Jinja text of a model's folder that makes one text of messages, as transformers renders it.
//!
//! A template is a program from elsewhere. It has fuel for so much work and output, a deep stack of its own, and so much
//! time; what goes beyond becomes an error.

mod apart;
mod environment;
mod json;

use std::ops::Range;
use std::sync::Arc;

use minijinja::{Environment, Value};

use self::apart::{all_apart, apart};
use super::Tokenizer;
use super::documents::{Chat, LossOn, Message, Role};
use crate::DataError;
use crate::words;

/// The longest template, in bytes. Those of large models have 30,000.
const MOST_BYTES: usize = 1 << 16;
/// Fuel for a template whatever it is given: about as many instructions, or 64 times as many bytes.
const FUEL: u64 = 100_000;
/// Fuel for each message beside that.
const FUEL_OF_MESSAGE: u64 = 5_000;
/// Bytes of messages for which there is 1 of fuel more, enough to go over them eight times.
const BYTES_OF_FUEL: usize = 8;

/// A template that is ready to be used. Clones share it.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// Its file, for errors.
    path: String,
    /// The template under its name in it; without fuel.
    environment: Arc<Environment<'static>>,
    /// Special tokens by what they are special as.
    special: Arc<Vec<(String, String)>>,
    /// Whether it says itself what the assistant writes.
    marks: bool,
}

/// The text of a chat, and which of its bytes are to be learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub text: String,
    /// Rising, and none in another; where all is learnt, one of the whole text.
    pub spans: Vec<Range<usize>>,
}

impl Written {
    /// A text of which one range is learnt.
    pub fn with(text: String, span: Range<usize>) -> Self {
        Self { text, spans: std::iter::once(span).collect() }
    }
}

impl ChatTemplate {
    /// The template of a tokenizer's folder, if there is one: of `chat_template.jinja`, or else of
    /// `tokenizer_config.json`, which may have several, of which `default` is taken.
    ///
    /// # Errors
    /// [`DataError::File`] when it is no template.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>, DataError> {
        let files = tokenizer.files();
        let Some((name, source)) = files.chat_template() else { return Ok(None) };
        let special = files.roles().map(|(role, token)| (role.to_owned(), token.to_owned()));
        Self::parse(&tokenizer.beside(name), source, special.collect()).map(Some)
    }

    /// A template from its text, named by its file, with special tokens by what they are special as (`bos_token`, …).
    ///
    /// # Errors
    /// [`DataError::File`] when it is no template.
    pub fn parse(
        path: &str,
        source: &str,
        special: Vec<(String, String)>,
    ) -> Result<Self, DataError> {
        let bad = |problem: String| DataError::File {
            path: path.to_owned(),
            problem: format!("its chat template cannot be used: {problem}"),
        };
        if source.len() > MOST_BYTES {
            let len = source.len();
            return Err(bad(format!("it has {len} bytes, and {MOST_BYTES} are the most")));
        }
        let (source, marks) = environment::marked(source);
        let built =
            apart(move || environment::build(source).map_err(|error| environment::told(&error)));
        let environment = built.and_then(|built| built).map_err(bad)?;
        let special = Arc::new(special);
        Ok(Self { path: path.to_owned(), environment: Arc::new(environment), special, marks })
    }

    /// The text of messages, perhaps with what the assistant's next one begins with.
    ///
    /// # Errors
    /// [`DataError::File`] when the template refuses them, or takes too long.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, DataError> {
        let (own, messages) = (self.clone(), messages.to_vec());
        let text = apart(move || own.text(&messages, add_generation_prompt));
        let written = text.and_then(|text| environment::unmarked(&text?));
        let (text, _) = written.map_err(|problem| self.bad(None, &problem))?;
        Ok(text)
    }

    /// Whether it says itself what the assistant writes.
    pub fn marks(&self) -> bool {
        self.marks
    }

    /// The texts of chats, whose numbers among all documents are these, and what of them is learnt.
    ///
    /// # Errors
    /// [`DataError::File`], naming the document.
    pub(super) fn write(
        &self,
        chats: Vec<Chat>,
        numbers: &[usize],
        loss_on: LossOn,
    ) -> Result<Vec<Written>, DataError> {
        let own = self.clone();
        let written = all_apart(chats, move |chat| own.write_one(&chat, loss_on));
        let written = written.map_err(|problem| self.bad(None, &problem))?;
        let named = |(written, number): (Result<Written, String>, &usize)| {
            written.map_err(|problem| self.bad(Some(*number), &problem))
        };
        written.into_iter().zip(numbers).map(named).collect()
    }

    fn bad(&self, document: Option<usize>, problem: &str) -> DataError {
        let of = document.map_or_else(String::new, |number| format!(" of document {number}"));
        DataError::File {
            path: self.path.clone(),
            problem: format!("its chat template makes no text{of}: {problem}"),
        }
    }

    fn write_one(&self, chat: &Chat, loss_on: LossOn) -> Result<Written, String> {
        let (text, marked) = environment::unmarked(&self.text(&chat.messages, false)?)?;
        let spans = match loss_on {
            LossOn::All => {
                let whole = 0..text.len();
                return Ok(Written::with(text, whole));
            }
            LossOn::Completions if self.marks => turns_of(chat, marked)?,
            LossOn::Completions => self.turns(chat, &text)?,
        };
        Ok(Written { text, spans })
    }

    /// Where the turns of the assistant are in a chat's text: each begins where the text ends that the template makes of
    /// the messages before it with what an answer begins with, and ends where the text ends that is made with it.
    fn turns(&self, chat: &Chat, text: &str) -> Result<Vec<Range<usize>>, String> {
        let end = |messages: &[Message], prompt: bool| {
            let (begun, _) = environment::unmarked(&self.text(messages, prompt)?)?;
            if text.starts_with(&begun) {
                return Ok(begun.len());
            }
            let same = begun.bytes().zip(text.bytes()).take_while(|(one, other)| one == other);
            let at = words::floor_char_boundary(text, same.count());
            let shown: String = text[at..].chars().take(40).collect();
            Err(format!(
                "where the assistant's message {} is cannot be told, as what is written before it is not the beginning of \
                 the whole (from byte {at}, {shown:?}): mark what the assistant writes with {{% generation %}} in the \
                 template, or set `data.loss_on = \"all\"`",
                messages.len() + usize::from(prompt)
            ))
        };
        let turn = |(place, _): (usize, &Message)| {
            let start = end(&chat.messages[..place], true)?;
            Ok(start..end(&chat.messages[..=place], false)?.max(start))
        };
        learnt(chat).map(turn).collect()
    }

    /// What the template makes of messages, marks included.
    fn text(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, String> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let fuel = FUEL + FUEL_OF_MESSAGE * messages.len() as u64 + (bytes / BYTES_OF_FUEL) as u64;
        let mut environment = (*self.environment).clone();
        environment.set_fuel(Some(fuel));
        if self.marks {
            messages.iter().try_for_each(environment::check_unmarked)?;
        }
        let message = |message: &Message| {
            let fields = [("role", message.role.name()), ("content", &*message.content)];
            Value::from_pairs(fields)
        };
        let special = self.special.iter().map(|(role, token)| (&**role, Value::from(&**token)));
        let context = special.chain([
            ("messages", messages.iter().map(message).collect()),
            ("add_generation_prompt", add_generation_prompt.into()),
            ("tools", ().into()),
            ("documents", ().into()),
        ]);
        let template = environment.get_template(environment::NAME);
        let rendered = template.and_then(|one| one.render(Value::from_pairs(context)));
        rendered.map_err(|error| environment::told(&error))
    }
}

/// The messages of the assistant that are learnt, with their places.
fn learnt(chat: &Chat) -> impl Iterator<Item = (usize, &Message)> {
    let all = chat.messages.iter().enumerate().skip(chat.completion);
    all.filter(|(_, message)| message.role == Role::Assistant)
}

/// Of what a template marked, what belongs to messages that are learnt.
fn turns_of(chat: &Chat, marked: Vec<Range<usize>>) -> Result<Vec<Range<usize>>, String> {
    if marked.is_empty() {
        return Err("it marks nothing with {% generation %}".to_owned());
    }
    let prompt = &chat.messages[..chat.completion];
    let given = prompt.iter().filter(|message| message.role == Role::Assistant).count();
    let turns = given + learnt(chat).count();
    match given {
        0 => Ok(marked),
        _ if marked.len() == turns => Ok(marked[given..].to_vec()),
        _ => Err(format!(
            "it marks {} with {{% generation %}}, and the assistant has {turns}, so that those of the prompt cannot be told",
            crate::words::counted(marked.len(), "part"),
        )),
    }
}

#[cfg(test)]
mod tests;
