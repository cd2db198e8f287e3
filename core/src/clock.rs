//! Time that knows which clock it came from.

use crate::{Error, Result};
use std::fmt;

/// Which clock measured a time. Two kinds are never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// The host's monotonic clock, around the work.
    Host,
    /// Timestamps taken by the device itself.
    Device,
    /// Cycles that a model of a machine predicts; nothing was waited for.
    Simulated,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::Host => "host",
            Clock::Device => "device",
            Clock::Simulated => "simulated",
        })
    }
}

/// A moment on a clock, in nanoseconds since an origin that only this clock knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Clock.
    pub clock: Clock,
    /// Nanoseconds since the clock's origin.
    pub nanos: u64,
}

/// A span of time on a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// Clock.
    pub clock: Clock,
    /// Nanoseconds.
    pub nanos: u64,
}

impl Timestamp {
    /// Time from `earlier` to this moment, zero if it is not earlier.
    ///
    /// # Errors
    /// [`Error::ClockMismatch`] when the two moments come from different kinds of clock.
    pub fn since(self, earlier: Timestamp) -> Result<Elapsed> {
        if self.clock != earlier.clock {
            return Err(Error::ClockMismatch(self.clock, earlier.clock));
        }
        Ok(Elapsed { clock: self.clock, nanos: self.nanos.saturating_sub(earlier.nanos) })
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} us ({} clock)", self.nanos as f64 / 1e3, self.clock)
    }
}
