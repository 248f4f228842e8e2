use super::{Conv, Window};
use crate::depthwise::{Depthwise, Pass};
use crate::pool::{Pool, PoolKind};
use crate::{Arg, Args, Kernel, StepState};

fn numbers(len: usize, salt: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 37 + salt * 11) % 19) as f64 / 7.0 - 1.3).collect()
}

fn run(kernel: &dyn Kernel, inputs: &[&[f64]]) -> Vec<f64> {
    let mut out = vec![f64::NAN; kernel.operands().last().map_or(0, |out| out.len)];
    let mut args: Vec<Arg<'_, f64>> = inputs.iter().map(|input| Arg::Read(input)).collect();
    args.push(Arg::Write(&mut out));
    kernel.run_f64(Args::new(args), &StepState::default());
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-10 * (1.0 + a.abs())
}

fn convs() -> Vec<Conv> {
    let uneven = Window { taps: [2, 3], stride: [3, 1], dilation: [1, 2], padding: [0, 1, 2, 0] };
    let bottom = Window { padding: [0, 0, 1, 1], ..Window::square(3, 2, 0) };
    let mut convs = Vec::new();
    for (window, images, size, [inputs, outputs, groups]) in [
        (Window::square(1, 1, 0), 1, [1, 1], [1, 1, 1]),
        (Window::square(3, 1, 1), 2, [5, 7], [3, 5, 1]),
        (Window::square(3, 2, 1), 2, [7, 8], [4, 6, 2]),
        (uneven, 2, [8, 11], [5, 4, 1]),
        (bottom, 1, [6, 6], [4, 4, 1]),
        (Window::square(5, 1, 2), 3, [3, 1], [2, 1, 1]),
        (Window::square(2, 3, 0), 2, [9, 8], [6, 9, 3]),
    ] {
        convs.push(Conv { window, images, size, inputs, outputs, groups });
    }
    convs
}

