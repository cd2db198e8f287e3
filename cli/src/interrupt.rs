//! Ctrl-C: the first one stops the work at its next step, a second one ends the process at once.

use crate::error::Failure;
use crate::output;
use anychip_core::{
    Buffer, Device, DeviceInfo, Error, Event, Numerics, Op, Recording, Result, Stream, Support, Tensor,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// A device that refuses further operations once `flag` is set, so that a long prefill or verification stops soon: the
/// model's calls run to their end otherwise.
///
/// It forwards every method, provided ones too: an override of the device must not be lost here.
pub(crate) struct Interruptible {
    device: Box<dyn Device>,
    flag: &'static AtomicBool,
}

impl Interruptible {
    pub(crate) fn over(device: Box<dyn Device>, flag: &'static AtomicBool) -> Arc<dyn Device> {
        Arc::new(Interruptible { device, flag })
    }
}

impl Device for Interruptible {
    fn info(&self) -> DeviceInfo {
        self.device.info()
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.device.allocate(bytes)
    }

    fn open_stream(&self) -> Result<Box<dyn Stream>> {
        let info = self.info();
        let stream = self.device.open_stream()?;
        Ok(Box::new(Watched { stream, name: info.name, asynchronous: info.asynchronous, flag: self.flag }))
    }

    fn supports(&self, op: &Op) -> Support {
        self.device.supports(op)
    }

    fn numerics(&self, op: &Op) -> Numerics {
        self.device.numerics(op)
    }

    fn fallbacks(&self) -> Vec<(&'static str, u64)> {
        self.device.fallbacks()
    }
}

struct Watched {
    stream: Box<dyn Stream>,
    name: String,
    asynchronous: bool,
    flag: &'static AtomicBool,
}

impl Watched {
    fn look(&self) -> Result<()> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(Error::Device { device: self.name.clone(), cause: "interrupted".into() });
        }
        Ok(())
    }
}

impl Stream for Watched {
    fn write(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        self.stream.write(to, bytes)
    }

    fn read(&mut self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.stream.read(from, bytes)
    }

    fn enqueue(&mut self, op: &Op) -> Result<()> {
        self.look()?;
        self.stream.enqueue(op)
    }

    fn synchronize(&mut self) -> Result<()> {
        self.stream.synchronize()
    }

    fn mark(&mut self) -> Result<Event> {
        self.stream.mark()
    }

    fn wait(&mut self, event: &Event) -> Result<()> {
        self.stream.wait(event)
    }

    fn copy(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        self.stream.copy(from, to)
    }

    fn record(&mut self, ops: Vec<Op>) -> Result<Recording> {
        self.stream.record(ops)
    }

    fn replay(&mut self, recording: &Recording, updates: &[(&Tensor, &[u8])]) -> Result<()> {
        self.look()?;
        if self.asynchronous {
            return self.stream.replay(recording, updates);
        }
        // A device that computes within the call would be in there for a whole step: look before each operation.
        updates.iter().try_for_each(|(tensor, bytes)| self.stream.write(tensor, bytes))?;
        recording.ops().iter().try_for_each(|op| self.enqueue(op))
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
