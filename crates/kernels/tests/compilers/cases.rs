//! Kernels at the shapes that real models have.

use std::sync::Arc;

use distil_gpu_kernels::add_to::AddTo;
use distil_gpu_kernels::attention::Attention;
use distil_gpu_kernels::batch_norm::{
    BatchMoments, BatchNorm, BatchNormBackward, BatchNormSums, RunningMoments,
};
use distil_gpu_kernels::chain::{Binary, Chain, Stage};
use distil_gpu_kernels::columns::Columns;
use distil_gpu_kernels::conv::{Conv, Window};
use distil_gpu_kernels::depthwise::{Depthwise, Pass};
use distil_gpu_kernels::distill_loss::DistillLoss;
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::feature_loss::{FeatureLoss, Measure};
use distil_gpu_kernels::gather::Gather;
use distil_gpu_kernels::glu::{Gate, Glu, Halves};
use distil_gpu_kernels::grad_norm::{GradNormFinish, GradNormPartial};
use distil_gpu_kernels::layer_norm::{LayerNorm, LayerNormBackward, LayerNormFinish};
use distil_gpu_kernels::loss_scale::LossScale;
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::max_norm::MaxNorm;
use distil_gpu_kernels::optimizer::{Factor, Optimizer, Rule};
use distil_gpu_kernels::pointwise_loss::{PointwiseKind, PointwiseLoss};
use distil_gpu_kernels::pool::{Pool, PoolKind};
use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
use distil_gpu_kernels::relation_loss::RelationLoss;
use distil_gpu_kernels::relative_gather::RelativeGather;
use distil_gpu_kernels::roof::Roof;
use distil_gpu_kernels::rotary::Rotary;
use distil_gpu_kernels::sample::Sample;
use distil_gpu_kernels::scatter::Scatter;
use distil_gpu_kernels::softmax::Softmax;
use distil_gpu_kernels::{Blocks, DType, Divergence, Halved, Kernel};

/// A kernel, and what it is called in a table.
pub type Case = (String, Arc<dyn Kernel>);

/// Every kernel, in f32 and with all in f16 that may be.
pub fn cases() -> Vec<Case> {
    let mut cases = [products(), attention(), rows(), losses(), elements(), images()].concat();
    let halved: Vec<Case> = cases
        .iter()
        .filter(|(_, kernel)| !kernel.halves().is_empty())
        .map(|(name, kernel)| {
            let halved = Halved::new(kernel.clone(), kernel.halves());
            (format!("{name} in f16"), Arc::new(halved) as Arc<dyn Kernel>)
        })
        .collect();
    cases.extend(halved);
    cases
}

fn case(name: impl Into<String>, kernel: impl Kernel + 'static) -> Case {
    (name.into(), Arc::new(kernel))
}

fn bias_and_gelu() -> Chain {
    let stages = vec![Stage::Binary(Binary::Add, 0), Stage::GeluErf];
    Chain { stages, operands: vec![[0, 0, 0, 1]] }
}

fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (layout, trans_a, trans_b) in
        [("NN", false, false), ("NT", false, true), ("TN", true, false)]
    {
        for side in [4096, 384] {
            let product = Matmul::new(side, side, side, trans_a, trans_b);
            cases.push(case(format!("product {side} {layout}"), product));
        }
    }
    let product = Matmul::new(4096, 3072, 768, false, true);
    for b_type in [DType::F16, DType::I8] {
        let name = format!("product 4096x3072x768 NT, B of {b_type:?}");
        cases.push(case(name, Matmul { b_type, ..product.clone() }));
    }
    let product = Matmul { chain: bias_and_gelu(), ..product };
    cases.push(case("product 4096x3072x768 NT, bias and gelu", product));
    let product = Matmul::new(384, 384, 32_768, true, false);
    cases.push(case("product 384x384x32768 TN, added", Matmul { accumulate: true, ..product }));
    for rows in [1, 4] {
        cases.push(case(
            format!("product {rows}x3072x768 NT"),
            Matmul::new(rows, 3072, 768, false, true),
        ));
    }
    cases
}

fn attention() -> Vec<Case> {
    let mut cases = Vec::new();
    for head_dim in [16, 32, 64, 72, 128] {
        for backward in [false, true] {
            let of = Attention { backward, ..Attention::new([32, 512, 12, head_dim], 0.125) };
            let way = if backward { "backward" } else { "forward" };
            let name = |what: &str| format!("attention {head_dim} {way}{what}");
            cases.push(case(name(""), of));
            let causal = Attention { causal: true, dropout: 0.1, stream: 1, ..of };
            cases.push(case(name(", causal, dropout"), causal));
            let grouped = Attention { kv_heads: 4, ranges: true, ..of };
            cases.push(case(name(", ranges, 3 heads a key"), grouped));
        }
    }
    let of = Attention::new([32, 512, 12, 64], 0.125);
    for backward in [false, true] {
        let biased = Attention { bias: Some(1), bias_gradient: backward, backward, ..of };
        let way = if backward { "backward" } else { "forward" };
        cases.push(case(format!("attention 64 {way}, bias"), biased));
    }
    cases
}

