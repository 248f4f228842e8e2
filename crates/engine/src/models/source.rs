//! A model's parameters where they lie in files, read one at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use distil_gpu_kernels::{Blocks, DType};
use safetensors::Dtype;

use super::file_names::bad;
use super::gguf_file;
use super::linked::Link;
use super::weights::{self, Naming, Values};
use crate::error::Error;
use crate::files::io_error;
use crate::layout::check_range;
use crate::sealed::Files;
use crate::store::{Numbers, ParameterSpec, Storage};

/// A model's parameters in its files, in the model's order. Of some, rows may be chosen.
#[derive(Debug)]
pub struct Source {
    /// The folder, or the GGUF file.
    home: PathBuf,
    tensors: Tensors,
    parameters: Vec<Parameter>,
}

/// Where numbers are read from.
#[derive(Debug)]
enum Tensors {
    Folder(weights::Tensors),
    Gguf(Box<gguf_file::Tensors>),
}

#[derive(Debug)]
struct Parameter {
    /// As the files have it.
    spec: ParameterSpec,
    /// Its rows, each by its number in the files; nothing where they are as there.
    rows: Option<Arc<Vec<u32>>>,
}

impl Parameter {
    /// Some rows of what has `row_len` elements a row.
    fn chosen<T: Copy>(&self, all: Vec<T>, row_len: usize) -> Vec<T> {
        let Some(rows) = &self.rows else { return all };
        rows.iter().flat_map(|&row| &all[row as usize * row_len..][..row_len]).copied().collect()
    }

    fn shape(&self) -> Vec<usize> {
        let mut shape = self.spec.shape.clone();
        if let (Some(rows), Some(first)) = (&self.rows, shape.first_mut()) {
            *first = rows.len();
        }
        shape
    }
}

/// Parameters of which rows can be chosen.
pub trait Rows {
    /// Leaves a parameter with rows of so many elements these rows, in this order.
    fn choose(&mut self, index: usize, row_len: usize, rows: &Arc<Vec<u32>>);
}

impl Rows for [Vec<f32>] {
    fn choose(&mut self, index: usize, row_len: usize, rows: &Arc<Vec<u32>>) {
        let all = &self[index];
        let row = |&row: &u32| &all[row as usize * row_len..][..row_len];
        self[index] = rows.iter().flat_map(row).copied().collect();
    }
}

impl Rows for Source {
    fn choose(&mut self, index: usize, _: usize, rows: &Arc<Vec<u32>>) {
        let own = &mut self.parameters[index].rows;
        *own = Some(match own {
            Some(known) => Arc::new(rows.iter().map(|&row| known[row as usize]).collect()),
            None => rows.clone(),
        });
    }
}

impl Source {
    /// The parameters of a model in a folder's files; see [`weights::Tensors::find`].
    ///
    /// # Errors
    /// [`Error::Model`] when a file is damaged, or tensors are missing, unexpected or of another shape.
    pub(super) fn of_folder(
        folder: &Path,
        specs: Vec<ParameterSpec>,
        naming: &Naming,
        layers: &[(String, String)],
    ) -> Result<Self, Error> {
        let tensors = weights::Tensors::find(folder, &specs, naming, layers)?;
        Ok(Self::new(folder, Tensors::Folder(tensors), specs))
    }

    /// The parameters of a model in a GGUF file.
    ///
    /// # Errors
    /// [`Error::Model`] when it is damaged, or tensors are missing or of another shape.
    pub(super) fn of_gguf(path: &Path, specs: Vec<ParameterSpec>) -> Result<Self, Error> {
        let tensors = gguf_file::Tensors::find(path, &specs)?;
        Ok(Self::new(path, Tensors::Gguf(Box::new(tensors)), specs))
    }

    fn new(home: &Path, tensors: Tensors, specs: Vec<ParameterSpec>) -> Self {
        let parameters = specs.into_iter().map(|spec| Parameter { spec, rows: None }).collect();
        Self { home: home.to_owned(), tensors, parameters }
    }

    /// The same with the rows that a folder chooses of it, whose parameters are then these.
    ///
    /// # Errors
    /// [`Error::Model`] naming the folder's file, when they are not.
    pub(super) fn linked(
        mut self,
        link: &Link,
        path: &Path,
        specs: &[ParameterSpec],
    ) -> Result<Self, Error> {
        let from = link.from.display();
        let other =
            || bad(path, format!("the model in {from} has other parameters than this folder's"));
        if self.len() != specs.len() {
            return Err(other());
        }
        for (index, spec) in specs.iter().enumerate() {
            if let Some(rows) = link.rows.get(&spec.name) {
                let all = self.parameters[index].spec.shape.first().copied().unwrap_or(0);
                if rows.iter().any(|&row| row as usize >= all) {
                    return Err(other());
                }
                self.choose(index, spec.row_len(), &Arc::new(rows.clone()));
            }
            let parameter = &self.parameters[index];
            if parameter.spec.name != spec.name || parameter.shape() != spec.shape {
                return Err(other());
            }
        }
        Ok(self)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// What a folder says whose weights lie here: the files as they are now, and the rows that are chosen of them.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub(crate) fn link(&self) -> Result<Link, Error> {
        let from = self.home.canonicalize().map_err(io_error(&self.home))?;
        if from.to_str().is_none() {
            return Err(bad(&from, "its path is no UTF-8, and a run's folder could not name it"));
        }
        let files = match &self.tensors {
            Tensors::Gguf(_) => Files::named(&from, [""])?,
            Tensors::Folder(tensors) => {
                Files::named(&from, tensors.paths().iter().map(String::as_str))?
            }
        };
        let chosen = |parameter: &Parameter| {
            let rows = parameter.rows.as_ref()?;
            Some((parameter.spec.name.clone(), rows.to_vec()))
        };
        Ok(Link { from, files, rows: self.parameters.iter().filter_map(chosen).collect() })
    }

