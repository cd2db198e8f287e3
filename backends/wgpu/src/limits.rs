//! What an adapter lets kernels have, and what is refused because of it.

use crate::plan::Step;
use anychip_core::Reason;
use anychip_shaders::Window;

/// What the adapter lets kernels have: all that a plan depends on beside the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that one binding may have.
    pub binding_bytes: u64,
    /// Bindings of a kernel.
    pub bindings: u32,
    /// Bytes that one of the driver's buffers may have; an allocation beyond has several.
    pub buffer_bytes: u64,
    /// Bytes whose multiples bindings begin at.
    pub alignment: u64,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of a workgroup.
    pub workgroup_size: u32,
    /// Invocations of a subgroup, where it is the same in every kernel and subgroups can exchange values; else 0.
    pub subgroup: u32,
    /// Rows and columns of its cooperative matrices of binary16 summed in binary32, 8 or 16; 0 where it has none.
    pub cooperative: u32,
    /// Whether the adapter is a CPU, which runs few invocations at a time.
    pub is_cpu: bool,
}

impl Limits {
    /// Bytes of a window of an operand that takes several bindings: the largest power of two that a binding may have, and no
    /// more than a part.
    pub(crate) fn window(&self) -> Window {
        Window(self.part_bytes().min(1 << self.binding_bytes.max(LEAST_BINDING).ilog2()))
    }

    /// Whether an allocation of `bytes` bytes needs several buffers.
    pub(crate) fn divide(&self, bytes: u64) -> bool {
        padded(bytes).is_none_or(|padded| padded > self.buffer_bytes)
    }

    /// Bytes of each buffer of an allocation that has several, but of the last: a multiple of a window.
    pub(crate) fn part_bytes(&self) -> u64 {
        1 << self.buffer_bytes.max(LEAST_BINDING).ilog2()
    }

    /// Whether the loops of an invocation may make so many turns together.
    pub(crate) fn allow(&self, turns: usize) -> bool {
        !self.is_cpu || turns <= MOST_TURNS
    }

    /// Invocations of a workgroup that shares a row.
    pub(crate) fn group(&self) -> u32 {
        if self.is_cpu { 64 } else { 256.min(self.workgroup_size) }
    }
}

/// Workgroups of one dimension of a dispatch, as everywhere.
pub(crate) const MOST_GROUPS: u32 = 65535;
/// Turns that the loops of an invocation make together: Mesa's software drivers end whatever loop is under way when they are
/// used up, and every later one after its first turn. Nothing says so: it has to be refused.
const MOST_TURNS: usize = 65535;
/// Turns that plans keep to where what they state is an estimate: a third of what is refused.
pub(crate) const ESTIMATED_TURNS: usize = 20_000;
/// Bytes that a binding has at least.
pub(crate) const LEAST_BINDING: u64 = 16;

/// Bytes that the driver is asked for: whole words, and never less than a binding may have.
pub(crate) fn padded(bytes: u64) -> Option<u64> {
    bytes.max(1).checked_next_multiple_of(LEAST_BINDING)
}

/// Turns of a loop that takes `count` things `each` at a time: the one that finds the end counts too.
pub(crate) fn turns(count: usize, each: usize) -> usize {
    count.div_ceil(each.max(1)) + 1
}

/// Turns of a loop of `count` turns that makes `inner` of its own in each.
pub(crate) fn nested(count: usize, inner: usize) -> usize {
    // Software masks what does not run: in the turn that finds the end each loop inside makes one.
    const LOOPS: usize = 8;
    count.saturating_mul(inner.saturating_add(1)).saturating_add(1 + LOOPS)
}

/// Turns in which `size` invocations put their values together pairwise.
pub(crate) fn halvings(size: u32) -> usize {
    size.max(1).ilog2() as usize + 1
}

impl Step {
    /// What the adapter does not let this step have.
    pub(crate) fn refusal(&self, limits: &Limits) -> Option<Reason> {
        let bindings = self.spec.bindings().len();
        if bindings > limits.bindings as usize {
            let (largest, most) = (limits.binding_bytes, limits.bindings);
            return Some(Reason {
                rule: "bindings of a kernel".into(),
                limit: format!("at most {most} of at most {largest} bytes each"),
                got: bindings.to_string(),
            });
        }
        if !limits.allow(self.turns) {
            return Some(Reason {
                rule: format!("loop turns of an invocation of `{}`", self.spec.kernel),
                limit: format!("at most {MOST_TURNS} on a CPU adapter"),
                got: self.turns.to_string(),
            });
        }
        let most = MOST_GROUPS;
        let groups = self.groups.iter().copied().max().unwrap_or(0);
        (groups > most).then(|| Reason {
            rule: "workgroups of a dimension".into(),
            limit: format!("at most {most}"),
            got: groups.to_string(),
        })
    }
}
