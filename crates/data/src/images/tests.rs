//! Tests of image folders.

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
    let conversion = Conversion { size, channels, background: None };
    load(&root.path().join("train"), &root.path().join("test"), &conversion)
}

#[track_caller]
fn refused(root: &tempfile::TempDir, parts: &[&str]) {
    let message = read(root, None, None).unwrap_err().to_string().replace('\\', "/");
    assert!(parts.iter().all(|part| message.contains(part)), "{message:?} lacks one of {parts:?}");
}

#[test]
fn reads_classes_in_turn() {
    let (train, test) = read(&folders(), None, None).unwrap();
    assert_eq!(train.class_names(), ["cat", "dog"]);
    assert_eq!(
        (train.need_classes().unwrap().ids(), train.numbers().unwrap().shape()),
        (&[0, 1, 1][..], &[1, 2, 3][..])
    );
    let expected = [[3; 6], [1; 6], [2; 6]].concat();
    assert_eq!(train.numbers().unwrap().features(), &Features::U8(expected));
    assert_eq!((test.need_classes().unwrap().ids(), test.classes()), (&[1][..], 2));
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
    refused(&root, &["a.PNG: it is 2 high and 3 wide, and", "colour.jpg 5 and 9: set `data.size`"]);
    assert_eq!(read(&root, Some([4, 2]), None).unwrap().0.numbers().unwrap().shape(), [3, 4, 2]);
    grey(root.path(), "train/cat/a.png", 5, 3);
    let message = read(&root, Some([4, 2]), None).unwrap_err().to_string();
    assert!(message.contains("colour.jpg: it has colours, and"), "{message}");
    assert!(message.ends_with("a.png is grey: set `data.channels` to 1 or 3"), "{message}");
}

#[test]
fn names_what_is_wrong() {
    let root = folders();
    std::fs::write(root.path().join("train/dog/c.png"), "not an image").unwrap();
    refused(&root, &["train/dog/c.png: this image cannot be read"]);
    let root = folders();
    let path = root.path().join("train/dog/b.png");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(&root, &["train/dog/b.png: this image cannot be read"]);
    let root = folders();
    std::fs::write(root.path().join("train/dog/c.heic"), "").unwrap();
    refused(&root, &["c.heic: this is not an image that can be read (png, jpg", "convert it"]);
    let root = folders();
    std::fs::write(root.path().join("train/notes.txt"), "").unwrap();
    refused(&root, &["notes.txt: a folder for each class was expected in", "and this is a file"]);
    let root = folders();
    grey(root.path(), "test/cow/a.png", 0, 3);
    refused(&root, &["test/cow: ", "train has no class of this name"]);
    let root = tempfile::tempdir().unwrap();
    refused(&root, &["train: cannot be read"]);
    std::fs::create_dir_all(root.path().join("train")).unwrap();
    refused(&root, &["train: it holds no folder; one for each class was expected"]);
    std::fs::create_dir_all(root.path().join("train/cat")).unwrap();
    std::fs::create_dir_all(root.path().join("test/cat")).unwrap();
    refused(&root, &["train: its class folders hold no image"]);
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/files");
    std::fs::read(folder.join(name)).unwrap()
}

/// A picture among the fixtures as its size and colours, on this background.
fn picture(name: &str, background: &str) -> (Vec<usize>, Vec<u8>, Option<Colour>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, fixture(name)).unwrap();
    let background = Some(background.parse().unwrap());
    let numbers = load_images(&path, &Conversion { background, ..Conversion::default() }).unwrap();
    let Features::U8(pixels) = numbers.features() else { panic!("u8 was expected") };
    (numbers.shape().to_vec(), pixels.clone(), numbers.background())
}

#[test]
fn pictures_are_turned_upright() {
    let (shape, upright, background) = picture("upright.png", "black");
    assert_eq!((&*shape, background), (&[3, 4, 6][..], None));
    assert_eq!(upright[..6], [0, 40, 80, 120, 160, 200]);
    for orientation in 1..=8 {
        for ending in ["png", "webp", "tiff"] {
            let name = format!("exif-{orientation}.{ending}");
            let turned = picture(&name, "black");
            assert_eq!(turned, (shape.clone(), upright.clone(), None), "{name}");
        }
    }
}

