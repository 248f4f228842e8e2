//! Prompts that become texts.

use super::{Decoding, Generator, Sampling, decoder_of};
use crate::data::text::{ChatTemplate, Document, DocumentEncoder, LossOn, Message, Role, Stream};
use crate::data::{DataError, Tokenizer};
use crate::device::Device;
use crate::error::Error;
use crate::models::decoder::Room;
use crate::models::{Input, ModelConfig};
use crate::objective::Parameters;
use crate::store::{Store, Stored};
use crate::words;

/// What a model is given to go on from.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// A chat, which the assistant answers.
    Chat(Vec<Message>),
}

impl Prompt {
    /// What stands before a document's completion, or before the last answer of a chat; nothing of a plain text.
    pub fn of(document: &Document) -> Option<Self> {
        match document {
            Document::Text(_) => None,
            Document::Prompted { prompt, .. } => Some(Self::Text(prompt.clone())),
            Document::Chat(chat) => {
                let last = chat.messages.iter().rposition(|one| one.role == Role::Assistant);
                let last = last.unwrap_or(chat.messages.len());
                Some(Self::Chat(chat.messages[..last].to_vec()))
            }
        }
    }

    /// What is shown of it: a text, or the last message of a chat.
    pub fn shown(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Chat(messages) => messages.last().map_or("", |one| &one.content),
        }
    }
}

/// How a continuation came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

impl End {
    /// Its name, as servers of language models have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What a model made of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// The text, without the prompt.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How it ended.
    pub end: End,
}

/// A model that goes on with texts.
#[derive(Debug)]
pub struct TextGenerator<'a> {
    config: &'a ModelConfig,
    parameters: Parameters<'a>,
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>,
    /// Tokens that end a text.
    stops: Vec<i32>,
    /// Texts that end one, and are not part of it.
    pub stop_texts: Vec<String>,
    /// The most tokens of a continuation.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most texts that are written side by side.
    pub rows: usize,
}

/// Takes texts that were written side by side, of which the first has this number.
type Take<'t> = dyn FnMut(&mut dyn Device, usize, Vec<Continuation>) -> Result<(), Error> + 't;

/// A text that is being written.
struct Writing<'a> {
    tokens: Vec<i32>,
    prompt: usize,
    stream: Stream<'a>,
    text: String,
    end: Option<End>,
    /// Bytes of the text that were told.
    told: usize,
    stopped_by_text: bool,
}

impl<'a> TextGenerator<'a> {
    /// A model with its tokenizer.
    ///
    /// # Errors
    /// When it has no tokenizer, or its chat template cannot be used.
    pub fn new(
        config: &'a ModelConfig,
        parameters: impl Into<Parameters<'a>>,
    ) -> Result<Self, Error> {
        let Input::Tokens(tokens) = &config.input else {
            return Err(DataError::Unfit("the model reads no texts".to_owned()).into());
        };
        let tokenizer = tokens.tokenizer()?;
        let template = ChatTemplate::of(tokenizer)?;
        let stops =
            DocumentEncoder::new(tokenizer, template.clone(), LossOn::default())?.stops()?;
        Ok(Self {
            config,
            parameters: parameters.into(),
            tokenizer,
            template,
            stops,
            stop_texts: Vec::new(),
            max_tokens: 128,
            sampling: Sampling::default(),
            rows: 16,
        })
    }

    /// The model.
    pub(crate) fn model(&self) -> (&'a ModelConfig, &Parameters<'a>) {
        (self.config, &self.parameters)
    }

    /// Whether it answers chats.
    pub fn chats(&self) -> bool {
        self.template.is_some()
    }

    /// A prompt's tokens.
    ///
    /// # Errors
    /// When it is a chat and there is no template, or it becomes no token.
    pub fn encode(&self, prompt: &Prompt) -> Result<Vec<i32>, Error> {
        let (text, mut ids) = match (prompt, &self.template) {
            (Prompt::Text(text), _) => (text.clone(), self.tokenizer.opening()?),
            (Prompt::Chat(messages), Some(template)) => {
                (template.render(messages, true)?, Vec::new())
            }
            (Prompt::Chat(_), None) => {
                let problem = "the model has no chat template: give a plain prompt, or put a chat_template.jinja into \
                               its folder";
                return Err(DataError::Unfit(problem.to_owned()).into());
            }
        };
        if !text.is_empty() {
            let placed = self.tokenizer.placing().encode(&[&text])?;
            let own = placed.into_iter().flat_map(|placed| placed.ids).collect::<Vec<_>>();
            if own.starts_with(&ids) {
                ids.clear();
            }
            ids.extend(own);
        }
        if ids.is_empty() {
            // A model without a token for the beginning begins behind the end of another text.
            ids.extend(self.tokenizer.special("bos_token").or(self.stops.first().copied()));
        }
        match ids.is_empty() {
            true => Err(DataError::Unfit("the prompt becomes no token".to_owned()).into()),
            false => Ok(ids),
        }
    }

    /// Goes on with all prompts. `told` is called with a prompt's number and each piece of its text as it comes.
    ///
    /// # Errors
    /// When a prompt becomes no token, there are more tokens than the model was made for, or the device fails.
    pub fn run<'s>(
        &self,
        device: &mut dyn Device,
        stored: impl Into<Stored<'s>>,
        prompts: &[Prompt],
        told: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Continuation>, Error> {
        let encoded: Vec<Vec<i32>> =
            prompts.iter().map(|prompt| self.encode(prompt)).collect::<Result<_, _>>()?;
        if prompts.is_empty() || self.max_tokens == 0 {
            return Ok(Vec::new());
        }
        let model = self.parameters.store(device, self.config, stored)?;
        let mut all = Vec::new();
        let made = self.run_on(device, &model, &encoded, 0, told, &mut |_, _, made| {
            all.extend(made);
            Ok(())
        });
        model.free(device);
        made.map(|()| all)
    }

