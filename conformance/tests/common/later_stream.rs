//! Its streams: a thread and a queue each.

use super::{Shared, Slip, TAKES};
use anychip_core::{Clock, DType, Error, Event, EventState, Op, Recording, Result, Stream, Tensor, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Run = dyn FnOnce(&mut dyn Stream) -> Result<()> + Send;

struct Work {
    run: Box<Run>,
    is_event: bool,
}

pub(super) struct LaterStream {
    shared: Arc<Shared>,
    queue: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<Error>>>,
    dropped: Arc<AtomicBool>,
    /// An operation that the next one overtakes.
    held: Option<Op>,
}

impl Drop for LaterStream {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        self.queue = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl LaterStream {
    pub(super) fn open(shared: &Arc<Shared>) -> Result<LaterStream> {
        let (queue, work) = mpsc::channel::<Work>();
        let mut inner = shared.inner.open_stream()?;
        let (failure, first) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (failed, dropped) = (failure.clone(), first.clone());
        let slip = shared.slip;
        let thread = std::thread::spawn(move || {
            for work in work {
                if slip == Slip::DropsQueuedWork && dropped.load(Ordering::Relaxed) && !work.is_event {
                    continue;
                }
                if let Err(error) = (work.run)(&mut *inner) {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        });
        let (queue, thread) = (Some(queue), Some(thread));
        Ok(LaterStream { shared: shared.clone(), queue, thread, failure, dropped: first, held: None })
    }

    fn queue(
        &mut self,
        is_event: bool,
        run: impl FnOnce(&mut dyn Stream) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let work = Work { run: Box::new(run), is_event };
        let ended = || Error::Device { device: "later".into(), cause: "the thread ended".into() };
        self.queue.as_ref().and_then(|queue| queue.send(work).ok()).ok_or_else(ended)
    }

    fn started(&mut self) -> Result<()> {
        self.shared.alive()?;
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.held.take() {
            Some(op) => self.run(op),
            None => Ok(()),
        }
    }

    fn run(&mut self, op: Op) -> Result<()> {
        let shared = self.shared.clone();
        let inner = op.rebind(&mut |_, _, tensor| shared.inside(tensor))?;
        // What is queued holds the caller's buffers until it is done.
        let held = (shared.slip != Slip::FreesEarly).then_some(op);
        self.queue(false, move |stream| {
            let mut inner = inner;
            if shared.slip == Slip::MixesStreams {
                let last = shared.last_op.lock().unwrap_or_else(PoisonError::into_inner).clone();
                inner = last.unwrap_or(inner);
            }
            std::thread::sleep(TAKES);
            let done = stream.enqueue(&inner);
            drop(held);
            done
        })
    }

    fn in_order(&mut self, run: impl FnOnce(&mut dyn Stream) -> Result<()> + Send + 'static) -> Result<()> {
        self.flush()?;
        self.queue(false, run)
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()?;
        let (tell, told) = mpsc::channel();
        self.queue(true, move |_| {
            let _ = tell.send(());
            Ok(())
        })?;
        let _ = told.recv();
        self.started()
    }
}

impl Stream for LaterStream {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.started()?;
        let Shared { info, slip, .. } = &*self.shared;
        let slip = *slip;
        if slip == Slip::RunsForeignMemory && to.buffer().device() != info.id {
            return Ok(());
        }
        if slip == Slip::BreaksAfterRefusal && to.bytes() != bytes.len() as u64 {
            let broken = Error::Device { device: info.name.clone(), cause: "in disorder".into() };
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(broken);
        }
        if slip == Slip::TakesShortWrites && (bytes.len() as u64) < to.bytes() {
            return Ok(());
        }
        let refusal = info.check_tensor(to, bytes.len());
        let cut = (bytes.len() as u64).min(to.bytes()) as usize;
        if slip != Slip::WritesBeforeRefusing || to.buffer().device() != info.id {
            refusal.clone()?;
        }
        let mut inner = self.shared.inside(to)?;
        let mut bytes = bytes[..cut].to_vec();
        if cut as u64 != to.bytes() {
            inner = Tensor::new(inner.buffer(), inner.offset(), DType::U8, &[cut])?;
        }
        if slip == Slip::SpillsWrites {
            let room = inner.buffer().bytes() - inner.offset() - cut as u64;
            let spill = cut.next_multiple_of(4).min(cut + room as usize);
            inner = Tensor::new(inner.buffer(), inner.offset(), DType::U8, &[spill])?;
            bytes.resize(spill, 0);
        }
        if slip == Slip::WritesOvertake {
            return self.shared.inner.open_stream()?.write(&inner, &bytes);
        }
        let held = (slip != Slip::FreesEarly).then(|| to.clone());
        self.in_order(move |stream| {
            let done = stream.write(&inner, &bytes);
            drop(held);
            done
        })?;
        refusal
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.started()?;
        let foreign = from.buffer().device() != self.shared.info.id;
        if self.shared.slip == Slip::RunsForeignMemory && foreign {
            return Ok(());
        }
        self.shared.info.check_tensor(from, bytes.len())?;
        self.finish()?;
        let inner = self.shared.inside(from)?;
        self.shared.inner.open_stream()?.read(&inner, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        self.started()?;
        self.shared.info.check_op(op)?;
        self.shared.inner.supports(op).require("later", op.name())?;
        if self.shared.slip == Slip::LosesItself && op.name() == "hadamard" {
            self.shared.lost.store(true, Ordering::Relaxed);
            return self.started();
        }
        if self.shared.slip == Slip::MixesStreams {
            let inner = op.rebind(&mut |_, _, tensor| self.shared.inside(tensor))?;
            *self.shared.last_op.lock().unwrap_or_else(PoisonError::into_inner) = Some(inner);
        }
        if self.shared.slip == Slip::OperationsSwap && self.held.is_none() {
            self.held = Some(op.clone());
            return Ok(());
        }
        self.run(op.clone())?;
        self.flush()
    }

    fn synchronize(&mut self) -> Result<()> {
        self.started()?;
        self.finish()
    }

    fn mark(&mut self) -> Result<Event> {
        self.started()?;
        self.flush()?;
        let state = Arc::new(Done { at: Mutex::default(), changed: Condvar::new(), slip: self.shared.slip });
        let (done, origin) = (state.clone(), self.shared.origin);
        let clock = if self.shared.slip == Slip::TimesOfAnotherClock { Clock::Simulated } else { Clock::Host };
        self.queue(true, move |_| {
            let nanos = origin.elapsed().as_nanos() as u64;
            *done.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Timestamp { clock, nanos });
            done.changed.notify_all();
            Ok(())
        })?;
        Ok(Event::new(self.shared.info.id, state))
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.started()?;
        if self.shared.slip != Slip::TakesForeignEvents {
            self.shared.info.check_event(event)?;
        }
        self.flush()?;
        if self.shared.slip == Slip::RefusesOwnEvents {
            let state = event.state::<Done>().is_some_and(|done| done.at.lock().is_ok_and(|at| at.is_some()));
            let cause = "an event that is done already".into();
            return if state { Err(Error::Device { device: "later".into(), cause }) } else { Ok(()) };
        }
        if self.shared.slip == Slip::IgnoresEvents {
            return Ok(());
        }
        let event = event.clone();
        self.queue(true, move |_| {
            if let Some(state) = event.state::<Done>() {
                let mut at = state.at.lock().unwrap_or_else(PoisonError::into_inner);
                // Should the thread that is waited for have ended, the case fails instead of waiting for ever.
                let begun = Instant::now();
                while at.is_none() && begun.elapsed() < Duration::from_secs(20) {
                    let waited = state.changed.wait_timeout(at, Duration::from_secs(1));
                    at = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            Ok(())
        })
    }

    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        self.started()?;
        self.shared.info.check_tensor(from, to.bytes() as usize)?;
        self.shared.info.check_tensor(to, from.bytes() as usize)?;
        let (a, b) = (self.shared.inside(from)?, self.shared.inside(to)?);
        if self.shared.slip == Slip::CopiesOvertake {
            return self.shared.inner.open_stream()?.copy(&a, &b);
        }
        let held = [from.clone(), to.clone()];
        self.in_order(move |stream| {
            let done = stream.copy(&a, &b);
            drop(held);
            done
        })
    }

    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        let slip = self.shared.slip;
        if slip != Slip::UpdatesLate && slip != Slip::ForgetsUpdates {
            updates.iter().try_for_each(|(tensor, bytes)| self.write(tensor, bytes))?;
        }
        recording.ops().iter().try_for_each(|op| self.enqueue(op))?;
        match slip {
            Slip::UpdatesLate => updates.iter().try_for_each(|(tensor, bytes)| self.write(tensor, bytes)),
            _ => Ok(()),
        }
    }
}

struct Done {
    at: Mutex<Option<Timestamp>>,
    changed: Condvar,
    slip: Slip,
}

impl EventState for Done {
    fn done_at(&self) -> Result<Option<Timestamp>> {
        match self.slip {
            Slip::EventsNeverDone => Ok(None),
            _ => Ok(*self.at.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
