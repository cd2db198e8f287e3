//! Opening an adapter, and the contract's device over it.

use crate::limits::Limits;
use crate::memory::allocate;
use crate::pipelines::{Checks, Pipelines};
use crate::shared::{Counters, Heap, Queued, Shared};
use crate::stream::GpuStream;
use crate::{adapter, ops};
use anychip_core::host::total_memory;
use anychip_core::{
    Activity, Buffer, Clock, Device, DeviceId, DeviceInfo, Error, Numerics, Op, Result, Stream, Support,
};
use std::sync::atomic::{AtomicU64, Ordering};
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
    open_as(number, |limits| limits)
}

/// The same with plans made for the limits that `narrow` makes of the adapter's own: for tests of what runs on other
/// adapters. Limits that the adapter does not keep make operations fail.
///
/// # Errors
/// As [`open`].
pub fn open_as(number: Option<usize>, narrow: impl FnOnce(Limits) -> Limits) -> Result<Box<dyn Device>> {
    Ok(Box::new(GpuDevice::open(number, Checks::OF_THIS_BUILD, narrow)?))
}

impl GpuDevice {
    pub(crate) fn open(
        number: Option<usize>,
        checks: Checks,
        narrow: impl FnOnce(Limits) -> Limits,
    ) -> Result<GpuDevice> {
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
        let own = adapter::limits(&adapter);
        let clock = Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let tick = features.contains(clock).then(|| queue.get_timestamp_period() as f64);
        let memory = if own.is_cpu { total_memory() } else { None };
        let limits = narrow(own);
        let mut info = DeviceInfo::new(DeviceId::unique(), name, adapter::description(&adapter));
        info.memory_bytes = memory;
        info.max_allocation = memory.unwrap_or(limits.buffer_bytes) / 16 * 16;
        info.alignment = limits.alignment;
        info.clock = if tick.is_some() { Clock::Device } else { Clock::Host };
        let cache = features.contains(Features::PIPELINE_CACHE).then(|| pipeline_cache(&device));
        let shared = Shared {
            info,
            limits,
            device,
            queue,
            checks,
            pipelines: Pipelines::cached(cache),
            heap: Heap { limit: memory.unwrap_or(u64::MAX), used: AtomicU64::new(0) },
            counters: Counters::default(),
            queued: Queued::default(),
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
        self.shared.poll()?;
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

    fn activity(&self) -> Option<Activity> {
        let Counters { submits, dispatches, moved, read_back } = &self.shared.counters;
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(Activity::new(now(submits), now(dispatches), now(moved), now(read_back)))
    }
}
