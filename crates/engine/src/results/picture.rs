//! A test example as a picture in a page.

use std::io::Cursor;

use base64::prelude::{BASE64_STANDARD, Engine};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use crate::data::{Features, Numbers};

/// The longest side, in pixels: larger pictures are made smaller.
const LONGEST: u32 = 96;

/// The example of that number as the data URI of a PNG, if it is an image [1 | 3, H, W].
///
/// Numbers between 0 and 1 are taken as shades, others from the least to the largest of the image.
pub fn data_uri(examples: &Numbers, index: usize) -> Option<String> {
    let &[channels @ (1 | 3), height, width] = examples.shape() else { return None };
    let (height, width) = (u32::try_from(height).ok()?, u32::try_from(width).ok()?);
    let len = examples.example_len();
    let of = index * len..(index + 1) * len;
    let planes = match examples.features() {
        Features::U8(pixels) => pixels[of].to_vec(),
        Features::F32(values) => shades(&values[of]),
    };
    // [C, H, W] to [H, W, C].
    let plane = len / channels;
    let pixels: Vec<u8> = (0..plane)
        .flat_map(|at| (0..channels).map(move |channel| channel * plane + at))
        .map(|at| planes[at])
        .collect();
    let image = match channels {
        1 => DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, pixels)?),
        _ => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels)?),
    };
    let image = match width.max(height) > LONGEST {
        true => image.thumbnail(LONGEST, LONGEST),
        false => image,
    };
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).ok()?;
    Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner())))
}

fn shades(values: &[f32]) -> Vec<u8> {
    let (least, most) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)));
    let (least, most) = if least >= 0.0 && most <= 1.0 { (0.0, 1.0) } else { (least, most) };
    // Where all are the same, the quotient is no number, which becomes 0: black.
    values.iter().map(|value| ((value - least) / (most - least) * 255.0).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(features: Features, shape: &[usize], index: usize) -> DynamicImage {
        let examples = Numbers::new(features, shape.to_vec()).unwrap();
        let uri = data_uri(&examples, index).unwrap();
        let base64 = uri.strip_prefix("data:image/png;base64,").unwrap();
        let png = BASE64_STANDARD.decode(base64).unwrap();
        image::load_from_memory_with_format(&png, ImageFormat::Png).unwrap()
    }

    #[test]
    fn pixels_stay_as_they_are() {
        let grey = decoded(Features::U8((0..12).collect()), &[1, 2, 3], 1);
        assert_eq!((grey.width(), grey.height()), (3, 2));
        assert_eq!(grey.as_luma8().unwrap().as_raw(), &[6, 7, 8, 9, 10, 11]);
        let rgb = decoded(Features::U8(vec![1, 2, 3, 4, 5, 6]), &[3, 1, 2], 0);
        assert_eq!(rgb.as_rgb8().unwrap().as_raw(), &[1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn numbers_become_shades() {
        let unit = decoded(Features::F32(vec![0.0, 0.2, 0.4, 0.6]), &[1, 2, 2], 0);
        assert_eq!(unit.as_luma8().unwrap().as_raw(), &[0, 51, 102, 153]);
        let wide = decoded(Features::F32(vec![-2.0, 0.0, 1.0, 3.0]), &[1, 2, 2], 0);
        assert_eq!(wide.as_luma8().unwrap().as_raw(), &[0, 102, 153, 255]);
        // All the same, and beyond the unit range.
        let flat = decoded(Features::F32(vec![7.0; 4]), &[1, 2, 2], 0);
        assert_eq!(flat.as_luma8().unwrap().as_raw(), &[0; 4]);
    }

    #[test]
    fn large_pictures_are_made_smaller() {
        let image = decoded(Features::U8(vec![9; 3 * 100 * 200]), &[3, 100, 200], 0);
        assert_eq!((image.width(), image.height()), (96, 48));
    }

    #[test]
    fn other_examples_have_none() {
        for shape in [vec![4], vec![2, 1, 2]] {
            let examples = Numbers::new(Features::U8(vec![0; 4]), shape).unwrap();
            assert_eq!(data_uri(&examples, 0), None);
        }
    }
}
