use super::attention_join::Parts;
use crate::limits::{ESTIMATED_TURNS, Limits, nested};
use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::DenseAttention;
use anychip_shaders::Access;

/// Queries that a workgroup of the kernel for few has, at most.
const FEW: usize = 8;
/// Bytes of what parts of the keys leave, at most: prefills of many thousand rows, which only CPUs split.
const MOST_SCRATCH: usize = 1 << 30;

/// `out[b,t,h] = sum_j softmax_j(scale * q[b,t,h] . k[b,j,g]) v[b,j,g]`, in one step, or in two where there are too few
/// queries to keep the device busy and the keys are split.
pub(crate) fn plan(op: &DenseAttention, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, heads, dim, width) = (op.q.size(1), op.q.size(2), op.q.size(3), op.v.size(3));
    if op.out.count() == 0 {
        return Ok(());
    }
    let all_rows = op.out.count() / width;
    let shape = Shape::of(op, &plan.limits);
    let parts = (shape.splits > 1).then(|| Parts::new(plan, shape.splits, all_rows, width));
    let step = match shape.kernel {
        Kernel::Few { queries } => plan.kernel("dense_attention_few").number("QUERIES", queries),
        Kernel::Many { side, wide } => plan.kernel("dense_attention").number("SIDE", side).flag("WIDE", wide),
    };
    step.flag("SPLIT", parts.is_some())
        .rows("q", &op.q, dim)
        .rows("k", &op.k, dim)
        .rows("v", &op.v, width)
        .parts(Access::Write, parts.as_ref())
        .read_or("sink", op.sink.as_ref(), f32::NEG_INFINITY)
        .write_or_none("out", parts.is_none().then_some(&op.out))
        .sizes(&[rows, op.k.size(1), heads, op.k.size(2), dim, width, op.causal as usize, all_rows])
        .sizes(&[shape.tiles, shape.chunks, shape.splits, shape.split_keys, shape.quads])
        .floats(&[op.scale])
        .turns(shape.turns)
        .run(shape.size, shape.workgroups);
    if let Some(parts) = parts {
        parts.join(plan, [0, all_rows], heads, op.sink.as_ref(), &op.out);
    }
    Ok(())
}

/// Which kernel, with its constants.
enum Kernel {
    Few { queries: u32 },
    Many { side: u32, wide: bool },
}

/// How the work is cut.
struct Shape {
    kernel: Kernel,
    /// Invocations of a workgroup.
    size: u32,
    workgroups: usize,
    /// Tiles of the queries of a key-value head.
    tiles: usize,
    /// Quads of columns of a chunk.
    quads: usize,
    /// Chunks of the columns.
    chunks: usize,
    /// Parts of the keys.
    splits: usize,
    /// Keys of a part.
    split_keys: usize,
    /// Turns of an invocation's loops.
    turns: usize,
}

impl Shape {
    fn of(op: &DenseAttention, limits: &Limits) -> Shape {
        let (keys, groups, dim) = (op.k.size(1), op.q.size(0) * op.k.size(2), op.q.size(3));
        let queries = op.q.size(1) * (op.q.size(2) / op.k.size(2));
        let group = limits.group() as usize;
        let side = if group < 256 { 8 } else { 16 };
        let all_quads = op.v.size(3).div_ceil(4);
        // A tile of the kernel for many costs the same however many of its 4 x side queries there are.
        let (kernel, size, tile, tile_keys, quads, turns) = if queries <= side {
            let (tile, quads) = (queries.next_power_of_two().min(FEW), all_quads.min(group).next_power_of_two());
            let turns = (dim / 16 + quads + 20) * (1 + tile);
            (Kernel::Few { queries: tile as u32 }, group, tile, group, quads, turns)
        } else {
            let wide = all_quads > side;
            let kernel = Kernel::Many { side: side as u32, wide };
            let turns = dim.div_ceil(16) * 26 + side / 4 * 160 + 20;
            (kernel, side * side, 4 * side, 4 * side, if wide { 2 * side } else { side }, turns)
        };
        let (tiles, chunks, key_tiles) = (queries.div_ceil(tile), all_quads.div_ceil(quads), keys.div_ceil(tile_keys));
        let uncut = groups * tiles * chunks;
        // Workgroups that keep the device busy.
        let enough = if limits.is_cpu { 32 } else { 512 };
        let longest = if limits.is_cpu { (ESTIMATED_TURNS / turns).max(1) } else { key_tiles.max(1) };
        let most = (MOST_SCRATCH / 4 / op.out.count()).clamp(1, key_tiles.max(1));
        let splits = (enough / uncut).max(key_tiles.div_ceil(longest)).clamp(1, most);
        let split_keys = key_tiles.div_ceil(splits).max(1) * tile_keys;
        let splits = keys.div_ceil(split_keys).max(1);
        let (size, workgroups, turns) = (size as u32, uncut * splits, nested(split_keys / tile_keys, turns) + turns);
        Shape { kernel, size, workgroups, tiles, quads, chunks, splits, split_keys, turns }
    }
}
