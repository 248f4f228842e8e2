//! A picture from a file: upright, without transparency, in 8 bits a channel.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::{Colour, bad};
use crate::DataError;
use crate::files::File;
use crate::guard::guarded;

/// The most pixels of a side.
const MAX_SIDE: u32 = 1 << 16;
/// The most bytes of a picture once it is unpacked: 89 million pixels in colour.
const MAX_BYTES: u64 = 256 << 20;

/// A picture as grey or colour of 8 bits.
pub(super) struct Picture {
    pub image: DynamicImage,
    /// Whether the background shows through.
    pub transparent: bool,
}

/// Reads a picture: the first of an animation; turned upright where EXIF or TIFF say how it lies; on `background` where
/// it is transparent; 16 bits a channel become 8.
pub(super) fn open(path: &Path, background: Colour) -> Result<Picture, DataError> {
    let bytes = File::new(path).packed_bytes()?;
    let image = guarded(path, "images", || decode(path, &bytes))??;
    let transparent = has_transparency(&image);
    Ok(Picture { image: opaque(image, background), transparent })
}

fn decode(path: &Path, bytes: &[u8]) -> Result<DynamicImage, DataError> {
    let broken =
        |error: image::ImageError| bad(path, format!("this image cannot be read: {error}"));
    check_webp(bytes).map_err(|problem| bad(path, problem))?;
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| bad(path, format!("this image cannot be read: {error}")))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let ((width, height), total) = (decoder.dimensions(), decoder.total_bytes());
    if total > MAX_BYTES || width.max(height) > MAX_SIDE {
        return Err(bad(
            path,
            format!(
                "it is {height} high and {width} wide, {total} bytes once unpacked; at most {MAX_SIDE} a side and \
                 {MAX_BYTES} bytes are read: make it smaller"
            ),
        ));
    }
    // A picture whose EXIF data are damaged is still a picture.
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    Ok(image)
}

/// Refuses a WebP file with a part that would end beyond it: the crate makes room for its metadata unasked.
fn check_webp(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"RIFF") || bytes.get(8..12) != Some(b"WEBP") {
        return Ok(());
    }
    let riff = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    let end = bytes.len().min(riff.saturating_add(8));
    let mut at = 12;
    while let Some(head) = bytes[..end].get(at..at + 8) {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        at += 8 + len;
        if at > bytes.len() {
            return Err("this image cannot be read: it is cut off or damaged".to_owned());
        }
        // Parts begin at even places.
        at += len % 2;
    }
    Ok(())
}

fn has_transparency(image: &DynamicImage) -> bool {
    image.color().has_alpha()
        && match image {
            DynamicImage::ImageLumaA8(image) => image.pixels().any(|pixel| pixel.0[1] < 255),
            DynamicImage::ImageRgba8(image) => image.pixels().any(|pixel| pixel.0[3] < 255),
            other => other.to_rgba8().pixels().any(|pixel| pixel.0[3] < 255),
        }
}

/// The image in 8 bits on a background, grey if it was and that is.
fn opaque(image: DynamicImage, background: Colour) -> DynamicImage {
    let grey = !image.color().has_color();
    if !image.color().has_alpha() {
        return match grey {
            true => DynamicImage::ImageLuma8(image.into_luma8()),
            false => DynamicImage::ImageRgb8(image.into_rgb8()),
        };
    }
    let layered = image.into_rgba8();
    let mut flat = RgbImage::new(layered.width(), layered.height());
    for (out, pixel) in flat.pixels_mut().zip(layered.pixels()) {
        let [.., alpha] = pixel.0.map(u32::from);
        for (channel, out) in out.0.iter_mut().enumerate() {
            let (front, back) = (u32::from(pixel.0[channel]), u32::from(background.0[channel]));
            *out = ((front * alpha + back * (255 - alpha) + 127) / 255) as u8;
        }
    }
    let flat = DynamicImage::ImageRgb8(flat);
    if grey && background.is_grey() { DynamicImage::ImageLuma8(flat.into_luma8()) } else { flat }
}
