//! Every shader links, validates as standard WGSL and translates to SPIR-V, MSL and HLSL in every
//! variant the kernels ask for, and binds exactly what the kernels' launches provide.

use std::collections::{BTreeMap, BTreeSet};
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
use distil_gpu_kernels::{
    Access, Blocks, Caps, DType, Divergence, Halved, Kernel, Launch, Operand, Source, StepState,
    shader,
};
use naga::back::{self, PipelineConstants};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};

/// Chains that hold every stage between them.
fn chains() -> Vec<Chain> {
    let plain = [
        Stage::Relu,
        Stage::GeluErf,
        Stage::GeluTanh,
        Stage::Tanh,
        Stage::Sigmoid,
        Stage::Relu6,
        Stage::HardSwish,
        Stage::Silu,
        Stage::Exp,
        Stage::Log,
        Stage::Sqrt,
        Stage::Square,
        Stage::Reciprocal,
        Stage::Affine { scale: 2.0, offset: -1.0 },
        Stage::Fill(0.5),
        Stage::Dropout { rate: 0.1, stream: 7 },
    ];
    let binary = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Max,
        Binary::Min,
        Binary::ReluGrad,
        Binary::GeluErfGrad,
        Binary::GeluTanhGrad,
        Binary::TanhGrad,
        Binary::SigmoidGrad,
        Binary::Relu6Grad,
        Binary::HardSwishGrad,
        Binary::SiluGrad,
        Binary::ReverseSub,
        Binary::ReverseDiv,
    ];
    let binary = binary.iter().enumerate().map(|(i, &op)| Stage::Binary(op, i % 3));
    let stages: Vec<Stage> = plain.into_iter().chain(binary).collect();
    let operands = vec![[0, 0, 8, 1], [0, 0, 0, 1], [0, 0, 1, 0]];
    let mut chains = vec![Chain::default()];
    chains
        .extend(stages.chunks(6).map(|c| Chain { stages: c.to_vec(), operands: operands.clone() }));
    chains.push(Chain { stages: vec![Stage::Relu], operands: Vec::new() });
    chains
}

fn matmuls() -> Vec<Matmul> {
    let mut matmuls = Vec::new();
    for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
        for size in [32, 4096] {
            for chain in chains() {
                let product = Matmul::new(size, size, size, trans_a, trans_b);
                for b_type in [DType::F16, DType::I8] {
                    matmuls.push(Matmul { b_type, chain: chain.clone(), ..product.clone() });
                }
                matmuls.push(Matmul { chain, ..product });
            }
        }
    }
    // Few outputs, long sums: split.
    for (chain, accumulate) in chains().into_iter().zip([false, true].into_iter().cycle()) {
        let split = Matmul::new(32, 32, 4096, true, false);
        matmuls.push(Matmul { chain, accumulate, ..split });
    }
    matmuls
}

fn attentions() -> Vec<Attention> {
    let mut attentions = Vec::new();
    for head_dim in [1, 32, 64, 72, 128] {
        for (causal, dropout, window, bias) in [
            (false, 0.0, None, None),
            (true, 0.1, None, None),
            (false, 0.0, Some(20), Some(1)),
            (true, 0.1, Some(20), Some(3000)),
            (false, 0.0, None, Some(3000)),
        ] {
            for backward in [false, true] {
                attentions.push(Attention {
                    window,
                    bias,
                    bias_gradient: backward && bias.is_some(),
                    causal,
                    dropout,
                    backward,
                    ..Attention::new([3000, 100, 24, head_dim], 0.125)
                });
            }
        }
        for backward in [false, true] {
            attentions.push(Attention {
                kv_heads: 8,
                ranges: true,
                backward,
                ..Attention::new([3000, 100, 24, head_dim], 0.125)
            });
        }
    }
    attentions
}

