//! Host memory that the device copies from, in chunks that are used again.

use crate::shared::Shared;
use anychip_core::Result;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{BufferUsages, MapMode};

/// Bytes of a chunk; a larger write has one of its own.
const CHUNK: u64 = 256 << 10;
/// Chunks that are kept for later.
const KEPT: usize = 16;
/// Offsets and sizes of copies are multiples of this.
const WORD: u64 = 4;

struct Chunk {
    buffer: wgpu::Buffer,
    used: u64,
}

/// The chunks that a stream fills between two submissions.
#[derive(Default)]
pub(crate) struct Staging {
    open: Vec<Chunk>,
    /// Mapped again after the device was done with them.
    idle: Arc<Mutex<Vec<wgpu::Buffer>>>,
}

impl Staging {
    /// Bytes that wait for a submission.
    pub(crate) fn bytes(&self) -> u64 {
        self.open.iter().map(|chunk| chunk.used).sum()
    }

    /// Puts `bytes` where the device can copy them from; they are padded to whole words.
    pub(crate) fn put(&mut self, shared: &Shared, bytes: &[u8]) -> Result<(&wgpu::Buffer, u64)> {
        let len = (bytes.len() as u64).next_multiple_of(WORD);
        let fits = self.open.last().is_some_and(|chunk| chunk.used + len <= chunk.buffer.size());
        if !fits {
            let idle = match len <= CHUNK {
                true => self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop(),
                false => None,
            };
            let buffer = match idle {
                Some(buffer) => buffer,
                None => shared.buffer_for(len.max(CHUNK), BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC, true)?,
            };
            self.open.push(Chunk { buffer, used: 0 });
        }
        let Some(chunk) = self.open.last_mut() else { return Err(shared.failed("no staging memory")) };
        let start = chunk.used;
        {
            let range = start..start + (bytes.len() as u64).next_multiple_of(8).min(chunk.buffer.size() - start);
            let mut mapped = chunk.buffer.slice(range).get_mapped_range_mut().map_err(|error| shared.refused(error))?;
            mapped.slice(..bytes.len()).copy_from_slice(bytes);
        }
        // Mapped ranges begin at multiples of eight.
        chunk.used = (start + len).next_multiple_of(8);
        Ok((&chunk.buffer, start))
    }

    /// Gives the chunks to the device: before what copies from them is submitted.
    pub(crate) fn close(&mut self) -> Vec<wgpu::Buffer> {
        self.open.drain(..).map(|chunk| chunk.buffer).inspect(wgpu::Buffer::unmap).collect()
    }

    /// Takes them back when the device is done: after it was submitted.
    pub(crate) fn take_back(&self, closed: Vec<wgpu::Buffer>) {
        for buffer in closed.into_iter().filter(|buffer| buffer.size() == CHUNK) {
            let (idle, mapped) = (self.idle.clone(), buffer.clone());
            buffer.map_async(MapMode::Write, .., move |result| {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if result.is_ok() && idle.len() < KEPT {
                    idle.push(mapped);
                }
            });
        }
    }
}
