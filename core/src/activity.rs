//! What a device asked of its driver.

use std::ops::Sub;

/// What a device asked of its driver since it was opened; see [`Device::activity`](crate::Device::activity). The difference
/// of two is what lies between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Times that work was handed over: command buffers, or whatever the driver is given work in.
    pub submits: u64,
    /// Kernels that were queued, an operation's own and those that copies take.
    pub dispatches: u64,
    /// Bytes of device memory that the operations' kernels read and write, by what is bound to each: an operand of several
    /// kernels counts once for each of them, and so does memory between them. [`Cost`](crate::Cost) is the least.
    pub moved: u64,
    /// Bytes that [`Stream::read`](crate::Stream::read) gave back.
    pub read_back: u64,
}

impl Sub for Activity {
    type Output = Activity;

    /// Saturates where they are of two devices or the wrong way around.
    fn sub(self, earlier: Activity) -> Activity {
        Activity {
            submits: self.submits.saturating_sub(earlier.submits),
            dispatches: self.dispatches.saturating_sub(earlier.dispatches),
            moved: self.moved.saturating_sub(earlier.moved),
            read_back: self.read_back.saturating_sub(earlier.read_back),
        }
    }
}

impl Activity {
    /// Counts of a device.
    pub fn new(submits: u64, dispatches: u64, moved: u64, read_back: u64) -> Activity {
        Activity { submits, dispatches, moved, read_back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_what_lies_between() {
        let (before, after) = (Activity::new(2, 30, 400, 7), Activity::new(3, 50, 480, 11));
        assert_eq!(after - before, Activity::new(1, 20, 80, 4));
        assert_eq!(before - after, Activity::default());
    }
}
