//! Files of sentences as words, with a tag for each word: tables of lists, and files of a word a line.

use std::collections::HashMap;
use std::path::Path;

use super::read::{Columns, Loaded, Room, skipped_note};
use super::words::Words;
use crate::classes::{Classes, listed};
use crate::files::{Cell, File, Format, Place, Wanted, ending};
use crate::words::counted;
use crate::{DataError, Dataset, TagLabels, targets};

/// Endings of the names of files that have a word a line.
const LINES: [&str; 8] = ["conll", "conllu", "conll03", "bio", "iob", "iob2", "txt", "tsv"];
/// Tokens of a line that parts documents and is no word, in files of CoNLL-2003.
const DOCUMENT: &str = "-DOCSTART-";

/// Loads both files, each sentence being a list of words with a tag for each.
///
/// * Of a table (`.csv`, `.json`, `.jsonl`, `.ndjson`, `.parquet`) the column of the text holds the words and that of
///   the labels their tags, both as lists: arrays of JSON, or lists of Parquet. Tags are names or whole numbers, which
///   become names where a Parquet file has those in Hugging Face's metadata.
/// * Other files (`.conll`, `.conllu`, `.bio`, `.iob`, `.txt`, `.tsv`) have a word a line, its columns parted by tabs if
///   the first line has one, else by blanks; a blank line ends a sentence. The first column is the word and the last the
///   tag, unless the columns of `text` and `label` are numbers, counted from 0. Lines of `-DOCSTART-` are passed over,
///   and those that begin with `#` and have not as many columns as others.
///
/// The names of the tags are the training data's: those of the metadata, else in order of number if all are whole
/// numbers, else sorted.
///
/// # Errors
/// [`DataError`], naming the file, the line or row and the column.
pub fn load_words(train: &Path, test: &Path, columns: Columns<'_>) -> Result<Loaded, DataError> {
    let (train, test) = (Sentences::read(train, columns)?, Sentences::read(test, columns)?);
    let names = train.learn()?;
    let notes =
        [&train, &test].map(|set| skipped_note(set.file.path, set.skipped)).into_iter().flatten();
    let notes = notes.collect();
    Ok(Loaded { train: train.dataset(&names)?, test: test.dataset(&names)?, notes })
}

/// The sentences of a file.
struct Sentences<'a> {
    file: File<'a>,
    /// The column of the tags, for messages.
    column: &'a str,
    words: Vec<Vec<String>>,
    /// Places among `names`.
    tags: Vec<Vec<u32>>,
    /// In the order in which they come.
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    /// Where each name comes first.
    first: Vec<Place>,
    /// All names that the file declares, in order.
    declared: Option<Vec<String>>,
    skipped: usize,
    room: Room,
}

impl<'a> Sentences<'a> {
    fn read(path: &'a Path, columns: Columns<'a>) -> Result<Self, DataError> {
        let file = File::new(path);
        let ([text], [label]) = (columns.text, columns.label) else {
            return Err(file.bad(
                "words are read from one column and their tags from another: name one column in `data.text` and one in \
                 `data.label`",
            ));
        };
        let (names, numbers, first) = Default::default();
        let mut sentences = Self {
            file,
            column: label,
            words: Vec::new(),
            tags: Vec::new(),
            names,
            numbers,
            first,
            declared: None,
            skipped: 0,
            room: Room::new(),
        };
        if has_lines(path) {
            sentences.lines(text, label)?;
        } else {
            sentences.table([text, label], columns.skip_empty)?;
        }
        match (sentences.words.is_empty(), sentences.skipped) {
            (false, _) => Ok(sentences),
            (true, 0) => Err(file.bad("it holds no sentence")),
            (true, skipped) => Err(file.bad(format!("none of its {skipped} rows has words"))),
        }
    }

