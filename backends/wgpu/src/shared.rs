//! What a device, its streams, its memory and its events share, and how the driver's errors become the contract's.

use crate::plan::Limits;
use anychip_core::{DeviceInfo, Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use wgpu::{ErrorFilter, PollType, SubmissionIndex};

use crate::pipelines::Pipelines;

/// An opened adapter.
pub(crate) struct Shared {
    pub(crate) info: DeviceInfo,
    pub(crate) limits: Limits,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    pub(crate) heap: Heap,
    pub(crate) counters: Counters,
    /// Why the device is gone, once it is.
    pub(crate) lost: Arc<OnceLock<String>>,
    /// Nanoseconds of a tick, where the device has a clock.
    pub(crate) tick: Option<f64>,
    pub(crate) origin: std::time::Instant,
}

/// Memory that is given out.
pub(crate) struct Heap {
    pub(crate) limit: u64,
    pub(crate) used: AtomicU64,
}

/// What was asked of the driver since the device was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) submits: AtomicU64,
    pub(crate) dispatches: AtomicU64,
    pub(crate) read_back: AtomicU64,
}

impl Shared {
    /// `Ok` unless the device is lost.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some(cause) => Err(Error::DeviceLost { device: self.info.name.clone(), cause: cause.clone() }),
        }
    }

    /// `Ok` unless the device is lost, of which the driver may not have told yet.
    fn still_alive(&self) -> Result<()> {
        let _ = self.device.poll(PollType::Poll);
        self.alive()
    }

    /// An error of the driver's own.
    pub(crate) fn failed(&self, cause: impl ToString) -> Error {
        match self.still_alive() {
            Err(lost) => lost,
            Ok(()) => Error::Device { device: self.info.name.clone(), cause: cause.to_string() },
        }
    }

    /// Out of memory, with what is left as far as it is known.
    pub(crate) fn out_of_memory(&self, requested: u64) -> Error {
        let available = self.heap.limit.saturating_sub(self.heap.used.load(Ordering::Relaxed));
        Error::OutOfMemory { device: self.info.name.clone(), requested, available }
    }

    /// Runs `f`, whose calls to the driver may fail, and gives their error as the contract's. `bytes` is what memory it
    /// asks for.
    pub(crate) fn guarded<T>(&self, bytes: u64, f: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        let filters = [ErrorFilter::Internal, ErrorFilter::Validation, ErrorFilter::OutOfMemory];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let value = f();
        let mut error = None;
        for scope in scopes.into_iter().rev() {
            error = error.or(pollster::block_on(scope.pop()));
        }
        match error {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                self.still_alive()?;
                Err(self.out_of_memory(bytes))
            }
            Some(error) => Err(self.failed(error)),
        }
    }

    /// Waits for a submission, or for all.
    pub(crate) fn wait(&self, submission: Option<SubmissionIndex>) -> Result<()> {
        let waited = self.device.poll(PollType::Wait { submission_index: submission, timeout: None });
        self.alive()?;
        waited.map(drop).map_err(|error| self.failed(error))
    }

    /// Lets the driver say what is done, without waiting.
    pub(crate) fn poll(&self) -> Result<()> {
        let polled = self.device.poll(PollType::Poll);
        self.alive()?;
        polled.map(drop).map_err(|error| self.failed(error))
    }
}
