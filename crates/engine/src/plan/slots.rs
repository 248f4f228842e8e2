//! Buffer reuse: a slot serves one tensor after another.

/// A tensor's life: from the call that makes it to the last that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Elements.
    pub len: usize,
    /// Index of the first call that touches it.
    pub first: usize,
    /// Index of the last.
    pub last: usize,
}

/// The slots' sizes, and the slot of each tensor. Two tensors share a slot only if no call touches both,
/// since a kernel's operands must not overlap. First fit, largest tensors first (greedy by size).
pub(super) fn assign(lives: &[Life]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].len), lives[i].first));
    let mut slots: Vec<(usize, Vec<Life>)> = Vec::new();
    let mut chosen = vec![0; lives.len()];
    for index in order {
        let life = lives[index];
        let free = |held: &[Life]| held.iter().all(|h| h.last < life.first || life.last < h.first);
        let slot = slots.iter().position(|(_, held)| free(held)).unwrap_or_else(|| {
            slots.push((life.len, Vec::new()));
            slots.len() - 1
        });
        slots[slot].1.push(life);
        chosen[index] = slot;
    }
    (slots.into_iter().map(|(len, _)| len).collect(), chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_do_not_meet_share() {
        let life = |len, first, last| Life { len, first, last };
        let (sizes, chosen) = assign(&[life(4, 0, 1), life(8, 1, 2), life(3, 2, 3), life(8, 3, 4)]);
        assert_eq!(sizes, [8, 4]);
        assert_eq!(chosen, [1, 0, 1, 0]);
    }
}