    fn table(&mut self, columns: [&'a str; 2], skip_empty: bool) -> Result<(), DataError> {
        let file = self.file;
        let format = Format::of(file.path).ok_or_else(|| {
            let lines = LINES.join(", .");
            file.bad(format!(
                "words and their tags are read from .csv, .json, .jsonl, .ndjson and .parquet files, and from those of \
                 a word a line, .{lines}"
            ))
        })?;
        self.declared = file.class_names(format, columns[1])?;
        let wanted = Wanted { columns: &columns, optional: 0, class_names: true, nested: true };
        file.rows(format, wanted, &mut |place, cells| {
            let words =
                words(&cells[0]).map_err(|problem| file.cell(place, columns[0], problem))?;
            let tags = targets::list(&cells[1]).and_then(|tags| {
                let shown = &cells[1];
                tags.ok_or_else(|| format!("{shown} is no list of tags: give one for each word"))
            });
            let tags = tags.map_err(|problem| file.cell(place, columns[1], problem))?;
            if words.is_empty() && tags.is_empty() {
                if skip_empty {
                    self.skipped += 1;
                    return Ok(());
                }
                let problem =
                    "there are no words: take the row out, or set `data.skip_empty = true`";
                return Err(file.cell(place, columns[0], problem));
            }
            if words.len() != tags.len() {
                let (words, tags) = (counted(words.len(), "word"), counted(tags.len(), "tag"));
                let problem = format!("there are {words} and {tags}: give a tag for each word");
                return Err(file.cell(place, columns[1], problem));
            }
            let tags = tags.into_iter().map(|tag| self.number(place, tag)).collect();
            self.push(words, tags)
        })
    }

    fn lines(&mut self, text: &str, label: &str) -> Result<(), DataError> {
        let file = self.file;
        let bytes = file.bytes()?;
        let content = file.text(&bytes)?;
        let is_data = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
        let Some(model) = content.lines().find(is_data) else { return Ok(()) };
        let tabs = model.trim_end().contains('\t');
        let split = |line: &'_ str| -> Vec<String> {
            match tabs {
                true => line.trim_end().split('\t').map(|cell| cell.trim().to_owned()).collect(),
                false => line.split_whitespace().map(str::to_owned).collect(),
            }
        };
        // A line between documents may have fewer columns.
        let of_word = |line: &&str| is_data(line) && !line.starts_with(DOCUMENT);
        let width = content.lines().find(of_word).map_or(0, |line| split(line).len());
        let column = |given: &str, usual: usize| given.parse().unwrap_or(usual);
        let (word, tag) = (column(text, 0), column(label, width.saturating_sub(1)));
        let (mut words, mut tags) = (Vec::new(), Vec::new());
        for line in file.lines(content) {
            let (place, line) = line?;
            let mut cells = split(line);
            if line.trim().is_empty() || line.starts_with(DOCUMENT) {
                self.push(std::mem::take(&mut words), std::mem::take(&mut tags))?;
                continue;
            }
            if line.starts_with('#') && cells.len() != width {
                continue;
            }
            if cells.len() != width || width < 2 || word.max(tag) >= width {
                let found = counted(cells.len(), "column");
                let problem = match (width < 2, word.max(tag) >= width) {
                    (true, _) => {
                        "a word and its tag were expected, parted by blanks or a tab".to_owned()
                    }
                    (_, true) => format!(
                        "there is no column {}, counted from 0: change `data.text` or `data.label`",
                        word.max(tag)
                    ),
                    _ => format!("the first line with a word has {width}: give each word as many"),
                };
                return Err(file.bad(format!("{place} has {found}, and {problem}")));
            }
            let name = std::mem::take(&mut cells[tag]);
            if name.is_empty() {
                return Err(file.bad(format!("{place} has no tag in column {tag}, counted from 0")));
            }
            tags.push(self.number(place, name));
            words.push(match word == tag {
                true => self.names[tags[tags.len() - 1] as usize].clone(),
                false => std::mem::take(&mut cells[word]),
            });
        }
        self.push(words, tags)?;
        match &self.words[..] {
            [one] if one.len() > 1 && Format::of(file.path) == Some(Format::Text) => Err(file.bad(format!(
                "no empty line parts its {}, which would be one sentence with a word and its tag each: part sentences by \
                 empty lines, or name it .conll if it is one",
                counted(one.len(), "line")
            ))),
            _ => Ok(()),
        }
    }

    /// The number of a tag's name.
    fn number(&mut self, place: Place, name: String) -> u32 {
        if let Some(&number) = self.numbers.get(&name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.clone(), number);
        self.names.push(name);
        self.first.push(place);
        number
    }

    /// Adds a sentence, if it has words.
    fn push(&mut self, words: Vec<String>, tags: Vec<u32>) -> Result<(), DataError> {
        if words.is_empty() {
            return Ok(());
        }
        let letters = words.iter().map(|word| word.len() + size_of::<String>() + 4);
        self.room.take(self.file, letters.sum::<usize>() + 2 * size_of::<Vec<String>>())?;
        self.words.push(words);
        self.tags.push(tags);
        Ok(())
    }

