//! What compilers of real GPUs make of the shaders, without a GPU: registers, spills, waves, instructions.
//!
//! `tests/shader-stats.sh` finds the drivers and runs this for one GPU after another. Nothing is computed: that shaders
//! are right is for `distil-gpu check` and the tests of kernels.

#![allow(clippy::unwrap_used)]

mod assembly;
mod cases;
mod vulkan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use distil_gpu_kernels::{Caps, Launch, shader};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

use assembly::Loop;
use vulkan::{Compiled, Vulkan};

/// A GPU whose compiler is asked.
struct Gpu {
    name: &'static str,
    /// Threads of a wave; 0 where the compiler chooses among several.
    lanes: u32,
    /// The compiler tells waves of half as many threads as these have.
    halved_waves: bool,
    /// Fewest waves a SIMD that a default may leave room for.
    waves: f64,
    /// Whether variants may not spill either.
    strict: bool,
}

const GPUS: [Gpu; 6] = [
    Gpu { name: "gfx1201", lanes: 0, halved_waves: true, waves: 4.0, strict: true },
    Gpu { name: "navi31", lanes: 0, halved_waves: true, waves: 4.0, strict: true },
    Gpu { name: "navi21", lanes: 0, halved_waves: true, waves: 4.0, strict: true },
    Gpu { name: "vega10", lanes: 64, halved_waves: false, waves: 0.0, strict: false },
    Gpu { name: "ga102", lanes: 32, halved_waves: false, waves: 0.0, strict: false },
    Gpu { name: "m1", lanes: 32, halved_waves: false, waves: 0.0, strict: false },
];

/// Of the default's hottest loop on navi31: the share of multiplications with addition among its instructions, and loads
/// from workgroup memory for each of those. No share may become a tenth smaller, no number of loads a tenth larger.
const HOTTEST: [(&str, &str, f64, f64); 13] = [
    ("product 4096 NN", "matmul_vectors.vectors", 0.75, 0.12),
    ("product 4096 NT", "matmul_vectors.vectors", 0.74, 0.12),
    ("product 4096 TN", "matmul_vectors.vectors", 0.75, 0.12),
    ("product 4096x3072x768 NT, bias and gelu", "matmul_vectors.vectors", 0.74, 0.12),
    ("product 384 NT", "matmul_vectors.vectors", 0.61, 0.25),
    ("attention 32 forward", "attention.tiled", 0.39, 0.30),
    ("attention 64 forward", "attention.tiled", 0.38, 0.33),
    ("attention 128 forward", "attention.tiled", 0.34, 0.40),
    ("attention 32 backward", "attention_query.tiled", 0.33, 0.59),
    ("attention 32 backward", "attention_key_value.tiled", 0.36, 0.57),
    ("attention 64 backward", "attention_key_value.tiled", 0.36, 0.60),
    ("attention 128 backward", "attention_query.tiled", 0.27, 0.73),
    ("attention 128 backward", "attention_key_value.tiled", 0.33, 0.67),
];

/// Bytes that defaults may spill: GPU, beginnings of case and shader, bytes, and why.
const EXCEPTIONS: [(&str, &str, &str, f64, &str); 2] = [
    (
        "ga102",
        "product 4096x3072x768 NT, bias and gelu in f16",
        "matmul",
        256.0,
        "NVK does not unroll the loop over the sums that holds the chain, and what is stored first would be rounded twice",
    ),
    (
        "m1",
        "attention",
        "attention",
        96.0,
        "a thread has 128 registers, a few less than heads of 72 columns or a bias would take; Macs have Apple's own compiler",
    ),
];

impl Gpu {
    fn caps(&self) -> Caps {
        Caps {
            max_workgroup_threads: 1024,
            workgroup_memory: 32 << 10,
            f16: true,
            subgroup_lanes: (self.lanes > 0).then_some(self.lanes),
            ..Caps::default()
        }
    }
}

/// One pipeline, as compiled.
struct Row {
    case: String,
    variant: String,
    /// Cases whose default it is; others may have made it first.
    default_of: Vec<String>,
    shader: String,
    threads: u32,
    compiled: Compiled,
    loops: Vec<Loop>,
}

impl Row {
    fn is_default(&self) -> bool {
        !self.default_of.is_empty()
    }

