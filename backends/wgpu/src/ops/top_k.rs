use crate::limits::{halvings, nested, turns};
use crate::plan::{Plan, Scratch};
use anychip_core::Reason;
use anychip_core::ops::TopK;
use anychip_shaders::{Access, Storage};

/// Scores of a row from which several workgroups share one, where there are few rows.
const LONG: usize = 1 << 15;
/// Rows that keep a GPU busy with a workgroup each.
const MANY: usize = 64;

/// What one dispatch selects from, and where its pairs go; as in the kernel.
#[derive(Clone, Copy)]
struct Select {
    part: bool,
    merge: bool,
    spill: bool,
    first_row: usize,
    rows: usize,
    width: usize,
    segments: usize,
    length: usize,
    taken: usize,
    given: usize,
}

/// The places of the `k` largest of each row, best first; ties to the lower place; -inf and NaN never.
pub(crate) fn plan(op: &TopK, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, width, k) = (op.scores.size(0), op.scores.size(1), op.out.size(1));
    if k == 1 {
        let size = group(plan, width);
        let kernel = plan.kernel("top_k_one").read("scores", &op.scores).write("out", &op.out);
        kernel.sizes(&[rows, width]).turns(turns(width, 8 * size as usize) + halvings(size)).run(size, rows);
        return Ok(());
    }
    // Pairs that workgroup memory holds beside the counters.
    let held = if plan.limits.workgroup_bytes >= 1 << 15 { 2048 } else { 256 };
    let all = Select {
        part: false,
        merge: false,
        spill: false,
        first_row: 0,
        rows,
        width,
        segments: 1,
        length: width,
        // Rows that are held whole are only sorted.
        taken: if width <= held { width } else { k.min(width) },
        given: 0,
    };
    if all.taken > held {
        return spilled(op, plan, all, held);
    }
    if (width < LONG || rows >= MANY) && plan.limits.allow(all.turns(plan, k)) {
        let none = plan.scratch(0);
        all.run(op, plan, none, held);
        return Ok(());
    }
    // A workgroup of the first dispatch then reads about as much as one of the second.
    let length = (width as f64 * k as f64).sqrt().ceil() as usize;
    let segments = width.div_ceil(length);
    let given = (segments - 1) * k + k.min(width - (segments - 1) * length);
    let pairs = plan.scratch(rows * given * 2);
    Select { part: true, segments, length, taken: k, given, ..all }.run(op, plan, pairs, held);
    let taken = if given <= held { given } else { k };
    Select { merge: true, width: given, length: given, taken, ..all }.run(op, plan, pairs, held);
    Ok(())
}

/// The same of more places than workgroup memory holds, as many rows at a time as the memory between kernels should hold.
fn spilled(op: &TopK, plan: &mut Plan, all: Select, held: usize) -> Result<(), Reason> {
    let sorted = all.taken.next_power_of_two();
    if sorted > 1 << 29 {
        let (rule, limit) = ("places of a row".into(), format!("at most {}", 1 << 29));
        return Err(Reason { rule, limit, got: all.taken.to_string() });
    }
    let at_once = (plan.limits.binding_bytes as usize / (sorted * 8)).clamp(1, all.rows.max(1));
    let pairs = plan.scratch(at_once * sorted * 2);
    for first_row in (0..all.rows).step_by(at_once) {
        let rows = at_once.min(all.rows - first_row);
        Select { spill: true, first_row, rows, ..all }.run(op, plan, pairs, held);
    }
    Ok(())
}

impl Select {
    fn turns(&self, plan: &Plan, k: usize) -> usize {
        let lanes = group(plan, self.length);
        let size = lanes as usize;
        // Of eight bytes each, unless all are taken.
        let counted = turns(256 * 8, size) + turns(self.length, size) + halvings(lanes);
        let found = nested(if self.taken == self.length { 0 } else { 8 }, counted);
        let sorted = self.taken.next_power_of_two();
        let stages = sorted.trailing_zeros() as usize;
        let exchanged = nested(stages * (stages + 1) / 2, turns(sorted / 2, size)) + 2 * stages;
        let last = if self.part { 0 } else { exchanged + turns(sorted, size) + turns(k, size) };
        found + turns(self.length, size) + last
    }

    fn run(self, op: &TopK, plan: &mut Plan, pairs: Scratch, held: usize) {
        let lists = self.rows * self.segments;
        let sorted = self.taken.next_power_of_two();
        let (size, most) = (group(plan, self.length), self.turns(plan, op.out.size(1)));
        plan.kernel("top_k")
            .flag("PART", self.part)
            .flag("MERGE", self.merge)
            .flag("SPILL", self.spill)
            .number("HELD", held as u32)
            .read("scores", &op.scores)
            .scratch("pairs", Storage::I32, Access::ReadWrite, pairs)
            .write("out", &op.out)
            .sizes(&[self.first_row, lists, self.width, self.segments, self.length])
            .sizes(&[self.taken, self.given, sorted, op.out.size(1)])
            .turns(most)
            .run(size, lists);
    }
}

/// Invocations of a workgroup that selects from `length` scores.
fn group(plan: &Plan, length: usize) -> u32 {
    match plan.limits.group() {
        group if plan.limits.is_cpu || length <= 1024 => group,
        _ => 1 << plan.limits.workgroup_size.clamp(1, 1024).ilog2(),
    }
}
