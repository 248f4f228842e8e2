//! Every kernel and every variant of it against the f64 oracle, on every driver and on the CPU path: the
//! cases and limits that users' machines are checked by.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_engine::verify::cases::{self, epilogues, flat, rules};
use distil_gpu_kernels::add_to::AddTo;
use distil_gpu_kernels::attention::Attention;
use distil_gpu_kernels::chain::{Chain, Stage};
use distil_gpu_kernels::columns::Columns;
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::feature_loss::{FeatureLoss, Measure};
use distil_gpu_kernels::gather::Gather;
use distil_gpu_kernels::glu::{Gate, Glu, Halves};
use distil_gpu_kernels::grad_norm::{GradNormFinish, GradNormPartial};
use distil_gpu_kernels::layer_norm::{LayerNorm, LayerNormBackward, LayerNormFinish};
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::max_norm::MaxNorm;
use distil_gpu_kernels::optimizer::{Factor, Optimizer};
use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
use distil_gpu_kernels::relation_loss::RelationLoss;
use distil_gpu_kernels::roof::Roof;
use distil_gpu_kernels::rotary::Rotary;
use distil_gpu_kernels::scatter::Scatter;
use distil_gpu_kernels::softmax::Softmax;
use distil_gpu_kernels::{DType, Kernel, StepState, random as counter};
use distil_gpu_tests::{Data, assert_checked_alike, devices, filled, hold, run_kernel, variants};

#[test]
fn elementwise_has_every_stage_and_broadcasts() {
    hold(&cases::elementwise());
}

#[test]
fn matmul_has_every_tile_layout_size_and_epilogue() {
    hold(&cases::matmul());
}

#[test]
fn convolutions_have_every_window_and_pass() {
    hold(&cases::conv());
}

#[test]
fn depthwise_convolutions_have_every_pass() {
    hold(&cases::depthwise());
}

#[test]
fn pools_have_every_kind_and_window() {
    hold(&cases::pool());
}

#[test]
fn batch_norm_has_every_pass() {
    hold(&cases::batch_norm());
}

#[test]
fn reduce_has_every_operation_and_shape() {
    hold(&cases::reduce());
}

#[test]
fn softmax_goes_both_ways() {
    hold(&cases::softmax());
}

#[test]
fn gather_has_every_run_and_id() {
    hold(&cases::gather());
}

#[test]
fn kernels_run_over_parts_of_tensors() {
    hold(&cases::parts());
}

#[test]
fn weights_in_f16_are_read_right() {
    hold(&cases::stored());
}

#[test]
fn quantised_blocks_are_read_right() {
    hold(&cases::in_blocks());
}

#[test]
fn kernels_have_what_they_can_in_f16() {
    hold(&cases::halved());
}

#[test]
fn loss_scale_goes_up_and_down() {
    hold(&cases::loss_scale());
}

#[test]
fn layer_norm_goes_both_ways() {
    hold(&cases::layer_norm());
}

#[test]
fn attention_has_every_head_mask_and_pass() {
    hold(&cases::attention());
}

#[test]
fn rotary_turns_both_ways() {
    hold(&cases::rotary());
}

#[test]
fn glu_has_every_gate() {
    hold(&cases::glu());
}

#[test]
fn relative_positions_are_gathered_and_summed() {
    hold(&cases::relative_gather());
}

#[test]
fn columns_are_cut_and_put_together() {
    hold(&cases::columns());
}

#[test]
fn feature_loss_has_every_measure_and_shape() {
    hold(&cases::feature_loss());
}

#[test]
fn relation_loss_has_every_head_and_length() {
    hold(&cases::relation_loss());
}

#[test]
fn tokens_are_drawn_alike_everywhere() {
    hold(&cases::sample());
}

#[test]
fn rows_go_to_their_places() {
    hold(&cases::scatter());
}

#[test]
fn sums_grow_in_place() {
    hold(&cases::add_to());
}

#[test]
fn optimizers_follow_their_rules() {
    hold(&cases::optimizer());
}

#[test]
fn gradient_norms_clip() {
    hold(&cases::grad_norm());
}

#[test]
fn max_norm_bounds_rows() {
    hold(&cases::max_norm());
}

#[test]
fn roof_computes_what_it_claims() {
    hold(&cases::roof());
}

#[test]
fn dropout_masks_are_the_same_bits_everywhere() {
    let extent = [2, 3, 5, 67];
    let len = 2010;
    for device in &mut devices() {
        for (rate, stream, seed, step) in
            [(0.1, 0, 0, 0), (0.5, 7, 1, 99), (0.9, u32::MAX, u32::MAX, 1 << 31)]
        {
            let chain = Chain { stages: vec![Stage::Dropout { rate, stream }], operands: vec![] };
            let kernel = Elementwise { extent, main_strides: Some([0; 4]), chain };
            let state = StepState { seed, step, ..StepState::default() };
            let data = [Data::Floats(vec![1.0]), Data::Unwritten];
            let kernel: Arc<dyn Kernel> = Arc::new(kernel);
            for (variant, kernel) in variants(&kernel, &**device) {
                let found = run_kernel(&mut **device, &kernel, &state, &data).unwrap().remove(0);
                let kept: Vec<bool> = found.iter().map(|&v| v != 0.0).collect();
                let unit = |i| counter::unit(counter::word(seed, stream, step, i));
                let expected: Vec<bool> = (0..len).map(|i| unit(i) >= rate).collect();
                assert_eq!(kept, expected, "{variant} on {}", device.info().name);
            }
        }
    }
}

