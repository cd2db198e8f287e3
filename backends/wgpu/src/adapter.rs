//! The adapters of the machine's Vulkan drivers, and what is asked of one.

use crate::limits::{LEAST_BINDING, Limits};
use anychip_core::Error;
use wgpu::{Adapter, Backends, CooperativeScalarType, DeviceType, Features, Instance, InstanceDescriptor};

/// What makes a Vulkan driver available where there is none.
pub const MEND: &str = "install a Vulkan driver: the GPU vendor's, or in software `apt-get install \
                        --no-install-recommends mesa-vulkan-drivers libvulkan1`";

/// Every adapter in the drivers' order, those in software after the chips: `wgpu` alone means the first. OpenGL and the
/// like are never looked at: their compute is not what kernels need.
pub(crate) fn adapters() -> Vec<Adapter> {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::VULKAN;
    let instance = Instance::new(descriptor);
    let mut all = pollster::block_on(instance.enumerate_adapters(Backends::VULKAN));
    all.sort_by_key(|adapter| adapter.get_info().device_type == DeviceType::Cpu);
    all
}

/// The adapter of a number, with the name that it goes by.
pub(crate) fn adapter(number: Option<usize>) -> Result<(String, Adapter), Error> {
    let name = number.map_or("wgpu".into(), |number| format!("wgpu:{number}"));
    let mut all = adapters();
    let (count, number) = (all.len(), number.unwrap_or(0));
    if number < count {
        return Ok((name, all.swap_remove(number)));
    }
    let (cause, mend) = match count {
        0 => ("no Vulkan driver was found".into(), MEND.into()),
        _ => (format!("there are {count} adapters"), format!("use wgpu:0 to wgpu:{}", count - 1)),
    };
    Err(Error::Unavailable { device: name, cause, mend })
}

/// What an adapter is called: chip, driver, version.
pub(crate) fn description(adapter: &Adapter) -> String {
    let info = adapter.get_info();
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    format!("{}, Vulkan, {}", info.name, driver.trim())
}

/// Features that are used where they are to be had.
pub(crate) fn wanted() -> Features {
    Features::TIMESTAMP_QUERY
        | Features::TIMESTAMP_QUERY_INSIDE_ENCODERS
        | Features::PIPELINE_CACHE
        | Features::SUBGROUP
        | Features::SHADER_F16
        | Features::EXPERIMENTAL_COOPERATIVE_MATRIX
}

/// Features without which nothing runs.
pub(crate) fn needed() -> Features {
    Features::IMMEDIATES
}

/// The limits that plans keep to.
pub(crate) fn limits(adapter: &Adapter) -> Limits {
    let (limits, info) = (adapter.limits(), adapter.get_info());
    let uniform = info.subgroup_min_size == info.subgroup_max_size && adapter.features().contains(Features::SUBGROUP);
    Limits {
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        bindings: limits.max_storage_buffers_per_shader_stage,
        // Four words are loaded at once.
        alignment: (limits.min_storage_buffer_offset_alignment as u64).max(LEAST_BINDING),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_size: limits.max_compute_invocations_per_workgroup,
        subgroup: if uniform { info.subgroup_min_size } else { 0 },
        cooperative: cooperative(adapter),
        is_cpu: info.device_type == DeviceType::Cpu,
    }
}

/// The side of the cooperative matrices that kernels multiply with.
fn cooperative(adapter: &Adapter) -> u32 {
    let needed = Features::SHADER_F16 | Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    if !adapter.features().contains(needed) {
        return 0;
    }
    let fits = |side: &u32| {
        adapter.cooperative_matrix_properties().iter().any(|p| {
            [p.m_size, p.n_size, p.k_size] == [*side; 3]
                && p.ab_type == CooperativeScalarType::F16
                && p.cr_type == CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(fits).unwrap_or(0)
}