/// Kernels over images: the products of patches with every chain, and what has a shader of its own.
fn of_images() -> Vec<Arc<dyn Kernel>> {
    let mut kernels: Vec<Arc<dyn Kernel>> = Vec::new();
    let (window, images, size, eps) = (Window::square(3, 2, 1), 64, [32, 30], 1e-5);
    for inputs in [3, 32] {
        let conv = Conv { window, images, size, inputs, outputs: 64, groups: 1 };
        for chain in chains() {
            let b_type = if inputs == 32 { DType::F16 } else { DType::F32 };
            kernels.push(Arc::new(Matmul { chain: chain.clone(), b_type, ..conv.forward() }));
            kernels.push(Arc::new(Matmul { chain, ..conv.input_gradient() }));
        }
        kernels.push(Arc::new(conv.weight_gradient()));
    }
    for channels in [5, 64] {
        for pass in [Pass::Forward, Pass::Input, Pass::Weights] {
            kernels.push(Arc::new(Depthwise { window, images, size, channels, pass }));
        }
        for backward in [false, true] {
            for kind in [PoolKind::Max, PoolKind::Mean { count_padding: true }] {
                kernels.push(Arc::new(Pool { window, images, size, channels, kind, backward }));
            }
        }
        let rows = 960;
        kernels.push(Arc::new(BatchMoments { rows, channels }));
        kernels.push(Arc::new(BatchNormSums { rows, channels, eps }));
        kernels.push(Arc::new(BatchNormBackward { rows, channels, eps }));
        kernels.push(Arc::new(RunningMoments { rows, channels, momentum: 0.1 }));
    }
    for chain in chains() {
        let extent = [1, 1, 120, 8];
        kernels.push(Arc::new(BatchNorm { rows: 120, channels: 8, eps, chain, extent }));
    }
    kernels
}

