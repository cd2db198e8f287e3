//! Opening an adapter, and the contract's device over it.

use crate::memory::allocate;
use crate::pipelines::Pipelines;
use crate::plan::Limits;
use crate::shared::{Counters, Heap, Shared};
use crate::stream::GpuStream;
use crate::{adapter, ops};
use anychip_core::host::total_memory;
use anychip_core::{Buffer, Clock, Device, DeviceId, DeviceInfo, Error, Numerics, Op, Result, Stream, Support};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use wgpu::{DeviceDescriptor, ExperimentalFeatures, Features, MemoryHints, PipelineCacheDescriptor};

/// A GPU.
pub(crate) struct GpuDevice {
    pub(crate) shared: Arc<Shared>,
}

/// What the adapters of this machine are, in the order of their numbers; empty where there is no Vulkan driver.
pub fn descriptions() -> Vec<String> {
    adapter::adapters().iter().map(adapter::description).collect()
}

/// Opens adapter `number`, or the first, under the name `wgpu:N` or `wgpu`.
///
/// # Errors
/// [`Error::Unavailable`] when there is no such adapter, with the mend, or when it lacks what every kernel needs.
pub fn open(number: Option<usize>) -> Result<Box<dyn Device>> {
    Ok(Box::new(GpuDevice::open(number)?))
}

/// The same with plans made for the limits that `narrow` makes of the adapter's own: for tests of what runs on other
/// adapters. Limits that the adapter does not keep make operations fail.
///
/// # Errors
/// As [`open`].
pub fn open_as(number: Option<usize>, narrow: impl FnOnce(Limits) -> Limits) -> Result<Box<dyn Device>> {
    Ok(Box::new(GpuDevice::open_as(number, narrow)?))
}

impl GpuDevice {
    pub(crate) fn open(number: Option<usize>) -> Result<GpuDevice> {
        GpuDevice::open_as(number, |limits| limits)
    }

    fn open_as(number: Option<usize>, narrow: impl FnOnce(Limits) -> Limits) -> Result<GpuDevice> {
        let (name, adapter) = adapter::adapter(number)?;
        let unavailable = |cause: String| Error::Unavailable {
            device: name.clone(),
            cause,
            mend: "update the driver, or use another adapter".into(),
        };
        let missing = adapter::needed() - adapter.features();
        if !missing.is_empty() {
            return Err(unavailable(format!("the adapter lacks {missing:?}")));
        }
        let features = adapter::needed() | (adapter::wanted() & adapter.features());
        let descriptor = DeviceDescriptor {
            label: Some("anychip"),
            required_features: features,
            required_limits: adapter.limits(),
            memory_hints: MemoryHints::MemoryUsage,
            experimental_features: experimental(features),
            ..DeviceDescriptor::default()
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| unavailable(error.to_string()))?;
        let lost = Arc::new(OnceLock::new());
        let (callback, uncaptured) = (lost.clone(), lost.clone());
        device.set_device_lost_callback(move |reason, message| {
            let _ = callback.set(format!("{reason:?}: {message}"));
        });
        // Every call that can fail has a scope: what comes here nobody can be told, and nothing may be trusted after it.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = uncaptured.set(format!("an error that no call caused: {error}"));
        }));
        let limits = narrow(adapter::limits(&adapter));
        let clock = Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let tick = features.contains(clock).then(|| queue.get_timestamp_period() as f64);
        let memory = if limits.is_cpu { total_memory() } else { None };
        let mut info = DeviceInfo::new(DeviceId::unique(), name, adapter::description(&adapter));
        info.memory_bytes = memory;
        info.max_allocation = adapter.limits().max_buffer_size.min(memory.unwrap_or(u64::MAX)) / 16 * 16;
        info.alignment = limits.alignment;
        info.clock = if tick.is_some() { Clock::Device } else { Clock::Host };
        let cache = features.contains(Features::PIPELINE_CACHE).then(|| pipeline_cache(&device));
        let shared = Shared {
            info,
            limits,
            device,
            queue,
            pipelines: Pipelines::cached(cache),
            heap: Heap { limit: memory.unwrap_or(u64::MAX), used: AtomicU64::new(0) },
            counters: Counters::default(),
            lost,
            tick,
            origin: Instant::now(),
        };
        Ok(GpuDevice { shared: Arc::new(shared) })
    }
}

/// The consent that experimental features ask for, where one is used.
fn experimental(features: Features) -> ExperimentalFeatures {
    if !features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return ExperimentalFeatures::disabled();
    }
    // SAFETY: what is experimental about cooperative matrices is that their loads and stores are not checked. Kernels load and
    // store workgroup memory with them, at places that are constants of the text.
    #[allow(unsafe_code)]
    unsafe {
        ExperimentalFeatures::enabled()
    }
}

/// An empty cache, in which the driver keeps what pipelines have in common.
fn pipeline_cache(device: &wgpu::Device) -> wgpu::PipelineCache {
    // SAFETY: there is no data that could be another driver's.
    #[allow(unsafe_code)]
    unsafe {
        device.create_pipeline_cache(&PipelineCacheDescriptor { label: None, data: None, fallback: true })
    }
}

