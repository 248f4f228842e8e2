//! Kernels as large as real models have them, each by the fastest of its variants that compute right, against the roofs
//! of the GPU in hand, as a table for docs/benchmarks.md. `-- --small` is for drivers that run on the processor.

#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use distil_gpu_engine::bench::Roofs;
use distil_gpu_engine::device::{Choice, GpuOptions, select};
use distil_gpu_engine::kernels::attention::Attention;
use distil_gpu_engine::kernels::distill_loss::DistillLoss;
use distil_gpu_engine::kernels::layer_norm::{LayerNorm, LayerNormBackward};
use distil_gpu_engine::kernels::matmul::Matmul;
use distil_gpu_engine::kernels::optimizer::{Factor, Optimizer, Rule};
use distil_gpu_engine::kernels::{Halved, Kernel};
use distil_gpu_engine::tune::{Cache, tune};

/// What is measured, by name.
fn kernels(small: bool, f16: bool) -> Vec<(String, Arc<dyn Kernel>)> {
    let or = |large: usize, less: usize| if small { less } else { large };
    let side = or(4096, 256);
    let product = Arc::new(Matmul::new(side, side, side, false, true));
    let (rows, classes) = (or(1024, 16), or(128_256, 4096));
    let loss = DistillLoss::new(rows, classes);
    let (tokens, cols) = (or(32_768, 512), or(1024, 384));
    let len = or(32_000_000, 1_000_000);
    let adamw = Optimizer {
        rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        len,
        lr_scale: 1.0,
        weight_decay: 0.01,
        factor: Factor::One,
    };
    let (batch, length) = (or(32, 4), or(512, 64));
    let attention = |backward| Attention {
        dropout: 0.1,
        stream: 1,
        backward,
        ..Attention::new([batch, length, 12, 64], 0.125)
    };
    let heads = format!("{batch} × 12 × {length} × 64");
    let mut kernels: Vec<(String, Arc<dyn Kernel>)> = vec![
        (format!("matrix product {side}³, f32"), product.clone()),
        (format!("distillation loss with gradient {rows} × {classes}"), Arc::new(loss)),
        (
            format!("layer normalisation {tokens} × {cols}"),
            Arc::new(LayerNorm::new(tokens, cols, 1e-12)),
        ),
        (
            format!("layer normalisation backward {tokens} × {cols}"),
            Arc::new(LayerNormBackward::new(tokens, cols)),
        ),
        (format!("attention {heads}"), Arc::new(attention(false))),
        (format!("attention backward {heads}"), Arc::new(attention(true))),
        (format!("AdamW {len}"), Arc::new(adamw)),
    ];
    if f16 {
        let halves = product.halves();
        let halved = Halved::new(product, halves);
        kernels.insert(1, (format!("matrix product {side}³, f16"), Arc::new(halved)));
    }
    kernels
}

fn main() {
    let small = std::env::args().any(|argument| argument == "--small");
    let name = std::env::var("DISTIL_GPU_BENCH_DEVICES").unwrap_or_else(|_| "gpu".to_owned());
    let choice: Choice = name.parse().expect("the name of one device");
    let options = GpuOptions { timestamps: true, ..GpuOptions::default() };
    let mut device = select(choice, options).expect("a GPU").device;
    let roofs = Roofs::measure(&mut *device, Duration::from_secs(1)).expect("the roofs");
    let info = device.info().clone();
    println!(
        "{} ({} {}): {:.0} GFLOP/s of f32 multiply-adds in registers, a copy of {:.0} GB/s.\n",
        info.name, info.backend, info.driver, roofs.gflops, roofs.gigabytes_per_second
    );
    println!("| kernel | fastest variant | of | ms | GFLOP/s | GB/s | of the nearer roof |");
    println!("|---|---|---|---|---|---|---|");
    // Timed anew, whatever is remembered.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("large");
    let _ = fs::remove_dir_all(&folder);
    let mut cache = Cache::in_folder(&folder, &info);
    for (name, kernel) in kernels(small, device.caps().f16) {
        let alone = std::slice::from_ref(&kernel);
        let mut found = match tune(&mut *device, alone, &mut cache, &mut |_, _| ()) {
            Ok(found) => found,
            Err(error) => {
                println!("| {name} | {error} | | | | | |");
                continue;
            }
        };
        let finding = found.pop().expect("it has several variants");
        let variants = finding.found.microseconds.len();
        let Some(chosen) = finding.found.chosen else {
            println!("| {name} | none computes right | {variants} | | | | |");
            continue;
        };
        let seconds = finding.found.microseconds[&chosen] / 1e6;
        let cost = kernel.cost();
        let flops = cost.flops as f64 / seconds;
        let bytes = (cost.bytes_read + cost.bytes_written) as f64 / seconds;
        println!(
            "| {name} | {chosen} | {variants} | {:.3} | {:.0} | {:.1} | {:.0} % |",
            seconds * 1e3,
            flops / 1e9,
            bytes / 1e9,
            100.0 * roofs.share(flops, bytes)
        );
    }
}