    /// Goes on with these prompts on a device where the model is, `rows` after `rows`, and hands out what becomes of them; the
    /// first has this number.
    pub(crate) fn run_on(
        &self,
        device: &mut dyn Device,
        model: &Store,
        encoded: &[Vec<i32>],
        first: usize,
        told: &mut dyn FnMut(usize, &str),
        take: &mut Take<'_>,
    ) -> Result<(), Error> {
        let decoder = decoder_of(self.config)?;
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(0);
        if longest + self.max_tokens > decoder.max_position_embeddings {
            return Err(Error::Unsupported {
                what: format!(
                    "prompt and continuation are up to {} tokens, and this model was made for {}",
                    longest + self.max_tokens,
                    decoder.max_position_embeddings
                ),
                instead: "give a shorter prompt, or ask for fewer tokens".to_owned(),
            });
        }
        let rows = self.rows.clamp(1, encoded.len().max(1));
        let at_once = Generator::chosen_at_once(device);
        let capacity = longest + self.max_tokens.next_multiple_of(at_once);
        let room = Room { rows, capacity, said: self.sampling.penalises() };
        let mut decoding = Decoding::new(device, decoder, model.layout.clone(), room)?;
        let mut run = || {
            for (number, encoded) in encoded.chunks(rows).enumerate() {
                let first = first + number * rows;
                let made = self.together(device, model, &mut decoding, encoded, first, told)?;
                take(device, first, made)?;
            }
            Ok(())
        };
        let made = run();
        decoding.release(device);
        made
    }

    /// Goes on with prompts side by side, for which there is room.
    fn together(
        &self,
        device: &mut dyn Device,
        model: &Store,
        decoding: &mut Decoding<'_>,
        encoded: &[Vec<i32>],
        first: usize,
        told: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Continuation>, Error> {
        let mut writings: Vec<Writing<'_>> = encoded
            .iter()
            .map(|ids| Writing {
                tokens: ids.clone(),
                prompt: ids.len(),
                stream: self.tokenizer.stream(false),
                text: String::new(),
                end: None,
                told: 0,
                stopped_by_text: false,
            })
            .collect();
        let prompts: Vec<&[i32]> = encoded.iter().map(Vec::as_slice).collect();
        let numbers: Vec<u32> = (first..first + encoded.len()).map(|text| text as u32).collect();
        let how = (&self.sampling, Generator::chosen_at_once(device));
        decoding.go_on((device, model), (&prompts, &numbers), how, &mut |row, token| {
            self.push(&mut writings[row], token, &mut |piece| told(first + row, piece))?;
            Ok(writings[row].end.is_none())
        })?;
        writings
            .into_iter()
            .enumerate()
            .map(|(row, writing)| self.finish(first + row, writing, told))
            .collect()
    }

    /// Adds a token to a text, which may end it.
    fn push(
        &self,
        writing: &mut Writing<'_>,
        token: i32,
        told: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        if self.stops.contains(&token) {
            writing.end = Some(End::Stop);
            return Ok(());
        }
        writing.tokens.push(token);
        let from = writing.text.len();
        let piece = writing.stream.push(token)?;
        writing.text.push_str(&piece);
        self.look_for_stop(writing, from);
        if writing.end.is_none() && writing.tokens.len() - writing.prompt >= self.max_tokens {
            writing.end = Some(End::Length);
        }
        let sure = match writing.end {
            Some(_) => writing.text.len(),
            None => writing.text.len() - self.held_back(&writing.text),
        };
        if sure > writing.told {
            told(&writing.text[writing.told..sure]);
            writing.told = sure;
        }
        Ok(())
    }

    /// Ends a text in front of the first text that ends one, which may have begun before `from`.
    fn look_for_stop(&self, writing: &mut Writing<'_>, from: usize) {
        let stops = self.stop_texts.iter().filter_map(|stop| {
            let from = words::floor_char_boundary(&writing.text, from.saturating_sub(stop.len()));
            writing.text[from..].find(stop.as_str()).map(|at| from + at)
        });
        if let Some(at) = stops.min() {
            writing.text.truncate(at);
            writing.end = Some(End::Stop);
            writing.stopped_by_text = true;
        }
    }

    /// Bytes at the end of a text that may be the beginning of one that ends it.
    fn held_back(&self, text: &str) -> usize {
        let longest = |stop: &String| {
            (1..stop.len())
                .rev()
                .find(|&len| stop.is_char_boundary(len) && text.ends_with(&stop[..len]))
        };
        self.stop_texts.iter().filter_map(longest).max().unwrap_or(0)
    }

    fn finish(
        &self,
        row: usize,
        writing: Writing<'_>,
        told: &mut dyn FnMut(usize, &str),
    ) -> Result<Continuation, Error> {
        let Writing { tokens, prompt, stream, mut text, end, told: given, stopped_by_text } =
            writing;
        if !stopped_by_text {
            text.push_str(&stream.finish()?);
        }
        if given < text.len() {
            told(row, &text[given..]);
        }
        let (prompt_tokens, tokens) = (prompt, tokens[prompt..].to_vec());
        Ok(Continuation { text, tokens, prompt_tokens, end: end.unwrap_or(End::Length) })
    }
}
