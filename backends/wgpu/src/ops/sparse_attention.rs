use super::attention_join::Parts;
use crate::limits::{ESTIMATED_TURNS, Limits, nested, turns};
use crate::plan::{Building, Place, Plan, Scratch};
use anychip_core::Reason;
use anychip_core::ops::{KeyScope, Rounding, SparseAttention};
use anychip_shaders::{Access, Storage};

/// Places that share a running maximum, and what a dispatch is cut by.
const BLOCK: usize = SparseAttention::BLOCK;
/// Columns of a chunk, at most: invocations hold their sums.
const MOST_COLS: usize = 512;
/// Bytes between dispatches, at most, but for a single row's.
const MOST_SCRATCH: u64 = 64 << 20;

/// `out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m))`: one dispatch where the rows keep the device
/// busy. Where they do not, places are split: scores, if weights are rounded, then sums of each part, then their join.
pub(crate) fn plan(op: &SparseAttention, plan: &mut Plan) -> Result<(), Reason> {
    if op.out.count() == 0 {
        return Ok(());
    }
    let (rows, heads, depth) = (op.q.size(0), op.q.size(1), op.q.size(2));
    let shape = Shape::of(op, &plan.limits);
    if shape.parts == 1 {
        shape.pass(op, plan, [0, rows], &Pass::Result);
        return Ok(());
    }
    let per_row = match op.rounding {
        Rounding::None => [0; 2],
        Rounding::Bf16 => [shape.places, shape.places.div_ceil(BLOCK)].map(|n| heads * n),
    };
    let words = shape.parts * heads * (depth + 2) + per_row[0];
    let most = plan.limits.binding_bytes.min(MOST_SCRATCH) as usize / 4;
    let chunk = (most / words).clamp(1, rows);
    let scores = (op.rounding == Rounding::Bf16).then(|| per_row.map(|n| plan.scratch(chunk * n)));
    let parts = Parts::new(plan, shape.parts, chunk * heads, depth);
    for start in (0..rows).step_by(chunk) {
        let rows = [start, chunk.min(rows - start)];
        if let Some(scores) = scores {
            shape.pass(op, plan, rows, &Pass::Scores(scores));
        }
        shape.pass(op, plan, rows, &Pass::Parts(scores, &parts));
        parts.join(plan, rows.map(|n| n * heads), heads, Some(&op.sink), &op.out);
    }
    Ok(())
}

/// What a dispatch makes.
enum Pass<'a> {
    /// The result.
    Result,
    /// Scores, and the largest of each block.
    Scores([Scratch; 2]),
    /// Sums of each part of the places, of scores that there are.
    Parts(Option<[Scratch; 2]>, &'a Parts),
}

