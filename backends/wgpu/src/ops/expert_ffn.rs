use crate::limits::{halvings, nested, turns};
use crate::plan::{Building, Plan, Scratch};
use crate::product::Tiling;
use anychip_core::Reason;
use anychip_core::ops::{ExpertFfn, Intermediates};
use anychip_shaders::{Access, Storage};

/// Rows up to which pairs are taken as they come: then most experts have one row, and sorting costs more than it saves.
const FEW_ROWS: usize = 8;
/// Rows of a chunk are a multiple of this, so that chunks begin at whole words.
const CHUNK: usize = 64;

/// `out = sum over the row's experts, ascending, of W2 (w * swiglu(W1 x, W3 x))`, the shared expert last.
///
/// For few rows two kernels (a third as served): h of every pair, and the sum of W2 h over a row's pairs. For many, pairs are
/// sorted by expert first, and W2 h is kept for each before the sum.
pub(crate) fn plan(op: &ExpertFfn, plan: &mut Plan) -> Result<(), Reason> {
    if op.out.count() == 0 {
        return Ok(());
    }
    let sizes = Sizes::of(op);
    if sizes.rows <= FEW_ROWS {
        let h = plan.scratch(sizes.h_words(sizes.rows));
        h_of(op, plan, &sizes, 0, sizes.rows, None, h);
        few(op, plan, &sizes, h);
        return Ok(());
    }
    // What lies between the kernels stays within a binding.
    let most = plan.limits.binding_bytes.min(1 << 29) as usize / 4;
    let widest = sizes.h_words(1).max(sizes.y_words(1));
    let chunk = (most / widest.max(1) / CHUNK * CHUNK).clamp(CHUNK, sizes.rows.next_multiple_of(CHUNK));
    let (h, y) = (plan.scratch(sizes.h_words(chunk)), plan.scratch(sizes.y_words(chunk)));
    let sorted = Sorted::new(plan, chunk * sizes.chosen);
    for first in (0..sizes.rows).step_by(chunk) {
        let rows = chunk.min(sizes.rows - first);
        let pairs = rows * sizes.chosen;
        plan.kernel("expert_sort")
            .read("experts", &op.experts)
            .scratch("order", Storage::I32, Access::Write, sorted.order)
            .scratch("owner", Storage::I32, Access::Write, sorted.owner)
            .scratch("place", Storage::I32, Access::Write, sorted.place)
            .sizes(&[pairs, sizes.experts, first * sizes.chosen])
            .turns(sort_turns(pairs, sizes.experts))
            .run(sorters(pairs), 1);
        h_of(op, plan, &sizes, first, rows, Some(&sorted), h);
        many(op, plan, &sizes, first, rows, &sorted, [h, y]);
    }
    Ok(())
}

/// Invocations that sort: one workgroup has all of them.
fn sorters(pairs: usize) -> u32 {
    if pairs > 1024 { 256 } else { 64 }
}

/// Experts that the sort counts at a time; as in the kernel.
const COUNTED: usize = 2048;

fn sort_turns(pairs: usize, experts: usize) -> usize {
    let size = sorters(pairs) as usize;
    let of_chunk = 2 * turns(pairs, size) + 3 * turns(COUNTED, size) + turns(size, 1);
    nested(experts.div_ceil(COUNTED), of_chunk) + turns(pairs, size)
}

struct Sizes {
    rows: usize,
    depth: usize,
    chosen: usize,
    experts: usize,
    inner: usize,
    shared_inner: usize,
    has_shared: bool,
    served: Option<usize>,
}

impl Sizes {
    fn of(op: &ExpertFfn) -> Sizes {
        Sizes {
            rows: op.x.rows(),
            depth: op.x.cols(),
            chosen: op.experts.size(1),
            experts: op.routed.gate.groups(),
            inner: op.routed.gate.rows(),
            shared_inner: op.shared.as_ref().map_or(0, |shared| shared.gate.rows()),
            has_shared: op.shared.is_some(),
            served: match op.intermediates {
                Intermediates::Exact => None,
                Intermediates::Served { block } => Some(block),
            },
        }
    }

