//! IDX files, as MNIST's: a magic number, the sizes of the dimensions, then the values, all big-endian.

use std::io::{ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::files::{File, GZIP};
use super::{DataError, Dataset, Features, Numbers};
use crate::memory;
use crate::words::counted;

/// u8 values in three dimensions.
const IMAGES: u32 = 0x0000_0803;
/// u8 values in one dimension.
const LABELS: u32 = 0x0000_0801;
/// Deflate makes nothing smaller than this share of its size.
const MAX_GZIP_RATIO: u64 = 1032;

/// The bytes of an IDX file, raw or gzipped, and its name in errors.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// Loads images [rows, height, width] and their labels [rows], all u8.
pub(super) fn load(images: &Path, labels: &Path) -> Result<Dataset, DataError> {
    let (image_name, image_bytes) = read(images)?;
    let (label_name, label_bytes) = read(labels)?;
    let (examples, labels) = decode(
        Source { name: &image_name, bytes: &image_bytes },
        Source { name: &label_name, bytes: &label_bytes },
    )?;
    Dataset::numbered(examples, labels)
}

fn read(path: &Path) -> Result<(String, Vec<u8>), DataError> {
    Ok((path.display().to_string(), File::new(path).packed_bytes()?))
}

/// Images of one channel, and their labels.
pub(super) fn decode(
    images: Source<'_>,
    labels: Source<'_>,
) -> Result<(Numbers, Vec<u32>), DataError> {
    let (sizes, pixels) = images.decode(IMAGES)?;
    let (_, classes) = labels.decode(LABELS)?;
    if classes.len() != sizes[0] {
        return Err(labels.bad(format!(
            "{} for the {} of {}",
            counted(classes.len(), "label"),
            counted(sizes[0], "image"),
            images.name
        )));
    }
    let examples = Numbers::new(Features::U8(pixels), vec![1, sizes[1], sizes[2]])?;
    Ok((examples, classes.into_iter().map(u32::from).collect()))
}

impl Source<'_> {
    /// The sizes of the dimensions and the values.
    ///
    /// The header is believed only as far as the file's own length can bear it out.
    fn decode(self, magic: u32) -> Result<(Vec<usize>, Vec<u8>), DataError> {
        let zipped = self.bytes.starts_with(&GZIP);
        let mut reader: Box<dyn Read + '_> = match zipped {
            true => Box::new(MultiGzDecoder::new(self.bytes)),
            false => Box::new(self.bytes),
        };
        let found = self.word(&mut reader)?;
        if found != magic {
            return Err(self.bad(match (magic, found) {
                (IMAGES, LABELS) => "these are labels; images were expected".to_owned(),
                (LABELS, IMAGES) => "these are images; labels were expected".to_owned(),
                _ => format!(
                    "it begins with {found:#010x}, and an IDX file of u8 {} with {magic:#010x}",
                    if magic == IMAGES { "images" } else { "labels" }
                ),
            }));
        }
        let dimensions = (magic & 0xff) as usize;
        let words = (0..dimensions).map(|_| self.word(&mut reader));
        let sizes = words.collect::<Result<Vec<u32>, _>>()?;
        let shown = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(" × ");
        let len = sizes.iter().try_fold(1_u64, |len, &size| len.checked_mul(size.into()));
        let ratio = if zipped { MAX_GZIP_RATIO } else { 1 };
        let most = (self.bytes.len() as u64).saturating_mul(ratio);
        let len = match len {
            Some(0) => return Err(self.bad(format!("its header declares nothing: {shown} values"))),
            Some(len) if len <= most => len,
            _ => {
                let size = self.bytes.len();
                return Err(self.bad(format!(
                    "its header declares {shown} values, and a file of {size} bytes cannot hold them: \
                     it is cut off, or damaged"
                )));
            }
        };
        if let Some(left) = memory::available().filter(|left| len > *left) {
            return Err(self.bad(format!(
                "its {len} values are more than the {left} bytes of memory that are left"
            )));
        }
        let mut values = Vec::new();
        let read = reader.take(len + 1).read_to_end(&mut values);
        read.map_err(|error| self.broken(&error))?;
        match (values.len() as u64).cmp(&len) {
            std::cmp::Ordering::Equal => {
                Ok((sizes.into_iter().map(|size| size as usize).collect(), values))
            }
            std::cmp::Ordering::Less => {
                let found = values.len();
                let problem = format!("it is cut off: {shown} values declared, {found} found");
                Err(self.bad(problem))
            }
            std::cmp::Ordering::Greater => {
                Err(self.bad(format!("it holds more than the {shown} values that it declares")))
            }
        }
    }

    fn word(&self, reader: &mut impl Read) -> Result<u32, DataError> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(|error| self.broken(&error))?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn broken(&self, error: &std::io::Error) -> DataError {
        self.bad(match error.kind() {
            ErrorKind::UnexpectedEof => "it is cut off: it ends too early".to_owned(),
            _ => format!("its gzip stream is damaged: {error}"),
        })
    }

    fn bad(&self, problem: String) -> DataError {
        DataError::File { path: self.name.to_owned(), problem }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn file(magic: u32, sizes: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn images() -> Vec<u8> {
        file(IMAGES, &[2, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255])
    }

    #[track_caller]
    fn refused(images: &[u8], labels: &[u8], message: &str) {
        let images = Source { name: "images", bytes: images };
        let labels = Source { name: "labels", bytes: labels };
        assert_eq!(decode(images, labels).unwrap_err().to_string(), message);
    }

    #[test]
    fn reads_raw_and_gzipped_whatever_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let (image_path, label_path) = (folder.path().join("a"), folder.path().join("b"));
        let labels = file(LABELS, &[2], &[3, 1]);
        for (images, labels) in [(images(), labels.clone()), (gzip(&images()), gzip(&labels))] {
            std::fs::write(&image_path, images).unwrap();
            std::fs::write(&label_path, labels).unwrap();
            let data = load(&image_path, &label_path).unwrap();
            assert_eq!(
                (data.len(), data.numbers().unwrap().shape(), data.classes()),
                (2, &[1, 2, 3][..], 2)
            );
            let labels = data.need_classes().unwrap();
            assert_eq!(
                (labels.ids(), labels.class_names()),
                (&[1, 0][..], &["1", "3"].map(String::from)[..])
            );
            let Features::U8(pixels) = data.numbers().unwrap().features() else {
                panic!("u8 was expected")
            };
            assert_eq!(pixels[11], 255);
        }
        let missing = load(&folder.path().join("none"), &label_path).unwrap_err().to_string();
        assert!(missing.contains("none: cannot be read"), "{missing}");
    }

    #[test]
    fn refuses_bad_files() {
        let labels = file(LABELS, &[2], &[0, 1]);
        let cut = &images()[..20];
        refused(cut, &labels, "images: it is cut off: 2 × 2 × 3 values declared, 4 found");
        refused(&images()[..10], &labels, "images: it is cut off: it ends too early");
        refused(&[], &labels, "images: it is cut off: it ends too early");
        let zipped = gzip(&images());
        refused(&zipped[..zipped.len() - 12], &labels, "images: it is cut off: it ends too early");
        let long = [images(), vec![0]].concat();
        refused(&long, &labels, "images: it holds more than the 2 × 2 × 3 values that it declares");
        refused(
            b"\x89PNG\r\n\x1a\n",
            &labels,
            "images: it begins with 0x89504e47, and an IDX file of u8 images with 0x00000803",
        );
        refused(&labels, &labels, "images: these are labels; images were expected");
        refused(&images(), &images(), "labels: these are images; labels were expected");
        let three = file(LABELS, &[3], &[0, 1, 2]);
        refused(&images(), &three, "labels: 3 labels for the 2 images of images");
        let none = file(IMAGES, &[0, 28, 28], &[]);
        refused(&none, &labels, "images: its header declares nothing: 0 × 28 × 28 values");
    }

    #[test]
    fn believes_no_absurd_header() {
        let labels = file(LABELS, &[2], &[0, 1]);
        for sizes in [[u32::MAX; 3], [1 << 20, 1 << 10, 1 << 10]] {
            for bytes in [file(IMAGES, &sizes, &[0]), gzip(&file(IMAGES, &sizes, &[0]))] {
                let source = Source { name: "images", bytes: &bytes };
                let labels = Source { name: "labels", bytes: &labels };
                let message = decode(source, labels).unwrap_err().to_string();
                assert!(message.contains("bytes cannot hold them"), "{message}");
            }
        }
    }

    #[test]
    fn names_a_damaged_gzip() {
        let mut zipped = gzip(&images());
        let crc = zipped.len() - 8;
        zipped[crc] ^= 1;
        let source = Source { name: "images", bytes: &zipped };
        // The checksum stands behind the last value, so one more byte is asked for and never comes.
        let message = source.decode(IMAGES).unwrap_err().to_string();
        assert!(message.starts_with("images: its gzip stream is damaged"), "{message}");
    }
}
