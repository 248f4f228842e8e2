//! Image folders: a folder for each class, with that class's images in it and in folders below it.

mod colour;
mod decode;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use image::DynamicImage;
use image::imageops::{FilterType, resize};
use rayon::prelude::*;

pub use self::colour::Colour;
use super::{Conversion, DataError, Dataset, Features, Numbers};
use crate::memory;

/// Endings of the names of images that can be read.
const ENDINGS: [&str; 13] =
    ["png", "jpg", "jpeg", "gif", "webp", "tif", "tiff", "bmp", "pbm", "pgm", "ppm", "pnm", "pam"];
/// What systems leave in folders; hidden files and folders are passed over too.
const LITTER: [&str; 3] = ["Thumbs.db", "desktop.ini", "__MACOSX"];
/// How deep folders may lie within a class's.
const MAX_DEPTH: usize = 32;

/// Loads both folders. The classes are the names of the folders in `train`, sorted; `test` may lack some.
///
/// Examples alternate between the classes, so that the first so many are of all classes.
pub(super) fn load(
    train: &Path,
    test: &Path,
    conversion: &Conversion,
) -> Result<(Dataset, Dataset), DataError> {
    let class_names = class_names(train)?;
    for name in self::class_names(test)? {
        if !class_names.contains(&name) {
            let problem = format!(
                "{} has no class of this name, only {}",
                train.display(),
                super::classes::listed(&class_names)
            );
            return Err(bad(&test.join(name), problem));
        }
    }
    let train_files = files(train, &class_names)?;
    let test_files = files(test, &class_names)?;
    let mut empty = vec![true; class_names.len()];
    train_files.iter().for_each(|file| empty[file.class as usize] = false);
    if let Some(class) = empty.iter().position(|empty| *empty) {
        let problem = "this class has no image: put some into its folder, or take the folder out";
        return Err(bad(&train.join(&class_names[class]), problem));
    }
    let format = Format::choose(&train_files[0].path, conversion)?;
    let train = format.load_classes(&train_files, &class_names)?;
    Ok((train, format.load_classes(&test_files, &class_names)?))
}

/// Loads the folder of a test set alone; the classes are the names of its folders, sorted.
///
/// # Errors
/// [`DataError`], naming the file or folder.
pub fn load_image_classes(folder: &Path, conversion: &Conversion) -> Result<Dataset, DataError> {
    let class_names = class_names(folder)?;
    let files = files(folder, &class_names)?;
    Format::choose(&files[0].path, conversion)?.load_classes(&files, &class_names)
}

/// Loads a picture, or all those in a folder and below it without regard to classes, in the order of their paths.
///
/// # Errors
/// [`DataError`], naming the file or folder.
pub fn load_images(path: &Path, conversion: &Conversion) -> Result<Numbers, DataError> {
    let mut paths = Vec::new();
    match path.is_dir() {
        true => pictures(path, &mut vec![], &mut paths)?,
        false => paths.push(path.to_owned()),
    }
    let Some(first) = paths.first() else {
        return Err(bad(path, "it holds no image"));
    };
    Format::choose(first, conversion)?.load(&paths)
}

/// Whether a file's name is an image's.
pub fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
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
    background: Colour,
    /// The file that told the size, if all must have it.
    size_of: Option<PathBuf>,
    /// The file that told the channels, if no image may lose colours.
    channels_of: Option<PathBuf>,
}

impl Format {
    fn choose(first: &Path, conversion: &Conversion) -> Result<Self, DataError> {
        let Conversion { size, channels, background } = *conversion;
        let background = background.unwrap_or(Colour::WHITE);
        let image = decode::open(first, background)?.image;
        Ok(Self {
            size: size.unwrap_or(size_of(&image)),
            channels: channels.unwrap_or(if image.color().has_color() { 3 } else { 1 }),
            background,
            size_of: size.is_none().then(|| first.to_owned()),
            channels_of: channels.is_none().then(|| first.to_owned()),
        })
    }

    fn load_classes(&self, files: &[File], class_names: &[String]) -> Result<Dataset, DataError> {
        let paths: Vec<&Path> = files.iter().map(|file| &*file.path).collect();
        let labels = files.iter().map(|file| file.class).collect();
        Dataset::new(self.load(&paths)?, labels, class_names.to_vec())
    }

