// What Q4_K and Q5_K share: their scales.

//#import common/blocks.wgsl

// The scale and the least number of one of eight parts of the block that begins at a word.
fn scale_and_least(start: u32, part: u32) -> vec2<f32> {
    let words = vec3<u32>(word_at(start + 1u), word_at(start + 2u), word_at(start + 3u));
    let bytes = (words >> vec3<u32>(part % 4u * 8u)) & vec3<u32>(255u);
    let early = bytes.xy & vec2<u32>(63u);
    let late = vec2<u32>(bytes.z & 15u, bytes.z >> 4u) | ((bytes.xy >> vec2<u32>(6u)) << vec2<u32>(4u));
    let scales = word_at(start);
    return vec2<f32>(select(late, early, part < 4u)) * vec2<f32>(half_of(scales), half_of(scales >> 16u));
}
