//! The GPUs of this machine, as their drivers describe them.

use distil_gpu_kernels::Caps;

use crate::device::{DeviceInfo, DeviceKind, Limits};

/// A driver and the GPU behind it, not yet in use.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What it is.
    pub info: DeviceInfo,
    /// What kernels would choose their variants by.
    pub caps: Caps,
    /// What it allows.
    pub limits: Limits,
    /// Whether it can time kernels.
    pub timestamps: bool,
    /// Smallest and largest subgroup, where its shaders can use them.
    pub subgroups: Option<(u32, u32)>,
    pub(super) handle: wgpu::Adapter,
}

impl Adapter {
    /// At whose multiples a uniform may start.
    pub fn uniform_alignment(&self) -> usize {
        self.handle.limits().min_uniform_buffer_offset_alignment as usize
    }
}

/// All GPUs, real ones first: discrete, integrated, others, software drivers. Their order is that of
/// `gpu:N`. A GPU that two backends offer is listed once.
pub fn adapters() -> Vec<Adapter> {
    // No validation layers, whatever the build, unless the user's WGPU_* variables ask for them.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut kept: Vec<wgpu::Adapter> = Vec::new();
    // On Windows most cards have a Vulkan and a DX12 driver; Vulkan needs no shader compiler beside it.
    for backends in [wgpu::Backends::VULKAN, wgpu::Backends::METAL, wgpu::Backends::DX12] {
        for adapter in pollster::block_on(instance.enumerate_adapters(backends)) {
            let info = adapter.get_info();
            if !kept.iter().any(|other| same_gpu(&other.get_info(), &info)) {
                kept.push(adapter);
            }
        }
    }
    let mut adapters: Vec<Adapter> = kept.into_iter().map(describe).collect();
    adapters.sort_by_key(|adapter| adapter.info.kind);
    adapters
}

/// Whether two drivers drive the same card. Two like cards of one backend are told apart by their place on
/// the bus, and software drivers have none: they are alike only if they are the same driver.
fn same_gpu(a: &wgpu::AdapterInfo, b: &wgpu::AdapterInfo) -> bool {
    let same_model = (a.vendor, a.device) == (b.vendor, b.device);
    match a.backend == b.backend {
        false => same_model && a.device_type != wgpu::DeviceType::Cpu,
        true => {
            a == b && (!a.device_pci_bus_id.is_empty() || a.device_type == wgpu::DeviceType::Cpu)
        }
    }
}

fn describe(handle: wgpu::Adapter) -> Adapter {
    let (info, limits, features) = (handle.get_info(), handle.limits(), handle.features());
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => DeviceKind::OtherGpu,
        wgpu::DeviceType::Cpu => DeviceKind::SoftwareGpu,
    };
    let subgroups = features
        .contains(wgpu::Features::SUBGROUP)
        .then_some((info.subgroup_min_size, info.subgroup_max_size));
    Adapter {
        caps: Caps {
            max_workgroup_threads: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            software: kind == DeviceKind::SoftwareGpu,
            f16: features.contains(wgpu::Features::SHADER_F16),
            reads_f16: handle
                .get_downlevel_capabilities()
                .flags
                .contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32),
            subgroup_lanes: subgroups.and_then(|(min, max)| (min == max).then_some(min)),
            cooperative_f32: cooperative_side(&handle, wgpu::CooperativeScalarType::F32),
            cooperative_f16: cooperative_side(&handle, wgpu::CooperativeScalarType::F16),
        },
        limits: Limits {
            buffer_bytes: limits.max_buffer_size,
            binding_bytes: limits.max_storage_buffer_binding_size,
        },
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        subgroups,
        info: DeviceInfo {
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            name: info.name,
            kind,
        },
        handle,
    }
}

/// Side of the largest square matrices of a type that subgroups multiply at once and sum in f32.
fn cooperative_side(handle: &wgpu::Adapter, factors: wgpu::CooperativeScalarType) -> Option<u32> {
    let offered = handle.cooperative_matrix_properties().into_iter();
    let square = offered.filter(|offer| {
        offer.m_size == offer.n_size
            && offer.n_size == offer.k_size
            && offer.ab_type == factors
            && offer.cr_type == wgpu::CooperativeScalarType::F32
    });
    square.map(|offer| offer.m_size).max()
}