    fn load<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Result<Numbers, DataError> {
        let [height, width] = self.size;
        let len = self.channels * height * width;
        let total = paths.len().saturating_mul(len);
        let mut pixels = Vec::new();
        let left = memory::available().filter(|left| total as u64 > *left);
        if left.is_some() || pixels.try_reserve_exact(total).is_err() {
            let left = left.map_or_else(String::new, |left| format!(", and {left} are left"));
            return Err(DataError::Unfit(format!(
                "{} images of {} × {height} × {width} take {total} bytes of memory{left}: set a smaller `data.size`, or \
                 give fewer",
                paths.len(),
                self.channels
            )));
        }
        pixels.resize(total, 0);
        let transparent = AtomicBool::new(false);
        let results: Vec<Result<(), DataError>> = paths
            .par_iter()
            .zip(pixels.par_chunks_exact_mut(len))
            .map(|(path, out)| {
                let shows = self.decode(path.as_ref(), out)?;
                transparent.fetch_or(shows, Ordering::Relaxed);
                Ok(())
            })
            .collect();
        results.into_iter().collect::<Result<(), _>>()?;
        let examples = Numbers::new(Features::U8(pixels), vec![self.channels, height, width])?;
        let background = transparent.into_inner().then_some(self.background);
        Ok(examples.on_background(background))
    }

    /// Writes an image's pixels [channels, height, width]; whether the background shows in it.
    fn decode(&self, path: &Path, out: &mut [u8]) -> Result<bool, DataError> {
        let decode::Picture { image, transparent } = decode::open(path, self.background)?;
        self.check(path, &image)?;
        let [height, width] = self.size;
        let (rows, columns) = (height as u32, width as u32);
        let fits = size_of(&image) == self.size;
        if self.channels == 1 {
            let image = image.into_luma8();
            let image =
                if fits { image } else { resize(&image, columns, rows, FilterType::Triangle) };
            out.copy_from_slice(image.as_raw());
            return Ok(transparent);
        }
        let image = image.into_rgb8();
        let image = if fits { image } else { resize(&image, columns, rows, FilterType::Triangle) };
        for (channel, plane) in out.chunks_exact_mut(height * width).enumerate() {
            for (out, pixel) in plane.iter_mut().zip(image.pixels()) {
                *out = pixel.0[channel];
            }
        }
        Ok(transparent)
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

fn size_of(image: &DynamicImage) -> [usize; 2] {
    [image.height() as usize, image.width() as usize]
}

/// Whether any pixel is other than grey.
fn has_colour(image: &DynamicImage) -> bool {
    let coloured = |[r, g, b]: [u8; 3]| r != g || g != b;
    image.as_rgb8().is_some_and(|image| image.pixels().any(|pixel| coloured(pixel.0)))
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
        let problem = "it holds no folder; one for each class was expected";
        return Err(bad(folder, problem));
    }
    Ok(names)
}

/// The images of all classes, one of each class in turn.
fn files(folder: &Path, class_names: &[String]) -> Result<Vec<File>, DataError> {
    let mut files = Vec::new();
    for (class, name) in class_names.iter().enumerate() {
        let folder = folder.join(name);
        let mut paths = Vec::new();
        if folder.is_dir() {
            pictures(&folder, &mut Vec::new(), &mut paths)?;
        }
        let of_class = |(place, path)| (place, File { path, class: class as u32 });
        files.extend(paths.into_iter().enumerate().map(of_class));
    }
    if files.is_empty() {
        return Err(bad(folder, "its class folders hold no image"));
    }
    // The sort is stable: within a place the classes keep their order.
    files.sort_by_key(|(place, _)| *place);
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// The images in a folder and below it, sorted within each folder. `above` are the folders that led here.
fn pictures(
    folder: &Path,
    above: &mut Vec<PathBuf>,
    found: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: folder.display().to_string(), source };
    let real = folder.canonicalize().map_err(unreadable)?;
    if above.contains(&real) || above.len() >= MAX_DEPTH {
        let problem = match above.contains(&real) {
            true => "this link leads back to a folder that it lies in: take it out".to_owned(),
            false => format!("folders are nested more than {MAX_DEPTH} deep here"),
        };
        return Err(bad(folder, problem));
    }
    above.push(real);
    for path in entries(folder)? {
        if path.is_dir() {
            pictures(&path, above, found)?;
        } else if is_image(&path) {
            found.push(path);
        } else {
            let problem = format!(
                "this is not an image that can be read ({}): convert it, or take it out",
                ENDINGS.join(", ")
            );
            return Err(bad(&path, problem));
        }
    }
    above.pop();
    Ok(())
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

fn bad(path: &Path, problem: impl Into<String>) -> DataError {
    DataError::File { path: path.display().to_string(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