#[test]
fn transparent_pictures_lie_on_a_background() {
    let ramp = [0, 60, 120, 180, 240, 255];
    let alpha = [255, 255, 255, 128, 0, 0];
    let on = |back: u32| -> Vec<u8> {
        let blend = |(&front, &alpha): (&u32, &u32)| {
            ((front * alpha + back * (255 - alpha) + 127) / 255) as u8
        };
        ramp.iter().zip(&alpha).map(blend).collect()
    };
    assert_eq!(on(255)[3..], [217, 255, 255]);
    for (background, back) in [("white", 255), ("black", 0), ("#808080", 128)] {
        let (shape, grey, shown) = picture("grey-alpha.png", background);
        assert_eq!((&*shape, &grey[..6]), (&[1, 4, 6][..], &*on(back)), "{background}");
        assert_eq!(shown, Some(background.parse().unwrap()));
        for name in ["alpha.png", "alpha.webp", "alpha.tiff"] {
            let (shape, colours, _) = picture(name, background);
            assert_eq!(shape, [3, 4, 6]);
            for plane in colours.chunks(24) {
                assert_eq!(plane[..6], on(back), "{name} on {background}");
            }
        }
    }
    // A background with colours makes a grey picture one with colours.
    let (shape, colours, _) = picture("grey-alpha.png", "#102030");
    assert_eq!(shape, [3, 4, 6]);
    assert_eq!([colours[5], colours[24 + 5], colours[48 + 5]], [0x10, 0x20, 0x30]);
    // Of the palette, the darkest colour is transparent.
    let (_, palette, shown) = picture("palette-alpha.png", "white");
    assert_eq!((&palette[..6], shown), (&[255, 60, 120, 180, 240, 255][..], Some(Colour::WHITE)));
}

#[test]
fn every_kind_of_pixel_becomes_eight_bits() {
    let ramp = [0, 60, 120, 180, 240, 255];
    for name in ["grey.png", "grey-16.png", "grey.gif"] {
        let (shape, pixels, background) = picture(name, "black");
        assert_eq!((&pixels[..6], background), (&ramp[..], None), "{name} {shape:?}");
    }
    let (shape, cmyk, _) = picture("cmyk.jpg", "black");
    assert_eq!(shape, [3, 4, 6]);
    let errors = cmyk.chunks(6).flat_map(|row| row.iter().zip(&ramp).map(|(a, b)| a.abs_diff(*b)));
    let worst = errors.max().unwrap();
    println!("CMYK: off by {worst} at most");
    assert!(worst <= 4, "{cmyk:?}");
}

#[test]
fn folders_within_a_class_belong_to_it() {
    let root = folders();
    grey(root.path(), "train/dog/2020/park/c.png", 5, 3);
    grey(root.path(), "train/dog/.cache/d.png", 6, 3);
    grey(root.path(), "train/__MACOSX/e.png", 7, 3);
    std::fs::create_dir_all(root.path().join("train/dog/empty")).unwrap();
    std::fs::create_dir_all(root.path().join("test/cat")).unwrap();
    let (train, test) = read(&root, None, None).unwrap();
    // In the order of their paths: 2020/park/c.png stands before a.PNG.
    let expected = [[3; 6], [5; 6], [1; 6], [2; 6]].concat();
    assert_eq!(train.numbers().unwrap().features(), &Features::U8(expected));
    assert_eq!(
        (train.need_classes().unwrap().ids(), test.need_classes().unwrap().ids()),
        (&[0, 1, 1, 1][..], &[1][..])
    );
    let all = load_images(&root.path().join("train"), &Conversion::default()).unwrap();
    assert_eq!(all.len(), 4);
    std::fs::create_dir_all(root.path().join("train/eel/none")).unwrap();
    refused(
        &root,
        &["train/eel: this class has no image: put some into its folder", "take the folder out"],
    );
    std::fs::write(root.path().join("train/dog/2020/notes.txt"), "").unwrap();
    refused(&root, &["2020/notes.txt: this is not an image that can be read", "take it out"]);
    #[cfg(unix)]
    {
        let root = folders();
        std::os::unix::fs::symlink(root.path().join("train"), root.path().join("train/dog/up"))
            .unwrap();
        refused(&root, &["this link leads back to a folder that it lies in", "train/dog/up/"]);
    }
}

#[test]
fn pictures_beyond_all_bounds_are_refused() {
    let root = folders();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(root.path().join("train/dog").join(name), bytes).unwrap()
    };
    write("c.pgm", b"P5 60000 60000 255\n...");
    refused(
        &root,
        &[
            "c.pgm: it is 60000 high and 60000 wide, 3600000000 bytes once unpacked",
            "make it smaller",
        ],
    );
    write("c.pgm", b"P5 100000 1 255\n...");
    refused(
        &root,
        &[
            "c.pgm: it is 1 high and 100000 wide, 100000 bytes once unpacked",
            "at most 65536 a side",
        ],
    );
    std::fs::remove_file(root.path().join("train/dog/c.pgm")).unwrap();
    let mut webp = fixture("exif-1.webp");
    webp[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    write("c.webp", &webp);
    refused(&root, &["c.webp: this image cannot be read: it is cut off or damaged", "train/dog"]);
}

#[test]
fn damaged_pictures_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    for name in ["alpha.tiff", "grey.gif", "exif-6.webp", "cmyk.jpg", "alpha.png"] {
        let whole = fixture(name);
        let path = root.path().join(name);
        let mut refused = 0;
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            if let Err(error) = load_images(&path, &Conversion::default()) {
                assert!(error.to_string().contains(name), "{error}");
                refused += 1;
            }
        }
        println!("{name}: {refused} of {} beginnings are refused", whole.len());
        // What follows the pixels may lack.
        assert!(refused > whole.len() / 3, "{name}: {refused} of {}", whole.len());
    }
}
