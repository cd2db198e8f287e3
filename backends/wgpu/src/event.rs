//! Events: a timestamp that the device writes when it reaches their place, or the host's clock where it has none.

use crate::shared::{Shared, Submission};
use anychip_core::{Clock, Error, EventState, Result, Timestamp};
use std::sync::{Arc, OnceLock};
use wgpu::{BufferUsages, CommandEncoder, MapMode, QuerySetDescriptor, QueryType};

/// Bytes of a timestamp.
const STAMP: u64 = 8;

pub(crate) struct GpuEvent {
    shared: Arc<Shared>,
    /// Number of the submission that it ends.
    submission: u64,
    /// When it was done, or why nobody will know.
    done: Arc<OnceLock<Result<Timestamp>>>,
}

/// An event whose place is recorded and which has not been submitted.
pub(crate) struct Marked(Option<wgpu::Buffer>);

/// Where a device with a clock of its own writes the time, made before anything is recorded.
pub(crate) struct Stamp {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    stamp: wgpu::Buffer,
}

impl Stamp {
    /// `None` where the device has no clock.
    pub(crate) fn new(shared: &Shared) -> Result<Option<Stamp>> {
        if shared.tick.is_none() {
            return Ok(None);
        }
        let descriptor = QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count: 1 };
        Ok(Some(Stamp {
            set: shared.guarded(STAMP, || shared.device.create_query_set(&descriptor))?,
            resolved: shared.buffer_for(STAMP, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC, false)?,
            stamp: shared.buffer_for(STAMP, BufferUsages::MAP_READ | BufferUsages::COPY_DST, false)?,
        }))
    }
}

impl Marked {
    /// Records the place.
    pub(crate) fn here(stamp: Option<Stamp>, encoder: &mut CommandEncoder) -> Marked {
        Marked(stamp.map(|Stamp { set, resolved, stamp }| {
            encoder.write_timestamp(&set, 0);
            encoder.resolve_query_set(&set, 0..1, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &stamp, 0, STAMP);
            stamp
        }))
    }

    /// Has the event noticed, once it was submitted.
    pub(crate) fn submitted(self, shared: &Arc<Shared>, submission: &Submission) -> Arc<GpuEvent> {
        let done = Arc::new(OnceLock::new());
        let event = GpuEvent { shared: shared.clone(), submission: submission.number, done: done.clone() };
        match (self.0, shared.tick) {
            (Some(stamp), Some(tick)) => {
                // Not the device itself, which holds what it has to call.
                let (mapped, device) = (stamp.clone(), shared.info.name.clone());
                stamp.slice(..STAMP).map_async(MapMode::Read, move |result| {
                    let bytes = result.ok().and_then(|()| mapped.slice(..STAMP).get_mapped_range().ok());
                    let ticks = bytes.and_then(|bytes| bytes[..].try_into().ok().map(u64::from_le_bytes));
                    let _ = done.set(match ticks {
                        Some(ticks) => Ok(Timestamp { clock: Clock::Device, nanos: nanos(ticks, tick) }),
                        None => Err(Error::Device { device, cause: "an event's time could not be read".into() }),
                    });
                });
            }
            _ => {
                let origin = shared.origin;
                shared.queue.on_submitted_work_done(move || {
                    let nanos = origin.elapsed().as_nanos() as u64;
                    let _ = done.set(Ok(Timestamp { clock: Clock::Host, nanos }));
                });
            }
        }
        Arc::new(event)
    }
}

/// Ticks of so many nanoseconds. Counters of 2^53 ticks and more, which f64 has not, run at one nanosecond.
fn nanos(ticks: u64, tick: f64) -> u64 {
    if tick == 1.0 { ticks } else { (ticks as f64 * tick) as u64 }
}

impl GpuEvent {
    /// Why it can no longer happen, where that is known.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.done.get()?.clone().err()
    }
}

impl EventState for GpuEvent {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        if self.done.get().is_none() {
            self.shared.poll()?;
        }
        // Whoever sees first that work is done tells the events of all threads: where somebody has waited for the work,
        // that is under way.
        while self.done.get().is_none() && self.shared.is_finished(self.submission) {
            std::thread::yield_now();
            self.shared.poll()?;
        }
        match self.done.get() {
            Some(Err(why)) => self.shared.alive().and_then(|()| Err(why.clone())),
            other => other.cloned().transpose(),
        }
    }
}