    /// Bytes or registers in memory that should be in registers.
    fn spilled(&self) -> f64 {
        let names = ["Spilled VGPRs", "Spilled SGPRs", "Scratch size", "SLM size", "Scratch"];
        names.iter().map(|name| self.compiled.get(name)).sum()
    }

    fn registers(&self) -> f64 {
        ["VGPRs", "Number of GPRs", "GPRs"].iter().map(|name| self.compiled.get(name)).sum()
    }

    fn waves(&self, gpu: &Gpu) -> f64 {
        let waves =
            self.compiled.get("Subgroups per SIMD") + self.compiled.get("Max warps/SM") / 4.0;
        if gpu.halved_waves && self.compiled.lanes == 64 { waves / 2.0 } else { waves }
    }

    /// The innermost loop with the most multiplications.
    fn hottest(&self) -> Option<&Loop> {
        self.loops.iter().max_by_key(|one| one.multiply_adds)
    }
}

/// A launch as SPIR-V, by the options that wgpu has for shaders that it trusts.
fn spirv(launch: &Launch) -> (Vec<u32>, u32) {
    let text = launch.source.link();
    let fault = |shown: String| -> ! { panic!("{}: {shown}", launch.source.shader) };
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| fault(error.emit_to_string(&text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| fault(error.emit_to_string(&text)));
    let constants =
        launch.overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let stage = naga::ShaderStage::Compute;
    let (module, info) = naga::back::pipeline_constants::process_overrides(
        &module,
        &info,
        Some((stage, launch.entry)),
        &constants,
    )
    .unwrap();
    let threads = module.entry_points[0].workgroup_size.iter().product();
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let pipeline =
        spv::PipelineOptions { shader_stage: stage, entry_point: launch.entry.to_owned() };
    (spv::write_vec(&module, &info, &options, Some(&pipeline)).unwrap(), threads)
}

/// Compiles every variant of each `parts`-th case from `part` on, each pipeline once. (Pretended kernel drivers never give
/// memory back, so that one process cannot compile all.)
fn compile(gpu: &Gpu, part: usize, parts: usize) -> Vec<Row> {
    let mut vulkan = Vulkan::open();
    let validator = env::var_os("SPIRV_VAL");
    println!("{}: {}", gpu.name, vulkan.name);
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: HashMap<(Vec<u32>, usize), usize> = HashMap::new();
    for (case, kernel) in cases::cases().into_iter().skip(part).step_by(parts) {
        for (number, variant) in kernel.variants(&gpu.caps()).into_iter().enumerate() {
            for launch in &variant.launches {
                let (words, threads) = spirv(launch);
                let key = (words, launch.bindings.len());
                let default_of = if number == 0 { vec![case.clone()] } else { Vec::new() };
                if let Some(&at) = seen.get(&key) {
                    rows[at].default_of.extend(default_of);
                    continue;
                }
                if let Some(validator) = &validator {
                    validate(validator, &key.0, &case);
                }
                let compiled = vulkan.compile(&key.0, launch.entry, key.1);
                seen.insert(key, rows.len());
                rows.push(Row {
                    case: case.clone(),
                    variant: variant.name.clone(),
                    default_of,
                    shader: format!("{}.{}", launch.source.shader, launch.entry),
                    threads,
                    loops: assembly::innermost(&compiled.assembly),
                    compiled,
                });
            }
        }
    }
    rows
}

/// Has a module validated for Vulkan 1.3.
fn validate(validator: &OsStr, words: &[u32], case: &str) {
    let file = env::temp_dir().join(format!("distil-gpu-{}.spv", std::process::id()));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(&file, bytes).unwrap();
    let said = Command::new(validator).args(["--target-env", "vulkan1.3"]).arg(&file).output();
    fs::remove_file(&file).unwrap();
    let said = said.unwrap();
    assert!(said.status.success(), "{case}: {}", String::from_utf8_lossy(&said.stderr));
}

fn table(gpu: &Gpu, rows: &[Row]) -> String {
    let mut text = String::from(
        "case\tvariant\tdefault\tshader\tthreads\twave\tregisters\tspilled\tshared\twaves\tcode\tinstructions\t\
         loop\tmultiply-adds\tshared loads\tlatency\tthroughput\n",
    );
    for row in rows {
        let get = |name| row.compiled.get(name);
        let none = Loop::default();
        let hot = row.hottest().unwrap_or(&none);
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.case,
            row.variant,
            if row.is_default() { "default" } else { "" },
            row.shader,
            row.threads,
            row.compiled.lanes,
            row.registers(),
            row.spilled(),
            get("LDS size"),
            row.waves(gpu),
            get("Code size"),
            get("Instructions") + get("Instruction count"),
            hot.instructions,
            hot.multiply_adds,
            hot.shared_loads,
            get("Latency") + get("Static cycle count"),
            get("Inverse Throughput"),
        );
    }
    text
}