    /// Elements of h of so many rows.
    fn h_words(&self, rows: usize) -> usize {
        rows * (self.chosen * self.inner + self.shared_inner)
    }

    /// Elements of y.
    fn y_words(&self, rows: usize) -> usize {
        rows * (self.chosen + self.has_shared as usize) * self.depth
    }

    /// Rows of an expert, on average: as many as a tile should have.
    fn rows_each(&self, rows: usize, sorted: bool) -> usize {
        if sorted { (rows * self.chosen).div_ceil(self.experts.max(1)) } else { 1 }
    }
}

/// Pairs by expert.
struct Sorted {
    order: Scratch,
    owner: Scratch,
    place: Scratch,
}

impl Sorted {
    fn new(plan: &mut Plan, pairs: usize) -> Sorted {
        Sorted { order: plan.scratch(pairs), owner: plan.scratch(pairs), place: plan.scratch(pairs) }
    }
}

impl Building<'_> {
    /// Whose the pairs are: sorted, or as they come.
    fn pairs(self, op: &ExpertFfn, sorted: Option<&Sorted>) -> Self {
        match sorted {
            None => self.read("owner", &op.experts).flag("SORTED", false).none("order"),
            Some(sorted) => self
                .scratch("owner", Storage::I32, Access::Read, sorted.owner)
                .flag("SORTED", true)
                .scratch("order", Storage::I32, Access::Read, sorted.order),
        }
    }
}

/// Queues h of the pairs of `rows` rows from `first` on, rounded as served.
fn h_of(
    op: &ExpertFfn,
    plan: &mut Plan,
    sizes: &Sizes,
    first: usize,
    rows: usize,
    sorted: Option<&Sorted>,
    h: Scratch,
) {
    let mut weights = vec![&op.routed.gate, &op.routed.up];
    weights.extend(op.shared.iter().flat_map(|shared| [&shared.gate, &shared.up]));
    let (each, pairs) = (sizes.rows_each(rows, sorted.is_some()), rows * sizes.chosen);
    let most = |tiling: &Tiling| tiling.by_expert(pairs, sizes.experts, 2 * tiling.turns(sizes.depth));
    let tiling = Tiling::of_codes(&plan.limits, each, sizes.depth, &op.x, &weights).within(&plan.limits, each, most);
    let [tiles, shared_tiles] = [tiling.tiles(pairs, sizes.inner), tiling.tiles(rows, sizes.shared_inner)];
    let mut kernel = plan
        .kernel("expert_ffn_in")
        .tiled(&tiling, 2)
        .flag("SERVED", sizes.served.is_some())
        .flag("HAS_SHARED", sizes.has_shared)
        .pairs(op, sorted)
        .matrix("x", "x_scale", &op.x)
        .read("weights", &op.weights)
        .matrix("gate", "gate_scale", &op.routed.gate)
        .matrix("up", "up_scale", &op.routed.up);
    // The text names them in any case.
    let shared = op.shared.as_ref();
    kernel = kernel.matrix_or_none("shared_gate", "shared_gate_scale", shared.map(|shared| &shared.gate));
    kernel = kernel.matrix_or_none("shared_up", "shared_up_scale", shared.map(|shared| &shared.up));
    kernel
        .scratch("h", Storage::F32, Access::Write, h)
        .sizes(&[first, rows, sizes.rows, sizes.depth, sizes.chosen, sizes.experts, sizes.inner, sizes.shared_inner])
        .sizes(&[tiles[0], tiles[1], shared_tiles[0], shared_tiles[1]])
        .floats(&[op.limit])
        .turns(most(&tiling))
        .run_tiles(&tiling, tiles[0] * tiles[1] + shared_tiles[0] * shared_tiles[1]);
    let Some(block) = sizes.served else { return };
    // A block beyond the row is the row.
    let block = block.min(sizes.inner.max(sizes.shared_inner)).max(1);
    let (blocks, shared_blocks) = (sizes.inner.div_ceil(block), sizes.shared_inner.div_ceil(block));
    plan.kernel("expert_ffn_round")
        .scratch("h", Storage::F32, Access::ReadWrite, h)
        .sizes(&[pairs, sizes.inner, rows, sizes.shared_inner, block, blocks, shared_blocks])
        .turns(2 * turns(block, 32) + halvings(32))
        .run(32, pairs * blocks + rows * shared_blocks);
}

