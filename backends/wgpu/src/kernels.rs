//! What an operation becomes, for tools that look at kernels without a driver.

use crate::ops;
use crate::plan::Limits;
use anychip_core::{Op, Reason};
use anychip_shaders::Spec;

/// One dispatch of an operation's plan.
#[derive(Clone, Debug)]
pub struct KernelUse {
    /// The kernel, as this dispatch has it compiled.
    pub spec: Spec,
    /// Words of its immediates.
    pub immediates: usize,
    /// Workgroups of each dimension.
    pub groups: [u32; 3],
}

/// The dispatches that an operation becomes on an adapter with these limits, in order; over any buffers, also such as hold
/// nothing.
///
/// # Errors
/// Why there are none: what [`Device::supports`](anychip_core::Device::supports) says of it.
pub fn kernels_of(op: &Op, limits: &Limits) -> Result<Vec<KernelUse>, Reason> {
    let plan = ops::plan(op, limits)?;
    let used = plan.steps.into_iter();
    Ok(used.map(|step| KernelUse { spec: step.spec, immediates: step.params.len(), groups: step.groups }).collect())
}