/// What is worse about a default's hottest loop than it was.
fn cooler(row: &Row) -> Option<String> {
    let known = |line: &&(&str, &str, f64, f64)| {
        row.default_of.iter().any(|case| line.0 == case) && line.1 == row.shader
    };
    let (case, shader, share, loads) = HOTTEST.iter().find(known)?;
    let hot = row.hottest().copied().unwrap_or_default();
    let adds = hot.multiply_adds as f64;
    let found = (adds / hot.instructions as f64, hot.shared_loads as f64 / adds);
    let is_worse = !(found.0 >= 0.9 * share && found.1 <= 1.1 * loads + 0.005);
    is_worse.then(|| {
        format!(
            "{case}, {shader}: {:.2} of the instructions, {:.2} loads; {share}, {loads} before",
            found.0, found.1
        )
    })
}

/// Whether a case was compiled, and its default has not the shader that is known of it.
fn is_missed((case, shader, ..): &(&str, &str, f64, f64), rows: &[Row]) -> bool {
    let mut defaults =
        rows.iter().filter(|row| row.default_of.iter().any(|of| of == case)).peekable();
    defaults.peek().is_some() && !defaults.any(|row| row.shader == *shader)
}

#[test]
#[ignore = "needs a driver of a GPU that need not be there: tests/shader-stats.sh"]
fn compilers_keep_kernels_in_registers() {
    let wanted = env::var("SHADER_STATS_GPU").expect("the name of a GPU");
    let gpu = GPUS.iter().find(|gpu| gpu.name == wanted).expect("one of the GPUs known here");
    let number = |name| env::var(name).map_or(Ok(0), |value| value.parse()).expect("a number");
    let (part, parts) = (number("SHADER_STATS_PART"), number("SHADER_STATS_PARTS").max(1));
    let rows = compile(gpu, part, parts);
    let folder = PathBuf::from(env::var_os("SHADER_STATS").expect("a folder for the tables"));
    let assembly = folder.join(format!("{}-{part}", gpu.name));
    fs::create_dir_all(&assembly).unwrap();
    fs::write(folder.join(format!("{}-{part}.tsv", gpu.name)), table(gpu, &rows)).unwrap();
    for (number, row) in rows.iter().enumerate() {
        let text = format!("; {}: {}\n{}", row.case, row.variant, row.compiled.assembly);
        fs::write(assembly.join(format!("{}.s", number + 2)), text).unwrap();
    }
    let mut faults = Vec::new();
    for row in &rows {
        let name = format!("{}, {}, {}", row.case, row.variant, row.shader);
        let known = EXCEPTIONS.iter().find(|(of, case, shader, ..)| {
            *of == gpu.name && row.case.starts_with(case) && row.shader.starts_with(shader)
        });
        let allowed = known.map_or(0.0, |(.., bytes, _)| *bytes);
        if row.spilled() > allowed && (row.is_default() || gpu.strict) {
            faults.push(format!("{name}: {} spilled", row.spilled()));
        }
        if row.is_default() && row.waves(gpu) < gpu.waves {
            faults.push(format!("{name}: {} waves, {} registers", row.waves(gpu), row.registers()));
        }
    }
    if gpu.name == "navi31" {
        faults.extend(rows.iter().filter_map(cooler));
        faults.extend(
            HOTTEST
                .iter()
                .filter(|line| is_missed(line, &rows))
                .map(|(case, shader, ..)| format!("{case}: its default is no longer {shader}")),
        );
    }
    println!("{}, part {} of {parts}: {} pipelines", gpu.name, part + 1, rows.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_shader_has_a_case() {
    let mut asked: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (case, kernel) in cases::cases() {
        asked.entry(kernel.name()).or_default().insert(case);
    }
    let of_kernel = |shader: &str| asked.keys().any(|name| shader.starts_with(name));
    let left: Vec<&str> =
        shader::SHADERS.iter().map(|(name, _)| *name).filter(|name| !of_kernel(name)).collect();
    assert!(left.is_empty(), "no case has {left:?}");
}
