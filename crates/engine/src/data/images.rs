//! Image folders: a folder for each class, with that class's images in it.

use std::path::{Path, PathBuf};

use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageReader};
use rayon::prelude::*;

use super::{DataError, Dataset, Features, Numbers};

/// Endings of the names of images that can be read.
const ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "bmp", "pbm", "pgm", "ppm", "pnm", "pam"];
/// Files that systems leave in folders; hidden files are passed over too.
const LITTER: [&str; 2] = ["Thumbs.db", "desktop.ini"];

/// Loads both folders. The classes are the names of the folders in `train`, sorted; `test` may lack some.
///
/// Examples alternate between the classes, so that the first so many are of all classes. Images are brought
/// to `size` (height, width) and to `channels` if given; otherwise all must have the first one's size, and
/// none may have colours if the first is grey.
pub(super) fn load(
    train: &Path,
    test: &Path,
    size: Option<[usize; 2]>,
    channels: Option<usize>,
) -> Result<(Dataset, Dataset), DataError> {
    let class_names = class_names(train)?;
    for name in self::class_names(test)? {
        if !class_names.contains(&name) {
            let problem = format!("{} has no class of this name", train.display());
            return Err(bad(&test.join(name), problem));
        }
    }
    let train = files(train, &class_names)?;
    let test = files(test, &class_names)?;
    let format = Format::choose(&train[0].path, size, channels)?;
    let train = format.load(&train, &class_names)?;
    Ok((train, format.load(&test, &class_names)?))
}

/// An image file and its class.
struct File {
    path: PathBuf,
    class: u32,
}

/// What all images are brought to.
struct Format {
    size: [usize; 2],
    channels: usize,
    /// The file that told the size, if all must have it.
    size_of: Option<PathBuf>,
    /// The file that told the channels, if no image may lose colours.
    channels_of: Option<PathBuf>,
}

impl Format {
    fn choose(
        first: &Path,
        size: Option<[usize; 2]>,
        channels: Option<usize>,
    ) -> Result<Self, DataError> {
        let image = open(first)?;
        Ok(Self {
            size: size.unwrap_or(size_of(&image)),
            channels: channels.unwrap_or(channels_of(&image)),
            size_of: size.is_none().then(|| first.to_owned()),
            channels_of: channels.is_none().then(|| first.to_owned()),
        })
    }

    fn load(&self, files: &[File], class_names: &[String]) -> Result<Dataset, DataError> {
        let [height, width] = self.size;
        let len = self.channels * height * width;
        let mut pixels = Vec::new();
        let total = files.len().saturating_mul(len);
        if pixels.try_reserve_exact(total).is_err() {
            return Err(DataError::Unfit(format!(
                "{} images of {} × {height} × {width} take {total} bytes, more than there is memory: set a \
                 smaller `data.size`",
                files.len(),
                self.channels
            )));
        }
        pixels.resize(total, 0);
        let results: Vec<Result<(), DataError>> = files
            .par_iter()
            .zip(pixels.par_chunks_exact_mut(len))
            .map(|(file, out)| self.decode(&file.path, out))
            .collect();
        results.into_iter().collect::<Result<(), _>>()?;
        let examples = Numbers::new(Features::U8(pixels), vec![self.channels, height, width])?;
        Dataset::new(examples, files.iter().map(|file| file.class).collect(), class_names.to_vec())
    }

    /// Writes an image's pixels [channels, height, width].
    fn decode(&self, path: &Path, out: &mut [u8]) -> Result<(), DataError> {
        let image = open(path)?;
        self.check(path, &image)?;
        let [height, width] = self.size;
        let (rows, columns) = (height as u32, width as u32);
        let fits = size_of(&image) == self.size;
        if self.channels == 1 {
            let image = image.into_luma8();
            let image =
                if fits { image } else { resize(&image, columns, rows, FilterType::Triangle) };
            out.copy_from_slice(image.as_raw());
            return Ok(());
        }
        let image = image.into_rgb8();
        let image = if fits { image } else { resize(&image, columns, rows, FilterType::Triangle) };
        for (channel, plane) in out.chunks_exact_mut(height * width).enumerate() {
            for (out, pixel) in plane.iter_mut().zip(image.pixels()) {
                *out = pixel.0[channel];
            }
        }
        Ok(())
    }

