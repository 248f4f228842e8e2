//! Loops in the assembly of AMD's GPUs.

/// What an innermost loop is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loop {
    pub instructions: usize,
    /// Multiplications with addition of floats; two of those that go in one instruction.
    pub multiply_adds: usize,
    /// Loads from workgroup memory, of any width.
    pub shared_loads: usize,
}

/// The innermost loops of a text: `BB7:` begins a block, a branch backwards ends a loop.
pub fn innermost(text: &str) -> Vec<Loop> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        match (line.strip_suffix(':'), blocks.last_mut()) {
            (Some(name), _) if name.starts_with("BB") => blocks.push((name, Vec::new())),
            (None, Some((_, lines))) if !line.is_empty() => lines.push(line),
            _ => {}
        }
    }
    let place = |name: &str| blocks.iter().position(|(block, _)| *block == name);
    let mut loops: Vec<(usize, usize)> = Vec::new();
    for (end, (_, lines)) in blocks.iter().enumerate() {
        for line in lines {
            let mut words = line.split_whitespace();
            let is_branch = words
                .next()
                .is_some_and(|word| word.starts_with("s_branch") || word.starts_with("s_cbranch"));
            let target = words.next().and_then(place);
            if let (true, Some(begin)) = (is_branch, target.filter(|begin| *begin <= end)) {
                loops.push((begin, end));
            }
        }
    }
    let inner = |own: &(usize, usize)| {
        !loops.iter().any(|other| other != own && other.0 >= own.0 && other.1 <= own.1)
    };
    let count = |&(begin, end): &(usize, usize)| {
        let lines = || blocks[begin..=end].iter().flat_map(|(_, lines)| lines.iter().copied());
        Loop {
            instructions: lines().count(),
            multiply_adds: lines().map(multiply_adds).sum(),
            shared_loads: lines()
                .filter(|line| line.starts_with("ds_load") || line.starts_with("ds_read"))
                .count(),
        }
    };
    loops.iter().filter(|own| inner(own)).map(count).collect()
}

/// Multiplications with addition of an instruction, of which a dual one has up to two, a packed one two.
fn multiply_adds(line: &str) -> usize {
    let adds = |word: &str| {
        let bare = word.trim_start_matches("v_").trim_start_matches("dual_");
        let bare = bare.strip_prefix("pk_").map_or((bare, 1), |rest| (rest, 2));
        let known = ["fma_", "fmac_", "fmaak_", "fmamk_", "mac_", "mad_f"];
        if known.iter().any(|name| bare.0.starts_with(name)) { bare.1 } else { 0 }
    };
    line.split_whitespace().filter(|word| word.starts_with("v_")).map(adds).sum()
}

#[test]
fn loops_are_counted() {
    let text = "BB0:\n\ts_mov_b32 s0, 0\nBB1:\n\tv_mov_b32 v0, 0\nBB2:\n\tds_load_b128 v[0:3], v9 ; encoding\n\
                \tv_fmac_f32_e32 v0, v1, v2\n\tv_dual_fmac_f32 v0, v1, v2 :: v_dual_fmac_f32 v3, v4, v5\n\
                \tv_pk_fma_f16 v0, v1, v2, v3\n\ts_cbranch_scc1 BB2\nBB3:\n\ts_branch BB1\nBB4:\n\ts_endpgm\n";
    let found = innermost(text);
    assert_eq!(found, [Loop { instructions: 5, multiply_adds: 5, shared_loads: 1 }]);
}