    /// The values of a parameter.
    ///
    /// # Errors
    /// [`Error::Model`] when they are no floats, or not finite; [`Error::Io`].
    pub fn values(&self, index: usize) -> Result<Vec<f32>, Error> {
        let parameter = &self.parameters[index];
        let spec = &parameter.spec;
        let values = match &self.tensors {
            Tensors::Folder(tensors) => tensors.values(index, spec)?,
            Tensors::Gguf(tensors) => Some(tensors.values(&spec.name)?),
        };
        let none = || bad(&self.home, format!("it has no {}", spec.name));
        Ok(parameter.chosen(values.ok_or_else(none)?, spec.row_len()))
    }

    /// The values of all parameters.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub fn all(&self) -> Result<Vec<Vec<f32>>, Error> {
        (0..self.len()).map(|index| self.values(index)).collect()
    }

    /// All values where each may be missing.
    pub(super) fn by_name(&self, specs: &[ParameterSpec]) -> Result<Values, Error> {
        let value = |wanted: &ParameterSpec| {
            let same =
                |own: &Parameter| own.spec.name == wanted.name && own.shape() == wanted.shape;
            self.parameters.iter().position(same).map(|index| self.values(index)).transpose()
        };
        specs.iter().map(value).collect()
    }

    /// The type that a device can have a parameter in as its file has it: half floats and quantised blocks of matrices, f32 of
    /// all else.
    fn own_type(&self, index: usize) -> DType {
        let spec = &self.parameters[index].spec;
        let dtype = match &self.tensors {
            _ if spec.shape.len() < 2 => DType::F32,
            Tensors::Gguf(tensors) => tensors.dtype(&spec.name),
            Tensors::Folder(tensors) => match tensors.dtype(index) {
                Some(Dtype::F16) => DType::F16,
                Some(Dtype::BF16) => DType::Blocks(Blocks::BF16),
                _ => DType::F32,
            },
        };
        match (dtype, &spec.shape[..]) {
            (DType::Blocks(blocks), [_, columns]) if columns.is_multiple_of(blocks.numbers()) => {
                dtype
            }
            (DType::Blocks(_), _) => DType::F32,
            _ => dtype,
        }
    }

    /// The types that a device has the parameters in: as the files have them without a `storage`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] of a folder whose matrices are in bytes and are to stay so.
    pub fn types(&self, storage: Option<Storage>) -> Result<Vec<DType>, Error> {
        if let Some(storage) = storage {
            return Ok(self.parameters.iter().map(|own| storage.dtype(&own.spec.shape)).collect());
        }
        if let Tensors::Folder(tensors) = &self.tensors
            && (0..self.len()).any(|index| tensors.dtype(index) == Some(Dtype::I8))
        {
            return Err(Error::Unsupported {
                what: format!(
                    "the matrices of {} are int8, in which no teacher's are read as they are",
                    self.home.display()
                ),
                instead: "set `teacher.weights` to \"q8_0\", or give the model that it was made of"
                    .to_owned(),
            });
        }
        Ok((0..self.len()).map(|index| self.own_type(index)).collect())
    }

    /// A parameter for a device that has it in this type: the file's own blocks where it has them so.
    ///
    /// # Errors
    /// [`Error::Model`] when it is damaged or not finite; [`Error::BeyondF16`]; [`Error::Io`].
    pub fn numbers(&self, index: usize, dtype: DType) -> Result<Numbers<'static>, Error> {
        let parameter = &self.parameters[index];
        if let (DType::Blocks(blocks), Tensors::Gguf(tensors)) = (dtype, &self.tensors)
            && self.own_type(index) == dtype
        {
            let words = tensors.words(&parameter.spec.name, blocks)?;
            let row_words = parameter.spec.row_len() / blocks.numbers() * blocks.words();
            return Ok(Numbers::Words(parameter.chosen(words, row_words)));
        }
        let values = self.values(index)?;
        check_range(dtype, &parameter.spec, &values)?;
        Ok(Numbers::Floats(values.into()))
    }

    /// Reads everything once, as devices do that have it in these types: what is damaged is told before anything begins.
    ///
    /// # Errors
    /// As [`Self::numbers`].
    pub fn check(&self, types: &[DType]) -> Result<(), Error> {
        let mut all = types.iter().enumerate();
        all.try_for_each(|(index, &dtype)| self.numbers(index, dtype).map(drop))
    }
}