    /// Where a recipe says nothing, all images must be as the first, or lose nothing by becoming so.
    fn check(&self, path: &Path, image: &DynamicImage) -> Result<(), DataError> {
        if let Some(first) = self.size_of.as_ref().filter(|_| size_of(image) != self.size) {
            let ([h, w], [height, width]) = (size_of(image), self.size);
            return Err(bad(
                path,
                format!(
                    "it is {h} high and {w} wide, and {} {height} and {width}: set `data.size` to bring all \
                     to one size",
                    first.display()
                ),
            ));
        }
        let grey = self.channels == 1;
        if let Some(first) = self.channels_of.as_ref().filter(|_| grey && has_colour(image)) {
            let first = first.display();
            let problem =
                format!("it has colours, and {first} is grey: set `data.channels` to 1 or 3");
            return Err(bad(path, problem));
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<DynamicImage, DataError> {
    let unreadable = |source| DataError::Read { path: path.display().to_string(), source };
    let reader = ImageReader::open(path).map_err(unreadable)?;
    let reader = reader.with_guessed_format().map_err(unreadable)?;
    reader.decode().map_err(|error| bad(path, format!("this image cannot be read: {error}")))
}

fn size_of(image: &DynamicImage) -> [usize; 2] {
    [image.height() as usize, image.width() as usize]
}

fn channels_of(image: &DynamicImage) -> usize {
    if image.color().has_color() { 3 } else { 1 }
}

/// Whether any pixel is other than grey.
fn has_colour(image: &DynamicImage) -> bool {
    let coloured = |[r, g, b]: [u8; 3]| r != g || g != b;
    image.color().has_color() && image.to_rgb8().pixels().any(|pixel| coloured(pixel.0))
}

/// The names of the class folders, sorted.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            let problem = format!(
                "a folder for each class was expected in {}, and this is a file",
                folder.display()
            );
            return Err(bad(&path, problem));
        }
        names.push(name_of(&path));
    }
    if names.is_empty() {
        let problem = "it holds no folder; one for each class was expected".to_owned();
        return Err(bad(folder, problem));
    }
    Ok(names)
}

