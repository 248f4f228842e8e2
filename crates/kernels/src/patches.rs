//! What the places of an output see of images [n, height, width, channels] through a window: pixels, tap by tap; and on the
//! processor, all of it as rows. Twin of `shaders/common/patches.wgsl`.

use std::ops::Range;

use crate::Real;

/// What each place of an output sees of an image: the window of a convolution or of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps, down and across.
    pub taps: [usize; 2],
    /// Pixels from one place to the next.
    pub stride: [usize; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
    /// Pixels beyond the image's edges: top, left, bottom, right.
    pub padding: [usize; 4],
}

impl Window {
    /// A square window over neighbouring pixels, with as much padding on all sides.
    pub fn square(taps: usize, stride: usize, padding: usize) -> Self {
        Self { taps: [taps; 2], stride: [stride; 2], dilation: [1; 2], padding: [padding; 4] }
    }

    /// Whether it takes each pixel as it is, so that a convolution is a plain product.
    pub fn is_point(&self) -> bool {
        (self.taps, self.stride, self.padding) == ([1; 2], [1; 2], [0; 4])
    }

    /// Places down and across an image of this height and width; `None` where the window does not fit once, or a number is
    /// none that a window has.
    pub fn places(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        const MOST: usize = 1 << 12;
        let numbers = [self.taps, self.stride, self.dilation].concat();
        let bounded = numbers.iter().all(|&number| (1..=MOST).contains(&number))
            && self.padding.iter().all(|&pixels| pixels <= MOST);
        let [top, left, bottom, right] = self.padding;
        let places = |axis: usize, padding: usize| {
            let reach = self.dilation[axis] * (self.taps[axis] - 1) + 1;
            let free = (size[axis] + padding).checked_sub(reach)?;
            Some(free / self.stride[axis] + 1)
        };
        if !bounded {
            return None;
        }
        Some([places(0, top + bottom)?, places(1, left + right)?])
    }
}

/// How the A of a product is read of images [n, height, width, channels]; the names are those of
/// `shaders/common/patches.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patches {
    images: usize,
    size: [usize; 2],
    channels: usize,
    tap_channels: usize,
    taps: [usize; 2],
    places: [usize; 2],
    first: [isize; 2],
    step: [usize; 2],
    tap: [isize; 2],
    apart: [usize; 2],
    /// The products of a batch have places of their own; else they have channels of their own.
    parts: bool,
}

impl Patches {
    /// What the places of a window's output see of images of this size.
    pub(crate) fn looking(
        window: &Window,
        images: usize,
        size: [usize; 2],
        channels: usize,
    ) -> Self {
        let [top, left, ..] = window.padding;
        Self {
            images,
            size,
            channels,
            tap_channels: channels,
            taps: window.taps,
            places: window.places(size).expect("the window fits the images"),
            first: [top, left].map(|pixels| -(pixels as isize)),
            step: window.stride,
            tap: window.dilation.map(|pixels| pixels as isize),
            apart: [1; 2],
            parts: false,
        }
    }

    /// The other way round: by which places, of so many channels, each pixel of the images is seen, tap by tap.
    pub(crate) fn looking_back(
        window: &Window,
        images: usize,
        size: [usize; 2],
        channels: usize,
    ) -> Self {
        let [top, left, ..] = window.padding;
        Self {
            images,
            size: window.places(size).expect("the window fits the images"),
            channels,
            tap_channels: channels,
            taps: window.taps,
            places: size,
            first: [top, left].map(|pixels| pixels as isize),
            step: [1; 2],
            tap: window.dilation.map(|pixels| -(pixels as isize)),
            apart: window.stride,
            parts: false,
        }
    }

    pub(crate) fn of_groups(self, groups: usize) -> Self {
        Self { tap_channels: self.channels / groups, ..self }
    }

    /// Places of all images.
    pub(crate) fn rows(&self) -> usize {
        self.images * self.places[0] * self.places[1]
    }

    /// Taps of a window.
    pub(crate) fn taps(&self) -> usize {
        self.taps[0] * self.taps[1]
    }

    /// Elements of the images.
    pub(crate) fn len(&self) -> usize {
        self.images * self.size[0] * self.size[1] * self.channels
    }

    /// The same where a batch of products shares out the places.
    pub(crate) fn in_parts(self) -> Self {
        Self { parts: true, ..self }
    }

    /// What a shader takes in the place of A's strides: channels, nothing, and `places` from one product to the next.
    pub(crate) fn strides(&self, places: usize) -> [usize; 3] {
        if self.parts { [0, 0, places] } else { [self.tap_channels, 0, 0] }
    }

    /// Whether four neighbouring channels are one aligned vector of one tap.
    pub(crate) fn in_fours(&self) -> bool {
        self.channels.is_multiple_of(4) && self.tap_channels.is_multiple_of(4)
    }

