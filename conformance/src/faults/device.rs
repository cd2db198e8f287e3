//! A correct device with one fault.

use super::Fault;
use super::bench::{Bench, Remembered};
use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
use anychip_core::{Device, Op, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// What makes a device do everything right but for one fault. It declares what the correct device declares.
pub struct Faulty {
    fault: Fault,
    remembered: Mutex<Remembered>,
}

/// `correct` with a fault.
pub fn faulty(correct: Arc<dyn Device>, fault: Fault) -> Wrapped<Faulty> {
    Wrapped::shared(correct, Faulty { fault, remembered: Mutex::default() })
}

impl Hooks for Faulty {
    // A recorded operation must go wrong as well.
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::ByOperation
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> Result<()> {
        if !self.fault.ops.contains(&op.name()) {
            return inner.stream.enqueue(op);
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bench = Bench { device: inner.device, stream: &mut *inner.stream, remembered: &mut remembered };
        (self.fault.run)(&mut bench, op)
    }
}