#[test]
fn checked_shaders_give_the_same_bits() {
    let extent = [1, 2, 25, 28];
    let mut samples: Vec<(Arc<dyn Kernel>, Vec<Data>)> = Vec::new();
    let mut sample = |kernel: Arc<dyn Kernel>| {
        let data = filled(&*kernel, 0.1, 1.0);
        samples.push((kernel, data));
    };
    // Only a depth of whole fours is loaded four words at once; of the epilogues, the two longest.
    for (k, chain) in [33, 36].into_iter().zip(epilogues(extent).into_iter().rev()) {
        sample(Arc::new(Matmul { chain, extent, ..Matmul::new(50, 28, k, false, false) }));
    }
    sample(Arc::new(Matmul::new(52, 28, 36, true, true)));
    sample(Arc::new(flat(vec![Stage::GeluErf, Stage::Dropout { rate: 0.5, stream: 0 }], 0, 999)));
    sample(Arc::new(Reduce { op: ReduceOp::Mean, outer: 5, len: 99, inner: 1, accumulate: true }));
    sample(Arc::new(Reduce { op: ReduceOp::Max, outer: 2, len: 99, inner: 7, accumulate: false }));
    sample(Arc::new(Softmax { rows: 9, cols: 77, backward: false }));
    sample(Arc::new(Softmax { rows: 9, cols: 77, backward: true }));
    for table_rows in [2, 500] {
        for backward in [false, true] {
            sample(Arc::new(Gather {
                backward,
                accumulate: backward && table_rows > 7,
                table_type: if !backward && table_rows > 7 { DType::F16 } else { DType::F32 },
                ..Gather::new(200, table_rows, 77)
            }));
        }
    }
    sample(Arc::new(Matmul { b_type: DType::F16, ..Matmul::new(50, 28, 36, false, true) }));
    let backward = LayerNormBackward::new(50, 77);
    sample(Arc::new(LayerNorm::new(9, 77, 1e-5)));
    sample(Arc::new(backward));
    sample(Arc::new(LayerNormFinish { blocks: backward.blocks(), cols: 77 }));
    for head_dim in [10, 32] {
        let attention = Attention {
            causal: head_dim == 32,
            window: (head_dim == 32).then_some(9),
            bias: (head_dim == 10).then_some(1),
            dropout: 0.1,
            stream: 2,
            ..Attention::new([2, 70, 2, head_dim], 0.3)
        };
        let bias_gradient = head_dim == 10;
        let backward = Attention { backward: true, bias_gradient, ..attention };
        for kernel in [attention, backward] {
            sample(Arc::new(kernel));
        }
    }
    for gradient in [false, true] {
        for measure in [Measure::Cosine, Measure::Square] {
            let (rows, cols, positions, weight) = (30, 77, 10, 0.5);
            sample(Arc::new(FeatureLoss {
                rows,
                cols,
                measure,
                positions,
                tokens: true,
                weight,
                gradient,
            }));
        }
        sample(Arc::new(RelationLoss {
            batch: 2,
            length: 35,
            heads: 3,
            head_dim: 10,
            teacher_dim: 17,
            weight: 0.5,
            gradient,
        }));
    }
    let (length, half, positions) = (7, 9, 8);
    let rotary =
        Rotary { batch: 3, length, heads: 2, head_dim: 20, half, positions, inverse: true };
    sample(Arc::new(rotary));
    for backward in [false, true] {
        let (rows, half, gate) = (9, 77, Gate::Silu);
        for halves in [Halves::GateLast, Halves::Apart] {
            sample(Arc::new(Glu { rows, half, gate, halves, backward }));
        }
        sample(Arc::new(Columns { rows, cols: half, blocks: 3, join: backward }));
    }
    for case in cases::relative_gather().into_iter().skip(2) {
        samples.push((case.kernel, case.data));
    }
    let mut sample = |kernel: Arc<dyn Kernel>| {
        let data = filled(&*kernel, 0.1, 1.0);
        samples.push((kernel, data));
    };
    sample(Arc::new(AddTo { len: 333 }));
    sample(Arc::new(Scatter { rows: 9, cols: 7, table_rows: 30 }));
    sample(Arc::new(Roof { len: 333, rounds: 8 }));
    sample(Arc::new(GradNormPartial::new(10_000)));
    sample(Arc::new(GradNormFinish { partials: 64, max_norm: 0.5 }));
    sample(Arc::new(MaxNorm { rows: 9, cols: 77, bound: 1.0 }));
    for rule in rules() {
        // Word by word, and in fours.
        for len in [333, 332] {
            let (lr_scale, weight_decay, factor) = (1.0, 0.1, Factor::Clip);
            sample(Arc::new(Optimizer { rule, len, lr_scale, weight_decay, factor }));
        }
    }
    let state = StepState { learning_rate: 0.1, ..StepState::default() };
    assert_checked_alike(&samples, &state);
}
