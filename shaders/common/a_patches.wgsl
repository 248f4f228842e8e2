// A of a convolution: a row for each place of the output, which holds what the place sees of an image (common/patches.wgsl):
// tap by tap of the window, row by row, some channels of one pixel, zeros where there is none. No such matrix lies in memory.
// Transposed (PLACES_ARE_ROWS false), its columns are the places.
//
// dims.a_row    channels from one product of a batch to the next: groups
// dims.a_batch  places from one to the next: parts of a weight gradient

//#import common/patches.wgsl

override PLACES_ARE_ROWS: bool = true;
// Channels that a tap takes.
override TAP_CHANNELS: u32 = 1u;

// Where the A of one product of a batch begins.
struct Left {
    channel: u32,
    place: u32,
}

// An element of the image, and whether there is one.
struct Seen {
    at: u32,
    inside: bool,
}

fn left_of(batch: u32) -> Left {
    return Left(batch * dims.a_row, batch * dims.a_batch);
}

fn seen(left: Left, row: u32, k: u32) -> Seen {
    let place = left.place + select(k, row, PLACES_ARE_ROWS);
    let depth = select(row, k, PLACES_ARE_ROWS);
    let tap = depth / TAP_CHANNELS;
    let pixel = pixel_of(place, tap);
    let channel = left.channel + depth - tap * TAP_CHANNELS;
    return Seen(pixel.number * IMAGE_CHANNELS + channel, pixel.inside);
}

fn a_at(left: Left, row: u32, k: u32) -> a_type {
    let place = seen(left, row, k);
    return select(a_type(), a[place.at], place.inside);
}

// Four neighbours from there on, at a multiple of four: channels of one tap, whose number is one too.
fn a_quad_at(left: Left, row: u32, k: u32) -> vec4<a_type> {
    let place = seen(left, row, k);
    return select(vec4<a_type>(), a_quads[place.at / 4u], vec4<bool>(place.inside));
}
