//! What a teacher answers to a recipe's training data, written into a cache.
//!
//! The work is cut into files by the data alone: who writes a file, and how often it was begun, changes none of its bytes. So
//! any number of processes may share it, each with the files of its shard, and what was killed goes on where it stopped.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::cached::compare;
use super::setup::{Setup, training_texts};
use crate::data::Dataset;
use crate::device::Device;
use crate::error::Error;
use crate::files::bad;
use crate::measure::Evaluator;
use crate::measure::batches::rows;
use crate::models::{BatchEncoder, Document, DocumentHash, Input, ModelConfig, Source};
use crate::objective::{TeacherAnswers, TeacherModel, store_of};
use crate::recipe::{self, Recipe};
use crate::store::Store;
use crate::teacher_cache::{
    Binding, CachedAnswers, Comparison, Difference, Identity, Kind, Part, PartContent, RowFormat,
    Shelf, TeacherCache, refuse_other,
};

/// Files that a data set makes at most, as long as none is too large: work for as many processes.
const FILES: usize = 256;
/// The most bytes of a file's answers, as f32.
const FILE_BYTES: usize = 128 << 20;

/// One of several equal shares of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are.
    pub count: NonZeroUsize,
}

impl Shard {
    /// All of the work.
    pub const WHOLE: Self = Self { number: 0, count: NonZeroUsize::MIN };

    fn has(self, file: usize) -> bool {
        file % self.count == self.number
    }
}

/// How a teacher's answers are kept.
#[derive(Clone, Debug)]
pub struct Labelling {
    /// The folder; the recipe's `teacher.cache` unless given.
    pub folder: Option<PathBuf>,
    /// How numbers are stored; unless given, hidden states in f16 and other answers in f32.
    pub numbers: Option<RowFormat>,
    /// What of the work is done.
    pub shard: Shard,
    /// The most that a file's answers may be from the teacher's; see [`Difference`].
    pub limit: f64,
}

/// What was labelled.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The folder.
    pub folder: PathBuf,
    /// What is kept.
    pub identity: Identity,
    /// Files that were written, and that were there already.
    pub files: [usize; 2],
    /// Documents in both.
    pub documents: usize,
    /// Rows of answers in both.
    pub rows: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// How far they are from the teacher's answers, by a sample of each file.
    pub difference: Difference,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What goes into a file.
struct Planned {
    name: String,
    /// Examples that the teacher is asked together.
    batches: Vec<Vec<u32>>,
    /// The documents of those, in order, and whether they are kept: another file may have them.
    documents: Vec<(Document, bool)>,
}

impl Planned {
    fn kept(&self) -> Vec<Document> {
        let kept = self.documents.iter().filter(|(_, kept)| *kept);
        kept.map(|(document, _)| *document).collect()
    }
}

/// The files of a data set. They depend on the data alone.
fn plan(config: &ModelConfig, feed: &BatchEncoder<'_>, width: usize) -> Vec<Planned> {
    let (together, examples) = (rows(config), feed.len());
    let mut seen = HashSet::new();
    let documents: Vec<Vec<(Document, bool)>> = (0..examples)
        .map(|example| {
            let documents = feed.documents(example).into_iter();
            documents.map(|document| (document, seen.insert(document.hash))).collect()
        })
        .collect();
    let all_rows: usize = documents.iter().flatten().map(|(document, _)| document.rows).sum();
    let batches = examples.div_ceil(together);
    let batch_bytes = (all_rows.div_ceil(batches) * width * 4).max(1);
    let most = (FILE_BYTES / batch_bytes).max(1);
    let of_file = batches.div_ceil(FILES).next_power_of_two().min(most) * together;
    let all: Vec<u32> = (0..examples as u32).collect();
    let file = |own: &[u32]| {
        let mut order = own.to_vec();
        if matches!(config.input, Input::Tokens(_)) {
            // Texts of about one length have little padding.
            order.sort_by_key(|&example| feed.tokens().length(example as usize));
        }
        let documents: Vec<(Document, bool)> =
            order.iter().flat_map(|&example| documents[example as usize].clone()).collect();
        let kept = documents.iter().filter(|(_, kept)| *kept);
        let hashes: Vec<u8> = kept.flat_map(|(document, _)| document.hash.0).collect();
        let name = Shelf::name_of(&DocumentHash::of(&[&hashes]).to_string());
        let batches = order.chunks(together).map(<[u32]>::to_vec).collect();
        (!hashes.is_empty()).then_some(Planned { name, batches, documents })
    };
    all.chunks(of_file).filter_map(file).collect()
}

/// A teacher that is ready to be asked about a recipe's training data.
struct Asked {
    setup: Setup,
    data: Dataset,
    binding: Binding,
    folder: PathBuf,
}

