//! Texts that a model goes on with, token by token.
//!
//! Keys and values of what was read stay on the device, so that each token costs one step. Rows of unequal length lie side by
//! side without padding in front: each has its own positions and sees its own tokens.

mod decoding;
mod on_policy;
mod sampling;
mod text;

use std::fmt;

use crate::device::Device;
use crate::error::Error;
use crate::models::decoder::{MOST_CHOSEN, Room};
use crate::models::{Decoder, ModelConfig};
use crate::objective::Parameters;
use crate::store::{Store, Stored};

pub(crate) use decoding::{Decoding, Job};
pub(crate) use on_policy::{Text, Writer, WritingPlans};
pub use sampling::Sampling;
pub use text::{Continuation, End, Prompt, TextGenerator};

/// The decoder that a model is.
fn decoder_of(config: &ModelConfig) -> Result<&Decoder, Error> {
    config.decoder().ok_or_else(|| Error::Unsupported {
        what: "this model goes on with no text".to_owned(),
        instead: "give a Llama, Mistral, Qwen or GPT-2".to_owned(),
    })
}

/// A model of next tokens on a device, with the keys and values of the texts that it has read.
pub struct Generator<'a> {
    device: &'a mut dyn Device,
    model: Store,
    decoding: Decoding<'a>,
}

impl fmt::Debug for Generator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("decoding", &self.decoding).finish_non_exhaustive()
    }
}

impl<'a> Generator<'a> {
    /// Puts a model on a device, with room for so many texts of so many tokens.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it guesses no next tokens; when the device has no room.
    pub fn new<'p, 's>(
        device: &'a mut dyn Device,
        config: &'a ModelConfig,
        parameters: impl Into<Parameters<'p>>,
        stored: impl Into<Stored<'s>>,
        room: Room,
    ) -> Result<Self, Error> {
        let decoder = decoder_of(config)?;
        let model = parameters.into().store(device, config, stored)?;
        match Decoding::new(device, decoder, model.layout.clone(), room) {
            Ok(decoding) => Ok(Self { device, model, decoding }),
            Err(error) => {
                model.free(device);
                Err(error)
            }
        }
    }

    /// Texts.
    pub fn rows(&self) -> usize {
        self.decoding.room().rows
    }

    /// Tokens that were read of each text.
    pub fn lengths(&self) -> &[usize] {
        self.decoding.lengths()
    }

    /// How many tokens [`Self::write`] does best to choose at once. Each costs its whole step, also of texts that have ended in
    /// between, and a device on the processor has nothing to wait for between two of them.
    pub fn chosen_at_once(device: &dyn Device) -> usize {
        if device.caps().software { 1 } else { MOST_CHOSEN }
    }

    /// Reads these tokens behind those that were read of each text, none of some. Logits [rows, vocab_size] of what follows
    /// each text's last token; zeros for a text of which nothing is read now.
    ///
    /// # Errors
    /// When there are more tokens than there is room for, or the device fails.
    ///
    /// # Panics
    /// When there are not as many lists as texts.
    pub fn read(&mut self, tokens: &[&[i32]]) -> Result<Vec<f32>, Error> {
        self.decoding.read((self.device, &self.model), tokens)
    }

    /// As [`Self::read`], where nobody asks what follows.
    ///
    /// # Errors
    /// As [`Self::read`].
    ///
    /// # Panics
    /// As [`Self::read`].
    pub fn take_in(&mut self, tokens: &[&[i32]]) -> Result<(), Error> {
        self.decoding.take_in((self.device, &self.model), tokens)
    }

    /// Reads one token of each text, none of some, chooses the next one, reads that, and so on: `count` tokens of each
    /// text, at most [`MOST_CHOSEN`], of which all but the last are read. What a text of which nothing is read is given is of no use.
    ///
    /// # Errors
    /// When there is no room for so many tokens, a logit is no number, or the device fails.
    ///
    /// # Panics
    /// When there are not as many tokens as texts, or more are asked for.
    pub fn write(
        &mut self,
        last: &[Option<i32>],
        sampling: &Sampling,
        count: usize,
    ) -> Result<Vec<Vec<i32>>, Error> {
        let texts: Vec<u32> = (0..self.rows() as u32).collect();
        self.decoding.write((self.device, &self.model), last, (sampling, &texts), count)
    }

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> u64 {
        self.decoding.cache_bytes()
    }
}

impl Drop for Generator<'_> {
    fn drop(&mut self) {
        self.decoding.release(self.device);
        self.model.release(self.device);
    }
}
