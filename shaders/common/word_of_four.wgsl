// As common/word.wgsl, four numbers: of a tensor whose length is a multiple of four, or of rows that start at multiples.

alias Word = vec4<f32>;
alias Places = vec4<u32>;

const WORD: u32 = 4u;

fn places_of(word: u32) -> Places {
    return 4u * word + vec4<u32>(0u, 1u, 2u, 3u);
}

fn sum_of(v: Word) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn max_of(v: Word) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn lowest_of(places: Places) -> u32 {
    return min(min(places.x, places.y), min(places.z, places.w));
}
