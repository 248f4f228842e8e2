//! A cache that is read: where the answer to each document lies.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::binding::{Binding, Identity, Kind};
use super::part::Part;
use super::shelf::Shelf;
use crate::error::Error;
use crate::files::bad;
use crate::models::{BatchEncoder, DocumentHash, Input, ModelConfig};
use crate::words::{counted_thousands, thousands};

/// Files that are open at one time.
const MOST_OPEN: usize = 64;
/// Letters of a document that a message shows.
const SHOWN: usize = 60;

/// A teacher's answers on disk.
#[derive(Debug)]
pub struct TeacherCache {
    shelf: Shelf,
    identity: Identity,
    /// The most that answers may be from the teacher's.
    limit: f64,
    names: Vec<String>,
    /// The file of each document, and its number in it.
    places: HashMap<DocumentHash, (u32, u32)>,
    /// Files that were read last, the latest at the end.
    open: Mutex<Vec<(u32, Arc<Part>)>>,
}

/// Where the answers to a data set's examples lie, in order.
#[derive(Clone, Debug)]
pub struct Places {
    documents: Vec<(u32, u32, u32)>,
    /// Behind the last document of each example.
    ends: Vec<usize>,
}

impl Places {
    /// File, number in it, and rows of each document of an example.
    pub(super) fn of(&self, example: usize) -> &[(u32, u32, u32)] {
        let start = example.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.documents[start..self.ends[example]]
    }
}

impl TeacherCache {
    /// Opens a cache of what is kept of this model.
    ///
    /// # Errors
    /// [`Error::Model`] naming the folder or the file when there is none, it is damaged, or it is of another teacher: what
    /// differs is named.
    pub fn open(folder: &Path, config: &ModelConfig, binding: Binding) -> Result<Self, Error> {
        let shelf = Shelf::open(folder)?;
        let names = shelf.names()?;
        let (mut identity, mut places) = (None, HashMap::new());
        let mut limit: f64 = 0.0;
        for (file, name) in names.iter().enumerate() {
            let part = Part::open(&shelf, name)?;
            let known: &mut Identity = match &mut identity {
                Some(known) => known,
                None => {
                    let numbers = part.identity().numbers;
                    identity.insert(Identity::new(config, numbers, binding.clone())?)
                }
            };
            refuse_other(&shelf, name, known, &part)?;
            limit = limit.max(part.limit());
            let documents = part.documents().iter().enumerate();
            for (number, hash) in documents {
                places.entry(*hash).or_insert((file as u32, number as u32));
            }
        }
        let Some(identity) = identity else {
            return Err(bad(
                folder,
                "has no answers of a teacher yet: `distil-gpu label` writes those of the recipe",
            ));
        };
        Ok(Self { shelf, identity, limit, names, places, open: Mutex::default() })
    }

    /// What is kept.
    pub fn kind(&self) -> Kind {
        self.identity.kind
    }

    /// What its files have in common.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The most that its answers may be from the teacher's.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.shelf.folder()
    }

    /// Number of documents that it answers.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where the answer to a document lies.
    pub(super) fn place(&self, hash: &DocumentHash) -> Option<(u32, u32)> {
        self.places.get(hash).copied()
    }

    /// Finds the answers to all examples, as the teacher reads them.
    ///
    /// # Errors
    /// [`Error::Model`] when some are missing: how many, and how the first of these begins.
    pub fn find(&self, feed: &BatchEncoder<'_>) -> Result<Places, Error> {
        let mut found = Places { documents: Vec::new(), ends: Vec::new() };
        let (mut missing, mut all, mut first) = (0, 0, None);
        for example in 0..feed.len() {
            for (number, document) in feed.documents(example).into_iter().enumerate() {
                all += 1;
                match self.place(&document.hash) {
                    Some((file, place)) => {
                        found.documents.push((file, place, document.rows as u32));
                    }
                    None => {
                        missing += 1;
                        first.get_or_insert((example, number));
                    }
                }
            }
            found.ends.push(found.documents.len());
        }
        let Some((example, number)) = first else { return Ok(found) };
        let begins = beginning(feed, example, number)
            .map_or_else(String::new, |text| format!(", which begins \"{text}\""));
        Err(bad(
            self.folder(),
            format!(
                "has no answers to {} of {} that the student learns from: the first is document {number} of example \
                 {example}{begins}. `distil-gpu label` adds what is missing; documents are told by their tokens, so they \
                 must be cut at the same `max_length` and have the same `loss_on` as those that were labelled",
                thousands(missing),
                counted_thousands(all, "document"),
            ),
        ))
    }

    fn part(&self, file: u32) -> Result<Arc<Part>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().position(|(known, _)| *known == file);
        let part = match known {
            Some(at) => open.remove(at).1,
            None => Arc::new(Part::open(&self.shelf, &self.names[file as usize])?),
        };
        if open.len() == MOST_OPEN {
            open.remove(0);
        }
        open.push((file, part.clone()));
        Ok(part)
    }

    /// Reads the answer to a document, [rows, width].
    ///
    /// # Errors
    /// [`Error::Model`] naming the file when it is damaged or another than it was, or [`Error::Io`].
    pub(super) fn read(&self, (file, number): (u32, u32), out: &mut [f32]) -> Result<(), Error> {
        let part = self.part(file)?;
        let rows = out.len() / self.identity.width;
        if part.documents().len() <= number as usize || part.rows(number as usize).len() != rows {
            let path = self.shelf.path(&self.names[file as usize]);
            let problem =
                format!("answers a document by another number of rows than {rows}: label anew");
            return Err(bad(&path, problem));
        }
        part.read(number as usize, out)
    }
}

/// Refuses a file of another teacher than it should be of, naming what differs.
///
/// # Errors
/// [`Error::Model`].
pub(crate) fn refuse_other(
    shelf: &Shelf,
    name: &str,
    own: &Identity,
    part: &Part,
) -> Result<(), Error> {
    let differences = own.differences(part.identity());
    if differences.is_empty() {
        return Ok(());
    }
    Err(bad(
        &shelf.path(name),
        format!(
            "these answers are not this teacher's, or were kept otherwise: {}. Choose another folder for \
             `distil-gpu label`, or give the teacher that they are of",
            differences.join("; ")
        ),
    ))
}

/// How a document's text begins, where it is one.
fn beginning(feed: &BatchEncoder<'_>, example: usize, number: usize) -> Option<String> {
    let Input::Tokens(tokens) = feed.input() else { return None };
    let ids = match feed.piece(example, number) {
        Some(ids) => ids,
        None => feed.tokens().row(example).0,
    };
    let ids = &ids[..ids.len().min(SHOWN)];
    let text = tokens.tokenizer().ok()?.decode(ids).ok()?;
    Some(text.chars().take(SHOWN).collect())
}
