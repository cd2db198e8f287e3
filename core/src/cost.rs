//! What an operation costs at least, in arithmetic and in memory traffic.

use std::iter::Sum;
use std::ops::{Add, Sub};

/// The least work that computes an operation: for throughput in benchmarks and for rooflines.
///
/// FLOPs count a multiply and an add as two. Bytes count each operand once, at its size in memory; a kernel that reads
/// an operand twice is slower than its cost says, which is the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

impl Cost {
    /// Bytes read and written.
    pub fn bytes(self) -> u64 {
        self.read.saturating_add(self.written)
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            flops: self.flops.saturating_add(other.flops),
            read: self.read.saturating_add(other.read),
            written: self.written.saturating_add(other.written),
        }
    }
}

impl Sub for Cost {
    type Output = Cost;

    /// Saturates where `earlier` is the larger.
    fn sub(self, earlier: Cost) -> Cost {
        Cost {
            flops: self.flops.saturating_sub(earlier.flops),
            read: self.read.saturating_sub(earlier.read),
            written: self.written.saturating_sub(earlier.written),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}