fn rows() -> Vec<Case> {
    let mut cases = Vec::new();
    for cols in [384, 768] {
        let backward = LayerNormBackward::new(4096, cols);
        let finish = LayerNormFinish { blocks: backward.blocks(), cols };
        cases.push(case(format!("layer norm {cols}"), LayerNorm::new(4096, cols, 1e-5)));
        cases.push(case(format!("layer norm {cols} backward"), backward));
        cases.push(case(format!("layer norm {cols} finish"), finish));
    }
    for backward in [false, true] {
        let way = if backward { " backward" } else { "" };
        for (rows, cols) in [(4096, 512), (1024, 50_257)] {
            cases.push(case(
                format!("softmax {rows}x{cols}{way}"),
                Softmax { rows, cols, backward },
            ));
        }
        let (batch, length, heads, head_dim, half) = (8, 512, 12, 64, 32);
        let rotary =
            Rotary { batch, length, heads, head_dim, half, positions: 2048, inverse: backward };
        cases.push(case(format!("rotary{way}"), rotary));
        let (rows, half, gate, halves) = (4096, 1536, Gate::Silu, Halves::Apart);
        cases.push(case(format!("silu gate{way}"), Glu { rows, half, gate, halves, backward }));
        let quantised = DType::Blocks(Blocks::Q4_K);
        for table_type in [DType::F32, DType::F16, DType::I8, quantised] {
            if table_type == DType::F32 || !backward {
                let accumulate = backward;
                let whole = Gather::new(4096, 30_522, 768);
                let gather = Gather { backward, accumulate, table_type, ..whole };
                cases.push(case(format!("gather{way} of {table_type:?}"), gather));
            }
        }
        let (batch, heads, length, buckets) = (8, 12, 512, 512);
        let (content, position) = (true, true);
        let relative =
            RelativeGather { batch, heads, length, buckets, content, position, backward };
        cases.push(case(format!("relative gather{way}"), relative));
    }
    for penalised in [false, true] {
        let said = if penalised { " of some said" } else { "" };
        let sample = Sample { rows: 8, cols: 128_256, penalised };
        cases.push(case(format!("sample{said}"), sample));
    }
    cases.push(case("scatter", Scatter { rows: 512, cols: 192, table_rows: 100_000 }));
    cases.push(case("largest norm", MaxNorm { rows: 768, cols: 768, bound: 3.0 }));
    cases.push(case("columns", Columns { rows: 4096, cols: 384, blocks: 3, join: false }));
    cases.push(case("columns joined", Columns { rows: 4096, cols: 384, blocks: 3, join: true }));
    cases
}

/// Kernels over images: a layer of ResNet-50, and one of MobileNetV2.
fn images() -> Vec<Case> {
    let (window, images, size, eps) = (Window::square(3, 1, 1), 32, [28, 28], 1e-5);
    let conv = Conv { window, images, size, inputs: 128, outputs: 128, groups: 1 };
    let mut cases = vec![
        case("conv 128 to 128", conv.forward()),
        case("conv 128 to 128 by image", conv.input_gradient()),
        case("conv 128 to 128 by weights", conv.weight_gradient()),
    ];
    let (rows, channels) = (32 * 28 * 28, 192);
    for pass in [Pass::Forward, Pass::Input, Pass::Weights] {
        let depthwise = Depthwise { window, images, size, channels, pass };
        cases.push(case(format!("depthwise {pass:?}"), depthwise));
    }
    for (name, kind) in
        [("largest", PoolKind::Max), ("mean", PoolKind::Mean { count_padding: true })]
    {
        for backward in [false, true] {
            let way = if backward { " backward" } else { "" };
            let pool = Pool { window, images, size, channels, kind, backward };
            cases.push(case(format!("pool of the {name}{way}"), pool));
        }
    }
    let (chain, extent) = (Chain::default(), [1, 1, rows as u32, channels as u32]);
    cases.push(case("batch norm moments", BatchMoments { rows, channels }));
    cases.push(case("batch norm", BatchNorm { rows, channels, eps, chain, extent }));
    cases.push(case("batch norm sums", BatchNormSums { rows, channels, eps }));
    cases.push(case("batch norm backward", BatchNormBackward { rows, channels, eps }));
    cases.push(case("batch norm running", RunningMoments { rows, channels, momentum: 0.1 }));
    cases
}