/// How the work is cut.
struct Shape {
    /// How a workgroup's invocations share it, with the constants of that.
    variant: &'static str,
    constants: [(&'static str, u32); 3],
    /// Invocations of a workgroup.
    size: u32,
    places: usize,
    head_tiles: usize,
    /// Chunks of the columns.
    chunks: usize,
    /// Parts of the places, each of so many blocks.
    parts: usize,
    part_blocks: usize,
    /// Blocks of a workgroup that makes scores.
    score_blocks: usize,
    /// Turns of an invocation's loops over a block.
    turns: usize,
}

impl Shape {
    fn of(op: &SparseAttention, limits: &Limits) -> Shape {
        let (rows, heads, depth) = (op.q.size(0), op.q.size(1), op.q.size(2));
        let places = op.scopes.iter().map(|scope| scope.entries.size(1)).sum::<usize>();
        let (blocks, quads) = (places.div_ceil(BLOCK), depth.div_ceil(4));
        let cols = quads.min(MOST_COLS / 4);
        // What splits a block evenly, both ways.
        let by_lanes = limits.is_cpu && matches!(limits.subgroup, 4 | 8 | 16);
        let (tile, size, cols, turns) = if by_lanes {
            let lanes = limits.subgroup as usize;
            let (tile, own) = (if heads > lanes { 2 * lanes } else { lanes }, cols.div_ceil(lanes));
            // Loops within these are unrolled, or nearly.
            let turns = 3 * (BLOCK / 4 / lanes * quads + BLOCK / 4 * own) + 300;
            (tile, lanes, own * lanes, turns)
        } else {
            let size = if limits.is_cpu { 64 } else { 128 };
            // An entry's quad is decoded once for all heads of a tile; but few rows and places keep more tiles busy.
            let many = heads > 8 && (limits.is_cpu || rows * heads.div_ceil(16) * blocks >= 128);
            let cols = cols.next_power_of_two().max(size / 16);
            let turns = 3 * (quads / (size / 16) + BLOCK / 4 * cols / size) + quads / 4 + 300;
            (if many { 16 } else { 8 }, size, cols.min(size), turns)
        };
        let (head_tiles, chunks) = (heads.div_ceil(tile), quads.div_ceil(cols));
        let [enough, most] = if limits.is_cpu { [32, (ESTIMATED_TURNS / turns).max(1)] } else { [256, blocks.max(1)] };
        let parts = (enough / (rows * head_tiles * chunks)).clamp(1, blocks.max(1));
        let part_blocks = blocks.div_ceil(parts).clamp(1, most);
        let number = |n: usize| n as u32;
        Shape {
            variant: if by_lanes { "listed_lanes" } else { "listed_tiles" },
            constants: match by_lanes {
                true => [("LANES", number(size)), ("HEADS", number(tile)), ("QUADS", number(cols / size))],
                false => [("HEADS", number(tile)), ("COL_LANES", number(cols)), ("KEY_LANES", number(size / cols))],
            },
            size: number(size),
            places,
            head_tiles,
            chunks,
            parts: blocks.div_ceil(part_blocks).max(1),
            part_blocks,
            // Scores need nothing of one another.
            score_blocks: if limits.is_cpu { part_blocks } else { 1 },
            turns,
        }
    }

    /// One dispatch, over so many rows from the first.
    fn pass(&self, op: &SparseAttention, plan: &mut Plan, [start, rows]: [usize; 2], pass: &Pass<'_>) {
        let (heads, depth) = (op.q.size(1), op.q.size(2));
        let (makes, scores, parts) = match pass {
            Pass::Result => (false, None, None),
            Pass::Scores(scores) => (true, Some(*scores), None),
            Pass::Parts(scores, parts) => (false, *scores, Some(*parts)),
        };
        let has = scores.is_some() && !makes;
        let (part_blocks, chunks) = if makes { (self.score_blocks, 1) } else { (self.part_blocks, self.chunks) };
        let count = self.places.div_ceil(BLOCK).div_ceil(part_blocks).max(1);
        let scopes = [0, 1].map(|i| op.scopes.get(i));
        let first_places = scopes[0].map_or(0, |scope| scope.entries.size(1));
        let tables = scopes.map(|scope| {
            scope.map_or([0; 3], |scope| {
                [scope.kv.table.size(0), scope.kv.table.size(1), scope.kv.pool.page_count()]
            })
        });
        // Maxima of earlier blocks are read first.
        let most = nested(part_blocks, self.turns) + self.turns + if has { turns(self.places, BLOCK) } else { 0 };
        let step = plan.kernel("sparse_attention").variant(self.variant);
        let step = self.constants.iter().fold(step, |step, &(name, value)| step.number(name, value));
        let step = step
            .flag("BF16", op.rounding == Rounding::Bf16)
            .flag("TWO", scopes[1].is_some())
            .flag("MIXED", scopes[1].is_some() && !first_places.is_multiple_of(BLOCK))
            .flag("MAKES_SCORES", makes)
            .flag("HAS_SCORES", has)
            .flag("SPLIT", parts.is_some());
        let step = if has { step.matrix_or_none("q", "q_scale", None) } else { step.rows("q", &op.q, depth) };
        let result = matches!(pass, Pass::Result);
        step.scopes(scopes)
            .scores(scores)
            .parts(Access::Write, parts)
            .read_or("sink", result.then_some(&op.sink), 0.0)
            .write_or_none("out", result.then_some(&op.out))
            .sizes(&[start, rows, heads, depth, self.places, first_places])
            .sizes(&[self.head_tiles, count, part_blocks, chunks])
            .sizes(&tables.concat())
            .floats(&[op.scale])
            .turns(most)
            .run(self.size, rows * self.head_tiles * count * chunks);
    }
}

impl Building<'_> {
    /// Scores and the largest of each block, where they lie in memory.
    fn scores(self, scores: Option<[Scratch; 2]>) -> Self {
        // The text has both loads and stores, whichever of them are left out.
        let access = Access::ReadWrite;
        match scores {
            Some([z, top]) => self.scratch("z", Storage::F32, access, z).scratch("top", Storage::F32, access, top),
            None => ["z", "top"].into_iter().fold(self, |step, name| step.slot(name, Storage::F32, access, Place::Absent)),
        }
    }

    /// The pools and lists of both scopes.
    fn scopes(mut self, scopes: [Option<&KeyScope>; 2]) -> Self {
        let names =
            [("pool", "pool_table", "sequence", "entries"), ("second", "second_table", "second_sequence", "second_entries")];
        for (scope, (pool, table, sequence, entries)) in scopes.into_iter().zip(names) {
            self = match scope {
                Some(KeyScope { kv, entries: list }) => {
                    self.pool(pool, table, Access::Read, kv).read(sequence, &kv.sequence).read(entries, list)
                }
                None => self.no_pool(pool, table).none(sequence).none(entries),
            };
        }
        self
    }
}
