//! A stretch of work that was recorded once and can be run again.

use crate::{DeviceId, Op};
use std::any::Any;

/// Operations kept for replay, with whatever a backend made of them.
pub struct Recording {
    ops: Vec<Op>,
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl Recording {
    /// A recording that is replayed by running the list.
    pub fn of_ops(ops: Vec<Op>) -> Recording {
        Recording { ops, kept: None }
    }

    /// A recording with a backend's own form of it. The list stays, for backends and tools that want it.
    pub fn kept_as(ops: Vec<Op>, kept: Box<dyn Any + Send + Sync>) -> Recording {
        Recording { ops, kept: Some(kept) }
    }

    /// The device that the operations' operands live on; `None` when there are none.
    pub fn device(&self) -> Option<DeviceId> {
        self.ops.iter().find_map(Op::device)
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The backend's own form, if `K` is its type. Two devices of one driver share the type: compare
    /// [`device`](Recording::device) as well.
    pub fn kept<K: 'static>(&self) -> Option<&K> {
        self.kept.as_ref()?.downcast_ref()
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("ops", &self.ops.len()).field("kept", &self.kept.is_some()).finish()
    }
}
