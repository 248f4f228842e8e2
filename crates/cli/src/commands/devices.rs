//! `distil-gpu devices`

use anyhow::Result;
use distil_gpu_engine::device::{Adapter, Choice, DeviceKind, GpuOptions, adapters, select};
use distil_gpu_engine::words::counted;
use serde_json::json;

use crate::{Voice, say, say_json, table};

/// Arguments of `devices`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  distil-gpu devices
      The names to give to --device, and which one `auto` takes")]
pub struct Args {}

fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::DiscreteGpu => "graphics card",
        DeviceKind::IntegratedGpu => "integrated GPU",
        DeviceKind::OtherGpu => "GPU",
        DeviceKind::SoftwareGpu => "software driver",
        DeviceKind::Cpu => "processor",
    }
}

pub fn run(_: Args, voice: Voice) -> Result<()> {
    let adapters = adapters();
    let auto = select(Choice::Auto, GpuOptions::default())?;
    if voice.json {
        let list: Vec<_> = adapters
            .iter()
            .enumerate()
            .map(|(index, adapter)| {
                json!({
                    "device": format!("gpu:{index}"),
                    "name": adapter.info.name,
                    "kind": kind(adapter.info.kind),
                    "backend": adapter.info.backend,
                    "driver": adapter.info.driver,
                    "buffer_bytes": adapter.limits.buffer_bytes,
                    "binding_bytes": adapter.limits.binding_bytes,
                    "timestamps": adapter.timestamps,
                    "f16": adapter.caps.f16,
                    "subgroups": adapter.subgroups,
                    "cooperative_matrices": {
                        "f16": adapter.caps.cooperative_f16,
                        "f32": adapter.caps.cooperative_f32,
                    },
                })
            })
            .collect();
        let auto = json!({ "name": auto.device.info().name, "reason": auto.reason });
        return say_json(&json!({ "devices": list, "auto": auto }));
    }
    let mut table = table::new(["--device", "what it is", "kind", "largest tensor", "can do"]);
    for (index, adapter) in adapters.iter().enumerate() {
        let info = &adapter.info;
        table.add_row([
            format!("gpu:{index}"),
            format!("{}\n{}, {}", info.name, info.backend, info.driver),
            kind(info.kind).to_owned(),
            format!("{} MiB", adapter.limits.binding_bytes >> 20),
            abilities(adapter),
        ]);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = format!("this processor, {}", counted(threads, "thread"));
    table.add_row(["cpu", &processor, "processor", "", ""]);
    table::right(&mut table, 3..4);
    say(format_args!("{table}\nauto takes {}", auto.reason))
}

/// What kernels can make use of.
fn abilities(adapter: &Adapter) -> String {
    let caps = &adapter.caps;
    let sides = [("f16", caps.cooperative_f16), ("f32", caps.cooperative_f32)];
    let matrices = sides
        .into_iter()
        .filter_map(|(dtype, side)| side.map(|side| format!("products of {side}x{side} {dtype}")));
    let f16 = caps.f16.then(|| "f16".to_owned());
    let timestamps = adapter.timestamps.then(|| "timestamps".to_owned());
    let all: Vec<String> = f16.into_iter().chain(matrices).chain(timestamps).collect();
    all.join(", ")
}
