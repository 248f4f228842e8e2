//! Damaged files, made from good ones by seeded chance.

/// A generator of 64-bit numbers (SplitMix64; Steele, Lea and Flood 2014): the same for the same seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number of all 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.number() % end as u64) as usize }
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Numbers that readers stumble over, as text.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "1e999",
    "-1e-999",
    "NaN",
    "0.5",
    "1e10",
    "99999999999999999999",
];
/// Other text that readers stumble over.
const WORDS: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"",
    "\\u0000",
    "\\ud800",
    "../../x",
    "\u{1b}[31m",
    "\u{202e}",
    "é",
    "🎬",
    "\r",
    "\n\n",
    ",,,",
    "[[[[[[[[[[[[[[[[",
    "\0",
];
/// Numbers that readers stumble over, as bytes.
const WIDE: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// A damaged copy of `seed`; parts of `other`, another good file, may get into it.
pub fn mutated(seed: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let len = {
            let most = chance.of(&[2, 9, 65, 1025]);
            chance.below(most)
        };
        let end = (at + len).min(bytes.len());
        match chance.below(12) {
            0 => bytes.truncate(at),
            1 => _ = bytes.drain(at..end),
            2 => {
                let copy = bytes[at..end].to_vec();
                let to = chance.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            3 => bytes[at..end].fill(chance.of(&[0, 0xff, b' ', b'9', b'"'])),
            4 => {
                let wide = chance.of(WIDE).to_le_bytes();
                let width = chance.of(&[1, 2, 4, 8]);
                let end = (at + width).min(bytes.len());
                let narrow = wide[..width].iter().copied().take(end - at);
                bytes.splice(at..end, narrow);
            }
            5 => {
                let wide = chance.of(WIDE).to_be_bytes();
                let width = chance.of(&[2, 4, 8]);
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, wide[8 - width..].iter().copied().take(end - at));
            }
            6 => _ = bytes.splice(at..at, chance.of(WORDS).bytes()),
            7 | 8 => replace_number(&mut bytes, at, chance),
            9 => {
                let from = chance.below(other.len() + 1);
                let until = (from + len).min(other.len());
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
    bytes
}

/// Puts another number in the place of the first that is written in digits behind `at`.
fn replace_number(bytes: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|start| at + start)
    else {
        return;
    };
    let len = bytes[start..].iter().position(|byte| !byte.is_ascii_digit());
    let end = len.map_or(bytes.len(), |len| start + len);
    bytes.splice(start..end, chance.of(NUMBERS).bytes());
}
