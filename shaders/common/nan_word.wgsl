// As common/nan.wgsl, of a word's numbers.

//#import common/word.wgsl

// f(v), or NaN where v is.
fn keep_nans(result: Word, v: Word) -> Word {
    let is_nan = (bitcast<Places>(v) & Places(0x7fffffffu)) > Places(0x7f800000u);
    return select(result, v, is_nan);
}
