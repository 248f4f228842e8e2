//! How a GPU's threads lie over the rows of a matrix.

use crate::{Caps, Launch, Source, Variant};

/// Threads of a workgroup whose rows are short.
const THREADS: usize = 64;
/// Elements that a thread takes of a row.
const ELEMENTS_A_LANE: usize = 4;
/// Most elements that a variant has a thread add up: sums of more lose digits.
const MOST_A_LANE: usize = 512;

/// `LANES` threads a row, `ROWS` rows a workgroup; a thread takes one or four elements at once (`shaders/common/word.wgsl` and
/// `word_of_four.wgsl`). What the threads of a row come to is put together by a tree in workgroup memory, or by subgroups
/// (`row_tree.wgsl` and `row_subgroup.wgsl` there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowTile {
    /// Threads of a row: a power of two.
    pub lanes: usize,
    /// Rows of a workgroup.
    pub rows: usize,
    /// Threads of a subgroup, if by subgroups.
    pub subgroup: Option<usize>,
    /// Elements that a thread takes at once, 1 or 4; rows start at multiples of it.
    pub word: usize,
}

impl RowTile {
    /// The default for rows of so many elements, one behind the other.
    pub fn new(rows: usize, cols: usize, caps: &Caps) -> Self {
        // A driver on the CPU pays for barriers. A subgroup is one of its registers: it needs none, and reads a row in
        // order.
        let one = Self::one_subgroup(cols, caps).filter(|one| caps.software && cols >= one.lanes);
        one.unwrap_or_else(|| Self::by_tree(rows, cols, caps)).for_rows_apart(&[cols])
    }

    /// In words of four, if that many elements from one row to the next of its tensors allow it.
    pub fn for_rows_apart(self, strides: &[usize]) -> Self {
        Self { word: word(strides), ..self }
    }

    /// The default without subgroups. On a driver on the CPU a thread takes a row if the rows are many.
    pub fn by_tree(rows: usize, cols: usize, caps: &Caps) -> Self {
        Self::of_lanes(if caps.software && rows >= THREADS {
            1
        } else {
            cols.div_ceil(ELEMENTS_A_LANE).next_power_of_two().clamp(8, widest(caps))
        })
    }

    /// One subgroup a row, unless its threads would have too many elements to add up.
    pub fn one_subgroup(cols: usize, caps: &Caps) -> Option<Self> {
        let lanes = caps.subgroup_lanes? as usize;
        let fits = cols <= lanes * MOST_A_LANE;
        fits.then(|| Self { subgroup: Some(lanes), ..Self::of_lanes(lanes) })
    }

    /// So many threads a row, and as many rows as make a workgroup.
    pub fn of_lanes(lanes: usize) -> Self {
        Self { lanes, rows: (THREADS / lanes).max(1), subgroup: None, word: 1 }
    }

    /// What may be tried instead for rows of so many elements: four times as many threads, if they have something to do;
    /// the tree for subgroups; one subgroup; as many subgroups as the default has threads for; single elements for words
    /// of four.
    pub fn others(self, cols: usize, caps: &Caps) -> Vec<Self> {
        let wide = Some((4 * self.lanes).min(widest(caps)))
            .filter(|&lanes| lanes > self.lanes && self.lanes * self.word < cols);
        let by_tree = Self { subgroup: None, ..self };
        let subgroup = caps.subgroup_lanes.map(|lanes| lanes as usize);
        let several = subgroup.filter(|&lanes| self.lanes > lanes);
        let several = several.map(|_| Self { subgroup, ..Self::of_lanes(self.lanes) });
        let all =
            [wide.map(Self::of_lanes), Some(by_tree), Self::one_subgroup(cols, caps), several];
        let all = all.into_iter().flatten().map(|tile| Self { word: self.word, ..tile });
        all.chain([Self { word: 1, ..self }]).filter(|tile| *tile != self).collect()
    }

    /// The variants of a kernel whose default tile this is.
    pub fn variants(
        self,
        cols: usize,
        caps: &Caps,
        launches: impl Fn(Self) -> Vec<Launch>,
    ) -> Vec<Variant> {
        let tiles = [self].into_iter().chain(self.others(cols, caps));
        tiles.map(|tile| tile.variant(launches(tile))).collect()
    }