impl Asked {
    fn of(recipe: &Recipe, folder: Option<&Path>) -> Result<Self, Error> {
        let recipe::Teacher::Folder { .. } = &recipe.teacher else {
            return Err(Error::Unsupported {
                what: "a cache is of a teacher that is there already".to_owned(),
                instead: "give `teacher.folder`: that of a finished run is RUN/teacher".to_owned(),
            });
        };
        let Some(folder) = folder.or(recipe.teacher.cache()) else {
            return Err(Error::Unsupported {
                what: "it is not said where the teacher's answers are to be kept".to_owned(),
                instead: "set `teacher.cache` in the recipe to the path of a folder".to_owned(),
            });
        };
        let folder = folder.to_owned();
        let teacher = recipe.teacher.clone().without_cache();
        let setup = Setup::read(&Recipe { teacher, ..recipe.clone() }, None)?;
        let data = recipe.task.training_data(&*training_texts(&setup.split)?, &setup.student)?;
        let (config, source) = teacher_of(&setup);
        let binding = Binding::of(config, source, recipe.teacher.weights())?;
        Ok(Self { setup, data, binding, folder })
    }

    fn teacher(&self, device: &mut dyn Device) -> Result<TeacherModel, Error> {
        let (config, source) = teacher_of(&self.setup);
        let store = store_of(device, config, source, &*self.setup.teacher_types)?;
        Ok(TeacherModel { config: config.clone(), store })
    }
}

/// A loaded teacher and where its parameters lie.
fn teacher_of(setup: &Setup) -> (&ModelConfig, &Source) {
    let both = setup.teacher.as_ref().zip(setup.teacher_source.as_deref());
    both.expect("a teacher of a folder is loaded")
}

/// What a file is written with.
struct Writer<'a, 'd> {
    device: &'d mut dyn Device,
    feed: &'a BatchEncoder<'a>,
    shelf: &'a Shelf,
    identity: &'a Identity,
    evaluator: Evaluator<'a>,
    comparison: Comparison<'a>,
    limit: f64,
}

impl Writer<'_, '_> {
    /// Asks the teacher what a file is to hold, and writes it.
    fn write(&mut self, file: &Planned, progress: &mut dyn FnMut(usize)) -> Result<(), Error> {
        let path = self.shelf.path(&file.name);
        let Identity { numbers, width, .. } = *self.identity;
        let (mut values, mut documents) = (Vec::new(), file.documents.iter());
        for batch in &file.batches {
            let answers = self.evaluator.kept(self.device, self.feed, batch)?;
            let count = batch.iter().map(|&row| self.feed.documents(row as usize).len()).sum();
            let mut at = 0;
            for (document, kept) in documents.by_ref().take(count) {
                let end = at + document.rows * width;
                if *kept {
                    values.extend_from_slice(&answers[at..end]);
                }
                at = end;
            }
            progress(batch.len());
        }
        let stored = numbers.encode(&values, width).map_err(|problem| bad(&path, problem))?;
        let mut found = vec![0.0; values.len()];
        numbers.decode([&stored[0], &stored[1]], width, &mut found);
        let exact = self.comparison.sample(&values);
        let difference = self.comparison.of(self.device, exact, &found[..exact.len()])?;
        if difference.error.is_nan() || difference.error > self.limit {
            return Err(Error::Unsupported {
                what: format!(
                    "in {} the teacher's answers are {} off, and {:.1e} is the most",
                    numbers.name(),
                    difference.in_words(),
                    self.limit
                ),
                instead: "store them with more bits (`--numbers f16` or `f32`), or raise `--limit`"
                    .to_owned(),
            });
        }
        let content = PartContent {
            identity: self.identity,
            documents: &file.kept(),
            stored: &stored,
            difference,
            limit: self.limit,
        };
        self.shelf.write(&file.name, &content.bytes(&path)?)
    }
}

