//! Convolutions' weights in files and in memory. A parameter of four axes is one: [outputs, taps down, taps across, inputs]
//! in memory, so that a place of an image has its channels side by side, [outputs, inputs, taps down, taps across] in files.

use std::borrow::Cow;

/// The shape that a file has of a parameter of this shape.
pub(in crate::models) fn file_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [outputs, down, across, inputs] => vec![outputs, inputs, down, across],
        _ => shape.to_vec(),
    }
}

/// A parameter's values as a file has them.
pub(in crate::models) fn to_file<'a>(shape: &[usize], values: &'a [f32]) -> Cow<'a, [f32]> {
    match *shape {
        [_, down, across, inputs] => turned(values, down * across, inputs).into(),
        _ => values.into(),
    }
}

/// A parameter's values, of those that a file has.
pub(in crate::models) fn of_file(shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    match *shape {
        [_, down, across, inputs] => turned(&values, inputs, down * across),
        _ => values,
    }
}

/// [.., rows, columns] as [.., columns, rows].
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let matrices = values.chunks_exact((rows * columns).max(1));
    let turn = |matrix: &'_ [f32]| -> Vec<f32> {
        (0..rows * columns).map(|at| matrix[at % rows * columns + at / rows]).collect()
    };
    matrices.flat_map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_channels_first() {
        let shape = [2, 1, 3, 2];
        let memory: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let file = to_file(&shape, &memory);
        assert_eq!(file_shape(&shape), [2, 2, 1, 3]);
        assert_eq!(*file, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
        assert_eq!(of_file(&shape, file.into_owned()), memory);
        assert_eq!(file_shape(&[3, 4]), [3, 4]);
        assert_eq!(*to_file(&[3, 4], &memory), *memory);
    }
}
