//! Pipelines, each made when it is first wanted and kept.

use crate::shared::Shared;
use anychip_core::Result;
use anychip_shaders::Spec;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipelineDescriptor,
    PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource,
    ShaderStages,
};

/// What kernels are compiled with, beyond what they say themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    /// Whether indices are kept within bindings, and loops known to end.
    pub(crate) bounds: bool,
    /// Whether workgroup memory begins as zeros. Kernels store it before they load it.
    pub(crate) zeros: bool,
}

impl Checks {
    /// All of them in builds with debug assertions, which the tests are; none in release.
    pub(crate) const OF_THIS_BUILD: Checks = Checks { bounds: cfg!(debug_assertions), zeros: cfg!(debug_assertions) };
}

/// A kernel that the driver has compiled, and how its bindings are laid out.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// All of a device.
#[derive(Default)]
pub(crate) struct Pipelines {
    made: Mutex<HashMap<Spec, Arc<Pipeline>>>,
    pub(crate) cache: Option<wgpu::PipelineCache>,
}

impl Pipelines {
    pub(crate) fn cached(cache: Option<wgpu::PipelineCache>) -> Pipelines {
        Pipelines { made: Mutex::default(), cache }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, HashMap<Spec, Arc<Pipeline>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The pipeline of a specialisation whose immediates have `words` words.
    pub(crate) fn pipeline(&self, spec: &Spec, words: usize) -> Result<Arc<Pipeline>> {
        if let Some(pipeline) = self.pipelines.made().get(spec) {
            return Ok(pipeline.clone());
        }
        // Not under the lock: compiling takes milliseconds, and other threads have work.
        let source = spec.source().ok_or_else(|| self.failed(format!("there is no kernel `{}`", spec.kernel)))?;
        let made = self.guarded(0, || self.compile(spec, &source, words)).map_err(|error| match error {
            anychip_core::Error::Device { device, cause } => {
                anychip_core::Error::Device { device, cause: format!("kernel `{}`: {cause}", spec.kernel) }
            }
            other => other,
        })?;
        Ok(self.pipelines.made().entry(spec.clone()).or_insert(Arc::new(made)).clone())
    }

    fn compile(&self, spec: &Spec, source: &str, words: usize) -> Pipeline {
        let label = Some(spec.kernel);
        let descriptor = ShaderModuleDescriptor { label, source: ShaderSource::Wgsl(source.into()) };
        let module = self.module(descriptor);
        let entry = |(number, writes): (usize, bool)| BindGroupLayoutEntry {
            binding: number as u32,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty: BufferBindingType::Storage { read_only: !writes },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = spec.bindings().iter().map(|binding| binding.writes).enumerate().map(entry).collect();
        let layout = self.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label, entries: &entries });
        let of_pipeline = self.device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: (words * 4) as u32,
        });
        let pipeline = self.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label,
            layout: Some(&of_pipeline),
            module: &module,
            entry_point: Some("main"),
            compilation_options: PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.checks.zeros,
                ..PipelineCompilationOptions::default()
            },
            cache: self.pipelines.cache.as_ref(),
        });
        Pipeline { pipeline, layout }
    }

    fn module(&self, descriptor: ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        if self.checks.bounds {
            return self.device.create_shader_module(descriptor);
        }
        // SAFETY: the sources are this project's own. Every index that they form lies within its operand: the contract's
        // types have checked the sizes on the host, kernels check what only the device can see, and the conformance suite
        // runs the same sources with the checks on.
        #[allow(unsafe_code)]
        unsafe {
            self.device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked())
        }
    }
}
