//! `distil-gpu devices`

use anyhow::Result;
use distil_gpu_engine::device::{Choice, DeviceKind, GpuOptions, adapters, select};
use distil_gpu_engine::kernels::Caps;
use serde_json::json;

use crate::{Voice, say, table};

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

/// The small matrices that its subgroups multiply at once.
fn matrices(caps: &Caps) -> String {
    let sides = [("f16", caps.cooperative_f16), ("f32", caps.cooperative_f32)];
    let known = sides.iter().filter_map(|(dtype, side)| side.map(|s| format!("{s}x{s} {dtype}")));
    let known: Vec<String> = known.collect();
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
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
        return say(format_args!("{:#}", json!({ "devices": list, "auto": auto })));
    }
    let mut table = table::new([
        "--device",
        "name",
        "kind",
        "backend",
        "largest tensor",
        "f16",
        "matrices",
        "timestamps",
    ]);
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    for (index, adapter) in adapters.iter().enumerate() {
        table.add_row([
            format!("gpu:{index}"),
            adapter.info.name.clone(),
            kind(adapter.info.kind).to_owned(),
            format!("{} ({})", adapter.info.backend, adapter.info.driver),
            format!("{} MiB", adapter.limits.binding_bytes >> 20),
            yes(adapter.caps.f16),
            matrices(&adapter.caps),
            yes(adapter.timestamps),
        ]);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    table.add_row([
        "cpu",
        &format!("this processor ({threads} threads)"),
        "processor",
        "none",
        "",
        "",
        "",
        "",
    ]);
    say(format_args!("{table}\nauto takes {}", auto.reason))
}