fn losses() -> Vec<Case> {
    let mut cases = Vec::new();
    for gradient in [false, true] {
        let way = if gradient { " gradient" } else { "" };
        for (rows, classes) in [(32, 10), (1024, 50_257), (1024, 128_256)] {
            let decoupled = Divergence::DecoupledKl { target: 1.0, others: 8.0 };
            for (divergence, standardise) in [
                (Divergence::ForwardKl, false),
                (Divergence::ReverseKl, false),
                (Divergence::ForwardKl, true),
                (decoupled, true),
            ] {
                let scores = if standardise { " standardised" } else { "" };
                let name =
                    format!("distillation loss {rows}x{classes} {divergence:?}{scores}{way}");
                let loss = DistillLoss {
                    gradient,
                    divergence,
                    standardise,
                    teacher_stride: Some(classes),
                    ..DistillLoss::new(rows, classes)
                };
                cases.push(case(name, loss));
            }
        }
        for kind in [PointwiseKind::Square, PointwiseKind::Logistic(Divergence::ForwardKl)] {
            let loss = PointwiseLoss { rows: 4096, outputs: 20, kind, teacher: true, gradient };
            cases.push(case(format!("pointwise loss {kind:?}{way}"), loss));
        }
        for measure in [Measure::Cosine, Measure::Square] {
            let loss = FeatureLoss {
                rows: 4096,
                cols: 768,
                measure,
                positions: 128,
                tokens: true,
                weight: 0.5,
                gradient,
            };
            cases.push(case(format!("feature loss {measure:?}{way}"), loss));
        }
        for (length, head_dim, teacher_dim) in [(512, 32, 64), (128, 64, 128)] {
            let loss = RelationLoss {
                batch: 32,
                length,
                heads: 12,
                head_dim,
                teacher_dim,
                weight: 0.5,
                gradient,
            };
            cases.push(case(format!("relation loss {head_dim} and {teacher_dim}{way}"), loss));
        }
    }
    cases
}

fn elements() -> Vec<Case> {
    let mut cases = Vec::new();
    let add = Chain { stages: vec![Stage::Binary(Binary::Add, 0)], operands: vec![[0, 0, 768, 1]] };
    let gradient = Chain {
        stages: vec![Stage::Binary(Binary::GeluErfGrad, 0)],
        operands: vec![[0, 0, 3072, 1]],
    };
    let dropout =
        Chain { stages: vec![Stage::Dropout { rate: 0.1, stream: 7 }], operands: Vec::new() };
    for (name, cols, chain) in [
        ("bias and gelu", 3072, bias_and_gelu()),
        ("gelu backward", 3072, gradient),
        ("sum", 768, add),
        ("dropout", 768, dropout),
    ] {
        let elementwise = Elementwise { extent: [1, 1, 4096, cols], main_strides: None, chain };
        cases.push(case(format!("elementwise {name}"), elementwise));
    }
    let heads = Elementwise {
        extent: [8, 512, 12, 64],
        main_strides: Some([512 * 768, 64, 512 * 64, 1]),
        chain: Chain::default(),
    };
    cases.push(case("elementwise transposed", heads));
    for [outer, len, inner] in [[4096, 768, 1], [1, 4096, 768], [1, 3_000_000, 1]] {
        let reduce = Reduce { op: ReduceOp::Sum, outer, len, inner, accumulate: false };
        cases.push(case(format!("sum {outer}x{len}x{inner}"), reduce));
    }
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    for rule in [Rule::Sgd { momentum: 0.9, nesterov: false }, Rule::AdamW { beta1, beta2, eps }] {
        let (len, lr_scale, weight_decay) = (30_000_000, 1.0, 0.01);
        let update =
            Optimizer { rule, len, lr_scale, weight_decay, factor: Factor::ClipAndUnscale };
        cases.push(case(format!("update {rule:?}"), update));
    }
    cases.push(case("add", AddTo { len: 10_000_000 }));
    cases.push(case("roof", Roof { len: 10_000_000, rounds: 64 }));
    cases.push(case("gradient norm", GradNormPartial::new(30_000_000)));
    cases.push(case("gradient norm finish", GradNormFinish { partials: 300, max_norm: 1.0 }));
    let scale = LossScale { max_norm: 1.0, interval: 2000, betas: [0.9, 0.999] };
    cases.push(case("loss scale", scale));
    cases
}