/// The definition: out [n, p, q, output] = Σ over taps and the group's inputs of x · weights [output, r, s, input].
fn definition(conv: &Conv, x: &[f64], weights: &[f64]) -> Vec<f64> {
    let Conv { window, images, size: [height, width], inputs, outputs, groups } = *conv;
    let ([down, across], [taps_down, taps_across]) = (conv.places(), window.taps);
    let (of_group, made) = (inputs / groups, outputs / groups);
    let mut out = Vec::new();
    for n in 0..images {
        for (p, q) in (0..down).flat_map(|p| (0..across).map(move |q| (p, q))) {
            for o in 0..outputs {
                let mut sum = 0.0;
                for (r, s) in (0..taps_down).flat_map(|r| (0..taps_across).map(move |s| (r, s))) {
                    let y = (p * window.stride[0] + r * window.dilation[0]) as isize
                        - window.padding[0] as isize;
                    let x_at = (q * window.stride[1] + s * window.dilation[1]) as isize
                        - window.padding[1] as isize;
                    if y < 0 || x_at < 0 || y >= height as isize || x_at >= width as isize {
                        continue;
                    }
                    for c in 0..of_group {
                        let pixel = (n * height + y as usize) * width + x_at as usize;
                        let weight = ((o * taps_down + r) * taps_across + s) * of_group + c;
                        sum += x[pixel * inputs + o / made * of_group + c] * weights[weight];
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// [groups, rows, columns] as [rows, groups · columns].
fn side_by_side(values: &[f64], groups: usize, columns: usize) -> Vec<f64> {
    let rows = values.len() / groups / columns;
    let at =
        |row: usize, group: usize, column: usize| values[(group * rows + row) * columns + column];
    (0..rows)
        .flat_map(|row| (0..groups * columns).map(move |c| at(row, c / columns, c % columns)))
        .collect()
}

/// The other way round.
fn by_group(values: &[f64], groups: usize, columns: usize) -> Vec<f64> {
    let rows = values.len() / groups / columns;
    (0..groups * rows)
        .flat_map(|at| {
            let (group, row) = (at / rows, at % rows);
            values[row * groups * columns + group * columns..][..columns].to_vec()
        })
        .collect()
}

/// Weights [groups, outputs, taps, inputs] as [groups, taps, outputs, inputs].
fn turned(weights: &[f64], conv: &Conv) -> Vec<f64> {
    let (outputs, taps, inputs) =
        (conv.outputs / conv.groups, conv.taps(), conv.inputs / conv.groups);
    (0..conv.groups * taps * outputs)
        .flat_map(|at| {
            let (group, tap, output) = (at / outputs / taps, at / outputs % taps, at % outputs);
            weights[((group * outputs + output) * taps + tap) * inputs..][..inputs].to_vec()
        })
        .collect()
}

#[test]
fn convolutions_are_the_definition() {
    for conv in convs() {
        let (pixels, groups) = (conv.images * conv.size[0] * conv.size[1], conv.groups);
        let x = numbers(pixels * conv.inputs, 1);
        let weights = numbers(conv.outputs * conv.taps() * conv.inputs / groups, 2);
        let found = run(&conv.forward(), &[&x, &weights]);
        let found = side_by_side(&found, groups, conv.outputs / groups);
        let expected = definition(&conv, &x, &weights);
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(&expected).all(|(&f, &e)| close(f, e)), "{conv:?}");
    }
}

/// ⟨A x, dy⟩ = ⟨x, Aᵀ dy⟩, by x and by the weights.
#[test]
fn gradients_are_the_adjoints() {
    for conv in convs() {
        let (pixels, groups) = (conv.images * conv.size[0] * conv.size[1], conv.groups);
        let (made, of_group) = (conv.outputs / groups, conv.inputs / groups);
        let x = numbers(pixels * conv.inputs, 1);
        let weights = numbers(conv.outputs * conv.taps() * of_group, 2);
        let out = definition(&conv, &x, &weights);
        let dy = numbers(out.len(), 3);
        let dx = run(&conv.input_gradient(), &[&dy, &turned(&weights, &conv)]);
        let dx = side_by_side(&dx, groups, of_group);
        assert!(close(dot(&out, &dy), dot(&x, &dx)), "{conv:?}");
        let dw = run(&conv.weight_gradient(), &[&x, &by_group(&dy, groups, made)]);
        // [groups, taps · inputs, outputs], where weights are [groups, outputs, taps · inputs].
        let depth = conv.taps() * of_group;
        let weights: Vec<f64> = (0..groups * depth * made)
            .map(|at| {
                let (group, k, output) = (at / made / depth, at / made % depth, at % made);
                weights[(group * made + output) * depth + k]
            })
            .collect();
        assert!(close(dot(&out, &dy), dot(&weights, &dw)), "{conv:?}");
    }
}

#[test]
fn depthwise_is_a_convolution_of_as_many_groups() {
    for conv in convs() {
        let channels = conv.inputs;
        let conv = Conv { outputs: channels, groups: channels, ..conv };
        let Conv { window, images, size, .. } = conv;
        let kernel = |pass| Depthwise { window, images, size, channels, pass };
        let x = numbers(images * size[0] * size[1] * channels, 1);
        let weights = numbers(conv.taps() * channels, 2);
        // [channels, taps] as [taps, channels].
        let by_tap: Vec<f64> = (0..weights.len())
            .map(|at| weights[at % channels * conv.taps() + at / channels])
            .collect();
        let out = run(&kernel(Pass::Forward), &[&x, &by_tap]);
        let expected = definition(&conv, &x, &weights);
        assert!(out.iter().zip(&expected).all(|(&f, &e)| close(f, e)), "{conv:?}");
        let dy = numbers(out.len(), 3);
        let dx = run(&kernel(Pass::Input), &[&dy, &by_tap]);
        let dw = run(&kernel(Pass::Weights), &[&x, &dy]);
        assert!(close(dot(&out, &dy), dot(&x, &dx)), "{conv:?}");
        assert!(close(dot(&out, &dy), dot(&by_tap, &dw)), "{conv:?}");
    }
}

#[test]
fn means_of_pools_are_linear_and_back_is_their_adjoint() {
    for conv in convs().into_iter().filter(|conv| Pool::is_filled(&conv.window)) {
        let Conv { window, images, size, inputs: channels, .. } = conv;
        for count_padding in [false, true] {
            let kind = PoolKind::Mean { count_padding };
            let pool = |backward| Pool { window, images, size, channels, kind, backward };
            let x = numbers(images * size[0] * size[1] * channels, 1);
            let out = run(&pool(false), &[&x]);
            let dy = numbers(out.len(), 2);
            let dx = run(&pool(true), &[&dy]);
            assert!(close(dot(&out, &dy), dot(&x, &dx)), "{conv:?}");
            // Of a constant image, where all that counts is seen, it is the constant.
            let out = run(&pool(false), &[&vec![2.5; x.len()]]);
            assert!(count_padding || out.iter().all(|&mean| close(mean, 2.5)), "{conv:?}");
        }
    }
}

#[test]
fn the_first_of_equals_is_the_largest() {
    let pool = |backward| Pool {
        window: Window::square(2, 1, 0),
        images: 1,
        size: [2, 3],
        channels: 1,
        kind: PoolKind::Max,
        backward,
    };
    let x = [1.0, 5.0, 5.0, 5.0, 5.0, 2.0];
    assert_eq!(run(&pool(false), &[&x]), [5.0, 5.0]);
    assert_eq!(run(&pool(true), &[&x, &[1.0, 10.0]]), [0.0, 11.0, 0.0, 0.0, 0.0, 0.0]);
    let spoilt = [1.0, 5.0, f64::NAN, 5.0, 5.0, f64::NAN];
    let out = run(&pool(false), &[&spoilt]);
    assert!(out[0] == 5.0 && out[1].is_nan(), "{out:?}");
    assert_eq!(run(&pool(true), &[&spoilt, &[1.0, 10.0]]), [0.0, 1.0, 10.0, 0.0, 0.0, 0.0]);
}

#[test]
fn threads_change_no_bits() {
    let conv = Conv {
        window: Window::square(3, 1, 1),
        images: 9,
        size: [17, 19],
        inputs: 12,
        outputs: 20,
        groups: 1,
    };
    let narrow = |len, salt| numbers(len, salt).into_iter().map(|v| v as f32).collect::<Vec<_>>();
    for product in [conv.forward(), conv.input_gradient(), conv.weight_gradient()] {
        let operands = product.operands();
        let [a, b] = [0, 1].map(|operand| narrow(operands[operand].len, operand));
        let bits = [1, 3, 16].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0_f32; operands[2].len];
            let args = Args::new(vec![Arg::Read(&a), Arg::Read(&b), Arg::Write(&mut out)]);
            pool.install(|| product.run_f32(args, &StepState::default()));
            out.iter().map(|out| out.to_bits()).collect::<Vec<_>>()
        });
        assert!(bits.iter().all(|other| *other == bits[0]), "{product:?}");
    }
}
