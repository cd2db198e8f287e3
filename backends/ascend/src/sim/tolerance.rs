//! Tolerances of kernels' tests (W7).
//!
//! A tolerance that is far above the error that is there would let that error grow unseen. A test that allows one says so to
//! [`Hazards::expect`], with what it measured.

use super::hazard::{At, Code, Hazard, Hazards};
use crate::isa::Unit;
use std::panic::Location;

/// How many times the measured error a tolerance may be: four bits.
pub const SLACK: f64 = 16.0;

/// What a test allows, and what it found, in the same unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expect {
    /// The largest error that is let pass.
    pub tolerance: f64,
    /// The largest error that there was.
    pub measured: f64,
}

impl Expect {
    /// What is wrong with the tolerance: it is below the error, or more than [`SLACK`] times above it. Where there is no error,
    /// none is to be allowed.
    pub fn problem(self) -> Option<String> {
        let Expect { tolerance, measured } = self;
        // Neither holds of a NaN.
        if measured <= tolerance && tolerance <= SLACK * measured {
            return None;
        }
        Some(format!("a tolerance is 1 to {SLACK} times the error; got {tolerance:e} for an error of {measured:e}"))
    }
}

impl Hazards {
    /// Adds a warning where a tolerance says nothing of the error.
    #[track_caller]
    pub fn expect(&mut self, expect: Expect) {
        if let Some(detail) = expect.problem() {
            let at = At::new("EXPECT", 0, Unit::Aic, 0, Location::caller());
            self.add(Hazard { code: Code::Tolerance, at, with: None, bytes: None, detail });
        }
    }
}
