//! Device memory: a driver's buffer for each allocation, counted.

use crate::plan::LEAST_BINDING;
use crate::shared::Shared;
use anychip_core::{Buffer, Error, Memory, Result, Tensor};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wgpu::{BufferDescriptor, BufferUsages};

/// What an allocation is to this backend.
pub(crate) struct GpuMemory {
    pub(crate) buffer: wgpu::Buffer,
    counted: u64,
    shared: Arc<Shared>,
}

impl Memory for GpuMemory {}

impl Drop for GpuMemory {
    fn drop(&mut self) {
        self.shared.heap.used.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Bytes that the driver is asked for: whole words, and never less than a binding may have.
pub(crate) fn padded(bytes: u64) -> Option<u64> {
    bytes.max(1).checked_next_multiple_of(LEAST_BINDING)
}

impl Shared {
    /// A buffer that kernels and copies use.
    pub(crate) fn buffer(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        self.buffer_for(bytes, usage, false)
    }

    /// A buffer for other uses.
    pub(crate) fn buffer_for(&self, bytes: u64, usage: BufferUsages, mapped: bool) -> Result<wgpu::Buffer> {
        let size = padded(bytes).ok_or_else(|| self.out_of_memory(bytes))?;
        let descriptor = BufferDescriptor { label: None, size, usage, mapped_at_creation: mapped };
        match self.guarded(bytes, || self.device.create_buffer(&descriptor)) {
            // Finished work may hold memory that was let go.
            Err(Error::OutOfMemory { .. }) => {
                self.wait_for_all()?;
                self.guarded(bytes, || self.device.create_buffer(&descriptor))
            }
            other => other,
        }
    }
}

/// Allocates for the contract's [`Device::allocate`](anychip_core::Device::allocate).
pub(crate) fn allocate(shared: &Arc<Shared>, bytes: u64) -> Result<Buffer> {
    shared.alive()?;
    if bytes > shared.info.max_allocation {
        return Err(shared.out_of_memory(bytes));
    }
    let heap = &shared.heap;
    let counted = padded(bytes).ok_or_else(|| shared.out_of_memory(bytes))?;
    let within = |used: u64| used.checked_add(counted).filter(|&total| total <= heap.limit);
    if heap.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
        return Err(shared.out_of_memory(bytes));
    }
    // A device that is lost gives buffers that nothing lies under, and says so only when it is asked.
    match shared.buffer(bytes).and_then(|buffer| shared.poll().map(|()| buffer)) {
        Ok(buffer) => {
            let memory = GpuMemory { buffer, counted, shared: shared.clone() };
            Ok(Buffer::new(shared.info.id, bytes, Box::new(memory)))
        }
        Err(error) => {
            heap.used.fetch_sub(counted, Ordering::Relaxed);
            Err(error)
        }
    }
}

impl Shared {
    /// The driver's buffer under a tensor.
    pub(crate) fn buffer_of<'a>(&self, buffer: &'a Buffer) -> Result<&'a wgpu::Buffer> {
        let foreign = || Error::Foreign { device: self.info.name.clone(), what: "a tensor" };
        if buffer.device() != self.info.id {
            return Err(foreign());
        }
        buffer.memory::<GpuMemory>().map(|memory| &memory.buffer).ok_or_else(foreign)
    }

    /// The same of a tensor.
    pub(crate) fn buffer_under<'a>(&self, tensor: &'a Tensor) -> Result<&'a wgpu::Buffer> {
        self.buffer_of(tensor.buffer())
    }
}
