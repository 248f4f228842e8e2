//! A model as requests see it: what it can do, and how what they send becomes rows.

use std::sync::Arc;

use distil_gpu_engine::data::text::EncodedText;
use distil_gpu_engine::data::{Question, Questions, Text, TextEncoder, Tokens, Windows, Words};
use distil_gpu_engine::models::{self, Input, ModelConfig, Output, SentenceStep};
use distil_gpu_engine::store::Storage;
use distil_gpu_engine::task::TaskRef;

use crate::ServeError;
use crate::options::Named;
use crate::refusal::{Kind, Refusal};

/// What a model makes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Scores of classes or labels, or values, for a text or a pair.
    Scores,
    /// The same for a row of numbers, of which there are so many.
    Numbers(usize),
    /// A class for each word.
    Words,
    /// A part of a context, for a question.
    Answers,
    /// A vector for a text.
    Embeds,
}

impl Does {
    /// For sentences: "the model …".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Scores => "gives scores to texts: ask /predict",
            Self::Numbers(_) => "gives scores to rows of numbers: ask /predict",
            Self::Words => "tells the classes of words: ask /predict",
            Self::Answers => "answers questions: ask /predict",
            Self::Embeds => "makes vectors of texts: ask /embed or /v1/embeddings",
        }
    }
}

/// What the device reads of one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Token numbers; none where inputs are numbers.
    pub ids: Vec<i32>,
    /// Which of two texts each is of.
    pub types: Vec<i32>,
    /// The tokens that stand for words, by place, where words are told apart.
    pub places: Vec<usize>,
    /// An input that is numbers.
    pub numbers: Vec<f32>,
}

impl Row {
    /// What it counts for in queues and batches.
    pub fn tokens(&self) -> usize {
        self.ids.len().max(1)
    }
}

/// A model that is served.
#[derive(Debug)]
pub struct Model {
    pub named: Named,
    pub config: Arc<ModelConfig>,
    /// What its matrices are stored in.
    pub storage: Storage,
    pub task: TaskRef,
    pub does: Does,
    encoder: Option<TextEncoder>,
}

impl Model {
    /// Reads what a model's folder says of it; its parameters are read by the thread that has the device.
    ///
    /// # Errors
    /// When the folder is no model's, or the model does what is not served.
    pub fn load(named: Named) -> Result<Self, ServeError> {
        let config = models::load_config(&named.folder)?;
        let does = match (config.output(), &config.input) {
            (Output::Classes(_), Input::Tokens(_)) => Does::Scores,
            (Output::Classes(_), Input::Numbers { .. }) => Does::Numbers(config.input.len()),
            (Output::Tokens(_), _) => Does::Words,
            (Output::Span, _) => Does::Answers,
            (Output::Embedding(_), _) => Does::Embeds,
            _ => {
                let name = &named.name;
                return Err(ServeError::Options(format!(
                    "`{name}` guesses tokens, and that is not served: serve a classifier, a regression, a model of words, of \
                     answers or of vectors; `distil-gpu generate` runs language models"
                )));
            }
        };
        let encoder = match &config.input {
            Input::Tokens(tokens) => {
                tokens.tokenizer().map_err(distil_gpu_engine::Error::from)?;
                let tokenizer = tokens.tokenizer.clone();
                let encoder = tokenizer.map(|one| TextEncoder::new(one, tokens.max_length));
                encoder.transpose().map_err(distil_gpu_engine::Error::from)?
            }
            Input::Numbers { .. } => None,
        };
        let task = TaskRef::of_model(&config);
        let storage = models::storage(&named.folder)?;
        Ok(Self { named, config: Arc::new(config), storage, task, does, encoder })
    }

    /// Most tokens of a text; 0 of a model of numbers.
    pub fn max_length(&self) -> usize {
        self.encoder.as_ref().map_or(0, TextEncoder::max_length)
    }