    /// The names of the tags, in order, these being the training data's.
    fn learn(&self) -> Result<Vec<String>, DataError> {
        if let Some(declared) = &self.declared {
            return Ok(declared.clone());
        }
        let classes = Classes::of(self.names.iter().map(String::as_str));
        let classes =
            classes.map_err(|no| self.file.cell(self.first[no.row], self.column, no.problem))?;
        // Numbers keep the form in which they are written.
        let mut names = self.names.clone();
        names.sort_by_key(|name| classes.id(name).unwrap_or(u32::MAX));
        Ok(names)
    }

    fn dataset(self, names: &[String]) -> Result<Dataset, DataError> {
        let known: HashMap<&String, u32> = names.iter().zip(0..).collect();
        let place = |(own, name): (usize, &String)| {
            known.get(name).copied().ok_or_else(|| {
                let problem = format!(
                    "the training data have no tag {name:?}; they have {}: take the sentence out, or give training \
                     data that have it",
                    listed(names)
                );
                self.file.cell(self.first[own], self.column, problem)
            })
        };
        let places = self.names.iter().enumerate().map(place);
        let places: Vec<u32> = places.collect::<Result<_, _>>()?;
        let mut tags = self.tags;
        tags.iter_mut().flatten().for_each(|tag| *tag = places[*tag as usize]);
        let tags = TagLabels::new(tags, names.to_vec())?;
        Dataset::labelled(Words::new(self.words)?, tags)
    }
}

/// Whether a file has a word a line, by its name.
fn has_lines(path: &Path) -> bool {
    ending(path).is_some_and(|(ending, _)| LINES.contains(&&*ending))
}