/// Queues the sums of W2 h of few rows.
fn few(op: &ExpertFfn, plan: &mut Plan, sizes: &Sizes, h: Scratch) {
    let next = turns(sizes.chosen, 1);
    let most = |tiling: &Tiling| {
        let routed = next + nested(sizes.chosen, next + tiling.turns(sizes.inner));
        routed + tiling.turns(sizes.shared_inner) + tiling.stored()
    };
    let tiling = Tiling::of(&plan.limits, 1).within(&plan.limits, 1, most);
    let [_, col_tiles] = tiling.tiles(1, sizes.depth);
    plan.kernel("expert_ffn_out")
        .tiled(&tiling, 1)
        .flag("SERVED", sizes.served.is_some())
        .flag("HAS_SHARED", sizes.has_shared)
        .read("experts", &op.experts)
        .scratch("h", Storage::F32, Access::Read, h)
        .matrix("down", "down_scale", &op.routed.down)
        .matrix_or_none("shared_down", "shared_down_scale", op.shared.as_ref().map(|shared| &shared.down))
        .write("out", &op.out)
        .sizes(&[sizes.rows, sizes.chosen, sizes.experts, sizes.inner, sizes.shared_inner, sizes.depth, col_tiles])
        .turns(most(&tiling))
        .run_tiles(&tiling, sizes.rows * col_tiles);
}

/// Queues W2 h of the sorted pairs of `rows` rows from `first` on, and their sums.
fn many(
    op: &ExpertFfn,
    plan: &mut Plan,
    sizes: &Sizes,
    first: usize,
    rows: usize,
    sorted: &Sorted,
    [h, y]: [Scratch; 2],
) {
    let (each, inner) = (sizes.rows_each(rows, true), sizes.inner.max(sizes.shared_inner));
    let most = |tiling: &Tiling| tiling.by_expert(rows * sizes.chosen, sizes.experts, tiling.turns(inner));
    let tiling = Tiling::of(&plan.limits, each).within(&plan.limits, each, most);
    let [row_tiles, col_tiles] = tiling.tiles(rows * sizes.chosen, sizes.depth);
    let shared_tiles = if sizes.has_shared { rows.div_ceil(tiling.rows) } else { 0 };
    plan.kernel("expert_ffn_down")
        .tiled(&tiling, 1)
        .flag("HAS_SHARED", sizes.has_shared)
        .pairs(op, Some(sorted))
        .scratch("h", Storage::F32, Access::Read, h)
        .matrix("down", "down_scale", &op.routed.down)
        .matrix_or_none("shared_down", "shared_down_scale", op.shared.as_ref().map(|shared| &shared.down))
        .scratch("y", Storage::F32, Access::Write, y)
        .sizes(&[first, rows, sizes.chosen, sizes.experts, sizes.inner, sizes.shared_inner, sizes.depth])
        .sizes(&[row_tiles, col_tiles, shared_tiles])
        .turns(most(&tiling))
        .run_tiles(&tiling, (row_tiles + shared_tiles) * col_tiles);
    let next = turns(sizes.chosen, 1);
    plan.kernel("expert_ffn_sum")
        .flag("SERVED", sizes.served.is_some())
        .flag("HAS_SHARED", sizes.has_shared)
        .read("experts", &op.experts)
        .scratch("place", Storage::I32, Access::Read, sorted.place)
        .scratch("y", Storage::F32, Access::Read, y)
        .write("out", &op.out)
        .sizes(&[first, rows, sizes.chosen, sizes.experts, sizes.depth])
        .turns(2 * (next + nested(sizes.chosen, next)))
        .run_each((rows * sizes.depth).div_ceil(2));
}