fn kernels() -> Vec<Arc<dyn Kernel>> {
    let mut kernels: Vec<Arc<dyn Kernel>> = of_images();
    for inverse in [false, true] {
        let (batch, length, heads) = (3000, 100, 24);
        let (head_dim, half, positions) = (64, 32, 512);
        kernels.push(Arc::new(Rotary { batch, length, heads, head_dim, half, positions, inverse }));
        for gate in [Gate::Sigmoid, Gate::Relu, Gate::Gelu, Gate::GeluTanh, Gate::Silu] {
            let (rows, half, backward) = (300_000, 1152, inverse);
            for halves in [Halves::GateFirst, Halves::Apart] {
                kernels.push(Arc::new(Glu { rows, half, gate, halves, backward }));
            }
        }
        for (content, position) in [(true, true), (true, false), (false, true)] {
            let (batch, heads, length, buckets, backward) = (300, 12, 512, 512, inverse);
            kernels.push(Arc::new(RelativeGather {
                batch,
                heads,
                length,
                buckets,
                content,
                position,
                backward,
            }));
        }
        let (rows, cols, blocks, join) = (300_000, 384, 3, inverse);
        kernels.push(Arc::new(Columns { rows, cols, blocks, join }));
    }
    kernels.push(Arc::new(AddTo { len: 10_000_000 }));
    kernels.push(Arc::new(Scatter { rows: 500, cols: 192, table_rows: 100_000 }));
    for blocks in Blocks::ALL {
        let stored = DType::Blocks(blocks);
        for ids_type in [DType::I32, DType::F32] {
            let whole = Gather::new(50, 5000, 768);
            kernels.push(Arc::new(Gather { table_type: stored, ids_type, ..whole }));
        }
        for trans_b in [false, true] {
            let product = Matmul::new(200, 512, 768, false, trans_b);
            kernels.push(Arc::new(Matmul { b_type: stored, ..product }));
        }
    }
    for penalised in [false, true] {
        kernels.push(Arc::new(Sample { rows: 5, cols: 49_152, penalised }));
    }
    for attention in attentions() {
        kernels.push(Arc::new(attention));
    }
    for matmul in matmuls() {
        kernels.push(Arc::new(matmul));
    }
    for chain in chains() {
        let extent = [1, 1, 4, 8];
        kernels.push(Arc::new(Elementwise { extent, main_strides: Some([0, 0, 8, 1]), chain }));
    }
    for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max] {
        for [outer, len, inner] in [[100, 10, 1], [1, 5000, 1], [3, 20, 40]] {
            for accumulate in [false, true] {
                kernels.push(Arc::new(Reduce { op, outer, len, inner, accumulate }));
            }
        }
    }
    for (rows, cols) in
        [(128, 10), (128, 12), (4_000_000, 33), (4_000_000, 32), (2, 50_257), (3, 50_000)]
    {
        for backward in [false, true] {
            kernels.push(Arc::new(Softmax { rows, cols, backward }));
        }
        kernels.push(Arc::new(MaxNorm { rows, cols, bound: 3.0 }));
    }
    for (rows, cols) in [(1, 1), (2048, 384), (2_000_000, 33), (3, 50_000)] {
        let backward = LayerNormBackward::new(rows, cols);
        kernels.push(Arc::new(LayerNorm::new(rows, cols, 1e-5)));
        kernels.push(Arc::new(LayerNormFinish { blocks: backward.blocks(), cols }));
        kernels.push(Arc::new(backward));
        for table_rows in [2, 5_000_000] {
            for backward in [false, true] {
                let accumulate = backward;
                let whole = Gather::new(rows, table_rows, cols);
                kernels.push(Arc::new(Gather { backward, accumulate, ..whole }));
            }
            for table_type in [DType::F16, DType::I8] {
                let whole = Gather::new(rows, table_rows, cols);
                kernels.push(Arc::new(Gather { table_type, ..whole }));
            }
        }
    }
    for classes in [10_usize, 300, 700, 1500, 4096, 50_257] {
        for gradient in [false, true] {
            for teacher_stride in [None, Some(classes)] {
                let student_stride = classes.next_multiple_of(64);
                let rows = 70_000;
                // Divergences, weights and scales have nothing to do with each other.
                let ways = [(false, false), (true, false), (false, true)].into_iter().cycle();
                let settings = ways.zip(Divergence::each());
                let more = ((true, false), Divergence::ForwardKl);
                for ((weighted, standardise), divergence) in settings.chain([more]) {
                    let is_graded = divergence != Divergence::ForwardKl;
                    if is_graded && (teacher_stride.is_none() || ![300, 50_257].contains(&classes))
                    {
                        continue;
                    }
                    kernels.push(Arc::new(DistillLoss {
                        rows,
                        classes,
                        student_stride,
                        teacher_stride,
                        gradient,
                        weighted,
                        divergence,
                        standardise,
                        smoothing: 0.1,
                    }));
                }
            }
        }
    }
    for (gradient, teacher) in [(false, false), (false, true), (true, false), (true, true)] {
        for (rows, outputs) in [(3, 1), (70_000, 20), (16, 10_000)] {
            let logistic = Divergence::OF_OUTCOMES.map(PointwiseKind::Logistic);
            for kind in logistic.into_iter().chain([PointwiseKind::Square]) {
                kernels.push(Arc::new(PointwiseLoss { rows, outputs, kind, teacher, gradient }));
            }
        }
    }
    for gradient in [false, true] {
        for (rows, cols) in [(16, 1), (4_000_000, 32)] {
            for measure in [Measure::Cosine, Measure::Square] {
                for (positions, tokens) in [(1, false), (16, true)] {
                    let weight = 0.5;
                    kernels.push(Arc::new(FeatureLoss {
                        rows,
                        cols,
                        measure,
                        positions,
                        tokens,
                        weight,
                        gradient,
                    }));
                }
            }
        }
        for (batch, length, head_dim, teacher_dim) in [(1, 1, 1, 3), (6000, 200, 64, 128)] {
            kernels.push(Arc::new(RelationLoss {
                batch,
                length,
                heads: 12,
                head_dim,
                teacher_dim,
                weight: 0.5,
                gradient,
            }));
        }
    }
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    for rule in [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::Adam { beta1, beta2, eps },
        Rule::AdamW { beta1, beta2, eps },
    ] {
        for factor in [Factor::One, Factor::Clip, Factor::ClipAndUnscale] {
            let (lr_scale, weight_decay) = (1.0, 0.01);
            let len = 10_000_000;
            kernels.push(Arc::new(Optimizer { rule, len, lr_scale, weight_decay, factor }));
        }
    }
    kernels.push(Arc::new(Roof { len: 10_000_000, rounds: 64 }));
    kernels.push(Arc::new(GradNormPartial::new(1_000_000)));
    kernels.push(Arc::new(GradNormFinish { partials: 300, max_norm: 1.0 }));
    kernels.push(Arc::new(LossScale { max_norm: 1.0, interval: 2000, betas: [0.9, 0.999] }));
    let halved: Vec<Arc<dyn Kernel>> = kernels.iter().filter_map(halved).collect();
    kernels.extend(halved);
    kernels
}

/// The kernel with all in f16 that may be.
fn halved(kernel: &Arc<dyn Kernel>) -> Option<Arc<dyn Kernel>> {
    let halves = kernel.halves();
    (!halves.is_empty()).then(|| Arc::new(Halved::new(kernel.clone(), halves)) as Arc<dyn Kernel>)
}

/// The least of GPUs; drivers on the processor, without and with subgroups; GPUs that multiply small matrices.
fn capabilities() -> [Caps; 5] {
    let least = Caps::default();
    let software = Caps { software: true, ..least };
    let subgroups = Caps { subgroup_lanes: Some(8), ..software };
    let [large, small] = [16, 8].map(|side| Caps {
        workgroup_memory: 32 << 10,
        subgroup_lanes: Some(32),
        f16: true,
        cooperative_f32: Some(side),
        cooperative_f16: Some(side),
        ..least
    });
    [least, software, subgroups, large, small]
}

