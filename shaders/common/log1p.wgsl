// ln(1 + y) of a word's numbers, some units in the last place off near 0 too, where log(1.0 + y) loses them.

//#import common/word.wgsl

// ln 2, and what it lacks as an f32.
const LN_2: f32 = 0.6931472;
const LN_2_REST: f32 = -1.9046543e-9;

// Of y > -1 and below 2^23. With 1 + y = 2^k (1 + f), f from √½ - 1 to √2 - 1, it is k ln 2 + 2 artanh(f / (2 + f)); where
// k is 0, f is y itself, which the sum rounds.
fn log1p(y: Word) -> Word {
    let bits = bitcast<Places>(1.0 + y) + Places(0x3f800000u - 0x3f3504f3u);
    let power = bits >> Places(23u);
    let scaled = bitcast<Word>((bits & Places(0x007fffffu)) + Places(0x3f3504f3u));
    let f = select(scaled - 1.0, y, power == Places(127u));
    let k = Word(power) - 127.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let tail = z * (0.33333334 + z * (0.2 + z * (0.14285715 + z * 0.11111111)));
    return k * LN_2 + (2.0 * s + (2.0 * s * tail + k * LN_2_REST));
}