    /// The variant that these launches are.
    pub fn variant(self, launches: Vec<Launch>) -> Variant {
        let by = if self.subgroup.is_some() { " by subgroups" } else { "" };
        let fours = if self.word == 4 { " in fours" } else { "" };
        Variant { name: format!("{} a row, {} rows{by}{fours}", self.lanes, self.rows), launches }
    }

    /// A shader for it.
    pub fn source(self, shader: &'static str) -> Source {
        let source = Source { fours: self.word == 4, ..Source::of(shader) };
        match self.subgroup {
            None => source,
            Some(lanes) => Source {
                imports: vec![("common/row_tree", "common/row_subgroup")],
                consts: vec![("SUBGROUP", lanes as u32)],
                ..source
            },
        }
    }

    /// Words of so many elements.
    pub fn words(self, elements: usize) -> usize {
        elements / self.word
    }

    /// A shader for it, with its pipeline constants, that keeps a row of so many elements in registers where a thread has
    /// at most `most` of them.
    pub fn holding(
        self,
        shader: &'static str,
        cols: usize,
        most: usize,
        caps: &Caps,
    ) -> (Source, Vec<(&'static str, f64)>) {
        let held = self.held(cols, most, caps);
        let mut source = self.source(shader);
        source.consts.push(("HELD", held.unwrap_or(1)));
        let hold = [("HOLD", f64::from(held.is_some()))];
        (source, self.overrides().into_iter().chain(hold).collect())
    }

    /// Words that a thread then keeps; `None` where they are too many. A driver on the CPU would keep them in memory from
    /// one barrier to the next, and compile that for minutes.
    pub fn held(self, cols: usize, most: usize, caps: &Caps) -> Option<u32> {
        let words = cols.div_ceil(self.lanes * self.word);
        let waits = self.subgroup != Some(self.lanes);
        (words * self.word <= most && !(caps.software && waits)).then_some(words as u32)
    }

    /// Its pipeline constants.
    pub fn overrides(self) -> [(&'static str, f64); 2] {
        [("LANES", self.lanes as f64), ("ROWS", self.rows as f64)]
    }

    /// Workgroups over so many rows.
    pub fn grid(self, rows: usize, caps: &Caps) -> [u32; 3] {
        caps.grid(rows.div_ceil(self.rows))
    }
}

/// Most threads of a row.
fn widest(caps: &Caps) -> usize {
    256.min(1 << caps.max_workgroup_threads.ilog2())
}

/// Elements that a thread can take at once of rows that are so many elements apart: 4 if they start at multiples of it,
/// else 1.
pub(crate) fn word(strides: &[usize]) -> usize {
    if strides.iter().all(|stride| stride.is_multiple_of(4)) { 4 } else { 1 }
}

/// Names rows and columns to the next power of two, and whether rows that are so far apart can be taken in fours.
pub(crate) fn bucket(rows: usize, cols: usize, strides: &[usize]) -> String {
    let fours = if word(strides) == 4 { " in fours" } else { "" };
    format!("{}x{}{fours}", rows.next_power_of_two(), cols.next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_rows() {
        for (software, subgroup_lanes) in [(false, None), (true, Some(8)), (false, Some(32))] {
            let caps = Caps { software, subgroup_lanes, ..Caps::default() };
            for (rows, cols) in [(1, 1), (63, 10), (64, 10), (1_000_000, 3), (7, 100_000)] {
                let default = RowTile::new(rows, cols, &caps);
                for tile in [default].into_iter().chain(default.others(cols, &caps)) {
                    let groups = tile.grid(rows, &caps).map(|g| g as usize);
                    assert!(groups[0] * groups[1] * tile.rows >= rows);
                    assert!(groups[0] <= 65_535 && groups[1] <= 65_535);
                    assert!(tile.lanes.is_power_of_two());
                    assert!((64..=256).contains(&(tile.lanes * tile.rows)));
                    assert!(tile.subgroup.is_none_or(|lanes| tile.lanes.is_multiple_of(lanes)));
                }
            }
        }
    }
}
