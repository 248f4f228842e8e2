//! The data set that is part of the program: 5,000 training and 1,000 test images of Fashion-MNIST.
//!
//! Fashion-MNIST is by Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
//! machine learning algorithms", 2017; its licence stands beside the files.

use super::{DataError, Dataset, idx};

macro_rules! embedded {
    ($file:literal) => {
        idx::Source {
            name: concat!("embedded ", $file),
            bytes: include_bytes!(concat!("../../../data/fashion-mnist/", $file)),
        }
    };
}

/// Names of the classes.
const CLASS_NAMES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

pub(super) fn load() -> Result<(Dataset, Dataset), DataError> {
    let train = (embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"));
    let test = (embedded!("test-images-idx3-ubyte.gz"), embedded!("test-labels-idx1-ubyte.gz"));
    Ok((named(train)?, named(test)?))
}

fn named((images, labels): (idx::Source<'_>, idx::Source<'_>)) -> Result<Dataset, DataError> {
    let (examples, labels) = idx::decode(images, labels)?;
    Dataset::new(examples, labels, CLASS_NAMES.map(str::to_owned).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_whole() {
        let (train, test) = load().unwrap();
        assert_eq!((train.len(), test.len()), (5000, 1000));
        assert_eq!((train.numbers().unwrap().shape(), train.classes()), (&[1, 28, 28][..], 10));
        assert_eq!(train.class_names()[9], "Ankle boot");
        assert_eq!(train.need_classes().unwrap().per_class_counts(), [500; 10]);
        assert_eq!(test.need_classes().unwrap().per_class_counts(), [100; 10]);
        let normalisation = train.numbers().unwrap().normalisation();
        // The whole training set has a mean of 0.2860 and a standard deviation of 0.3530.
        assert!((normalisation.mean[0] - 0.286).abs() < 0.01, "{normalisation:?}");
        assert!((normalisation.std[0] - 0.353).abs() < 0.01, "{normalisation:?}");
    }
}