    /// Whether its vectors have length 1.
    pub fn normalises(&self) -> bool {
        let steps = self.config.encoder().map(|encoder| &encoder.sentence.steps);
        steps.and_then(|steps| steps.last()) == Some(&SentenceStep::Normalise)
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// When it reads no texts.
    pub fn encoder(&self) -> Result<&TextEncoder, Refusal> {
        self.encoder.as_ref().ok_or_else(|| {
            let name = &self.named.name;
            Refusal::invalid(format!("`{name}` reads numbers, and has no tokenizer"))
        })
    }

    /// Checks what the model is asked to do.
    ///
    /// # Errors
    /// When it does something else.
    pub fn expect(&self, asked: &[Does], route: &str) -> Result<(), Refusal> {
        let alike =
            |does: &Does| std::mem::discriminant(does) == std::mem::discriminant(&self.does);
        if asked.iter().any(alike) {
            return Ok(());
        }
        let (name, sentence) = (&self.named.name, self.does.sentence());
        Err(Refusal::invalid(format!("{route} is not what `{name}` does, which {sentence}")))
    }

    /// A text or a pair as tokens.
    ///
    /// # Errors
    /// When it cannot be encoded, or is too long and may not be cut.
    pub fn text(&self, text: &Text, truncate: bool) -> Result<Row, Refusal> {
        let encoder = self.encoder()?;
        let encoded = encoder.encode(text).map_err(unfit)?;
        if encoded.cut && !truncate {
            let pieces = encoder.pieces(&text.first, true).map_err(unfit)?.len();
            return Err(self.too_long(pieces.max(encoder.max_length() + 1)));
        }
        let EncodedText { ids, types, .. } = encoded;
        self.checked(Row { ids, types, ..Row::default() })
    }

    /// Words as tokens, the first of each standing for it; `None` of a word that is cut off.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn words(&self, words: Vec<String>, truncate: bool) -> Result<(Row, Vec<bool>), Refusal> {
        let words = Words::new(vec![words]).map_err(unfit)?;
        let tokens = self.encoder()?.encode_words(&words).map_err(unfit)?;
        if tokens.tokens().cut() > 0 && !truncate {
            return Err(self.too_long(self.max_length() + 1));
        }
        let firsts = tokens.firsts(0);
        let mut row = row_of(tokens.tokens(), 0);
        row.places = firsts.iter().flatten().map(|&place| place as usize).collect();
        Ok((self.checked(row)?, firsts.iter().map(Option::is_some).collect()))
    }

    /// A question as tokens, with as many windows of its context as it takes.
    ///
    /// # Errors
    /// When the question leaves no room for its context.
    pub fn question(&self, question: &Question) -> Result<(Vec<Row>, Windows), Refusal> {
        let questions = Questions::new(vec![question.clone()]).map_err(unfit)?;
        let windows = self.config.input.windows(&questions, None).map_err(unfit)?;
        let rows = (0..windows.len()).map(|window| self.checked(row_of(windows.tokens(), window)));
        Ok((rows.collect::<Result<_, _>>()?, windows))
    }

    /// Holds tokens to the model's tables, as a tokenizer may be another model's.
    fn checked(&self, row: Row) -> Result<Row, Refusal> {
        if let Input::Tokens(input) = &self.config.input {
            let mut tokens = Tokens::default();
            let numbers = |ids: &[i32]| -> Vec<u32> { ids.iter().map(|id| *id as u32).collect() };
            tokens.push(&numbers(&row.ids), &numbers(&row.types), false);
            input.check(&tokens).map_err(unfit)?;
        }
        Ok(row)
    }

    fn too_long(&self, tokens: usize) -> Refusal {
        let most = self.max_length();
        Refusal::new(
            Kind::Tokens,
            format!(
                "the text has {tokens} tokens or more, and the model reads {most}: shorten it, or leave `truncate` on"
            ),
        )
    }
}

fn row_of(tokens: &Tokens, row: usize) -> Row {
    let (ids, types) = tokens.row(row);
    Row { ids: ids.to_vec(), types: types.to_vec(), ..Row::default() }
}

/// What texts cannot become, as the answer to a request.
fn unfit(error: distil_gpu_engine::data::DataError) -> Refusal {
    Refusal::new(Kind::Tokens, error.to_string())
}