/// Every launch of every kernel, with the kernel's operands, and what it is for.
fn launches() -> Vec<(Launch, Vec<Operand>, Caps)> {
    let mut launches = Vec::new();
    for kernel in kernels() {
        for caps in capabilities() {
            for launch in kernel.variants(&caps).into_iter().flat_map(|variant| variant.launches) {
                // A convolution is a product of patches.
                let shader = match kernel.name() {
                    "conv" => "matmul",
                    name => name,
                };
                assert!(launch.source.shader.starts_with(shader));
                launches.push((launch, kernel.operands(), caps));
            }
        }
    }
    launches
}

/// Parses and validates as a device without optional features would; with those that a shader is for by its name, and
/// with floats of 16 bits, in storage or as a type, where it is linked for them.
fn compile(source: &Source) -> (Module, ModuleInfo) {
    let (shader, text) = (source.shader, source.link());
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{shader}: {}", e.emit_to_string(&text)));
    let mut capabilities = Capabilities::empty();
    let cooperative = shader.contains("_cooperative");
    let by_subgroups = source.imports.iter().any(|(_, file)| file.ends_with("_subgroup"));
    let by_subgroups = by_subgroups || cooperative || shader.ends_with("_subgroup");
    capabilities.set(Capabilities::SUBGROUP, by_subgroups);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, cooperative);
    let reads_f16 = source.imports.iter().any(|(_, file)| file.ends_with("_f16"));
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, reads_f16);
    capabilities.set(Capabilities::SHADER_FLOAT16, text.contains("enable f16;"));
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{shader}: {}", e.emit_to_string(&text)));
    (module, info)
}

#[test]
fn every_shader_validates() {
    for (shader, _) in shader::SHADERS {
        let (module, _) = compile(&Source::of(shader));
        assert!(!module.entry_points.is_empty(), "{shader} has no entry point");
    }
}

#[test]
fn every_entry_point_is_launched() {
    let mut launched: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (launch, ..) in launches() {
        launched.entry(launch.source.shader).or_default().insert(launch.entry);
    }
    for (shader, _) in shader::SHADERS {
        let (module, _) = compile(&Source::of(shader));
        let entries: BTreeSet<&str> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(launched.get(shader), Some(&entries), "{shader}");
    }
}

#[test]
fn every_variant_translates() {
    let mut seen = BTreeSet::new();
    for (launch, _, caps) in launches() {
        let Launch { source, entry, overrides, .. } = &launch;
        if !seen.insert(format!("{source:?} {entry} {overrides:?}")) {
            continue;
        }
        let (module, info) = compile(source);
        let constants: PipelineConstants =
            overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let stage = ShaderStage::Compute;
        let resolved = back::pipeline_constants::process_overrides(
            &module,
            &info,
            Some((stage, entry)),
            &constants,
        );
        let (module, info) = resolved.unwrap_or_else(|e| panic!("{launch:?}: {e}"));
        keeps_within_limits(&launch, &module, &caps);

        back::spv::write_vec(
            &module,
            &info,
            &back::spv::Options::default(),
            Some(&back::spv::PipelineOptions {
                shader_stage: stage,
                entry_point: (*entry).to_owned(),
            }),
        )
        .unwrap_or_else(|e| panic!("{launch:?} to SPIR-V: {e}"));

        let cooperative = source.shader.contains("_cooperative");
        let lang_version = if cooperative { (2, 3) } else { (2, 0) };
        let options = back::msl::Options { lang_version, ..Default::default() };
        let (msl, translated) =
            back::msl::write_string(&module, &info, &options, &Default::default())
                .unwrap_or_else(|e| panic!("{launch:?} to MSL: {e}"));
        assert!(translated.entry_point_names.iter().all(Result::is_ok), "{launch:?} to MSL");
        assert!(msl.contains("kernel void"));

        // DirectX 12 has none, and its devices offer none.
        if cooperative {
            continue;
        }
        let mut hlsl = String::new();
        let translated = back::hlsl::Writer::new(
            &mut hlsl,
            &back::hlsl::Options::default(),
            &back::hlsl::PipelineOptions::default(),
        )
        .write(&module, &info, None)
        .unwrap_or_else(|e| panic!("{launch:?} to HLSL: {e}"));
        assert!(translated.entry_point_names.iter().all(Result::is_ok), "{launch:?} to HLSL");
        assert!(hlsl.contains("numthreads"));
    }
}