/// A cell as words.
fn words(cell: &Cell<'_>) -> Result<Vec<String>, String> {
    let word = |cell: &Cell<'_>| match cell {
        Cell::Text(word) => Ok(word.clone().into_owned()),
        Cell::Whole(_) | Cell::Real(_) | Cell::Flag(_) => Ok(cell.to_string()),
        other => Err(format!("{other} is no word")),
    };
    match cell {
        Cell::List(cells) => cells.iter().map(word).collect(),
        Cell::Text(text) if text.trim_start().starts_with('[') => {
            let array: serde_json::Value = serde_json::from_str(text)
                .map_err(|error| format!("{cell} is no JSON array: {error}"))?;
            match Cell::of_json(&array) {
                Cell::List(cells) => cells.iter().map(word).collect(),
                _ => Err(format!("{cell} is no JSON array")),
            }
        }
        other => Err(format!(
            "{other} is no list of words: give an array of JSON or a list of Parquet, or a file of a word a line, such \
             as .conll"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::read_words;

    fn loaded(name: &str, content: &str, columns: [&str; 2]) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        at(&path, columns)
    }

    fn at(path: &Path, columns: [&str; 2]) -> Result<Dataset, DataError> {
        let [text, label] = columns.map(|column| [column.to_owned()]);
        let columns = Columns { text: &text, label: &label, skip_empty: false };
        Ok(read_words::load_words(path, path, columns)?.train)
    }

    /// The words of each sentence with their tags.
    fn shown(data: &Dataset) -> Vec<String> {
        let (words, tags) =
            (data.examples().words().unwrap(), data.labels().unwrap().tags().unwrap());
        let sentence = |row: usize| {
            let words = words.row(row).iter().zip(tags.row(row));
            let words = words.map(|(word, tag)| format!("{word}/{}", tags.names()[*tag as usize]));
            words.collect::<Vec<_>>().join(" ")
        };
        (0..data.len()).map(sentence).collect()
    }

    const USUAL: [&str; 2] = ["tokens", "ner_tags"];

    #[test]
    fn a_word_a_line_is_read() {
        let wanted = ["EU/B-ORG rejects/O", "Peter/B-PER Blackburn/I-PER #/O"];
        for (name, content) in [
            (
                "a.conll",
                "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nPeter NNP B-NP B-PER\r\n\
                 Blackburn NNP I-NP I-PER\n# SYM O O\n",
            ),
            ("a.tsv", "EU\tB-ORG\nrejects\tO\n\t\nPeter\tB-PER\nBlackburn\tI-PER\n#\tO"),
            (
                "a.bio",
                "# id 17 domain=news\nEU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n# O\n",
            ),
            (
                "a.txt",
                "EU _ _ B-ORG\nrejects _ _ O\n \nPeter _ _ B-PER\nBlackburn _ _ I-PER\n# _ _ O\n",
            ),
        ] {
            let data = loaded(name, content, USUAL).unwrap();
            assert_eq!(shown(&data), wanted, "{name}");
            assert_eq!(data.outputs(), ["B-ORG", "B-PER", "I-PER", "O"]);
        }
        let content = "1\tthe dog\tDET\tB\n2\tbarks\tVERB\tO\n";
        let data = loaded("a.conllu", content, ["1", "2"]).unwrap();
        assert_eq!(shown(&data), ["the dog/DET barks/VERB"]);
    }

    #[test]
    fn lists_of_words_are_read() {
        let wanted = ["EU/B-ORG rejects/O", "7/O"];
        for (name, content) in [
            (
                "a.jsonl",
                "{\"tokens\": [\"EU\", \"rejects\"], \"ner_tags\": [\"B-ORG\", \"O\"]}\n\
                 {\"tokens\": [7], \"ner_tags\": [\"O\"]}",
            ),
            (
                "a.json",
                "[{\"tokens\": [\"EU\", \"rejects\"], \"ner_tags\": [\"B-ORG\", \"O\"]}, \
                  {\"tokens\": [\"7\"], \"ner_tags\": [\"O\"]}]",
            ),
            (
                "a.csv",
                "tokens,ner_tags\n\"[\"\"EU\"\", \"\"rejects\"\"]\",\"[\"\"B-ORG\"\", \"\"O\"\"]\"\n[7],\"[\"\"O\"\"]\"\n",
            ),
        ] {
            assert_eq!(shown(&loaded(name, content, USUAL).unwrap()), wanted, "{name}");
        }
        let numbers = "{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [10, 9]}";
        assert_eq!(loaded("a.jsonl", numbers, USUAL).unwrap().outputs(), ["9", "10"]);
    }

    #[test]
    fn parquet_files_tell_the_names_of_tags() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/files");
        for name in ["words.parquet", "words-v2.parquet"] {
            let data = at(&folder.join(name), USUAL).unwrap();
            // In the file's order, and with a name that no word has.
            assert_eq!(data.outputs(), ["O", "B-PER", "I-PER", "B-LOC"]);
            assert_eq!(data.len(), 60);
            for (row, shown) in shown(&data).iter().enumerate() {
                let word =
                    |at: usize| format!("w{row}-{at}/{}", ["O", "B-PER", "I-PER"][(row + at) % 3]);
                let wanted: Vec<String> = (0..1 + row % 5).map(word).collect();
                assert_eq!(*shown, wanted.join(" "));
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (name, content, problem) in [
            (
                "a.conll",
                "EU B-ORG\nrejects\n",
                "line 2 has 1 column, and the first line with a word has 2",
            ),
            ("a.conll", "\nEU\n", "line 2 has 1 column, and a word and its tag were expected"),
            ("a.conll", "\n\n", "it holds no sentence"),
            ("a.txt", "a good film\na bad film\n", "no empty line parts its 2 lines, which would"),
            (
                "a.txt",
                "\na good film\na bad film\n\n",
                "no empty line parts its 2 lines, which would",
            ),
            ("a.conll", "EU\tO\nx\t\n", "line 2 has 1 column"),
            (
                "a.jsonl",
                "{\"tokens\": \"EU\", \"ner_tags\": []}",
                "line 1, column `tokens`: \"EU\" is no list of words",
            ),
            (
                "a.jsonl",
                "{\"tokens\": [\"EU\"], \"ner_tags\": []}",
                "line 1, column `ner_tags`: there are 1 word and 0 tags: give a tag for each word",
            ),
            (
                "a.jsonl",
                "{\"tokens\": [], \"ner_tags\": []}",
                "there are no words: take the row out",
            ),
            (
                "a.jsonl",
                "{\"tokens\": [\"a\"], \"ner_tags\": [1.5]}",
                "1.5 is neither a name nor a whole number",
            ),
            ("a.jsonl", "{\"tokens\": [null], \"ner_tags\": [\"O\"]}", "nothing is no word"),
            ("a.jsonl", "{\"words\": []}", "there is no column `tokens`; it has `words`"),
            ("a.pdf", "", "words and their tags are read from"),
        ] {
            let error = loaded(name, content, USUAL).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let error = loaded("a.conll", "EU O\n", ["0", "5"]).unwrap_err().to_string();
        assert!(error.contains("there is no column 5, counted from 0"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.conll", "b.conll"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "EU O\n").unwrap();
        std::fs::write(&paths[1], "EU O\n\nUS B-LOC\n").unwrap();
        let [text, label] = USUAL.map(|column| [column.to_owned()]);
        let columns = Columns { text: &text, label: &label, skip_empty: false };
        let error = load_words(&paths[0], &paths[1], columns).err().unwrap().to_string();
        let wanted = "b.conll: line 3, column `ner_tags`: the training data have no tag \"B-LOC\"; they have `O`";
        assert!(error.contains(wanted), "{error}");
    }
}
