//! Broadcasting: shapes align at their last axis, and an extent of 1 stretches.

use distil_gpu_kernels::chain::Coord;

/// The shape that all of `shapes` broadcast to; `None` where they do not.
pub fn broadcast_shapes(shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max()?;
    (0..rank)
        .map(|axis| {
            let extents = shapes.iter().map(|shape| aligned(shape, axis, rank));
            extents.clone().find(|&e| e != 1).map_or(Some(1), |extent| {
                extents.clone().all(|e| e == 1 || e == extent).then_some(extent)
            })
        })
        .collect()
}

/// Extent of `shape` at `axis` of a shape of `rank` axes that it is aligned to.
fn aligned(shape: &[usize], axis: usize, rank: usize) -> usize {
    (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i])
}

/// Four extents for `shape`, and the strides over them of each operand that broadcasts to it. Neighbouring
/// axes are merged where every operand is contiguous or broadcast over both; with `keep_last` the last axis
/// stays by itself. `None` when more than four extents remain.
pub fn collapse(
    shape: &[usize],
    operands: &[&[usize]],
    keep_last: bool,
) -> Option<(Coord, Vec<Coord>)> {
    let rank = shape.len();
    // From the last axis to the first: extent, and each operand's stride.
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut lens = vec![1; operands.len()];
    for axis in (0..rank).rev() {
        let extent = shape[axis];
        let strides: Vec<usize> = operands
            .iter()
            .zip(&mut lens)
            .map(|(operand, len)| {
                let own = aligned(operand, axis, rank);
                let stride = if own == 1 { 0 } else { *len };
                *len *= own;
                stride
            })
            .collect();
        if extent == 1 && !(keep_last && axis + 1 == rank) {
            continue;
        }
        let mergeable = |(inner, below): &&mut (usize, Vec<usize>)| {
            below.iter().zip(&strides).all(|(&low, &high)| high == low * *inner)
        };
        // Whatever axes of extent 1 lie between.
        let stands_alone = keep_last && groups.len() == 1;
        match groups.last_mut().filter(mergeable) {
            Some((inner, _)) if !stands_alone => *inner *= extent,
            _ => groups.push((extent, strides)),
        }
    }
    if groups.len() > 4 {
        return None;
    }
    let mut extent = [1; 4];
    let mut strides = vec![[0; 4]; operands.len()];
    for (i, (size, steps)) in groups.into_iter().enumerate() {
        extent[3 - i] = size as u32;
        for (stride, step) in strides.iter_mut().zip(steps) {
            stride[3 - i] = step as u32;
        }
    }
    Some((extent, strides))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_meet() {
        assert_eq!(broadcast_shapes(&[&[3, 1], &[4]]), Some(vec![3, 4]));
        assert_eq!(broadcast_shapes(&[&[2, 3, 4], &[1]]), Some(vec![2, 3, 4]));
        assert_eq!(broadcast_shapes(&[&[3], &[4]]), None);
    }

    #[test]
    fn axes_merge_where_they_can() {
        let bias: &[usize] = &[5];
        let full: &[usize] = &[2, 3, 5];
        assert_eq!(collapse(full, &[full], false), Some(([1, 1, 1, 30], vec![[0, 0, 0, 1]])));
        assert_eq!(
            collapse(full, &[full, bias], false),
            Some(([1, 1, 6, 5], vec![[0, 0, 5, 1], [0, 0, 0, 1]]))
        );
        let rows: &[usize] = &[2, 1, 1];
        assert_eq!(collapse(full, &[rows], false), Some(([1, 1, 2, 15], vec![[0, 0, 1, 0]])));
        let middle: &[usize] = &[2, 1, 5];
        assert_eq!(collapse(full, &[middle], false), Some(([1, 2, 3, 5], vec![[0, 5, 0, 1]])));
        assert_eq!(collapse(full, &[full], true), Some(([1, 1, 6, 5], vec![[0, 0, 5, 1]])));
        assert_eq!(collapse(&[6, 1], &[&[6, 1]], true).unwrap().0, [1, 1, 6, 1]);
        let single: &[usize] = &[2, 1, 5];
        assert_eq!(collapse(single, &[single], true), Some(([1, 1, 2, 5], vec![[0, 0, 5, 1]])));
    }
}