impl Device for GpuDevice {
    fn info(&self) -> DeviceInfo {
        self.shared.info.clone()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        allocate(&self.shared, bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        self.shared.alive()?;
        Ok(Box::new(GpuStream::new(self.shared.clone())))
    }

    fn supports(&self, op: &Op) -> Support {
        match ops::plan(op, &self.shared.limits) {
            Ok(_) => Support::Native,
            Err(reason) => Support::Unsupported(reason),
        }
    }

    fn numerics(&self, op: &Op) -> Numerics {
        ops::numerics(op)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use anychip_core::DType;
    use anychip_core::ops::{Hadamard, Operation};

    /// The first adapter. Where there is none the test says that it is skipped, and fails where `ANYCHIP_REQUIRE` names wgpu.
    fn device() -> Option<GpuDevice> {
        if !adapter::adapters().is_empty() {
            return Some(GpuDevice::open(None).unwrap());
        }
        let required = std::env::var("ANYCHIP_REQUIRE").is_ok_and(|names| names.split(',').any(|name| name == "wgpu"));
        assert!(!required, "ANYCHIP_REQUIRE names wgpu, and there is no Vulkan driver; {}", crate::MEND);
        println!("SKIPPED: no Vulkan driver was found; {}", crate::MEND);
        None
    }

    fn works(device: &GpuDevice) {
        let [x, out] = [(); 2].map(|()| device.tensor(DType::F32, &[1, 4]).unwrap());
        let mut stream = device.open_stream().unwrap();
        stream.write(&x, bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0])).unwrap();
        stream.enqueue(&Hadamard { x, out: out.clone() }.build().unwrap()).unwrap();
        let mut got = [0.0f32; 4];
        stream.read(&out, bytemuck::cast_slice_mut(&mut got)).unwrap();
        assert_eq!(got, [5.0, -1.0, -2.0, 0.0]);
    }

    #[test]
    fn there_is_a_kernel_for_every_operation() {
        assert_eq!(ops::KERNELS, anychip_core::ops::NAMES);
    }

    #[test]
    fn a_lost_device_says_so_and_can_be_opened_again() {
        let Some(lost) = device() else { return };
        anychip_conformance::when_lost(&lost, || lost.shared.device.destroy()).unwrap();
        works(&device().unwrap());
    }

    #[test]
    fn a_device_that_is_lost_in_mid_use_says_so() {
        for submitted in [false, true] {
            let Some(device) = device() else { return };
            let [x, out] = [(); 2].map(|()| device.tensor(DType::F32, &[64, 1024]).unwrap());
            let mut stream = device.open_stream().unwrap();
            let op = Hadamard { x, out }.build().unwrap();
            (0..32).for_each(|_| stream.enqueue(&op).unwrap());
            let event = submitted.then(|| stream.mark().unwrap());
            device.shared.device.destroy();
            let lost = stream.synchronize();
            assert!(matches!(lost, Err(Error::DeviceLost { .. })), "submitted: {submitted}: {lost:?}");
            // What was done before may stay done.
            let done = event.map(|event| event.done_at());
            assert!(!matches!(done, Some(Err(Error::Device { .. }))), "{done:?}");
        }
    }

    #[test]
    fn memory_is_counted_and_comes_back() {
        let Some(device) = device() else { return };
        let used = || device.shared.heap.used.load(std::sync::atomic::Ordering::Relaxed);
        let too_much = device.info().max_allocation.saturating_add(1);
        assert!(
            matches!(device.allocate(too_much), Err(Error::OutOfMemory { requested, .. }) if requested == too_much)
        );
        for _ in 0..10_000 {
            device.allocate(4096).unwrap();
        }
        let held = device.allocate(1000).unwrap();
        assert_eq!(used(), 1008, "whole words of sixteen bytes");
        drop(held);
        assert_eq!(used(), 0);
        works(&device);
    }

    #[test]
    fn two_devices_work_at_once() {
        let (Some(one), Some(other)) = (device(), device()) else { return };
        assert_ne!(one.info().id, other.info().id);
        std::thread::scope(|scope| {
            for device in [&one, &other] {
                scope.spawn(move || (0..20).for_each(|_| works(device)));
            }
        });
    }

    #[test]
    fn a_text_that_is_no_shader_is_an_error_and_the_device_goes_on() {
        let Some(device) = device() else { return };
        let spec = anychip_shaders::Spec {
            kernel: "embed",
            variant: None,
            slots: Vec::new(),
            constants: Vec::new(),
            window: device.shared.limits.window(),
        };
        match device.shared.pipeline(&spec, 4) {
            Err(Error::Device { cause, .. }) => assert!(cause.contains("kernel `embed`"), "{cause}"),
            other => panic!("{:?}", other.err()),
        }
        works(&device);
    }
}
