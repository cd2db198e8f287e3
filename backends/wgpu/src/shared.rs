//! What a device, its streams, its memory and its events share, and how the driver's errors become the contract's.

use crate::limits::Limits;
use crate::pipelines::{Checks, Pipelines};
use anychip_core::{DeviceInfo, Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use wgpu::{CommandBuffer, ErrorFilter, PollType, SubmissionIndex};

/// An opened adapter.
pub(crate) struct Shared {
    pub(crate) info: DeviceInfo,
    pub(crate) limits: Limits,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) checks: Checks,
    pub(crate) pipelines: Pipelines,
    pub(crate) heap: Heap,
    pub(crate) counters: Counters,
    pub(crate) queued: Queued,
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
    pub(crate) moved: AtomicU64,
    pub(crate) read_back: AtomicU64,
}

/// How far the one queue is.
#[derive(Default)]
pub(crate) struct Queued {
    submitted: Mutex<u64>,
    finished: AtomicU64,
}

/// Commands that were submitted: the driver's number, and ours, which has an order.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    index: SubmissionIndex,
    pub(crate) number: u64,
}

impl Shared {
    /// `Ok` unless the device is lost.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some(cause) => Err(Error::DeviceLost { device: self.info.name.clone(), cause: cause.clone() }),
        }
    }

    /// An error of the driver's own.
    pub(crate) fn failed(&self, cause: impl ToString) -> Error {
        match self.alive() {
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
            // That the device is lost is no error of a scope.
            None => self.alive().map(|()| value),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                self.alive()?;
                Err(self.out_of_memory(bytes))
            }
            Some(error) => Err(self.refused(error)),
        }
    }

    /// An error of the driver's layer, unless it is that the device is lost: what such a one gives is invalid, and why it
    /// says only when its queue is empty.
    pub(crate) fn refused(&self, cause: impl ToString) -> Error {
        let told = self.wait_for_all().and_then(|()| {
            // Another thread may have been told and not have said so yet.
            std::thread::sleep(Duration::from_millis(1));
            self.alive()
        });
        told.err().unwrap_or_else(|| self.failed(cause.to_string().trim_end()))
    }

    /// Submits commands.
    pub(crate) fn submit(&self, commands: CommandBuffer) -> Result<Submission> {
        // Numbers are in the queue's order.
        let mut submitted = self.queued.submitted.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.guarded(0, || self.queue.submit([commands]))?;
        *submitted += 1;
        self.counters.submits.fetch_add(1, Ordering::Relaxed);
        Ok(Submission { index, number: *submitted })
    }

    /// Waits for a submission and all before it.
    pub(crate) fn wait(&self, submission: &Submission) -> Result<()> {
        match self.look(PollType::Wait { submission_index: Some(submission.index.clone()), timeout: None }) {
            Err(Error::Device { cause, .. }) => Err(self.refused(cause)),
            other => other,
        }?;
        self.queued.finished.fetch_max(submission.number, Ordering::Release);
        Ok(())
    }

    /// Waits for all that was submitted.
    pub(crate) fn wait_for_all(&self) -> Result<()> {
        self.look(PollType::wait_indefinitely())
    }

    /// Lets the driver say what is done, without waiting.
    pub(crate) fn poll(&self) -> Result<()> {
        self.look(PollType::Poll)
    }

    /// Whether somebody has waited for a submission of this number.
    pub(crate) fn is_finished(&self, number: u64) -> bool {
        number <= self.queued.finished.load(Ordering::Acquire)
    }

    fn look(&self, how: PollType) -> Result<()> {
        let looked = self.caught(|| self.device.poll(how))?;
        self.alive()?;
        looked.map(drop).map_err(|error| self.failed(error))
    }

    /// What `f` gives. The driver's layer panics where a wait finds the chip gone, and such a device is lost.
    pub(crate) fn caught<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        catch_unwind(AssertUnwindSafe(f)).map_err(|_| {
            let _ = self.lost.set("the driver failed while it was waited for".into());
            self.alive().err().unwrap_or_else(|| self.failed("lost"))
        })
    }
}