fn keeps_within_limits(launch: &Launch, module: &Module, caps: &Caps) {
    let [entry] = module.entry_points.as_slice() else {
        panic!("{launch:?} resolves to one entry point");
    };
    let threads: u32 = entry.workgroup_size.iter().product();
    assert!(threads <= caps.max_workgroup_threads, "{launch:?} has {threads} threads");
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    let shared: u32 = shared.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
    assert!(shared <= caps.workgroup_memory, "{launch:?} shares {shared} bytes");
}

#[test]
fn launches_bind_what_shaders_name() {
    for (launch, operands, _) in launches() {
        let (module, info) = compile(&launch.source);
        let entry = module.entry_points.iter().position(|e| e.name == launch.entry);
        let entry = entry.unwrap_or_else(|| panic!("{launch:?} names an entry point"));
        let used = info.get_entry_point(entry);
        let mut bound = BTreeSet::new();
        for (handle, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            if used[handle].is_empty() {
                continue;
            }
            assert_eq!(binding.group, 0);
            let name = variable.name.as_deref().unwrap_or_default();
            let ty = &module.types[variable.ty].inner;
            let size = ty.size(module.to_ctx()) as usize;
            match binding.binding {
                0 => {
                    assert_eq!(variable.space, AddressSpace::Uniform);
                    assert!(size <= 4 * launch.dims.len(), "{launch:?}: {size} bytes of dims");
                }
                1 => {
                    assert_eq!(variable.space, AddressSpace::Uniform);
                    assert_eq!(size, size_of::<StepState>());
                }
                slot => {
                    let slot = slot as usize - 2;
                    assert!(slot < launch.bindings.len(), "{launch:?} lacks {name}");
                    let scratch = Operand::update("scratch", 1);
                    let operand =
                        launch.bindings[slot].map(|i| *operands.get(i).unwrap_or(&scratch));
                    let access = match operand {
                        Some(Operand { access: Access::Write | Access::ReadWrite, .. }) => {
                            StorageAccess::LOAD | StorageAccess::STORE
                        }
                        Some(_) | None => StorageAccess::LOAD,
                    };
                    let space = AddressSpace::Storage { access };
                    assert_eq!(variable.space, space, "{name} of {launch:?}");
                    if let Some(operand) = operand {
                        // Bytes and blocks are words too.
                        let stored = match operand.dtype {
                            DType::I8 | DType::Blocks(_) => DType::F16,
                            other => other,
                        };
                        assert_eq!(element(&module, ty), Some(stored), "{name}");
                    }
                    bound.insert(slot);
                }
            }
        }
        // A place that is left empty may be another entry point's.
        let mut places = launch.bindings.iter().enumerate();
        let named = places.all(|(slot, place)| place.is_none() || bound.contains(&slot));
        assert!(named, "{launch:?} binds too much");
    }
}

#[test]
fn launches_bind_every_operand() {
    for kernel in kernels() {
        for caps in capabilities() {
            let launches = kernel.launches(&caps);
            let bound: BTreeSet<usize> =
                launches.iter().flat_map(|launch| &launch.bindings).flatten().copied().collect();
            let operands = kernel.operands().len();
            // Behind the operands comes scratch memory, which not all variants need.
            let scratch = (kernel.scratch() > 0).then_some(operands);
            let bound = bound.into_iter().filter(|at| Some(*at) != scratch);
            assert!(bound.eq(0..operands), "{kernel:?} leaves an operand out");
        }
    }
}

/// The scalar of a runtime-sized array of scalars or vectors; words are pairs of halves, or four bytes.
fn element(module: &Module, ty: &TypeInner) -> Option<DType> {
    let TypeInner::Array { base, .. } = ty else { return None };
    let scalar = module.types[*base].inner.scalar()?;
    match scalar.kind {
        ScalarKind::Float if scalar.width == 2 => Some(DType::F16),
        ScalarKind::Float => Some(DType::F32),
        ScalarKind::Sint => Some(DType::I32),
        ScalarKind::Uint => Some(DType::F16),
        _ => None,
    }
}

#[test]
fn grids_keep_within_limits() {
    for (launch, ..) in launches() {
        let limit = Caps::default().max_workgroups;
        assert!(launch.workgroups.iter().all(|&g| (1..=limit).contains(&g)), "{launch:?}");
    }
}
