//! A Vulkan device that compiles pipelines and tells what came of them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};

use ash::{khr, vk};

/// What a compiler tells of a pipeline.
pub struct Compiled {
    /// Threads of its waves.
    pub lanes: u32,
    pub statistics: BTreeMap<String, f64>,
    /// Empty where the driver shows none.
    pub assembly: String,
}

impl Compiled {
    /// A statistic by the driver's name of it; 0 where it has none of the name.
    pub fn get(&self, name: &str) -> f64 {
        self.statistics.get(name).copied().unwrap_or(0.0)
    }
}

/// The first device in sight.
pub struct Vulkan {
    pub name: String,
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    layouts: HashMap<usize, (vk::DescriptorSetLayout, vk::PipelineLayout)>,
    instance: ash::Instance,
    // Its library.
    _entry: ash::Entry,
}

impl Drop for Vulkan {
    fn drop(&mut self) {
        // SAFETY: nothing made by the device is left but these, and nothing works on it.
        unsafe {
            for (set, layout) in self.layouts.values() {
                self.device.destroy_pipeline_layout(*layout, None);
                self.device.destroy_descriptor_set_layout(*set, None);
            }
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

impl Vulkan {
    /// Opens it with the features that wgpu asks for.
    pub fn open() -> Self {
        // SAFETY: every handle is made by the one before it, and none is destroyed before this is dropped.
        unsafe {
            let entry = ash::Entry::load().unwrap();
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None).unwrap();
            let physical = instance.enumerate_physical_devices().unwrap()[0];
            let properties = instance.get_physical_device_properties(physical);
            let name = CStr::from_ptr(properties.device_name.as_ptr()).to_string_lossy();
            let known = instance.enumerate_device_extension_properties(physical).unwrap();
            let has = |name: &CStr| {
                known.iter().any(|one| CStr::from_ptr(one.extension_name.as_ptr()) == name)
            };
            let mut names = vec![khr::pipeline_executable_properties::NAME];
            let robust = has(ash::ext::robustness2::NAME);
            if robust {
                names.push(ash::ext::robustness2::NAME);
            }
            let pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
            let core =
                vk::PhysicalDeviceFeatures::default().robust_buffer_access(true).shader_int16(true);
            let mut of11 = vk::PhysicalDeviceVulkan11Features::default()
                .storage_buffer16_bit_access(true)
                .uniform_and_storage_buffer16_bit_access(true);
            let mut of12 = vk::PhysicalDeviceVulkan12Features::default()
                .shader_float16(true)
                .vulkan_memory_model(true)
                .shader_subgroup_extended_types(true);
            let mut of13 = vk::PhysicalDeviceVulkan13Features::default()
                .subgroup_size_control(true)
                .shader_integer_dot_product(true);
            let mut robustness =
                vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut executable =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                    .pipeline_executable_info(true);
            let queues = [vk::DeviceQueueCreateInfo::default()
                .queue_family_index(0)
                .queue_priorities(&[1.0])];
            let mut info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&pointers)
                .enabled_features(&core)
                .push_next(&mut of11)
                .push_next(&mut of12)
                .push_next(&mut of13)
                .push_next(&mut executable);
            if robust {
                info = info.push_next(&mut robustness);
            }
            let device = instance.create_device(physical, &info, None).unwrap();
            Self {
                name: name.into_owned(),
                executables: khr::pipeline_executable_properties::Device::new(&instance, &device),
                device,
                layouts: HashMap::new(),
                instance,
                _entry: entry,
            }
        }
    }

    /// Two uniforms and so many tensors, as all kernels have.
    fn layout(&mut self, tensors: usize) -> vk::PipelineLayout {
        let device = &self.device;
        let made = self.layouts.entry(tensors).or_insert_with(|| {
            let binding = |number: usize| {
                let kind = match number {
                    0 | 1 => vk::DescriptorType::UNIFORM_BUFFER,
                    _ => vk::DescriptorType::STORAGE_BUFFER,
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(number as u32)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
                    .descriptor_type(kind)
            };
            let bindings: Vec<_> = (0..2 + tensors).map(binding).collect();
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            // SAFETY: the device is open.
            unsafe {
                let sets = [device.create_descriptor_set_layout(&info, None).unwrap()];
                let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
                (sets[0], device.create_pipeline_layout(&info, None).unwrap())
            }
        });
        made.1
    }

    /// Compiles a module; its waves may have any size, as wgpu lets them.
    pub fn compile(&mut self, words: &[u32], entry: &str, tensors: usize) -> Compiled {
        let layout = self.layout(tensors);
        let device = &self.device;
        let name = CString::new(entry).unwrap();
        let info = vk::ShaderModuleCreateInfo::default().code(words);
        // SAFETY: the words are a valid module, the layout has all that it binds, and all that is made here is destroyed
        // behind its last use.
        unsafe {
            let module = device.create_shader_module(&info, None).unwrap();
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&name)
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE);
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                )
                .stage(stage)
                .layout(layout);
            let cache = vk::PipelineCache::null();
            let pipeline = device.create_compute_pipelines(cache, &[info], None).unwrap()[0];
            let compiled = self.told(pipeline);
            device.destroy_pipeline(pipeline, None);
            device.destroy_shader_module(module, None);
            compiled
        }
    }

    /// # Safety
    /// The pipeline is alive, and keeps statistics and representations.
    unsafe fn told(&self, pipeline: vk::Pipeline) -> Compiled {
        // SAFETY: as the caller says; the strings that the driver writes end in 0.
        unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let told = self.executables.get_pipeline_executable_properties(&info).unwrap();
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let all = self.executables.get_pipeline_executable_statistics(&info).unwrap();
            let statistic = |one: &vk::PipelineExecutableStatisticKHR<'_>| {
                use vk::PipelineExecutableStatisticFormatKHR as Format;
                let name = CStr::from_ptr(one.name.as_ptr()).to_string_lossy().into_owned();
                let value = match one.format {
                    Format::FLOAT64 => one.value.f64,
                    Format::BOOL32 => f64::from(one.value.b32),
                    _ => one.value.u64 as f64,
                };
                (name, value)
            };
            let shown = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            _ = shown(self.device.handle(), &info, &mut count, std::ptr::null_mut());
            let mut texts =
                vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            _ = shown(self.device.handle(), &info, &mut count, texts.as_mut_ptr());
            let mut data: Vec<Vec<u8>> =
                texts.iter().map(|text| vec![0; text.data_size + 1]).collect();
            for (text, data) in texts.iter_mut().zip(&mut data) {
                text.p_data = data.as_mut_ptr().cast();
                text.data_size = data.len();
            }
            _ = shown(self.device.handle(), &info, &mut count, texts.as_mut_ptr());
            let assembly = texts.iter().zip(&data).find(|(text, _)| {
                CStr::from_ptr(text.name.as_ptr()).to_string_lossy().contains("Assembly")
            });
            Compiled {
                lanes: told[0].subgroup_size,
                statistics: all.iter().map(statistic).collect(),
                assembly: assembly.map_or_else(String::new, |(_, data)| {
                    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
                    String::from_utf8_lossy(&data[..end]).into_owned()
                }),
            }
        }
    }
}
