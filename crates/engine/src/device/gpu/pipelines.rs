//! Compiled kernels, shared by all plans of a device.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use distil_gpu_kernels::{Access, Launch, Operand, Source};
use rayon::prelude::*;

use super::context::Context;
use crate::error::Error;

/// What a pipeline depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PipelineKey {
    source: Source,
    entry: &'static str,
    /// Values as their bits, which unlike floats can be compared and hashed.
    overrides: Vec<(&'static str, u64)>,
    /// Of each storage binding, whether the kernel only reads it.
    read_only: Vec<bool>,
}

impl PipelineKey {
    pub fn new(launch: &Launch, operands: &[Operand]) -> Self {
        let bits = |(name, value): &(&'static str, f64)| (*name, value.to_bits());
        let reads = |binding: &Option<usize>| {
            let scratch = Access::ReadWrite;
            binding.is_none_or(|i| operands.get(i).map_or(scratch, |o| o.access) == Access::Read)
        };
        Self {
            source: launch.source.clone(),
            entry: launch.entry,
            overrides: launch.overrides.iter().map(bits).collect(),
            read_only: launch.bindings.iter().map(reads).collect(),
        }
    }
}

#[derive(Debug)]
struct Layout {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// Three caches: bind group layouts, shader modules, pipelines. Nothing in them is ever dropped: their
/// number is bounded by the kernels' variants.
#[derive(Debug)]
pub(super) struct Pipelines {
    checked: bool,
    layouts: HashMap<Vec<bool>, Layout>,
    modules: HashMap<Source, wgpu::ShaderModule>,
    pipelines: HashMap<PipelineKey, wgpu::ComputePipeline>,
}

impl Pipelines {
    /// Empty caches; `checked` keeps the runtime checks in the shaders.
    pub fn new(checked: bool) -> Self {
        Self {
            checked,
            layouts: HashMap::new(),
            modules: HashMap::new(),
            pipelines: HashMap::new(),
        }
    }

    /// Compiles what is missing, on all cores: drivers take milliseconds to seconds for each.
    pub fn prepare(&mut self, context: &mut Context, wanted: &[PipelineKey]) -> Result<(), Error> {
        for key in missing(&self.pipelines, wanted.iter()) {
            if !self.layouts.contains_key(&key.read_only) {
                let made = context.guarded(|| layout(&context.device, &key.read_only));
                let made = made.map_err(|error| context.refused(key.source.shader, error))?;
                self.layouts.insert(key.read_only.clone(), made);
            }
        }
        let (shared, checked) = (&*context, self.checked);
        let modules = missing(&self.modules, wanted.iter().map(|key| &key.source))
            .into_par_iter()
            .map(|key| compile_module(shared, key, checked).map(|module| (key.clone(), module)))
            .collect::<Result<Vec<_>, Error>>()?;
        self.modules.extend(modules);
        let pipelines = missing(&self.pipelines, wanted.iter())
            .into_par_iter()
            .map(|key| self.compile(shared, key).map(|pipeline| (key.clone(), pipeline)))
            .collect::<Result<Vec<_>, Error>>()?;
        context.stats.pipelines += pipelines.len() as u64;
        self.pipelines.extend(pipelines);
        context.check()
    }

    /// A prepared pipeline and the layout of its bind group.
    pub fn get(&self, key: &PipelineKey) -> (&wgpu::ComputePipeline, &wgpu::BindGroupLayout) {
        (&self.pipelines[key], &self.layouts[&key.read_only].group)
    }

    fn compile(
        &self,
        context: &Context,
        key: &PipelineKey,
    ) -> Result<wgpu::ComputePipeline, Error> {
        let constants: Vec<(&str, f64)> =
            key.overrides.iter().map(|&(name, bits)| (name, f64::from_bits(bits))).collect();
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(key.source.shader),
            layout: Some(&self.layouts[&key.read_only].pipeline),
            module: &self.modules[&key.source],
            entry_point: Some(key.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        };
        context
            .guarded(|| context.device.create_compute_pipeline(&descriptor))
            .map_err(|error| context.refused(key.source.shader, error))
    }
}

/// The wanted keys that a cache lacks, each once, in order.
fn missing<'a, K: Eq + Hash, V>(
    cache: &HashMap<K, V>,
    wanted: impl Iterator<Item = &'a K>,
) -> Vec<&'a K> {
    let mut seen = HashSet::new();
    wanted.filter(|key| !cache.contains_key(*key) && seen.insert(*key)).collect()
}

/// Two uniforms (dims, step state), then storage.
fn layout(device: &wgpu::Device, read_only: &[bool]) -> Layout {
    let uniform = wgpu::BufferBindingType::Uniform;
    let storage = read_only.iter().map(|&read_only| wgpu::BufferBindingType::Storage { read_only });
    let entries: Vec<wgpu::BindGroupLayoutEntry> = [uniform, uniform]
        .into_iter()
        .chain(storage)
        .zip(0..)
        .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect();
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    });
    let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    Layout { group, pipeline }
}

fn compile_module(
    context: &Context,
    source: &Source,
    checked: bool,
) -> Result<wgpu::ShaderModule, Error> {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(source.shader),
        source: wgpu::ShaderSource::Wgsl(source.link().into()),
    };
    let module = context.guarded(|| match checked {
        true => context.device.create_shader_module(descriptor),
        // SAFETY: a kernel's indices follow from the shapes its operands' lengths follow from, or are kept
        // in range by the shader where they come from data, and `Program` refuses a view that is shorter
        // than its operand; its loops end and its divisors are extents, which are at least 1. The tests run
        // every kernel with the checks on as well.
        false => unsafe {
            let checks = wgpu::ShaderRuntimeChecks::unchecked();
            context.device.create_shader_module_trusted(descriptor, checks)
        },
    });
    module.map_err(|error| context.refused(source.shader, error))
}