/// Writes what a recipe's teacher answers to its training data, but for files that are there and whole. `progress` is told of
/// every few examples that are done, of so many in all.
///
/// # Errors
/// When the recipe has no finished teacher, the folder holds answers of another one, those are not near enough to be kept, or
/// a file cannot be written.
pub fn label(
    recipe: &Recipe,
    how: &Labelling,
    device: &mut dyn Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Labelled, Error> {
    let asked = Asked::of(recipe, how.folder.as_deref())?;
    let teacher_config = teacher_of(&asked.setup).0;
    let numbers = how.numbers.unwrap_or(match Kind::of(teacher_config)? {
        Kind::Hidden => RowFormat::F16,
        Kind::Logits => RowFormat::F32,
    });
    let identity = Identity::new(teacher_config, numbers, asked.binding.clone())?;
    let feed = BatchEncoder::new(&teacher_config.input, asked.data.examples())?;
    let shelf = Shelf::write_to(&asked.folder)?;
    if let Some(name) = shelf.names()?.first()
        && let Ok(part) = Part::open(&shelf, name)
    {
        refuse_other(&shelf, name, &identity, &part)?;
    }
    let files = plan(teacher_config, &feed, identity.width);
    let own: Vec<&Planned> = files
        .iter()
        .enumerate()
        .filter(|(number, _)| how.shard.has(*number))
        .map(|(_, file)| file)
        .collect();
    let mut notes = Vec::new();
    let mut missing = Vec::new();
    for &file in &own {
        match whole(&shelf, &file.name, &identity) {
            Ok(true) => {}
            Ok(false) => missing.push(file),
            Err(error @ Error::Model { .. }) => {
                notes.push(format!("Written anew: {error}"));
                missing.push(file);
            }
            Err(error) => return Err(error),
        }
    }
    let teacher = asked.teacher(device)?;
    let of_teacher: (&ModelConfig, &Store) = (&teacher.config, &teacher.store);
    let mut evaluator = Evaluator::new(of_teacher.0, of_teacher.1);
    evaluator.prepare_kept(device, &feed, &mut missing.iter().flat_map(|file| &file.batches))?;
    let temperature = recipe.distil.temperature;
    let comparison = Comparison::new(device, of_teacher, identity.width, temperature)?;
    let (limit, all) = (how.limit, examples(&missing));
    let mut writer = Writer {
        device,
        feed: &feed,
        shelf: &shelf,
        identity: &identity,
        evaluator,
        comparison,
        limit,
    };
    for file in &missing {
        writer.write(file, &mut |examples| progress(examples, all))?;
    }
    let Writer { device, evaluator, comparison, .. } = writer;
    evaluator.close(device);
    comparison.close(device);
    Box::new(teacher).free(device);
    let mut labelled = Labelled {
        folder: asked.folder,
        identity,
        files: [missing.len(), own.len() - missing.len()],
        documents: 0,
        rows: 0,
        bytes: 0,
        difference: Difference::default(),
        notes,
    };
    for file in own {
        let part = Part::open(&shelf, &file.name)?;
        labelled.documents += part.documents().len();
        labelled.rows += file.kept().iter().map(|document| document.rows).sum::<usize>();
        labelled.bytes += part.bytes();
        labelled.difference = labelled.difference.and(part.difference());
    }
    Ok(labelled)
}

fn examples(files: &[&Planned]) -> usize {
    files.iter().flat_map(|file| &file.batches).map(Vec::len).sum()
}

/// Whether a file is there; then it is read to its end.
///
/// # Errors
/// [`Error::Model`] when it is damaged, else when it cannot be read; [`Error::Unsupported`] when it is of another teacher.
fn whole(shelf: &Shelf, name: &str, identity: &Identity) -> Result<bool, Error> {
    if !shelf.has(name) {
        return Ok(false);
    }
    let part = Part::open(shelf, name)?;
    if let Err(Error::Model { path, problem }) = refuse_other(shelf, name, identity, &part) {
        return Err(Error::Run { path, problem });
    }
    part.check()?;
    Ok(true)
}

/// Asks a recipe's teacher again, on this device, about a share of the examples that its cache answers, and compares.
///
/// # Errors
/// When there is no cache of this teacher, or answers are missing or damaged.
pub fn verify(
    recipe: &Recipe,
    folder: Option<&Path>,
    share: f64,
    device: &mut dyn Device,
) -> Result<(Difference, f64), Error> {
    let asked = Asked::of(recipe, folder)?;
    let (config, _) = teacher_of(&asked.setup);
    let cache = TeacherCache::open(&asked.folder, config, asked.binding.clone())?;
    let feed = BatchEncoder::new(&config.input, asked.data.examples())?;
    let places = cache.find(&feed)?;
    let teacher = asked.teacher(device)?;
    let count = ((feed.len() as f64 * share).ceil() as usize).clamp(1, feed.len());
    let examples: Vec<u32> = (0..count).map(|n| (n * feed.len() / count) as u32).collect();
    let batches: Vec<Vec<u32>> = examples.chunks(rows(config)).map(<[u32]>::to_vec).collect();
    let cached = CachedAnswers {
        teacher: (&teacher.config, &teacher.store),
        cache: &cache,
        places: &places,
    };
    let found = compare(device, &cached, &feed, &batches, recipe.distil.temperature)?;
    let limit = cache.limit();
    Box::new(teacher).free(device);
    Ok((found, limit))
}