/// The images of all classes, one of each class in turn.
fn files(folder: &Path, class_names: &[String]) -> Result<Vec<File>, DataError> {
    let mut files = Vec::new();
    for (class, name) in class_names.iter().enumerate() {
        let folder = folder.join(name);
        let paths = if folder.is_dir() { entries(&folder)? } else { Vec::new() };
        for (place, path) in paths.into_iter().enumerate() {
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            if !ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
                let problem = format!(
                    "this is not an image that can be read ({}): convert it, or take it out",
                    ENDINGS.join(", ")
                );
                return Err(bad(&path, problem));
            }
            files.push((place, File { path, class: class as u32 }));
        }
    }
    if files.is_empty() {
        return Err(bad(folder, "its class folders hold no image".to_owned()));
    }
    // The sort is stable: within a place the classes keep their order.
    files.sort_by_key(|(place, _)| *place);
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// What a folder holds, sorted by name, without what is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Read { path: folder.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = name_of(&path);
        if !name.starts_with('.') && !LITTER.contains(&name.as_str()) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn bad(path: &Path, problem: String) -> DataError {
    DataError::File { path: path.display().to_string(), problem }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage};

    use super::*;

    fn grey(root: &Path, name: &str, value: u8, width: u32) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(width, 2, Luma([value])).save(path).unwrap();
    }

    /// Two classes with two and one grey images of 2 × 3 in training, one in test.
    fn folders() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        grey(root.path(), "train/dog/b.png", 2, 3);
        grey(root.path(), "train/dog/a.PNG", 1, 3);
        grey(root.path(), "train/cat/z.pgm", 3, 3);
        grey(root.path(), "test/dog/t.bmp", 4, 3);
        std::fs::write(root.path().join("train/cat/.hidden"), "").unwrap();
        std::fs::write(root.path().join("train/cat/Thumbs.db"), "").unwrap();
        root
    }

    fn read(
        root: &tempfile::TempDir,
        size: Option<[usize; 2]>,
        channels: Option<usize>,
    ) -> Result<(Dataset, Dataset), DataError> {
        load(&root.path().join("train"), &root.path().join("test"), size, channels)
    }

    #[track_caller]
    fn refused(root: &tempfile::TempDir, parts: [&str; 2]) {
        let message = read(root, None, None).unwrap_err().to_string().replace('\\', "/");
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{message:?} lacks one of {parts:?}"
        );
    }

    #[test]
    fn reads_classes_in_turn() {
        let (train, test) = read(&folders(), None, None).unwrap();
        assert_eq!(train.class_names(), ["cat", "dog"]);
        assert_eq!(
            (train.need_labels().unwrap().ids(), train.numbers().unwrap().shape()),
            (&[0, 1, 1][..], &[1, 2, 3][..])
        );
        let expected = [[3; 6], [1; 6], [2; 6]].concat();
        assert_eq!(train.numbers().unwrap().features(), &Features::U8(expected));
        assert_eq!((test.need_labels().unwrap().ids(), test.classes()), (&[1][..], 2));
    }

    #[test]
    fn brings_images_to_a_size_and_to_colour() {
        let root = folders();
        let path = root.path().join("train/cat/colour.jpg");
        RgbImage::from_pixel(9, 5, Rgb([200, 100, 0])).save(path).unwrap();
        let (train, _) = read(&root, Some([4, 2]), Some(3)).unwrap();
        assert_eq!(train.numbers().unwrap().shape(), [3, 4, 2]);
        let Features::U8(pixels) = train.numbers().unwrap().features() else {
            panic!("u8 was expected")
        };
        // The order is colour.jpg, a.PNG, z.pgm, b.png.
        for (plane, value) in [200_i32, 100, 0, 1, 1, 1, 3, 3, 3, 2, 2, 2].into_iter().enumerate() {
            let plane = &pixels[plane * 8..][..8];
            assert!(plane.iter().all(|&pixel| (i32::from(pixel) - value).abs() < 8), "{plane:?}");
        }
        refused(
            &root,
            ["a.PNG: it is 2 high and 3 wide, and", "colour.jpg 5 and 9: set `data.size`"],
        );
        assert_eq!(
            read(&root, Some([4, 2]), None).unwrap().0.numbers().unwrap().shape(),
            [3, 4, 2]
        );
        grey(root.path(), "train/cat/a.png", 5, 3);
        let message = read(&root, Some([4, 2]), None).unwrap_err().to_string();
        assert!(message.contains("colour.jpg: it has colours, and"), "{message}");
        assert!(message.ends_with("a.png is grey: set `data.channels` to 1 or 3"), "{message}");
    }

    #[test]
    fn names_what_is_wrong() {
        let root = folders();
        std::fs::write(root.path().join("train/dog/c.png"), "not an image").unwrap();
        refused(&root, ["train/dog/c.png: this image cannot be read", ""]);
        let root = folders();
        let path = root.path().join("train/dog/b.png");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        refused(&root, ["train/dog/b.png: this image cannot be read", ""]);
        let root = folders();
        std::fs::write(root.path().join("train/dog/c.webp"), "").unwrap();
        refused(&root, ["c.webp: this is not an image that can be read (png, jpg", "convert it"]);
        let root = folders();
        std::fs::write(root.path().join("train/notes.txt"), "").unwrap();
        refused(
            &root,
            ["notes.txt: a folder for each class was expected in", "and this is a file"],
        );
        let root = folders();
        grey(root.path(), "test/cow/a.png", 0, 3);
        refused(&root, ["test/cow: ", "train has no class of this name"]);
        let root = tempfile::tempdir().unwrap();
        refused(&root, ["train: cannot be read", ""]);
        std::fs::create_dir_all(root.path().join("train")).unwrap();
        refused(&root, ["train: it holds no folder; one for each class was expected", ""]);
        std::fs::create_dir_all(root.path().join("train/cat")).unwrap();
        std::fs::create_dir_all(root.path().join("test/cat")).unwrap();
        refused(&root, ["train: its class folders hold no image", ""]);
    }
}
