//! Ctrl-C: the first one stops the work at its next step, a second one ends the process at once.

use crate::error::Failure;
use crate::output;
use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
use anychip_core::{Device, Error, Op, Recording, Result, Tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static RAISED: AtomicBool = AtomicBool::new(false);

/// Begins listening for SIGINT, SIGTERM and SIGHUP.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        if RAISED.swap(true, Ordering::Relaxed) {
            std::process::exit(crate::COULD_NOT_RUN.into());
        }
        output::note("stopping; press Ctrl-C again to end at once");
    })
    .map_err(Failure::Signals)
}

/// What the libraries look at.
pub(crate) fn flag() -> &'static AtomicBool {
    &RAISED
}

/// Whether Ctrl-C was pressed.
pub(crate) fn raised() -> bool {
    RAISED.load(Ordering::Relaxed)
}

/// [`Failure::Interrupted`] once Ctrl-C was pressed.
pub(crate) fn check() -> Result<(), Failure> {
    if raised() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Does work that cannot be stopped from within, and leaves it once Ctrl-C was pressed: the process ends with it.
///
/// # Errors
/// [`Failure::Interrupted`].
pub(crate) fn leaving<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let worker = std::thread::spawn(work);
    while !worker.is_finished() {
        check()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    worker.join().map_err(|panic| std::panic::resume_unwind(panic))
}

/// Refuses further operations once the flag is set, so that a long prefill or verification stops soon: the model's calls
/// run to their end otherwise.
pub(crate) struct Interruptible(&'static AtomicBool);

impl Interruptible {
    pub(crate) fn over(device: Box<dyn Device>, flag: &'static AtomicBool) -> Arc<dyn Device> {
        Arc::new(Wrapped::new(device, Interruptible(flag)))
    }

    fn look(&self, inner: &Inner<'_>) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Device { device: inner.device.info().name, cause: "interrupted".into() });
        }
        Ok(())
    }
}

impl Hooks for Interruptible {
    // A device that computes within the call would be in there for a whole step: look before each operation.
    fn recordings(&self, inner: &dyn Device) -> Recordings {
        if inner.info().asynchronous { Recordings::Whole } else { Recordings::ByOperation }
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        self.look(inner)?;
        inner.stream.enqueue(op)
    }

    fn replay(&self, inner: &mut Inner<'_>, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        self.look(inner)?;
        self.recordings(inner.device).replay(self, inner, recording, updates)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use anychip_core::DType;
    use anychip_core::ops::{Operation, RmsNorm, Rounding};

    #[test]
    fn nothing_runs_once_the_flag_is_set() {
        static FLAG: AtomicBool = AtomicBool::new(false);
        let device = Interruptible::over(anychip_cpu::open_with_limit(1 << 20), &FLAG);
        let [x, out] = [(); 2].map(|()| device.tensor(DType::F32, &[1, 4]).unwrap());
        let op = RmsNorm { x: x.clone(), weight: None, eps: 1e-6, rounding: Rounding::None, out: out.clone() };
        let op = op.build().unwrap();
        let mut stream = device.open_stream().unwrap();
        stream.write(&x, &1f32.to_le_bytes().repeat(4)).unwrap();
        let recording = stream.record(vec![op.clone()]).unwrap();
        stream.replay(&recording, &[]).unwrap();
        FLAG.store(true, Ordering::Relaxed);
        for result in [stream.enqueue(&op), stream.replay(&recording, &[])] {
            assert!(matches!(result, Err(Error::Device { cause, .. }) if cause == "interrupted"));
        }
        let mut bytes = [0; 16];
        stream.read(&out, &mut bytes).unwrap();
        assert!((f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) - 1.0).abs() < 1e-5);
    }
}
