//! What a model asks of its device, counted as the contract does.

use anychip_core::{Cost, Op};
use std::ops::{Add, Sub};

/// Operations, and the least that they cost together: what a device did is measured against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Operations of the contract; a device takes at least one kernel for each.
    pub operations: u64,
    /// The sum of their [`Op::cost`].
    pub cost: Cost,
}

impl Work {
    pub(crate) fn of(ops: &[Op]) -> Work {
        Work { operations: ops.len() as u64, cost: ops.iter().map(Op::cost).sum() }
    }
}

impl Add for Work {
    type Output = Work;
    fn add(self, other: Work) -> Work {
        Work { operations: self.operations.saturating_add(other.operations), cost: self.cost + other.cost }
    }
}

impl Sub for Work {
    type Output = Work;

    /// What lies between two counts; saturates where they are the wrong way around.
    fn sub(self, earlier: Work) -> Work {
        let operations = self.operations.saturating_sub(earlier.operations);
        Work { operations, cost: self.cost - earlier.cost }
    }
}
