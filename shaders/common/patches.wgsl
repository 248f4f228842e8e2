// What a place of an output sees of images [n, height, width, channels] through a window: tap (r, s) of place (n, p, q) is
// the pixel (y / APART_Y, x / APART_X) of image n, where
//   y = FIRST_Y + p · STEP_Y + r · TAP_Y   and   x = FIRST_X + q · STEP_X + s · TAP_X
// if both divide. Forward the steps are the strides; where a gradient looks back, the places are pixels, which some taps
// alone reach, and APART is the stride. All of it is in whole numbers, exact up to 2^32 elements; a compiler knows the
// divisors.

override IMAGE_HEIGHT: u32 = 1u;
override IMAGE_WIDTH: u32 = 1u;
// Elements from one pixel to the next.
override IMAGE_CHANNELS: u32 = 1u;
override TAPS_DOWN: u32 = 1u;
override TAPS_ACROSS: u32 = 1u;
override PLACES_DOWN: u32 = 1u;
override PLACES_ACROSS: u32 = 1u;
override FIRST_Y: i32 = 0i;
override FIRST_X: i32 = 0i;
override STEP_Y: i32 = 1i;
override STEP_X: i32 = 1i;
override TAP_Y: i32 = 1i;
override TAP_X: i32 = 1i;
override APART_Y: u32 = 1u;
override APART_X: u32 = 1u;

// A pixel's number among those of all images, and whether there is such a pixel.
struct Pixel {
    number: u32,
    inside: bool,
}

fn pixel_of(place: u32, tap: u32) -> Pixel {
    let line = place / PLACES_ACROSS;
    let n = line / PLACES_DOWN;
    let p = vec2<i32>(i32(line - n * PLACES_DOWN), i32(place - line * PLACES_ACROSS));
    let r = tap / TAPS_ACROSS;
    let t = vec2<i32>(i32(r), i32(tap - r * TAPS_ACROSS));
    let first = vec2<i32>(FIRST_Y, FIRST_X);
    // What is negative is beyond all sizes as an unsigned number.
    let at = vec2<u32>(first + p * vec2<i32>(STEP_Y, STEP_X) + t * vec2<i32>(TAP_Y, TAP_X));
    let apart = vec2<u32>(APART_Y, APART_X);
    let yx = at / apart;
    let inside = all(yx < vec2<u32>(IMAGE_HEIGHT, IMAGE_WIDTH)) && all(yx * apart == at);
    let number = (n * IMAGE_HEIGHT + yx.x) * IMAGE_WIDTH + yx.y;
    return Pixel(select(0u, number, inside), inside);
}
