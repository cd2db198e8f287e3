//! Copies that the driver's own cannot do, because they do not consist of whole words.

use crate::limits::Limits;
use crate::plan::{Place, Plan, Scratch};
use anychip_core::{Buffer, Tensor};
use anychip_shaders::{Access, Storage};

/// Bytes that the driver may copy in the place of `len` bytes from `start`, if these are whole words or end with a buffer of
/// `bytes` bytes, behind which there is padding.
pub(crate) fn whole_words(start: u64, len: u64, bytes: u64) -> Option<u64> {
    let ends = len.is_multiple_of(4) || start + len == bytes;
    (start.is_multiple_of(4) && ends).then(|| len.next_multiple_of(4))
}

/// Bytes from the start of the plan's only scratch memory to byte `start` of `to`.
pub(crate) fn plan(limits: Limits, to: &Buffer, start: u64, len: u64) -> Plan {
    let mut plan = Plan::new(limits);
    let between = plan.scratch(len.div_ceil(4) as usize);
    let target = Range { buffer: to, start, len };
    step(&mut plan, Source::Between(between), target);
    plan
}

/// The bytes of one tensor to another.
pub(crate) fn between(limits: Limits, from: &Tensor, to: &Tensor) -> Plan {
    let mut plan = Plan::new(limits);
    // Indices of bytes are words, and no piece lies in two buffers.
    for (at, len) in pieces([from.offset(), to.offset()], from.bytes(), limits.window().0.min(1 << 30)) {
        let [source, target] =
            [from, to].map(|tensor| Range { buffer: tensor.buffer(), start: tensor.offset() + at, len });
        step(&mut plan, Source::Given(source), target);
    }
    plan
}

/// Cuts `len` bytes that begin at each of `starts` wherever one of them comes to a multiple of `size`: where each piece
/// begins, and its length.
pub(crate) fn pieces<const N: usize>(starts: [u64; N], len: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let room = starts.iter().map(|from| size - (from + start) % size).fold(len - start, u64::min);
        at += room;
        (room > 0).then_some((start, room))
    })
}

struct Range<'a> {
    buffer: &'a Buffer,
    start: u64,
    len: u64,
}

impl Range<'_> {
    /// What is bound, and where in it the range begins.
    fn bound(&self, alignment: u64) -> (Place, usize) {
        let offset = self.start / alignment * alignment;
        let bytes = (self.start + self.len - offset).next_multiple_of(4);
        (Place::Given { buffer: self.buffer.clone(), offset, bytes }, (self.start - offset) as usize)
    }
}

enum Source<'a> {
    Between(Scratch),
    Given(Range<'a>),
}

fn step(plan: &mut Plan, from: Source<'_>, to: Range<'_>) {
    let (alignment, group) = (plan.limits.alignment, plan.limits.group());
    let (target, to_start) = to.bound(alignment);
    let kernel = plan.kernel("copy_bytes");
    let (kernel, from_start) = match from {
        Source::Between(scratch) => (kernel.scratch("src", Storage::Bytes, Access::Read, scratch), 0),
        Source::Given(range) => {
            let (place, start) = range.bound(alignment);
            (kernel.slot("src", Storage::Bytes, Access::Read, place), start)
        }
    };
    let words = (to_start + to.len as usize).div_ceil(4) - to_start / 4;
    kernel
        .slot("dst", Storage::Bytes, Access::Write, target)
        .sizes(&[from_start, to_start, to.len as usize])
        .turns(0)
        .run(group, words.div_ceil(group as usize));
}
