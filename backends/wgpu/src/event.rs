//! Events: a timestamp that the device writes when it reaches their place, or the host's clock where it has none.

use crate::shared::Shared;
use anychip_core::{Clock, Error, EventState, Result, Timestamp};
use std::sync::{Arc, OnceLock};
use wgpu::{BufferUsages, CommandEncoder, MapMode, QuerySetDescriptor, QueryType};

/// Bytes of a timestamp.
const STAMP: u64 = 8;

pub(crate) struct GpuEvent {
    shared: Arc<Shared>,
    done: Arc<OnceLock<Result<Timestamp>>>,
}

/// An event whose place is recorded and which has not been submitted.
pub(crate) struct Marked {
    stamp: Option<wgpu::Buffer>,
    done: Arc<OnceLock<Result<Timestamp>>>,
}

/// Records an event's place.
pub(crate) fn mark(shared: &Arc<Shared>, encoder: &mut CommandEncoder) -> Result<(Arc<GpuEvent>, Marked)> {
    let done = Arc::new(OnceLock::new());
    let stamp = match shared.tick {
        None => None,
        Some(_) => {
            let count = 1;
            let descriptor = QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count };
            let set = shared.guarded(STAMP, || shared.device.create_query_set(&descriptor))?;
            let resolved = shared.buffer_for(STAMP, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC, false)?;
            let stamp = shared.buffer_for(STAMP, BufferUsages::MAP_READ | BufferUsages::COPY_DST, false)?;
            encoder.write_timestamp(&set, 0);
            encoder.resolve_query_set(&set, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &stamp, 0, STAMP);
            Some(stamp)
        }
    };
    let event = Arc::new(GpuEvent { shared: shared.clone(), done: done.clone() });
    Ok((event, Marked { stamp, done }))
}

impl Marked {
    /// The work before the event was not taken: the event can no longer happen.
    pub(crate) fn failed(self, error: &Error) {
        let _ = self.done.set(Err(error.clone()));
    }

    /// Has the event noticed, once it was submitted.
    pub(crate) fn submitted(self, shared: &Arc<Shared>) {
        let Marked { stamp, done } = self;
        match (stamp, shared.tick) {
            (Some(stamp), Some(tick)) => {
                let mapped = stamp.clone();
                stamp.slice(..STAMP).map_async(MapMode::Read, move |result| {
                    let bytes = result.ok().and_then(|()| mapped.slice(..STAMP).get_mapped_range().ok());
                    let ticks = bytes.and_then(|bytes| bytes[..].try_into().ok().map(u64::from_le_bytes));
                    if let Some(ticks) = ticks {
                        let nanos = (ticks as f64 * tick) as u64;
                        let _ = done.set(Ok(Timestamp { clock: Clock::Device, nanos }));
                    }
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
    }
}

impl EventState for GpuEvent {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        if self.done.get().is_none() {
            self.shared.poll()?;
        }
        self.done.get().cloned().transpose()
    }
}
