// As common/nan.wgsl, of a word's numbers.

//#import common/word.wgsl

// f(v), or NaN where v is.
fn keep_nans(result: Word, v: Word) -> Word {
    let is_nan = (bitcast<Places>(v) & Places(0x7fffffffu)) > Places(0x7f800000u);
    return select(result, v, is_nan);
}

// 1 where v is a number, 0 where it is NaN.
fn numbers_of(v: Word) -> Word {
    let is_nan = (bitcast<Places>(v) & Places(0x7fffffffu)) > Places(0x7f800000u);
    return select(Word(1.0), Word(), is_nan);
}
