//! safetensors files: features and labels, features alone, and a teacher's cached logits.

use std::path::Path;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, SafeTensors};

use super::{DataError, Dataset, Features, LabelKind, NumberLabels, Numbers, files};
use crate::floats::{floats, words};

/// Loads the tensors of features and of labels of both files. Labels are [rows], of classes; numbers [rows] or
/// [rows, numbers]; flags of several labels [rows, labels].
pub(super) fn load(
    train: &Path,
    test: &Path,
    features: &str,
    labels: &str,
    kind: LabelKind,
) -> Result<(Dataset, Dataset), DataError> {
    let dataset = |path: &Path| {
        File::read(path)?.with(|file| {
            let examples = file.tensor(features)?.examples()?;
            let (labels, rows) = (file.tensor(labels)?, examples.len());
            match kind {
                LabelKind::Numbers => Dataset::labelled(examples, labels.numbers(rows)?),
                LabelKind::MultiLabel => Dataset::labelled(examples, labels.flags(rows)?),
                _ => Dataset::numbered(examples, labels.labels(rows)?),
            }
        })
    };
    let (train, tested) = (dataset(train)?, dataset(test)?);
    let tested = tested.with_outputs_of(&train, &format!("{} has", test.display()))?;
    Ok((train, tested))
}

/// Loads the features of examples that have no labels, from the tensor `name`.
///
/// The tensor is [rows, n] for rows of a table; [rows, H, W] or [rows, C, H, W] for images; f32, f16, bf16,
/// f64, or u8 where value / 255 is meant.
///
/// # Errors
/// [`DataError`] when the file cannot be read, or has no such tensor, or it is of another dtype or shape or
/// holds a number that is not finite.
pub fn load_features(path: &Path, name: &str) -> Result<Numbers, DataError> {
    File::read(path)?.with(|file| file.tensor(name)?.examples())
}

/// Loads logits from the tensor `name` [rows, classes] (f32, f16, bf16 or f64): the number of rows, of
/// classes, and the logits row by row.
///
/// # Errors
/// [`DataError::MissingTensor`] when there is no such tensor, and otherwise as [`load_features`].
pub fn read_logits(path: &Path, name: &str) -> Result<(usize, usize, Vec<f32>), DataError> {
    File::read(path)?.with(|file| {
        let tensor = file.tensor(name)?;
        match *tensor.view.shape() {
            [rows, classes] if rows > 0 && classes > 0 => Ok((rows, classes, tensor.floats()?)),
            _ => Err(tensor.shape("logits are [rows, classes]")),
        }
    })
}

/// A file's bytes, not yet looked into.
struct File {
    path: String,
    bytes: Vec<u8>,
}

/// A file looked into.
struct Opened<'a> {
    path: &'a str,
    tensors: SafeTensors<'a>,
}

/// One tensor of a file.
struct Tensor<'a> {
    path: &'a str,
    name: &'a str,
    view: TensorView<'a>,
}

impl File {
    fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = files::File::new(path).packed_bytes()?;
        Ok(Self { path: path.display().to_string(), bytes })
    }

    fn with<T>(
        &self,
        use_it: impl FnOnce(&Opened<'_>) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|error| DataError::File {
            path: self.path.clone(),
            problem: format!("it is no safetensors file, or is cut off or damaged: {error}"),
        })?;
        use_it(&Opened { path: &self.path, tensors })
    }
}

impl<'a> Opened<'a> {
    fn tensor(&'a self, name: &'a str) -> Result<Tensor<'a>, DataError> {
        match self.tensors.tensor(name) {
            Ok(view) => Ok(Tensor { path: self.path, name, view }),
            Err(_) => {
                let mut held = self.tensors.names();
                held.sort_unstable();
                let held: Vec<String> = held.iter().map(|name| format!("`{name}`")).collect();
                Err(DataError::MissingTensor {
                    path: self.path.to_owned(),
                    tensor: name.to_owned(),
                    held: if held.is_empty() { "none".to_owned() } else { held.join(", ") },
                })
            }
        }
    }
}

