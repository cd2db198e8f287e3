//! Device memory: a driver's buffer for each allocation, several for one that is larger than its largest; counted.

use crate::limits::padded;
use crate::shared::Shared;
use anychip_core::{Buffer, Error, Memory, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wgpu::{BufferDescriptor, BufferUsages};

/// What an allocation is to this backend.
pub(crate) struct GpuMemory {
    /// One, or several of [`Limits::part_bytes`](crate::Limits), the last of which has what is left.
    parts: Vec<wgpu::Buffer>,
    part_bytes: u64,
    counted: u64,
    shared: Arc<Shared>,
}

impl Memory for GpuMemory {}

impl GpuMemory {
    /// The buffer that holds `bytes` bytes from `offset`, and where in it; `None` where they lie in several.
    fn locate(&self, offset: u64, bytes: u64) -> Option<(&wgpu::Buffer, u64)> {
        let (part, start) = match &self.parts[..] {
            [one] => (one, offset),
            several => (several.get((offset / self.part_bytes) as usize)?, offset % self.part_bytes),
        };
        (start.checked_add(bytes)? <= part.size()).then_some((part, start))
    }
}

impl Drop for GpuMemory {
    fn drop(&mut self) {
        self.shared.heap.used.fetch_sub(self.counted, Ordering::Relaxed);
    }
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
    match buffers(shared, bytes).and_then(|parts| shared.poll().map(|()| parts)) {
        Ok(parts) => {
            let part_bytes = shared.limits.part_bytes();
            let memory = GpuMemory { parts, part_bytes, counted, shared: shared.clone() };
            Ok(Buffer::new(shared.info.id, bytes, Box::new(memory)))
        }
        Err(error) => {
            heap.used.fetch_sub(counted, Ordering::Relaxed);
            Err(error)
        }
    }
}

fn buffers(shared: &Shared, bytes: u64) -> Result<Vec<wgpu::Buffer>> {
    let part = shared.limits.part_bytes();
    if !shared.limits.divide(bytes) {
        return shared.buffer(bytes).map(|buffer| vec![buffer]);
    }
    let starts = (0..bytes).step_by(usize::try_from(part).unwrap_or(usize::MAX));
    starts.map(|start| shared.buffer(part.min(bytes - start))).collect()
}

impl Shared {
    /// The driver's buffer that holds `bytes` bytes from `offset` of an allocation, and where in it.
    pub(crate) fn located<'a>(&self, buffer: &'a Buffer, offset: u64, bytes: u64) -> Result<(&'a wgpu::Buffer, u64)> {
        let memory = self.memory(buffer)?;
        memory.locate(offset, bytes).ok_or_else(|| self.failed("bytes of one access in several buffers"))
    }

    /// What an allocation is, if it is this device's.
    pub(crate) fn memory<'a>(&self, buffer: &'a Buffer) -> Result<&'a GpuMemory> {
        let memory = if buffer.device() == self.info.id { buffer.memory() } else { None };
        memory.ok_or_else(|| Error::Foreign { device: self.info.name.clone(), what: "a tensor" })
    }
}