    /// The constants of a product's shader.
    pub(crate) fn overrides(&self, places_are_rows: bool) -> Vec<(&'static str, f64)> {
        let mut overrides = self.geometry();
        overrides.push(("PLACES_ARE_ROWS", f64::from(u8::from(places_are_rows))));
        overrides.push(("TAP_CHANNELS", self.tap_channels as f64));
        overrides
    }

    /// The constants of `shaders/common/patches.wgsl`.
    pub(crate) fn geometry(&self) -> Vec<(&'static str, f64)> {
        let Self { size, taps, places, first, step, tap, apart, .. } = *self;
        let unsigned = [
            ("IMAGE_HEIGHT", size[0]),
            ("IMAGE_WIDTH", size[1]),
            ("IMAGE_CHANNELS", self.channels),
            ("TAPS_DOWN", taps[0]),
            ("TAPS_ACROSS", taps[1]),
            ("PLACES_DOWN", places[0]),
            ("PLACES_ACROSS", places[1]),
            ("STEP_Y", step[0]),
            ("STEP_X", step[1]),
            ("APART_Y", apart[0]),
            ("APART_X", apart[1]),
        ];
        let signed =
            [("FIRST_Y", first[0]), ("FIRST_X", first[1]), ("TAP_Y", tap[0]), ("TAP_X", tap[1])];
        let unsigned = unsigned.map(|(name, value)| (name, value as f64));
        unsigned.into_iter().chain(signed.map(|(name, value)| (name, value as f64))).collect()
    }

    /// What tells it from others, for the tuner.
    pub(crate) fn bucket(&self) -> String {
        let Self { taps, step, apart, tap, .. } = self;
        format!(", patches of {taps:?} by {step:?} / {apart:?}, {tap:?} apart")
    }

    /// Elements of a row.
    fn depth(&self) -> usize {
        self.taps[0] * self.taps[1] * self.tap_channels
    }

    /// The pixel that a place sees through a tap, if there is one.
    pub(crate) fn pixel(&self, place: usize, tap: usize) -> Option<usize> {
        let [down, across] = self.places;
        let (line, q) = (place / across, place % across);
        let (n, p) = (line / down, line % down);
        let taps = [tap / self.taps[1], tap % self.taps[1]].map(|tap| tap as isize);
        let along = |axis: usize, place: usize| {
            let first = self.first[axis] + (place * self.step[axis]) as isize;
            at(first + taps[axis] * self.tap[axis], self.apart[axis], self.size[axis])
        };
        let (y, x) = (along(0, p)?, along(1, q)?);
        Some((n * self.size[0] + y) * self.size[1] + x)
    }

    /// What the places see of the channels of one group, a row each.
    pub(crate) fn gather<F: Real>(
        &self,
        image: &[F],
        group: usize,
        places: Range<usize>,
        rows: &mut [F],
    ) {
        let [down, across] = self.places;
        let first_channel = group * self.tap_channels;
        for (place, row) in places.zip(rows.chunks_exact_mut(self.depth())) {
            let (line, q) = (place / across, place % across);
            let (n, p) = (line / down, line % down);
            let x = self.first[1] + (q * self.step[1]) as isize;
            let taps = row.chunks_exact_mut(self.taps[1] * self.tap_channels);
            for (r, row) in taps.enumerate() {
                let y = self.first[0] + (p * self.step[0]) as isize + r as isize * self.tap[0];
                match at(y, self.apart[0], self.size[0]) {
                    Some(y) => {
                        let line = (n * self.size[0] + y) * self.size[1] * self.channels;
                        let line = &image[line..line + self.size[1] * self.channels];
                        self.line(line, x, first_channel, row);
                    }
                    None => row.fill(F::zero()),
                }
            }
        }
    }

    /// One row of taps, the first at `x` of a line of the image.
    fn line<F: Real>(&self, line: &[F], x: isize, channel: usize, row: &mut [F]) {
        let whole = self.tap_channels == self.channels && self.tap[1] == 1 && self.apart[1] == 1;
        let last = x + self.taps[1] as isize;
        if whole && x >= 0 && last <= self.size[1] as isize {
            row.copy_from_slice(&line[x as usize * self.channels..][..row.len()]);
            return;
        }
        for (s, row) in row.chunks_exact_mut(self.tap_channels).enumerate() {
            match at(x + s as isize * self.tap[1], self.apart[1], self.size[1]) {
                Some(x) => {
                    let pixel = &line[x * self.channels + channel..];
                    row.copy_from_slice(&pixel[..self.tap_channels]);
                }
                None => row.fill(F::zero()),
            }
        }
    }
}

/// Pixel `place / apart` of so many, if that divides and is one.
fn at(place: isize, apart: usize, size: usize) -> Option<usize> {
    let place = usize::try_from(place).ok()?;
    let pixel = if apart == 1 { place } else { place / apart };
    (pixel < size && pixel * apart == place).then_some(pixel)
}