impl Tensor<'_> {
    fn examples(&self) -> Result<Numbers, DataError> {
        let shape = match *self.view.shape() {
            [_, n] => vec![n],
            [_, height, width] => vec![1, height, width],
            [_, channels, height, width] => vec![channels, height, width],
            _ => Vec::new(),
        };
        if shape.is_empty() || self.view.shape().contains(&0) {
            return Err(self.shape(
                "features are [rows, n], or images [rows, H, W] or [rows, C, H, W], none of them 0",
            ));
        }
        let features = match self.view.dtype() {
            Dtype::U8 => Features::U8(self.view.data().to_vec()),
            _ => Features::F32(self.floats()?),
        };
        Numbers::new(features, shape)
    }

    /// The numbers, all finite.
    fn floats(&self) -> Result<Vec<f32>, DataError> {
        let dtype = self.view.dtype();
        let values = floats(dtype, self.view.data()).ok_or_else(|| {
            self.bad(format!("its dtype is {dtype}; f32, f16, bf16 or f64 was expected"))
        })?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(place) => {
                let row_len = self.view.shape()[1..].iter().product::<usize>().max(1);
                let (row, value) = (place / row_len, values[place]);
                Err(self.bad(format!("row {row} holds {value}, which is not a finite f32")))
            }
        }
    }

    /// Numbers of `rows` examples, named by their places, or a single one as the tensor.
    fn numbers(&self, rows: usize) -> Result<NumberLabels, DataError> {
        let names = self.columns(rows, "the numbers of these features are")?;
        let values = match self.whole() {
            Some(values) => values.into_iter().map(|value| value as f32).collect(),
            None => self.floats()?,
        };
        let names = if names.len() == 1 { vec![self.name.to_owned()] } else { names };
        NumberLabels::new(values, names).map_err(|error| self.bad(error.to_string()))
    }

    /// Flags of `rows` examples, named by their places.
    fn flags(&self, rows: usize) -> Result<NumberLabels, DataError> {
        let names = self.columns(rows, "the flags of these features' labels are")?;
        let values = match (self.view.dtype(), self.whole()) {
            (Dtype::BOOL, _) => self.view.data().iter().map(|&flag| f32::from(flag)).collect(),
            (_, Some(values)) => values.into_iter().map(|value| value as f32).collect(),
            (_, None) => self.floats()?,
        };
        NumberLabels::flags(values, names).map_err(|error| self.bad(error.to_string()))
    }

    /// The names of columns of `rows` rows, which are their places.
    fn columns(&self, rows: usize, what: &str) -> Result<Vec<String>, DataError> {
        match *self.view.shape() {
            [found] if found == rows => Ok(vec!["0".to_owned()]),
            [found, columns] if found == rows && columns > 0 => {
                Ok((0..columns).map(|column| column.to_string()).collect())
            }
            _ => Err(self.shape(&format!("{what} [{rows}] or [{rows}, n], n being at least 1"))),
        }
    }

    /// Whole numbers, if they are such.
    fn whole(&self) -> Option<Vec<i64>> {
        let data = self.view.data();
        match self.view.dtype() {
            Dtype::U8 => Some(data.iter().map(|&label| label.into()).collect()),
            Dtype::I32 => Some(words(data).map(|word| i32::from_le_bytes(word).into()).collect()),
            Dtype::U32 => Some(words(data).map(|word| u32::from_le_bytes(word).into()).collect()),
            Dtype::I64 => Some(words(data).map(i64::from_le_bytes).collect()),
            _ => None,
        }
    }

    /// The labels of `rows` examples.
    fn labels(&self, rows: usize) -> Result<Vec<i64>, DataError> {
        if self.view.shape() != [rows] {
            return Err(self.shape(&format!("the labels of these features are [{rows}]")));
        }
        self.whole().ok_or_else(|| {
            let dtype = self.view.dtype();
            self.bad(format!(
                "its dtype is {dtype}, and labels are the whole numbers of classes: i32, i64, u8 or u32 was expected"
            ))
        })
    }

    fn shape(&self, expected: &str) -> DataError {
        self.bad(format!("its shape is {:?}; {expected}", self.view.shape()))
    }

    fn bad(&self, problem: String) -> DataError {
        DataError::Tensor { path: self.path.to_owned(), tensor: self.name.to_owned(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entry<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

    fn bytes(tensors: &[Entry<'_>]) -> Vec<u8> {
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        ::safetensors::serialize(views, None).unwrap()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn with_file<T>(bytes: &[u8], use_it: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        use_it(&path)
    }

    fn read(tensors: &[Entry<'_>]) -> Result<Dataset, DataError> {
        with_file(&bytes(tensors), |path| {
            load(path, path, "features", "labels", LabelKind::Class).map(|(train, _)| train)
        })
    }

    fn pair(features: &[f32], shape: &[usize], labels: &[i32]) -> Result<Dataset, DataError> {
        let data = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        read(&[
            ("features", Dtype::F32, shape.to_vec(), floats(features)),
            ("labels", Dtype::I32, vec![labels.len()], data),
        ])
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, DataError>, end: &str) {
        let message = result.unwrap_err().to_string();
        assert!(message.ends_with(end), "{message:?} does not end with {end:?}");
    }

    #[test]
    fn reads_every_dtype() {
        let values = [0.5_f32, -2.0, 1.0, 0.0];
        let wide = values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
        let halves: Vec<u8> =
            [0x3800_u16, 0xc000, 0x3c00, 0].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let brains: Vec<u8> = values
            .iter()
            .flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes())
            .collect();
        let label_kinds = [
            (Dtype::U8, vec![1, 0]),
            (Dtype::I32, [1_i32, 0].iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Dtype::U32, [1_u32, 0].iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Dtype::I64, [1_i64, 0].iter().flat_map(|x| x.to_le_bytes()).collect()),
        ];
        let feature_kinds = [
            (Dtype::F32, floats(&values)),
            (Dtype::F64, wide),
            (Dtype::F16, halves),
            (Dtype::BF16, brains),
        ];
        for ((dtype, features), (label_dtype, labels)) in feature_kinds.into_iter().zip(label_kinds)
        {
            let data = read(&[
                ("features", dtype, vec![2, 2], features),
                ("labels", label_dtype, vec![2], labels),
            ])
            .unwrap();
            assert_eq!(
                data.numbers().unwrap().features(),
                &Features::F32(values.to_vec()),
                "{dtype}"
            );
            let ids = data.need_classes().unwrap().ids();
            assert_eq!((ids, data.numbers().unwrap().shape()), (&[1, 0][..], &[2][..]));
        }
        let pixels = read(&[
            ("features", Dtype::U8, vec![2, 1, 2], vec![0, 1, 2, 255]),
            ("labels", Dtype::U8, vec![2], vec![0, 3]),
        ])
        .unwrap();
        assert_eq!(pixels.numbers().unwrap().features(), &Features::U8(vec![0, 1, 2, 255]));
        assert_eq!((pixels.numbers().unwrap().shape(), pixels.classes()), (&[1, 1, 2][..], 2));
        assert_eq!(
            pair(&[0.0; 24], &[2, 3, 2, 2], &[0, 1]).unwrap().numbers().unwrap().shape(),
            [3, 2, 2]
        );
    }

    #[test]
    fn reads_numbers_and_flags() {
        let features = || ("features", Dtype::F32, vec![2, 1], floats(&[1.0, 2.0]));
        let read = |labels: Entry<'_>, kind| {
            with_file(&bytes(&[features(), labels]), |path| {
                load(path, path, "features", "labels", kind).map(|(train, _)| train)
            })
        };
        let found = |data: &Dataset| data.labels().unwrap().numbers().unwrap().clone();
        let doubles = [0.25_f64, -4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let data = read(("labels", Dtype::F64, vec![2], doubles), LabelKind::Numbers).unwrap();
        assert_eq!(
            (found(&data).values(), data.outputs()),
            (&[0.25, -4.0][..], &["labels".to_owned()][..])
        );
        let values = floats(&[1.0, 2.0, 3.0, 4.0]);
        let data = read(("labels", Dtype::F32, vec![2, 2], values), LabelKind::Numbers).unwrap();
        assert_eq!((found(&data).row(1), data.outputs().len()), (&[3.0, 4.0][..], 2));
        for dtype in [Dtype::U8, Dtype::BOOL] {
            let flags = ("labels", dtype, vec![2, 3], vec![1, 0, 1, 0, 0, 1]);
            let data = read(flags, LabelKind::MultiLabel).unwrap();
            assert_eq!(found(&data).values(), [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
            assert_eq!((data.outputs()[2].as_str(), found(&data).are_flags()), ("2", true));
        }
        let twos = ("labels", Dtype::U8, vec![2, 1], vec![2, 0]);
        refused(
            read(twos, LabelKind::MultiLabel),
            "tensor `labels`: example 0 has 2 for `0`, which is not 0 or 1",
        );
        let nan = ("labels", Dtype::F32, vec![2, 1], floats(&[1.0, f32::NAN]));
        refused(read(nan, LabelKind::Numbers), "row 1 holds NaN, which is not a finite f32");
        let three = ("labels", Dtype::U8, vec![3], vec![0; 3]);
        refused(
            read(three, LabelKind::Numbers),
            "its shape is [3]; the numbers of these features are [2] or [2, n], n being at least 1",
        );
    }

    #[test]
    fn converts_halves_exactly() {
        let table = [
            (0x0001, 2.0_f32.powi(-24)),
            (0x03ff, 1023.0 * 2.0_f32.powi(-24)),
            (0x0400, 2.0_f32.powi(-14)),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0xfbff, -65504.0),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in table {
            assert_eq!(crate::floats::half(bits), value);
        }
        assert!(
            crate::floats::half(0x7e00).is_nan() && crate::floats::half(0x8000).is_sign_negative()
        );
    }

    #[test]
    fn names_tensor_and_row() {
        refused(
            pair(&[1.0, 2.0, f32::NAN, 4.0], &[2, 2], &[0, 1]),
            "x.safetensors: tensor `features`: row 1 holds NaN, which is not a finite f32",
        );
        refused(
            pair(&[1.0, 2.0], &[2, 1], &[0]),
            "tensor `labels`: its shape is [1]; the labels of these features are [2]",
        );
        refused(
            pair(&[1.0, 2.0], &[2], &[0, 1]),
            "tensor `features`: its shape is [2]; features are [rows, n], or images [rows, H, W] or \
             [rows, C, H, W], none of them 0",
        );
        refused(pair(&[], &[0, 4], &[]), "none of them 0");
        let huge = 1e300_f64.to_le_bytes().to_vec();
        refused(
            read(&[("features", Dtype::F64, vec![1, 1], huge)]),
            "row 0 holds inf, which is not a finite f32",
        );
    }

    #[test]
    fn names_missing_tensors_and_wrong_dtypes() {
        let features = ("features", Dtype::F32, vec![1, 1], floats(&[1.0]));
        refused(
            read(std::slice::from_ref(&features)),
            "there is no tensor `labels`; the file holds `features`",
        );
        refused(read(&[]), "there is no tensor `features`; the file holds none");
        refused(
            read(&[features, ("labels", Dtype::F32, vec![1], floats(&[0.0]))]),
            "tensor `labels`: its dtype is F32, and labels are the whole numbers of classes: i32, i64, u8 or u32 was \
             expected",
        );
        refused(
            read(&[("features", Dtype::I8, vec![1, 1], vec![0])]),
            "tensor `features`: its dtype is I8; f32, f16, bf16 or f64 was expected",
        );
    }

    #[test]
    fn survives_hostile_files() {
        let whole = bytes(&[("features", Dtype::F32, vec![2, 2], floats(&[1.0; 4]))]);
        for cut in 0..whole.len() {
            let result = with_file(&whole[..cut], |path| load_features(path, "features"));
            let message = result.unwrap_err().to_string();
            assert!(message.contains("it is no safetensors file, or is cut off"), "{message}");
        }
        let hostile = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.resize(bytes.len() + data, 0);
            with_file(&bytes, |path| load_features(path, "features")).unwrap_err().to_string()
        };
        let entry = |shape: &str, end: u64| {
            format!(r#"{{"features":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
        };
        for message in [
            hostile(&entry("[4294967296,4294967296]", 16), 16),
            hostile(&entry("[2,2]", 1 << 60), 16),
            hostile(&entry("[1000,1000]", 16), 16),
            hostile("{", 0),
        ] {
            assert!(message.contains("it is no safetensors file, or is cut off"), "{message}");
        }
        let mut lying = u64::MAX.to_le_bytes().to_vec();
        lying.extend([b'{'; 8]);
        refused(
            with_file(&lying, |path| load_features(path, "features")).map(|_| ()),
            "header too large",
        );
    }

    #[test]
    fn reads_features_and_logits() {
        let file = bytes(&[
            ("inputs", Dtype::F32, vec![3, 2], floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
            ("train", Dtype::F32, vec![1, 3], floats(&[1.0, -2.0, 3.5])),
            ("flat", Dtype::F32, vec![3], floats(&[1.0, -2.0, 3.5])),
            ("bad", Dtype::F32, vec![2, 1], floats(&[1.0, f32::INFINITY])),
        ]);
        with_file(&file, |path| {
            let examples = load_features(path, "inputs").unwrap();
            assert_eq!((examples.len(), examples.shape()), (3, &[2][..]));
            assert_eq!(read_logits(path, "train").unwrap(), (1, 3, vec![1.0, -2.0, 3.5]));
            refused(read_logits(path, "flat"), "its shape is [3]; logits are [rows, classes]");
            refused(read_logits(path, "bad"), "row 1 holds inf, which is not a finite f32");
            let missing = read_logits(path, "test").unwrap_err();
            assert!(matches!(missing, DataError::MissingTensor { .. }));
        });
    }
}
